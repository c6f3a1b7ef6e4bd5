use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Instant;
use crate::id::{SessionId, UserId};

/// A check of a user that is due because a session started while the user could not be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserCheck {
    /// Id of the user.
    pub user_id: UserId,
    /// Id of the session.
    pub session_id: SessionId,
    /// When the session started. Another request with the same idempotency key starts it at another time.
    pub started_at: Instant,
    /// Correlation id of the request that started the session.
    pub correlation_id: String,
}

/// The queue message. Unlike the message of an event, it has no `detail`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    user_check: UserCheck,
}

impl UserCheck {
    /// Returns the body of the queue message that carries the check.
    #[must_use]
    pub fn message(&self) -> String {
        json!({ "userCheck": self }).to_string()
    }

    /// Returns the check in the body of a queue message, or `None` if the message is something else.
    #[must_use]
    pub fn in_message(body: &str) -> Option<Self> {
        serde_json::from_str::<Message>(body).ok().map(|message| message.user_check)
    }
}
