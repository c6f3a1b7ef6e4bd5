//! Money that is held for prepaid sessions: single rules, and random histories of holds, starts, ends, failures,
//! top-ups and expiries through the real handlers. Deliveries are duplicated, in any order and two at a time, with
//! crashes before and after any call, throttling and lost answers.
//!
//! `PROPTEST_CASES` sets the number of cases (1,000), and `PROPTEST_RNG_SEED` repeats a run; both are printed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use billing::Billing;
use chrono::TimeDelta;
use domain::Instant;
use domain::billing::{Invoice, InvoiceStatus, Wallet};
use domain::charging::session::SessionEnded;
use domain::charging::session::SessionStatus;
use domain::id::{InvoiceId, SessionId, UserId};
use lambda_kit::{Clock, Door};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use store::{BillingStore, Client, Db, UserStore};
use testkit::{
    EmbeddedDynamoDb, Fault, FaultyHttp, Outcome, invoke, no_redelivery, run_in_shares, sdk_config, sqs_event,
};

use crate::common::{World, actor, admin, ended, error_type, message};

thread_local! {
    /// How far the clock of the processes of this thread is ahead.
    static AHEAD: Cell<TimeDelta> = const { Cell::new(TimeDelta::zero()) };
}

const CLOCK: Clock = Clock(|| (Clock::SYSTEM.0)() + AHEAD.get());

fn now() -> Instant {
    (CLOCK.0)()
}

fn system() -> Value {
    json!({ "userId": "system", "role": "SYSTEM" })
}

/// Builds the end of a session that costs this many cents.
fn costing(session: &str, user: &str, cents: u32, status: SessionStatus) -> SessionEnded {
    SessionEnded { status, ..ended(session, user, cents * 20) }
}

impl World {
    async fn hold(&self, user: &str, session: &str, more: Value) -> Outcome {
        let mut arguments = json!({ "userId": user, "sessionId": session, "currency": "EUR" });
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.act("holdFunds", system(), arguments).await
    }

    async fn release(&self, user: &str, session: &str, more: Value) -> Outcome {
        let mut arguments = json!({ "userId": user, "sessionId": session });
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.act("releaseFunds", system(), arguments).await
    }

    async fn held(&self, user: &str) -> String {
        let wallet = self.act("getWallet", actor(user), json!({})).await.unwrap();
        wallet["held"].as_str().unwrap_or("0.00").to_owned()
    }

