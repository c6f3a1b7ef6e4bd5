//! Users, as far as charging needs them: whether they may start a session.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::actor::Role;
use crate::error::DomainError;
use crate::id::UserId;
use crate::machine::State;

/// Whether a user may charge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UserStatus {
    /// The user may start sessions.
    #[default]
    Active,
    /// The user may not start sessions until an ADMIN lifts the block.
    Blocked,
}

impl State for UserStatus {
    const WHAT: &'static str = "user";
    const ALL: &'static [Self] = &[Self::Active, Self::Blocked];

    fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Blocked => "BLOCKED",
        }
    }

    fn transitions(self) -> &'static [(Self, &'static [Role])] {
        match self {
            Self::Active => &[(Self::Blocked, &[Role::Admin])],
            Self::Blocked => &[(Self::Active, &[Role::Admin])],
        }
    }
}

impl UserStatus {
    /// Checks that `user`, who has this status, may start a session.
    ///
    /// # Errors
    /// `Forbidden` if the user is blocked.
    pub fn may_charge(self, user: &UserId) -> Result<(), DomainError> {
        match self {
            Self::Active => Ok(()),
            Self::Blocked => Err(DomainError::Forbidden(format!("user {user} is blocked and may not start a session"))),
        }
    }
}
