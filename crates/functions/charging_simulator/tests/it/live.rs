//! The progress that a tick publishes: for each station once, after its changes were committed. A failed invocation
//! does not fail the tick, and the wait for an answer is bounded.
#![allow(clippy::cast_precision_loss)] // watt-hours of some minutes

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use charging_simulator::{ChargingSimulator, Config, MonotonicClock, Tick, TickAnswer};
use chrono::TimeDelta;
use domain::Instant;
use domain::live::Announcement;
use lambda_kit::{ConfigError, Env, FromEnv as _, RemoteFunction};
use serde_json::{Value, json};
use store::ChargingStore;
use testkit::{FakeAws, Fault, FaultyHttp, RecordedCall, invoke, sdk_config};

use crate::common::{World, context, door};

const VARIABLE: &str = "LIVE_PUBLISHER_FUNCTION";
const FUNCTION: &str = "ev-live-publisher-dev";

/// Starts a Lambda that answers every invocation with this status.
async fn lambda(status: u16) -> FakeAws {
    FakeAws::start(move |_, _| (status, String::new())).await
}

pub fn publisher(endpoint: &str) -> RemoteFunction {
    RemoteFunction::new(&sdk_config(endpoint), FUNCTION.to_owned())
}

fn simulator(world: &World, lambda: &FakeAws) -> ChargingSimulator {
    ChargingSimulator::new(world.dynamodb.charging(), None, 2_000).telling(Some(publisher(&lambda.endpoint())))
}

/// Returns the updates of each invocation so far. All must be asynchronous invocations of the action `publish`.
pub fn told(lambda: &FakeAws) -> Vec<Vec<Value>> {
    let updates = |call: &RecordedCall| {
        assert_eq!(call.path, format!("/2015-03-31/functions/{FUNCTION}/invocations"));
        assert_eq!(call.headers["x-amz-invocation-type"], "Event");
        let payload: Value = serde_json::from_str(&call.body).unwrap();
        assert_eq!((&payload["action"], &payload["actor"]["role"]), (&json!("publish"), &json!("SYSTEM")));
        serde_json::from_value::<Vec<Announcement>>(payload["updates"].clone()).unwrap();
        payload["updates"].as_array().unwrap().clone()
    };
    lambda.calls().iter().map(updates).collect()
}

#[tokio::test]
async fn a_tick_publishes_the_written_progress_of_each_station_once() {
    let (world, lambda) = (World::new().await, lambda(202).await);
    world.station("s-1", 2).await;
    world.station("s-2", 1).await;
    world.station_with("s-3", 2, 0).await;
    let simulator = door(simulator(&world, &lambda));
    let at = world.started().await + TimeDelta::minutes(1);
    // The second tick advances nothing, so there is nothing to tell.
    for (sessions, skipped) in [(3, 0), (3, 3)] {
        let answer = invoke(&simulator, json!({ "tickAt": at })).await.unwrap();
        assert_eq!((&answer["sessions"], &answer["skipped"]), (&json!(sessions), &json!(skipped)), "{answer}");
        assert_eq!(lambda.calls().len(), 1);
    }
    let mut stations = told(&lambda).remove(0);
    stations.sort_by_key(|station| station["stationId"].to_string());
    assert_eq!(stations.iter().map(|station| &station["stationId"]).collect::<Vec<_>>(), ["s-1", "s-2"]);
    let metered = world.metered().await;
    for (station, (sessions, power_kw)) in stations.iter().zip([(2, 50.0), (1, 100.0)]) {
        let progress = station["sessions"].as_array().unwrap();
        assert_eq!((&station["kind"], progress.len()), (&json!("stationProgress"), sessions), "{station}");
        assert_eq!(station["at"].as_str().unwrap().parse::<Instant>().unwrap(), at);
        for session in progress {
            let (of, metered_at, watt_hours) = &metered[&format!("SESSION#{}", session["sessionId"].as_str().unwrap())];
            assert_eq!((json!(of), *metered_at), (station["stationId"].clone(), at));
            let energy_kwh = *watt_hours as f64 / 1000.0;
            assert_eq!((&session["energyKwh"], &session["powerKw"]), (&json!(energy_kwh), &json!(power_kw)));
            let percent = session["percent"].as_f64().unwrap();
            assert!((percent - (5.0 + energy_kwh / 10.0)).abs() < 0.02, "{session}");
            assert!(session["portId"].as_str().unwrap().starts_with("port-"), "{session}");
            assert_eq!(session.as_object().unwrap().len(), 5, "no cost: {session}");
        }
    }
}

#[tokio::test]
async fn a_session_that_the_tick_ended_is_published_a_last_time() {
    let (world, lambda) = (World::new().await, lambda(202).await);
    world.station_with("s-1", 2, 1).await;
    world.start("s-1", 2, json!({ "limits": { "maxEnergyKwh": 0.5 } })).await;
    let simulator = door(simulator(&world, &lambda));
    let start = world.started().await;
    for minute in [1, 2] {
        invoke(&simulator, json!({ "tickAt": start + TimeDelta::minutes(minute) })).await.unwrap();
    }
    let ports = |update: &Value| -> Vec<Value> {
        let sessions = update["sessions"].as_array().unwrap().iter();
        sessions.filter(|session| session["portId"] == "port-2").cloned().collect()
    };
    let told = told(&lambda);
    let last = &ports(&told[0][0])[0];
    assert_eq!((&last["energyKwh"], &last["powerKw"]), (&json!(0.5), &json!(0.0)), "{last}");
    assert_eq!(ports(&told[1][0]), [Value::Null; 0]);
}

