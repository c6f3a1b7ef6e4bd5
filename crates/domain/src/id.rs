//! Identifiers: opaque strings, each with a type of its own.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::DomainError;

/// The longest identifier, in characters. Keys of several identifiers and the 1 KB of an active session depend on it.
pub const MAX_LENGTH: usize = 48;

/// What an identifier may look like. `#` is left out because it separates the parts of a key.
const PATTERN: &str = "^[A-Za-z0-9._:@|-]{1,48}$";

/// Namespace of the identifiers derived from something that must not repeat (UUID version 5).
const NAMESPACE: Uuid = Uuid::from_u128(0x65766f6b_6520_4a1f_9c3e_000000000001);

/// A UUID derived from `parts`: the same parts give the same UUID, always.
#[must_use]
pub fn derive(parts: &[&str]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, parts.join("\u{1f}").as_bytes())
}

fn check(value: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:@|-".contains(c);
    if !value.is_empty() && value.len() <= MAX_LENGTH && value.chars().all(allowed) {
        return Ok(());
    }
    Err(format!("must be 1 to {MAX_LENGTH} of the characters A-Z a-z 0-9 . _ : @ | -"))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and takes `value`.
            ///
            /// # Errors
            /// A validation error when it is empty, too long or has a character that ids do not have.
            pub fn new(value: impl Into<String>) -> Result<Self, DomainError> {
                let value = value.into();
                check(&value).map_err(|message| DomainError::invalid($field, message))?;
                Ok(Self(value))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid.to_string())
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(value: String) -> Result<Self, String> {
                check(&value)?;
                Ok(Self(value))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": PATTERN })
            }
        }
    };
}

id!(
    /// A charging station.
    StationId,
    "stationId"
);
id!(
    /// A port (connector) of a station; unique within its station.
    PortId,
    "portId"
);
id!(
    /// A charging session.
    SessionId,
    "sessionId"
);
id!(
    /// A user of the network; over HTTP the `sub` of the token.
    UserId,
    "userId"
);
id!(
    /// An entry of the error log.
    LogId,
    "logId"
);

id!(
    /// An invoice; derived from its session, so that a session has one.
    InvoiceId,
    "invoiceId"
);
id!(
    /// A credit note.
    CreditNoteId,
    "creditNoteId"
);

impl UserId {
    /// The platform acting by itself.
    #[must_use]
    pub fn system() -> Self {
        Self("system".to_owned())
    }
}

impl SessionId {
    /// The session that `user`'s `idempotency_key` stands for: the same pair gives the same id.
    #[must_use]
    pub fn for_key(user: &UserId, idempotency_key: &str) -> Self {
        derive(&["session", user.as_str(), idempotency_key]).into()
    }
}

impl InvoiceId {
    /// The invoice of `session`: however often it is billed, under this id.
    #[must_use]
    pub fn of(session: &SessionId) -> Self {
        derive(&["invoice", session.as_str()]).into()
    }
}

impl CreditNoteId {
    /// The credit note on `invoice` that `idempotency_key` stands for.
    #[must_use]
    pub fn for_key(invoice: &InvoiceId, idempotency_key: &str) -> Self {
        derive(&["credit note", invoice.as_str(), idempotency_key]).into()
    }
}

impl StationId {
    /// The shard (0 to `shards` - 1) in which all sessions of this station are simulated together.
    #[must_use]
    pub fn shard(&self, shards: u32) -> u32 {
        shard(self.as_str(), shards)
    }
}

impl LogId {
    /// The shard (0 to `shards` - 1) in which this entry is listed.
    #[must_use]
    pub fn shard(&self, shards: u32) -> u32 {
        shard(self.as_str(), shards)
    }
}

/// A shard by hash of `id`: evenly spread, and the same for ever.
fn shard(id: &str, shards: u32) -> u32 {
    let hash = derive(&["shard", id]).as_u128();
    u32::try_from(hash % u128::from(shards.max(1))).unwrap_or_default()
}
