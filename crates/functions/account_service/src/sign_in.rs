//! Sign-in, tokens and passwords.

use domain::accounts::UserStatus;
use domain::error::DomainError;
use domain::id::{ClientId, UserId};
use lambda_kit::{Answer, Context, Failure, Request};

use crate::AccountService;
use crate::claims::{Claims, scopes};
use crate::commands::{AddressOf, ChangePassword, GrantType, Login, Logout, ResetPassword, TokenRequest};
use crate::identity::{NO_SIGN_IN, Refusal, Tokens};
use crate::secret::{EmailAddress, Password};
use crate::sign_up::{address_of_a_person, said_of_nobody};
use crate::view::{LoggedOutView, MailedView, PasswordView, SignedInView, TokenView};

/// What an unknown machine client and one with a wrong secret are told.
const WRONG_CLIENT: &str = "the client or its secret is wrong";

impl AccountService {
    pub(crate) async fn login(&self, command: Login, request: &Request) -> Result<Answer, Failure> {
        let (tokens, claims) = self.sign_in(&command.email, &command.password, &request.context).await?;
        Answer::ok(SignedInView::new(tokens, claims.user_id))
    }

    pub(crate) async fn token(&self, command: TokenRequest, request: &Request) -> Result<Answer, Failure> {
        let asked = scopes(command.scope.as_deref())?;
        let context = &request.context;
        let (mut tokens, claims) = match command.grant_type {
            GrantType::Password => {
                self.is_the_app(&command)?;
                let username = command.username.as_ref().ok_or_else(|| missing("username"))?;
                let password = command.password.as_ref().ok_or_else(|| missing("password"))?;
                self.sign_in(&EmailAddress::from(username.expose().to_owned()), password, context).await?
            }
            GrantType::RefreshToken => {
                self.is_the_app(&command)?;
                let token = command.refresh_token.as_ref().ok_or_else(|| missing("refresh_token"))?;
                let tokens = self.pool.refresh(token).await.map_err(|refusal| match refusal {
                    Refusal::WrongCredentials | Refusal::Invalid | Refusal::UnknownUser => {
                        Failure::Forbidden("the refresh token is wrong, has expired or was revoked".to_owned())
                    }
                    refusal => refusal.into(),
                })?;
                self.admit(tokens, context).await?
            }
            GrantType::ClientCredentials => self.sign_client_in(&command, context).await?,
        };
        if let Err(error) = claims.must_have(&asked) {
            self.discard(&tokens).await;
            return Err(error.into());
        }
        // RFC 6749, section 4.4.3: a client that has its secret needs no refresh token.
        if command.grant_type == GrantType::ClientCredentials {
            tokens.refresh = None;
        }
        Answer::ok(TokenView::new(tokens, &claims))
    }

    pub(crate) async fn forgot_password(&self, command: AddressOf, _: &Request) -> Result<Answer, Failure> {
        let email = address_of_a_person(&command.email)?;
        // Whether there is such an account is not said, by a failure either. The next request tries again.
        if let Err(failure) = self.heal_password(&email).await {
            tracing::warn!(cause = failure.cause(), "a temporary password may still be there: {}", failure.message());
        }
        said_of_nobody(self.pool.forgot_password(&email).await)?;
        let message = "If there is an account with this address, a code for a new password is on its way.";
        Answer::ok(MailedView { message: message.to_owned() })
    }

    pub(crate) async fn reset_password(&self, command: ResetPassword, _: &Request) -> Result<Answer, Failure> {
        let email = address_of_a_person(&command.email)?;
        command.new_password.check_choice("newPassword")?;
        let reset = self.pool.reset_password(&email, &command.code, &command.new_password).await;
        reset.map_err(|refusal| match refusal {
            Refusal::WeakPassword => Failure::invalid("newPassword", Password::rules()),
            Refusal::TooManyRequests => refusal.into(),
            refusal if refusal.is_ours() => refusal.into(),
            // The answer must not say whether there is such an account.
            _ => Failure::from(Refusal::WrongCode),
        })?;
        if let Some(person) = self.pool.person_with(&email).await? {
            self.pool.sign_out(&person).await?;
        }
        Answer::ok(PasswordView { signed_out_everywhere: true })
    }