/// Whether Lambda takes the invocation or not, the tick does and answers the same.
#[tokio::test]
async fn a_tick_does_not_fail_with_its_announcements() {
    let mut answers = Vec::new();
    for status in [202, 400, 404, 429, 500] {
        let (world, lambda) = (World::new().await, lambda(status).await);
        world.station("s-1", 1).await;
        let at = world.started().await + TimeDelta::minutes(1);
        let mut answer = invoke(&door(simulator(&world, &lambda)), json!({ "tickAt": at })).await.unwrap();
        answer["tickAt"] = Value::Null;
        answers.push(answer);
        assert_eq!(lambda.calls().len(), 1, "{status}");
        assert!(world.metered().await.values().all(|(_, metered_at, _)| *metered_at == at), "{status}");
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

/// A simulator on whose clock each call to `DynamoDB` takes 0.1 s, and call number `long` ten seconds more.
fn timed(world: &World, endpoint: &str, long: Option<u64>) -> (ChargingSimulator, FaultyHttp) {
    let (http, elapsed) = (FaultyHttp::default(), Arc::new(AtomicU64::new(0)));
    let sdk = sdk_config(&world.dynamodb.endpoint()).into_builder().http_client(http.clone()).build();
    let store = ChargingStore::new(store::Client::new(&sdk), "ev-stations", "ev-sessions");
    let (calls, clock, counted) = (elapsed.clone(), elapsed, AtomicU64::new(0));
    http.before_each_call(move || {
        let is_long = long == Some(counted.fetch_add(1, Ordering::Relaxed));
        calls.fetch_add(if is_long { 10_100 } else { 100 }, Ordering::Relaxed);
    });
    let clock = MonotonicClock::new(move || Duration::from_millis(clock.load(Ordering::Relaxed)));
    (ChargingSimulator::new(store, None, 2_000).timed_by(clock).telling(Some(publisher(endpoint))), http)
}

async fn tick(simulator: &ChargingSimulator, at: Instant, seconds: i64) -> TickAnswer {
    simulator.tick(&Tick { tick_at: Some(at), ..Tick::default() }, &context(at, seconds)).await.unwrap()
}

/// Sixteen queries and the read of the session come before the write.
const WRITE: u32 = 17;

#[tokio::test]
async fn progress_that_was_not_written_is_not_published() {
    let (world, lambda) = (World::new().await, lambda(202).await);
    world.station("s-1", 1).await;
    let start = world.started().await;
    let (simulator, http) = timed(&world, &lambda.endpoint(), None);
    http.plan(BTreeMap::from([(WRITE, Fault::Hold)]));
    assert_eq!(tick(&simulator, start + TimeDelta::minutes(1), 5).await.skipped, 1, "the write is abandoned");
    assert!(lambda.calls().is_empty());
    http.plan(BTreeMap::new());
    assert_eq!(tick(&simulator, start + TimeDelta::minutes(2), 60).await.skipped, 0);
    assert_eq!(told(&lambda).len(), 1);
}

/// The answer of the tick comes first.
#[tokio::test]
async fn no_progress_is_published_when_the_time_is_up() {
    let (world, lambda) = (World::new().await, lambda(202).await);
    world.station("s-1", 1).await;
    let start = world.started().await;
    let (simulator, _) = timed(&world, &lambda.endpoint(), Some(WRITE.into()));
    let answer = tick(&simulator, start + TimeDelta::minutes(1), 12).await;
    assert_eq!((answer.sessions, answer.skipped), (1, 0), "{answer:?}");
    assert!(lambda.calls().is_empty());
}

/// A connection on which nothing is answered. Without a limit, the tick would wait until Lambda aborts it.
#[tokio::test]
async fn a_tick_does_not_wait_for_a_lambda_that_does_not_answer() {
    let world = World::new().await;
    world.station("s-1", 1).await;
    let start = world.started().await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (simulator, _) = timed(&world, &format!("http://{}", silent.local_addr().unwrap()), None);
    let answer = tick(&simulator, start + TimeDelta::minutes(1), 60).await;
    assert_eq!((answer.sessions, answer.skipped), (1, 0), "{answer:?}");
}

#[test]
fn the_configuration_names_the_function_or_none() {
    let config = |value: &str| -> Result<Option<String>, ConfigError> {
        let variables = Config::VARIABLES.iter().map(|name| (*name, if *name == VARIABLE { value } else { "7" }));
        Config::from_env(&variables.collect::<Env>()).map(|config| config.live_publisher)
    };
    assert_eq!(config(FUNCTION).unwrap(), Some(FUNCTION.to_owned()));
    assert_eq!(config("none").unwrap(), None);
    assert!(matches!(config(""), Err(ConfigError::Missing(VARIABLE))));
}
