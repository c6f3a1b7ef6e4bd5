//! The service level: the real binary reports how old events are when they are processed, and failed messages are
//! delivered again with growing delays.

use std::path::Path;
use std::process::Stdio;

use billing::Billing;
use chrono::{Duration, SubsecRound};
use domain::charging::session::SessionEnded;
use lambda_kit::{Clock, Door, Redelivery};
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, FakeAws, RuntimeApi, invoke, sdk_config, sqs_event};

use crate::common::{World, ended, message};

/// Builds the end of a session that ended this long ago.
fn ended_before(session: &str, ago: Duration) -> SessionEnded {
    let ended_at = ((Clock::SYSTEM.0)() - ago).trunc_subsecs(3);
    let mut end = ended(session, "u-1", 10_000);
    (end.started_at, end.ended_at) = (ended_at - Duration::minutes(30), ended_at);
    (end.charging_periods[0].start, end.charging_periods[0].end) = (end.started_at, ended_at);
    end
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_reports_the_age_and_lateness_of_each_event() {
    let (dynamodb, aws, api) = (
        EmbeddedDynamoDb::start().await,
        FakeAws::start(|_, _| (200, "{}".to_owned())).await,
        RuntimeApi::start().await,
    );
    let log = tempfile::NamedTempFile::new().unwrap();
    let environment = [
        ("BILLING_TABLE", "ev-billing"),
        ("USERS_TABLE", "ev-users"),
        ("CURRENCY", "EUR"),
        ("QUEUE_URL", "http://queue"),
        ("AWS_ENDPOINT_URL_DYNAMODB", &*dynamodb.endpoint()),
        ("AWS_ENDPOINT_URL", &*aws.endpoint()),
    ];
    let stdout = Stdio::from(log.reopen().unwrap());
    let mut function = api.spawn_writing(Path::new(env!("CARGO_BIN_EXE_billing")), &environment, stdout);
    let unbillable = SessionEnded { time_zone: "Mars/Olympus".to_owned(), ..ended_before("s-3", Duration::zero()) };
    let ends = [ended_before("s-1", Duration::zero()), ended_before("s-2", Duration::minutes(5)), unbillable];
    for (number, end) in ends.iter().enumerate() {
        api.push(sqs_event(&[message(end)]).to_string());
        api.answer(number).await.unwrap();
    }
    function.kill().unwrap();
    function.wait().unwrap();
    let text = std::fs::read_to_string(log.path()).unwrap();
    let metrics: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["_aws"].is_object())
        .collect();
    assert!(metrics.iter().all(|line| line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Evoke/test"), "{text}");
    let dimensions = |line: &Value| line["_aws"]["CloudWatchMetrics"][0]["Dimensions"].clone();
    let (delivered, others): (Vec<Value>, Vec<Value>) =
        metrics.into_iter().partition(|line| line["EventsLate"].is_array());
    assert_eq!(delivered.len(), 3, "{text}");
    assert!(delivered.iter().all(|line| line["Function"] == "billing" && dimensions(line) == json!([["Function"]])));
    let age = |index: usize| delivered[index]["EventAge"][0].as_f64().unwrap();
    assert!(age(0) < 60_000.0 && (300_000.0..360_000.0).contains(&age(1)), "{delivered:?}");
    let late: Vec<_> = delivered.iter().map(|line| line["EventsLate"][0].as_f64().unwrap()).collect();
    assert_eq!(late, [0.0, 1.0, 1.0], "in time; processed too late; not processed");
    assert!(others.iter().all(|line| dimensions(line) == json!([[]])), "{others:?}");
    assert_eq!(others.iter().filter(|line| line["InvoicesIssued"] == json!(1)).count(), 2, "{others:?}");
    assert!(
        others.iter().all(|line| line["InternalFailures"].is_null()),
        "an event that is wrong is no failure of ours"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_messages_are_delivered_again_with_growing_delays() {
    let world = World::new().await;
    let sqs = FakeAws::start(|_, _| (200, "{}".to_owned())).await;
    let redelivery = Redelivery::new(&sdk_config(&sqs.endpoint()), "http://queue".to_owned());
    // Nothing listens at the endpoint of the table.
    let nowhere = store::BillingStore::new(store::Db::new(EmbeddedDynamoDb::client_at(testkit::NOWHERE)), "ev-billing");
    let billing = Billing::new(nowhere, world.dynamodb.users(), "EUR".parse().unwrap(), redelivery);
    let door = Door::new(billing, Clock::SYSTEM);
    for receives in ["1", "2", "3", "4"] {
        let mut event = sqs_event(&[message(&ended("s-1", "u-1", 10_000)), "not JSON".to_owned()]);
        for record in event["Records"].as_array_mut().unwrap() {
            record["attributes"] = json!({ "ApproximateReceiveCount": receives });
        }
        let answer = invoke(&door, event).await.unwrap();
        assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 2, "{answer}");
    }
    let calls: Vec<Value> = sqs.calls().iter().map(|call| serde_json::from_str(&call.body).unwrap()).collect();
    let mut seconds: Vec<i64> = calls.iter().map(|call| call["VisibilityTimeout"].as_i64().unwrap()).collect();
    seconds.sort_unstable();
    assert_eq!(seconds, [1, 1, 1, 1, 15, 45, 135, 405], "a message that no delivery can process is not delayed");
    assert_eq!(world.dynamodb.items("ev-billing").await.len(), 0);
}
