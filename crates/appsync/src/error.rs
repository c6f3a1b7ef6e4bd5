use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An error that the GraphQL API reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GraphQlError {
    /// What was wrong.
    pub message: String,
    /// The type of the error: a name of Evoke, for example `ConflictError`, or a name of `AppSync`.
    pub error_type: Option<String>,
    /// More about an error of Evoke: `correlationId`, and `errors` with every field that is not valid.
    pub error_info: Value,
    /// The HTTP status of the error. Only errors on a WebSocket have this number.
    pub error_code: Option<u16>,
    /// The path to the field that failed.
    pub path: Value,
}

impl GraphQlError {
    /// Returns whether the API refused the authorization, so that another one may be accepted.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        let kind = self.error_type.as_deref().unwrap_or_default();
        self.error_code == Some(401) || ["UnauthorizedException", "Unauthorized"].contains(&kind)
    }

    /// Returns whether the same request may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        let kind = self.error_type.as_deref().unwrap_or_default();
        let is_failure = self.error_code.is_some_and(|code| code == 429 || code >= 500);
        is_failure
            || ["InternalError", "LimitExceededError", "TooManyRequestsError", "UnavailableError"].contains(&kind)
    }
}

impl fmt::Display for GraphQlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error_type {
            Some(kind) if self.message.is_empty() => f.write_str(kind),
            Some(kind) => write!(f, "{kind}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API answered with errors.
    #[error("{}", list(.0))]
    Refused(Vec<GraphQlError>),
    /// There was no answer.
    #[error("the GraphQL API cannot be reached")]
    Unreachable(#[from] reqwest::Error),
    /// The answer is not one of a GraphQL API.
    #[error("the GraphQL API answered {0}")]
    Unintelligible(String),
    /// The answer does not have the form that was expected.
    #[error("the answer does not have the expected form")]
    Unexpected(#[from] serde_json::Error),
}

impl Error {
    /// Returns the type of the first error that the API reported, for example `NotFoundError`.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::Refused(errors) => errors.first()?.error_type.as_deref(),
            _ => None,
        }
    }
}

/// Returns errors as one text.
pub(crate) fn list(errors: &[GraphQlError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
