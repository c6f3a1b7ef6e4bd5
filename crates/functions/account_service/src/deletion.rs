//! The deletion of an account.
//!
//! The row says DELETING first, so that no session starts any more. Then the other contexts are asked whether the user
//! still owes anything, also for a session that has just ended. What belongs to the user is deleted, then the personal
//! data of the row, with `USER_DELETED`, and the user of the user pool last. A request that dies in between is repeated
//! by the user; the last step is also done when `USER_DELETED` comes back from the bus.

use std::time::Duration;

use domain::accounts::{User, UserStatus};
use domain::billing::InvoiceStatus;
use domain::charging::session::SessionStatus;
use domain::error::DomainError;
use domain::id::{InvoiceId, SessionId, UserId};
use lambda_kit::{Answer, Code, Context, Failure, RemoteFunction, Request, retry_while_stale};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::AccountService;
use crate::commands::NoArguments;
use crate::view::DeletedView;

/// How long the invoice of an ended session may take. One that takes longer is a failure of billing, which must not
/// keep the user for ever.
const LONGEST_BILLING: Duration = Duration::from_mins(15);

/// A session of `listSessions`, as far as it is needed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedSession {
    session_id: SessionId,
    status: SessionStatus,
}

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

    /// Checks that no session of the user runs, that those that have just ended are billed, and that no invoice of the
    /// user is OPEN.
    async fn owes_nothing(&self, id: &UserId, context: &Context) -> Result<(), Failure> {
        // A session only goes on to a later status. So it is in one of these lists even if it ends between them.
        for status in [SessionStatus::Started, SessionStatus::InProgress] {
            let running = json!({ "status": status });
            if let Some(session) = self.first(&self.sessions, "listSessions", (id, running), context).await? {
                return Err(runs(session["sessionId"].as_str().unwrap_or_default()));
            }
        }
        self.is_billed(id, context).await?;
        let open = json!({ "status": InvoiceStatus::Open });
        if let Some(invoice) = self.first(&self.billing, "listInvoices", (id, open), context).await? {
            return Err(is_open(invoice["invoiceId"].as_str().unwrap_or_default()));
        }
        Ok(())
    }

    /// Checks that the sessions that have just ended have their invoices. An invoice that is issued after the deletion
    /// would stay OPEN for ever.
    async fn is_billed(&self, id: &UserId, context: &Context) -> Result<(), Failure> {
        let recent = json!({ "changedFrom": context.now - LONGEST_BILLING });
        let mut token = None;
        loop {
            let page = self.page(&self.sessions, "listSessions", (id, recent.clone()), token, context).await?;
            for session in page.items {
                let session: ListedSession = serde_json::from_value(session).map_err(Failure::internal)?;
                self.has_invoice(&session, context).await?;
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(());
            }
        }
    }

    async fn has_invoice(&self, session: &ListedSession, context: &Context) -> Result<(), Failure> {
        let id = &session.session_id;
        if session.status.is_active() {
            return Err(runs(id.as_str()));
        }
        if session.status == SessionStatus::Failed {
            return Ok(());
        }
        let invoice = InvoiceId::of(id);
        let asked = json!({ "invoiceId": invoice });
        match self.billing.command("getInvoice", asked, &context.correlation_id).await {
            // The list of OPEN invoices comes from an index, which may not have this one yet.
            Ok(found) if found["status"] == json!(InvoiceStatus::Open) => Err(is_open(invoice.as_str())),
            Ok(_) => Ok(()),
            Err(failure) if failure.code() == Code::NotFound => {
                let message = format!("session {id} has just ended and has no invoice yet: try again in a moment");
                Err(DomainError::conflict(message).into())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Returns the first item of a list of another function.
    async fn first(
        &self,
        function: &RemoteFunction,
        action: &str,
        (user, filter): (&UserId, Value),
        context: &Context,
    ) -> Result<Option<Value>, Failure> {
        let mut token = None;
        loop {
            let page = self.page(function, action, (user, filter.clone()), token, context).await?;
            if let Some(found) = page.items.into_iter().next() {
                return Ok(Some(found));
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(None);
            }
        }
    }
}

fn runs(session: &str) -> Failure {
    DomainError::conflict(format!("session {session} still runs: stop it first")).into()
}

fn is_open(invoice: &str) -> Failure {
    DomainError::conflict(format!("invoice {invoice} is OPEN: pay it first")).into()
}