    async fn status(&self, session: &str) -> String {
        self.invoice(session).await["status"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_hold_is_only_for_its_session_and_ends_with_its_invoice() {
    let world = World::new().await;
    world.top_up("u-1", "10.00", "k").await.unwrap();
    let hold = world.hold("u-1", "s-1", json!({ "maxCost": "6.00" })).await.unwrap();
    assert_eq!(
        (&hold["sessionId"], &hold["amount"], &hold["currency"]),
        (&json!("s-1"), &json!("6.00"), &json!("EUR"))
    );
    let expires: Instant = hold["expiresAt"].as_str().unwrap().parse().unwrap();
    assert!(expires > now() + TimeDelta::days(7), "{hold}");
    assert_eq!(world.hold("u-1", "s-1", json!({ "maxCost": "6" })).await.unwrap(), hold, "the same hold");
    assert_eq!(error_type(&world.hold("u-1", "s-1", json!({ "maxCost": "5.00" })).await), "ConflictError");
    // Without a limit all available money is held.
    assert_eq!(world.hold("u-1", "s-2", json!({})).await.unwrap()["amount"], "4.00");
    let refused = world.hold("u-1", "s-3", json!({})).await;
    assert_eq!(error_type(&refused), "ConflictError");
    assert!(refused.unwrap_err().1.contains("10.00 are held"));
    assert_eq!((world.balance("u-1").await, world.held("u-1").await), ("10.00".to_owned(), "10.00".to_owned()));
    // The invoice of another session cannot use the held money.
    let other = costing("t-1", "u-1", 500, SessionStatus::Completed);
    assert_eq!(world.deliver(&[other]).await, 0);
    assert_eq!(world.status("t-1").await, "OPEN");
    let refused =
        world.act("payInvoice", actor("u-1"), json!({ "invoiceId": world.invoice("t-1").await["invoiceId"] }));
    assert!(refused.await.unwrap_err().1.contains("balance is too low"));
    // The session's own invoice can. The rest of the hold becomes available, but does not yet suffice for the open
    // invoice.
    assert_eq!(world.deliver(&[costing("s-1", "u-1", 550, SessionStatus::Interrupted)]).await, 0);
    assert_eq!((world.status("s-1").await, world.status("t-1").await), ("PAID".to_owned(), "OPEN".to_owned()));
    assert_eq!((world.balance("u-1").await, world.held("u-1").await), ("4.50".to_owned(), "4.00".to_owned()));
    // A top-up pays open invoices from the available money.
    world.top_up("u-1", "4.00", "k-2").await.unwrap();
    assert_eq!(world.status("t-1").await, "OPEN", "8.50, of which 4.00 are held");
    // A FAILED session has no invoice. Its hold ends, and the open invoice is paid.
    let failed = costing("s-2", "u-1", 400, SessionStatus::Failed);
    for _ in 0..2 {
        assert_eq!(world.deliver(std::slice::from_ref(&failed)).await, 0);
        assert_eq!((world.balance("u-1").await, world.held("u-1").await), ("3.50".to_owned(), "0.00".to_owned()));
    }
    assert_eq!(world.status("t-1").await, "PAID");
}

#[tokio::test]
async fn a_hold_is_refused_when_no_money_is_available() {
    let world = World::new().await;
    for (role, action) in
        [("USER", "holdFunds"), ("ADMIN", "holdFunds"), ("USER", "releaseFunds"), ("ADMIN", "releaseFunds")]
    {
        let arguments = json!({ "userId": "u-1", "sessionId": "s-1", "currency": "EUR" });
        let refused = world.act(action, json!({ "userId": "u-1", "role": role }), arguments).await;
        assert_eq!(error_type(&refused), "ForbiddenError", "{action} by {role}");
    }
    let says = async |user: &str, session: &str, more: Value| {
        let refused = world.hold(user, session, more).await;
        (error_type(&refused).to_owned(), refused.unwrap_err().1)
    };
    assert!(says("u-1", "s-1", json!({})).await.1.contains("wallet is empty"));
    world.top_up("u-1", "10.00", "k").await.unwrap();
    let (kind, message) = says("u-1", "s-1", json!({ "currency": "CHF" })).await;
    assert_eq!(kind, "ConflictError");
    assert!(message.contains("EUR") && message.contains("CHF"), "{message}");
    let (kind, message) = says("u-1", "s-1", json!({ "maxCost": "0.009" })).await;
    assert_eq!(kind, "ValidationError");
    assert!(message.contains("maxCost") && message.contains("0.01"), "{message}");
    assert_eq!(world.hold("u-1", "s-0", json!({ "maxCost": "2.009" })).await.unwrap()["amount"], "2.00");
    // Money due on open invoices is not available. Money due in another currency is not paid from this wallet.
    let mut francs = costing("t-1", "u-1", 300, SessionStatus::Completed);
    francs.tariff.currency = "CHF".parse().unwrap();
    assert_eq!(world.deliver(&[francs, costing("t-2", "u-1", 900, SessionStatus::Completed)]).await, 0);
    assert_eq!(world.status("t-2").await, "OPEN");
    let (kind, message) = says("u-1", "s-1", json!({})).await;
    assert_eq!(kind, "ConflictError");
    assert!(message.contains("2.00 are held") && message.contains("9.00 are due"), "{message}");
    world.release("u-1", "s-0", json!({})).await.unwrap();
    assert_eq!(world.status("t-2").await, "PAID", "released money pays open invoices");
    assert_eq!(world.hold("u-1", "s-1", json!({})).await.unwrap()["amount"], "1.00");
}

#[tokio::test]
async fn an_ended_hold_is_not_created_again() {
    let world = World::new().await;
    world.top_up("u-1", "10.00", "k").await.unwrap();
    // After two releases, a late repetition of the request gets nothing, but another attempt does.
    world.hold("u-1", "s-1", json!({ "attempt": "a" })).await.unwrap();
    for _ in 0..2 {
        world.release("u-1", "s-1", json!({ "attempt": "a" })).await.unwrap();
        assert_eq!(world.held("u-1").await, "0.00");
    }
    assert_eq!(error_type(&world.hold("u-1", "s-1", json!({ "attempt": "a" })).await), "ConflictError");
    assert_eq!(world.hold("u-1", "s-1", json!({ "attempt": "b" })).await.unwrap()["amount"], "10.00");
    // A release that overtakes its request.
    world.release("u-1", "s-1", json!({ "attempt": "c" })).await.unwrap();
    assert_eq!(world.held("u-1").await, "10.00", "held by another attempt");
    assert_eq!(error_type(&world.hold("u-1", "s-1", json!({ "attempt": "c" })).await), "ConflictError");
    // Attempts to start one session share one hold. The last of them releases it.
    assert_eq!(world.hold("u-1", "s-1", json!({ "attempt": "d" })).await.unwrap()["amount"], "10.00");
    world.release("u-1", "s-1", json!({ "attempt": "b" })).await.unwrap();
    assert_eq!(world.held("u-1").await, "10.00");
    world.release("u-1", "s-1", json!({ "attempt": "d" })).await.unwrap();
    assert_eq!(world.held("u-1").await, "0.00");
    // A release without an attempt is for all attempts.
    world.hold("u-1", "s-1", json!({ "attempt": "e" })).await.unwrap();
    world.release("u-1", "s-1", json!({})).await.unwrap();
    assert_eq!(world.held("u-1").await, "0.00");
    for attempt in [json!({ "attempt": "e" }), json!({})] {
        assert_eq!(error_type(&world.hold("u-1", "s-1", attempt).await), "ConflictError");
    }
    // The end of a session that overtakes a repetition of its hold, or that never had a hold.
    for (session, status) in [("s-2", SessionStatus::Completed), ("s-3", SessionStatus::Failed)] {
        for hold_first in [true, false] {
            let session = format!("{session}-{hold_first}");
            if hold_first {
                world.hold("u-1", &session, json!({ "maxCost": "1.00" })).await.unwrap();
            }
            let end = costing(&session, "u-1", 0, status);
            assert_eq!(world.deliver(&[end.clone(), end]).await, 0);
            let late = world.hold("u-1", &session, json!({ "maxCost": "1.00" })).await;
            assert_eq!(error_type(&late), "ConflictError", "{session}");
            world.release("u-1", &session, json!({})).await.unwrap();
            assert_eq!(world.held("u-1").await, "0.00", "{session}");
        }
    }
    assert_eq!(world.balance("u-1").await, "10.00");
}

#[tokio::test]
async fn twenty_concurrent_holds_share_the_balance() {
    let world = World::new().await;
    world.top_up("u-1", "10.00", "k").await.unwrap();
    let holds = (0..20).map(|n| {
        world.hold(
            "u-1",
            if n % 2 == 0 { "s-1" } else { "s-2" },
            json!({ "maxCost": "7.00", "attempt": format!("a-{n}") }),
        )
    });
    let mut amounts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for outcome in futures::future::join_all(holds).await {
        let Ok(hold) = &outcome else {
            assert_eq!(error_type(&outcome), "ConflictError");
            continue;
        };
        amounts.entry(hold["sessionId"].to_string()).or_default().insert(hold["amount"].to_string());
    }
    assert!(amounts.values().all(|amounts| amounts.len() == 1), "one hold for each session: {amounts:?}");
    assert_eq!((amounts.len(), world.held("u-1").await), (2, "10.00".to_owned()));
}

#[tokio::test]
async fn an_expired_hold_has_no_effect() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let process = Process::new(&dynamodb);
    let act = async |action: &str, arguments: Value| {
        let mut command = json!({ "action": action, "actor": system(), "userId": "u-1" });
        command.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
        invoke(&process.door, command).await
    };
    act("topUpWallet", json!({ "amount": "10.00", "currency": "EUR", "idempotencyKey": "k" })).await.unwrap();
    let hold = act("holdFunds", json!({ "sessionId": "s-1", "currency": "EUR" })).await.unwrap();
    let expires: Instant = hold["expiresAt"].as_str().unwrap().parse().unwrap();
    let item = dynamodb.items("ev-billing").await.into_iter().find(|item| item.contains_key("expiresAt")).unwrap();
    assert_eq!(
        item["expiresAt"].as_n().unwrap(),
        &expires.timestamp().to_string(),
        "the time at which DynamoDB deletes the item"
    );
    AHEAD.set(expires - now() - TimeDelta::minutes(1));
    assert_eq!(error_type(&act("holdFunds", json!({ "sessionId": "s-2", "currency": "EUR" })).await), "ConflictError");
    AHEAD.set(expires - now() + AHEAD.get() + TimeDelta::seconds(1));
    assert_eq!(act("getWallet", json!({})).await.unwrap()["held"], Value::Null);
    let next = act("holdFunds", json!({ "sessionId": "s-2", "currency": "EUR" })).await.unwrap();
    assert_eq!(next["amount"], "10.00");
    // A session that ends after its hold expired takes no money that is held for the other session.
    let end = costing("s-1", "u-1", 300, SessionStatus::Completed);
    assert_eq!(invoke(&process.door, sqs_event(&[message(&end)])).await.unwrap()["batchItemFailures"], json!([]));
    let wallet = act("getWallet", json!({})).await.unwrap();
    assert_eq!((&wallet["balance"], &wallet["held"]), (&json!("10.00"), &json!("10.00")));
    let end = costing("s-2", "u-1", 700, SessionStatus::Completed);
    assert_eq!(invoke(&process.door, sqs_event(&[message(&end)])).await.unwrap()["batchItemFailures"], json!([]));
    assert_eq!(act("getWallet", json!({})).await.unwrap()["balance"], "0.00", "7.00, and the 3.00 that waited");
}

// Random histories.

/// The number of threads on which cases run, each with its own `DynamoDB`.
const THREADS: u32 = 4;
const CASES: u32 = 1_000;
const USERS: usize = 2;
/// The number of attempts to start one session.
const ATTEMPTS: usize = 3;

/// A prepaid session as its user requests it.
#[derive(Clone, Debug)]
struct Plan {
    user: usize,
    max_cost: Option<u32>,
    /// The cost of the session, % of the amount that was held for it.
    share: u32,
    fails: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// An attempt requests the hold of its session, or a repetition of that request arrives late.
    Hold {
        session: prop::sample::Index,
        attempt: usize,
    },
    /// An attempt is abandoned.
    Release {
        session: prop::sample::Index,
        attempt: usize,
    },
    /// An attempt that got a hold starts the session, unless it has already started.
    Start {
        session: prop::sample::Index,
        attempt: usize,
    },
    /// The end of a started session arrives.
    End {
        session: prop::sample::Index,
    },
    TopUp {
        user: usize,
        cents: u32,
    },
    /// The end of a session that is not prepaid arrives.
    Other {
        user: usize,
        cents: u32,
    },
    /// Time passes: messages in transit do not live that long, and holds may expire.
    Later {
        days: i64,
    },
}

/// A step with the faults of its calls.
#[derive(Clone, Debug)]
struct Delivery {
    step: Step,
    faults: BTreeMap<u32, u8>,
    /// Whether the delivery is concurrent with the next one.
    together: bool,
}

#[derive(Clone, Debug)]
struct History {
    plans: Vec<Plan>,
    deliveries: Vec<Delivery>,
}

fn histories() -> impl Strategy<Value = History> {
    let plan = (0..USERS, prop::option::of(1..1_500u32), 0..101u32, prop::bool::weighted(0.3))
        .prop_map(|(user, max_cost, share, fails)| Plan { user, max_cost, share, fails });
    let session = any::<prop::sample::Index>;
    let step = prop_oneof![
        5 => (session(), 0..ATTEMPTS).prop_map(|(session, attempt)| Step::Hold { session, attempt }),
        2 => (session(), 0..ATTEMPTS).prop_map(|(session, attempt)| Step::Release { session, attempt }),
        4 => (session(), 0..ATTEMPTS).prop_map(|(session, attempt)| Step::Start { session, attempt }),
        3 => session().prop_map(|session| Step::End { session }),
        3 => (0..USERS, 1..2_000u32).prop_map(|(user, cents)| Step::TopUp { user, cents }),
        2 => (0..USERS, 1..1_500u32).prop_map(|(user, cents)| Step::Other { user, cents }),
        1 => (1..20i64).prop_map(|days| Step::Later { days }),
    ];
    let faults = prop::collection::btree_map(0..9u32, 0..4u8, 0..3);
    let delivery =
        (step, faults, any::<bool>()).prop_map(|(step, faults, together)| Delivery { step, faults, together });
    (prop::collection::vec(plan, 1..4), prop::collection::vec(delivery, 4..24))
        .prop_map(|(plans, deliveries)| History { plans, deliveries })
}

fn fault(kind: u8) -> Fault {
    [Fault::CrashBefore, Fault::CrashAfter, Fault::Throttle, Fault::LostAnswer][usize::from(kind)]
}

/// The result of a delivery that the caller sees.
enum Seen {
    /// Nothing final: the process crashed, or the answer asks for another attempt.
    Nothing,
    Refusal,
    Answer(Value),
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
        let door = Door::new(Billing::new(store, users, "EUR".parse().unwrap(), no_redelivery()), CLOCK);
        Self { http, door }
    }

    async fn deliver(&self, payload: &Value, faults: &BTreeMap<u32, u8>) -> Seen {
        self.http.plan(faults.iter().map(|(call, kind)| (*call, fault(*kind))).collect());
        match self.http.survive(invoke(&self.door, payload.clone())).await {
            None => Seen::Nothing,
            Some(Ok(answer)) => {
                let done = answer["batchItemFailures"].as_array().is_none_or(Vec::is_empty);
                if done { Seen::Answer(answer) } else { Seen::Nothing }
            }
            Some(Err((kind, message))) => {
                let refusals = ["ConflictError", "UnavailableError"];
                assert!(refusals.contains(&kind.as_str()), "{kind}: {message} for {payload}");
                let for_good = kind == "ConflictError" && !message.contains("somebody else changed it");
                if for_good { Seen::Refusal } else { Seen::Nothing }
            }
        }
    }
}

struct Books {
    store: BillingStore,
    processes: [Process; 2],
}

/// The state of a prepaid session in the test.
#[derive(Default)]
struct Session {
    /// The holds that each attempt got, since time last passed.
    held: BTreeMap<usize, (Decimal, Instant)>,
    /// The attempts whose request was ever sent.
    asked: BTreeSet<usize>,
    /// The attempts that sent their request before time passed. No repetition of them is in transit any more.
    silent: BTreeSet<usize>,
    given_up: BTreeSet<usize>,
    started: Option<Started>,
}

struct Started {
    by: usize,
    amount: Decimal,
    expires_at: Instant,
    /// Whether the hold was unexpired when the end of the session was sent; `None` before the end.
    end: Option<bool>,
}

/// A history in progress. Each case has its own ids, because cases share a database.
struct Case<'a> {
    id: String,
    books: &'a Books,
    plans: &'a [Plan],
    sessions: Vec<Session>,
    /// Top-ups and ends of other sessions. They are delivered at least once.
    facts: Vec<Value>,
    top_ups: Vec<(usize, Decimal)>,
    written: Vec<Vec<u8>>,
}

