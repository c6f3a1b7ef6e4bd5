//! States and histories with the embedded `DynamoDB` and a real S3 API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{TimeDelta, TimeZone, Utc};
use domain::Instant;
use domain::telemetry::{Message, Silence};
use lambda_kit::{Clock, Door};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use store::Archive;
use telemetry_api::TelemetryApi;
use testkit::{EmbeddedDynamoDb, EmbeddedS3, http_event, invoke, reading, seeded};

const BUCKET: &str = "telemetry";
const CLOCK: Clock = Clock(now);

fn now() -> Instant {
    Utc.with_ymd_and_hms(2026, 3, 3, 12, 0, 0).unwrap()
}

struct World {
    dynamodb: EmbeddedDynamoDb,
    s3: EmbeddedS3,
    door: Door<TelemetryApi>,
}

impl World {
    async fn new() -> Self {
        let (dynamodb, s3) = (EmbeddedDynamoDb::start().await, EmbeddedS3::start(BUCKET).await);
        let silence = Silence::of_interval(Duration::from_secs(5));
        let api = TelemetryApi::new(dynamodb.telemetry(), Archive::new(s3.client(), BUCKET), silence);
        Self { dynamodb, s3, door: Door::new(api, CLOCK) }
    }

    fn archive(&self) -> Archive {
        Archive::new(self.s3.client(), BUCKET)
    }

    async fn report(&self, station: &str, at: Instant) {
        self.dynamodb.telemetry().record(&message(&reading(station, at, 7)), now()).await.unwrap();
    }

    /// Returns the history of a station on one day, read page by page.
    async fn history(&self, station: &str, date: &str, limit: usize) -> Vec<Value> {
        let (mut all, mut token) = (Vec::new(), Value::Null);
        for _ in 0..1000 {
            let mut request = json!({ "action": "getHistory", "stationId": station, "date": date, "limit": limit });
            if !token.is_null() {
                request["nextToken"] = token;
            }
            let page = invoke(&self.door, request).await.unwrap();
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit);
            assert_eq!(page["count"], json!(items.len()));
            all.extend(items.iter().cloned());
            token = page["nextToken"].clone();
            if token.is_null() {
                return all;
            }
        }
        panic!("the history has no end");
    }
}

fn message(sent: &Value) -> Message {
    Message::new(serde_json::from_value(sent.clone()).unwrap(), sent)
}

fn stripped(mut sent: Value) -> Value {
    sent.as_object_mut().unwrap().remove("topic_station_id");
    sent
}

