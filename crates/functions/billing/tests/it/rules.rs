//! The rules for ends of sessions, top-ups, payments and credit notes, one by one.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::charging::session::SessionEnded;
use domain::charging::session::SessionStatus;
use domain::charging::tariff::Tariff;
use domain::id::{InvoiceId, SessionId, UserId};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::common::{World, actor, admin, ended, error_type};

fn invoice_id(session: &str) -> String {
    InvoiceId::of(&SessionId::new(session).unwrap()).to_string()
}

fn tariff(json: Value) -> Tariff {
    serde_json::from_value(json).unwrap()
}

/// A tariff with two rates of VAT, and with amounts that need rounding.
fn two_rates() -> Tariff {
    tariff(json!({ "currency": "EUR", "elements": [{ "price_components": [
        { "type": "FLAT", "price": "1.00", "vat": "7", "step_size": 1 },
        { "type": "ENERGY", "price": "0.333", "vat": "19", "step_size": 1 },
        { "type": "TIME", "price": "1.11", "vat": "19", "step_size": 1 }
    ] }] }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_billed_once_and_paid_from_the_wallet() {
    let world = World::new().await;
    world.top_up("u-1", "20.00", "k").await.unwrap();
    let end = ended("s-1", "u-1", 10_000);
    for _ in 0..3 {
        assert_eq!(world.deliver(&[end.clone(), end.clone()]).await, 0);
    }
    let invoice = world.invoice("s-1").await;
    assert_eq!(
        (&invoice["status"], &invoice["totalInclVat"], &invoice["due"]),
        (&json!("PAID"), &json!("5.00"), &json!("0.00"))
    );
    assert_eq!(
        invoice["lines"],
        json!([{ "dimension": "ENERGY", "quantity": "10", "unit": "kWh", "unitPrice": "0.50", "netAmount": "5.00", "vatRate": "0" }])
    );
    assert_eq!(world.balance("u-1").await, "15.00");
    let ledger = world.ledger("u-1").await;
    let entries: Vec<_> = ledger.iter().map(|e| (e["kind"].as_str().unwrap(), e["amount"].as_str().unwrap())).collect();
    assert_eq!(entries, [("INVOICE", "-5.00"), ("TOP_UP", "20.00")]);
    assert_eq!(ledger[0]["reference"], invoice["invoiceId"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_session_is_not_billed_and_an_interrupted_one_is_billed_to_the_watt_hour() {
    let world = World::new().await;
    let failed = SessionEnded { status: SessionStatus::Failed, ..ended("s-1", "u-1", 10_000) };
    let interrupted = SessionEnded { status: SessionStatus::Interrupted, ..ended("s-2", "u-1", 9_999) };
    let mut vat = interrupted.clone();
    vat.session_id = SessionId::new("s-3").unwrap();
    vat.tariff = two_rates();
    assert_eq!(world.deliver(&[failed, interrupted, vat]).await, 0);
    let get = json!({ "invoiceId": invoice_id("s-1") });
    assert_eq!(error_type(&world.act("getInvoice", admin(), get).await), "NotFoundError");
    let invoice = world.invoice("s-2").await;
    // 9.999 kWh at 0.50 are 4.9995, which is rounded half away from zero.
    assert_eq!((&invoice["lines"][0]["quantity"], &invoice["totalInclVat"]), (&json!("9.999"), &json!("5.00")));
    let invoice = world.invoice("s-3").await;
    // 1.00 + 3.33 (of 3.329667) + 0.56 (of 0.555); VAT 0.07 of 1.00 and 0.74 (of 0.7391) of 3.89.
    assert_eq!((&invoice["totalExclVat"], &invoice["totalInclVat"]), (&json!("4.89"), &json!("5.70")));
    assert_eq!(invoice["vat"], json!([{ "rate": "7", "amount": "0.07" }, { "rate": "19", "amount": "0.74" }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_top_up_pays_open_invoices_oldest_first() {
    let world = World::new().await;
    for (n, watt_hours) in [(1, 10_000), (2, 4_000), (3, 2_000)] {
        assert_eq!(world.deliver(&[ended(&format!("s-{n}"), "u-1", watt_hours)]).await, 0);
        assert_eq!(world.invoice(&format!("s-{n}")).await["status"], "OPEN");
    }
    let statuses = async || {
        join_all((1..4).map(|n| {
            let world = &world;
            async move { world.invoice(&format!("s-{n}")).await["status"].clone() }
        }))
        .await
    };
    // 4.00 would pay the second and the third invoice, but the first is 5.00.
    let wallet = world.top_up("u-1", "4.00", "k-1").await.unwrap();
    assert_eq!((&wallet["balance"], statuses().await), (&json!("4.00"), vec![json!("OPEN"); 3]));
    let wallet = world.top_up("u-1", "3.50", "k-2").await.unwrap();
    assert_eq!(
        (&wallet["balance"], statuses().await),
        (&json!("0.50"), vec![json!("PAID"), json!("PAID"), json!("OPEN")])
    );
    assert_eq!(wallet["entry"]["amount"], "3.50");
    let pay = json!({ "invoiceId": invoice_id("s-3") });
    let refused = world.act("payInvoice", actor("u-1"), pay.clone()).await;
    assert_eq!(error_type(&refused), "ConflictError");
    assert!(refused.unwrap_err().1.contains("balance is too low"));
    world.top_up("u-1", "1.00", "k-3").await.unwrap();
    assert_eq!(world.act("payInvoice", actor("u-1"), pay).await.unwrap()["status"], "PAID", "it is already paid");
    assert_eq!(world.balance("u-1").await, "0.50");
}

#[tokio::test]
async fn a_top_up_pays_hundreds_of_open_invoices_in_few_transactions() {
    let world = World::new().await;
    let ends: Vec<SessionEnded> = (0..200).map(|n| ended(&format!("s-{n}"), "u-1", 1_000)).collect();
    for batch in ends.chunks(10) {
        assert_eq!(world.deliver(batch).await, 0);
    }
    let changes = async || world.store.wallet(&UserId::new("u-1").unwrap()).await.unwrap().unwrap().version;
    let before = changes().await;
    // Enough for 150 invoices of 0.50, but not for another one.
    let wallet = world.top_up("u-1", "75.40", "k-1").await.unwrap();
    assert_eq!(wallet["balance"], "0.40");
    // The top-up itself, and 150 invoices in transactions of 33.
    assert_eq!(changes().await - before, 1 + 5);
    let statuses = async |status: &str| {
        let list = json!({ "userId": "u-1", "status": status, "limit": 100 });
        let mut count = 0;
        let mut token = Value::Null;
        loop {
            let mut list = list.clone();
            list["nextToken"] = token;
            let page = world.act("listInvoices", admin(), list).await.unwrap();
            count += page["items"].as_array().unwrap().len();
            token = page["nextToken"].clone();
            if token.is_null() {
                return count;
            }
        }
    };
    assert_eq!((statuses("PAID").await, statuses("OPEN").await), (150, 50));
    let entries = world.store.wallet(&UserId::new("u-1").unwrap()).await.unwrap().unwrap().entries;
    assert_eq!(entries, 1 + 150, "one debit for each invoice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_top_up_is_booked_once() {
    let world = World::new().await;
    let outcomes = join_all((0..50).map(|_| world.top_up("u-1", "10.00", "k"))).await;
    for outcome in &outcomes {
        let wallet = outcome.as_ref().unwrap();
        assert_eq!((&wallet["balance"], &wallet["entry"]["sequence"]), (&json!("10.00"), &json!(1)));
    }
    assert_eq!(world.ledger("u-1").await.len(), 1);
    assert_eq!(error_type(&world.top_up("u-1", "11.00", "k").await), "ConflictError");
    assert_eq!(world.top_up("u-1", "10", "k").await.unwrap()["balance"], "10.00", "10 is 10.00");
    world.top_up("u-2", "10.00", "k").await.unwrap();
    assert_eq!((world.balance("u-1").await, world.balance("u-2").await), ("10.00".to_owned(), "10.00".to_owned()));
    let foreign = json!({ "userId": "u-1", "amount": "5", "currency": "USD", "idempotencyKey": "k-usd" });
    let refused = world.act("topUpWallet", admin(), foreign).await;
    assert_eq!(error_type(&refused), "ConflictError");
    assert!(refused.unwrap_err().1.contains("EUR"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_staff_can_top_up_a_wallet() {
    let world = World::new().await;
    let top_up = |role: &str, user_id: Option<&str>, key: &str| {
        let mut arguments = json!({ "amount": "5.00", "currency": "EUR", "idempotencyKey": key });
        if let Some(user) = user_id {
            arguments["userId"] = json!(user);
        }
        world.act("topUpWallet", json!({ "userId": "u-1", "role": role }), arguments)
    };
    for named in [None, Some("u-1"), Some("u-2")] {
        let refused = top_up("USER", named, "k").await;
        assert_eq!(error_type(&refused), "ForbiddenError", "{named:?}");
        assert!(refused.unwrap_err().1.contains("TECH_SUPPORT"), "the refusal names the roles that may");
    }
    assert_eq!(world.dynamodb.items("ev-billing").await.len(), 0);
    for role in ["TECH_SUPPORT", "ADMIN", "SYSTEM"] {
        assert_eq!(top_up(role, Some("u-2"), role).await.unwrap()["userId"], "u-2");
    }
    assert_eq!((world.balance("u-1").await, world.balance("u-2").await), ("0.00".to_owned(), "15.00".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_has_the_currency_of_the_network_until_it_gets_money() {
    let world = World::new().await;
    let in_francs = |session: &str, user: &str| {
        let mut end = ended(session, user, 10_000);
        end.tariff.currency = "CHF".parse().unwrap();
        end
    };
    // A user who has never topped up charges abroad first. The unpaid invoice does not determine the currency.
    assert_eq!(world.deliver(&[in_francs("s-1", "u-1")]).await, 0);
    assert_eq!(world.invoice("s-1").await["status"], "OPEN");
    let wallet = world.act("getWallet", actor("u-1"), json!({})).await.unwrap();
    assert_eq!(wallet, json!({ "userId": "u-1", "balance": "0.00", "currency": "EUR", "version": 0 }));
    assert_eq!(world.top_up("u-1", "20.00", "k").await.unwrap()["currency"], "EUR");
    assert_eq!(world.deliver(&[ended("s-2", "u-1", 10_000)]).await, 0);
    assert_eq!(world.invoice("s-2").await["status"], "PAID");
    // The amount due in francs stays due in francs.
    let pay = world.act("payInvoice", actor("u-1"), json!({ "invoiceId": invoice_id("s-1") })).await;
    assert!(pay.as_ref().unwrap_err().1.contains("another currency"), "{pay:?}");
    // The first top-up determines the currency, and it pays the open invoice.
    assert_eq!(world.deliver(&[in_francs("s-3", "u-2")]).await, 0);
    let francs = json!({ "userId": "u-2", "amount": "12.00", "currency": "CHF", "idempotencyKey": "k" });
    let wallet = world.act("topUpWallet", admin(), francs).await.unwrap();
    assert_eq!((&wallet["balance"], &wallet["currency"]), (&json!("7.00"), &json!("CHF")));
    assert_eq!(error_type(&world.top_up("u-2", "5.00", "k-2").await), "ConflictError");
}

/// Wallets to which an unpaid invoice gave its own currency, as in earlier versions.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_never_had_money_returns_to_the_currency_of_the_network() {
    let world = World::new().await;
    assert_eq!(world.deliver(&[ended("s-1", "u-1", 10_000)]).await, 0);
    let update = world.dynamodb.client().update_item().table_name("ev-billing");
    let update = update.key("PK", AttributeValue::S("WALLET#u-1".to_owned()));
    let update = update.key("SK", AttributeValue::S("BALANCE".to_owned())).update_expression("SET currency = :chf");
    update.expression_attribute_values(":chf", AttributeValue::S("CHF".to_owned())).send().await.unwrap();
    let wallet = world.act("getWallet", actor("u-1"), json!({})).await.unwrap();
    assert_eq!(wallet["currency"], "EUR");
    assert_eq!(world.top_up("u-1", "20.00", "k").await.unwrap()["balance"], "15.00");
    assert_eq!(world.store.wallet(&UserId::new("u-1").unwrap()).await.unwrap().unwrap().currency.to_string(), "EUR");
}

#[tokio::test(flavor = "multi_thread")]
async fn currencies_are_never_converted() {
    let world = World::new().await;
    world.top_up("u-1", "100.00", "k").await.unwrap();
    let mut foreign = ended("s-1", "u-1", 10_000);
    foreign.tariff.currency = "CHF".parse().unwrap();
    assert_eq!(world.deliver(&[foreign]).await, 0);
    let invoice = world.invoice("s-1").await;
    assert_eq!((&invoice["status"], &invoice["currency"]), (&json!("OPEN"), &json!("CHF")));
    let refused = world.act("payInvoice", actor("u-1"), json!({ "invoiceId": invoice_id("s-1") })).await;
    assert!(refused.unwrap_err().1.contains("another currency"));
    // It does not block invoices that can be paid.
    assert_eq!(world.deliver(&[ended("s-2", "u-1", 300_000)]).await, 0);
    assert_eq!(world.invoice("s-2").await["status"], "OPEN");
    assert_eq!(world.top_up("u-1", "50.00", "k-2").await.unwrap()["balance"], "0.00");
    assert_eq!(world.invoice("s-2").await["status"], "PAID");
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_notes_add_up_to_their_invoice_to_the_cent() {
    let world = World::new().await;
    world.top_up("u-1", "20.00", "k").await.unwrap();
    let end = SessionEnded { tariff: two_rates(), ..ended("s-1", "u-1", 9_999) };
    assert_eq!(world.deliver(&[end]).await, 0);
    assert_eq!(world.balance("u-1").await, "14.30");
    let credit = |more: Value| {
        let mut arguments = json!({ "invoiceId": invoice_id("s-1"), "reason": "the port was slow" });
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.act("createCreditNote", admin(), arguments)
    };
    for role in ["USER", "TECH_SUPPORT"] {
        let arguments = json!({ "invoiceId": invoice_id("s-1"), "reason": "for me" });
        let refused = world.act("createCreditNote", json!({ "userId": "u-1", "role": role }), arguments).await;
        assert_eq!(error_type(&refused), "ForbiddenError");
    }
    let part = json!({ "lines": [{ "line": 2, "netAmount": "1.11" }], "idempotencyKey": "c-1" });
    let note = credit(part.clone()).await.unwrap();
    assert_eq!(
        (&note["totalExclVat"], &note["totalInclVat"], &note["refunded"]),
        (&json!("1.11"), &json!("1.32"), &json!("1.32"))
    );
    assert_eq!(credit(part).await.unwrap(), note, "the same key gives the same note");
    for other in
        [json!({}), json!({ "lines": [{ "line": 2 }] }), json!({ "lines": [{ "line": 2, "netAmount": "1.12" }] })]
    {
        let mut other = other;
        other["idempotencyKey"] = json!("c-1");
        assert_eq!(error_type(&credit(other).await), "ConflictError", "the same key with another request");
    }
    assert_eq!(world.balance("u-1").await, "15.62");
    for (lines, field) in [
        (json!([{ "line": 2, "netAmount": "2.23" }]), "lines[0].netAmount"),
        (json!([{ "line": 2, "netAmount": "0.001" }]), "lines[0].netAmount"),
        (json!([{ "line": 2, "netAmount": "-1" }]), "lines[0].netAmount"),
        (json!([{ "line": 4 }]), "lines[0].line"),
        (json!([{ "line": 1 }, { "line": 1 }]), "lines[1].line"),
    ] {
        let refused = credit(json!({ "lines": lines })).await;
        assert_eq!(error_type(&refused), "ValidationError");
        assert!(refused.as_ref().unwrap_err().1.contains(field), "{refused:?} for {lines}");
    }
    let rest = credit(json!({})).await.unwrap();
    assert_eq!(rest["totalInclVat"], "4.38", "1.32 + 4.38 = 5.70");
    assert_eq!(world.balance("u-1").await, "20.00");
    let invoice = world.invoice("s-1").await;
    assert_eq!(
        (&invoice["status"], &invoice["credited"], invoice["creditNotes"].as_array().unwrap().len()),
        (&json!("CREDITED"), &json!("5.70"), 2)
    );
    assert_eq!(invoice["totalInclVat"], "5.70", "a sealed invoice is never edited");
    assert_eq!(error_type(&credit(json!({})).await), "ConflictError");
}

#[tokio::test(flavor = "multi_thread")]
async fn crediting_an_unpaid_invoice_moves_no_money() {
    let world = World::new().await;
    assert_eq!(world.deliver(&[ended("s-1", "u-1", 10_000), ended("s-2", "u-1", 10_000)]).await, 0);
    let credit = |session: &str, lines: Value| {
        let mut arguments = json!({ "invoiceId": invoice_id(session), "reason": "goodwill" });
        if !lines.is_null() {
            arguments["lines"] = lines;
        }
        world.act("createCreditNote", admin(), arguments)
    };
    let note = credit("s-1", json!([{ "line": 1, "netAmount": "2.00" }])).await.unwrap();
    assert_eq!((&note["refunded"], &world.invoice("s-1").await["due"]), (&json!("0.00"), &json!("3.00")));
    credit("s-2", Value::Null).await.unwrap();
    assert_eq!(world.invoice("s-2").await["status"], "CREDITED");
    assert_eq!(world.top_up("u-1", "10.00", "k").await.unwrap()["balance"], "7.00", "the amount due for s-1");
    let pay = world.act("payInvoice", actor("u-1"), json!({ "invoiceId": invoice_id("s-2") })).await;
    assert_eq!(error_type(&pay), "ConflictError");
    let rest = credit("s-1", Value::Null).await.unwrap();
    assert_eq!((&rest["refunded"], world.balance("u-1").await), (&json!("3.00"), "10.00".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refund_of_a_credit_note_pays_open_invoices() {
    let world = World::new().await;
    world.top_up("u-1", "5.00", "k").await.unwrap();
    for (session, watt_hours) in [("s-1", 10_000), ("s-2", 6_000)] {
        assert_eq!(world.deliver(&[ended(session, "u-1", watt_hours)]).await, 0);
    }
    assert_eq!(world.invoice("s-2").await["status"], "OPEN");
    let credit = json!({ "invoiceId": invoice_id("s-1"), "reason": "the port was slow" });
    world.act("createCreditNote", admin(), credit).await.unwrap();
    assert_eq!(
        (&world.invoice("s-2").await["status"], world.balance("u-1").await),
        (&json!("PAID"), "2.00".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn users_see_their_own_invoices_and_staff_see_all() {
    let world = World::new().await;
    world.top_up("u-1", "100.00", "k").await.unwrap();
    for n in 0..5 {
        world.deliver(&[ended(&format!("s-{n}"), "u-1", 10_000), ended(&format!("t-{n}"), "u-2", 10_000)]).await;
    }
    let count = |outcome: Result<Value, _>| -> u64 {
        outcome
            .map_or_else(|error: (String, String)| panic!("{error:?}"), |page: Value| page["count"].as_u64().unwrap())
    };
    assert_eq!(count(world.act("listInvoices", actor("u-1"), json!({})).await), 5);
    assert_eq!(count(world.act("listInvoices", actor("u-1"), json!({ "status": "OPEN" })).await), 0);
    assert_eq!(count(world.act("listInvoices", admin(), json!({ "userId": "u-2" })).await), 5);
    assert_eq!(count(world.act("listInvoices", admin(), json!({ "status": "PAID" })).await), 5);
    for (action, arguments) in [
        ("listInvoices", json!({ "userId": "u-2" })),
        ("getInvoice", json!({ "invoiceId": invoice_id("t-0") })),
        ("payInvoice", json!({ "invoiceId": invoice_id("t-0") })),
        ("getWallet", json!({ "userId": "u-2" })),
        ("listLedger", json!({ "userId": "u-2" })),
        ("topUpWallet", json!({ "userId": "u-2", "amount": "1", "currency": "EUR", "idempotencyKey": "k" })),
    ] {
        assert_eq!(error_type(&world.act(action, actor("u-1"), arguments).await), "ForbiddenError", "{action}");
    }
    assert_eq!(error_type(&world.act("listInvoices", admin(), json!({})).await), "ValidationError");
    // Page by page, newest first, each invoice once with its lines.
    let (mut seen, mut token) = (Vec::new(), Value::Null);
    loop {
        let mut arguments = json!({ "limit": 2 });
        if !token.is_null() {
            arguments["nextToken"] = token;
        }
        let page = world.act("listInvoices", actor("u-1"), arguments).await.unwrap();
        for invoice in page["items"].as_array().unwrap() {
            assert_eq!(invoice["lines"][0]["netAmount"], "5.00");
            seen.push((invoice["issuedAt"].clone().to_string(), invoice["sessionId"].clone().to_string()));
        }
        token = page["nextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert!(seen.len() == 5 && seen.windows(2).all(|pair| pair[0].0 >= pair[1].0), "{seen:?}");
    assert_eq!(
        world.act("getWallet", actor("u-9"), json!({})).await.unwrap(),
        json!({ "userId": "u-9", "balance": "0.00", "currency": "EUR", "version": 0 })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_open_invoices_of_a_user_are_listed_alone() {
    let world = World::new().await;
    world.top_up("u-1", "20.00", "k-1").await.unwrap();
    for n in 0..7 {
        world.deliver(&[ended(&format!("s-{n}"), "u-1", 10_000)]).await;
    }
    world.deliver(&[ended("t-1", "u-2", 10_000)]).await;
    let list = async |by: Value, arguments: Value| world.act("listInvoices", by, arguments).await;
    let of_user = json!({ "userId": "u-1", "status": "OPEN" });
    for (by, arguments) in
        [(actor("u-1"), json!({ "status": "OPEN" })), (actor("u-1"), of_user.clone()), (admin(), of_user.clone())]
    {
        let page = list(by, arguments).await.unwrap();
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), 3, "{page}");
        for invoice in items {
            assert_eq!((&invoice["status"], &invoice["userId"]), (&json!("OPEN"), &json!("u-1")));
            assert_eq!(invoice["lines"][0]["netAmount"], "5.00");
        }
    }
    assert_eq!(error_type(&list(actor("u-2"), of_user.clone()).await), "ForbiddenError");
    // Page by page, newest first, each invoice once.
    let (mut seen, mut token) = (Vec::new(), Value::Null);
    loop {
        let page =
            list(admin(), json!({ "userId": "u-1", "status": "OPEN", "limit": 1, "nextToken": token })).await.unwrap();
        for invoice in page["items"].as_array().unwrap() {
            let issued: domain::Instant = invoice["issuedAt"].as_str().unwrap().parse().unwrap();
            seen.push((issued, invoice["invoiceId"].to_string()));
        }
        token = page["nextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert!(seen.len() == 3 && seen.windows(2).all(|pair| pair[0] > pair[1]), "{seen:?}");
    world.top_up("u-1", "15.00", "k-2").await.unwrap();
    assert_eq!(list(admin(), of_user).await.unwrap()["items"], json!([]));
    assert_eq!(list(admin(), json!({ "userId": "u-2", "status": "OPEN" })).await.unwrap()["count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_pays_in_for_a_user_who_is_blocked_or_deleted() {
    let world = World::new().await;
    world.top_up("u-1", "4.00", "k-1").await.unwrap();
    world.deliver(&[ended("s-1", "u-1", 10_000)]).await;
    world.dynamodb.block_user("u-1").await;
    let refused = world.top_up("u-1", "5.00", "k-2").await;
    assert_eq!(error_type(&refused), "ForbiddenError");
    assert_eq!(refused.unwrap_err().1, "user u-1 is BLOCKED: no money may be paid into the wallet");
    assert_eq!(world.ledger("u-1").await.len(), 1);
    // A repetition gets the answer of the top-up that was booked before the block.
    assert_eq!(world.top_up("u-1", "4.00", "k-1").await.unwrap()["balance"], "4.00");
    // Reading and paying go on.
    assert_eq!(world.act("listInvoices", actor("u-1"), json!({ "status": "OPEN" })).await.unwrap()["count"], 1);
    let pay = world.act("payInvoice", actor("u-1"), json!({ "invoiceId": invoice_id("s-1") })).await;
    assert_eq!(error_type(&pay), "ConflictError", "the wallet has 4.00");
    world.deliver(&[ended("s-2", "u-1", 4_000)]).await;
    assert_eq!(
        (&world.invoice("s-2").await["status"], world.balance("u-1").await),
        (&json!("PAID"), "2.00".to_owned())
    );
    for (status, allowed) in [("DELETING", false), ("DELETED", false), ("UNCONFIRMED", true), ("ACTIVE", true)] {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let put = world.dynamodb.client().put_item().table_name("ev-users");
        let put = put.item("PK", text(&format!("USER#{status}"))).item("SK", text("METADATA"));
        put.item("status", text(status)).send().await.unwrap();
        let outcome = world.top_up(status, "5.00", "k").await;
        assert_eq!(outcome.is_ok(), allowed, "{status}: {outcome:?}");
        assert!(allowed || error_type(&outcome) == "ForbiddenError", "{status}");
        assert_eq!(world.balance(status).await, if allowed { "5.00" } else { "0.00" });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_cannot_be_billed_is_refused_with_the_reason_and_writes_nothing() {
    let world = World::new().await;
    let good = ended("s-1", "u-1", 10_000);
    let with = |change: &dyn Fn(&mut SessionEnded)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad
    };
    let bad = [
        with(&|end| end.status = SessionStatus::InProgress),
        with(&|end| end.time_zone = "Mars/Olympus".to_owned()),
        with(&|end| end.energy_kwh += rust_decimal::Decimal::ONE),
        with(&|end| end.charging_periods[0].end = end.ended_at + chrono::Duration::hours(1)),
        with(&|end| end.tariff.elements.clear()),
        with(&|end| end.tariff.elements[0].price_components[0].price = rust_decimal::Decimal::NEGATIVE_ONE),
        with(&|end| end.charging_periods.clear()),
        // Values that would overflow the price engine, or keep it busy for hours.
        with(&|end| {
            end.energy_kwh = rust_decimal::Decimal::MAX;
            end.charging_periods[0].energy_kwh = rust_decimal::Decimal::MAX;
        }),
        with(&|end| end.tariff.elements[0].price_components[0].price = rust_decimal::Decimal::MAX),
        with(&|end| end.charging_periods[0].power_kw = rust_decimal::Decimal::MAX),
        with(&|end| end.started_at -= chrono::Duration::days(100_000)),
    ];
    assert_eq!(world.deliver(&bad).await, bad.len());
    assert_eq!(world.dynamodb.items("ev-billing").await.len(), 0);
    assert_eq!(world.deliver(&[good]).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_concurrent_deliveries_and_fifty_concurrent_top_ups_are_booked_once_each() {
    let world = World::new().await;
    let deliveries = join_all((0..50).map(|n| {
        let world = &world;
        async move {
            let mut failed = world.deliver(&[ended(&format!("s-{}", n % 10), "u-1", 10_000)]).await;
            while failed > 0 {
                failed = world.deliver(&[ended(&format!("s-{}", n % 10), "u-1", 10_000)]).await;
            }
        }
    }));
    let top_ups = join_all((0..10).map(|n| {
        let world = &world;
        async move { while world.top_up("u-1", "5.00", &format!("k-{n}")).await.is_err() {} }
    }));
    futures::join!(deliveries, top_ups);
    world.top_up("u-1", "5.00", "k-0").await.unwrap();
    assert_eq!(world.balance("u-1").await, "0.00", "ten invoices of 5.00, ten top-ups of 5.00");
    let paid = world.act("listInvoices", admin(), json!({ "status": "PAID" })).await.unwrap();
    assert_eq!(paid["count"], 10);
    assert_eq!(world.ledger("u-1").await.len(), 20);
}
