//! The events of users. They contain no personal data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::id::UserId;

/// A user was registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserRegistered {
    /// Id of the user.
    pub user_id: UserId,
    /// When the user was registered.
    pub registered_at: Instant,
    /// Whether the user was registered together with a vehicle.
    pub has_vehicle: bool,
}

/// A user was blocked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserBlocked {
    /// Id of the user.
    pub user_id: UserId,
    /// When the user was blocked.
    pub blocked_at: Instant,
    /// Whether the running sessions of the user end now.
    pub end_sessions: bool,
}

/// The block of a user was lifted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserUnblocked {
    /// Id of the user.
    pub user_id: UserId,
    /// When the block was lifted.
    pub unblocked_at: Instant,
}

/// The personal data of a user was deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserDeleted {
    /// Id of the user.
    pub user_id: UserId,
    /// When the data was deleted.
    pub deleted_at: Instant,
}
