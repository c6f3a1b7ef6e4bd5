use std::fmt;

use futures::future::BoxFuture;
use serde_json::{Value, json};

/// What a request is authorized by. The API takes either for the fields that are open to it.
#[derive(Clone, PartialEq, Eq)]
pub enum Authorization {
    /// The access token of a user.
    Token(String),
    /// The key of the API, for the few fields that need no user.
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

/// Where the authorization of a connection comes from.
///
/// An access token expires, while a subscription may go on for days. So each connection asks for an authorization of
/// its own.
pub trait Credentials: Send + Sync {
    /// Returns an authorization for a new connection. `refused` is the last one, if the API refused it. `None` means
    /// that there is no other: the subscription ends.
    ///
    /// An error means that none can be had at present, for example because the network is down. The subscription asks
    /// again later.
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
