use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use domain::error::{BoxError, Chain, DomainError, FieldError, IllegalTransition};
use lambda_runtime::Diagnostic;
use serde_json::{Value, json};
use store::StoreError;

/// The error codes of the API. Direct invocations, HTTP requests and GraphQL requests use the same codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request is invalid.
    Validation,
    /// The actor is not allowed to do this.
    Forbidden,
    /// The requested object does not exist.
    NotFound,
    /// The request contradicts the current state.
    Conflict,
    /// There were too many requests.
    TooManyRequests,
    /// The service is busy or a dependency cannot be reached. A later attempt may succeed.
    Unavailable,
    /// A defect in Evoke.
    Internal,
}

impl Code {
    /// All codes.
    pub const ALL: [Self; 7] = [
        Self::Validation,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::TooManyRequests,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The name of the code: the `errorType` of a direct invocation and of a GraphQL error, and the `code` of a problem
    /// document.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Validation => "ValidationError",
            Self::Forbidden => "ForbiddenError",
            Self::NotFound => "NotFoundError",
            Self::Conflict => "ConflictError",
            Self::TooManyRequests => "TooManyRequestsError",
            Self::Unavailable => "UnavailableError",
            Self::Internal => "InternalError",
        }
    }

    /// The HTTP status of the code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Validation => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooManyRequests => 429,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Validation => "Bad Request",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::Conflict => "Conflict",
            Self::TooManyRequests => "Too Many Requests",
            Self::Unavailable => "Service Unavailable",
            Self::Internal => "Internal Server Error",
        }
    }
}

/// The source of a failure. It is shared, because one failure can be the result of many messages of a batch.
type Source = Arc<dyn StdError + Send + Sync>;

/// The failure of a request: the part that the caller sees, and the source, which only the log contains.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The request is invalid.
    Validation {
        /// A message for the caller: what was wrong, and what would be right.
        message: String,
        /// All invalid fields.
        fields: Vec<FieldError>,
    },
    /// The actor is not allowed to do this. The message is for the caller.
    Forbidden(String),
    /// The requested object does not exist. The message is for the caller.
    NotFound(String),
    /// The request contradicts the current state.
    Conflict {
        /// A message for the caller: what was wrong, and what would be right.
        message: String,
        /// The state transition that was refused, if any.
        transition: Option<Box<IllegalTransition>>,
    },
    /// The decision was based on data that has been changed since. Another attempt may succeed. The caller sees a
    /// conflict.
    Stale {
        /// What has changed.
        source: Source,
    },
    /// There were too many requests. The message is for the caller.
    TooManyRequests(String),
    /// The service is busy or a dependency cannot be reached. A later attempt may succeed.
    Unavailable {
        /// A message for the caller.
        message: String,
        /// Why the request cannot be handled.
        source: Source,
    },
    /// A defect in Evoke.
    Internal {
        /// What is wrong.
        source: Source,
    },
}

const STALE: &str = "somebody else changed it at the same time; read it again and retry";
const UNAVAILABLE: &str = "the service is busy or a part of it cannot be reached; try again in a moment";
const INTERNAL: &str = "something failed on our side; quote the correlation id when you report it";