    pub(crate) async fn change_password(&self, command: ChangePassword, request: &Request) -> Result<Answer, Failure> {
        let actor = request.actor()?;
        command.new_password.check_choice("newPassword")?;
        let person = self.pool.person(&actor.user_id).await?;
        let person = person.ok_or_else(|| DomainError::not_found("user", &actor.user_id))?;
        if person.is_a_client() {
            return Err(DomainError::Forbidden("a machine client has no password: create another client".into()).into());
        }
        let proof = self.pool.sign_in(person.username(), &command.current_password).await;
        let proof = proof.map_err(|refusal| match refusal {
            Refusal::WrongCredentials | Refusal::UnknownUser => {
                Failure::Forbidden("the current password is wrong".to_owned())
            }
            refusal => refusal.into(),
        })?;
        self.pool.set_password(&person, &command.new_password).await.map_err(|refusal| match refusal {
            Refusal::WeakPassword | Refusal::Invalid => Failure::invalid("newPassword", Password::rules()),
            refusal => refusal.into(),
        })?;
        let everywhere = command.everywhere.unwrap_or_default();
        if everywhere {
            self.pool.sign_out(&person).await?;
        } else {
            self.discard(&proof).await;
        }
        Answer::ok(PasswordView { signed_out_everywhere: everywhere })
    }

    pub(crate) async fn logout(&self, command: Logout, request: &Request) -> Result<Answer, Failure> {
        let user_id = request.actor()?.user_id.clone();
        let everywhere = command.everywhere.unwrap_or(command.refresh_token.is_none());
        match (&command.refresh_token, everywhere) {
            (Some(token), false) => self.pool.revoke(token).await.map_err(|refusal| match refusal {
                Refusal::WrongCredentials | Refusal::Invalid => {
                    Failure::invalid("refreshToken", "is no refresh token of this user pool")
                }
                refusal => refusal.into(),
            })?,
            (None, false) => {
                let message = "is required if everywhere is false: it says which sign-in ends";
                return Err(Failure::invalid("refreshToken", message));
            }
            (_, true) => {
                if let Some(person) = self.pool.person(&user_id).await? {
                    self.pool.sign_out(&person).await?;
                }
            }
        }
        Answer::ok(LoggedOutView { user_id, everywhere })
    }

