//! The deletion of an account.
//!
//! 1. The row gets the status DELETING, so that no session starts any more.
//! 2. `session_service` and `billing` answer whether a session runs or an invoice is OPEN.
//! 3. The vehicles and tokens are deleted.
//! 4. The tombstone replaces the row, with `USER_DELETED`.
//! 5. The user of the user pool is deleted.
//!
//! If the request crashes, the user repeats the request. `USER_DELETED` invokes this function for the last step, too.

use domain::accounts::{User, UserStatus};
use domain::billing::InvoiceStatus;
use domain::charging::session::SessionStatus;
use domain::error::DomainError;
use domain::id::UserId;
use lambda_kit::{Answer, Code, Context, Failure, RemoteFunction, Request, retry_while_stale};
use serde_json::{Value, json};

use crate::AccountService;
use crate::commands::NoArguments;
use crate::view::DeletedView;

impl AccountService {
    pub(crate) async fn delete_account(&self, _: NoArguments, request: &Request) -> Result<Answer, Failure> {
        let id = &request.actor()?.user_id;
        let deleted = retry_while_stale(|| self.delete_or_repeat(id, request)).await?;
        self.forget_identity(id).await?;
        Answer::ok(DeletedView::new(&deleted))
    }

    /// Deletes the user in the user pool. Returns true if the user pool had no such user.
    pub(crate) async fn forget_identity(&self, id: &UserId) -> Result<bool, Failure> {
        let Some(person) = self.pool.person(id).await? else { return Ok(true) };
        self.pool.delete(&person).await?;
        Ok(false)
    }

    async fn delete_or_repeat(&self, id: &UserId, request: &Request) -> Result<User, Failure> {
        let context = &request.context;
        let mut user = self.row_or_bare(id, context).await?;
        if user.status == UserStatus::Deleted {
            return Ok(user);
        }
        if user.client.is_some() {
            let message = "a machine client is ended by revokeClient";
            return Err(DomainError::Forbidden(message.to_owned()).into());
        }
        user.start_deletion(request.actor()?)?;
        self.users.save(&user, Vec::new(), &context.event_context()).await?;
        if let Err(failure) = self.owes_nothing(id, context).await {
            self.go_on(user, context).await;
            return Err(failure);
        }
        self.erase(user, context).await
    }

    /// Deletes the data of a user who is DELETING from the table.
    pub(crate) async fn erase(&self, mut user: User, context: &Context) -> Result<User, Failure> {
        user.delete(context.now)?;
        self.users.erase(&user, &context.event_context()).await?;
        tracing::info!(user.id = user.id.as_str(), "an account was deleted");
        Ok(user)
    }

    /// Gives a user whose deletion is refused the status from before the deletion. If that fails, the user stays
    /// DELETING, and cannot start sessions, until the user asks for the deletion again.
    async fn go_on(&self, mut user: User, context: &Context) {
        if user.refuse_deletion().is_err() {
            return;
        }
        if let Err(error) = self.users.save(&user, Vec::new(), &context.event_context()).await {
            let failure = Failure::from(error);
            if failure.code() != Code::Conflict {
                tracing::warn!(user.id = user.id.as_str(), cause = failure.cause(), "a user stays DELETING");
            }
        }
    }

    /// Checks that no session of the user runs and that no invoice of the user is OPEN.
    async fn owes_nothing(&self, id: &UserId, context: &Context) -> Result<(), Failure> {
        let runs = |session: &Value| {
            let status = serde_json::from_value::<SessionStatus>(session["status"].clone());
            status.map_or(true, SessionStatus::is_active)
        };
        if let Some(session) = self.find(&self.sessions, "listSessions", (id, json!({})), runs, context).await? {
            let id = session["sessionId"].as_str().unwrap_or_default();
            return Err(DomainError::conflict(format!("session {id} still runs: stop it first")).into());
        }
        let open = json!({ "status": InvoiceStatus::Open });
        if let Some(invoice) = self.find(&self.billing, "listInvoices", (id, open), |_| true, context).await? {
            let id = invoice["invoiceId"].as_str().unwrap_or_default();
            return Err(DomainError::conflict(format!("invoice {id} is OPEN: pay it first")).into());
        }
        Ok(())
    }

    /// Returns the first `wanted` item in a list of another function.
    async fn find(
        &self,
        function: &RemoteFunction,
        action: &str,
        (user, filter): (&UserId, Value),
        wanted: impl Fn(&Value) -> bool + Send,
        context: &Context,
    ) -> Result<Option<Value>, Failure> {
        let mut token = None;
        loop {
            let page = self.page(function, action, (user, filter.clone()), token, context).await?;
            if let Some(found) = page.items.into_iter().find(&wanted) {
                return Ok(Some(found));
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(None);
            }
        }
    }
}
