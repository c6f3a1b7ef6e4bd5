//! Random histories of sessions, top-ups, payments and credit notes through the real handlers. Deliveries are
//! duplicated, in any order and two at a time, with crashes before and after any call, throttling and lost answers.
//! Once everything has been delivered successfully at least once, the books must be correct.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use billing::Billing;
use domain::billing::{EntryKind, InvoiceStatus};
use domain::charging::session::SessionStatus;
use domain::charging::session::{EventPeriod, SessionEnded};
use domain::charging::tariff::PeriodState;
use domain::event::{Envelope, Event};
use domain::id::{InvoiceId, UserId};
use lambda_kit::{Clock, Door};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use store::{BillingStore, Client, Db, UserStore};
use testkit::{EmbeddedDynamoDb, Fault, FaultyHttp, invoke, no_redelivery, run_in_shares, sdk_config, sqs_event};

use crate::common::{admin, ended, message};
use crate::oracle;

/// The number of threads on which cases run, each with its own `DynamoDB`.
const THREADS: u32 = 4;
const CASES: u32 = 10_000;
const USERS: u8 = 2;

/// Something that happens once in the world, however often it is delivered.
#[derive(Clone, Debug)]
enum Step {
    /// A session ended.
    End { user: u8, watt_hours: u32, tariff: u8, status: u8 },
    /// A user tops up, cents.
    TopUp { user: u8, cents: u32 },
    /// An administrator credits the session of this step: the whole invoice, or some cents of its first line.
    Credit { session: prop::sample::Index, cents: Option<u32> },
    /// A user pays an invoice explicitly.
    Pay { session: prop::sample::Index },
}

/// A delivery of a step, with the faults of its calls.
#[derive(Clone, Debug)]
struct Delivery {
    step: prop::sample::Index,
    faults: BTreeMap<u32, u8>,
    /// Whether the delivery is concurrent with the next one.
    together: bool,
}

#[derive(Clone, Debug)]
struct History {
    steps: Vec<Step>,
    deliveries: Vec<Delivery>,
}

fn histories() -> impl Strategy<Value = History> {
    let user = 0..USERS;
    let step = prop_oneof![
        4 => (user.clone(), 0..30_000u32, 0..TARIFFS, 0..6u8)
            .prop_map(|(user, watt_hours, tariff, status)| Step::End { user, watt_hours, tariff, status }),
        3 => (user, 1..2_000u32).prop_map(|(user, cents)| Step::TopUp { user, cents }),
        2 => (any::<prop::sample::Index>(), prop::option::of(1..500u32))
            .prop_map(|(session, cents)| Step::Credit { session, cents }),
        1 => any::<prop::sample::Index>().prop_map(|session| Step::Pay { session }),
    ];
    let calls: Range<u32> = 0..7;
    let faults = prop::collection::btree_map(calls, 0..4u8, 0..3);
    let delivery = (any::<prop::sample::Index>(), faults, any::<bool>())
        .prop_map(|(step, faults, together)| Delivery { step, faults, together });
    (prop::collection::vec(step, 1..6), prop::collection::vec(delivery, 0..8))
        .prop_map(|(steps, deliveries)| History { steps, deliveries })
}

fn fault(kind: u8) -> Fault {
    [Fault::CrashBefore, Fault::CrashAfter, Fault::Throttle, Fault::LostAnswer][usize::from(kind)]
}

/// The number of tariffs below.
const TARIFFS: u8 = 7;

