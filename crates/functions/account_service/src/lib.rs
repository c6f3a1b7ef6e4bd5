//! The `account_service` Lambda: sign-up and sign-in, accounts, vehicles, charging tokens, customers, roles, blocks and
//! machine clients.
//!
//! The user pool of Cognito issues all tokens and has the passwords. The table of users has the other data of accounts.
//! A command that writes both uses an order in which a later request can repair whatever a crash leaves: see `healing`.

mod account;
mod claims;
mod clients;
mod commands;
mod config;
mod customers;
mod deletion;
mod healing;
mod identity;
mod possessions;
mod secret;
mod sign_in;
mod sign_up;
mod staff;
mod view;

use commands::{
    AddToken, AddVehicle, AddressOf, BlockUser, ChangePassword, ClientRef, Confirm, CreateClient, CreateCustomer,
    CustomerRef, ExportAccount, ListClients, ListCustomers, Login, Logout, NoArguments, OwnerRef, Register,
    ResetPassword, SetRole, TokenRef, TokenRequest, UnblockUser, UpdateAccount, VehicleRef,
};
use domain::accounts::{Area, Scope, Token, Vehicle};
use domain::event::{Envelope, Event};
use lambda_kit::{Action, Context, Failure, Function, ListOf, RemoteFunction, Trigger, action};
use serde_json::{Value, json};
use store::UserStore;
use view::{
    AccountView, ClientView, ConfirmedView, DeletedView, ExportView, LoggedOutView, MailedView, PasswordView,
    RegisteredView, SignedInView, TokenView,
};

pub use config::Config;
pub use identity::{NO_SIGN_IN, UserPool};

const READ: Scope = Scope::read(Area::Accounts);
const WRITE: Scope = Scope::write(Area::Accounts);
const TRANSITIONS: &str = "POST /customers/{userId}/transitions";

/// The `account_service` function.
#[derive(Debug)]
pub struct AccountService {
    users: UserStore,
    pool: UserPool,
    sessions: RemoteFunction,
    billing: RemoteFunction,
    rules: SignInRules,
}

/// What an environment demands of those who sign up.
#[derive(Clone, Copy, Debug)]
pub struct SignInRules {
    /// Whether a new user can sign in without confirming the e-mail address by a code.
    pub auto_confirm: bool,
}

