//! The user pool of Cognito, in the terms of accounts. No other module calls Cognito.
//!
//! Cognito's own messages go neither to the caller nor to the log, because they may repeat values of the request.

mod person;
mod refusal;
mod sign_in;
mod sign_up;

use std::fmt::Display;

use aws_sdk_cognitoidentityprovider::Client;
use aws_sdk_cognitoidentityprovider::types::AttributeType;
use domain::id::UserId;

pub use person::Person;
pub use refusal::{NO_SIGN_IN, Refusal};
pub use sign_in::Tokens;

/// The user pool and its one app client.
#[derive(Clone, Debug)]
pub struct UserPool {
    client: Client,
    pool: String,
    app_client: String,
}

impl UserPool {
    /// Creates the user pool `pool` with its app client.
    #[must_use]
    pub fn new(client: Client, pool: String, app_client: String) -> Self {
        Self { client, pool, app_client }
    }

    /// Returns the id of the app client.
    pub(crate) fn app_client(&self) -> &str {
        &self.app_client
    }
}

fn attribute(name: &str, value: &str) -> Result<AttributeType, Refusal> {
    AttributeType::builder().name(name).value(value).build().map_err(|error| Refusal::Rejected(error.into()))
}

fn user_id(sub: impl Display) -> Result<UserId, Refusal> {
    UserId::new(sub.to_string()).map_err(|_| rejected("the sub of a user is no id"))
}

fn rejected(reason: &'static str) -> Refusal {
    Refusal::Rejected(reason.into())
}