/// Returns one of several tariffs: with one and with two rates of VAT, one that costs nothing, with price bounds with
/// and without VAT, and one whose price changes at 11:10 in Berlin, after a third of the session.
fn tariff(number: u8) -> Value {
    let component = |kind: &str, price: &str, vat: &str, step: u32| json!({ "type": kind, "price": price, "vat": vat, "step_size": step });
    let energy = || component("ENERGY", "0.333", "19", 1);
    let elements = match number {
        1 => {
            json!([{ "price_components": [energy(), component("FLAT", "1.00", "7", 1), component("TIME", "1.11", "19", 1)] }])
        }
        2 | 4 => json!([{ "price_components": [energy(), component("FLAT", "0.50", "7", 1)] }]),
        3 => json!([{ "price_components": [component("ENERGY", "0", "19", 1)] }]),
        6 => json!([
            { "price_components": [component("ENERGY", "0.251", "19", 1)], "restrictions": { "end_time": "11:10" } },
            { "price_components": [component("ENERGY", "0.499", "19", 1000), component("TIME", "0.77", "7", 60)] },
        ]),
        _ => json!([{ "price_components": [energy()] }]),
    };
    let bounds = match number {
        2 => {
            json!({ "min_price": { "excl_vat": "1.00", "incl_vat": "1.15" }, "max_price": { "excl_vat": "5.00", "incl_vat": "5.80" } })
        }
        4 | 5 => json!({ "min_price": { "excl_vat": "1.00" }, "max_price": { "excl_vat": "5.00" } }),
        6 => json!({ "max_price": { "excl_vat": "8.40", "incl_vat": "9.99" } }),
        _ => json!({}),
    };
    let mut tariff = json!({ "currency": "EUR", "elements": elements });
    tariff.as_object_mut().unwrap().extend(bounds.as_object().unwrap().clone());
    tariff
}

/// Converts a period to the form that the oracle reads.
fn metered(period: &EventPeriod) -> oracle::Period {
    let whole = |kilo: Decimal| i64::try_from(kilo * Decimal::ONE_THOUSAND).unwrap();
    oracle::Period {
        start_ms: period.start.timestamp_millis(),
        end_ms: period.end.timestamp_millis(),
        charging: period.state == PeriodState::Charging,
        wh: whole(period.energy_kwh),
        power_w: Some(whole(period.power_kw)),
    }
}

/// An execution environment: the function with a client whose calls may fail.
struct Process {
    http: FaultyHttp,
    door: Door<Billing>,
}

impl Process {
    fn new(dynamodb: &EmbeddedDynamoDb) -> Self {
        let http = FaultyHttp::default();
        let sdk = sdk_config(&dynamodb.endpoint()).to_builder().http_client(http.clone()).build();
        let db = Db::new(Client::new(&sdk));
        let (store, users) = (BillingStore::new(db.clone(), "ev-billing"), UserStore::new(db, "ev-users"));
        let door = Door::new(Billing::new(store, users, "EUR".parse().unwrap(), no_redelivery()), Clock::SYSTEM);
        Self { http, door }
    }

    /// Returns whether the step is finished: done, or refused for good. After a crash, a reported failure or an
    /// unavailable table, a later delivery must finish it.
    async fn deliver(&self, payload: &Value, faults: &BTreeMap<u32, u8>) -> bool {
        self.http.plan(faults.iter().map(|(call, kind)| (*call, fault(*kind))).collect());
        match self.http.survive(invoke(&self.door, payload.clone())).await {
            None => false,
            Some(Ok(answer)) => answer["batchItemFailures"].as_array().is_none_or(Vec::is_empty),
            Some(Err((kind, message))) => {
                let refusals = ["ConflictError", "ValidationError", "NotFoundError", "UnavailableError"];
                assert!(refusals.contains(&kind.as_str()), "{kind}: {message} for {payload}");
                kind != "UnavailableError" && !message.contains("somebody else changed it")
            }
        }
    }
}

struct World {
    store: BillingStore,
    processes: [Process; 2],
}

/// The steps of a case as payloads. Each case has its own ids, because cases share a database.
struct Case {
    id: String,
    ends: Vec<SessionEnded>,
    /// The tariff of each end, as it was sent.
    tariffs: Vec<Value>,
    top_ups: Vec<(UserId, Decimal)>,
    payloads: Vec<Value>,
}