impl Function for AccountService {
    const NAME: &'static str = "account_service";
    const ACTIONS: &'static [Action<Self>] = &[
        action!("register", Register => RegisteredView, Self::register)
            .by("anyone")
            .about(
                "Creates an account. If the environment confirms addresses, a code is mailed and the account is \
                 UNCONFIRMED; otherwise it is ACTIVE at once.",
            )
            .open_at("POST /auth/register")
            .creates()
            .mutation(),
        action!("confirm", Confirm => ConfirmedView, Self::confirm)
            .by("anyone")
            .about("Confirms the e-mail address of a new account by the code that was mailed to it.")
            .open_at("POST /auth/confirm")
            .mutation(),
        action!("resendCode", AddressOf => MailedView, Self::resend_code)
            .by("anyone")
            .about("Mails another code to a new account. The answer is the same for every address.")
            .open_at("POST /auth/code")
            .mutation(),
        action!("login", Login => SignedInView, Self::login)
            .by("anyone")
            .about("Signs a person in by a password. The answer to a wrong password and to an unknown address is one.")
            .open_at("POST /auth/login")
            .mutation(),
        action!("token", TokenRequest => TokenView, Self::token)
            .by("anyone")
            .about(
                "Issues tokens as OAuth 2.0 (RFC 6749) says, for a password, a refresh token or a machine client. \
                 `scope` may name what the token must have; it does not narrow the token.",
            )
            .open_at("POST /auth/token")
            .oauth(),
        action!("forgotPassword", AddressOf => MailedView, Self::forgot_password)
            .by("anyone")
            .about("Mails a code for a new password. The answer is the same for every address.")
            .open_at("POST /auth/password/forgot")
            .mutation(),
        action!("resetPassword", ResetPassword => PasswordView, Self::reset_password)
            .by("anyone")
            .about("Sets a new password by the code that was mailed, and ends all sign-ins of the user.")
            .open_at("POST /auth/password/reset")
            .mutation(),
        action!("changePassword", ChangePassword => PasswordView, Self::change_password)
            .by("users for themselves")
            .about("Changes the password. With `everywhere`, all sign-ins of the user end.")
            .at("POST /auth/password", WRITE)
            .mutation(),
        action!("logout", Logout => LoggedOutView, Self::logout)
            .by("users for themselves")
            .about(
                "Ends the sign-in of `refreshToken`, or without it all sign-ins of the user. An access token stays \
                 valid until it expires.",
            )
            .at("POST /auth/logout", WRITE)
            .mutation(),
        action!("getAccount", NoArguments => AccountView, Self::get_account)
            .by("users for themselves")
            .about("Returns the account of the actor.")
            .at("GET /account", READ)
            .query("account"),
        action!("updateAccount", UpdateAccount => AccountView, Self::update_account)
            .by("users for themselves")
            .about("Changes only the fields given.")
            .at("PATCH /account", WRITE)
            .mutation(),
        action!("deleteAccount", NoArguments => DeletedView, Self::delete_account)
            .by("users for themselves")
            .about(
                "Deletes the personal data of the actor. Refused while a session runs or an invoice is OPEN. Invoices \
                 remain under the bare id of the user.",
            )
            .at("DELETE /account", WRITE)
            .mutation(),
        action!("exportAccount", ExportAccount => ExportView, Self::export_account)
            .by("users for themselves")
            .about(
                "Returns the profile, vehicles, charging tokens, sessions, invoices and ledger entries of the actor. An \
                 answer has at most 100 sessions, 100 invoices and 100 ledger entries, newest first. If there are more \
                 of these, `more` has the arguments of the next request, which does not repeat them. Without `more`, \
                 the export is complete.",
            )
            .at("GET /account/export", READ)
            .query("accountExport"),
        action!("addVehicle", AddVehicle => Vehicle, Self::add_vehicle)
            .by("users for themselves; staff for any user")
            .about("Saves a vehicle of a user. A registration number belongs to one user.")
            .at("POST /customers/{userId}/vehicles", WRITE)
            .creates()
            .mutation(),
        action!("listVehicles", OwnerRef => ListOf<Vehicle>, Self::list_vehicles)
            .by("users for themselves; staff for any user")
            .about("Lists the vehicles of a user, 50 at most.")
            .at("GET /customers/{userId}/vehicles", READ)
            .query("vehicles"),
        action!("removeVehicle", VehicleRef => Vehicle, Self::remove_vehicle)
            .by("users for themselves; staff for any user")
            .about("Removes a vehicle, and returns it as it was.")
            .at("DELETE /customers/{userId}/vehicles/{vehicleId}", WRITE)
            .mutation(),
        action!("addToken", AddToken => Token, Self::add_token)
            .by("users for themselves; staff for any user")
            .about("Saves a charging token of a user, such as an RFID card. A token belongs to one user.")
            .at("POST /customers/{userId}/tokens", WRITE)
            .creates()
            .mutation(),
        action!("listTokens", OwnerRef => ListOf<Token>, Self::list_tokens)
            .by("users for themselves; staff for any user")
            .about("Lists the charging tokens of a user, 50 at most.")
            .at("GET /customers/{userId}/tokens", READ)
            .query("tokens"),
        action!("removeToken", TokenRef => Token, Self::remove_token)
            .by("users for themselves; staff for any user")
            .about("Removes a charging token, and returns it as it was.")
            .at("DELETE /customers/{userId}/tokens/{tokenId}", WRITE)
            .mutation(),
        action!("createCustomer", CreateCustomer => AccountView, Self::create_customer)
            .by("staff")
            .about("Creates an account for a customer. The customer chooses the password by forgotPassword.")
            .at("POST /customers", WRITE)
            .creates()
            .mutation(),
        action!("getCustomer", CustomerRef => AccountView, Self::get_customer)
            .by("staff")
            .about("Returns the account of a customer.")
            .at("GET /customers/{userId}", READ)
            .query("customer"),
        action!("listCustomers", ListCustomers => ListOf<AccountView>, Self::list_customers)
            .by("staff")
            .about("Lists customers by `email`, `registrationNumber` or `status` (default ACTIVE), newest first.")
            .at("GET /customers", READ)
            .query("customers"),
        action!("blockUser", BlockUser => AccountView, Self::block_user)
            .by("staff")
            .about(
                "Blocks a customer, who can then neither sign in nor start sessions. With `endSessions`, running \
                 sessions end.",
            )
            .at_transition(TRANSITIONS, "BLOCKED", WRITE)
            .mutation(),
        action!("unblockUser", UnblockUser => AccountView, Self::unblock_user)
            .by("staff")
            .about(
                "Lifts the block of a customer. If a deletion of the account was interrupted, it ends the deletion \
                 instead.",
            )
            .at_transition(TRANSITIONS, "ACTIVE", WRITE)
            .mutation(),
        action!("setRole", SetRole => AccountView, Self::set_role)
            .by("ADMIN")
            .about("Gives a user a role, and ends all sign-ins of the user.")
            .at("PUT /customers/{userId}/role", WRITE)
            .mutation(),
        action!("createClient", CreateClient => ClientView, Self::create_client)
            .by("ADMIN")
            .about("Creates a machine client. The answer has its secret, which is never shown again.")
            .at("POST /clients", WRITE)
            .creates()
            .mutation(),
        action!("listClients", ListClients => ListOf<ClientView>, Self::list_clients)
            .by("ADMIN")
            .about("Lists the machine clients, newest first.")
            .at("GET /clients", READ)
            .query("clients"),
        action!("revokeClient", ClientRef => ClientRef, Self::revoke_client)
            .by("ADMIN")
            .about("Ends a machine client. Its tokens stay valid until they expire, 15 minutes at most.")
            .at("DELETE /clients/{clientId}", WRITE)
            .mutation(),
    ];

    /// Handles `USER_DELETED`: deletes the user in the user pool, unless the request has already done so.
    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let wrong = |message: String| Failure::invalid("detail", message);
        let Trigger::Event(event) = trigger else {
            return Err(Failure::invalid("payload", "must be an event of the bus"));
        };
        let envelope: Envelope = serde_json::from_value(event.detail).map_err(|error| wrong(error.to_string()))?;
        let Event::UserDeleted(deleted) = envelope.event else {
            return Err(wrong("must be the event USER_DELETED".to_owned()));
        };
        let is_gone = self.forget_identity(&deleted.user_id).await?;
        if !is_gone {
            let id = deleted.user_id.as_str();
            tracing::info!(user.id = id, correlation.id = context.correlation_id, "a deletion was completed");
        }
        Ok(json!({ "userId": deleted.user_id, "deleted": !is_gone }))
    }
}

impl AccountService {
    /// Creates the function. `sessions` and `billing` list the sessions and invoices of a user, before a deletion and
    /// for an export.
    #[must_use]
    pub fn new(
        users: UserStore,
        pool: UserPool,
        sessions: RemoteFunction,
        billing: RemoteFunction,
        rules: SignInRules,
    ) -> Self {
        Self { users, pool, sessions, billing, rules }
    }
}
