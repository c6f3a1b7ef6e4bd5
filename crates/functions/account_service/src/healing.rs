//! Repairs users who are in the user pool, but whose row is missing or incomplete.
//!
//! A user exists in the user pool first. The row is missing if a request crashed in between, or if the user signed up
//! on the hosted pages. Then the next request that names the user writes the row, with `USER_REGISTERED`. The write is
//! conditional, so if several requests and `token_scopes` write the row at the same time, one of them succeeds.

use domain::accounts::{Language, NewUser, User, UserStatus};
use domain::actor::Role;
use domain::error::DomainError;
use domain::event::Event;
use domain::id::UserId;
use lambda_kit::{Context, Failure, retry_while_stale};

use crate::AccountService;
use crate::identity::Person;
use crate::secret::{EmailAddress, Password};

impl AccountService {
    /// Returns the row of a user. A row that is missing is written from what the user pool says.
    ///
    /// A role that a `setRole` gave and that is not in the user pool yet is written there.
    ///
    /// `None` means that neither has the user, who may exist all the same: any valid token makes one a user.
    pub(crate) async fn row(&self, id: &UserId, context: &Context) -> Result<Option<User>, Failure> {
        match self.whole_row(id, context).await? {
            Some(user) if user.role_pending => self.write_groups(id, context).await.map(Some),
            row => Ok(row),
        }
    }

    async fn whole_row(&self, id: &UserId, context: &Context) -> Result<Option<User>, Failure> {
        retry_while_stale(|| async {
            let row = self.users.load(id).await?;
            if row.as_ref().is_some_and(is_complete) {
                return Ok(row);
            }
            match self.pool.person(id).await? {
                Some(person) => self.heal(row, &person, context).await,
                None => Ok(row),
            }
        })
        .await
    }

    /// Brings the groups of the user pool to the role of the row.
    ///
    /// The mark is removed only if the row is still as it was read: if two roles are given at once, the request whose
    /// groups came last does it again.
    pub(crate) async fn write_groups(&self, id: &UserId, context: &Context) -> Result<User, Failure> {
        retry_while_stale(|| async {
            let row = self.whole_row(id, context).await?;
            let row = row.filter(|user| user.status != UserStatus::Deleted && user.client.is_none());
            let mut user = row.ok_or_else(|| DomainError::not_found("user", id))?;
            if let Some(person) = self.pool.person(id).await? {
                self.pool.set_role(&person, user.role).await?;
            }
            user.role_written(context.now);
            self.users.save(&user, Vec::new(), &context.event_context()).await?;
            Ok(user)
        })
        .await
    }

    /// Returns the row of a user, and writes one that says nothing for a user whom neither the table nor the user pool
    /// has.
    ///
    /// A pending role stays pending: a block must not fail because the user pool is busy.
    pub(crate) async fn row_or_bare(&self, id: &UserId, context: &Context) -> Result<User, Failure> {
        retry_while_stale(|| async {
            if let Some(user) = self.whole_row(id, context).await? {
                return Ok(user);
            }
            let user = stranger(id);
            self.users.insert(&user, None, &context.event_context()).await?;
            Ok(user)
        })
        .await
    }

    /// Returns the row of a user who is not deleted.
    pub(crate) async fn existing(&self, id: &UserId, context: &Context) -> Result<User, Failure> {
        let row = self.row(id, context).await?;
        let user = row.filter(|user| user.status != UserStatus::Deleted);
        Ok(user.ok_or_else(|| DomainError::not_found("user", id))?)
    }

    /// Returns the row of a person who is not deleted. A machine client is not found.
    pub(crate) async fn customer(&self, id: &UserId, context: &Context) -> Result<User, Failure> {
        let user = self.existing(id, context).await?;
        if user.client.is_some() {
            return Err(DomainError::not_found("user", id).into());
        }
        Ok(user)
    }