impl Case {
    fn new(history: &History) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let id = format!("c{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let user = |number: u8| format!("{id}-u{number}");
        let mut case =
            Self { ends: Vec::new(), tariffs: Vec::new(), top_ups: Vec::new(), payloads: Vec::new(), id: id.clone() };
        for (number, step) in history.steps.iter().enumerate() {
            if let Step::End { user: whose, watt_hours, tariff: which, status } = step {
                let mut end = ended(&format!("{id}-s{number}"), &user(*whose), *watt_hours);
                end.tariff = serde_json::from_value(tariff(*which)).unwrap();
                case.tariffs.push(tariff(*which));
                end.status = match status {
                    0 => SessionStatus::Failed,
                    1 | 2 => SessionStatus::Interrupted,
                    _ => SessionStatus::Completed,
                };
                case.ends.push(end);
            }
        }
        let invoice = |index: &prop::sample::Index, ends: &[SessionEnded]| match ends {
            [] => json!("none"),
            ends => json!(InvoiceId::of(&index.get(ends).session_id)),
        };
        let mut ends = case.ends.iter();
        for (number, step) in history.steps.iter().enumerate() {
            let payload = match step {
                Step::End { .. } => sqs_event(&[message(ends.next().unwrap())]),
                Step::TopUp { user: whose, cents } => {
                    let amount = Decimal::new((*cents).into(), 2);
                    case.top_ups.push((UserId::new(user(*whose)).unwrap(), amount));
                    json!({ "action": "topUpWallet", "actor": admin(), "userId": user(*whose), "amount": amount,
                        "currency": "EUR", "idempotencyKey": format!("k{number}") })
                }
                Step::Credit { session, cents } => {
                    let mut credit = json!({ "action": "createCreditNote", "actor": admin(), "reason": "test",
                        "invoiceId": invoice(session, &case.ends), "idempotencyKey": format!("k{number}") });
                    if let Some(cents) = cents {
                        credit["lines"] = json!([{ "line": 1, "netAmount": Decimal::new((*cents).into(), 2) }]);
                    }
                    credit
                }
                Step::Pay { session } => {
                    json!({ "action": "payInvoice", "actor": admin(), "invoiceId": invoice(session, &case.ends) })
                }
            };
            case.payloads.push(payload);
        }
        case
    }
}

async fn play(world: &World, history: &History) -> Result<(), TestCaseError> {
    let case = Case::new(history);
    let [first, second] = &world.processes;
    let step = |delivery: &Delivery| delivery.step.index(case.payloads.len());
    // Whether the last delivery of each step finished it.
    let mut done = vec![false; case.payloads.len()];
    let mut waiting = history.deliveries.iter();
    while let Some(delivery) = waiting.next() {
        let work = first.deliver(&case.payloads[step(delivery)], &delivery.faults);
        match waiting.clone().next().filter(|_| delivery.together) {
            Some(other) => {
                waiting.next();
                let beside = second.deliver(&case.payloads[step(other)], &other.faults);
                let (worked_off, beside) = futures::future::join(Box::pin(work), Box::pin(beside)).await;
                done[step(delivery)] = worked_off;
                done[step(other)] = if step(other) == step(delivery) { worked_off && beside } else { beside };
            }
            None => done[step(delivery)] = work.await,
        }
    }
    // Delivery is at least once: repeat each unfinished step until it is finished.
    for (payload, done) in case.payloads.iter().zip(done) {
        let (mut done, mut tries) = (done, 0);
        while !done {
            done = second.deliver(payload, &BTreeMap::new()).await;
            tries += 1;
            prop_assert!(tries < 20, "not finished: {payload}");
        }
    }
    audit(world, &case).await
}