/// The kind of a sent message.
enum Sent {
    Hold(usize, usize),
    Other,
}

impl<'a> Case<'a> {
    fn new(books: &'a Books, plans: &'a [Plan]) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let id = format!("c{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let sessions = plans.iter().map(|_| Session::default()).collect();
        Self { id, books, plans, sessions, facts: Vec::new(), top_ups: Vec::new(), written: Vec::new() }
    }

    fn user(&self, number: usize) -> String {
        format!("{}-u{number}", self.id)
    }

    fn session_id(&self, session: usize) -> String {
        format!("{}-s{session}", self.id)
    }

    fn command(&self, action: &str, session: usize, attempt: usize) -> Value {
        let plan = &self.plans[session];
        let mut command = json!({
            "action": action, "actor": system(), "userId": self.user(plan.user), "sessionId": self.session_id(session),
            "attempt": format!("attempt-{attempt}")
        });
        if action == "holdFunds" {
            command["currency"] = json!("EUR");
            command["maxCost"] = json!(plan.max_cost.map(|cents| Decimal::new(cents.into(), 2)));
        }
        command
    }

    /// Builds the end of a started session. Its cost is the planned share of the held amount.
    fn end(&self, session: usize) -> Value {
        let (plan, started) = (&self.plans[session], self.sessions[session].started.as_ref().unwrap());
        let cents = (started.amount * Decimal::from(plan.share)).floor();
        let status = if plan.fails { SessionStatus::Failed } else { SessionStatus::Interrupted };
        let end = costing(&self.session_id(session), &self.user(plan.user), cents.try_into().unwrap(), status);
        sqs_event(&[message(&end)])
    }

