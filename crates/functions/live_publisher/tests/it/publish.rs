use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use aws_credential_types::Credentials;
use chrono::TimeDelta;
use domain::Instant;
use domain::event::Envelope;
use domain::live::{EVENT_TYPES, Update, updates};
use lambda_kit::{Clock, Code, Context, Door, Function as _, Trigger};
use live_publisher::{Api, LivePublisher, Mutation};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use testkit::{NOWHERE, invoke, sdk_config, seeded, sqs_event};
use tokio::runtime::Builder;

use crate::appsync::{AppSync, Fault, Mutated, credentials};
use crate::schema::Schema;

const CONTRACTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../events/contracts");

/// Returns the example of each event, as a rule of the bus delivers it, by its type.
fn events() -> BTreeMap<String, Value> {
    let mut events = BTreeMap::new();
    for entry in fs::read_dir(CONTRACTS).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".example.json") {
            continue;
        }
        let detail: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        // The readings of battery-swap stations are no events of the bus.
        if detail.get("eventType").is_some() {
            events.insert(detail["eventType"].as_str().unwrap().to_owned(), on_the_bus(&detail));
        }
    }
    events
}

fn on_the_bus(detail: &Value) -> Value {
    json!({
        "version": "0", "id": "c0a8f1de-0000-4000-8000-000000000001", "detail-type": detail["eventType"],
        "source": "evoke", "account": "123456789012", "time": "2026-02-22T10:51:02Z", "region": "eu-central-1",
        "resources": [], "detail": detail
    })
}

fn event(event_type: &str) -> Value {
    events().remove(event_type).unwrap()
}

fn by_system(updates: &Value) -> Value {
    json!({ "action": "publish", "actor": { "userId": "system", "role": "SYSTEM" }, "updates": updates })
}

fn progress(station: &str) -> Value {
    let session = |number: u32| {
        let (port, session) = (format!("port-{number}"), format!("session-{number}"));
        json!({ "portId": port, "sessionId": session, "percent": 41.5, "powerKw": 49.875, "energyKwh": 12.5 })
    };
    json!({
        "kind": "stationProgress", "stationId": station, "at": "2026-03-03T12:00:00Z",
        "sessions": [session(1), session(2)]
    })
}

fn swap_station() -> Value {
    json!({
        "kind": "swapStation", "stationId": "swap-1", "status": "degraded", "batteryAvailable": 4,
        "batteryCharging": 2, "occurredAt": "2026-03-03T12:00:00Z", "receivedAt": "2026-03-03T12:00:01Z"
    })
}

/// Returns the mutations that an event must cause.
fn expected(event: &Value) -> BTreeSet<String> {
    let envelope: Envelope = serde_json::from_value(event["detail"].clone()).unwrap();
    let mutation = |update: &Update| format!("{} {}", Mutation::of(update).field, json!(update));
    updates(&envelope).iter().map(mutation).collect()
}

fn distinct(taken: &[Mutated]) -> BTreeSet<String> {
    taken.iter().map(|mutated| format!("{} {}", mutated.field, mutated.input)).collect()
}

#[tokio::test]
async fn each_update_of_an_event_is_published_by_one_mutation() {
    let schema = Schema::read();
    let events = events();
    for event_type in EVENT_TYPES {
        let fields: &[&str] = match event_type {
            "SESSION_STARTED" | "SESSION_ENDED" => &["publishSession", "publishStation"],
            "WALLET_TOPPED_UP" | "PAYMENT_COMPLETED" | "CREDIT_NOTE_ISSUED" => &["publishWallet"],
            "ERROR_LOGGED" => &["publishOperatorAlert"],
            _ => &["publishStation"],
        };
        let appsync = AppSync::start().await;
        let answer = invoke(&appsync.door(), events[event_type].clone()).await.unwrap();
        assert_eq!(answer, json!({ "published": fields.len() }), "{event_type}");
        let taken = appsync.taken();
        assert_eq!(taken.iter().map(|mutated| mutated.field.as_str()).collect::<Vec<_>>(), fields, "{event_type}");
        for Mutated { field, input, sent } in &taken {
            schema.check_input(field, input);
            for (name, value) in input.as_object().unwrap() {
                assert_eq!(sent[name], *value, "subscribers do not get {field}.{name}");
            }
        }
        assert_eq!(distinct(&taken), expected(&events[event_type]), "{event_type}");

        // Another attempt does the same.
        invoke(&appsync.door(), events[event_type].clone()).await.unwrap();
        let twice: Vec<Mutated> = taken.iter().flat_map(|mutated| [mutated.clone(), mutated.clone()]).collect();
        assert_eq!(appsync.taken(), twice, "{event_type}");
    }
}

