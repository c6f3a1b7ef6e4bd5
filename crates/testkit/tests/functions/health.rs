//! The state of the platform: `health_check`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::DateTime;
use health_check::HealthCheck;
use lambda_kit::{Clock, Door};
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, FakeAws, http_event, invoke, sdk_config};

use crate::nowhere;
use crate::openapi::{CLOCK, Recorder};

#[tokio::test]
async fn health_check_degrades_instead_of_failing() {
    let aws = FakeAws::start(|_, _| (400, json!({ "__type": "ResourceNotFoundException" }).to_string())).await;
    let dynamodb = EmbeddedDynamoDb::start().await;
    for (tables, bus, status, http) in [
        (vec![], None, "healthy", 200),
        (vec!["ev-stations"], None, "healthy", 200),
        (vec!["ev-stations", "gone"], None, "degraded", 200),
        (vec!["ev-stations"], Some("bus"), "degraded", 200),
        (vec!["gone", "gone-too"], None, "unhealthy", 503),
    ] {
        let tables = tables.into_iter().map(str::to_owned).collect();
        let health = HealthCheck::new(
            tables,
            bus.map(str::to_owned),
            dynamodb.client(),
            aws_sdk_eventbridge::Client::new(&sdk_config(&aws.endpoint())),
        );
        let door = Door::new(health, Clock::SYSTEM);
        let answer = invoke(&door, http_event("GET /health", &[], &[], "", "", "")).await.unwrap();
        assert_eq!(answer["statusCode"], http, "{answer}");
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["status"], status, "{body}");
    }
}

/// The time of the test, ms.
static NOW: AtomicI64 = AtomicI64::new(1_772_539_200_000);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn health_is_checked_once_in_ten_seconds_for_any_number_of_requests() {
    let aws = FakeAws::start(|_, _| (200, "{}".to_owned())).await;
    let sdk = sdk_config(&aws.endpoint());
    let tables = ["a", "b", "c"].map(str::to_owned).to_vec();
    let health = HealthCheck::new(
        tables,
        Some("bus".to_owned()),
        aws_sdk_dynamodb::Client::new(&sdk),
        aws_sdk_eventbridge::Client::new(&sdk),
    );
    let clock = Clock(|| DateTime::from_timestamp_millis(NOW.load(Ordering::SeqCst)).unwrap());
    let door = Arc::new(Door::new(health, clock));
    let ask = async || -> Value {
        let answer = invoke(&door, http_event("GET /health", &[], &[], "", "", "")).await.unwrap();
        assert_eq!(answer["statusCode"], 200);
        serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
    };
    let answers = futures::future::join_all((0..50).map(|_| ask())).await;
    assert_eq!(aws.calls().len(), 4, "one check answers fifty concurrent requests");
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer["status"] == "healthy"));
    NOW.fetch_add(9_999, Ordering::SeqCst);
    assert_eq!(ask().await["checkedAt"], answers[0]["checkedAt"]);
    assert_eq!(aws.calls().len(), 4);
    NOW.fetch_add(1, Ordering::SeqCst);
    assert_ne!(ask().await["checkedAt"], answers[0]["checkedAt"]);
    assert_eq!(aws.calls().len(), 8, "after ten seconds it is checked again");
    // If the clock goes back, an answer must not be kept longer.
    NOW.fetch_sub(60_000, Ordering::SeqCst);
    ask().await;
    assert_eq!(aws.calls().len(), 12);
    assert_eq!(invoke(&door, json!({ "source": "cli-test" })).await.unwrap()["status"], "healthy");
    assert_eq!(aws.calls().len(), 12, "direct and HTTP requests share the answer");
}

/// Records the examples of a check of one table.
pub async fn record(recorder: &mut Recorder, dynamodb: &EmbeddedDynamoDb) {
    let bus = aws_sdk_eventbridge::Client::new(&nowhere());
    let health = HealthCheck::new(vec!["ev-stations".to_owned()], None, dynamodb.client(), bus);
    let health = Door::new(health, CLOCK);
    recorder.ask(&health, ("health", "GET /health", ("", "")), &[], &[], Value::Null).await;
    // The one figure that is measured.
    let example = recorder.examples.get_mut("health").expect("it was asked");
    example.answer["tables"][0]["latencyMs"] = json!(1.5);
}
