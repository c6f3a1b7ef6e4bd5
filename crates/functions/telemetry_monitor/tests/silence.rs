//! A station that falls silent is reported once, and once more when it is back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::time::Duration;

use chrono::TimeDelta;
use domain::Instant;
use domain::event::{Envelope, Event};
use domain::telemetry::{Message, Silence};
use futures::StreamExt;
use lambda_kit::{Context, Failure, Function, Trigger};
use serde_json::json;
use store::{Client, Db, TelemetryStore};
use telemetry_monitor::{TelemetryMonitor, Watched};
use testkit::{EmbeddedDynamoDb, Fault, FaultyHttp, reading, sdk_config};

fn at(seconds: i64) -> Instant {
    "2026-03-03T12:00:00Z".parse::<Instant>().unwrap() + TimeDelta::seconds(seconds)
}

async fn report(states: &TelemetryStore, station: &str, seconds: i64) -> bool {
    let sent = reading(station, at(seconds), 1);
    let message = Message::new(serde_json::from_value(sent.clone()).unwrap(), &sent);
    states.record(&message, at(seconds)).await.unwrap()
}

async fn watch(dynamodb: &EmbeddedDynamoDb, seconds: i64) -> Watched {
    watch_for(dynamodb, seconds, TimeDelta::minutes(1)).await.unwrap()
}

/// Runs the monitor with an invocation that may take at most `time`.
async fn watch_for(dynamodb: &EmbeddedDynamoDb, seconds: i64, time: TimeDelta) -> Result<Watched, Failure> {
    let monitor = TelemetryMonitor::new(dynamodb.telemetry(), Silence::of_interval(Duration::from_secs(5)));
    monitor.watch(&context(seconds, time)).await
}

fn context(seconds: i64, time: TimeDelta) -> Context {
    let now = at(seconds);
    Context { now, deadline: now + time, correlation_id: "c".to_owned(), request_id: "r".to_owned() }
}

/// Returns the event in the outbox of a station's state.
async fn riding(dynamodb: &EmbeddedDynamoDb, station: &str) -> Option<Envelope> {
    let items = dynamodb.items("ev-telemetry").await;
    let item = items.iter().find(|item| item["station_id"].as_s().unwrap() == station)?;
    let events: Vec<Envelope> = serde_json::from_str(item.get("outbox")?.as_s().unwrap()).unwrap();
    assert_eq!(events.len(), 1);
    events.into_iter().next()
}

fn told(envelope: &Envelope) -> (bool, Instant, u64) {
    let Event::TelemetryStale(stale) = &envelope.event else { panic!("{envelope:?}") };
    (stale.stale, stale.last_seen_at, stale.silent_seconds)
}

#[tokio::test]
async fn silence_and_return_are_reported_once_each() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let states = dynamodb.telemetry();
    report(&states, "a", 0).await;
    report(&states, "b", 10).await;
    assert_eq!(watch(&dynamodb, 15).await, Watched { stations: 2, whole_fleet: true, ..Watched::default() });
    let watched = watch(&dynamodb, 16).await;
    assert_eq!(watched, Watched { stations: 2, silent: 1, fell_silent: 1, came_back: 0, whole_fleet: true });
    let first = riding(&dynamodb, "a").await.unwrap();
    assert_eq!(told(&first), (true, at(0), 16));
    assert_eq!(riding(&dynamodb, "b").await, None);
    // The station is still silent and several runs check it concurrently. It is reported once.
    report(&states, "b", 30).await;
    let looks = futures::future::join_all((0..5).map(|_| watch(&dynamodb, 40))).await;
    assert!(looks.iter().all(|look| (look.silent, look.fell_silent) == (1, 0)), "{looks:?}");
    assert_eq!(riding(&dynamodb, "a").await.unwrap(), first);
    // A late message does not end the silence.
    assert!(!report(&states, "a", -5).await);
    assert_eq!(watch(&dynamodb, 41).await.came_back, 0);
    assert!(report(&states, "a", 42).await);
    assert_eq!(riding(&dynamodb, "a").await, None, "only the write of an event has it in the outbox");
    let back = watch(&dynamodb, 44).await;
    assert_eq!(back, Watched { stations: 2, silent: 0, fell_silent: 0, came_back: 1, whole_fleet: true });
    let second = riding(&dynamodb, "a").await.unwrap();
    assert_eq!(told(&second), (false, at(42), 42));
    assert_ne!(second.event_id, first.event_id);
    assert_eq!(watch(&dynamodb, 45).await.came_back, 0);
    // The station falls silent again, since the very message that ended the first silence.
    let again = watch(&dynamodb, 100).await;
    assert_eq!((again.silent, again.fell_silent), (2, 2));
    let third = riding(&dynamodb, "a").await.unwrap();
    assert_eq!(told(&third), (true, at(42), 58));
    assert!(![first.event_id, second.event_id].contains(&third.event_id));
}

#[tokio::test]
async fn a_station_that_reports_during_a_run_is_not_reported_as_silent() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let states = dynamodb.telemetry();
    report(&states, "a", 0).await;
    let read = states.load(&domain::id::SwapStationId::new("a").unwrap()).await.unwrap().unwrap();
    report(&states, "a", 60).await;
    let event = Event::TelemetryStale(domain::telemetry::TelemetryStale {
        station_id: read.reading.station_id.clone(),
        stale: true,
        last_seen_at: at(0),
        silent_seconds: 60,
    });
    let context = store::EventContext { correlation_id: "c".to_owned(), now: at(60) };
    assert!(states.set_silent(&read, true, event, &context).await.unwrap_err().is_stale());
    assert_eq!(riding(&dynamodb, "a").await, None);
}

