use std::collections::BTreeMap;
use std::io::Read as _;

use domain::Instant;
use serde_json::{Value, json};

use crate::EmbeddedS3;

/// Builds a valid message of a battery-swap station, with the station of its topic.
/// `domain::telemetry::passed_on` returns what the IoT rule makes of the message without this field.
#[must_use]
pub fn reading(station: &str, at: Instant, battery_available: u32) -> Value {
    json!({
        "station_id": station, "battery_available": battery_available, "battery_charging": 4, "temperature": 28.5,
        "humidity": 42.0, "status": "operational", "timestamp": at.to_rfc3339(), "topic_station_id": station
    })
}

/// Returns the messages in the archive of a telemetry bucket, each with the number of its copies.
pub async fn archived(s3: &EmbeddedS3, bucket: &str) -> BTreeMap<String, usize> {
    let mut messages = BTreeMap::new();
    for (key, bytes) in s3.objects(bucket).await.into_iter().filter(|(key, _)| key.starts_with("telemetry/")) {
        for line in lines(&key, &bytes) {
            *messages.entry(line).or_default() += 1;
        }
    }
    messages
}

/// Returns the lines of an object of the archive.
#[must_use]
pub fn lines(key: &str, bytes: &[u8]) -> Vec<String> {
    let mut text = String::new();
    if std::path::Path::new(key).extension().is_some_and(|extension| extension == "gz") {
        flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).expect("gzipped text");
    } else {
        text = String::from_utf8(bytes.to_vec()).expect("text");
    }
    text.lines().map(str::to_owned).collect()
}