#[tokio::test]
async fn other_events_and_events_of_unknown_types_are_ignored() {
    let appsync = AppSync::start().await;
    let door = appsync.door();
    let mut others = events();
    others.retain(|event_type, _| !EVENT_TYPES.contains(&event_type.as_str()));
    assert!(others.len() > 5, "{:?}", others.keys());
    let unknown = json!({ "eventType": "LOT_CHANGED", "lotId": "lot-1" });
    for event in others.into_values().chain([on_the_bus(&unknown)]) {
        assert_eq!(invoke(&door, event.clone()).await, Ok(json!({ "published": 0 })), "{event}");
        let answer = invoke(&door, sqs_event(&[event.to_string()])).await;
        assert_eq!(answer, Ok(json!({ "batchItemFailures": [] })), "{event}");
    }
    assert_eq!(appsync.calls(), 0);
}

/// Subscribers could not tell whether such an update is newer than what they know.
#[tokio::test]
async fn no_update_follows_from_an_event_without_versions() {
    let appsync = AppSync::start().await;
    let door = appsync.door();
    let fields = ["version", "stationVersion", "walletVersion", "balance", "portStatus"];
    let counts = ["ports", "freePorts", "chargingPorts", "failedPorts"];
    for event_type in [
        "SESSION_STARTED",
        "SESSION_ENDED",
        "STATION_STATUS_CHANGED",
        "PORT_FAILED",
        "PAYMENT_COMPLETED",
        "CREDIT_NOTE_ISSUED",
    ] {
        let mut event = event(event_type);
        let detail = event["detail"].as_object_mut().unwrap();
        let before = detail.len();
        detail.retain(|name, _| !fields.contains(&name.as_str()) && !counts.contains(&name.as_str()));
        assert!(detail.len() < before, "{event_type}");
        assert_eq!(invoke(&door, event).await, Ok(json!({ "published": 0 })), "{event_type}");
    }
    assert_eq!(appsync.calls(), 0);
}

#[tokio::test]
async fn the_action_publishes_announcements() {
    let (appsync, schema) = (AppSync::start().await, Schema::read());
    let door = appsync.door();
    let mut given = json!([progress("s-1"), progress("s-2"), swap_station()]);
    for attempt in 1..=2 {
        let answer = invoke(&door, by_system(&given)).await;
        assert_eq!(answer, Ok(json!({ "published": 3 })));
        assert_eq!(appsync.taken().len(), 3 * attempt);
    }
    let taken = appsync.taken();
    for Mutated { field, input, sent } in &taken {
        schema.check_input(field, input);
        assert_eq!(sent, input, "subscribers get everything");
    }
    let fields: Vec<&str> = taken.iter().step_by(2).map(|mutated| mutated.field.as_str()).collect();
    assert_eq!(fields, ["publishStationProgress", "publishStationProgress", "publishSwapStation"]);
    for update in given.as_array_mut().unwrap() {
        update.as_object_mut().unwrap().remove("kind");
        assert_eq!(taken.iter().filter(|mutated| mutated.input == *update).count(), 2, "{update}");
    }
}

#[tokio::test]
async fn the_action_is_for_the_role_system() {
    let appsync = AppSync::start().await;
    for role in ["ADMIN", "TECH_SUPPORT", "USER"] {
        let mut request = by_system(&json!([swap_station()]));
        request["actor"] = json!({ "userId": "u-1", "role": role });
        let (kind, message) = invoke(&appsync.door(), request).await.unwrap_err();
        assert_eq!((kind.as_str(), message.as_str()), ("ForbiddenError", "publish is for role SYSTEM"), "{role}");
    }
    assert_eq!(appsync.calls(), 0);
}

/// The invocation fails, so that Lambda repeats it. The other update of the event is published nevertheless.
#[tokio::test]
async fn a_mutation_that_is_not_published_fails_the_invocation() {
    let all = expected(&event("SESSION_ENDED"));
    for (fault, expected, published) in [
        (Fault::Status(500), "UnavailableError", 1),
        (Fault::Status(503), "UnavailableError", 1),
        (Fault::Status(429), "UnavailableError", 1),
        (Fault::LostAnswer, "UnavailableError", 2),
        (Fault::Status(400), "InternalError", 1),
        (Fault::Status(401), "InternalError", 1),
        (Fault::Error, "InternalError", 1),
        (Fault::NoData, "InternalError", 1),
        (Fault::Page, "InternalError", 1),
    ] {
        let appsync = AppSync::faulty(move |_, before| (before == 0).then_some(fault)).await;
        let door = appsync.door();
        let (kind, message) = invoke(&door, event("SESSION_ENDED")).await.unwrap_err();
        assert_eq!(kind, expected, "{fault:?}: {message}");
        assert!(!message.contains("Not Authorized") && !message.contains("127.0.0.1"), "{message}");
        assert_eq!((appsync.calls(), appsync.taken().len()), (2, published), "{fault:?}");

        invoke(&door, event("SESSION_ENDED")).await.unwrap();
        assert_eq!((appsync.calls(), appsync.taken().len()), (4, published + 2), "{fault:?}");
        assert_eq!(distinct(&appsync.taken()), all, "{fault:?}");
    }
}

