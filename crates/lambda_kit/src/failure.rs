use domain::error::{DomainError, FieldError, IllegalTransition};
use lambda_runtime::Diagnostic;
use serde_json::{Value, json};
use store::StoreError;

/// The error codes of the API. Direct invocations and HTTP requests use the same codes.
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

    /// The name of the code: the `errorType` of a direct invocation and the `code` of a problem document.
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

/// The failure of a request: the part that the caller sees, and the part that only the log contains.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct Failure {
    /// The error code.
    pub code: Code,
    /// A message for the caller: what was wrong, and what would be right.
    pub message: String,
    /// All invalid fields.
    pub fields: Vec<FieldError>,
    /// The state transition that was refused, if any.
    pub transition: Option<Box<IllegalTransition>>,
    /// Whether the decision was based on data that has been changed since. If so, another attempt may succeed.
    pub stale: bool,
    /// The cause, for the log only.
    pub cause: Option<String>,
}

impl Failure {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), fields: Vec::new(), transition: None, stale: false, cause: None }
    }

    /// Creates a failure with the code and message of a refusal that was decided elsewhere, such as in another
    /// function.
    #[must_use]
    pub fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, message)
    }

    /// Creates a validation failure for one field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        DomainError::invalid(field, message).into()
    }

    /// Creates a validation failure for several fields.
    #[must_use]
    pub fn invalid_fields(fields: Vec<FieldError>) -> Self {
        DomainError::Validation(fields).into()
    }

    /// Creates a conflict: the decision was based on data that has been changed since. `what` goes to the log.
    #[must_use]
    pub fn stale(what: &str) -> Self {
        Self {
            stale: true,
            cause: Some(what.to_owned()),
            ..Self::new(Code::Conflict, "somebody else changed it at the same time; read it again and retry")
        }
    }

    /// Creates an internal failure. `cause` goes to the log and never to the caller.
    #[allow(clippy::needless_pass_by_value)] // so that `map_err` accepts this function
    pub fn internal(cause: impl ToString) -> Self {
        Self {
            cause: Some(cause.to_string()),
            ..Self::new(Code::Internal, "something failed on our side; quote the correlation id when you report it")
        }
    }

    /// Converts a caught panic to an internal failure.
    pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::internal(format!("panicked: {}", text.unwrap_or_default()))
    }

    /// Creates a failure for a service that is busy or cannot be reached. `cause` goes to the log and never to the
    /// caller.
    #[allow(clippy::needless_pass_by_value)] // so that `map_err` accepts this function
    pub fn unavailable(cause: impl ToString) -> Self {
        Self {
            cause: Some(cause.to_string()),
            ..Self::new(
                Code::Unavailable,
                "the service is busy or a part of it cannot be reached; try again in a moment",
            )
        }
    }

    /// Converts the failure to a Lambda function error.
    #[must_use]
    pub fn into_diagnostic(self) -> Diagnostic {
        Diagnostic { error_type: self.code.name().to_owned(), error_message: self.message }
    }

    /// Converts the failure to a problem document (RFC 9457).
    #[must_use]
    pub fn into_problem(self, correlation_id: &str) -> Value {
        let mut problem = json!({
            "type": "about:blank",
            "title": self.code.title(),
            "status": self.code.status(),
            "code": self.code.name(),
            "detail": self.message,
            "correlationId": correlation_id,
        });
        if !self.fields.is_empty() {
            problem["errors"] = json!(self.fields);
        }
        if let Some(transition) = self.transition {
            problem["from"] = json!(transition.from);
            problem["to"] = json!(transition.to);
            problem["allowed"] = json!(transition.allowed);
        }
        problem
    }
}

impl From<DomainError> for Failure {
    fn from(error: DomainError) -> Self {
        let message = error.to_string();
        match error {
            DomainError::Validation(fields) => Self { fields, ..Self::new(Code::Validation, message) },
            DomainError::Forbidden(_) => Self::new(Code::Forbidden, message),
            DomainError::NotFound(_) => Self::new(Code::NotFound, message),
            DomainError::Conflict(conflict) => {
                Self { transition: conflict.transition.map(Box::new), ..Self::new(Code::Conflict, message) }
            }
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Domain(error) => error.into(),
            StoreError::Unavailable(_) => Self::unavailable(error),
            StoreError::ConditionFailed(_) => Self::stale(&error.to_string()),
            StoreError::Corrupt { .. } | StoreError::Rejected(_) => Self::internal(error),
        }
    }
}
