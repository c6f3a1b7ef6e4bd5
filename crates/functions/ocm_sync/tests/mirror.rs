//! The mirror with the simulated OpenChargeMap API and the embedded `DynamoDB`. The table must contain what the source
//! contains, however often runs fail, die or run concurrently.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Not as _;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{TimeDelta, TimeZone, Utc};
use domain::Instant;
use domain::poi::{Poi, Record};
use lambda_kit::{Clock, Context, Door, Failure};
use ocm_sync::{ApiKey, OcmSync, Outcome, Source, SyncAnswer, Synchronise};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use store::{Db, PoiStore, Units};
use testkit::{
    EmbeddedDynamoDb, FakeAws, Fault, FaultyHttp, OcmChange, OcmFault, OcmServer, invoke, sdk_config, seeded,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const TABLE: &str = "ev-ocm-pois";
const PAGE: u32 = 40;

fn now() -> Instant {
    Utc.with_ymd_and_hms(2026, 3, 3, 12, 0, 0).unwrap()
}

/// Starts a fake Systems Manager with one parameter.
async fn parameters() -> FakeAws {
    FakeAws::start(|call, _| {
        assert_eq!(call.target, "AmazonSSM.GetParameter");
        assert!(call.body.contains("\"WithDecryption\":true"), "{}", call.body);
        (200, json!({ "Parameter": { "Name": "/key", "Value": format!(" {} ", OcmServer::KEY) } }).to_string())
    })
    .await
}

struct World {
    dynamodb: EmbeddedDynamoDb,
    ssm: FakeAws,
    ocm: OcmServer,
}

/// One execution environment of the function.
struct Process {
    function: OcmSync,
    db: Db,
    http: FaultyHttp,
}

impl World {
    async fn new(pois: u32, seed: u64) -> Self {
        let (dynamodb, ssm) = (EmbeddedDynamoDb::start().await, parameters().await);
        Self { dynamodb, ssm, ocm: OcmServer::start(pois, seed).await }
    }

    fn process(&self) -> Process {
        let http = FaultyHttp::default();
        let config = sdk_config(&self.dynamodb.endpoint()).into_builder().http_client(http.clone()).build();
        let db = Db::new(store::Client::new(&config));
        let key = ApiKey::parameter(&sdk_config(&self.ssm.endpoint()), "/key");
        let source = Source::new(self.ocm.url(), key, PAGE).unwrap();
        Process { function: OcmSync::new(PoiStore::new(db.clone(), TABLE), source), db, http }
    }

    async fn sync(&self) -> SyncAnswer {
        self.process().sync(false, "r").await.unwrap()
    }

    async fn sweep(&self) -> SyncAnswer {
        self.process().sync(true, "r").await.unwrap()
    }

    /// Returns all items of the table whose partition key begins with `prefix`, by partition key.
    async fn items(&self, prefix: &str) -> BTreeMap<String, std::collections::HashMap<String, AttributeValue>> {
        let items = self.dynamodb.items(TABLE).await.into_iter();
        let items = items.map(|item| (item["PK"].as_s().unwrap().clone(), item));
        items.filter(|(pk, _)| pk.starts_with(prefix)).collect()
    }

    /// Returns the mirror as it is stored.
    async fn mirrored(&self) -> BTreeMap<u32, Poi> {
        let pois = self.items("POI#").await;
        let poi = |item: &std::collections::HashMap<String, AttributeValue>| -> Poi {
            let part = |name: &str| -> Value { serde_json::from_str(item[name].as_s().unwrap()).unwrap() };
            let mut whole = part("summary");
            whole.as_object_mut().unwrap().extend(part("details").as_object().unwrap().clone());
            serde_json::from_value(whole).unwrap()
        };
        pois.values().map(poi).map(|poi| (poi.summary.ocm_id, poi)).collect()
    }

    /// Returns the mirror as it should be.
    fn expected(&self) -> BTreeMap<u32, Poi> {
        let poi = |value: Value| Record::parse(value.to_string().as_bytes()).unwrap().into_poi();
        self.ocm.published().into_iter().map(|(id, value)| (id, poi(value))).collect()
    }

    /// Returns the POIs in which the mirror differs from the source: missing, extra or different ones.
    async fn differences(&self) -> Vec<u32> {
        let (mirrored, expected) = (self.mirrored().await, self.expected());
        let ids: BTreeSet<u32> = mirrored.keys().chain(expected.keys()).copied().collect();
        ids.into_iter().filter(|id| mirrored.get(id) != expected.get(id)).collect()
    }

    /// Returns the events in the outbox of the state, which the stream publishes.
    async fn outbox(&self) -> Vec<Value> {
        let state = self.items("SYNC").await;
        let outbox = state.get("SYNC").and_then(|item| item.get("outbox")).map(|outbox| outbox.as_s().unwrap().clone());
        outbox.map_or(Vec::new(), |outbox| serde_json::from_str(&outbox).unwrap())
    }
}

impl Process {
    async fn sync(&self, full: bool, request: &str) -> Result<SyncAnswer, Failure> {
        self.sync_at(full, request, now(), TimeDelta::minutes(15)).await
    }

    async fn sync_at(&self, full: bool, request: &str, at: Instant, time: TimeDelta) -> Result<SyncAnswer, Failure> {
        let context = Self::context(request, at, time);
        self.function.synchronise(&Synchronise { full, allow_removals: false }, &context).await
    }

    fn context(request: &str, at: Instant, time: TimeDelta) -> Context {
        Context {
            now: at,
            deadline: at + time,
            request_id: request.to_owned(),
            correlation_id: "correlation".to_owned(),
        }
    }

    fn units(&self) -> Units {
        self.db.capacity().units()
    }
}

fn counts(answer: &SyncAnswer) -> (Outcome, u64, u64, u64, u64) {
    let event = &answer.event;
    (answer.outcome, event.processed, event.updated, event.removed, event.failed)
}

#[tokio::test]
async fn the_first_run_mirrors_everything_and_later_runs_mirror_changes() {
    let world = World::new(300, 1).await;
    let first = world.sync().await;
    assert_eq!(counts(&first), (Outcome::Completed, 300, 300, 0, 0));
    assert_eq!(world.differences().await, [0_u32; 0]);
    assert_eq!(world.outbox().await[0]["eventType"], "OCM_SYNC_COMPLETED");
    assert_eq!(world.outbox().await[0]["updated"], 300);
    let asked = world.ocm.requests();
    assert_eq!(asked[0], "/v3/system/status");
    assert!(asked[2].contains("camelcase=false&compact=true&greaterthanid=0&maxresults=40"), "{asked:?}");
    assert!(asked[2].contains("sortby=id_asc&verbose=false") && !asked[2].contains("modifiedsince"), "{asked:?}");

    // Nothing has changed: there is one request and no write.
    let process = world.process();
    assert_eq!(counts(&process.sync(false, "r").await.unwrap()), (Outcome::Unchanged, 0, 0, 0, 0));
    assert_eq!((world.ocm.requests().len(), process.units().table_write, process.units().read), (1, 0.0, 1.0));

    // Edited and added POIs arrive. Removed ones stay until the next sweep.
    world.ocm.change(OcmChange { edit: 20, add: 5, remove: 0 });
    let gone = world.mirrored().await[&1].clone();
    world.ocm.remove(1);
    let second = world.sync().await;
    assert_eq!((second.outcome, second.event.updated, second.event.removed), (Outcome::Completed, 25, 0));
    assert!(second.event.processed < 60, "a window, not everything: {second:?}");
    assert!(world.ocm.requests()[1].contains("modifiedsince=2025"), "since the last change of the data");
    assert_eq!(world.differences().await, [1]);
    assert_eq!(world.mirrored().await[&1], gone);
    let third = world.sweep().await;
    assert_eq!((third.outcome, third.event.updated, third.event.removed), (Outcome::Completed, 0, 1));
    assert_eq!(world.differences().await, [0_u32; 0]);
}

#[tokio::test]
async fn a_run_without_changes_writes_nothing() {
    let world = World::new(300, 2).await;
    world.sync().await;
    let before = world.items("").await;
    let process = world.process();
    let swept = process.sync(true, "r").await.unwrap();
    assert_eq!(counts(&swept), (Outcome::Unchanged, 300, 0, 0, 0));
    let units = process.units();
    assert_eq!((units.table_write, units.index_write), (0.0, 0.0));
    assert!(units.read <= 70.0, "{units:?}");
    assert_eq!(world.items("").await, before);
}

#[tokio::test]
async fn unparseable_records_are_kept_aside_and_do_not_stop_the_run() {
    let world = World::new(100, 3).await;
    world.ocm.put_raw(8, r#"{"ID": 7, "AddressInfo": "none"}"#);
    world.ocm.put_raw(20, "\"no record\"");
    world.ocm.put_raw(30, r#"{"ID": 0, "AddressInfo": {}}"#);
    world
        .ocm
        .put_raw(40, &format!(r#"{{"ID": 39, "AddressInfo": {{}}, "GeneralComments": "{}"}}"#, "x".repeat(300_000)));
    world.ocm.remove(7);
    world.ocm.remove(39);
    world.ocm.duplicate(50);
    let first = world.sync().await;
    assert_eq!((first.outcome, first.event.failed, first.event.updated), (Outcome::Completed, 4, 98));
    assert_eq!(world.differences().await, [0_u32; 0]);
    let aside = world.items("FAILED#").await;
    assert_eq!(aside.len(), 4);
    let reason = aside["FAILED#7"]["reason"].as_s().unwrap();
    assert!(reason.contains("AddressInfo"), "{reason}");
    assert_eq!(aside["FAILED#39"]["record"].as_s().unwrap().len(), 8192);
    // They are still unparseable, but already known, so nothing is written.
    let process = world.process();
    let again = process.sync(true, "r").await.unwrap();
    assert_eq!((again.outcome, again.event.failed, process.units().table_write), (Outcome::Unchanged, 4, 0.0));
    // One of them is corrected.
    world.ocm.clear_raw();
    world.ocm.put(json!({ "ID": 7, "AddressInfo": { "Title": "mended" }, "DateLastStatusUpdate": "2026-02-02T00:00:00Z", "SubmissionStatusTypeID": 200 }));
    let mended = world.sync().await;
    assert_eq!((mended.event.updated, mended.event.failed), (1, 0));
    assert_eq!(world.mirrored().await[&7].summary.title.as_deref(), Some("mended"));
}

#[tokio::test]
async fn failed_requests_to_the_source_are_repeated() {
    use OcmFault::{Html, Nothing, Reset, RetryAfter, Slow, Status, Truncated};
    let world = World::new(200, 4).await;
    world.ocm.fail([Status(502), Nothing, Reset, Truncated, Nothing, Status(503), Html, RetryAfter(0), Slow(2)]);
    let answer = world.sync().await;
    assert_eq!(counts(&answer), (Outcome::Completed, 200, 200, 0, 0));
    assert_eq!(world.differences().await, [0_u32; 0]);
}

#[tokio::test]
async fn a_refused_api_key_is_reported_and_read_again() {
    let world = World::new(20, 5).await;
    let process = world.process();
    process.sync(false, "r").await.unwrap();
    world.ocm.set_key("another");
    let failure = process.sync(false, "r").await.unwrap_err();
    assert!(
        failure.message().contains("refuses the API key of the parameter /key (403): You must specify"),
        "{failure:?}"
    );
    world.ocm.set_key(OcmServer::KEY);
    assert_eq!(process.sync(false, "r").await.unwrap().outcome, Outcome::Unchanged);
    assert_eq!(world.ssm.calls().len(), 2, "read once, and once more after the refusal");
}

#[tokio::test]
async fn a_page_without_ids_is_an_error_and_not_the_last_page() {
    let world = World::new(30, 15).await;
    world.sync().await;
    world.ocm.fail([OcmFault::NoIds]);
    let failure = world.process().sync(true, "r").await.unwrap_err();
    assert!(failure.message().contains("no record above 0 has an id"), "{failure:?}");
    assert_eq!(world.differences().await, [0_u32; 0], "no POI is considered gone");
}

/// A source that redirects its callers to another server. The API key is not sent there.
#[tokio::test]
async fn the_api_key_is_not_sent_to_another_server() {
    let world = World::new(1, 14).await;
    let elsewhere = world.ocm.url();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer =
                format!("HTTP/1.1 302 Found\r\nlocation: {elsewhere}/v3/system/status\r\ncontent-length: 0\r\n\r\n");
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    let key = ApiKey::parameter(&sdk_config(&world.ssm.endpoint()), "/key");
    let function = OcmSync::new(world.dynamodb.pois(), Source::new(source, key, PAGE).unwrap());
    let process = Process { function, db: Db::new(world.dynamodb.client()), http: FaultyHttp::default() };
    let failure = process.sync(false, "r").await.unwrap_err();
    assert!(failure.message().contains("302"), "{failure:?}");
    assert_eq!(world.ocm.requests(), [""; 0]);
}

#[tokio::test]
async fn a_source_that_lost_its_data_does_not_empty_the_mirror() {
    let world = World::new(300, 6).await;
    world.sync().await;
    world.ocm.fail([OcmFault::Empty]);
    let failure = world.process().sync(true, "r").await.unwrap_err();
    assert!(failure.message().contains("lacks at least 300 of 300"), "{failure:?}");
    assert_eq!(world.differences().await, [0_u32; 0]);
    // The source has its data again, so nothing has changed.
    assert_eq!(world.sync().await.outcome, Outcome::Unchanged);
    assert_eq!(world.sweep().await.outcome, Outcome::Unchanged);
}

/// A refused sweep waits for a person, but changes since the checkpoint are still mirrored. However often the sweep is
/// refused, it removes nothing.
#[tokio::test]
async fn a_refused_sweep_removes_nothing_and_does_not_block_increments() {
    let world = World::new(300, 17).await;
    world.sync().await;
    let gone: Vec<u32> = world.mirrored().await.into_keys().filter(|id| id % 4 == 0).collect();
    for id in &gone {
        world.ocm.remove(*id);
    }
    // The sweep writes the changes of its first pages before it is refused.
    world.ocm.change(OcmChange { edit: 30, add: 5, remove: 0 });
    for _ in 0..3 {
        let failure = world.process().sync(true, "r").await.unwrap_err();
        assert!(
            failure.message().contains("of 300 mirrored") && failure.message().contains("allowRemovals"),
            "{failure:?}"
        );
        assert_eq!(world.mirrored().await.len(), 300);
    }

    world.ocm.change(OcmChange { edit: 10, add: 5, remove: 0 });
    let _ = world.ocm.requests();
    let increment = world.sync().await;
    assert_eq!((increment.outcome, increment.event.removed), (Outcome::Completed, 0));
    assert!(world.ocm.requests()[1].contains("modifiedsince"), "an increment, not a sweep");
    assert_eq!(world.differences().await, gone, "only the POIs that are gone differ from the source");
    assert_eq!(world.sync().await.outcome, Outcome::Unchanged);

    // The next sweep starts again, and is refused as long as nobody allows the removals.
    let failure = world.process().sync(true, "r").await.unwrap_err();
    assert!(failure.message().contains("of 310 mirrored"), "{failure:?}");
    let context = Process::context("r", now(), TimeDelta::minutes(15));
    let allowed = Synchronise { full: true, allow_removals: true };
    let swept = world.process().function.synchronise(&allowed, &context).await.unwrap();
    assert_eq!((swept.outcome, swept.event.removed), (Outcome::Completed, gone.len() as u64));
    assert_eq!(world.differences().await, [0_u32; 0]);
}

/// POIs that are gone are removed at the end of a sweep, even if several invocations run the sweep and one dies while
/// removing.
#[tokio::test]
async fn pois_that_several_invocations_found_gone_are_removed_at_the_end() {
    let world = World::new(200, 18).await;
    world.sync().await;
    let gone: Vec<u32> = world.mirrored().await.into_keys().filter(|id| id % 9 == 0).collect();
    for id in &gone {
        world.ocm.remove(*id);
    }
    // The second page never arrives, and time runs out.
    world.ocm.fail([OcmFault::Nothing, OcmFault::Hang]);
    let stopped = world.process().sync_at(true, "r", now(), TimeDelta::seconds(20)).await.unwrap();
    assert_eq!((stopped.outcome, stopped.event.removed), (Outcome::Interrupted, 0));
    let removing = world.process();
    // The calls are: state, manifest, claim, and some removals of two calls each.
    removing.http.plan(BTreeMap::from([(9, Fault::CrashAfter)]));
    assert!(removing.http.survive(removing.sync(true, "dead")).await.is_none());
    assert!((1..gone.len()).contains(&world.differences().await.len()), "it died while removing");
    let later = now() + TimeDelta::minutes(15);
    let swept = world.process().sync_at(true, "r", later, TimeDelta::minutes(15)).await.unwrap();
    assert_eq!((swept.outcome, swept.event.removed), (Outcome::Completed, gone.len() as u64));
    assert_eq!(world.differences().await, [0_u32; 0]);
}

#[tokio::test]
async fn an_older_record_does_not_replace_a_newer_one() {
    let world = World::new(10, 7).await;
    let poi = |title: &str, at: &str| json!({ "ID": 5, "AddressInfo": { "Title": title }, "DateLastStatusUpdate": at, "SubmissionStatusTypeID": 200 });
    world.ocm.put(poi("new", "2026-02-02T00:00:00Z"));
    world.sync().await;
    world.ocm.put(poi("old", "2026-01-01T00:00:00Z"));
    world.sweep().await;
    assert_eq!(world.mirrored().await[&5].summary.title.as_deref(), Some("new"));
}

#[tokio::test]
async fn reference_data_is_mirrored_with_sweeps() {
    let world = World::new(10, 8).await;
    world.sync().await;
    let pois = world.dynamodb.pois();
    let operators = pois.reference("Operators").await.unwrap().unwrap();
    assert_eq!((operators.len(), &operators[0]), (79, &json!({ "id": 1, "title": "Operator 1" })));
    world.ocm.set_reference(json!({ "Operators": [{ "ID": 1, "Title": "renamed" }] }));
    let process = world.process();
    let swept = process.sync(true, "r").await.unwrap();
    assert_eq!(swept.outcome, Outcome::Completed);
    assert_eq!(pois.reference("Operators").await.unwrap().unwrap(), [json!({ "id": 1, "title": "renamed" })]);
    assert!(pois.reference("Countries").await.unwrap().is_some(), "kinds that are not returned stay");
}

#[tokio::test]
async fn of_two_concurrent_runs_one_works_and_one_is_busy() {
    let world = World::new(200, 9).await;
    let (one, two) = (world.process(), world.process());
    let (a, b) = tokio::join!(one.sync(false, "a"), two.sync(false, "b"));
    let outcomes = BTreeSet::from([format!("{:?}", a.unwrap().outcome), format!("{:?}", b.unwrap().outcome)]);
    assert_eq!(outcomes, BTreeSet::from(["Busy".to_owned(), "Completed".to_owned()]));
    assert_eq!(world.differences().await, [0_u32; 0]);
    assert_eq!(world.outbox().await.len(), 1);
}

#[tokio::test]
async fn a_run_out_of_time_saves_its_progress_and_the_next_run_continues() {
    let world = World::new(300, 10).await;
    let process = world.process();
    // 15 s are reserved. The rest suffices for a page, but the second page never ends.
    world.ocm.fail([OcmFault::Nothing, OcmFault::Hang]);
    let time = TimeDelta::seconds(20);
    let stopped = process.sync_at(false, "r", now(), time).await.unwrap();
    assert_eq!(counts(&stopped), (Outcome::Interrupted, 40, 40, 0, 0));
    assert!(world.outbox().await.is_empty(), "the synchronisation is not complete");
    // Another invocation need not wait, because the lease was given back.
    let rest = process.sync(false, "another").await.unwrap();
    assert_eq!(counts(&rest), (Outcome::Completed, 300, 300, 0, 0));
    assert_eq!(rest.event.started_at, now());
    assert_eq!(world.differences().await, [0_u32; 0]);
}

#[tokio::test]
async fn the_lease_of_a_dead_run_expires() {
    let world = World::new(100, 11).await;
    let process = world.process();
    process.http.plan(BTreeMap::from([(10, Fault::CrashBefore)]));
    assert!(process.http.survive(process.sync(false, "dead")).await.is_none());
    let other = world.process();
    assert_eq!(other.sync(false, "other").await.unwrap().outcome, Outcome::Busy);
    let later = now() + TimeDelta::minutes(15);
    let done = other.sync_at(false, "other", later, TimeDelta::minutes(15)).await.unwrap();
    assert_eq!(done.outcome, Outcome::Completed);
    assert_eq!(world.differences().await, [0_u32; 0]);
}

/// Each call of a run in turn is throttled, or its answer is lost.
#[tokio::test]
async fn a_throttled_or_unanswered_call_is_not_mistaken_for_a_concurrent_run() {
    for fault in [Fault::Throttle, Fault::LostAnswer] {
        let mut call = 0;
        loop {
            let world = World::new(10, 16).await;
            world.sync().await;
            world.ocm.change(OcmChange { edit: 1, add: 1, remove: 0 });
            let process = world.process();
            process.http.plan(BTreeMap::from([(call, fault)]));
            match process.sync(false, "r2").await {
                Ok(answer) => assert_eq!(answer.outcome, Outcome::Completed, "{fault:?} at call {call}"),
                // The state is read only once, because the run has not begun yet.
                Err(failure) => assert_eq!(call, 0, "{fault:?} at call {call}: {failure:?}"),
            }
            if process.http.calls() <= call {
                break;
            }
            world.sync().await;
            assert_eq!(world.differences().await, [0_u32; 0], "{fault:?} at call {call}");
            call += 1;
        }
        assert!(call > 6, "state, manifest, claim, POIs, shards, end: {call} calls");
    }
}

/// A step of a history: the source changes, and a run is killed, throttled or loses answers at some calls.
#[derive(Clone, Debug)]
struct Step {
    change: (u32, u32, u32),
    full: bool,
    faults: Vec<(Index, FaultKind)>,
}

#[derive(Clone, Copy, Debug)]
enum FaultKind {
    Before,
    After,
    Throttle,
    Lost,
}

fn step() -> impl Strategy<Value = Step> {
    let kind =
        prop_oneof![Just(FaultKind::Before), Just(FaultKind::After), Just(FaultKind::Throttle), Just(FaultKind::Lost)];
    let faults = prop::collection::vec((any::<Index>(), kind), 0..3);
    ((0_u32..20, 0_u32..10, 0_u32..10), any::<bool>(), faults).prop_map(|(change, full, faults)| Step {
        change,
        full,
        faults,
    })
}

async fn play(steps: &[Step]) -> Result<(), TestCaseError> {
    let world = World::new(80, 12).await;
    let mut events = BTreeMap::new();
    for (number, step) in steps.iter().enumerate() {
        let (edit, add, remove) = step.change;
        world.ocm.change(OcmChange { edit, add, remove });
        let process = world.process();
        let fault = |kind| match kind {
            FaultKind::Before => Fault::CrashBefore,
            FaultKind::After => Fault::CrashAfter,
            FaultKind::Throttle => Fault::Throttle,
            FaultKind::Lost => Fault::LostAnswer,
        };
        let plan = step.faults.iter().map(|(at, kind)| (u32::try_from(at.index(160)).unwrap(), fault(*kind)));
        process.http.plan(plan.collect());
        let at = now() + TimeDelta::hours(i64::try_from(number).unwrap());
        let request = format!("r{number}");
        let run = process.sync_at(step.full, &request, at, TimeDelta::minutes(15));
        if let Some(answer) = process.http.survive(run).await {
            prop_assert!(answer.is_ok_and(|answer| answer.outcome == Outcome::Busy).not(), "no other run is active");
        }
        for event in world.outbox().await {
            events.insert(event["eventId"].to_string(), event);
        }
    }
    // At the end, run a sweep without faults, and once more for a sweep that was in progress.
    let at = now() + TimeDelta::days(2);
    for request in ["last", "very last"] {
        let swept = world.process().sync_at(true, request, at, TimeDelta::minutes(15)).await.unwrap();
        prop_assert!(matches!(swept.outcome, Outcome::Completed | Outcome::Unchanged), "{swept:?}");
    }
    prop_assert_eq!(world.differences().await, [0_u32; 0]);
    let process = world.process();
    let unchanged = process.sync_at(true, "unchanged", at, TimeDelta::minutes(15)).await.unwrap();
    prop_assert_eq!((unchanged.outcome, process.units().table_write), (Outcome::Unchanged, 0.0));
    let times: BTreeSet<String> = events.values().map(|event| event["finishedAt"].to_string()).collect();
    prop_assert_eq!(times.len(), events.len(), "no run completes twice: {:?}", events);
    Ok(())
}

#[test]
fn runs_killed_anywhere_and_repeated_leave_the_table_equal_to_the_source() {
    let runtime = Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    let mut runner = TestRunner::new(seeded(64));
    let result = runner.run(&prop::collection::vec(step(), 1..5), |steps| runtime.block_on(play(&steps)));
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test]
async fn scheduled_events_and_direct_invocations_start_a_run() {
    let world = World::new(20, 13).await;
    let door = Door::new(world.process().function, Clock(now));
    let scheduled = json!({
        "version": "0", "id": "1", "detail-type": "Scheduled Event", "source": "aws.scheduler", "account": "1",
        "time": "2026-03-03T12:00:00Z", "region": "eu-central-1", "resources": [], "detail": {}
    });
    let answer = invoke(&door, scheduled).await.unwrap();
    assert_eq!(
        (&answer["outcome"], &answer["updated"], &answer["source"]),
        (&json!("COMPLETED"), &json!(20), &json!("OpenChargeMap"))
    );
    let answer = invoke(&door, json!({ "full": true })).await.unwrap();
    assert_eq!((&answer["outcome"], &answer["processed"]), (&json!("UNCHANGED"), &json!(20)));
    let (code, message) = invoke(&door, json!({ "full": "yes" })).await.unwrap_err();
    assert!(code == "ValidationError" && message.contains("full"), "{message}");
}