/// Checks the books, read from the table and from what was written over the wire.
async fn audit(world: &World, case: &Case) -> Result<(), TestCaseError> {
    let written: Vec<Vec<u8>> = world.processes.iter().flat_map(|process| process.http.transactions()).collect();
    let events = events(&written)?;
    let mut of_user: BTreeMap<UserId, (Decimal, Decimal, BTreeSet<InvoiceId>)> = BTreeMap::new();
    for (end, tariff) in case.ends.iter().zip(&case.tariffs) {
        let id = InvoiceId::of(&end.session_id);
        let loaded = world.store.invoice(&id).await.unwrap();
        let Some(loaded) = loaded else {
            prop_assert_eq!(end.status, SessionStatus::Failed, "{} was not billed", end.session_id);
            continue;
        };
        prop_assert_ne!(end.status, SessionStatus::Failed, "a failed session was billed");
        let invoice = &loaded.invoice;
        let bill = &invoice.bill;
        let periods: Vec<oracle::Period> = end.charging_periods.iter().map(metered).collect();
        // Berlin is one hour ahead of UTC in February.
        let expected = oracle::invoice(tariff, &periods, &|_| 3600, 2);
        if let Err(difference) = expected.check(bill) {
            return Err(TestCaseError::fail(difference));
        }
        prop_assert!(bill.total_incl_vat >= Decimal::ZERO && bill.total_excl_vat >= Decimal::ZERO);
        let credited: Decimal = loaded.credit_notes.iter().map(|note| note.total_incl_vat).sum();
        let refunded: Decimal = loaded.credit_notes.iter().map(|note| note.refunded).sum();
        prop_assert_eq!(invoice.credited, credited);
        prop_assert!(credited <= bill.total_incl_vat);
        prop_assert_eq!(
            invoice.status == InvoiceStatus::Credited,
            !credited.is_zero() && credited == bill.total_incl_vat
        );
        let paid = invoice.payment.as_ref().map(|payment| payment.amount);
        prop_assert_eq!(
            invoice.status == InvoiceStatus::Paid,
            paid.is_some() && invoice.status != InvoiceStatus::Credited
        );
        prop_assert!(refunded <= paid.unwrap_or_default());
        let sums = of_user.entry(end.user_id.clone()).or_default();
        sums.0 += paid.unwrap_or_default();
        sums.1 += refunded;
        if invoice.status == InvoiceStatus::Open {
            sums.2.insert(id.clone());
        }
        let is_about = |event: &&Event| invoice_of(event) == Some(&id);
        let of = |kind: &str| events.iter().filter(is_about).filter(|event| event.event_type() == kind).count();
        prop_assert_eq!(of("INVOICE_GENERATED"), 1);
        prop_assert_eq!(of("PAYMENT_COMPLETED"), usize::from(paid.is_some()));
        prop_assert!(of("PAYMENT_FAILED") <= 1 && (of("PAYMENT_FAILED") == 1 || paid.is_some()));
        prop_assert_eq!(of("CREDIT_NOTE_ISSUED"), loaded.credit_notes.len());
    }
    for number in 0..USERS {
        let user = UserId::new(format!("{}-u{number}", case.id)).unwrap();
        let (paid, refunded, open) = of_user.remove(&user).unwrap_or_default();
        let topped_up: Vec<Decimal> =
            case.top_ups.iter().filter(|(whose, _)| *whose == user).map(|(_, a)| *a).collect();
        let ledger = world.store.whole_ledger(&user).await.unwrap();
        let wallet = world.store.wallet(&user).await.unwrap();
        let mut balance = Decimal::ZERO;
        for (sequence, entry) in (1..).zip(&ledger) {
            balance += entry.amount;
            prop_assert_eq!((entry.sequence, entry.balance_after), (sequence, balance));
            prop_assert!(balance >= Decimal::ZERO, "the balance is never negative");
        }
        let mut told: Vec<(u64, Decimal)> = events.iter().filter_map(|event| change_of(event, &user)).collect();
        told.sort_unstable();
        let booked: Vec<(u64, Decimal)> = ledger.iter().map(|entry| (entry.sequence, entry.balance_after)).collect();
        prop_assert_eq!(told, booked, "each change of the balance has one event");
        let references: BTreeSet<_> = ledger.iter().map(|entry| (entry.kind as u8, &entry.reference)).collect();
        prop_assert_eq!(references.len(), ledger.len(), "nothing is booked twice");
        let sum = |kind| ledger.iter().filter(|entry| entry.kind == kind).map(|entry| entry.amount).sum::<Decimal>();
        prop_assert_eq!(-sum(EntryKind::Invoice), paid, "the sum of the debits is the sum of the paid invoices");
        prop_assert_eq!(sum(EntryKind::CreditNote), refunded);
        prop_assert_eq!(sum(EntryKind::TopUp), topped_up.iter().sum::<Decimal>());
        prop_assert_eq!(ledger.iter().filter(|entry| entry.kind == EntryKind::TopUp).count(), topped_up.len());
        prop_assert_eq!(wallet.as_ref().map(|wallet| wallet.balance).unwrap_or_default(), balance, "ledger = balance");
        let waiting = world.store.open_invoices(&user, "EUR".parse().unwrap()).await.unwrap();
        prop_assert_eq!(
            waiting.iter().cloned().collect::<BTreeSet<_>>(),
            open,
            "those that wait are those that are OPEN"
        );
        if let Some(oldest) = waiting.first() {
            let due = world.store.invoice(oldest).await.unwrap().unwrap().invoice.due();
            prop_assert!(due > balance, "the oldest open invoice, over {due}, must not be payable from {balance}");
        }
    }
    Ok(())
}