    /// Returns the message of a step, if the step can happen now.
    fn send(&mut self, step: &Step) -> Option<(Value, Sent)> {
        match step {
            Step::Hold { session, attempt } => {
                let session = session.index(self.plans.len());
                let known = &mut self.sessions[session];
                if known.silent.contains(attempt) {
                    return None;
                }
                known.asked.insert(*attempt);
                Some((self.command("holdFunds", session, *attempt), Sent::Hold(session, *attempt)))
            }
            Step::Release { session, attempt } => {
                let session = session.index(self.plans.len());
                let known = &mut self.sessions[session];
                if known.started.as_ref().is_some_and(|started| started.by == *attempt) {
                    return None;
                }
                known.given_up.insert(*attempt);
                Some((self.command("releaseFunds", session, *attempt), Sent::Other))
            }
            Step::Start { session, attempt } => {
                let known = &mut self.sessions[session.index(self.plans.len())];
                let free = known.started.is_none() && !known.given_up.contains(attempt);
                if let Some((amount, expires_at)) = known.held.get(attempt).filter(|_| free) {
                    let (amount, expires_at) = (*amount, *expires_at);
                    known.started = Some(Started { by: *attempt, amount, expires_at, end: None });
                }
                None
            }
            Step::End { session } => {
                let session = session.index(self.plans.len());
                let started = self.sessions[session].started.as_mut()?;
                started.end = started.end.or(Some(now() < started.expires_at));
                Some((self.end(session), Sent::Other))
            }
            Step::TopUp { user, cents } => {
                let amount = Decimal::new((*cents).into(), 2);
                self.top_ups.push((*user, amount));
                let top_up = json!({
                    "action": "topUpWallet", "actor": admin(), "userId": self.user(*user), "amount": amount,
                    "currency": "EUR", "idempotencyKey": format!("k{}", self.top_ups.len())
                });
                self.facts.push(top_up.clone());
                Some((top_up, Sent::Other))
            }
            Step::Other { user, cents } => {
                let session = format!("{}-other{}", self.id, self.facts.len());
                let end = costing(&session, &self.user(*user), *cents, SessionStatus::Completed);
                let end = sqs_event(&[message(&end)]);
                self.facts.push(end.clone());
                Some((end, Sent::Other))
            }
            Step::Later { days } => {
                AHEAD.set(AHEAD.get() + TimeDelta::days(*days));
                for session in &mut self.sessions {
                    session.held.clear();
                    session.silent.append(&mut session.asked.clone());
                    if session.started.is_some() {
                        // From now on a repetition of the start finds the session and requests no hold.
                        session.silent.extend(0..ATTEMPTS);
                    }
                }
                None
            }
        }
    }

