//! Accounts: users with their vehicles and charging tokens, and the machine clients that act for programs.

mod client;
mod events;
mod scope;
mod status;
mod token;
mod user;
mod vehicle;

pub use client::{CLIENT_DOMAIN, Client};
pub use events::{UserBlocked, UserDeleted, UserRegistered, UserUnblocked};
pub use scope::{Access, Area, RESOURCE_SERVER, Scope};
pub use status::UserStatus;
pub use token::{MAX_TOKENS, Token, TokenId, TokenType};
pub use user::{Language, NewUser, User, normalised_email, tidied_name};
pub use vehicle::{MAX_VEHICLES, NewVehicle, RegistrationNumber, Vehicle};

use crate::error::DomainError;
use crate::id::UserId;

/// Checks that `user` may have one more `what`, e.g. a vehicle. The pair is the present count and the maximum.
fn may_have_one_more(
    what: &str,
    (count, most): (u32, u32),
    status: UserStatus,
    user: &UserId,
) -> Result<(), DomainError> {
    match status {
        UserStatus::Deleted => Err(DomainError::not_found("user", user)),
        UserStatus::Deleting => {
            Err(DomainError::conflict(format!("user {user} is being deleted and gets no {what} any more")))
        }
        UserStatus::Unconfirmed | UserStatus::Active | UserStatus::Blocked if count >= most => {
            Err(DomainError::conflict(format!("user {user} has {count} {what}s, and may have {most} at most")))
        }
        UserStatus::Unconfirmed | UserStatus::Active | UserStatus::Blocked => Ok(()),
    }
}
