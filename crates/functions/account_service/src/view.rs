use domain::Instant;
use domain::accounts::{Language, Scope, Token, User, UserStatus, Vehicle};
use domain::actor::Role;
use domain::id::{ClientId, UserId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::claims::Claims;
use crate::identity::Tokens;
use crate::secret::Password;

/// A new account.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredView {
    /// The id of the user.
    pub user_id: UserId,
    /// The e-mail address.
    pub email: String,
    /// The name of the user.
    pub name: String,
    /// UNCONFIRMED until the user sends the code that was mailed, and then ACTIVE.
    pub status: UserStatus,
}

/// The state of an address after a code was sent.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfirmedView {
    /// The e-mail address.
    pub email: String,
    /// The status of the account.
    pub status: UserStatus,
}

/// The answer to a request for a mail. It is the same for every address.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailedView {
    /// What happens, if there is such an account.
    pub message: String,
}

/// The tokens of a sign-in.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignedInView {
    /// The access token, a JWT. The API takes this one.
    access_token: String,
    /// The ID token, a JWT about the user, for the application.
    id_token: String,
    /// The refresh token.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// `Bearer`.
    token_type: &'static str,
    /// The seconds until the access token expires.
    expires_in: i32,
    /// The id of the user.
    user_id: UserId,
}

/// Tokens as RFC 6749 answers them.
#[derive(Serialize, JsonSchema)]
pub struct TokenView {
    /// The access token, a JWT.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// The seconds until the access token expires.
    expires_in: i32,
    /// The refresh token of a person; absent for a machine client and after a refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// The scopes of the token, separated by spaces.
    scope: String,
}

/// The outcome of a change of the password.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordView {
    /// Whether all sign-ins of the user have ended.
    pub signed_out_everywhere: bool,
}

/// The outcome of a logout.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoggedOutView {
    /// The id of the user.
    pub user_id: UserId,
    /// Whether all sign-ins of the user have ended.
    pub everywhere: bool,
}

/// An account.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountView {
    /// The id of the user.
    user_id: UserId,
    /// The e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// The name of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The status of the account.
    status: UserStatus,
    /// The role of the user.
    role: Role,
    /// The language in which the user is addressed.
    language: Language,
    /// The time of the registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    registered_at: Option<Instant>,
    /// Why the user is blocked. The staff sees it, and an export of the account has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_reason: Option<String>,
}

/// A deleted account.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedView {
    /// The id of the user, which remains.
    pub user_id: UserId,
    /// DELETED.
    pub status: UserStatus,
    /// The time of the deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Instant>,
}

/// The data of a user. Sessions, invoices and ledger entries come in pages.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportView {
    /// The time of the export.
    pub exported_at: Instant,
    /// The account.
    pub profile: AccountView,
    /// The vehicles.
    pub vehicles: Vec<Vehicle>,
    /// The charging tokens.
    pub tokens: Vec<Token>,
    /// The charging sessions, as `listSessions` answers them.
    pub sessions: Vec<Value>,
    /// The invoices, as `listInvoices` answers them.
    pub invoices: Vec<Value>,
    /// The entries of the wallet's ledger, as `listLedger` answers them.
    pub ledger: Vec<Value>,
    /// The arguments of the request for the next page; absent when everything was exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<MoreView>,
}

/// The lists of which there is more.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_field_names)] // the names of the fields are the names in JSON
pub struct MoreView {
    /// The argument `sessionsToken` of the next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions_token: Option<String>,
    /// The argument `invoicesToken` of the next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invoices_token: Option<String>,
    /// The argument `ledgerToken` of the next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger_token: Option<String>,
}

/// A machine client.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientView {
    /// The id of the client.
    client_id: ClientId,
    /// The name of the client.
    name: String,
    /// What the tokens of the client allow.
    scopes: Vec<Scope>,
    /// The role of the client.
    role: Role,
    /// The id of the user that stands for the client: the `sub` of its tokens.
    user_id: UserId,
    /// The time of the creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Instant>,
    /// The secret of the client. Only the answer to its creation has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
}

impl SignedInView {
    /// Builds the answer to a sign-in of `user`.
    pub fn new(tokens: Tokens, user_id: UserId) -> Self {
        Self {
            access_token: tokens.access,
            id_token: tokens.id,
            refresh_token: tokens.refresh.map(|token| token.expose().to_owned()),
            token_type: "Bearer",
            expires_in: tokens.expires_in,
            user_id,
        }
    }
}

impl TokenView {
    /// Builds the answer to a request for tokens.
    pub fn new(tokens: Tokens, claims: &Claims) -> Self {
        Self {
            scope: claims.scopes().collect::<Vec<_>>().join(" "),
            access_token: tokens.access,
            token_type: "Bearer",
            expires_in: tokens.expires_in,
            refresh_token: tokens.refresh.map(|token| token.expose().to_owned()),
        }
    }
}

impl AccountView {
    /// Builds the view of an account for its user, without the reason of a block.
    pub fn new(user: &User) -> Self {
        Self {
            user_id: user.id.clone(),
            email: user.email.clone(),
            name: user.name.clone(),
            status: user.status,
            role: user.role,
            language: user.language,
            registered_at: user.registered_at,
            blocked_reason: None,
        }
    }

    /// Builds the view of an account for the staff, and for an export, which has all that is stored.
    pub fn for_staff(user: &User) -> Self {
        Self { blocked_reason: user.blocked_reason.clone(), ..Self::new(user) }
    }
}

impl DeletedView {
    /// Builds the view of what remains of a user.
    pub fn new(user: &User) -> Self {
        Self { user_id: user.id.clone(), status: user.status, deleted_at: user.deleted_at }
    }
}

impl ClientView {
    /// Builds the view of the machine client that `user` stands for; `None` if it stands for none.
    pub fn new(user: &User) -> Option<Self> {
        let client = user.client.as_ref()?;
        Some(Self {
            client_id: client.id.clone(),
            name: client.name.clone(),
            scopes: client.scopes.clone(),
            role: user.role,
            user_id: user.id.clone(),
            created_at: user.registered_at,
            client_secret: None,
        })
    }

    /// Adds the secret, which is shown once.
    pub fn with_secret(self, secret: &Password) -> Self {
        Self { client_secret: Some(secret.expose().to_owned()), ..self }
    }
}
