//! Dead letters: messages that their consumer could not handle, and what is to become of each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Instant;
use crate::billing::Invoice;
use crate::charging::session::SessionStatus;
use crate::event::{Envelope, Event};
use crate::id::SessionId;
use crate::machine::State;
use crate::telemetry::TOPIC_STATION;

/// Message attribute that counts how often a letter has gone back to its queue.
pub const REPLAYS_ATTRIBUTE: &str = "replays";

/// Beginning of the keys of quarantined letters.
pub const QUARANTINE_PREFIX: &str = "dead-letters/";

/// Whose messages a dead-letter queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Consumer {
    /// Ends of sessions that were not billed.
    Billing,
    /// Events that nobody was told of.
    Notification,
    /// Messages of battery-swap stations that were not archived.
    Telemetry,
    /// Positions of stream batches that were not relayed to the bus, and events that the bus refuses for good.
    Relay,
    /// Runs of a schedule, or their parts. The next run does what they did not.
    Schedule,
}

/// What is to become of a dead letter.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing is wrong with it, so its consumer or what that depends on was ill: back to its queue.
    Retry {
        /// What goes there: the letter itself, or the message that it encloses.
        message: String,
    },
    /// No try can succeed: quarantine.
    Poison {
        /// What is wrong with it.
        reason: String,
        /// The session that cannot be billed because of it.
        unbilled: Option<SessionId>,
    },
    /// A later run of its schedule has done, or will do, what it asked for.
    Superseded,
}

/// A dead letter in quarantine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuarantinedLetter {
    /// Of the message.
    pub message_id: String,
    /// Whose message it was.
    pub consumer: Consumer,
    /// Name of the dead-letter queue.
    pub queue: String,
    /// Why it is here.
    pub reason: String,
    /// How often it had gone back to its queue before.
    pub replays: u32,
    /// The session that cannot be billed because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbilled: Option<SessionId>,
    /// When it was quarantined.
    pub quarantined_at: Instant,
    /// The message itself, as it was.
    pub body: String,
}

impl QuarantinedLetter {
    /// Its key in the quarantine bucket: the same for every delivery of the same message.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{QUARANTINE_PREFIX}{}/{}.json", self.queue, self.message_id)
    }
}

/// Events that rode on a write and that no try can publish, as the relay sets them aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnpublishedEvents {
    /// Why the bus does not take them.
    pub unpublished: String,
    /// The item on whose write they rode: its key's parts, joined by `/`.
    pub item: String,
    /// Of the stream's record.
    pub sequence_number: String,
    /// The events as they were written.
    pub outbox: String,
}

impl UnpublishedEvents {
    /// The session that cannot be billed because its end is among the events.
    fn unbilled(&self) -> Option<SessionId> {
        let events: Vec<Value> = serde_json::from_str(&self.outbox).ok()?;
        let billable = |event: &&Value| {
            event["eventType"] == "SESSION_ENDED"
                && (event["status"] == "COMPLETED" || event["status"] == "INTERRUPTED")
        };
        SessionId::new(events.iter().find(billable)?["sessionId"].as_str()?).ok()
    }
}

/// Judges a dead letter by its body alone; it has gone back to its queue `replays` times already, of at most
/// `max_replays`.
#[must_use]
pub fn judge(consumer: Consumer, body: &str, replays: u32, max_replays: u32) -> Verdict {
    match consumer {
        Consumer::Schedule => return Verdict::Superseded,
        Consumer::Relay => return unpublished(body),
        Consumer::Billing | Consumer::Notification | Consumer::Telemetry => {}
    }
    let message = match enclosed(consumer, body) {
        Ok(message) => message,
        Err(reason) => return Verdict::Poison { reason, unbilled: unbilled(consumer, body) },
    };
    if replays >= max_replays {
        let reason = format!("went back to its queue {replays} times and was not handled");
        return Verdict::Poison { reason, unbilled: unbilled(consumer, body) };
    }
    Verdict::Retry { message }
}

/// The message that its consumer could not handle, as its queue takes it.
fn enclosed(consumer: Consumer, body: &str) -> Result<String, String> {
    if consumer == Consumer::Telemetry {
        return telemetry(body);
    }
    let envelope = event(body)?;
    if consumer == Consumer::Billing {
        billable(&envelope)?;
    }
    Ok(body.to_owned())
}

fn unpublished(body: &str) -> Verdict {
    match serde_json::from_str::<UnpublishedEvents>(body) {
        Ok(events) => Verdict::Poison { unbilled: events.unbilled(), reason: events.unpublished },
        Err(_) => Verdict::Poison {
            reason: "a stream's batch was not relayed: its events may be missing on the bus".to_owned(),
            unbilled: None,
        },
    }
}

/// The event in a message that a rule of the bus made.
///
/// # Errors
/// What is wrong with it.
pub fn event(body: &str) -> Result<Envelope, String> {
    #[derive(Deserialize)]
    struct Message {
        detail: Envelope,
    }
    serde_json::from_str::<Message>(body)
        .map(|message| message.detail)
        .map_err(|error| format!("no event of ours: {error}"))
}

/// The device's message in a letter: the letter itself from the queue, the payload in the record of a failed
/// invocation, or the original payload in what the IoT rule's error action writes.
///
/// What the rule marked with its topic is the device's own, whatever other fields the device put into it.
fn telemetry(body: &str) -> Result<String, String> {
    let letter: Value = serde_json::from_str(body).map_err(|error| format!("is not JSON: {error}"))?;
    if letter.get(TOPIC_STATION).is_some() {
        return Ok(body.to_owned());
    }
    if letter["requestContext"].is_object() && letter["requestPayload"].is_object() {
        return Ok(letter["requestPayload"].to_string());
    }
    let Some(original) = letter["base64OriginalPayload"].as_str() else {
        return if letter.is_object() { Ok(body.to_owned()) } else { Err("is no JSON object".to_owned()) };
    };
    let bytes = STANDARD.decode(original).map_err(|error| format!("the original payload is not Base64: {error}"))?;
    let message: Value =
        serde_json::from_slice(&bytes).map_err(|error| format!("the original payload is not JSON: {error}"))?;
    let Value::Object(mut fields) = message else { return Err("the original payload is no JSON object".to_owned()) };
    let station = letter["topic"].as_str().and_then(|topic| topic.split('/').nth(2));
    let station = station.ok_or("the failed rule's record names no station's topic")?;
    fields.insert(TOPIC_STATION.to_owned(), Value::String(station.to_owned()));
    Ok(Value::Object(fields).to_string())
}

fn billable(envelope: &Envelope) -> Result<(), String> {
    let Event::SessionEnded(ended) = &envelope.event else {
        return Err(format!("{} is not for billing", envelope.event.event_type()));
    };
    Invoice::for_session(ended, envelope.occurred_at).map(|_| ()).map_err(|error| error.to_string())
}

/// The session that a message to billing is about, as far as that can be read out of it. A FAILED session is not billed:
/// its end only releases what was held for it, which a time to live does as well.
fn unbilled(consumer: Consumer, body: &str) -> Option<SessionId> {
    let message: Value = serde_json::from_str(body).ok()?;
    if message["detail"]["status"] == SessionStatus::Failed.name() {
        return None;
    }
    let id = message["detail"]["sessionId"].as_str().filter(|_| consumer == Consumer::Billing)?;
    SessionId::new(id).ok()
}