    fn seen(&mut self, sent: &Sent, seen: Seen) -> Result<(), TestCaseError> {
        let (Sent::Hold(session, attempt), Seen::Answer(hold)) = (sent, seen) else { return Ok(()) };
        let amount: Decimal = hold["amount"].as_str().unwrap().parse().unwrap();
        let known = &mut self.sessions[*session];
        if let Some(started) = &known.started {
            prop_assert_eq!(started.amount, amount, "all attempts get the same hold");
        }
        known.held.insert(*attempt, (amount, hold["expiresAt"].as_str().unwrap().parse().unwrap()));
        Ok(())
    }

    async fn wallet(&self, user: usize) -> Option<Wallet> {
        self.books.store.wallet(&UserId::new(self.user(user)).unwrap()).await.unwrap()
    }

    /// Checks what must be true at any time: the money for running sessions exists and is held.
    async fn check(&self) -> Result<(), TestCaseError> {
        for user in 0..USERS {
            let wallet = self.wallet(user).await;
            let balance = wallet.as_ref().map_or(Decimal::ZERO, |wallet| wallet.balance);
            let held = wallet.as_ref().map_or(Decimal::ZERO, |wallet| wallet.held(now()));
            prop_assert!(held <= balance, "{held} held of {balance}");
            let mut promised = Decimal::ZERO;
            for (number, (plan, session)) in self.plans.iter().zip(&self.sessions).enumerate() {
                let running = session.started.as_ref().filter(|started| started.end.is_none());
                let Some(started) = running.filter(|started| plan.user == user && now() < started.expires_at) else {
                    continue;
                };
                promised += started.amount;
                let holds = wallet.iter().flat_map(|wallet| &wallet.holds);
                let mut own = holds.filter(|hold| hold.session_id.as_str() == self.session_id(number));
                prop_assert!(
                    own.any(|hold| hold.is_live(now()) && hold.amount == started.amount),
                    "a session without its hold"
                );
            }
            prop_assert!(promised <= held, "{promised} promised, {held} held");
        }
        Ok(())
    }