#[tokio::test]
async fn an_api_that_cannot_be_reached_fails_the_invocation() {
    let api = Api::new(format!("{NOWHERE}/graphql").parse().unwrap(), &sdk_config(NOWHERE)).unwrap();
    let door = Door::new(LivePublisher::new(api), Clock::SYSTEM);
    for request in [event("PORT_RESET"), by_system(&json!([swap_station()]))] {
        let (kind, _) = invoke(&door, request).await.unwrap_err();
        assert_eq!(kind, "UnavailableError");
    }
}

#[tokio::test]
async fn another_role_is_refused() {
    let appsync = AppSync::start().await;
    for (key, secret, token) in
        [("OTHER", "secret", "session-token"), ("AKIDEXAMPLE", "x", "session-token"), ("AKIDEXAMPLE", "secret", "x")]
    {
        let credentials = Credentials::new(key, secret, Some(token.to_owned()), None, "test");
        let (kind, _) = invoke(&appsync.door_of(credentials), event("PORT_RESET")).await.unwrap_err();
        assert_eq!(kind, "InternalError", "{key} {secret} {token}");
    }
    assert_eq!((appsync.calls(), appsync.taken().len()), (3, 0));
}

/// `dlq_reconciler` passes events that failed before on as messages of a queue.
#[tokio::test]
async fn messages_of_a_queue_are_published_and_failed_messages_are_reported() {
    let appsync =
        AppSync::faulty(|field, before| (field == "publishWallet" && before < 4).then_some(Fault::Error)).await;
    let door = appsync.door();
    let names = ["PORT_RESET", "WALLET_TOPPED_UP", "SESSION_ENDED"];
    let bodies: Vec<String> = names.iter().map(|name| event(name).to_string()).collect();
    let answer = invoke(&door, sqs_event(&bodies)).await.unwrap();
    assert_eq!(answer, json!({ "batchItemFailures": [{ "itemIdentifier": "m-1" }] }));
    assert_eq!(appsync.taken().len(), 3);
    let answer = invoke(&door, sqs_event(&bodies)).await.unwrap();
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
    assert_eq!(appsync.taken().len(), 7);
    let all: BTreeSet<String> = names.iter().flat_map(|name| expected(&event(name))).collect();
    assert_eq!(distinct(&appsync.taken()), all);
}

/// An update is not begun that could not end before Lambda aborts the invocation.
#[tokio::test]
async fn no_update_is_begun_shortly_before_the_deadline() {
    let appsync = AppSync::start().await;
    let publisher = appsync.publisher(credentials());
    let context = |time_left: TimeDelta| {
        let now: Instant = "2026-03-03T12:00:00Z".parse().unwrap();
        let ids = ("request-1".to_owned(), "correlation-1".to_owned());
        Context { now, deadline: now + time_left, request_id: ids.0, correlation_id: ids.1 }
    };
    let trigger = || Trigger::Event(serde_json::from_value(event("SESSION_ENDED")).unwrap());
    let failure = publisher.trigger(trigger(), context(TimeDelta::milliseconds(5_999))).await.unwrap_err();
    assert_eq!((failure.code(), appsync.calls()), (Code::Unavailable, 0));
    publisher.trigger(trigger(), context(TimeDelta::minutes(5))).await.unwrap();
    assert_eq!(appsync.calls(), 2);
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Status(503)),
        Just(Fault::Status(400)),
        Just(Fault::Error),
        Just(Fault::NoData),
        Just(Fault::Page),
        Just(Fault::LostAnswer),
    ]
}

/// Lambda repeats a failed invocation. Whatever fails, and in whatever order events come, subscribers get every update
/// at least once and nothing else.
#[test]
fn repeated_invocations_publish_every_update() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let case = (
        prop::sample::subsequence(EVENT_TYPES.to_vec(), 1..6).prop_shuffle(),
        prop::collection::vec(prop::option::weighted(0.4, fault()), 0..24),
    );
    let mut runner = TestRunner::new(seeded(60));
    let all = events();
    let result = runner.run(&case, |(types, faults)| {
        runtime.block_on(async {
            let attempts = faults.len() + 1;
            let appsync = AppSync::faulty(move |_, before| faults.get(before).copied().flatten()).await;
            let door = appsync.door();
            let mut left: Vec<&Value> = types.iter().map(|event_type| &all[*event_type]).collect();
            let wanted: BTreeSet<String> = left.iter().flat_map(|event| expected(event)).collect();
            for _ in 0..attempts {
                let mut failed = Vec::new();
                for event in left {
                    if invoke(&door, event.clone()).await.is_err() {
                        failed.push(event);
                    }
                }
                left = failed;
            }
            prop_assert!(left.is_empty(), "{:?}", left);
            prop_assert_eq!(distinct(&appsync.taken()), wanted);
            Ok(())
        })
    });
    result.unwrap();
}
