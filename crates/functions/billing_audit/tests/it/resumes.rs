//! An audit that is interrupted at any point and any number of times finds the same defects as an uninterrupted one.
//!
//! `PROPTEST_RNG_SEED` repeats a run; the seed is printed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use billing_audit::BillingAudit;
use chrono::TimeDelta;
use lambda_kit::{Clock, Context, Failure, Function, RemoteFunction, Request};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use serde_json::{Value, json};
use store::{BillingStore, Client, Db, SessionStore};
use testkit::{FakeAws, Fault, FaultyHttp, sdk_config, seeded};

use crate::common::{World, invoice};

/// More than two pages of each kind.
const USERS: usize = 230;
/// More than four pages of one ledger.
const ENTRIES: usize = 2_200;
const CASES: u32 = 12;

/// An execution environment that may die. Its calls to other functions are recorded.
struct Process {
    audit: BillingAudit,
    http: FaultyHttp,
    lambda: FakeAws,
}

impl Process {
    async fn new(world: &World) -> Self {
        let http = FaultyHttp::default();
        let lambda = FakeAws::start(|_, _| (200, "{}".to_owned())).await;
        let sdk = |endpoint: &str| sdk_config(endpoint).to_builder().http_client(http.clone()).build();
        let db = Db::new(Client::new(&sdk(&world.dynamodb.endpoint())));
        let sessions = SessionStore::new(db.clone(), "ev-sessions");
        let billing = BillingStore::new(db, "ev-billing");
        let peer = |name: &str| RemoteFunction::new(&sdk(&lambda.endpoint()), name.to_owned());
        let audit = BillingAudit::new(sessions, billing, peer("notifications"), peer("audit"));
        Self { audit, http, lambda }
    }

    /// Runs one invocation. Returns `None` if the process died.
    async fn invoke(
        &self,
        payload: &Value,
        time: TimeDelta,
        faults: BTreeMap<u32, Fault>,
    ) -> Option<Result<Value, Failure>> {
        let now = (Clock::SYSTEM.0)();
        let context = Context { now, deadline: now + time, correlation_id: "c".to_owned(), request_id: "r".to_owned() };
        let request = Request { action: "audit".to_owned(), arguments: payload.clone(), actor: None, context };
        self.http.plan(faults);
        let answer = self.http.survive(self.audit.handle(request)).await;
        answer.map(|answer| answer.map(|answer| answer.body))
    }
}

/// Returns the defects that were reported to the operators, and the payloads of the invocations for the rest.
fn told(calls: &[testkit::RecordedCall]) -> (BTreeSet<String>, Vec<Value>) {
    let bodies = calls.iter().map(|call| serde_json::from_str::<Value>(&call.body).unwrap());
    let (notifications, audits): (Vec<Value>, Vec<Value>) = bodies.partition(|body| body["action"] == "notify");
    let key = |notification: &Value| notification["deduplicationKey"].as_str().unwrap().to_owned();
    (notifications.iter().map(key).collect(), audits)
}

fn window() -> Value {
    let now = (Clock::SYSTEM.0)();
    json!({ "from": now - TimeDelta::hours(2), "to": now + TimeDelta::hours(2), "goesOn": true })
}

/// An invocation of a history: its time, and the faults of its calls.
#[derive(Clone, Debug)]
struct Turn {
    time: TimeDelta,
    faults: BTreeMap<u32, u8>,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    // With no time at all, one page is audited. Slightly more than the reserve suffices for some pages.
    let time = prop_oneof![
        Just(TimeDelta::zero()),
        (0..40i64).prop_map(|milliseconds| TimeDelta::seconds(30) + TimeDelta::milliseconds(milliseconds)),
    ];
    let faults = prop::collection::btree_map(0..60u32, 0..3u8, 0..3);
    prop::collection::vec((time, faults).prop_map(|(time, faults)| Turn { time, faults }), 20..60)
}

fn fault(kind: u8) -> Fault {
    [Fault::CrashBefore, Fault::CrashAfter, Fault::Throttle][usize::from(kind)]
}

/// Runs an audit as Lambda does: an invocation that dies or fails is repeated, and an invocation for the rest is run.
/// The first invocations follow `turns`; the others have enough time. Returns the reported defects and the number of
/// invocations.
async fn audit(process: &Process, first: &Value, turns: &[Turn]) -> Result<(BTreeSet<String>, usize), TestCaseError> {
    let before = process.lambda.calls().len();
    let mut seen = before;
    let mut pending = VecDeque::from([first.clone()]);
    let mut turns = turns.iter();
    let mut invocations = 0;
    while let Some(payload) = pending.pop_front() {
        invocations += 1;
        prop_assert!(invocations < 1_000, "the audit must end");
        let turn = turns.next();
        let time = turn.map_or(TimeDelta::minutes(15), |turn| turn.time);
        let faults = turn.map(|turn| turn.faults.iter().map(|(call, kind)| (*call, fault(*kind))).collect());
        match process.invoke(&payload, time, faults.unwrap_or_default()).await {
            Some(Ok(_)) => {}
            Some(Err(failure)) => {
                prop_assert_eq!(failure.code().name(), "UnavailableError");
                pending.push_back(payload);
            }
            None => pending.push_back(payload),
        }
        let calls = process.lambda.calls();
        pending.extend(told(&calls[seen..]).1);
        seen = calls.len();
    }
    Ok((told(&process.lambda.calls()[before..]).0, invocations))
}

