//! Dead letters: messages that their consumer could not handle, and the decision what to do with each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Instant;
use crate::billing::Invoice;
use crate::charging::session::{SessionStatus, UserCheck};
use crate::event::{Envelope, Event};
use crate::id::SessionId;
use crate::machine::State;
use crate::telemetry::{TOPIC_STATION, passed_on};

/// Message attribute that counts how often a dead letter was returned to its queue.
pub const REPLAYS_ATTRIBUTE: &str = "replays";

/// Key prefix of quarantined letters.
pub const QUARANTINE_PREFIX: &str = "dead-letters/";

/// The consumer whose messages a dead-letter queue holds.
///
/// The template has an output `…QueueUrl` with the name of each consumer that has a queue, e.g. `BillingQueueUrl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Consumer {
    /// Ends of sessions that were not billed.
    Billing,
    /// Events that were not notified to anyone.
    Notification,
    /// Events of other contexts, and checks of users, whose sessions were not ended.
    ChargingInbox,
    /// Messages of battery-swap stations that were not archived.
    Telemetry,
    /// Positions of stream batches that were not relayed to the event bus, and events that the bus rejects permanently.
    Relay,
    /// Scheduled runs or parts of them. The next run does the work that they did not do.
    Schedule,
    /// Deleted users who are still in the user pool.
    Deletion,
    /// Events and announcements that were not sent to subscribers.
    LivePublisher,
}

impl Consumer {
    /// Every consumer.
    pub const ALL: [Self; 8] = [
        Self::Billing,
        Self::Notification,
        Self::ChargingInbox,
        Self::Telemetry,
        Self::Relay,
        Self::Schedule,
        Self::Deletion,
        Self::LivePublisher,
    ];
}

/// The decision on a dead letter.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The letter is valid, so its consumer or a dependency of the consumer failed. It goes back to its queue.
    Retry {
        /// The message to send: the letter itself, or the message that it contains.
        message: String,
    },
    /// No retry can succeed. The letter goes to quarantine.
    Poison {
        /// Why the letter cannot be handled.
        reason: String,
        /// Id of the session that cannot be billed because of this letter.
        unbilled: Option<SessionId>,
    },
    /// A later run of the schedule, or a later announcement, replaces this one.
    Superseded,
}

/// A dead letter in quarantine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuarantinedLetter {
    /// Id of the message.
    pub message_id: String,
    /// The consumer of the message.
    pub consumer: Consumer,
    /// Name of the dead-letter queue.
    pub queue: String,
    /// Why the letter is in quarantine.
    pub reason: String,
    /// How often the letter was returned to its queue before.
    pub replays: u32,
    /// Id of the session that cannot be billed because of this letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbilled: Option<SessionId>,
    /// When the letter was quarantined.
    pub quarantined_at: Instant,
    /// The unchanged message.
    pub body: String,
}

impl QuarantinedLetter {
    /// Returns the key in the quarantine bucket. It is the same for every delivery of the same message.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{QUARANTINE_PREFIX}{}/{}.json", self.queue, self.message_id)
    }
}

/// Events from the outbox of an item that no retry can publish, in the form in which the relay sets them aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnpublishedEvents {
    /// Why the event bus rejects the events.
    pub unpublished: String,
    /// The item whose outbox held the events: the parts of its key, joined by `/`.
    pub item: String,
    /// Sequence number of the stream record.
    pub sequence_number: String,
    /// The events as they were written.
    pub outbox: String,
}

impl UnpublishedEvents {
    /// Returns the session that cannot be billed because its end is among the events.
    fn unbilled(&self) -> Option<SessionId> {
        let events: Vec<Value> = serde_json::from_str(&self.outbox).ok()?;
        let billable = |event: &&Value| {
            event["eventType"] == "SESSION_ENDED"
                && (event["status"] == "COMPLETED" || event["status"] == "INTERRUPTED")
        };
        SessionId::new(events.iter().find(billable)?["sessionId"].as_str()?).ok()
    }
}

