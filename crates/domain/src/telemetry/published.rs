//! What devices publish, in the form in which the IoT rule passes it on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The field in which the IoT rule passes on the station in whose topic a message was published.
pub const TOPIC_STATION: &str = "topic_station_id";

/// The field in which the IoT rule passes on the bytes of a message, in Base64.
pub const PAYLOAD: &str = "payload";

/// A message that a device published.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The station in whose topic the message was published, if it arrived over MQTT.
    pub topic: Option<String>,
    /// The message. If it is not JSON, it is a string, in which bytes that are not UTF-8 are replaced.
    pub message: Value,
    /// The bytes of the message in Base64, if the IoT rule passed them on.
    pub payload: Option<String>,
}

impl Published {
    /// Reads what arrived: what [`passed_on`] returns, or the message itself.
    ///
    /// An earlier IoT rule passed on the message itself, with the station of the topic as one of its fields. Dead
    /// letters of that time have this form, and so have direct invocations.
    #[must_use]
    pub fn read(sent: Value) -> Self {
        let text = |field: &str| sent.get(field).and_then(Value::as_str).map(str::to_owned);
        let topic = text(TOPIC_STATION);
        let has_nothing_else = topic.is_some() && sent.as_object().is_some_and(|fields| fields.len() == 2);
        let payload = text(PAYLOAD).filter(|_| has_nothing_else);
        let bytes = payload.as_deref().and_then(|payload| STANDARD.decode(payload).ok());
        match bytes {
            Some(bytes) => Self { topic, message: parse(&bytes), payload },
            None => Self { topic, message: sent, payload: None },
        }
    }
}

/// Returns what the IoT rule passes on of a message that was published in the topic of `station`.
#[must_use]
pub fn passed_on(station: &str, bytes: &[u8]) -> Value {
    json!({ PAYLOAD: STANDARD.encode(bytes), TOPIC_STATION: station })
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_kind_are_passed_on() {
        let cases: [(&[u8], Value); 5] = [
            (br#"{"a": 1, "topic_station_id": "t"}"#, json!({ "a": 1, "topic_station_id": "t" })),
            (b"[1]", json!([1])),
            (b"{\"a\"", json!("{\"a\"")),
            (b"", json!("")),
            (b"\xff!", json!("\u{fffd}!")),
        ];
        for (bytes, message) in cases {
            let payload = Some(STANDARD.encode(bytes));
            let expected = Published { topic: Some("s".to_owned()), message, payload };
            assert_eq!(Published::read(passed_on("s", bytes)), expected);
        }
    }

    #[test]
    fn anything_else_is_the_message_itself() {
        for sent in [
            json!({ "station_id": "s", "topic_station_id": "s" }),
            json!({ "payload": "e30=", "topic_station_id": "s", "more": 1 }),
            json!({ "payload": "e30=", "more": 1 }),
            json!({ "payload": "no Base64", "topic_station_id": "s" }),
            json!({ "payload": 1, "topic_station_id": "s" }),
            json!({ "payload": "e30=", "topic_station_id": 1 }),
            json!({ "topic_station_id": "s" }),
            json!("text"),
            Value::Null,
        ] {
            let read = Published::read(sent.clone());
            let topic = sent.get(TOPIC_STATION).and_then(Value::as_str).map(str::to_owned);
            assert_eq!(read, Published { topic, message: sent, payload: None });
        }
    }
}
