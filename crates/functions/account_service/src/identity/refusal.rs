//! What the user pool refuses, and what its errors mean.

use aws_sdk_cognitoidentityprovider::config::http::HttpResponse;
use aws_sdk_cognitoidentityprovider::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cognitoidentityprovider::operation::RequestId;
use domain::error::{BoxError, DomainError};
use lambda_kit::{AwsError, Failure};

use crate::secret::Password;

/// Why the user pool refused a request, or failed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is an account with this address.
    #[error("the address is taken")]
    AddressTaken,
    /// There is no such user.
    #[error("there is no such user")]
    UnknownUser,
    /// The password or the refresh token is wrong, or the user is disabled.
    #[error("the credentials are wrong")]
    WrongCredentials,
    /// The user has not confirmed the address yet.
    #[error("the address is not confirmed")]
    NotConfirmed,
    /// The user has already confirmed the address.
    #[error("the address is already confirmed")]
    AlreadyConfirmed,
    /// The code is wrong or has expired.
    #[error("the code is wrong or has expired")]
    WrongCode,
    /// The password does not meet the rules of the user pool.
    #[error("the password is too weak")]
    WeakPassword,
    /// The user pool does not take a value.
    #[error("a value is not taken")]
    Invalid,
    /// The user pool asks for more than a password: a new password, or a second factor.
    #[error("the sign-in needs a further step")]
    FurtherStep,
    /// There were too many attempts for this user.
    #[error("too many attempts")]
    TooManyAttempts,
    /// There were too many requests, counted over all users.
    #[error("too many requests")]
    TooManyRequests,
    /// `token_scopes` refused the token.
    #[error("the token was refused")]
    TokenRefused,
    /// The user pool cannot mail a code. Cognito says so only of addresses that it knows.
    #[error("the code cannot be mailed")]
    NotMailed(#[source] BoxError),
    /// The user pool is busy or cannot be reached.
    #[error("the user pool cannot be reached or is busy")]
    Unavailable(#[source] BoxError),
    /// Any other failure: a missing pool, a missing permission, a bug.
    #[error("the user pool refused the request")]
    Rejected(#[source] BoxError),
}

/// An error of Cognito for the log: its code without its message.
#[derive(Debug, thiserror::Error)]
#[error("Cognito answered {code} (request id {request_id})")]
struct CognitoError {
    code: String,
    request_id: String,
}

/// Returns the refusal for the message of an error; `None` if Cognito or a trigger failed.
type Meaning = fn(&str) -> Option<Refusal>;

/// What each error of Cognito means. A test of this module has an example of every line.
const MEANINGS: [(&str, Meaning); 19] = [
    ("UsernameExistsException", |_| Some(Refusal::AddressTaken)),
    ("AliasExistsException", |_| Some(Refusal::AddressTaken)),
    ("UserNotFoundException", |_| Some(Refusal::UnknownUser)),
    ("UserNotConfirmedException", |_| Some(Refusal::NotConfirmed)),
    ("NotAuthorizedException", |message| Some(not_authorized(message))),
    ("CodeMismatchException", |_| Some(Refusal::WrongCode)),
    ("ExpiredCodeException", |_| Some(Refusal::WrongCode)),
    ("InvalidPasswordException", |_| Some(Refusal::WeakPassword)),
    ("PasswordHistoryPolicyViolationException", |_| Some(Refusal::WeakPassword)),
    ("InvalidParameterException", |_| Some(Refusal::Invalid)),
    ("UnsupportedTokenTypeException", |_| Some(Refusal::WrongCredentials)),
    ("UnauthorizedException", |_| Some(Refusal::WrongCredentials)),
    ("RefreshTokenReuseException", |_| Some(Refusal::WrongCredentials)),
    ("PasswordResetRequiredException", |_| Some(Refusal::FurtherStep)),
    ("LimitExceededException", |_| Some(Refusal::TooManyAttempts)),
    ("TooManyFailedAttemptsException", |_| Some(Refusal::TooManyAttempts)),
    ("TooManyRequestsException", |_| Some(Refusal::TooManyRequests)),
    ("UserLambdaValidationException", |message| message.contains(NO_SIGN_IN).then_some(Refusal::TokenRefused)),
    ("UnsupportedUserStateException", |_| Some(Refusal::Invalid)),
];

/// Part of the message by which `token_scopes` refuses a user. Cognito passes the message on. Any other failure of
/// `token_scopes` means that one of its dependencies failed.
pub const NO_SIGN_IN: &str = "may not sign in";

/// Errors about the mail with a code.
const MAIL: [&str; 2] = ["CodeDeliveryFailureException", "InvalidEmailRoleAccessPolicyException"];

/// Errors after which the same request may succeed a moment later.
const BUSY: [&str; 6] = [
    "InternalErrorException",
    "UserLambdaValidationException",
    "UnexpectedLambdaException",
    "ThrottlingException",
    "Throttling",
    "ServiceUnavailable",
];

/// Cognito has one code for several refusals, which only its message tells apart.
fn not_authorized(message: &str) -> Refusal {
    if message.contains("attempts exceeded") {
        Refusal::TooManyAttempts
    } else if message.contains("cannot be confirmed") {
        Refusal::AlreadyConfirmed
    } else {
        Refusal::WrongCredentials
    }
}

impl Refusal {
    fn of(code: &str, message: &str) -> Option<Self> {
        MEANINGS.iter().find(|(name, _)| *name == code).and_then(|(_, meaning)| meaning(message))
    }

    pub(super) fn from_sdk<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let SdkError::ServiceError(service) = &error else {
            return match error {
                SdkError::ConstructionFailure(_) => Self::Rejected(AwsError::from(error).into()),
                // An answer that cannot be read is not passed on, because it may repeat values of the request.
                SdkError::ResponseError(_) => Self::Unavailable("the answer cannot be read".into()),
                error => Self::Unavailable(AwsError::from(error).into()),
            };
        };
        let code = service.err().code().unwrap_or("an unknown error").to_owned();
        if let Some(refusal) = Self::of(&code, service.err().message().unwrap_or_default()) {
            return refusal;
        }
        let is_busy = BUSY.contains(&code.as_str()) || service.raw().status().is_server_error();
        let request_id = error.request_id().unwrap_or("unknown").to_owned();
        let is_mail = MAIL.contains(&code.as_str());
        let source = CognitoError { code, request_id }.into();
        match (is_mail, is_busy) {
            (true, _) => Self::NotMailed(source),
            (false, true) => Self::Unavailable(source),
            (false, false) => Self::Rejected(source),
        }
    }

    /// Returns whether the user pool is at fault, and not the caller.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::NotMailed(_) | Self::Unavailable(_) | Self::Rejected(_))
    }
}

