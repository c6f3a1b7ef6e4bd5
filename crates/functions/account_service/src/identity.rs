//! The user pool of Cognito, in the terms of accounts. No other module calls Cognito.
//!
//! Cognito's own messages go neither to the caller nor to the log, because they may repeat values of the request.

use std::fmt::Display;

use aws_sdk_cognitoidentityprovider::Client;
use aws_sdk_cognitoidentityprovider::config::http::HttpResponse;
use aws_sdk_cognitoidentityprovider::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cognitoidentityprovider::operation::RequestId;
use aws_sdk_cognitoidentityprovider::types::{
    AttributeType, AuthFlowType, AuthenticationResultType, MessageActionType, UserStatusType, UserType,
};
use domain::accounts::tidied_name;
use domain::actor::Role;
use domain::error::{BoxError, DomainError};
use domain::id::UserId;
use lambda_kit::{AwsError, Failure};
use uuid::Uuid;

use crate::secret::{EmailAddress, MailedCode, Password, PersonName, RefreshToken};

/// The groups of the user pool that give a role, from the highest role to the lowest.
pub const GROUPS: [(&str, Role); 3] =
    [("ADMIN", Role::Admin), ("TECH_SUPPORT", Role::TechSupport), ("USER", Role::User)];

/// The user pool and its one app client.
#[derive(Clone, Debug)]
pub struct UserPool {
    client: Client,
    pool: String,
    app_client: String,
}

/// A user as the user pool knows it.
#[derive(Clone, Debug)]
pub struct Person {
    /// The id of the user: Cognito's `sub`.
    pub user_id: UserId,
    /// The name of the user in the pool: the `sub`, or another name if an identity provider signed the user in.
    username: String,
    /// The address, in lower case.
    pub email: Option<EmailAddress>,
    /// The name of the person.
    pub name: Option<PersonName>,
    /// Whether the user has not confirmed the address yet.
    pub is_unconfirmed: bool,
    /// Whether the user has a password that must be replaced at the first sign-in.
    pub has_temporary_password: bool,
}

/// The tokens of a sign-in or of a refresh.
#[derive(Clone)]
pub struct Tokens {
    /// The access token, a JWT.
    pub access: String,
    /// The ID token, a JWT.
    pub id: String,
    /// The refresh token. A refresh has a new one only if the user pool rotates them.
    pub refresh: Option<RefreshToken>,
    /// The seconds until the access token expires.
    pub expires_in: i32,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

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

    fn from_sdk<E>(error: SdkError<E, HttpResponse>) -> Self
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
pub const WRONG_CREDENTIALS: &str = "the e-mail address or the password is wrong, or the address is not confirmed yet";

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

impl Person {
    /// Returns whether the user stands for a program.
    pub fn is_a_client(&self) -> bool {
        self.email.as_ref().is_some_and(EmailAddress::is_of_a_client)
    }

    /// Returns the name under which the user signs in.
    pub fn username(&self) -> &str {
        &self.username
    }
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

    /// Signs a person up. Cognito mails a code.
    pub(crate) async fn sign_up(
        &self,
        email: &EmailAddress,
        name: &PersonName,
        password: &Password,
    ) -> Result<UserId, Refusal> {
        let call = self.client.sign_up().client_id(&self.app_client).username(email.expose());
        let call = call.password(password.expose()).user_attributes(attribute("email", email.expose())?);
        let signed_up = call.user_attributes(attribute("name", name.expose())?).send().await;
        user_id(signed_up.map_err(Refusal::from_sdk)?.user_sub())
    }