    /// Signs a person in, and returns the tokens with the claims of the access token.
    async fn sign_in(
        &self,
        email: &EmailAddress,
        password: &Password,
        context: &Context,
    ) -> Result<(Tokens, Claims), Failure> {
        let email = email.normalised();
        // Cognito also takes the id of a user as its name, and a machine client has one.
        if email.is_of_a_client() || !email.expose().contains('@') {
            return Err(Refusal::WrongCredentials.into());
        }
        let mut signed_in = self.pool.sign_in(email.expose(), password).await;
        // A sign-up may have crashed before it confirmed the user.
        if matches!(signed_in, Err(Refusal::NotConfirmed)) && self.rules.auto_confirm {
            self.pool.accept(&email).await?;
            signed_in = self.pool.sign_in(email.expose(), password).await;
        }
        match signed_in {
            Ok(tokens) => self.admit(tokens, context).await,
            // Cognito refuses a value as invalid, e.g. a password that is too long. The caller gets the answer to a
            // wrong password.
            Err(Refusal::Invalid) => Err(Refusal::WrongCredentials.into()),
            Err(refusal @ (Refusal::TokenRefused | Refusal::Unavailable(_))) => {
                Err(self.explained(refusal, &email).await)
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Signs a machine client in by its secret.
    async fn sign_client_in(&self, command: &TokenRequest, context: &Context) -> Result<(Tokens, Claims), Failure> {
        let wrong = || Failure::Forbidden(WRONG_CLIENT.to_owned());
        let client = command.client_id.as_ref().ok_or_else(|| missing("client_id"))?;
        let secret = command.client_secret.as_ref().ok_or_else(|| missing("client_secret"))?;
        let address = EmailAddress::of_client(&ClientId::new(client.as_str()).map_err(|_| wrong())?);
        let tokens = match self.pool.sign_in(address.expose(), secret).await {
            Ok(tokens) => tokens,
            Err(refusal) if refusal.is_ours() => return Err(refusal.into()),
            Err(refusal @ (Refusal::TooManyAttempts | Refusal::TooManyRequests)) => return Err(refusal.into()),
            Err(_) => return Err(wrong()),
        };
        let claims = Claims::of(&tokens.access)?;
        let user = self.row(&claims.user_id, context).await?;
        if user.is_none_or(|user| user.client.is_none() || user.status != UserStatus::Active) {
            self.discard(&tokens).await;
            return Err(wrong());
        }
        Ok((tokens, claims))
    }

    /// Returns the tokens of a user whom the user pool has signed in, unless the user is blocked or deleted.
    /// `token_scopes` has read the row as well, but the user may have been blocked since then.
    async fn admit(&self, tokens: Tokens, context: &Context) -> Result<(Tokens, Claims), Failure> {
        let claims = Claims::of(&tokens.access)?;
        let refusal = match self.confirmed(&claims.user_id, context).await?.map(|user| user.status) {
            Some(UserStatus::Blocked) => is_blocked(),
            Some(UserStatus::Deleted) => self.gone(&claims.user_id).await,
            _ => return Ok((tokens, claims)),
        };
        self.discard(&tokens).await;
        Err(refusal)
    }

    /// Says why a sign-in failed: the user pool does not say whether `token_scopes` refused a blocked or a deleted
    /// user, and cannot always say that it refused one.
    async fn explained(&self, refusal: Refusal, email: &EmailAddress) -> Failure {
        let Ok(Some(person)) = self.pool.person_with(email).await else { return refusal.into() };
        match self.users.status(&person.user_id).await {
            Ok(UserStatus::Blocked) => is_blocked(),
            Ok(UserStatus::Deleted) => self.gone(&person.user_id).await,
            _ => refusal.into(),
        }
    }

    /// Refuses the sign-in of a deleted user like that of an unknown one. The deletion did not get as far as the user
    /// pool, so it is completed.
    async fn gone(&self, id: &UserId) -> Failure {
        if let Err(failure) = self.forget_identity(id).await {
            tracing::warn!(user.id = id.as_str(), cause = failure.cause(), "a deletion was not completed");
        }
        Refusal::WrongCredentials.into()
    }

    /// Revokes the refresh token of tokens that are not returned. If that fails, it expires unused.
    async fn discard(&self, tokens: &Tokens) {
        let Some(token) = &tokens.refresh else { return };
        if let Err(refusal) = self.pool.revoke(token).await {
            tracing::warn!(cause = Failure::from(refusal).cause(), "a refresh token that nobody has was not revoked");
        }
    }

    /// Checks that a request for a person's tokens names the app client, or no client.
    fn is_the_app(&self, command: &TokenRequest) -> Result<(), Failure> {
        let is_app = command.client_id.as_ref().is_none_or(|client| client == self.pool.app_client());
        if is_app && command.client_secret.is_none() {
            return Ok(());
        }
        // RFC 6749 calls this invalid_client, which the door answers to a failure about the header Authorization.
        let message = "the client must be the application, which has no secret, or be left out";
        Err(Failure::invalid("authorization", message))
    }
}

fn missing(field: &str) -> Failure {
    Failure::invalid(field, "is required")
}

fn is_blocked() -> Failure {
    Failure::Forbidden(format!("this account is blocked and {NO_SIGN_IN}"))
}
