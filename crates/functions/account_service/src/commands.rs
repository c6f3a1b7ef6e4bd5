use domain::Instant;
use domain::accounts::{Language, NewVehicle, RegistrationNumber, Scope, Token, TokenId, TokenType, UserStatus};
use domain::actor::Role;
use domain::error::DomainError;
use domain::id::{ClientId, UserId, VehicleId};
use lambda_kit::PageArguments;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::UserFilter;

use crate::secret::{EmailAddress, MailedCode, Password, PersonName, RefreshToken, Username};

/// A sign-up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Register {
    /// The e-mail address, with which the user signs in.
    pub email: EmailAddress,
    /// The name of the user.
    pub name: PersonName,
    /// The password: at least 12 characters, among them a lower case letter, an upper case letter and a digit.
    pub password: Password,
    /// The first vehicle of the user.
    #[serde(default)]
    pub vehicle: Option<NewVehicle>,
    /// The language in which the user is addressed. The default is `en`.
    #[serde(default)]
    pub language: Option<Language>,
}

/// The code that was mailed to a new user.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Confirm {
    /// The e-mail address.
    pub email: EmailAddress,
    /// The code.
    pub code: MailedCode,
}

/// The address of an account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressOf {
    /// The e-mail address.
    pub email: EmailAddress,
}

/// A sign-in by a password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// The e-mail address.
    pub email: EmailAddress,
    /// The password.
    pub password: Password,
}

/// A request for tokens (RFC 6749). The names of the fields are those of the standard.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct TokenRequest {
    /// What the request shows: a password, a refresh token, or the secret of a machine client.
    pub grant_type: GrantType,
    /// The e-mail address, for `password`.
    #[serde(default)]
    pub username: Option<Username>,
    /// The password, for `password`.
    #[serde(default)]
    pub password: Option<Password>,
    /// The refresh token, for `refresh_token`.
    #[serde(default)]
    pub refresh_token: Option<RefreshToken>,
    /// The machine client, for `client_credentials`. For the others it may be left out.
    #[serde(default)]
    #[schemars(length(min = 1, max = 128))]
    pub client_id: Option<String>,
    /// The secret of the machine client, for `client_credentials`.
    #[serde(default)]
    pub client_secret: Option<Password>,
    /// The scopes that the token must have, separated by spaces. The token has all scopes of its user.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub scope: Option<String>,
}

/// A grant of RFC 6749.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum GrantType {
    /// A person with a password.
    Password,
    /// A refresh token.
    RefreshToken,
    /// A machine client with its secret.
    ClientCredentials,
}

/// A new password, with the code that was mailed to the user.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResetPassword {
    /// The e-mail address.
    pub email: EmailAddress,
    /// The code.
    pub code: MailedCode,
    /// The new password: at least 12 characters, among them a lower case letter, an upper case letter and a digit.
    pub new_password: Password,
}

/// A new password, with the current one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangePassword {
    /// The current password.
    pub current_password: Password,
    /// The new password: at least 12 characters, among them a lower case letter, an upper case letter and a digit.
    pub new_password: Password,
    /// Whether all sign-ins of the user end. The default is false.
    #[serde(default)]
    pub everywhere: Option<bool>,
}

/// The end of a sign-in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Logout {
    /// Whether all sign-ins of the user end. The default is true without `refreshToken`, and false with it.
    #[serde(default)]
    pub everywhere: Option<bool>,
    /// The refresh token of the sign-in that ends.
    #[serde(default)]
    pub refresh_token: Option<RefreshToken>,
}

/// A command without arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoArguments {}

/// A change of the actor's account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateAccount {
    /// The new name.
    #[serde(default)]
    pub name: Option<PersonName>,
    /// The language in which the user is addressed.
    #[serde(default)]
    pub language: Option<Language>,
}

/// A request for the data of the actor. Without arguments, the answer has the first page of each list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_field_names)] // the names of the fields are the names in JSON
pub struct ExportAccount {
    /// The next page of the sessions: `more.sessionsToken` of the previous answer.
    #[serde(default)]
    #[schemars(length(min = 1, max = 2048))]
    pub sessions_token: Option<String>,
    /// The next page of the invoices: `more.invoicesToken` of the previous answer.
    #[serde(default)]
    #[schemars(length(min = 1, max = 2048))]
    pub invoices_token: Option<String>,
    /// The next page of the ledger: `more.ledgerToken` of the previous answer.
    #[serde(default)]
    #[schemars(length(min = 1, max = 2048))]
    pub ledger_token: Option<String>,
}

/// A customer whom the staff registers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateCustomer {
    /// The e-mail address, with which the customer signs in.
    pub email: EmailAddress,
    /// The name of the customer.
    pub name: PersonName,
    /// The first vehicle of the customer.
    #[serde(default)]
    pub vehicle: Option<NewVehicle>,
    /// The language in which the customer is addressed. The default is `en`.
    #[serde(default)]
    pub language: Option<Language>,
}

/// A reference to one customer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomerRef {
    /// The id of the customer.
    pub user_id: UserId,
}

