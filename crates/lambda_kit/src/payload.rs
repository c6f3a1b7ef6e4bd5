use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// What a function was invoked with, or why it is not JSON.
///
/// The runtime would answer a payload that it cannot parse with an error of its own; taken this way, non-JSON, bytes
/// that are not UTF-8 and nesting beyond the parser's limit become validation errors like any other.
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
