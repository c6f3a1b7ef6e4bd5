use std::error::Error as StdError;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use domain::error::DomainError;

/// Why a read or a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The business rules refuse the request, for example because of a token that this service did not issue.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The item has changed since it was read. The caller should read it again and repeat the decision.
    #[error("the condition of {0} does not hold any more")]
    ConditionFailed(String),
    /// The table is throttled, contended or cannot be reached. A later try may succeed.
    #[error("the table cannot be reached or is busy: {0}")]
    Unavailable(String),
    /// An item that this version of the code cannot read.
    #[error("item {item} cannot be read: {reason}")]
    Corrupt {
        /// Key of the item.
        item: String,
        /// Why the item cannot be read.
        reason: String,
    },
    /// Any other failure: a missing table, a missing permission, a bug.
    #[error("the table refused the request: {0}")]
    Rejected(String),
}

impl StoreError {
    /// Returns whether the same call may succeed a moment later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Returns whether the item has changed since it was read.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::ConditionFailed(_))
    }

    pub(crate) fn corrupt(item: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Corrupt { item: item.into(), reason: reason.to_string() }
    }
}

const BUSY: [&str; 8] = [
    "ProvisionedThroughputExceededException",
    "ReplicatedWriteConflictException",
    "ThrottlingException",
    "ThrottlingError",
    "RequestLimitExceeded",
    "InternalServerError",
    "TransactionConflictException",
    "TransactionInProgressException",
];

/// Classifies an SDK error about `what` into the few kinds that callers distinguish.
pub(crate) fn classify<E>(what: &str, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or("unknown");
            let message = service.err().message().unwrap_or_default();
            if code == "ConditionalCheckFailedException" {
                StoreError::ConditionFailed(what.to_owned())
            } else if BUSY.contains(&code) || service.raw().status().is_server_error() {
                StoreError::Unavailable(format!("{what}: {code}"))
            } else {
                StoreError::Rejected(format!("{what}: {code}: {message}"))
            }
        }
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            StoreError::Unavailable(format!("{what}: {}", aws_sdk_dynamodb::error::DisplayErrorContext(error)))
        }
        _ => StoreError::Rejected(format!("{what}: {}", aws_sdk_dynamodb::error::DisplayErrorContext(error))),
    }
}
