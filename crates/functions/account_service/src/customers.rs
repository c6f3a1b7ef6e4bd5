//! Customers, as the staff sees them: blocks and roles.

use domain::accounts::UserStatus;
use domain::actor::Role;
use domain::error::DomainError;
use domain::id::UserId;
use lambda_kit::{Answer, Failure, Request, retry_while_stale};

use crate::AccountService;
use crate::commands::{BlockUser, CustomerRef, ListCustomers, SetRole, UnblockUser};
use crate::staff::must_be_no_address;
use crate::view::AccountView;

impl AccountService {
    pub(crate) async fn get_customer(&self, command: CustomerRef, request: &Request) -> Result<Answer, Failure> {
        self.staff(request).await?;
        must_be_no_address(&command.user_id)?;
        let user = self.customer(&command.user_id, &request.context).await?;
        Answer::ok(AccountView::for_staff(&user))
    }

    pub(crate) async fn list_customers(&self, command: ListCustomers, request: &Request) -> Result<Answer, Failure> {
        self.staff(request).await?;
        let page = self.users.list(&command.filter()?, &command.page.into()).await?;
        Answer::page(page, |user| AccountView::for_staff(&user))
    }

    pub(crate) async fn block_user(&self, command: BlockUser, request: &Request) -> Result<Answer, Failure> {
        let actor = &self.staff(request).await?;
        must_be_no_address(&command.user_id)?;
        let context = &request.context;
        let blocked = retry_while_stale(|| async {
            // A user without a row can be blocked, too.
            let mut user = self.row_or_bare(&command.user_id, context).await?;
            if user.status == UserStatus::Deleted || user.client.is_some() {
                return Err(DomainError::not_found("user", &command.user_id).into());
            }
            let end_sessions = command.end_sessions.unwrap_or_default();
            match user.block(actor, end_sessions, command.reason.as_str(), context.now) {
                Ok(blocked) => {
                    self.users.save(&user, vec![blocked.into()], &context.event_context()).await?;
                    Ok((user, Ok(())))
                }
                Err(refusal @ DomainError::Conflict(_)) if user.status == UserStatus::Blocked => {
                    Ok((user, Err(refusal)))
                }
                Err(refusal) => Err(Failure::from(refusal)),
            }
        });
        let (user, outcome) = blocked.await?;
        // From now on, token_scopes refuses tokens because of the row. A repeated request signs the user out again,
        // because the first request may have crashed before the sign-out.
        self.sign_out(&user.id).await?;
        outcome?;
        tracing::info!(user.id = user.id.as_str(), actor.id = actor.user_id.as_str(), "a user was blocked");
        Answer::ok(AccountView::for_staff(&user))
    }

    pub(crate) async fn unblock_user(&self, command: UnblockUser, request: &Request) -> Result<Answer, Failure> {
        let actor = &self.staff(request).await?;
        must_be_no_address(&command.user_id)?;
        let now = request.context.now;
        let unblocked = self.change(&command.user_id, &request.context, |user| {
            // A deletion has died. If it is still at work instead, its next write fails and it begins again.
            if user.status == UserStatus::Deleting {
                user.is_subject_to(actor)?;
                user.refuse_deletion()?;
                return Ok(Vec::new());
            }
            user.unblock(actor, now).map(|event| vec![event.into()])
        });
        let user = unblocked.await?;
        tracing::info!(user.id = user.id.as_str(), actor.id = actor.user_id.as_str(), "a user was unblocked");
        Answer::ok(AccountView::for_staff(&user))
    }

    pub(crate) async fn set_role(&self, command: SetRole, request: &Request) -> Result<Answer, Failure> {
        let actor = &self.administrator_in_person(request).await?;
        must_be_no_address(&command.user_id)?;
        let role: Role = command.role.into();
        let marked = self.change(&command.user_id, &request.context, |user| {
            user.set_role(role, actor)?;
            Ok(Vec::new())
        });
        marked.await?;
        // From the mark on, tokens go by the row. If the request dies after it, the next one that names the user writes
        // the groups.
        self.sign_out(&command.user_id).await?;
        let user = self.write_groups(&command.user_id, &request.context).await?;
        tracing::info!(user.id = user.id.as_str(), actor.id = actor.user_id.as_str(), "a user has another role");
        Answer::ok(AccountView::for_staff(&user))
    }

    /// Ends all sign-ins of a user.
    async fn sign_out(&self, id: &UserId) -> Result<(), Failure> {
        if let Some(person) = self.pool.person(id).await? {
            self.pool.sign_out(&person).await?;
        }
        Ok(())
    }
}