/// The text for a wrong password, an unknown address and one that is not confirmed: nobody learns which of them it was.
/// Cognito does not look at the password of an unconfirmed user.
const WRONG_CREDENTIALS: &str = "the e-mail address or the password is wrong, or the address is not confirmed yet";

impl From<Refusal> for Failure {
    /// Returns the failure for a refusal, for actions that have no more specific one.
    fn from(refusal: Refusal) -> Self {
        let forbidden = |message: &str| Self::Forbidden(message.to_owned());
        match refusal {
            Refusal::AddressTaken => DomainError::conflict("there is an account with this e-mail address").into(),
            Refusal::AlreadyConfirmed => DomainError::conflict("the e-mail address is already confirmed").into(),
            Refusal::UnknownUser | Refusal::WrongCredentials | Refusal::NotConfirmed => forbidden(WRONG_CREDENTIALS),
            Refusal::FurtherStep => forbidden("this account needs a further step: reset the password"),
            Refusal::TokenRefused => forbidden("this account may not sign in"),
            Refusal::WrongCode => DomainError::invalid("code", "is wrong or has expired: request a new one").into(),
            Refusal::WeakPassword => DomainError::invalid("password", Password::rules()).into(),
            Refusal::Invalid => DomainError::invalid("payload", "has a value that the user pool does not take").into(),
            Refusal::TooManyAttempts => Self::TooManyRequests("there were too many attempts; try again later".into()),
            Refusal::TooManyRequests => Self::TooManyRequests("too many requests; try again in a moment".into()),
            Refusal::NotMailed(_) | Refusal::Unavailable(_) => Self::unavailable(refusal),
            Refusal::Rejected(_) => Self::internal(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_cognitoidentityprovider::error::ErrorMetadata;
    use aws_sdk_cognitoidentityprovider::operation::admin_initiate_auth::AdminInitiateAuthError;
    use lambda_kit::Code;

    use super::*;

    const MESSAGE: &str = "Value 'ada@example.com' is wrong";

    fn answered(status: u16, code: &str, message: &str) -> Refusal {
        let meta = ErrorMetadata::builder().code(code).message(message).build();
        let answer = HttpResponse::new(status.try_into().unwrap(), "".into());
        Refusal::from_sdk(SdkError::service_error(AdminInitiateAuthError::generic(meta), answer))
    }

    #[test]
    fn every_error_of_cognito_is_a_failure_of_the_api() {
        let cases = [
            ("UsernameExistsException", MESSAGE, Code::Conflict, "there is an account"),
            ("AliasExistsException", MESSAGE, Code::Conflict, "there is an account"),
            ("UserNotFoundException", MESSAGE, Code::Forbidden, WRONG_CREDENTIALS),
            ("UserNotConfirmedException", MESSAGE, Code::Forbidden, WRONG_CREDENTIALS),
            ("NotAuthorizedException", "Incorrect username or password.", Code::Forbidden, WRONG_CREDENTIALS),
            ("NotAuthorizedException", "User is disabled.", Code::Forbidden, WRONG_CREDENTIALS),
            ("NotAuthorizedException", "Password attempts exceeded", Code::TooManyRequests, "too many attempts"),
            (
                "NotAuthorizedException",
                "User cannot be confirmed. Current status is CONFIRMED",
                Code::Conflict,
                "already confirmed",
            ),
            ("CodeMismatchException", MESSAGE, Code::Validation, "code: is wrong or has expired"),
            ("ExpiredCodeException", MESSAGE, Code::Validation, "code: is wrong or has expired"),
            ("InvalidPasswordException", MESSAGE, Code::Validation, "password: must have at least 12"),
            ("PasswordHistoryPolicyViolationException", MESSAGE, Code::Validation, "password: must have at least 12"),
            ("InvalidParameterException", MESSAGE, Code::Validation, "payload: has a value"),
            ("UnsupportedUserStateException", MESSAGE, Code::Validation, "payload: has a value"),
            ("UnsupportedTokenTypeException", MESSAGE, Code::Forbidden, WRONG_CREDENTIALS),
            ("UnauthorizedException", MESSAGE, Code::Forbidden, WRONG_CREDENTIALS),
            ("RefreshTokenReuseException", MESSAGE, Code::Forbidden, WRONG_CREDENTIALS),
            ("PasswordResetRequiredException", MESSAGE, Code::Forbidden, "a further step"),
            ("LimitExceededException", MESSAGE, Code::TooManyRequests, "too many attempts"),
            ("TooManyFailedAttemptsException", MESSAGE, Code::TooManyRequests, "too many attempts"),
            ("TooManyRequestsException", MESSAGE, Code::TooManyRequests, "too many requests"),
            (
                "UserLambdaValidationException",
                "PreTokenGeneration failed with error user u-1 may not sign in.",
                Code::Forbidden,
                "may not sign in",
            ),
            ("UserLambdaValidationException", MESSAGE, Code::Unavailable, "try again"),
            ("InternalErrorException", MESSAGE, Code::Unavailable, "try again"),
            ("UnexpectedLambdaException", MESSAGE, Code::Unavailable, "try again"),
            ("CodeDeliveryFailureException", MESSAGE, Code::Unavailable, "try again"),
            ("InvalidEmailRoleAccessPolicyException", MESSAGE, Code::Unavailable, "try again"),
            ("ResourceNotFoundException", MESSAGE, Code::Internal, "on our side"),
            ("AccessDeniedException", MESSAGE, Code::Internal, "on our side"),
        ];
        for (code, message, expected, text) in cases {
            let failure = Failure::from(answered(400, code, message));
            assert_eq!(failure.code(), expected, "{code}");
            assert!(failure.message().contains(text), "{code}: {failure}");
            let all = format!("{failure:?} {failure} {:?}", failure.cause());
            assert!(!all.contains("ada@") && !all.contains(MESSAGE), "{code} tells what was sent: {all}");
        }
        for (code, _) in MEANINGS {
            assert!(cases.iter().any(|case| case.0 == code), "{code} has no case");
        }
    }

    #[test]
    fn the_log_has_the_code_and_the_request_id_of_what_is_our_fault() {
        let failure = Failure::from(answered(400, "ResourceNotFoundException", MESSAGE));
        let cause = failure.cause().unwrap();
        assert!(cause.contains("ResourceNotFoundException (request id unknown)"), "{cause}");
        assert!(Failure::from(answered(503, "Odd", MESSAGE)).is_ours());
        assert_eq!(Failure::from(answered(503, "Odd", MESSAGE)).code(), Code::Unavailable);
        let error: SdkError<AdminInitiateAuthError, HttpResponse> = SdkError::timeout_error("4 s are over");
        assert_eq!(Failure::from(Refusal::from_sdk(error)).code(), Code::Unavailable);
    }
}
