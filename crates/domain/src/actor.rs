//! Who asks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DomainError;
use crate::id::UserId;

/// What an actor may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// Runs the network.
    Admin,
    /// Keeps stations working.
    TechSupport,
    /// Charges a vehicle.
    User,
    /// The platform itself: schedules, event consumers.
    System,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Admin, Self::TechSupport, Self::User, Self::System];
    /// Those who see and act on everybody's behalf.
    pub const STAFF: &'static [Self] = &[Self::Admin, Self::TechSupport, Self::System];

    /// ADMIN, `TECH_SUPPORT` or SYSTEM.
    #[must_use]
    pub fn is_staff(self) -> bool {
        self != Self::User
    }
}

/// Who asks: a user in a role. Direct invocations are trusted to state it, HTTP requests prove it with a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// The user's id (over HTTP the token's `sub`).
    pub user_id: UserId,
    /// The role the user acts in.
    pub role: Role,
}

impl Actor {
    /// The platform acting by itself.
    #[must_use]
    pub fn system() -> Self {
        Self { user_id: UserId::system(), role: Role::System }
    }

    /// For whom the actor acts: for itself unless `user` is named, which for another user is staff's.
    ///
    /// # Errors
    /// Forbidden for a user who names another.
    pub fn on_behalf_of(&self, user: Option<&UserId>) -> Result<UserId, DomainError> {
        let user = user.unwrap_or(&self.user_id);
        self.may_see(user, &format!("what is user {user}'s"))?;
        Ok(user.clone())
    }

    /// Whether the actor may see `what`, which is `owner`'s.
    ///
    /// # Errors
    /// Forbidden for a user whose it is not.
    pub fn may_see(&self, owner: &UserId, what: &str) -> Result<(), DomainError> {
        if self.role.is_staff() || self.user_id == *owner {
            return Ok(());
        }
        Err(DomainError::Forbidden(format!("role USER may act for itself only: {what} is another user's")))
    }
}
