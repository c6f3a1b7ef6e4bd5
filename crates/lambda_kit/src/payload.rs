use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// The payload of an invocation, or the reason why it is not valid JSON.
///
/// The Lambda runtime answers a payload that it cannot parse with its own kind of error. This type defers parsing, so
/// that text that is not JSON, bytes that are not UTF-8 and too deep nesting become ordinary validation errors.
#[derive(Clone, Debug)]
pub struct Payload(pub Result<Value, String>);

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer);
        Ok(Self(raw.map_err(|error| error.to_string()).and_then(|raw| parse(raw.get()))))
    }
}

/// Parses JSON text.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
