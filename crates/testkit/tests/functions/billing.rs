//! Billing: `billing` and `billing_audit`.

use ::billing::Billing;
use billing_audit::BillingAudit;
use lambda_kit::{Clock, Door};
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, invoke, no_redelivery, sqs_event};

use crate::bad_input::Kind::{Array, Decimal, Enum, Id, Integer, Text, Time};
use crate::bad_input::{Case, assert_refused, attack};
use crate::no_function;
use crate::openapi::{ADMIN, CLOCK, DRIVER, Recorder, set_time};

fn billing_cases() -> Vec<Case> {
    let invoice = json!({ "invoiceId": "none" });
    let page = &[("userId", false, Id), ("limit", false, Integer(1, 100)), ("nextToken", false, Text(2048))];
    vec![
        Case("getInvoice", &[("invoiceId", true, Id)], invoice.clone()),
        Case("payInvoice", &[("invoiceId", true, Id)], invoice),
        Case("listInvoices", &[("userId", false, Id), ("status", false, Enum)], json!({})),
        Case("listInvoices", page, json!({ "status": "OPEN" })),
        Case("listLedger", page, json!({})),
        Case("getWallet", &[("userId", false, Id)], json!({})),
        Case(
            "topUpWallet",
            &[
                ("userId", false, Id),
                ("amount", true, Decimal),
                ("currency", true, Enum),
                ("idempotencyKey", true, Text(255)),
            ],
            json!({ "amount": "5.00", "currency": "EUR", "idempotencyKey": "k" }),
        ),
        Case(
            "holdFunds",
            &[
                ("userId", true, Id),
                ("sessionId", true, Id),
                ("currency", true, Enum),
                ("maxCost", false, Decimal),
                ("attempt", false, Text(64)),
            ],
            json!({ "userId": "u-1", "sessionId": "s-1", "currency": "EUR", "maxCost": "5.00" }),
        ),
        Case(
            "releaseFunds",
            &[("userId", true, Id), ("sessionId", true, Id), ("attempt", false, Text(64))],
            json!({ "userId": "u-1", "sessionId": "s-1" }),
        ),
        Case(
            "createCreditNote",
            &[
                ("invoiceId", true, Id),
                ("reason", true, Text(500)),
                ("lines", false, Array),
                ("lines[0].line", true, Integer(1, 100)),
                ("idempotencyKey", false, Text(255)),
            ],
            json!({ "invoiceId": "none", "reason": "r", "lines": [{ "line": 1, "netAmount": "1.00" }] }),
        ),
    ]
}

#[tokio::test]
async fn billing_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let door = Door::new(
        Billing::new(dynamodb.billing(), dynamodb.users(), "EUR".parse().unwrap(), no_redelivery()),
        Clock::SYSTEM,
    );
    let tried = attack(&door, billing_cases(), &[], &dynamodb).await;
    assert!(tried > 100, "{tried}");
    for (amount, currency, field) in [("0", "EUR", "amount"), ("0.001", "EUR", "amount"), ("1.5", "JPY", "amount")] {
        let top_up = json!({
            "action": "topUpWallet", "actor": { "userId": "admin", "role": "ADMIN" }, "userId": "u-1",
            "amount": amount, "currency": currency, "idempotencyKey": "k"
        });
        assert_refused(&invoke(&door, top_up).await, field, &format!("{amount} {currency}"));
    }
    let answer = invoke(&door, sqs_event(&["{}".to_owned(), "not JSON".to_owned()])).await.unwrap();
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 2, "{answer}");
    assert_eq!(dynamodb.items("ev-billing").await.len(), 0);
}

#[tokio::test]
async fn billing_audit_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let audit = BillingAudit::new(dynamodb.charging().sessions, dynamodb.billing(), no_function(), no_function());
    let audit = Door::new(audit, Clock::SYSTEM);
    for (field, kind) in [("from", Time), ("to", Time), ("nextToken", Text(2048))] {
        for wrong in kind.wrong() {
            let outcome = invoke(&audit, json!({ field: wrong })).await;
            assert_refused(&outcome, field, &format!("audit with {field} = {wrong}"));
        }
    }
    assert_eq!(dynamodb.items("ev-billing").await.len(), 0);
}

/// The `SESSION_ENDED` events of billable sessions, as a rule of the bus puts them into billing's queue.
async fn ends(dynamodb: &EmbeddedDynamoDb) -> Vec<String> {
    let items = dynamodb.items("ev-sessions").await;
    let outboxes = items.iter().filter_map(|item| item.get("outbox").and_then(|outbox| outbox.as_s().ok()));
    let events = outboxes.flat_map(|outbox| serde_json::from_str::<Vec<Value>>(outbox).expect("events"));
    let ended = events.filter(|event| event["eventType"] == "SESSION_ENDED" && event["status"] != "FAILED");
    ended.map(|event| json!({ "detail-type": "SESSION_ENDED", "detail": event }).to_string()).collect()
}

/// Records the examples of the invoices of the recorded sessions.
pub async fn record(recorder: &mut Recorder, dynamodb: &EmbeddedDynamoDb) {
    let currency = "EUR".parse().expect("a currency");
    let billing = Billing::new(dynamodb.billing(), dynamodb.users(), currency, no_redelivery());
    let billing = Door::new(billing, CLOCK);
    invoke(&billing, sqs_event(&ends(dynamodb).await)).await.expect("a worked batch");
    set_time("10:15:00");
    let top_up = json!({ "userId": "driver-1", "amount": "50.00", "currency": "EUR", "idempotencyKey": "receipt-1" });
    recorder.ask(&billing, ("topUpWallet", "POST /wallet/top-ups", ADMIN), &[], &[], top_up).await;
    let open: &[(&str, &str)] = &[("status", "PAID")];
    let list = recorder.ask(&billing, ("listInvoices", "GET /invoices", DRIVER), &[], open, Value::Null).await;
    let id = list["items"][0]["invoiceId"].as_str().expect("an invoice").to_owned();
    let invoice: &[(&str, &str)] = &[("invoiceId", &id)];
    let route = ("payInvoice", "POST /invoices/{invoiceId}/payments", DRIVER);
    recorder.ask(&billing, route, invoice, &[], Value::Null).await;
    let route = ("createCreditNote", "POST /invoices/{invoiceId}/credit-notes", ADMIN);
    let credit = json!({
        "reason": "the display was broken", "lines": [{ "line": 1, "netAmount": "1.00" }], "idempotencyKey": "credit-1"
    });
    recorder.ask(&billing, route, invoice, &[], credit).await;
    let route = ("getInvoice", "GET /invoices/{invoiceId}", DRIVER);
    recorder.ask(&billing, route, invoice, &[], Value::Null).await;
    recorder.ask(&billing, ("getWallet", "GET /wallet", DRIVER), &[], &[], Value::Null).await;
    let page: &[(&str, &str)] = &[("limit", "3")];
    recorder.ask(&billing, ("listLedger", "GET /wallet/ledger", DRIVER), &[], page, Value::Null).await;
}