/// Plants many defects: sessions without invoices and invoices without sessions, payments without debits, and wallets
/// whose ledgers do not add up, one of them at its first entry. Returns the deduplication keys of their reports.
async fn plant(world: &World) -> BTreeSet<String> {
    let users: Vec<String> = (0..USERS).map(|number| format!("u-{number:03}")).collect();
    for user in &users {
        world.top_up(user).await;
    }
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let sessions = world.sessions(&names).await;
    let mut expected = BTreeSet::new();
    let id = |session: &str| invoice(session)["INVOICE#".len()..].to_owned();
    for number in (0..USERS).step_by(37) {
        world.delete("ev-billing", invoice(&sessions[number]), "METADATA").await;
        expected.insert(format!("SessionWithoutInvoice {}", sessions[number]));
        world.delete("ev-sessions", format!("SESSION#{}", sessions[number + 1]), "METADATA").await;
        expected.insert(format!("InvoiceWithoutSession {}", id(&sessions[number + 1])));
        let other = AttributeValue::S("other".to_owned());
        world.set(format!("WALLET#{}", users[number + 2]), "ENTRY#000000000002", "reference", other).await;
        expected.insert(format!("PaymentWithoutDebit {}", id(&sessions[number + 2])));
        let balance = AttributeValue::S("15.01".to_owned());
        world.set(format!("WALLET#{}", users[number + 3]), "BALANCE", "balance", balance).await;
        expected.insert(format!("LedgerMismatch {}", users[number + 3]));
    }
    long_ledger(world).await;
    expected.insert("LedgerMismatch u-long".to_owned());
    expected
}

/// Creates a wallet with a long ledger in which the first entry is wrong. It is the last one that the audit reads.
async fn long_ledger(world: &World) {
    let client = world.dynamodb.client();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let number = |number: usize| AttributeValue::N(number.to_string());
    let at = "2026-01-01T00:00:00.000Z";
    let entries: Vec<WriteRequest> = (1..=ENTRIES)
        .map(|sequence| {
            let put = PutRequest::builder()
                .item("PK", text("WALLET#u-long"))
                .item("SK", text(&format!("ENTRY#{sequence:012}")))
                .item("kind", text("TOP_UP"))
                .item("amount", text(if sequence == 1 { "1.01" } else { "1.00" }))
                .item("balanceAfter", text(&format!("{sequence}.00")))
                .item("currency", text("EUR"))
                .item("reference", text("r"))
                .item("createdAt", text(at));
            WriteRequest::builder().put_request(put.build().unwrap()).build()
        })
        .collect();
    for chunk in entries.chunks(25) {
        client.batch_write_item().request_items("ev-billing", chunk.to_vec()).send().await.unwrap();
    }
    let wallet =
        client.put_item().table_name("ev-billing").item("PK", text("WALLET#u-long")).item("SK", text("BALANCE"));
    let wallet = wallet.item("status", text("WALLET")).item("createdAt", text(at)).item("currency", text("EUR"));
    let wallet = wallet.item("balance", text(&format!("{ENTRIES}.00"))).item("entries", number(ENTRIES));
    wallet.item("version", number(ENTRIES)).send().await.unwrap();
}

#[test]
fn an_interrupted_audit_finds_the_same_defects() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (world, expected) = runtime.block_on(async {
        let world = World::new().await;
        let expected = plant(&world).await;
        (world, expected)
    });
    let first = window();
    let (whole, invocations) = runtime
        .block_on(async { audit(&Process::new(&world).await, &first, &[]).await })
        .expect("an audit without interruption");
    assert_eq!((&whole, invocations), (&expected, 1), "without interruption");
    let config = seeded(CASES);
    let cases = config.cases;
    let all_invocations = std::cell::Cell::new(0);
    let result = TestRunner::new(config).run(&turns(), |turns| {
        let (found, invocations) =
            runtime.block_on(async { audit(&Process::new(&world).await, &first, &turns).await })?;
        all_invocations.set(all_invocations.get() + invocations);
        prop_assert_eq!(&found, &expected);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    println!("{} invocations in {cases} cases", all_invocations.get());
    assert!(all_invocations.get() > 5 * cases as usize, "the audits must be interrupted often");
}

/// An invocation without time audits one page, and passes on everything else.
#[tokio::test(flavor = "multi_thread")]
async fn without_time_each_invocation_audits_one_page() {
    let world = World::new().await;
    let expected = plant(&world).await;
    let process = Process::new(&world).await;
    let (mut payload, mut invocations, mut sums) = (window(), 0, [0; 3]);
    loop {
        let answer = process.invoke(&payload, TimeDelta::zero(), BTreeMap::new()).await.unwrap().unwrap();
        invocations += 1;
        for (sum, (name, most)) in sums.iter_mut().zip([("sessions", 100), ("invoices", 100), ("wallets", 100)]) {
            let count = answer[name].as_u64().unwrap();
            assert!(count <= most, "{answer}");
            *sum += count;
        }
        let audits = told(&process.lambda.calls()).1;
        let token = &answer["nextToken"];
        assert_eq!(audits.len(), invocations - usize::from(token.is_null()), "each passed on the rest once");
        if token.is_null() {
            break;
        }
        payload = audits.last().unwrap().clone();
        assert_eq!((&payload["nextToken"], &payload["goesOn"]), (token, &json!(true)));
        assert!(payload.to_string().len() < 60_000, "{} bytes are passed on", payload.to_string().len());
    }
    // Seven sessions and seven invoices were removed, and one wallet was added.
    assert_eq!(sums, [USERS as u64 - 7, USERS as u64 - 7, USERS as u64 + 1]);
    assert_eq!(told(&process.lambda.calls()).0, expected);
}

#[tokio::test]
async fn a_forged_token_is_refused() {
    let world = World::new().await;
    for token in ["x", "{}", "[{\"of\":\"tables\"}]"] {
        let (kind, message) = testkit::invoke(&world.audit, json!({ "nextToken": token })).await.unwrap_err();
        assert_eq!(kind, "ValidationError");
        assert!(message.contains("nextToken"), "{message}");
    }
}