/// Writes the states of `count` stations, all with the same time, as the handler writes them.
async fn fleet(dynamodb: &EmbeddedDynamoDb, count: usize) {
    let states = dynamodb.telemetry();
    let reports = (0..count).map(|number| (states.clone(), format!("s-{number:05}")));
    let reports = reports.map(|(states, station)| async move { report(&states, &station, 0).await });
    let written = futures::stream::iter(reports).buffer_unordered(32).filter(|new| std::future::ready(*new)).count();
    assert_eq!(written.await, count);
}

/// A run without time checks one page, and the next run continues after it. Therefore no station is always the last.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_continues_where_the_last_one_ran_out_of_time() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    fleet(&dynamodb, 2_300).await;
    for (number, (stations, whole)) in [(1_000, false), (1_000, false), (300, true)].into_iter().enumerate() {
        let run = watch_for(&dynamodb, 60, TimeDelta::zero()).await.unwrap();
        let expected = Watched { stations, silent: stations, fell_silent: stations, came_back: 0, whole_fleet: whole };
        assert_eq!(run, expected, "run {number}");
    }
    assert!(riding(&dynamodb, "s-02299").await.is_some(), "the last station was reached");
    // The next round starts at the first station, and a run with enough time completes it.
    let again = watch_for(&dynamodb, 61, TimeDelta::zero()).await.unwrap();
    assert_eq!((again.stations, again.fell_silent, again.whole_fleet), (1_000, 0, false));
    let rest = watch(&dynamodb, 62).await;
    assert_eq!((rest.stations, rest.silent, rest.whole_fleet), (1_300, 1_300, true));
    let round = watch(&dynamodb, 63).await;
    assert_eq!((round.stations, round.silent, round.whole_fleet), (2_300, 2_300, true));
}

/// A page that cannot be read ends a run. The next run tries the page again, and the run after that starts again at the
/// first station. Therefore stations before a page that stays unreadable are still checked.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_keeps_its_position_unless_it_failed_at_its_first_page() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    fleet(&dynamodb, 1_200).await;
    let http = FaultyHttp::default();
    let sdk = sdk_config(&dynamodb.endpoint()).to_builder().http_client(http.clone()).build();
    let states = TelemetryStore::new(Db::new(Client::new(&sdk)), "ev-telemetry");
    let monitor = TelemetryMonitor::new(states, Silence::of_interval(Duration::from_secs(5)));
    // Throttle so many calls that the read fails despite its retries, and a later write succeeds.
    let throttle_from = |call: u32| http.plan((call..call + 9).map(|call| (call, Fault::Throttle)).collect());
    // The calls are: the position, the keys of the first page, its states by hundreds, a write for each, then the keys
    // of the second page.
    throttle_from(1 + 1 + 10 + 1_000);
    monitor.watch(&context(60, TimeDelta::minutes(1))).await.unwrap_err();
    assert!(riding(&dynamodb, "s-00999").await.is_some(), "the first page was checked");
    assert!(riding(&dynamodb, "s-01000").await.is_none(), "the second was not");
    throttle_from(1);
    monitor.watch(&context(61, TimeDelta::minutes(1))).await.unwrap_err();
    report(&dynamodb.telemetry(), "s-00000", 62).await;
    http.plan([].into());
    let round = monitor.watch(&context(63, TimeDelta::minutes(1))).await.unwrap();
    assert_eq!((round.stations, round.came_back, round.fell_silent, round.whole_fleet), (1_200, 1, 200, true));
}

/// A run that is killed has saved no position and lost nothing. The next run checks the same pages again.
#[tokio::test(flavor = "multi_thread")]
async fn the_run_after_a_killed_run_checks_the_same_pages() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    fleet(&dynamodb, 1_100).await;
    watch_for(&dynamodb, 60, TimeDelta::zero()).await.unwrap();
    let http = FaultyHttp::default();
    let sdk = sdk_config(&dynamodb.endpoint()).to_builder().http_client(http.clone()).build();
    let states = TelemetryStore::new(Db::new(Client::new(&sdk)), "ev-telemetry");
    let monitor = TelemetryMonitor::new(states, Silence::of_interval(Duration::from_secs(5)));
    http.plan([(20, Fault::CrashAfter)].into());
    assert!(http.survive(monitor.watch(&context(61, TimeDelta::minutes(1)))).await.is_none());
    let rest = watch(&dynamodb, 62).await;
    assert_eq!((rest.stations, rest.silent, rest.whole_fleet), (100, 100, true));
    assert!(rest.fell_silent < 100, "changes that the killed run reported are not reported again: {rest:?}");
}

#[tokio::test]
async fn only_scheduled_events_start_a_run() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let monitor = TelemetryMonitor::new(dynamodb.telemetry(), Silence::of_interval(Duration::from_secs(5)));
    let now = at(0);
    let context = || Context { now, deadline: now, correlation_id: "c".to_owned(), request_id: "r".to_owned() };
    let refused = monitor.trigger(Trigger::Iot(json!({})), context()).await.unwrap_err();
    assert_eq!(refused.code().name(), "ValidationError");
    let scheduled = json!({ "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}, "resources": [] });
    let trigger = Trigger::Event(serde_json::from_value(scheduled).unwrap());
    let answer = monitor.trigger(trigger, context()).await.unwrap();
    let nothing = json!({ "stations": 0, "silent": 0, "fellSilent": 0, "cameBack": 0, "wholeFleet": true });
    assert_eq!(answer, nothing);
}