#[tokio::test]
async fn states_show_whether_they_are_stale() {
    let world = World::new().await;
    world.report("fresh", now() - TimeDelta::seconds(15)).await;
    world.report("stale", now() - TimeDelta::milliseconds(15_001)).await;
    let list = invoke(&world.door, json!({ "action": "listStations" })).await.unwrap();
    assert_eq!(list["count"], json!(2));
    let stale: Vec<(&str, bool)> = list["stations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|state| (state["station_id"].as_str().unwrap(), state["stale"].as_bool().unwrap()))
        .collect();
    assert_eq!(stale, [("fresh", false), ("stale", true)]);
    let one = invoke(&world.door, json!({ "action": "getStation", "stationId": "fresh" })).await.unwrap();
    let expected = json!({
        "station_id": "fresh", "battery_available": 7, "battery_charging": 4, "temperature": 28.5, "humidity": 42.0,
        "status": "operational", "timestamp": "2026-03-03T11:59:45Z", "received_at": "2026-03-03T12:00:00Z",
        "stale": false
    });
    assert_eq!(one, expected);
    let none = invoke(&world.door, json!({ "action": "getStation", "stationId": "none" })).await.unwrap_err();
    assert_eq!(none.0, "NotFoundError");
    let http = http_event("GET /telemetry/stations/{stationId}", &[("stationId", "stale")], &[], "u", "", "");
    let answer = invoke(&world.door, http).await.unwrap();
    assert!(answer["body"].as_str().unwrap().contains("\"stale\":true"), "{answer}");
}

#[tokio::test]
async fn the_fleet_is_listed_in_pages_without_counters_of_rejected_messages() {
    let world = World::new().await;
    let event = |_| panic!("one is not too many");
    let context = store::EventContext { correlation_id: "c".to_owned(), now: now() };
    let bad = domain::id::SwapStationId::new("bad").unwrap();
    world.dynamodb.telemetry().note_rejection(&bad, uuid::Uuid::new_v4(), 1, event, &context).await.unwrap();
    for n in 0..7 {
        world.report(&format!("s-{n}"), now()).await;
    }
    let (mut seen, mut token) = (Vec::new(), Value::Null);
    loop {
        let mut request = json!({ "action": "listStations", "limit": 3 });
        if !token.is_null() {
            request["nextToken"] = token;
        }
        let page = invoke(&world.door, request).await.unwrap();
        let ids = page["stations"].as_array().unwrap().iter().map(|state| state["station_id"].clone());
        seen.extend(ids);
        token = page["nextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert_eq!(seen, (0..7).map(|n| json!(format!("s-{n}"))).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_token_is_valid_only_for_its_own_history() {
    let world = World::new().await;
    for n in 0..3 {
        world.archive().keep(&message(&reading("s", now() - TimeDelta::seconds(n), 1))).await.unwrap();
    }
    let get = json!({ "action": "getHistory", "stationId": "s", "date": "2026-03-03", "limit": 1 });
    let token = invoke(&world.door, get).await.unwrap()["nextToken"].clone();
    for (station, date) in [("t", "2026-03-03"), ("s", "2026-03-02")] {
        let get = json!({ "action": "getHistory", "stationId": station, "date": date, "nextToken": token });
        let error = invoke(&world.door, get).await.unwrap_err();
        assert_eq!(error.0, "ValidationError");
        assert!(error.1.contains("nextToken"), "{}", error.1);
    }
    for date in [json!("yesterday"), json!("2026-02-30"), json!(1), Value::Null, json!("2026-03-03T00:00:00Z")] {
        let get = json!({ "action": "getHistory", "stationId": "s", "date": date });
        let error = invoke(&world.door, get.clone()).await.unwrap_err();
        assert!(error.0 == "ValidationError" && error.1.contains("date"), "{get}: {error:?}");
    }
}

/// Ids of stations of which some are prefixes of others, or look like batches.
const STATIONS: [&str; 6] = ["s", "s_2026-03-03T00:00:00Z", "s_", "batch", "late", "s-1"];

/// By whatever path and however often messages were archived, the pages of a history contain each message of the day
/// once.
#[test]
fn a_history_has_each_message_of_the_day_once_and_in_order() {
    // The station, the second of the day (few values, so that they repeat and batches are late or prompt), the
    // batteries.
    let second = prop_oneof![40_000..40_020u32, 0..86_400u32, Just(0), Just(86_399)];
    let sent = (0..STATIONS.len(), second, 0..3u32);
    let group = (prop::collection::vec(any::<prop::sample::Index>(), 1..10), any::<bool>());
    let day = (prop::collection::vec(sent, 1..25), prop::collection::vec(group, 0..12), 1..7usize);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(seeded(100));
    let result = runner.run(&day, |(sent, groups, limit)| {
        runtime.block_on(async {
            let world = World::new().await;
            let midnight: Instant = "2026-03-03T00:00:00Z".parse().unwrap();
            let sent: Vec<Value> = sent
                .iter()
                .map(|(station, second, available)| {
                    let at = midnight + TimeDelta::seconds(i64::from(*second));
                    stripped(reading(STATIONS[*station], at, *available))
                })
                .collect();
            let mut archived = BTreeSet::new();
            for (numbers, in_batch) in &groups {
                let numbers: BTreeSet<usize> = numbers.iter().map(|index| index.index(sent.len())).collect();
                let messages: Vec<Message> = numbers.iter().map(|number| message(&sent[*number])).collect();
                if *in_batch {
                    world.archive().keep_batch(&messages.iter().collect::<Vec<_>>()).await.unwrap();
                } else {
                    for message in &messages {
                        world.archive().keep(message).await.unwrap();
                    }
                }
                archived.extend(messages.into_iter().map(|message| (message.order(), message.line)));
            }
            for station in STATIONS {
                let history = world.history(station, "2026-03-03", limit).await;
                let own = |line: &str| line.contains(&format!("\"station_id\":\"{station}\""));
                let expected: Vec<Value> = archived
                    .iter()
                    .filter(|(_, line)| own(line))
                    .map(|(_, line)| serde_json::from_str(line).unwrap())
                    .collect();
                assert_eq!(history, expected, "{station} by {limit}");
                assert_eq!(world.history(station, "2026-03-02", limit).await, [Value::Null; 0]);
            }
        });
        Ok(())
    });
    result.unwrap();
}

#[tokio::test]
async fn a_page_reads_only_the_batches_that_it_needs() {
    let world = World::new().await;
    let writer = world.archive();
    for n in 0..60 {
        let batch: Vec<Message> = (0..10)
            .map(|k| message(&reading(&format!("s-{k}"), now() - TimeDelta::seconds(600 - 10 * n), 1)))
            .collect();
        writer.keep_batch(&batch.iter().collect::<Vec<_>>()).await.unwrap();
        writer.keep(&message(&reading("direct", now() - TimeDelta::seconds(n), 1))).await.unwrap();
    }
    let archive = world.archive();
    let page = |limit, next_token| store::PageRequest { limit, next_token };
    let day = now().date_naive();
    let station = |id: &str| domain::id::SwapStationId::new(id).unwrap();
    let (mut token, mut pages, mut items) = (None, 0, Vec::new());
    loop {
        let before = archive.requests().gets;
        let next = archive.history(&station("s-3"), day, &page(5, token), || true).await.unwrap();
        // Batches that ended before the page are not read again, even if there are many for the last minutes.
        assert!(archive.requests().gets - before <= 16, "one round of batches: page {pages}");
        items.extend(next.items);
        pages += 1;
        token = next.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!((pages, items.len()), (12, 60));
    assert!(items.windows(2).all(|pair| pair[0]["timestamp"].as_str() < pair[1]["timestamp"].as_str()));
}

/// Archives sixty batches of ten stations. One station has two messages, only in the first and in the last batch.
async fn rare(world: &World, padding: usize) {
    let writer = world.archive();
    for n in 0..60 {
        let at = now() - TimeDelta::seconds(600 - 10 * n);
        let padded = |id: &str| {
            let mut sent = reading(id, at, 1);
            sent["padding"] = json!("0".repeat(padding));
            message(&sent)
        };
        let mut batch: Vec<Message> = (0..10).map(|k| padded(&format!("s-{k}"))).collect();
        batch.extend((n == 0 || n == 59).then(|| padded("rare")));
        writer.keep_batch(&batch.iter().collect::<Vec<_>>()).await.unwrap();
    }
}

/// Reads a history to its end. Returns for each page the number of items and of batches read.
async fn follow(archive: &Archive, has_time: impl Fn() -> bool + Copy) -> Vec<(usize, u64)> {
    let rare = domain::id::SwapStationId::new("rare").unwrap();
    let (mut pages, mut token) = (Vec::new(), None);
    loop {
        let before = archive.requests().gets;
        let page = store::PageRequest { limit: 25, next_token: token };
        let next = archive.history(&rare, now().date_naive(), &page, has_time).await.unwrap();
        pages.push((next.items.len(), archive.requests().gets - before));
        token = next.next_token;
        if token.is_none() {
            return pages;
        }
        assert!(pages.len() < 100, "the history must end");
    }
}

#[tokio::test]
async fn a_page_ends_when_time_runs_out_and_the_next_page_continues() {
    let world = World::new().await;
    rare(&world, 0).await;
    let archive = world.archive();
    assert_eq!(follow(&archive, || true).await, [(2, 60)]);
    let hurried = follow(&archive, || false).await;
    assert_eq!(hurried.iter().map(|(items, _)| items).sum::<usize>(), 2, "{hurried:?}");
    assert!(hurried.len() > 1 && hurried.iter().all(|(_, gets)| *gets <= 16), "{hurried:?}");
}

/// Small batches that unpack to 4 MiB each. A page ends when it has read 64 MiB.
#[tokio::test]
async fn a_page_ends_after_64_mib_and_the_next_page_continues() {
    let world = World::new().await;
    rare(&world, 400 * 1024).await;
    let pages = follow(&world.archive(), || true).await;
    assert_eq!(pages.iter().map(|(items, _)| items).sum::<usize>(), 2, "{pages:?}");
    assert!(pages.len() > 1 && pages.iter().all(|(_, gets)| *gets <= 32), "{pages:?}");
}
