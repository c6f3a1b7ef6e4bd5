use std::error::Error as StdError;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use domain::error::{BoxError, DomainError};

use crate::aws_error::AwsError;

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
    #[error("the table cannot be reached or is busy: {what}")]
    Unavailable {
        /// What was read or written: a key, a table or a transaction.
        what: String,
        /// The error of the table.
        source: BoxError,
    },
    /// An item that this version of the code cannot read.
    #[error("item {item} cannot be read")]
    Corrupt {
        /// Key of the item.
        item: String,
        /// Why the item cannot be read.
        source: BoxError,
    },
    /// Any other failure: a missing table, a missing permission, a bug.
    #[error("the table refused the request: {what}")]
    Rejected {
        /// What was read or written: a key, a table or a transaction.
        what: String,
        /// The error of the table.
        source: BoxError,
    },
}

impl StoreError {
    /// Returns whether the same call may succeed a moment later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Returns whether the item has changed since it was read.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::ConditionFailed(_))
    }

    pub(crate) fn unavailable(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Unavailable { what: what.into(), source: source.into() }
    }

    pub(crate) fn corrupt(item: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Corrupt { item: item.into(), source: source.into() }
    }

    pub(crate) fn rejected(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Rejected { what: what.into(), source: source.into() }
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
pub(crate) fn classify<E>(what: impl Into<String>, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let is_busy = match &error {
        SdkError::ServiceError(service) => match service.err().code() {
            Some("ConditionalCheckFailedException") => return StoreError::ConditionFailed(what.into()),
            code => code.is_some_and(|code| BUSY.contains(&code)) || service.raw().status().is_server_error(),
        },
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => true,
        _ => false,
    };
    let error = AwsError::from(error);
    if is_busy { StoreError::unavailable(what, error) } else { StoreError::rejected(what, error) }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::error::ErrorMetadata;
    use aws_sdk_dynamodb::operation::get_item::GetItemError;
    use aws_sdk_dynamodb::types::error::ThrottlingException;
    use domain::error::Chain;

    use super::*;

    #[test]
    fn the_sdk_error_is_the_source_and_not_in_the_message() {
        let code = ErrorMetadata::builder().code("ThrottlingException").build();
        let throttled = ThrottlingException::builder().message("slow down").meta(code).build();
        let answer = HttpResponse::new(400_u16.try_into().unwrap(), "".into());
        let refused = SdkError::service_error(GetItemError::ThrottlingException(throttled), answer);
        let cases = [
            (refused, ": service error (status 400): ThrottlingException: slow down"),
            (SdkError::timeout_error("4 s are over"), ": request has timed out: 4 s are over"),
        ];
        for (error, source) in cases {
            let error = classify("STATION#s-1/METADATA", error);
            let message = "the table cannot be reached or is busy: STATION#s-1/METADATA";
            assert!(error.is_retryable());
            assert_eq!(error.to_string(), message);
            assert_eq!(Chain(&error).to_string(), format!("{message}{source}"));
        }
    }

    #[test]
    fn text_can_be_the_source() {
        let error = StoreError::corrupt("SESSION#1", "its terms are missing");
        assert_eq!(Chain(&error).to_string(), "item SESSION#1 cannot be read: its terms are missing");
    }
}
