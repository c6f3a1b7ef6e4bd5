//! What the staff may do.
//!
//! An access token says what its user was when it was issued, up to 15 minutes ago. The row says what the user is. So
//! every action of the staff reads the row of its actor: a block, a deletion or a lower role counts at once.

use domain::accounts::User;
use domain::actor::{Actor, Role};
use domain::error::DomainError;
use domain::id::UserId;
use lambda_kit::{Failure, Request};

use crate::AccountService;

impl AccountService {
    /// Returns the actor in the role that counts. Refuses role USER.
    pub(crate) async fn staff(&self, request: &Request) -> Result<Actor, Failure> {
        let (actor, _) = self.acting(request, Role::is_staff, "roles TECH_SUPPORT and ADMIN").await?;
        Ok(actor)
    }

    /// Returns the actor in the role that counts. Refuses all roles but ADMIN and SYSTEM.
    pub(crate) async fn administrator(&self, request: &Request) -> Result<Actor, Failure> {
        let (actor, _) = self.acting(request, is_administrator, "role ADMIN").await?;
        Ok(actor)
    }

    /// Works like [`administrator`](Self::administrator), and refuses machine clients: with a client or a role that it
    /// creates, it would do more than its scopes allow.
    pub(crate) async fn administrator_in_person(&self, request: &Request) -> Result<Actor, Failure> {
        let (actor, row) = self.acting(request, is_administrator, "role ADMIN").await?;
        if let Some(user) = &row {
            must_be_a_person(user, &request.action)?;
        }
        Ok(actor)
    }

    /// Returns the user for whom the request acts: the actor, or whom the argument `userId` names, which only the staff
    /// may do for another user.
    pub(crate) async fn on_behalf_of(&self, user: Option<&UserId>, request: &Request) -> Result<UserId, Failure> {
        let actor = request.actor()?;
        // First, because the refusal of another user names the user, and the log has it.
        if let Some(user) = user {
            must_be_no_address(user)?;
        }
        let owner = actor.on_behalf_of(user)?;
        if owner != actor.user_id {
            self.staff(request).await?;
        }
        Ok(owner)
    }

    /// Returns the actor in the role that counts, with the row. Refuses roles that `may` not do this.
    async fn acting(
        &self,
        request: &Request,
        may: fn(Role) -> bool,
        roles: &str,
    ) -> Result<(Actor, Option<User>), Failure> {
        let refusal = || DomainError::Forbidden(format!("{} is for {roles}", request.action));
        let actor = request.actor()?;
        if !may(actor.role) {
            return Err(refusal().into());
        }
        // The platform has no row.
        if actor.role == Role::System {
            return Ok((actor.clone(), None));
        }
        let row = self.users.load(&actor.user_id).await?;
        let role = match &row {
            Some(user) => user.acts_as(actor.role)?,
            None => actor.role,
        };
        if !may(role) {
            return Err(refusal().into());
        }
        Ok((Actor { user_id: actor.user_id.clone(), role }, row))
    }
}

/// Refuses machine clients.
pub fn must_be_a_person(user: &User, action: &str) -> Result<(), DomainError> {
    if user.client.is_none() {
        return Ok(());
    }
    Err(DomainError::Forbidden(format!("{action} is for people, and not for machine clients")))
}

/// Refuses an e-mail address as the argument `userId`: the form of ids allows it, and the user pool finds users by it.
pub fn must_be_no_address(user: &UserId) -> Result<(), DomainError> {
    if user.as_str().contains('@') {
        return Err(DomainError::invalid("userId", "must be the id of a user, and no e-mail address"));
    }
    Ok(())
}

fn is_administrator(role: Role) -> bool {
    matches!(role, Role::Admin | Role::System)
}