/// Returns the events in these transactions, each id once. Asserts that lines are written once.
fn events(transactions: &[Vec<u8>]) -> Result<Vec<Event>, TestCaseError> {
    let mut events = BTreeMap::new();
    for transaction in transactions {
        let transaction: Value = serde_json::from_slice(transaction).unwrap();
        for item in transaction["TransactItems"].as_array().unwrap() {
            let written = item.as_object().unwrap().values().next().unwrap();
            let touched = written["Key"]["SK"]["S"].as_str().unwrap_or_default();
            prop_assert!(
                !touched.starts_with("LINE#") && !touched.starts_with("ENTRY#"),
                "{touched} must not be changed"
            );
            let values =
                written["Item"].as_object().into_iter().chain(written["ExpressionAttributeValues"].as_object());
            let texts = values.flat_map(|values| values.values()).filter_map(|value| value["S"].as_str());
            for outbox in texts.filter(|text| text.starts_with("[{\"eventId\"")) {
                for envelope in serde_json::from_str::<Vec<Envelope>>(outbox).unwrap() {
                    events.insert(envelope.event_id, envelope.event);
                }
            }
        }
    }
    Ok(events.into_values().collect())
}

/// Returns the invoice that an event is about; `None` for a top-up.
fn invoice_of(event: &Event) -> Option<&InvoiceId> {
    match event {
        Event::InvoiceGenerated(event) => Some(&event.invoice_id),
        Event::PaymentCompleted(event) => Some(&event.invoice_id),
        Event::PaymentFailed(event) => Some(&event.invoice_id),
        Event::CreditNoteIssued(event) => Some(&event.invoice_id),
        Event::WalletToppedUp(_) => None,
        other => panic!("billing wrote {}", other.event_type()),
    }
}

/// Returns the version and the balance of the user's wallet that an event tells.
fn change_of(event: &Event, user: &UserId) -> Option<(u64, Decimal)> {
    let (whose, version, balance) = match event {
        Event::WalletToppedUp(event) => (&event.user_id, Some(event.version), Some(event.balance)),
        Event::PaymentCompleted(event) => (&event.user_id, event.wallet_version, event.balance),
        Event::CreditNoteIssued(event) => (&event.user_id, event.wallet_version, event.balance),
        _ => return None,
    };
    version.zip(balance).filter(|_| whose == user)
}

#[test]
fn the_books_are_correct_after_any_history() {
    run_in_shares(
        CASES,
        THREADS,
        histories,
        async || {
            let dynamodb = EmbeddedDynamoDb::start().await;
            let processes = [Process::new(&dynamodb), Process::new(&dynamodb)];
            (World { store: dynamodb.billing(), processes }, dynamodb)
        },
        async |(world, _), history| play(world, &history).await,
    );
}

/// A race that a random history meets once in ten thousand: money arrives between billing's read of the wallet and its
/// write.
#[tokio::test]
async fn a_top_up_between_the_read_of_the_wallet_and_the_invoice_pays_the_invoice() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let (billing, wallet) = (Process::new(&dynamodb), Process::new(&dynamodb));
    let top_up =
        json!({ "action": "topUpWallet", "actor": admin(), "userId": "u-1", "amount": "5.00", "currency": "EUR" });
    let keyed = |key: &str| {
        let mut top_up = top_up.clone();
        top_up["idempotencyKey"] = json!(key);
        top_up
    };
    // The first top-up creates the wallet and the second one finds it, so that both ways of writing it take part in the
    // race.
    for (session, key) in [("s-1", "k-1"), ("s-2", "k-2")] {
        // Hold the third call: two reads, then the transaction.
        billing.http.plan(BTreeMap::from([(2, Fault::Hold)]));
        let payload = sqs_event(&[message(&ended(session, "u-1", 10_000))]);
        let meanwhile = billing.http.while_held(async { wallet.deliver(&keyed(key), &BTreeMap::new()).await });
        let (answer, topped_up) = Box::pin(futures::future::join(invoke(&billing.door, payload), meanwhile)).await;
        assert!(topped_up && answer.unwrap()["batchItemFailures"] == json!([]));
        let store = dynamodb.billing();
        let id = InvoiceId::of(&domain::id::SessionId::new(session).unwrap());
        assert_eq!(store.invoice(&id).await.unwrap().unwrap().invoice.status, InvoiceStatus::Paid);
        assert!(store.open_invoices(&UserId::new("u-1").unwrap(), "EUR".parse().unwrap()).await.unwrap().is_empty());
    }
}