    /// Delivers a message until it is finished.
    async fn at_least_once(&self, payload: &Value) -> Result<(), TestCaseError> {
        for _ in 0..20 {
            let seen = self.books.processes[1].deliver(payload, &BTreeMap::new()).await;
            if !matches!(seen, Seen::Nothing) {
                return Ok(());
            }
        }
        prop_assert!(false, "not finished: {payload}");
        Ok(())
    }

    /// Ends the history: running sessions end, abandoned attempts release their holds, facts arrive, and messages still
    /// in transit arrive last.
    async fn finish(&mut self) -> Result<(), TestCaseError> {
        for fact in &self.facts {
            self.at_least_once(fact).await?;
        }
        for session in 0..self.plans.len() {
            let started = self.sessions[session].started.as_mut();
            let by = started.map(|started| {
                started.end = started.end.or(Some(now() < started.expires_at));
                started.by
            });
            if by.is_some() {
                self.at_least_once(&self.end(session)).await?;
            }
            for attempt in self.sessions[session].asked.iter().filter(|attempt| Some(**attempt) != by) {
                self.at_least_once(&self.command("releaseFunds", session, *attempt)).await?;
            }
            for attempt in self.sessions[session].asked.difference(&self.sessions[session].silent) {
                self.books.processes[1].deliver(&self.command("holdFunds", session, *attempt), &BTreeMap::new()).await;
            }
        }
        self.written.extend(self.books.processes.iter().flat_map(|process| process.http.transactions()));
        Ok(())
    }

