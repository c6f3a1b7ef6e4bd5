use std::error::Error;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::RequestId;
use domain::error::BoxError;

/// An error of the AWS SDK, of any service, as the source of another error.
///
/// Its message has the HTTP status and the request id of the answer, if there was one, because AWS can find a request
/// only by its id. Its source is the source of the SDK's error. Neither contains the body of the answer.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AwsError {
    message: String,
    source: BoxError,
}

impl<E> From<SdkError<E, HttpResponse>> for AwsError
where
    E: Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let status = error.raw_response().map(HttpResponse::status);
        let message = match (status, error.request_id()) {
            (Some(status), Some(id)) => format!("{error} (status {status}, request id {id})"),
            (Some(status), None) => format!("{error} (status {status})"),
            (None, _) => error.to_string(),
        };
        Self { message, source: error.into_source().unwrap_or_else(Into::into) }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::error::ErrorMetadata;
    use aws_sdk_dynamodb::operation::get_item::GetItemError;
    use aws_sdk_dynamodb::types::error::ThrottlingException;
    use domain::error::Chain;

    use super::*;

    fn answer(headers: &[(&'static str, &'static str)]) -> HttpResponse {
        let mut answer = HttpResponse::new(400_u16.try_into().unwrap(), "the body".into());
        for &(name, value) in headers {
            answer.headers_mut().insert(name, value);
        }
        answer
    }

    fn throttled() -> GetItemError {
        let code = ErrorMetadata::builder().code("ThrottlingException").build();
        GetItemError::ThrottlingException(ThrottlingException::builder().message("slow down").meta(code).build())
    }

    #[test]
    fn the_log_has_the_status_and_the_request_id_and_not_the_body() {
        let cases = [
            (answer(&[("x-amzn-requestid", "R-1")]), "(status 400, request id R-1)"),
            (answer(&[("x-amz-request-id", "R-2")]), "(status 400, request id R-2)"),
            (answer(&[]), "(status 400)"),
        ];
        for (answer, text) in cases {
            let error = AwsError::from(SdkError::service_error(throttled(), answer));
            assert_eq!(error.to_string(), format!("service error {text}"));
            assert_eq!(Chain(&error).to_string(), format!("service error {text}: ThrottlingException: slow down"));
            assert!(!format!("{error:?}").contains("the body"), "{error:?}");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_read_has_a_request_id_too() {
        let answer = answer(&[("x-amzn-requestid", "R-1")]);
        let error: SdkError<GetItemError> = SdkError::response_error("not JSON", answer);
        let error = AwsError::from(error);
        assert_eq!(Chain(&error).to_string(), "response error (status 400, request id R-1): not JSON");
    }

    #[test]
    fn without_an_answer_there_is_the_source_alone() {
        let error: SdkError<GetItemError> = SdkError::timeout_error("4 s are over");
        let error = AwsError::from(error);
        assert_eq!(Chain(&error).to_string(), "request has timed out: 4 s are over");
    }
}
