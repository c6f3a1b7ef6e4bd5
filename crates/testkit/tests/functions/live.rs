//! Live updates: `live_publisher`.

use aws_config::SdkConfig;
use lambda_kit::{Clock, Door};
use live_publisher::{Api, LivePublisher};
use serde_json::json;
use testkit::{EmbeddedDynamoDb, NOWHERE, invoke, sqs_event};

use crate::bad_input::Kind::{Array, Enum, Id, Integer, Number, Time};
use crate::bad_input::{Case, assert_refused, attack};
use crate::nowhere;

/// Returns an API at which nothing listens.
pub fn api(sdk: &SdkConfig) -> Api {
    Api::new(format!("{NOWHERE}/graphql").parse().unwrap(), sdk).unwrap()
}

fn live_cases() -> Vec<Case> {
    vec![
        Case(
            "publish",
            &[
                ("updates", true, Array),
                ("updates[0].kind", true, Enum),
                ("updates[0].stationId", true, Id),
                ("updates[0].at", true, Time),
                ("updates[0].sessions", true, Array),
                ("updates[0].sessions[0].portId", true, Id),
                ("updates[0].sessions[0].sessionId", true, Id),
                ("updates[0].sessions[0].percent", true, Number(0.0, 100.0)),
                ("updates[0].sessions[0].powerKw", true, Number(0.0, 5000.0)),
                ("updates[0].sessions[0].energyKwh", true, Number(0.0, 2000.0)),
            ],
            json!({ "updates": [{
                "kind": "stationProgress", "stationId": "s-1", "at": "2026-03-03T12:00:00Z",
                "sessions": [{ "portId": "p-1", "sessionId": "c-1", "percent": 40, "powerKw": 50, "energyKwh": 12.5 }]
            }] }),
        ),
        Case(
            "publish",
            &[
                ("updates[0].stationId", true, Id),
                ("updates[0].status", true, Enum),
                ("updates[0].batteryAvailable", true, Integer(0, 10_000)),
                ("updates[0].batteryCharging", true, Integer(0, 10_000)),
                ("updates[0].occurredAt", true, Time),
                ("updates[0].receivedAt", true, Time),
            ],
            json!({ "updates": [{
                "kind": "swapStation", "stationId": "swap-1", "status": "operational", "batteryAvailable": 4,
                "batteryCharging": 2, "occurredAt": "2026-03-03T12:00:00Z", "receivedAt": "2026-03-03T12:00:01Z"
            }] }),
        ),
    ]
}

#[tokio::test]
async fn live_publisher_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let door = Door::new(LivePublisher::new(api(&nowhere())), Clock::SYSTEM);
    let tried = attack(&door, live_cases(), &[], &dynamodb).await;
    assert!(tried > 80, "{tried}");
    let none = json!({ "action": "publish", "actor": { "userId": "system", "role": "SYSTEM" }, "updates": [] });
    assert_refused(&invoke(&door, none).await, "updates", "publish without updates");
    // A message that is not one of Evoke's events is reported as failed, so that its queue keeps it for the dead-letter
    // queue.
    let answer = invoke(&door, sqs_event(&["{}".to_owned(), "not JSON".to_owned()])).await.unwrap();
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 2, "{answer}");
}
