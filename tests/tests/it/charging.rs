//! Charging sessions on the deployed stack, through direct invocations and the event bus.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput;
use aws_sdk_lambda::types::{Environment, LastUpdateStatus};
use e2e::{Outcome, RESERVED_SHARD, SHARDS, Stack, Tap, admin, eventually, minutes_after, text};
use futures::FutureExt;
use serde_json::{Value, json};

fn ends(events: &[Value]) -> usize {
    events.iter().filter(|event| event["eventType"] == "SESSION_ENDED").count()
}

/// Returns the events by id. Asserts that duplicates are the same event.
fn by_id(events: &[Value]) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for event in events {
        let id = text(event, "eventId").to_owned();
        let known = all.entry(id).or_insert_with(|| event.clone());
        assert_eq!(known, event, "two events have the same id");
    }
    all
}

async fn fifty<F: Future<Output = Outcome> + Send + 'static>(call: impl Fn(usize) -> F) -> Vec<Outcome> {
    let tasks: Vec<_> = (0..50).map(|n| tokio::spawn(call(n))).collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_start_to_finish_with_its_events_and_notification() {
    let stack = Stack::open().await;
    let station = stack.station(2).await;
    let tap = Tap::of_sessions(&stack, &[&station]).await;
    let session = stack.start(&station, 1, "u-1", json!({ "targetPercent": 80 })).await.unwrap();
    assert_eq!((text(&session, "status"), text(&session, "cost")), ("STARTED", "0.00"));
    let id = text(&session, "sessionId").to_owned();

    let tick = stack.tick(&station, minutes_after(&session, 18)).await.unwrap();
    // Either this tick or the scheduled one of the minute was the first of the session.
    assert_eq!((&tick["sessions"], &tick["stations"], &tick["completed"]), (&json!(1), &json!(1), &json!(0)));
    let running = stack.session(&id).await;
    // 100 kW for 18 minutes are 30 kWh: from 20 % to 70 % of 60 kWh, where the taper begins.
    assert_eq!((text(&running, "status"), &running["energyKwh"]), ("IN_PROGRESS", &json!(30.0)));
    assert!((running["chargePercent"].as_f64().unwrap() - 70.0).abs() < 1e-6);
    let quote = json!({ "action": "quote", "stationId": station, "energyKwh": 30, "minutes": 18 });
    let quote = stack.invoke("SessionService", quote).await.unwrap();
    assert_eq!((text(&running, "cost"), text(&quote, "cost")), ("14.70", "14.70"), "one price engine prices both");

    let tick = stack.tick(&station, minutes_after(&session, 60)).await.unwrap();
    assert_eq!(tick["completed"], 1);
    let ended = stack.session(&id).await;
    // Another 6 kWh at 60 kW take six minutes. The session ends at exactly that time within the tick.
    assert_eq!((text(&ended, "status"), text(&ended, "endReason")), ("COMPLETED", "TARGET_REACHED"));
    assert_eq!((&ended["energyKwh"], &ended["durationMinutes"]), (&json!(36.0), &json!(24.0)));
    let (kind, message) = stack.stop(&id, "u-1").await.unwrap_err();
    assert_eq!(kind, "ConflictError");
    assert!(message.contains("COMPLETED"), "{message}");

    let events = tap.read(|events| ends(events) > 0 && events.len() >= 2).await;
    let events = by_id(&events);
    let types: BTreeSet<&str> = events.values().map(|event| text(event, "eventType")).collect();
    assert_eq!(types, BTreeSet::from(["SESSION_STARTED", "SESSION_ENDED"]));
    let end = events.values().find(|event| event["eventType"] == "SESSION_ENDED").unwrap();
    assert_eq!(
        (&end["energyKwh"], text(end, "status"), text(end, "sessionId")),
        (&json!(36.0), "COMPLETED", id.as_str())
    );
    let periods = end["chargingPeriods"].as_array().unwrap();
    let energy: f64 = periods.iter().map(|period| period["energyKwh"].as_f64().unwrap()).sum();
    assert!((energy - 36.0).abs() < 1e-9 && periods.len() == 2, "{periods:?}");
    assert_eq!(end["tariff"]["elements"][0]["price_components"][0]["price"], "0.49");
    tap.close().await;

    eventually("the user's notification", || async {
        let list = json!({ "action": "listLogs", "actor": admin(), "service": "evoke.sessions", "limit": 100 });
        let logs = stack.invoke("NotificationService", list).await.unwrap();
        let told = logs["items"].as_array().unwrap().iter().any(|log| text(log, "message").contains(&id));
        told.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_starts_on_one_port_or_with_one_key_give_one_session() {
    let stack = Stack::open().await;
    let station = stack.station(2).await;
    let tap = Tap::of_sessions(&stack, &[&station]).await;
    let outcomes = fifty(|n| {
        let (stack, station) = (stack.clone(), station.clone());
        async move { stack.start(&station, 1, &format!("u-{n}"), json!({})).await }
    })
    .await;
    let started = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let conflicts =
        outcomes.iter().filter(|outcome| matches!(outcome, Err((kind, _)) if kind == "ConflictError")).count();
    assert_eq!((started, conflicts), (1, 49), "{outcomes:?}");

    let outcomes = fifty(|_| {
        let (stack, station) = (stack.clone(), station.clone());
        async move { stack.start(&station, 2, "u-1", json!({ "idempotencyKey": "e2e-key" })).await }
    })
    .await;
    let ids: BTreeSet<String> = outcomes.iter().map(|o| text(o.as_ref().unwrap(), "sessionId").to_owned()).collect();
    assert_eq!(ids.len(), 1, "one key gives one session");
    let events = by_id(&tap.read(|events| by_id(events).len() >= 2).await);
    assert_eq!(events.len(), 2, "one event for each of the two sessions: {events:?}");
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_a_stop_and_ticks_try_to_end_at_once_ends_once() {
    let stack = Stack::open().await;
    let stations = [stack.station(1).await, stack.station(1).await, stack.station(1).await];
    let tap = Tap::of_sessions(&stack, &stations.each_ref().map(String::as_str)).await;
    for station in &stations {
        let session = stack.start(station, 1, "u-1", json!({ "targetPercent": 30 })).await.unwrap();
        stack.tick(station, minutes_after(&session, 1)).await.unwrap();
        let id = text(&session, "sessionId").to_owned();
        let stops = (0..3).map(|_| {
            let (stack, id) = (stack.clone(), id.clone());
            tokio::spawn(async move { stack.stop(&id, "u-1").await })
        });
        let ticks = (0..3).map(|n| {
            let (stack, station) = (stack.clone(), station.clone());
            let at = minutes_after(&session, 30 + n);
            tokio::spawn(async move { stack.tick(&station, at).await })
        });
        let mut stopped = 0;
        for (index, task) in stops.chain(ticks).collect::<Vec<_>>().into_iter().enumerate() {
            match task.await.unwrap() {
                Ok(_) if index < 3 => stopped += 1,
                Ok(_) => {}
                Err((kind, message)) => assert_eq!((kind.as_str(), index < 3), ("ConflictError", true), "{message}"),
            }
        }
        assert!(stopped <= 1, "stopped {stopped} times");
        assert!(["COMPLETED", "INTERRUPTED"].contains(&text(&stack.session(&id).await, "status")));
    }
    // Wait for all three ends, then look for unwanted ones: everything was written before the last answer.
    tap.read(|events| ends(&by_id(events).into_values().collect::<Vec<_>>()) >= 3).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let late = tap.read(|_| true).await;
    assert_eq!(ends(&late), 0, "{late:?}");
    tap.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_and_repeated_ticks_meter_once() {
    let stack = Stack::open().await;
    let station = stack.station(1).await;
    let session = stack.start(&station, 1, "u-1", json!({ "vehicle": { "batteryCapacityKwh": 1000 } })).await.unwrap();
    stack.tick(&station, minutes_after(&session, 30)).await.unwrap();
    let at = minutes_after(&session, 60);
    let outcomes = fifty(|_| {
        let (stack, station) = (stack.clone(), station.clone());
        async move { stack.tick(&station, at).await }
    })
    .await;
    let metered: f64 = outcomes.iter().map(|o| o.as_ref().unwrap()["energyKwh"].as_f64().unwrap()).sum();
    assert!((metered - 50.0).abs() < 1e-6, "fifty overlapping ticks metered {metered} kWh");
    let late = stack.tick(&station, minutes_after(&session, 10)).await.unwrap();
    assert_eq!((&late["skipped"], &late["energyKwh"]), (&json!(1), &json!(0.0)));
    assert_eq!(stack.session(text(&session, "sessionId")).await["energyKwh"], 100.0);
    stack.stop(text(&session, "sessionId"), "u-1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_out_of_order_station_fails_its_sessions_and_operators_are_notified() {
    let stack = Stack::open().await;
    let station = stack.station(3).await;
    let mut ids = Vec::new();
    for port in 1..=2 {
        let session = stack.start(&station, port, "u-1", json!({})).await.unwrap();
        ids.push(text(&session, "sessionId").to_owned());
    }
    let user = json!({ "action": "transitionStation", "actor": { "userId": "u", "role": "USER" }, "stationId": station, "to": "OUT_OF_ORDER" });
    assert_eq!(stack.invoke("StationService", user).await.unwrap_err().0, "ForbiddenError");
    stack.transition(&station, "OUT_OF_ORDER").await.unwrap();
    for id in &ids {
        let session = stack.session(id).await;
        assert_eq!((text(&session, "status"), text(&session, "endReason")), ("FAILED", "STATION_OUT_OF_ORDER"));
        assert_eq!(text(&session, "cost"), "0.00", "a failed session is not billed");
    }
    assert_eq!(stack.start(&station, 3, "u-1", json!({})).await.unwrap_err().0, "ConflictError");
    let (kind, message) = stack.transition(&station, "MAINTENANCE").await.unwrap_err();
    assert_eq!(kind, "ConflictError");
    assert!(message.contains("ACTIVE"), "the message names the allowed states: {message}");
    eventually("the operators' log", || async {
        let list = json!({ "action": "listLogs", "actor": admin(), "status": "OPEN", "limit": 100 });
        let logs = stack.invoke("NotificationService", list).await.unwrap();
        let all = logs["items"].as_array().unwrap().clone();
        all.into_iter().find(|log| text(log, "message").contains(&format!("{station} went OUT_OF_ORDER")))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_the_simulators_queue_advances_its_shard() {
    let stack = Stack::open().await;
    let station = stack.station_where(1, |shard| shard == RESERVED_SHARD).await;
    let session = stack.start(&station, 1, "u-1", json!({ "vehicle": { "batteryCapacityKwh": 1000 } })).await.unwrap();
    // The message that the simulator sends to its own queue if there are too many sessions for one invocation.
    let sqs = aws_sdk_sqs::Client::new(&stack.config);
    let message = json!({ "tickAt": minutes_after(&session, 30), "shard": RESERVED_SHARD, "shards": SHARDS });
    sqs.send_message().queue_url(stack.output("ShardQueueUrl")).message_body(message.to_string()).send().await.unwrap();
    let tick = Box::pin(eventually("the tick of the session's shard", || async {
        let session = stack.session(text(&session, "sessionId")).await;
        (session["energyKwh"].as_f64().unwrap() >= 50.0).then_some(())
    }));
    if has_shards(&stack).await {
        tick.await;
    } else {
        Box::pin(stack.while_read("ChargingSimulator", "Shard", tick)).await;
    }
    stack.stop(text(&session, "sessionId"), "u-1").await.unwrap();
}

/// Returns the configuration of the simulator.
async fn simulator(stack: &Stack) -> GetFunctionConfigurationOutput {
    let lambda = aws_sdk_lambda::Client::new(&stack.config);
    let function = stack.output("ChargingSimulatorFunctionName");
    lambda.get_function_configuration().function_name(function).send().await.unwrap()
}

/// Returns whether the stack was deployed with `SimulatorShards`, so that the simulator reads its queue.
async fn has_shards(stack: &Stack) -> bool {
    let variables = simulator(stack).await.environment.and_then(|environment| environment.variables);
    variables.is_some_and(|variables| variables["SIMULATOR_SHARDS"] != "0")
}

/// Sets environment variables of the simulator, waits until the change is active, and returns the previous values.
async fn set_simulator_variables(stack: &Stack, values: HashMap<String, String>) -> HashMap<String, String> {
    let lambda = aws_sdk_lambda::Client::new(&stack.config);
    let function = stack.output("ChargingSimulatorFunctionName");
    let mut variables =
        simulator(stack).await.environment.and_then(|environment| environment.variables).unwrap_or_default();
    let before = values.keys().map(|name| (name.clone(), variables[name].clone())).collect();
    variables.extend(values);
    let environment = Environment::builder().set_variables(Some(variables)).build();
    lambda.update_function_configuration().function_name(function).environment(environment).send().await.unwrap();
    eventually("the changed environment", || async {
        let now = simulator(stack).await;
        (now.last_update_status == Some(LastUpdateStatus::Successful)).then_some(())
    })
    .await;
    before
}

/// The deployed simulator is made to treat any fleet as a large one: it sends a tick to its queue, which brings it
/// back. Meanwhile the scheduled ticks use the queue too. No other test runs at the same time: see
/// `.config/nextest.toml`.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_fleet_is_handed_on_through_the_queue() {
    let variables = [("SIMULATOR_INLINE_SESSIONS", 0), ("SIMULATOR_SHARDS", SHARDS)];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_string()));
    let stack = Stack::open().await;
    let station = stack.station(1).await;
    let session = stack.start(&station, 1, "u-1", json!({ "vehicle": { "batteryCapacityKwh": 1000 } })).await.unwrap();
    let id = text(&session, "sessionId").to_owned();
    let is_read = has_shards(&stack).await;
    let before = set_simulator_variables(&stack, variables.into()).await;
    let handed_on = Box::pin(async {
        // An execution environment from before the change may still answer.
        let tick = eventually("a tick that is handed on", || async {
            let tick = stack.invoke("ChargingSimulator", json!({})).await.unwrap();
            (tick["dispatchedShards"] != Value::Null).then_some(tick)
        })
        .await;
        assert_eq!((&tick["dispatchedShards"], &tick["sessions"]), (&json!(SHARDS), &json!(0)), "{tick}");
        let at: chrono::DateTime<chrono::Utc> = text(&tick, "tickAt").parse().unwrap();
        eventually("the handed-on tick of the session", || async {
            let session = stack.session(&id).await;
            let metered_at: chrono::DateTime<chrono::Utc> = text(&session, "meteredAt").parse().unwrap();
            (metered_at >= at).then_some(session)
        })
        .await
    });
    let handed_on = Box::pin(async {
        if is_read { handed_on.await } else { stack.while_read("ChargingSimulator", "Shard", handed_on).await }
    });
    let handed_on = AssertUnwindSafe(handed_on).catch_unwind().await;
    set_simulator_variables(&stack, before).await;
    let session = handed_on.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_eq!(text(&session, "status"), "IN_PROGRESS");
    stack.stop(&id, "u-1").await.unwrap();
}
