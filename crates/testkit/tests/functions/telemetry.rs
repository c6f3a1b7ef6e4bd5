//! Telemetry: `telemetry_api` and `telemetry_handler`.

use domain::telemetry::Silence;
use lambda_kit::{Clock, Door};
use serde_json::{Value, json};
use store::Archive;
use telemetry_api::TelemetryApi;
use telemetry_handler::TelemetryHandler;
use testkit::{EmbeddedDynamoDb, EmbeddedS3, invoke, no_redelivery, reading};

use crate::bad_input::Kind::{Id, Integer, Text, Time};
use crate::bad_input::{Case, attack};
use crate::openapi::{CLOCK, DRIVER, Recorder, now};
use crate::{no_archive, silence};

const BUCKET: &str = "telemetry";

fn telemetry_cases() -> Vec<Case> {
    vec![
        Case("listStations", &[("limit", false, Integer(1, 100)), ("nextToken", false, Text(2048))], json!({})),
        Case("getStation", &[("stationId", true, Id)], json!({ "stationId": "none" })),
        Case(
            "getHistory",
            &[
                ("stationId", true, Id),
                ("date", true, Time),
                ("limit", false, Integer(1, 100)),
                ("nextToken", false, Text(2048)),
            ],
            json!({ "stationId": "none", "date": "2026-03-03" }),
        ),
    ]
}

#[tokio::test]
async fn telemetry_api_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let api = Door::new(TelemetryApi::new(dynamodb.telemetry(), no_archive(), silence()), Clock::SYSTEM);
    let tried = attack(&api, telemetry_cases(), &["listStations", "getStation", "getHistory"], &dynamodb).await;
    assert!(tried > 40, "{tried}");
}

#[tokio::test]
async fn a_device_may_report_a_number_too_small_to_store() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let s3 = EmbeddedS3::start(BUCKET).await;
    let archive = Archive::new(s3.client(), BUCKET);
    let handler = TelemetryHandler::new(dynamodb.telemetry(), archive, no_redelivery(), 10);
    let handler = Door::new(handler, Clock::SYSTEM);
    for (station, field) in [("t", "temperature"), ("h", "humidity")] {
        let mut message = reading(station, "2026-03-03T12:00:00Z".parse().unwrap(), 1);
        message[field] = json!(1e-200);
        message["topic_station_id"] = json!(station);
        invoke(&handler, message).await.unwrap();
    }
    let states = dynamodb.items("ev-telemetry").await;
    assert_eq!(states.len(), 2);
}

/// Records the examples of a battery-swap station that sent one message.
pub async fn record(recorder: &mut Recorder, dynamodb: &EmbeddedDynamoDb) {
    let s3 = EmbeddedS3::start(BUCKET).await;
    let archive = || Archive::new(s3.client(), BUCKET);
    let handler = TelemetryHandler::new(dynamodb.telemetry(), archive(), no_redelivery(), 10);
    let handler = Door::new(handler, CLOCK);
    invoke(&handler, reading("swap-1", now(), 12)).await.expect("a taken message");
    let silence = Silence::of_interval(std::time::Duration::from_mins(1));
    let api = Door::new(TelemetryApi::new(dynamodb.telemetry(), archive(), silence), CLOCK);
    let route = ("telemetry_api.listStations", "GET /telemetry/stations", DRIVER);
    recorder.ask(&api, route, &[], &[], Value::Null).await;
    let station: &[(&str, &str)] = &[("stationId", "swap-1")];
    let route = ("telemetry_api.getStation", "GET /telemetry/stations/{stationId}", DRIVER);
    recorder.ask(&api, route, station, &[], Value::Null).await;
    let route = ("getHistory", "GET /telemetry/stations/{stationId}/history", DRIVER);
    recorder.ask(&api, route, station, &[("date", "2026-03-03")], Value::Null).await;
}