    /// Returns whether a payment of the session's invoice was ever refused.
    fn payment_failed(&self, session: &str) -> bool {
        let texts = self.written.iter().map(|body| String::from_utf8_lossy(body));
        texts.into_iter().any(|body| body.contains("PAYMENT_FAILED") && body.contains(session))
    }

    async fn invoice(&self, session: &str) -> Option<Invoice> {
        let id = InvoiceId::of(&SessionId::new(session).unwrap());
        self.books.store.invoice(&id).await.unwrap().map(|loaded| loaded.invoice)
    }

    /// Checks what must be true in the end.
    async fn audit(&self) -> Result<(), TestCaseError> {
        self.check().await?;
        for (number, (plan, session)) in self.plans.iter().zip(&self.sessions).enumerate() {
            let id = self.session_id(number);
            let invoice = self.invoice(&id).await;
            let Some(started) = &session.started else {
                prop_assert!(invoice.is_none());
                continue;
            };
            prop_assert_eq!(invoice.is_some(), !plan.fails);
            if let Some(invoice) = invoice.filter(|_| started.end == Some(true)) {
                prop_assert_eq!(invoice.status, InvoiceStatus::Paid, "the held money pays the invoice");
                prop_assert!(!self.payment_failed(&id), "the invoice is paid at once");
            }
        }
        for user in 0..USERS {
            let wallet = self.wallet(user).await;
            let balance = wallet.as_ref().map_or(Decimal::ZERO, |wallet| wallet.balance);
            let held = wallet.as_ref().map_or(Decimal::ZERO, |wallet| wallet.held(now()));
            prop_assert_eq!(held, Decimal::ZERO, "no hold outlives its session: {:?}", wallet);
            let user_id = UserId::new(self.user(user)).unwrap();
            let ledger = self.books.store.whole_ledger(&user_id).await.unwrap();
            let (mut sum, mut references) = (Decimal::ZERO, BTreeSet::new());
            for entry in &ledger {
                sum += entry.amount;
                prop_assert!(sum >= Decimal::ZERO, "the balance is never negative");
                prop_assert!(references.insert(entry.reference.clone()), "nothing is booked twice");
            }
            prop_assert_eq!(sum, balance, "the sum of the ledger is the balance");
            let paid_in: Decimal = self.top_ups.iter().filter(|(whose, _)| *whose == user).map(|(_, a)| *a).sum();
            let spent: Decimal = ledger.iter().map(|entry| entry.amount.min(Decimal::ZERO)).sum();
            prop_assert_eq!(paid_in + spent, balance);
            if let Some(oldest) =
                self.books.store.open_invoices(&user_id, "EUR".parse().unwrap()).await.unwrap().first()
            {
                let due = self.books.store.invoice(oldest).await.unwrap().unwrap().invoice.due();
                prop_assert!(due > balance, "the oldest open invoice, over {due}, must not be payable from {balance}");
            }
        }
        Ok(())
    }
}

