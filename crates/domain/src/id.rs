//! Identifiers: opaque strings, each kind with its own type.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::DomainError;

/// The maximum length of an identifier, in characters. Keys made of several identifiers and the 1 KB limit of an active
/// session depend on it.
pub const MAX_LENGTH: usize = 48;

/// The allowed form of an identifier. `#` is not allowed because it separates the parts of a key.
const PATTERN: &str = "^[A-Za-z0-9._:@|-]{1,48}$";

/// Namespace of the identifiers (UUID version 5) that are derived from data that must not be repeated.
const NAMESPACE: Uuid = Uuid::from_u128(0x65766f6b_6520_4a1f_9c3e_000000000001);

/// Derives a UUID from `parts`. The same parts always give the same UUID.
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
            /// Creates an id from a valid `value`.
            ///
            /// # Errors
            /// `Validation` if the value is empty, is too long, or contains a character that is not allowed in ids.
            pub fn new(value: impl Into<String>) -> Result<Self, DomainError> {
                let value = value.into();
                check(&value).map_err(|message| DomainError::invalid($field, message))?;
                Ok(Self(value))
            }

            /// Returns the id as text.
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
    /// Id of a charging station.
    StationId,
    "stationId"
);
id!(
    /// Id of a port (connector) of a station. It is unique within its station.
    PortId,
    "portId"
);
id!(
    /// Id of a charging session.
    SessionId,
    "sessionId"
);
id!(
    /// Id of a user of the network. For HTTP requests it is the `sub` of the token.
    UserId,
    "userId"
);
id!(
    /// Id of an entry of the error log.
    LogId,
    "logId"
);
id!(
    /// Id of a battery-swap station. It is also the name of the station's IoT thing.
    SwapStationId,
    "stationId"
);

id!(
    /// Id of an invoice. It is derived from the session, so that a session has only one invoice.
    InvoiceId,
    "invoiceId"
);
id!(
    /// Id of a credit note.
    CreditNoteId,
    "creditNoteId"
);

id!(
    /// Id of a vehicle of a user.
    VehicleId,
    "vehicleId"
);
id!(
    /// Id of a machine client.
    ClientId,
    "clientId"
);

impl UserId {
    /// Returns the user id of the platform itself.
    #[must_use]
    pub fn system() -> Self {
        Self("system".to_owned())
    }

    /// Returns the shard (0 to `shards` - 1) in which this user is listed.
    #[must_use]
    pub fn shard(&self, shards: u32) -> u32 {
        shard(self.as_str(), shards)
    }
}

impl SessionId {
    /// Returns the id of the session that `user` requests with `idempotency_key`. The same pair gives the same id.
    #[must_use]
    pub fn for_key(user: &UserId, idempotency_key: &str) -> Self {
        derive(&["session", user.as_str(), idempotency_key]).into()
    }
}

impl InvoiceId {
    /// Returns the id of the invoice of `session`. It is the same no matter how often the session is billed.
    #[must_use]
    pub fn of(session: &SessionId) -> Self {
        derive(&["invoice", session.as_str()]).into()
    }
}

impl CreditNoteId {
    /// Returns the id of the credit note on `invoice` that is requested with `idempotency_key`.
    #[must_use]
    pub fn for_key(invoice: &InvoiceId, idempotency_key: &str) -> Self {
        derive(&["credit note", invoice.as_str(), idempotency_key]).into()
    }
}

impl StationId {
    /// Returns the shard (0 to `shards` - 1) in which all sessions of this station are simulated together.
    #[must_use]
    pub fn shard(&self, shards: u32) -> u32 {
        shard(self.as_str(), shards)
    }
}

impl LogId {
    /// Returns the shard (0 to `shards` - 1) in which this entry is listed.
    #[must_use]
    pub fn shard(&self, shards: u32) -> u32 {
        shard(self.as_str(), shards)
    }
}

/// Returns the shard of `id` by hash. Shards are evenly filled, and the shard of an id never changes.
fn shard(id: &str, shards: u32) -> u32 {
    let hash = derive(&["shard", id]).as_u128();
    u32::try_from(hash % u128::from(shards.max(1))).unwrap_or_default()
}