/// Arguments of a list of customers. At most one of `email`, `status` and `registrationNumber` is given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListCustomers {
    /// Return only the customer with this e-mail address.
    #[serde(default)]
    pub email: Option<EmailAddress>,
    /// Return only customers with this status. The default is ACTIVE.
    #[serde(default)]
    pub status: Option<UserStatus>,
    /// Return only the customer who has the vehicle with this registration number.
    #[serde(default)]
    pub registration_number: Option<RegistrationNumber>,
    #[serde(flatten)]
    pub page: PageArguments,
}

/// A block.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockUser {
    /// The id of the customer.
    pub user_id: UserId,
    /// Why the customer is blocked. The staff sees it, and an export of the account has it.
    #[schemars(length(min = 1, max = 500))]
    pub reason: String,
    /// Whether the running sessions of the customer end now. The default is false.
    #[serde(default)]
    pub end_sessions: Option<bool>,
}

/// The end of a block.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnblockUser {
    /// The id of the customer.
    pub user_id: UserId,
    /// Why the block is lifted. It is not kept.
    #[serde(default, rename = "reason")]
    #[schemars(length(min = 1, max = 500))]
    _reason: Option<String>,
}

/// A role for a customer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetRole {
    /// The id of the customer.
    pub user_id: UserId,
    /// The role.
    pub role: AccountRole,
}

/// A role that an account can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccountRole {
    /// Runs the network.
    Admin,
    /// Maintains the stations.
    TechSupport,
    /// Charges a vehicle.
    User,
}

/// A new vehicle.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddVehicle {
    /// The owner of the vehicle. The default is the actor; only staff may name another user.
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// The vehicle.
    pub vehicle: NewVehicle,
}

/// The owner of vehicles or tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnerRef {
    /// The owner. The default is the actor; only staff may name another user.
    #[serde(default)]
    pub user_id: Option<UserId>,
}

/// A reference to one vehicle.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VehicleRef {
    /// The owner of the vehicle. The default is the actor; only staff may name another user.
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// The id of the vehicle.
    pub vehicle_id: VehicleId,
}

/// A new charging token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddToken {
    /// The owner of the token. The default is the actor; only staff may name another user.
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// The id of the token: what an RFID card or a contract shows to a charger. Upper and lower case are the same.
    pub token_id: TokenId,
    /// The kind of the token.
    #[serde(rename = "type")]
    pub kind: TokenType,
    /// When the token expires. Without it the token does not expire.
    #[serde(default)]
    pub valid_until: Option<Instant>,
}

/// A reference to one charging token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenRef {
    /// The owner of the token. The default is the actor; only staff may name another user.
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// The id of the token.
    pub token_id: TokenId,
}

/// A new machine client.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateClient {
    /// The name of the client, for people.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
    /// What the tokens of the client allow, e.g. `stations:read`.
    #[schemars(length(min = 1, max = 16))]
    pub scopes: Vec<Scope>,
    /// The role of the client. The default is the least that has all scopes.
    #[serde(default)]
    pub role: Option<AccountRole>,
}

/// Arguments of a list of machine clients.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListClients {
    #[serde(flatten)]
    pub page: PageArguments,
}

/// A reference to one machine client.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientRef {
    /// The id of the client.
    pub client_id: ClientId,
}

impl ListCustomers {
    /// Returns the filter of the list.
    ///
    /// # Errors
    /// [`DomainError::Validation`] when the command names more than one.
    pub fn filter(&self) -> Result<UserFilter, DomainError> {
        match (&self.email, self.status, &self.registration_number) {
            (Some(email), None, None) => Ok(UserFilter::Email(email.expose().to_owned())),
            (None, status, None) => Ok(UserFilter::Status(status.unwrap_or(UserStatus::Active))),
            (None, None, Some(number)) => Ok(UserFilter::RegistrationNumber(number.clone())),
            _ => Err(DomainError::invalid("email", "only one of email, status and registrationNumber may be given")),
        }
    }
}

impl From<AccountRole> for Role {
    fn from(role: AccountRole) -> Self {
        match role {
            AccountRole::Admin => Self::Admin,
            AccountRole::TechSupport => Self::TechSupport,
            AccountRole::User => Self::User,
        }
    }
}

impl AddToken {
    /// Returns the token of the command.
    pub fn token(self) -> Token {
        Token { id: self.token_id, kind: self.kind, valid_until: self.valid_until }
    }
}

impl CreateClient {
    /// Returns the scopes without repetitions, and the role of the client.
    ///
    /// # Errors
    /// [`DomainError::Validation`] when the role does not have all scopes.
    pub fn scopes_and_role(&self) -> Result<(Vec<Scope>, Role), DomainError> {
        let mut scopes = self.scopes.clone();
        scopes.sort_unstable();
        scopes.dedup();
        let has_all = |role: Role| scopes.iter().all(|scope| scope.is_of(role));
        let role = match self.role {
            Some(role) => role.into(),
            None if has_all(Role::User) => Role::User,
            None => Role::TechSupport,
        };
        if has_all(role) {
            return Ok((scopes, role));
        }
        Err(DomainError::invalid("scopes", "has a scope that the role does not have"))
    }
}
