//! A station that falls silent is reported once, and once more when it is back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::time::Duration;

use chrono::TimeDelta;
use domain::Instant;
use domain::event::{Envelope, Event};
use domain::telemetry::{Message, Silence};
use lambda_kit::{Context, Function, Trigger};
use serde_json::json;
use store::TelemetryStore;
use telemetry_monitor::{TelemetryMonitor, Watched};
use testkit::{EmbeddedDynamoDb, reading};

fn at(seconds: i64) -> Instant {
    "2026-03-03T12:00:00Z".parse::<Instant>().unwrap() + TimeDelta::seconds(seconds)
}

async fn report(states: &TelemetryStore, station: &str, seconds: i64) -> bool {
    let sent = reading(station, at(seconds), 1);
    let message = Message::new(serde_json::from_value(sent.clone()).unwrap(), &sent);
    states.record(&message, at(seconds)).await.unwrap()
}

async fn watch(dynamodb: &EmbeddedDynamoDb, seconds: i64) -> Watched {
    let monitor = TelemetryMonitor::new(dynamodb.telemetry(), Silence::of_interval(Duration::from_secs(5)));
    let now = at(seconds);
    let context = Context {
        now,
        deadline: now + TimeDelta::minutes(1),
        correlation_id: "c".to_owned(),
        request_id: "r".to_owned(),
    };
    monitor.watch(&context).await.unwrap()
}

/// The event that rides on a station's state.
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
async fn once_when_it_falls_silent_and_once_when_it_is_back() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let states = dynamodb.telemetry();
    report(&states, "a", 0).await;
    report(&states, "b", 10).await;
    assert_eq!(watch(&dynamodb, 15).await, Watched { stations: 2, ..Watched::default() });
    let watched = watch(&dynamodb, 16).await;
    assert_eq!(watched, Watched { stations: 2, silent: 1, fell_silent: 1, came_back: 0 });
    let first = riding(&dynamodb, "a").await.unwrap();
    assert_eq!(told(&first), (true, at(0), 16));
    assert_eq!(riding(&dynamodb, "b").await, None);
    // Silent still, and looked at by several at once: said once.
    report(&states, "b", 30).await;
    let looks = futures::future::join_all((0..5).map(|_| watch(&dynamodb, 40))).await;
    assert!(looks.iter().all(|look| (look.silent, look.fell_silent) == (1, 0)), "{looks:?}");
    assert_eq!(riding(&dynamodb, "a").await.unwrap(), first);
    // A late message is no sign of life.
    assert!(!report(&states, "a", -5).await);
    assert_eq!(watch(&dynamodb, 41).await.came_back, 0);
    assert!(report(&states, "a", 42).await);
    assert_eq!(riding(&dynamodb, "a").await, None, "an event rides on its own write alone");
    let back = watch(&dynamodb, 44).await;
    assert_eq!(back, Watched { stations: 2, silent: 0, fell_silent: 0, came_back: 1 });
    let second = riding(&dynamodb, "a").await.unwrap();
    assert_eq!(told(&second), (false, at(42), 42));
    assert_ne!(second.event_id, first.event_id);
    assert_eq!(watch(&dynamodb, 45).await.came_back, 0);
    // And again, from the very reading that said it was back.
    let again = watch(&dynamodb, 100).await;
    assert_eq!((again.silent, again.fell_silent), (2, 2));
    let third = riding(&dynamodb, "a").await.unwrap();
    assert_eq!(told(&third), (true, at(42), 58));
    assert!(![first.event_id, second.event_id].contains(&third.event_id));
}

#[tokio::test]
async fn a_station_that_reports_while_it_is_looked_at_is_not_called_silent() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let states = dynamodb.telemetry();
    report(&states, "a", 0).await;
    let read = states.load(&domain::id::StationId::new("a").unwrap()).await.unwrap().unwrap();
    report(&states, "a", 60).await;
    let event = Event::TelemetryStale(domain::event::TelemetryStale {
        station_id: read.reading.station_id.clone(),
        stale: true,
        last_seen_at: at(0),
        silent_seconds: 60,
    });
    let trace = store::Trace { correlation_id: "c".to_owned(), now: at(60) };
    assert!(states.set_silent(&read, true, event, &trace).await.unwrap_err().is_stale());
    assert_eq!(riding(&dynamodb, "a").await, None);
}

#[tokio::test]
async fn it_takes_schedules_alone() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let monitor = TelemetryMonitor::new(dynamodb.telemetry(), Silence::of_interval(Duration::from_secs(5)));
    let now = at(0);
    let context = || Context { now, deadline: now, correlation_id: "c".to_owned(), request_id: "r".to_owned() };
    let refused = monitor.trigger(Trigger::Iot(json!({})), context()).await.unwrap_err();
    assert_eq!(refused.code.name(), "ValidationError");
    let scheduled = json!({ "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}, "resources": [] });
    let trigger = Trigger::Event(serde_json::from_value(scheduled).unwrap());
    let answer = monitor.trigger(trigger, context()).await.unwrap();
    assert_eq!(answer, json!({ "stations": 0, "silent": 0, "fellSilent": 0, "cameBack": 0 }));
}