    /// Puts right what a sign-up or a deletion has left of this address, before a sign-up is refused because the
    /// address is taken. Returns whether the address is free then: a deletion may not have got as far as the user pool.
    pub(crate) async fn heal_address(&self, email: &EmailAddress, context: &Context) -> Result<bool, Failure> {
        let Some(person) = self.pool.person_with(email).await? else { return Ok(true) };
        if self.users.status(&person.user_id).await? == UserStatus::Deleted {
            self.pool.delete(&person).await?;
            return Ok(true);
        }
        if person.is_unconfirmed && self.rules.auto_confirm {
            self.pool.accept(email).await?;
        }
        self.replace_temporary_password(&person).await?;
        self.row(&person.user_id, context).await?;
        Ok(false)
    }

    /// Lets a customer set a password whose creation has died.
    pub(crate) async fn heal_password(&self, email: &EmailAddress) -> Result<(), Failure> {
        match self.pool.person_with(email).await? {
            Some(person) => self.replace_temporary_password(&person).await,
            None => Ok(()),
        }
    }

    /// Gives a customer a password that nobody knows in place of a temporary one, and marks the address as verified.
    /// Otherwise Cognito would mail no code for a new password.
    ///
    /// The temporary password of somebody with a staff role stays: an operator gave it to its owner in the user pool.
    async fn replace_temporary_password(&self, person: &Person) -> Result<(), Failure> {
        if !person.has_temporary_password || person.is_a_client() {
            return Ok(());
        }
        let row = self.users.load(&person.user_id).await?;
        let is_staff = row.is_some_and(|user| user.role.is_staff()) || self.pool.role(person).await?.is_staff();
        if !is_staff {
            self.pool.verify_address(person).await?;
            self.pool.set_password(person, &Password::random()).await?;
        }
        Ok(())
    }

    /// Records that a user who signed in has confirmed the address.
    pub(crate) async fn confirmed(&self, id: &UserId, context: &Context) -> Result<Option<User>, Failure> {
        retry_while_stale(|| async {
            let Some(mut user) = self.row(id, context).await? else { return Ok(None) };
            if user.status == UserStatus::Unconfirmed {
                user.confirm()?;
                self.users.save(&user, Vec::new(), &context.event_context()).await?;
            }
            Ok(Some(user))
        })
        .await
    }

    /// Changes a customer as `decide` says.
    pub(crate) async fn change(
        &self,
        id: &UserId,
        context: &Context,
        decide: impl Fn(&mut User) -> Result<Vec<Event>, DomainError> + Sync,
    ) -> Result<User, Failure> {
        let decide = &decide;
        retry_while_stale(|| async move {
            let mut user = self.customer(id, context).await?;
            let events = decide(&mut user)?;
            self.users.save(&user, events, &context.event_context()).await?;
            Ok(user)
        })
        .await
    }

    /// Writes what is missing of the row of a person.
    async fn heal(&self, row: Option<User>, person: &Person, context: &Context) -> Result<Option<User>, Failure> {
        // Only the row has the scopes of a machine client, so the row cannot be written from the user pool.
        if person.is_a_client() {
            return Ok(row);
        }
        let new = NewUser {
            id: person.user_id.clone(),
            email: person.email.as_ref().map(|email| email.expose().to_owned()),
            name: person.name.as_ref().map(|name| name.expose().to_owned()),
            role: self.pool.role(person).await?,
            language: Language::default(),
            confirmed: !person.is_unconfirmed || self.rules.auto_confirm,
            client: None,
        };
        let events = context.event_context();
        let Some(mut user) = row else {
            let user = User::register(new, context.now);
            self.users.insert(&user, None, &events).await?;
            return Ok(Some(user));
        };
        if let Some(registered) = user.complete(new, context.now) {
            self.users.save(&user, vec![registered.into()], &events).await?;
        }
        Ok(Some(user))
    }
}

/// Returns a user of whom only the id is known.
pub fn stranger(id: &UserId) -> User {
    User {
        id: id.clone(),
        email: None,
        name: None,
        role: Role::User,
        role_pending: false,
        role_written_at: None,
        status: UserStatus::Active,
        status_before_deletion: None,
        blocked_reason: None,
        language: Language::default(),
        registered_at: None,
        deleted_at: None,
        client: None,
        version: 1,
    }
}

/// Returns whether a row has what a registration writes. A row that an operator wrote by hand may lack it.
fn is_complete(user: &User) -> bool {
    user.registered_at.is_some() || user.status == UserStatus::Deleted
}