/// Decides on a dead letter from its body alone. `replays` counts how often the letter was returned to its queue,
/// `max_replays` is the limit.
#[must_use]
pub fn judge(consumer: Consumer, body: &str, replays: u32, max_replays: u32) -> Verdict {
    let message = match consumer {
        Consumer::Billing => session_end(body),
        Consumer::Notification => event(body).map(|_| body.to_owned()),
        Consumer::ChargingInbox => ends_sessions(body),
        Consumer::Telemetry => telemetry(body),
        Consumer::Relay => return unpublished(body),
        Consumer::Schedule => return Verdict::Superseded,
        Consumer::Deletion => {
            let reason = "a deleted user is still in the user pool: delete the user there".to_owned();
            return Verdict::Poison { reason, unbilled: None };
        }
        Consumer::LivePublisher => match live(body) {
            Ok(None) => return Verdict::Superseded,
            Ok(Some(event)) => Ok(event),
            Err(reason) => Err(reason),
        },
    };
    let message = match message {
        Ok(message) => message,
        Err(reason) => return Verdict::Poison { reason, unbilled: unbilled(consumer, body) },
    };
    if replays >= max_replays {
        let reason = format!("went back to its queue {replays} times and was not handled");
        return Verdict::Poison { reason, unbilled: unbilled(consumer, body) };
    }
    Verdict::Retry { message }
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

/// Returns the event in a message that an event bus rule created.
///
/// # Errors
/// A description of what is wrong with the message.
pub fn event(body: &str) -> Result<Envelope, String> {
    #[derive(Deserialize)]
    struct Message {
        detail: Envelope,
    }
    serde_json::from_str::<Message>(body)
        .map(|message| message.detail)
        .map_err(|error| format!("no event of ours: {error}"))
}

/// Returns the device's message from a letter. It is the letter itself if it comes from the queue, the payload in the
/// record of a failed invocation, or the original payload in the message that the IoT rule's error action writes. The
/// last is passed on as the rule does, whatever it is: `telemetry_handler` keeps what is no message.
///
/// A letter that the IoT rule marked with its topic is the device's own message, whatever other fields the device put
/// into it.
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
    let station = letter["topic"].as_str().and_then(|topic| topic.split('/').nth(2));
    let station = station.ok_or("the failed rule's record names no station's topic")?;
    Ok(passed_on(station, &bytes).to_string())
}

/// Returns the event that was not sent to subscribers, or `None` if the letter has announcements instead of an event.
/// If the letter comes from the rule of the bus or from the queue, it is the event itself. Otherwise the event is the
/// payload in the record of a failed invocation.
fn live(body: &str) -> Result<Option<String>, String> {
    let mut letter: Value = serde_json::from_str(body).map_err(|error| format!("is not JSON: {error}"))?;
    if letter["requestContext"].is_object() && letter["requestPayload"].is_object() {
        letter = letter["requestPayload"].take();
    }
    if letter["action"].is_string() {
        return Ok(None);
    }
    let message = letter.to_string();
    event(&message).map(|_| Some(message))
}

/// Returns the letter if it is the end of a session that billing accepts.
fn session_end(body: &str) -> Result<String, String> {
    let envelope = event(body)?;
    let Event::SessionEnded(ended) = &envelope.event else {
        return Err(format!("{} is not for billing", envelope.event.event_type()));
    };
    Invoice::for_session(ended, envelope.occurred_at).map(|_| body.to_owned()).map_err(|error| error.to_string())
}

/// Returns the letter if it is an event that ends sessions, or the check of a user.
fn ends_sessions(body: &str) -> Result<String, String> {
    if UserCheck::in_message(body).is_some() {
        return Ok(body.to_owned());
    }
    match event(body)?.event {
        Event::UserBlocked(_) | Event::UserDeleted(_) => Ok(body.to_owned()),
        other => Err(format!("{} is not for charging", other.event_type())),
    }
}

