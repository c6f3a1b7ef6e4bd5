use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::actor::Role;
use crate::error::DomainError;
use crate::id::UserId;
use crate::machine::State;

const SYSTEM: &[Role] = &[Role::System];
const STAFF: &[Role] = &[Role::TechSupport, Role::Admin, Role::System];
const ANYONE: &[Role] = &Role::ALL;

/// Status of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UserStatus {
    /// Registered. The user has not confirmed the e-mail address yet, or has not signed in for the first time.
    Unconfirmed,
    /// The user may start sessions. A user without a row has this status.
    #[default]
    Active,
    /// The user may neither sign in nor start sessions until the staff lifts the block.
    Blocked,
    /// The user asked for the deletion of the account. No session may start any more.
    Deleting,
    /// The personal data is deleted. The row stays for ever, so that a late token cannot create the user again.
    Deleted,
}

impl State for UserStatus {
    const WHAT: &'static str = "user";
    const ALL: &'static [Self] = &[Self::Unconfirmed, Self::Active, Self::Blocked, Self::Deleting, Self::Deleted];

    fn name(self) -> &'static str {
        match self {
            Self::Unconfirmed => "UNCONFIRMED",
            Self::Active => "ACTIVE",
            Self::Blocked => "BLOCKED",
            Self::Deleting => "DELETING",
            Self::Deleted => "DELETED",
        }
    }

    // A deletion begins again (DELETING to DELETING) if the earlier attempt did not complete. Only the platform refuses
    // a deletion: otherwise a blocked user could return to ACTIVE, and so lift the block.
    fn transitions(self) -> &'static [(Self, &'static [Role])] {
        match self {
            Self::Unconfirmed => &[(Self::Active, SYSTEM), (Self::Blocked, STAFF), (Self::Deleting, ANYONE)],
            Self::Active => &[(Self::Blocked, STAFF), (Self::Deleting, ANYONE)],
            Self::Blocked => &[(Self::Active, STAFF), (Self::Deleting, ANYONE)],
            Self::Deleting => &[
                (Self::Unconfirmed, SYSTEM),
                (Self::Active, SYSTEM),
                (Self::Blocked, SYSTEM),
                (Self::Deleting, ANYONE),
                (Self::Deleted, SYSTEM),
            ],
            Self::Deleted => &[],
        }
    }
}

impl UserStatus {
    /// Returns the status of a user whose row has the attributes `status` and `blocked`.
    ///
    /// `blocked` decides whether the user is blocked, because operators write it by hand, even into a row that has
    /// nothing else. A user who is DELETING or DELETED keeps that status, whatever `blocked` is.
    #[must_use]
    pub fn of_row(status: Option<Self>, blocked: Option<bool>) -> Self {
        match (status, blocked) {
            (Some(status @ (Self::Deleting | Self::Deleted)), _) => status,
            (_, Some(true)) => Self::Blocked,
            (Some(Self::Blocked), Some(false)) => Self::Active,
            (status, _) => status.unwrap_or_default(),
        }
    }

    /// Checks that `user`, who has this status, may start a session.
    ///
    /// An unconfirmed user may start one: the staff can give a charging token to a customer who has never signed in.
    ///
    /// # Errors
    /// `Forbidden` if the user is blocked, is being deleted or was deleted.
    pub fn may_charge(self, user: &UserId) -> Result<(), DomainError> {
        self.may(user, "start a session")
    }

    /// Checks that `user`, who has this status, may act for the staff.
    ///
    /// # Errors
    /// `Forbidden` if the user is blocked, is being deleted or was deleted.
    pub fn may_act_for_staff(self, user: &UserId) -> Result<(), DomainError> {
        self.may(user, "act for the staff")
    }

    fn may(self, user: &UserId, what: &str) -> Result<(), DomainError> {
        let why = match self {
            Self::Unconfirmed | Self::Active => return Ok(()),
            Self::Blocked => "is blocked",
            Self::Deleting => "is being deleted",
            Self::Deleted => "was deleted",
        };
        Err(DomainError::Forbidden(format!("user {user} {why} and may not {what}")))
    }
}

#[cfg(test)]
mod tests {
    use super::UserStatus::{self, Active, Blocked, Deleted, Deleting, Unconfirmed};

    #[test]
    fn the_attribute_blocked_is_the_truth_about_a_block() {
        for (status, blocked, expected) in [
            (None, None, Active),
            (None, Some(false), Active),
            (None, Some(true), Blocked),
            (Some(Active), None, Active),
            (Some(Active), Some(true), Blocked),
            (Some(Unconfirmed), Some(false), Unconfirmed),
            (Some(Unconfirmed), Some(true), Blocked),
            (Some(Blocked), None, Blocked),
            (Some(Blocked), Some(true), Blocked),
            (Some(Blocked), Some(false), Active),
            (Some(Deleting), Some(true), Deleting),
            (Some(Deleted), Some(true), Deleted),
            (Some(Deleted), None, Deleted),
        ] {
            assert_eq!(UserStatus::of_row(status, blocked), expected, "{status:?} {blocked:?}");
        }
    }
}
