//! The HTTP entry point: the role of a caller, and the cost of the open route.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::DateTime;
use health_check::HealthCheck;
use lambda_kit::{Clock, Door};
use notification_service::{NotificationService, Topics};
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, FakeAws, NOWHERE, http_event, invoke, no_redelivery, sdk_config};

#[tokio::test]
async fn a_role_requires_a_group_of_exactly_that_name() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let sns = aws_sdk_sns::Client::new(&sdk_config(NOWHERE));
    let topics = Topics::new(sns, "operators".to_owned(), "users".to_owned());
    let door = Door::new(NotificationService::new(dynamodb.error_logs(), topics, no_redelivery()), Clock::SYSTEM);
    let status = async |groups: &str| {
        let answer = invoke(&door, http_event("GET /error-logs", &[], &[], "u-1", groups, "")).await.unwrap();
        answer["statusCode"].as_u64().unwrap()
    };
    for staff in ["ADMIN", "[ADMIN]", "[TECH_SUPPORT]", "[drivers ADMIN]", "[drivers TECH_SUPPORT fleet-7]"] {
        assert_eq!(status(staff).await, 200, "{staff}");
    }
    for user in [
        "",
        "[]",
        "USER",
        "[ADMIN-readonly]",
        "[regional.ADMIN]",
        "[not:ADMIN]",
        "[no,ADMIN]",
        "[ADMIN/emea TECH_SUPPORT-2]",
        "[admin]",
        "[\"ADMIN\"]",
        "[\"drivers\",\"ADMIN\"]",
        "[\"ADMIN-readonly\"]",
        "[\"not ADMIN\"]",
        "ADMIN-readonly",
        "[[ADMIN]]",
        "[{ADMIN}]",
    ] {
        assert_eq!(status(user).await, 403, "{user}");
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
