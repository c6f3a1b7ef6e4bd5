//! The parsing and validation of incoming messages.

use chrono::DateTime;
use domain::Instant;
use domain::error::FieldError;
use domain::id::{SwapStationId, derive};
use domain::telemetry::{Message, Published, Reading, RejectedMessage};
use lambda_kit::events::SqsMessage;
use lambda_kit::{Context, Failure, validate};
use serde_json::Value;
use uuid::Uuid;

/// The delivery of a message. All attempts to process it have the same delivery.
pub(crate) struct Delivery {
    pub id: Uuid,
    pub received_at: Instant,
}

/// A message that was accepted or rejected.
pub(crate) enum Classified {
    Accepted(Message),
    Rejected(RejectedMessage),
}

impl Delivery {
    /// Creates the delivery of a message that is the payload of an invocation. All attempts of an asynchronous
    /// invocation have the same request id.
    pub fn of_invocation(context: &Context) -> Self {
        Self { id: derive(&["telemetry delivery", &context.request_id]), received_at: context.now }
    }

    /// Creates the delivery of a queue message. It was received at the time when it was sent to the queue.
    pub fn of_message(message: &SqsMessage, context: &Context) -> Self {
        let sent = message.attributes.get("SentTimestamp").and_then(|sent| sent.parse().ok());
        let id = message.message_id.as_deref().unwrap_or_default();
        Self {
            id: derive(&["telemetry delivery", id]),
            received_at: sent.and_then(DateTime::from_timestamp_millis).unwrap_or(context.now),
        }
    }
}

/// Parses the body of a queue message. Text that is not JSON becomes a JSON string, which is never a valid message; the
/// IoT rule sends none.
pub(crate) fn body(message: &SqsMessage) -> Value {
    let text = message.body.as_deref().unwrap_or_default();
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Validates a message of a device, and accepts or rejects it.
///
/// # Errors
/// [`Code::Internal`](lambda_kit::Code::Internal) when the JSON Schema itself cannot be compiled.
pub(crate) fn classify(sent: Value, delivery: &Delivery, now: Instant) -> Result<Classified, Failure> {
    let Published { topic, message, payload } = Published::read(sent);
    let checked = if message.is_object() { check(&message, topic.as_deref(), now) } else { Err(not_an_object()) };
    let errors = match checked {
        Ok(reading) => return Ok(Classified::Accepted(Message::new(reading, &message))),
        Err(Failure::Validation { fields, .. }) => fields,
        Err(failure) => return Err(failure),
    };
    let named = topic.as_deref().or_else(|| message["station_id"].as_str());
    Ok(Classified::Rejected(RejectedMessage {
        station_id: named.and_then(|id| SwapStationId::new(id).ok()),
        received_at: delivery.received_at,
        delivery_id: delivery.id,
        errors,
        message,
        payload,
    }))
}

fn check(sent: &Value, topic: Option<&str>, now: Instant) -> Result<Reading, Failure> {
    let reading: Reading = validate(sent)?;
    reading.check(topic, now)?;
    Ok(reading)
}

fn not_an_object() -> Failure {
    Failure::invalid_fields(vec![FieldError::new("message", "must be a JSON object with the fields of a reading")])
}
