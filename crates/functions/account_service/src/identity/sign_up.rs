//! Sign-up, and the confirmation of addresses.

use domain::id::UserId;

use super::{Refusal, UserPool, attribute, user_id};
use crate::secret::{EmailAddress, MailedCode, Password, PersonName};

impl UserPool {
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
}
