//! Sessions are listed by the time at which they entered their current status.

use chrono::Duration;
use domain::Instant;
use lambda_kit::Clock;
use serde_json::{Value, json};
use testkit::{Outcome, invoke};

use crate::common::{World, admin};

async fn list(world: &World, arguments: Value) -> Outcome {
    let mut command = json!({ "action": "listSessions", "actor": admin() });
    command.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
    invoke(&world.sessions, command).await
}

async fn listed(world: &World, arguments: Value) -> Vec<String> {
    let page = list(world, arguments).await.unwrap();
    page["items"].as_array().unwrap().iter().map(|item| item["sessionId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_window_finds_the_sessions_that_ended_in_it() {
    let world = World::new().await;
    let now = (Clock::SYSTEM.0)();
    let mut ended: Vec<(String, Instant)> = Vec::new();
    for (number, target) in [22, 30, 40].into_iter().enumerate() {
        let station = format!("s-{number}");
        world.station(&station, 1).await;
        let session = world.start(&station, "port-1", "u-1", json!({ "targetPercent": target })).await.unwrap();
        let tick = json!({ "tickAt": now + Duration::hours(1), "stationIds": [station] });
        invoke(&world.simulator, tick).await.unwrap();
        let id = session["sessionId"].as_str().unwrap();
        let get = json!({ "action": "getSession", "actor": admin(), "sessionId": id });
        let session = invoke(&world.sessions, get).await.unwrap();
        ended.push((id.to_owned(), session["endedAt"].as_str().unwrap().parse().unwrap()));
    }
    let [(first, _), (second, at), (third, _)] = ended.as_slice() else { panic!("{ended:?}") };
    let before = *at - Duration::milliseconds(1);
    let after = *at + Duration::milliseconds(1);
    for (window, expected) in [
        (json!({}), vec![third, second, first]),
        (json!({ "changedFrom": before, "changedTo": after }), vec![second]),
        (json!({ "changedFrom": after }), vec![third]),
        (json!({ "changedTo": before }), vec![first]),
        (
            json!({ "changedFrom": "0001-01-01T00:00:00Z", "changedTo": "9999-12-31T23:59:59-14:00" }),
            vec![third, second, first],
        ),
    ] {
        for by in [
            json!({ "status": "COMPLETED" }),
            json!({ "userId": "u-1" }),
            json!({ "userId": "u-1", "status": "COMPLETED" }),
        ] {
            let mut arguments = window.clone();
            arguments.as_object_mut().unwrap().extend(by.as_object().unwrap().clone());
            let found = listed(&world, arguments.clone()).await;
            // The lists of a user are ordered by the start.
            let (mut found, mut expected) = (found, expected.clone().into_iter().cloned().collect::<Vec<_>>());
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{arguments}");
        }
    }
    let (kind, message) =
        list(&world, json!({ "status": "COMPLETED", "changedFrom": after, "changedTo": before })).await.unwrap_err();
    assert_eq!(kind, "ValidationError");
    assert!(message.contains("changedFrom"), "{message}");
}
