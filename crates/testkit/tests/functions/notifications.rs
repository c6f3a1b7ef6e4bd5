//! Notifications: `notification_service`.

use domain::notifications::{Level, LogEntry, LogStatus};
use lambda_kit::{Clock, Door};
use notification_service::NotificationService;
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, FakeAws, invoke, low_below, no_redelivery, sdk_config, sqs_event};

use crate::bad_input::Kind::{Enum, Id, Integer, Text};
use crate::bad_input::{Case, attack};
use crate::openapi::{ADMIN, CLOCK, Recorder, now};
use crate::{nowhere, topics};

fn notification_cases() -> Vec<Case> {
    vec![
        Case(
            "notify",
            &[
                ("userId", false, Id),
                ("level", true, Enum),
                ("service", true, Text(64)),
                ("message", true, Text(2000)),
                ("audience", false, Enum),
                ("deduplicationKey", false, Text(255)),
            ],
            json!({ "level": "ERROR", "service": "test", "message": "m" }),
        ),
        Case(
            "listLogs",
            &[
                ("nextToken", false, Text(2048)),
                ("level", false, Enum),
                ("service", false, Text(64)),
                ("status", false, Enum),
                ("limit", false, Integer(1, 100)),
            ],
            json!({ "status": "OPEN" }),
        ),
        Case("acknowledgeLog", &[("id", true, Id)], json!({ "id": "none" })),
        Case("resolveLog", &[("id", true, Id)], json!({ "id": "none" })),
    ]
}

#[tokio::test]
async fn notification_service_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let sns = FakeAws::start(|_, _| (500, String::new())).await;
    let topics = topics(&sdk_config(&sns.endpoint()));
    let door = Door::new(
        NotificationService::new(dynamodb.error_logs(), topics, low_below("0"), None, no_redelivery()),
        Clock::SYSTEM,
    );
    let tried = attack(&door, notification_cases(), &[], &dynamodb).await;
    assert!(tried > 50, "{tried}");
    assert!(sns.calls().is_empty(), "nothing was published");
    // A message that is not one of Evoke's events is reported as failed, so that its queue keeps it for the dead-letter
    // queue.
    let answer = invoke(&door, sqs_event(&["{}".to_owned(), "not JSON".to_owned()])).await.unwrap();
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 2, "{answer}");
}

/// Records the examples of an error log with one entry.
pub async fn record(recorder: &mut Recorder, dynamodb: &EmbeddedDynamoDb) {
    let logs =
        NotificationService::new(dynamodb.error_logs(), topics(&nowhere()), low_below("0"), None, no_redelivery());
    let logs = Door::new(logs, CLOCK);
    let id = "5f0c3b8e-54a6-5d0e-9a44-0c1f7f4f5b11";
    let entry = LogEntry {
        id: id.parse().map(|id: uuid::Uuid| id.into()).expect("an id"),
        occurred_at: now(),
        level: Level::Error,
        service: "station_service".to_owned(),
        message: "Port port-2 of station station-1 failed: the cable is damaged".to_owned(),
        status: LogStatus::Open,
        correlation_id: Some("correlation-1".to_owned()),
        handled_by: None,
        handled_at: None,
        published: true,
        mailed: false,
        version: 1,
    };
    dynamodb.error_logs().insert(&entry, None, now()).await.expect("a written entry");
    let open: &[(&str, &str)] = &[("status", "OPEN")];
    recorder.ask(&logs, ("listLogs", "GET /error-logs", ADMIN), &[], open, Value::Null).await;
    let route = "POST /error-logs/{id}/transitions";
    let of_entry: &[(&str, &str)] = &[("id", id)];
    let to = |state: &str| json!({ "to": state });
    recorder.ask(&logs, ("acknowledgeLog", route, ADMIN), of_entry, &[], to("ACKNOWLEDGED")).await;
    recorder.ask(&logs, ("resolveLog", route, ADMIN), of_entry, &[], to("RESOLVED")).await;
}
