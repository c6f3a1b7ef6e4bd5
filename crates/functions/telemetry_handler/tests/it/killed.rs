//! The real binary is killed in the middle of a batch. The queue delivers the batch again, and no message is missing.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use domain::id::SwapStationId;
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, EmbeddedS3, NOWHERE, RuntimeApi, archived, reading, sqs_event};

const BUCKET: &str = "telemetry";
const MESSAGES: u32 = 500;
const STATIONS: u32 = 60;
const DAYS: u32 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_survives_a_killed_function() {
    let mut died_within = 0;
    // On a busy machine, the function may be done before the test sees that enough objects exist.
    for _ in 0..5 {
        // The function is killed as soon as this number of its objects exist.
        for objects in [0, 1, 5, 20, 40] {
            died_within += usize::from(dies_after(objects).await);
        }
        if died_within > 0 {
            return;
        }
    }
    panic!("the function must be killed within a batch at least once");
}

/// Returns whether the function was killed with the batch half archived.
async fn dies_after(objects: usize) -> bool {
    let (dynamodb, s3) = (EmbeddedDynamoDb::start().await, EmbeddedS3::start(BUCKET).await);
    let start: domain::Instant = "2026-01-01T00:00:00Z".parse().unwrap();
    let messages: Vec<Value> = (0..MESSAGES)
        .map(|n| {
            let at = start + TimeDelta::days(i64::from(n % DAYS)) + TimeDelta::seconds(i64::from(n));
            reading(&format!("s-{}", n % STATIONS), at, n)
        })
        .collect();
    let batch = sqs_event(&messages.iter().map(Value::to_string).collect::<Vec<_>>()).to_string();
    let (dynamodb_endpoint, s3_endpoint) = (dynamodb.endpoint(), s3.endpoint());
    let environment = [
        ("TELEMETRY_TABLE", "ev-telemetry"),
        ("TELEMETRY_BUCKET", BUCKET),
        ("QUEUE_URL", NOWHERE),
        ("REJECTED_MESSAGES_LIMIT", "10"),
        ("LIVE_PUBLISHER_FUNCTION", "none"),
        ("AWS_ENDPOINT_URL_DYNAMODB", &*dynamodb_endpoint),
        ("AWS_ENDPOINT_URL_S3", &*s3_endpoint),
    ];
    let binary = Path::new(env!("CARGO_BIN_EXE_telemetry_handler"));
    let first = RuntimeApi::start().await;
    let mut function = first.spawn(binary, &environment);
    first.push(batch.clone());
    let client = s3.client();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let list = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
        if list.key_count.unwrap_or_default() >= i32::try_from(objects).unwrap() {
            break;
        }
        assert!(Instant::now() < deadline, "the function wrote nothing");
    }
    function.kill().unwrap();
    function.wait().unwrap();
    let there = archived(&s3, BUCKET).await.len();
    // The visibility timeout is over, and another environment gets the batch.
    let second = RuntimeApi::start().await;
    let mut function = second.spawn(binary, &environment);
    second.push(batch);
    assert_eq!(second.answer(0).await.unwrap(), json!({ "batchItemFailures": [] }));
    function.kill().unwrap();
    function.wait().unwrap();
    let line = |message: &Value| {
        let mut message = message.clone();
        message.as_object_mut().unwrap().remove("topic_station_id");
        message.to_string()
    };
    let sent: BTreeSet<String> = messages.iter().map(line).collect();
    let archive = archived(&s3, BUCKET).await;
    assert!(archive.values().all(|times| *times == 1), "the same batch writes the same objects");
    assert_eq!(archive.into_keys().collect::<BTreeSet<_>>(), sent);
    for station in 0..STATIONS {
        let own = messages.iter().filter(|message| message["station_id"] == format!("s-{station}").as_str());
        let latest = own.max_by_key(|message| message["timestamp"].as_str().unwrap().to_owned()).unwrap();
        let id = SwapStationId::new(format!("s-{station}")).unwrap();
        let state = dynamodb.telemetry().load(&id).await.unwrap().unwrap();
        assert_eq!(json!(state.reading.battery_available), latest["battery_available"], "{station}");
    }
    (1..sent.len()).contains(&there)
}
