use std::fmt;

use futures::future::BoxFuture;
use serde_json::{Value, json};

/// The authorization of a request: an access token or the API key.
#[derive(Clone, PartialEq, Eq)]
pub enum Authorization {
    /// The access token of a user.
    Token(String),
    /// The API key, for the few fields that need no user.
    ApiKey(String),
}

impl Authorization {
    /// Returns the name and the value of the HTTP header.
    pub(crate) fn header(&self) -> (&'static str, &str) {
        match self {
            Self::Token(token) => ("Authorization", token),
            Self::ApiKey(key) => ("x-api-key", key),
        }
    }

    /// Returns the authorization as a WebSocket client sends it: with the host of the API in an object.
    pub(crate) fn object(&self, host: &str) -> Value {
        let (name, value) = self.header();
        json!({ "host": host, name: value })
    }
}

/// Shows no secret.
impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::ApiKey(_) => "ApiKey",
        })
    }
}

/// A source of authorizations.
///
/// An access token expires, while a subscription may last for days. So the client asks for an authorization each time
/// it connects.
pub trait Credentials: Send + Sync {
    /// Returns an authorization for a new connection. `refused` is the last authorization, if the API refused it.
    /// `None` means that there is no other authorization: the subscription ends.
    ///
    /// # Errors
    /// There is no authorization at present, for example because the network is down. The subscription asks again
    /// later.
    fn authorization<'a>(
        &'a self,
        refused: Option<&'a Authorization>,
    ) -> BoxFuture<'a, anyhow::Result<Option<Authorization>>>;
}

/// One authorization, which cannot be renewed.
impl Credentials for Authorization {
    fn authorization<'a>(
        &'a self,
        refused: Option<&'a Authorization>,
    ) -> BoxFuture<'a, anyhow::Result<Option<Authorization>>> {
        let authorization = (refused != Some(self)).then(|| self.clone());
        Box::pin(async move { Ok(authorization) })
    }
}