/// Returns the session of a message to billing, as far as it can be read from the message. A FAILED session is not
/// billed: its end only releases the money held for it, and the time to live of the hold does that too.
fn unbilled(consumer: Consumer, body: &str) -> Option<SessionId> {
    let message: Value = serde_json::from_str(body).ok()?;
    if message["detail"]["status"] == SessionStatus::Failed.name() {
        return None;
    }
    let id = message["detail"]["sessionId"].as_str().filter(|_| consumer == Consumer::Billing)?;
    SessionId::new(id).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::UserId;

    #[test]
    fn a_letter_of_the_charging_inbox_goes_back_only_if_it_ends_sessions() {
        let message = |event: Value| {
            let mut detail = json!({
                "eventId": "0198f3a0-0000-7000-8000-000000000000", "schemaVersion": 1,
                "occurredAt": "2026-03-03T10:00:00Z", "correlationId": "c"
            });
            if let (Some(detail), Some(event)) = (detail.as_object_mut(), event.as_object()) {
                detail.extend(event.clone());
            }
            json!({ "detail-type": detail["eventType"], "detail": detail }).to_string()
        };
        let at = "2026-03-03T10:00:00Z";
        let blocked = message(json!({
            "eventType": "USER_BLOCKED", "userId": "u-1", "blockedAt": at, "endSessions": true
        }));
        let deleted = message(json!({ "eventType": "USER_DELETED", "userId": "u-1", "deletedAt": at }));
        let check = UserCheck {
            user_id: UserId::new("u-1").unwrap(),
            session_id: SessionId::new("x-1").unwrap(),
            started_at: at.parse().unwrap(),
            correlation_id: "c".to_owned(),
        };
        assert_eq!(UserCheck::in_message(&check.message()).as_ref(), Some(&check));
        assert_eq!(UserCheck::in_message(&blocked), None);
        for valid in [&blocked, &deleted, &check.message()] {
            assert_eq!(judge(Consumer::ChargingInbox, valid, 2, 3), Verdict::Retry { message: valid.clone() });
        }
        let failed = message(json!({ "eventType": "PORT_FAILED", "stationId": "s-1", "portId": "p-1", "reason": "r" }));
        for (body, replays, says) in [
            (failed.as_str(), 0, "PORT_FAILED is not for charging"),
            ("{\"detail\": 1}", 0, "no event of ours"),
            ("{\"userCheck\": {\"userId\": \"a#b\"}}", 0, "no event of ours"),
            (blocked.as_str(), 3, "went back to its queue 3 times"),
        ] {
            match judge(Consumer::ChargingInbox, body, replays, 3) {
                Verdict::Poison { reason, unbilled: None } => assert!(reason.contains(says), "{reason}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_event_that_was_not_sent_to_subscribers_goes_back_and_progress_does_not() {
        let event = json!({ "detail-type": "PORT_FAILED", "detail": {
            "eventType": "PORT_FAILED", "eventId": "0198f3a0-0000-7000-8000-000000000000", "schemaVersion": 1,
            "occurredAt": "2026-03-03T10:00:00Z", "correlationId": "c", "stationId": "s-1", "portId": "p-1",
            "reason": "r"
        }});
        let failed = |payload: &Value| {
            json!({ "requestContext": { "condition": "RetriesExhausted" }, "requestPayload": payload }).to_string()
        };
        let progress = json!({ "action": "publish", "updates": [] });
        let judged = |body: &str, replays| judge(Consumer::LivePublisher, body, replays, 3);
        for body in [event.to_string(), failed(&event)] {
            assert_eq!(judged(&body, 2), Verdict::Retry { message: event.to_string() });
            assert!(matches!(judged(&body, 3), Verdict::Poison { unbilled: None, .. }));
        }
        for body in [progress.to_string(), failed(&progress)] {
            assert_eq!(judged(&body, 0), Verdict::Superseded);
        }
        for body in ["no JSON", "[]", "{}", failed(&json!({ "detail": 1 })).as_str()] {
            assert!(matches!(judged(body, 0), Verdict::Poison { unbilled: None, .. }), "{body}");
        }
    }

    #[test]
    fn all_has_every_consumer() {
        // The error about an unknown name lists the known ones.
        let error = serde_json::from_str::<Consumer>("\"\"").unwrap_err().to_string();
        for consumer in Consumer::ALL {
            let name = serde_json::to_string(&consumer).unwrap();
            assert!(error.contains(&format!("`{}`", name.trim_matches('"'))), "{name}: {error}");
        }
        assert_eq!(error.matches('`').count(), 2 * (1 + Consumer::ALL.len()), "{error}");
    }
}