    /// Confirms a user without a code.
    ///
    /// The address is marked as verified first. A request that dies in between leaves an unconfirmed user, whom the
    /// next request accepts; a confirmed user without a verified address would get no code for a new password.
    pub(crate) async fn accept(&self, email: &EmailAddress) -> Result<(), Refusal> {
        let verify = self.client.admin_update_user_attributes().user_pool_id(&self.pool).username(email.expose());
        let verify = verify.user_attributes(attribute("email_verified", "true")?);
        verify.send().await.map_err(Refusal::from_sdk)?;
        let confirm = self.client.admin_confirm_sign_up().user_pool_id(&self.pool).username(email.expose());
        match confirm.send().await.map_err(Refusal::from_sdk) {
            Ok(_) | Err(Refusal::AlreadyConfirmed) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Confirms the address of a user by the code that was mailed to it.
    pub(crate) async fn confirm(&self, email: &EmailAddress, code: &MailedCode) -> Result<(), Refusal> {
        let call = self.client.confirm_sign_up().client_id(&self.app_client).username(email.expose());
        call.confirmation_code(code.expose()).send().await.map_err(Refusal::from_sdk)?;
        Ok(())
    }

    /// Mails another code to an address that is not confirmed yet.
    pub(crate) async fn resend_code(&self, email: &EmailAddress) -> Result<(), Refusal> {
        let call = self.client.resend_confirmation_code().client_id(&self.app_client).username(email.expose());
        call.send().await.map_err(Refusal::from_sdk)?;
        Ok(())
    }

    /// Signs a user in by the password. The flow needs an IAM permission, which only `account_service` has.
    pub(crate) async fn sign_in(&self, username: &str, password: &Password) -> Result<Tokens, Refusal> {
        let call = self.client.admin_initiate_auth().user_pool_id(&self.pool).client_id(&self.app_client);
        let call = call.auth_flow(AuthFlowType::AdminUserPasswordAuth);
        let call = call.auth_parameters("USERNAME", username).auth_parameters("PASSWORD", password.expose());
        let answer = call.send().await.map_err(Refusal::from_sdk)?;
        tokens(answer.authentication_result)
    }

    /// Issues new tokens for a refresh token.
    pub(crate) async fn refresh(&self, token: &RefreshToken) -> Result<Tokens, Refusal> {
        let call = self.client.admin_initiate_auth().user_pool_id(&self.pool).client_id(&self.app_client);
        let call = call.auth_flow(AuthFlowType::RefreshTokenAuth);
        let answer = call.auth_parameters("REFRESH_TOKEN", token.expose()).send().await.map_err(Refusal::from_sdk)?;
        tokens(answer.authentication_result)
    }

    /// Revokes a refresh token, and the access tokens that it issued.
    pub(crate) async fn revoke(&self, token: &RefreshToken) -> Result<(), Refusal> {
        let call = self.client.revoke_token().client_id(&self.app_client).token(token.expose());
        call.send().await.map_err(Refusal::from_sdk)?;
        Ok(())
    }

    /// Mails a code with which the user may set a new password.
    pub(crate) async fn forgot_password(&self, email: &EmailAddress) -> Result<(), Refusal> {
        let call = self.client.forgot_password().client_id(&self.app_client).username(email.expose());
        call.send().await.map_err(Refusal::from_sdk)?;
        Ok(())
    }

    /// Sets a new password by the code that was mailed to the user.
    pub(crate) async fn reset_password(
        &self,
        email: &EmailAddress,
        code: &MailedCode,
        password: &Password,
    ) -> Result<(), Refusal> {
        let call = self.client.confirm_forgot_password().client_id(&self.app_client).username(email.expose());
        let call = call.confirmation_code(code.expose()).password(password.expose());
        call.send().await.map_err(Refusal::from_sdk)?;
        Ok(())
    }

    /// Returns the user with this address.
    pub(crate) async fn person_with(&self, email: &EmailAddress) -> Result<Option<Person>, Refusal> {
        self.get(email.expose()).await
    }

    /// Returns the user with this id.
    pub(crate) async fn person(&self, user: &UserId) -> Result<Option<Person>, Refusal> {
        // Cognito finds a user of its own by the `sub`, and one of an identity provider only by a filter. It also finds
        // users by their addresses, which are no ids.
        if let Some(person) = self.get(user.as_str()).await?.filter(|person| person.user_id == *user) {
            return Ok(Some(person));
        }
        // Each `sub` is a UUID. Cognito answers few of these requests.
        if Uuid::try_parse(user.as_str()).is_err() {
            return Ok(None);
        }
        let list = self.client.list_users().user_pool_id(&self.pool).limit(1);
        let found = list.filter(format!("sub = \"{user}\"")).send().await.map_err(Refusal::from_sdk)?;
        let person = found.users.unwrap_or_default().into_iter().next().map(listed).transpose()?;
        // The local cloud answers a filter that it does not understand with any user.
        Ok(person.filter(|person| person.user_id == *user))
    }

    async fn get(&self, username: &str) -> Result<Option<Person>, Refusal> {
        let call = self.client.admin_get_user().user_pool_id(&self.pool).username(username);
        let found = match call.send().await.map_err(Refusal::from_sdk) {
            Ok(found) => found,
            Err(Refusal::UnknownUser) => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        described(&found.username, found.user_attributes.as_deref().unwrap_or_default(), found.user_status.as_ref())
            .map(Some)
    }

    /// Creates a user whose address counts as verified and who has this password. Cognito mails nothing.
    pub(crate) async fn create(
        &self,
        email: &EmailAddress,
        name: Option<&PersonName>,
        password: &Password,
    ) -> Result<UserId, Refusal> {
        let call = self.client.admin_create_user().user_pool_id(&self.pool).username(email.expose());
        let call = call.message_action(MessageActionType::Suppress).temporary_password(password.expose());
        let call = call.user_attributes(attribute("email", email.expose())?);
        let mut call = call.user_attributes(attribute("email_verified", "true")?);
        if let Some(name) = name {
            call = call.user_attributes(attribute("name", name.expose())?);
        }
        let created = call.send().await.map_err(Refusal::from_sdk)?;
        let user = created.user.ok_or_else(|| rejected("a created user is missing in the answer"))?;
        let person = listed(user)?;
        self.set_password(&person, password).await?;
        Ok(person.user_id)
    }

    /// Sets the password of a user for good.
    pub(crate) async fn set_password(&self, person: &Person, password: &Password) -> Result<(), Refusal> {
        let call = self.client.admin_set_user_password().user_pool_id(&self.pool).username(&person.username);
        call.password(password.expose()).permanent(true).send().await.map_err(Refusal::from_sdk)?;
        Ok(())
    }

    /// Marks the address of a person as verified.
    pub(crate) async fn verify_address(&self, person: &Person) -> Result<(), Refusal> {
        let call = self.client.admin_update_user_attributes().user_pool_id(&self.pool).username(&person.username);
        call.user_attributes(attribute("email_verified", "true")?).send().await.map_err(Refusal::from_sdk)?;
        Ok(())
    }

    /// Changes the name of a person.
    pub(crate) async fn set_name(&self, person: &Person, name: &PersonName) -> Result<(), Refusal> {
        let call = self.client.admin_update_user_attributes().user_pool_id(&self.pool).username(&person.username);
        call.user_attributes(attribute("name", name.expose())?).send().await.map_err(Refusal::from_sdk)?;
        Ok(())
    }

    /// Returns the highest role that the groups of a user give.
    pub(crate) async fn role(&self, person: &Person) -> Result<Role, Refusal> {
        let call = self.client.admin_list_groups_for_user().user_pool_id(&self.pool).username(&person.username);
        let answer = call.send().await.map_err(Refusal::from_sdk)?;
        let has = |group: &str| answer.groups().iter().any(|found| found.group_name() == Some(group));
        Ok(GROUPS.into_iter().find(|(group, _)| has(group)).map_or(Role::User, |(_, role)| role))
    }

    /// Puts a user into the group of the role, and takes the user out of the groups of the other roles.
    ///
    /// The user is added to the new group first, so that the user is never without a group. Before that, `setRole` has
    /// marked the row, so `token_scopes` uses the role of the row.
    pub(crate) async fn set_role(&self, person: &Person, role: Role) -> Result<(), Refusal> {
        let (wanted, others): (Vec<_>, Vec<_>) = GROUPS.into_iter().partition(|(_, of_group)| *of_group == role);
        for (group, _) in wanted {
            let call = self.client.admin_add_user_to_group().user_pool_id(&self.pool).username(&person.username);
            call.group_name(group).send().await.map_err(Refusal::from_sdk)?;
        }
        for (group, _) in others {
            let call = self.client.admin_remove_user_from_group().user_pool_id(&self.pool).username(&person.username);
            call.group_name(group).send().await.map_err(Refusal::from_sdk)?;
        }
        Ok(())
    }

    /// Revokes all refresh tokens of a user. Succeeds if the user does not exist any more.
    pub(crate) async fn sign_out(&self, person: &Person) -> Result<(), Refusal> {
        let call = self.client.admin_user_global_sign_out().user_pool_id(&self.pool).username(&person.username);
        gone_is_fine(call.send().await.map(|_| ()).map_err(Refusal::from_sdk))
    }

    /// Deletes a user. Succeeds if the user does not exist any more.
    pub(crate) async fn delete(&self, person: &Person) -> Result<(), Refusal> {
        let call = self.client.admin_delete_user().user_pool_id(&self.pool).username(&person.username);
        gone_is_fine(call.send().await.map(|_| ()).map_err(Refusal::from_sdk))
    }
}

fn gone_is_fine(result: Result<(), Refusal>) -> Result<(), Refusal> {
    match result {
        Err(Refusal::UnknownUser) => Ok(()),
        result => result,
    }
}

fn rejected(reason: &'static str) -> Refusal {
    Refusal::Rejected(reason.into())
}

fn attribute(name: &str, value: &str) -> Result<AttributeType, Refusal> {
    AttributeType::builder().name(name).value(value).build().map_err(|error| Refusal::Rejected(error.into()))
}

fn user_id(sub: impl Display) -> Result<UserId, Refusal> {
    UserId::new(sub.to_string()).map_err(|_| rejected("the sub of a user is no id"))
}

fn listed(user: UserType) -> Result<Person, Refusal> {
    let username = user.username.unwrap_or_default();
    described(&username, user.attributes.as_deref().unwrap_or_default(), user.user_status.as_ref())
}

fn described(username: &str, attributes: &[AttributeType], status: Option<&UserStatusType>) -> Result<Person, Refusal> {
    let value = |name: &str| {
        let found = attributes.iter().find(|attribute| attribute.name == name);
        found.and_then(|attribute| attribute.value.clone()).filter(|value| !value.is_empty())
    };
    let sub = value("sub").ok_or_else(|| rejected("a user has no sub"))?;
    Ok(Person {
        user_id: user_id(sub)?,
        username: username.to_owned(),
        email: value("email").map(|email| EmailAddress::from(email).normalised()),
        name: value("name").and_then(|name| tidied_name(&name)).map(PersonName::from),
        is_unconfirmed: status == Some(&UserStatusType::Unconfirmed),
        has_temporary_password: status == Some(&UserStatusType::ForceChangePassword),
    })
}

fn tokens(result: Option<AuthenticationResultType>) -> Result<Tokens, Refusal> {
    // Without tokens, Cognito asks for a further step.
    let result = result.ok_or(Refusal::FurtherStep)?;
    Ok(Tokens {
        access: result.access_token.ok_or_else(|| rejected("a sign-in without an access token"))?,
        id: result.id_token.ok_or_else(|| rejected("a sign-in without an ID token"))?,
        refresh: result.refresh_token.map(RefreshToken::from),
        expires_in: result.expires_in,
    })
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