async fn play(books: &Books, history: &History) -> Result<(), TestCaseError> {
    AHEAD.set(TimeDelta::zero());
    let mut case = Case::new(books, &history.plans);
    let [first, second] = &books.processes;
    let mut waiting = history.deliveries.iter();
    while let Some(delivery) = waiting.next() {
        if let Some((payload, sent)) = case.send(&delivery.step) {
            // Time does not pass while a message is being processed.
            let beside = waiting.clone().next().filter(|other| !matches!(other.step, Step::Later { .. }));
            let beside = beside.filter(|_| delivery.together);
            let beside = beside.and_then(|other| {
                waiting.next();
                Some((case.send(&other.step)?, &other.faults))
            });
            let work = first.deliver(&payload, &delivery.faults);
            if let Some(((other, also), faults)) = beside {
                let both = futures::future::join(Box::pin(work), Box::pin(second.deliver(&other, faults)));
                let (answer, other_answer) = both.await;
                case.seen(&sent, answer)?;
                case.seen(&also, other_answer)?;
            } else {
                let answer = work.await;
                case.seen(&sent, answer)?;
            }
        }
        case.check().await?;
    }
    case.finish().await?;
    case.audit().await
}

#[test]
fn held_money_is_never_spent_twice_and_never_held_forever() {
    run_in_shares(
        CASES,
        THREADS,
        histories,
        async || {
            let dynamodb = EmbeddedDynamoDb::start().await;
            let processes = [Process::new(&dynamodb), Process::new(&dynamodb)];
            (Books { store: dynamodb.billing(), processes }, dynamodb)
        },
        async |(world, _), history| play(world, &history).await,
    );
}