impl Failure {
    /// Creates a validation failure for one field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        DomainError::invalid(field, message).into()
    }

    /// Creates a validation failure for several fields.
    #[must_use]
    pub fn invalid_fields(fields: Vec<FieldError>) -> Self {
        DomainError::Validation(fields).into()
    }

    /// Creates a conflict: the decision was based on data that has been changed since. `source` goes to the log.
    pub fn stale(source: impl Into<BoxError>) -> Self {
        Self::Stale { source: share(source) }
    }

    /// Creates an internal failure. `source` goes to the log and never to the caller.
    pub fn internal(source: impl Into<BoxError>) -> Self {
        Self::Internal { source: share(source) }
    }

    /// Converts a caught panic to an internal failure.
    pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::internal(format!("panicked: {}", text.unwrap_or_default()))
    }

    /// Creates a failure for a service that is busy or cannot be reached. `source` goes to the log and never to the
    /// caller.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self::Unavailable { message: UNAVAILABLE.to_owned(), source: share(source) }
    }

    /// Returns the error code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Validation { .. } => Code::Validation,
            Self::Forbidden(_) => Code::Forbidden,
            Self::NotFound(_) => Code::NotFound,
            Self::Conflict { .. } | Self::Stale { .. } => Code::Conflict,
            Self::TooManyRequests(_) => Code::TooManyRequests,
            Self::Unavailable { .. } => Code::Unavailable,
            Self::Internal { .. } => Code::Internal,
        }
    }

    /// Returns the message for the caller.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Validation { message, .. }
            | Self::Forbidden(message)
            | Self::NotFound(message)
            | Self::Conflict { message, .. }
            | Self::TooManyRequests(message)
            | Self::Unavailable { message, .. } => message,
            Self::Stale { .. } => STALE,
            Self::Internal { .. } => INTERNAL,
        }
    }

    /// Returns the source with all its own sources as text, for the log only.
    #[must_use]
    pub fn cause(&self) -> Option<String> {
        self.source().map(|source| Chain(source).to_string())
    }

    /// Returns whether the decision was based on data that has been changed since. If so, another attempt may succeed.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Stale { .. })
    }

    /// Converts the failure to a Lambda function error.
    #[must_use]
    pub fn into_diagnostic(self) -> Diagnostic {
        Diagnostic { error_type: self.code().name().to_owned(), error_message: self.message().to_owned() }
    }

    /// Converts the failure to a problem document (RFC 9457).
    #[must_use]
    pub fn into_problem(self, correlation_id: &str) -> Value {
        let code = self.code();
        let mut problem = json!({
            "type": "about:blank",
            "title": code.title(),
            "status": code.status(),
            "code": code.name(),
            "detail": self.message(),
            "correlationId": correlation_id,
        });
        self.add_details(&mut problem);
        problem
    }

    /// Converts the failure to the error of a GraphQL field: `type`, `message`, and what problem documents have.
    #[must_use]
    pub fn into_field_error(self, correlation_id: &str) -> Value {
        let mut error =
            json!({ "type": self.code().name(), "message": self.message(), "correlationId": correlation_id });
        self.add_details(&mut error);
        error
    }

    /// Adds all invalid fields, or the transition that was refused with those that are allowed.
    fn add_details(self, error: &mut Value) {
        match self {
            Self::Validation { fields, .. } if !fields.is_empty() => error["errors"] = json!(fields),
            Self::Conflict { transition: Some(transition), .. } => {
                error["from"] = json!(transition.from);
                error["to"] = json!(transition.to);
                error["allowed"] = json!(transition.allowed);
            }
            _ => {}
        }
    }
}

fn share(source: impl Into<BoxError>) -> Source {
    let source: BoxError = source.into();
    source.into()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code().name(), self.message())
    }
}

impl From<DomainError> for Failure {
    fn from(error: DomainError) -> Self {
        let message = error.to_string();
        match error {
            DomainError::Validation(fields) => Self::Validation { message, fields },
            DomainError::Forbidden(_) => Self::Forbidden(message),
            DomainError::NotFound(_) => Self::NotFound(message),
            DomainError::Conflict(conflict) => {
                Self::Conflict { message, transition: conflict.transition.map(Box::new) }
            }
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Domain(error) => error.into(),
            StoreError::Unavailable { .. } => Self::unavailable(error),
            StoreError::ConditionFailed(_) => Self::stale(error),
            StoreError::Corrupt { .. } | StoreError::Rejected { .. } => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::error::SdkError;
    use aws_sdk_lambda::operation::invoke::InvokeError;

    use super::*;

    #[test]
    fn the_log_has_the_whole_chain_of_sources_and_the_caller_has_none_of_it() {
        let source = || -> BoxError {
            let error: SdkError<InvokeError> = SdkError::timeout_error("4 s are over");
            error.into()
        };
        let what = || "STATION#s-1/METADATA".to_owned();
        let cases = [
            (
                StoreError::Unavailable { what: what(), source: source() },
                "the table cannot be reached or is busy: STATION#s-1/METADATA",
                UNAVAILABLE,
            ),
            (
                StoreError::Rejected { what: what(), source: source() },
                "the table refused the request: STATION#s-1/METADATA",
                INTERNAL,
            ),
            (
                StoreError::Corrupt { item: what(), source: source() },
                "item STATION#s-1/METADATA cannot be read",
                INTERNAL,
            ),
        ];
        for (error, text, message) in cases {
            let failure = Failure::from(error);
            assert_eq!(failure.cause(), Some(format!("{text}: request has timed out: 4 s are over")));
            assert_eq!(failure.to_string(), format!("{}: {message}", failure.code().name()));
            assert_eq!(failure.clone().into_diagnostic().error_message, message);
            for answer in [failure.clone().into_problem("c-1"), failure.into_field_error("c-1")] {
                let text = answer.to_string();
                assert!(["4 s", "timed out", "s-1"].iter().all(|secret| !text.contains(secret)), "{text}");
            }
        }
    }

    #[test]
    fn a_lost_race_is_a_conflict_with_its_source_in_the_log() {
        let failure = Failure::from(StoreError::ConditionFailed("STATION#s-1/METADATA".to_owned()));
        assert!(failure.is_stale() && failure.code() == Code::Conflict);
        assert_eq!(failure.cause().as_deref(), Some("the condition of STATION#s-1/METADATA does not hold any more"));
        assert_eq!(failure.message(), STALE);
    }
}
