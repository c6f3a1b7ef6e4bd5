//! Actors: who makes a request, and in which role.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DomainError;
use crate::id::UserId;

/// Role of an actor, which determines what the actor may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// Runs the network.
    Admin,
    /// Maintains the stations.
    TechSupport,
    /// Charges a vehicle.
    User,
    /// The platform itself: schedules and event consumers.
    System,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Admin, Self::TechSupport, Self::User, Self::System];

    /// Returns whether the role is ADMIN, `TECH_SUPPORT` or SYSTEM.
    #[must_use]
    pub fn is_staff(self) -> bool {
        self != Self::User
    }

    /// Returns the role of the two that may do less.
    #[must_use]
    pub fn lower(self, other: Self) -> Self {
        if self.rank() <= other.rank() { self } else { other }
    }

    fn rank(self) -> u8 {
        match self {
            Self::User => 0,
            Self::TechSupport => 1,
            Self::Admin => 2,
            Self::System => 3,
        }
    }
}

/// The actor of a request: a user in a role. Direct invocations are trusted to state their actor; HTTP requests prove
/// it with a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// Id of the user. For HTTP requests it is the `sub` of the token.
    pub user_id: UserId,
    /// Role in which the user acts.
    pub role: Role,
}

impl Actor {
    /// Returns the actor that stands for the platform itself.
    #[must_use]
    pub fn system() -> Self {
        Self { user_id: UserId::system(), role: Role::System }
    }

    /// Returns the user this request acts for: the actor, unless `user` names someone else, which only staff may do.
    ///
    /// # Errors
    /// `Forbidden` if an actor with role USER names another user.
    pub fn on_behalf_of(&self, user: Option<&UserId>) -> Result<UserId, DomainError> {
        let user = user.unwrap_or(&self.user_id);
        self.may_see(user, &format!("what is user {user}'s"))?;
        Ok(user.clone())
    }

    /// Checks that the actor may see `what`, which belongs to `owner`.
    ///
    /// # Errors
    /// `Forbidden` if an actor with role USER is not the owner.
    pub fn may_see(&self, owner: &UserId, what: &str) -> Result<(), DomainError> {
        if self.role.is_staff() || self.user_id == *owner {
            return Ok(());
        }
        Err(DomainError::Forbidden(format!("role USER may act for itself only: {what} is another user's")))
    }
}
