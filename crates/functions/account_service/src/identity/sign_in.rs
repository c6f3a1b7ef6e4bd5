//! Sign-in, tokens, and passwords that were forgotten.

use aws_sdk_cognitoidentityprovider::types::{AuthFlowType, AuthenticationResultType};

use super::{Refusal, UserPool, rejected};
use crate::secret::{EmailAddress, MailedCode, Password, RefreshToken};

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

impl UserPool {
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
