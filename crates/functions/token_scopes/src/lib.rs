//! The `token_scopes` Lambda. The user pool invokes it before it issues tokens, at every sign-in and every refresh.
//!
//! It refuses tokens to users who may not sign in, writes the scopes of the role into access tokens, and writes the row
//! of a user who has none yet. The row is the truth about blocks and scopes, and the groups of the user pool are the
//! truth about the role, unless they may be older than the role that `setRole` gave.
//!
//! If the table cannot be read or written, no token is issued, and the user has to try again. A token without scopes
//! would be useless, and a token with assumed scopes could serve a blocked user for 15 minutes.

mod config;
mod event;

use std::time::Duration;

use domain::accounts::{Language, NewUser, Scope, User, UserStatus, tidied_name};
use domain::actor::Role;
use domain::error::DomainError;
use domain::event::Event;
use domain::id::{ClientId, UserId};
use lambda_kit::{Context, Failure, Function, Trigger, retry_while_stale};
use serde::Deserialize;
use serde_json::Value;
use store::UserStore;

pub use config::Config;
use event::{PoolEvent, overrides};

/// The beginning of `triggerSource` in all events before tokens are issued. Cognito may add further sources.
const TOKENS: &str = "TokenGeneration_";

/// Cognito waits 5 s for an answer. All reads and writes with their repetitions must have ended before, so that the
/// failure is logged, and Cognito does not ask again while this request is still at work.
const LONGEST_WORK: Duration = Duration::from_millis(3_500);

/// The `token_scopes` function.
#[derive(Debug)]
pub struct TokenScopes {
    users: UserStore,
}

impl Function for TokenScopes {
    const NAME: &'static str = "token_scopes";

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let Trigger::UserPool(mut payload) = trigger else {
            return Err(Failure::invalid("payload", "must be an event of the user pool"));
        };
        // The error of the parser may repeat a value of the event, which has personal data.
        let event = PoolEvent::deserialize(&payload);
        let event = event.map_err(|_| Failure::invalid("payload", "must be an event before tokens are issued"))?;
        if !event.trigger_source.starts_with(TOKENS) {
            return Err(Failure::invalid("triggerSource", "must be that of an event before tokens are issued"));
        }
        let id = UserId::new(event.sub())?;
        let work = retry_while_stale(|| self.signed_in(&id, &event, &context));
        let too_late = |_| Failure::unavailable(format!("the table did not answer within {LONGEST_WORK:?}"));
        let user = tokio::time::timeout(LONGEST_WORK, work).await.map_err(too_late)??;
        payload["response"] = answer(&user, event.role());
        Ok(payload)
    }
}

impl TokenScopes {
    /// Creates the function.
    #[must_use]
    pub fn new(users: UserStore) -> Self {
        Self { users }
    }

    /// Returns the user who signs in, after it has brought the row up to date.
    async fn signed_in(&self, id: &UserId, event: &PoolEvent, context: &Context) -> Result<User, Failure> {
        let events = context.event_context();
        let client = event.attribute("email").and_then(ClientId::of_address);
        let Some(mut user) = self.users.load(id).await? else {
            // The request that created this client crashed before it wrote the scopes.
            if client.is_some() {
                return Err(no_sign_in(id));
            }
            let user = User::register(registration(id, event), context.now);
            self.users.insert(&user, None, &events).await?;
            return Ok(user);
        };
        // A user who is DELETING still gets tokens, because the deletion may be refused.
        let may = !matches!(user.status, UserStatus::Blocked | UserStatus::Deleted);
        if !may || client.is_some() != user.client.is_some() {
            return Err(no_sign_in(id));
        }
        let mut written: Vec<Event> = Vec::new();
        let version = user.version;
        if user.client.is_none() {
            written.extend(user.complete(registration(id, event), context.now).map(Event::from));
            user.signed_in(event.role().unwrap_or(user.role), context.now);
        }
        if user.version != version {
            // A write raises the version by one, even if it makes two changes.
            user.version = version + 1;
            self.users.save(&user, written, &events).await?;
        }
        Ok(user)
    }
}

/// Returns the registration of a user without a row, from the data of the event.
fn registration(id: &UserId, event: &PoolEvent) -> NewUser {
    NewUser {
        id: id.clone(),
        email: event.attribute("email").map(str::to_owned),
        name: event.attribute("name").and_then(tidied_name),
        role: event.role().unwrap_or(Role::User),
        language: Language::default(),
        confirmed: true,
        client: None,
    }
}

/// Returns the answer to the user pool.
fn answer(user: &User, of_groups: Option<Role>) -> Value {
    let scopes: Vec<String> = match &user.client {
        Some(client) => {
            client.scopes.iter().filter(|scope| scope.is_of(user.role)).map(|scope| scope.in_token()).collect()
        }
        None => Scope::of(user.role).map(Scope::in_token).collect(),
    };
    let differs = of_groups.is_some_and(|role| role != user.role);
    overrides(&scopes, differs.then_some(user.role))
}

/// Cognito passes this text on, and `account_service` knows it.
fn no_sign_in(id: &UserId) -> Failure {
    DomainError::Forbidden(format!("user {id} may not sign in")).into()
}
