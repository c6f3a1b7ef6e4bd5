use chrono::TimeDelta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Client, UserBlocked, UserDeleted, UserRegistered, UserStatus, UserUnblocked};
use crate::Instant;
use crate::actor::{Actor, Role};
use crate::error::{Conflict, DomainError, IllegalTransition};
use crate::id::UserId;
use crate::machine::State;

/// How long a sign-in may have groups that were read before the role was written. Cognito reads them, waits 5 s for the
/// scopes of the token, and tries that three times.
const STALE_GROUPS: TimeDelta = TimeDelta::minutes(1);

/// The maximum length of the name of a person, in characters.
const LONGEST_NAME: usize = 100;

/// The language in which a user is addressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// German.
    De,
    /// English.
    #[default]
    En,
}

/// A user of the network. Each command raises the version by one. The store must write it before the next command.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// Id of the user: the `sub` of the tokens.
    pub id: UserId,
    /// E-mail address in lower case. A machine client has none, and neither has a deleted user.
    pub email: Option<String>,
    /// Name of the user, for people.
    pub name: Option<String>,
    /// Role of the user.
    pub role: Role,
    /// Whether the user may still be in the group of an earlier role in the user pool.
    pub role_pending: bool,
    /// When the group of the user pool was last brought to the role.
    pub role_written_at: Option<Instant>,
    /// Status.
    pub status: UserStatus,
    /// The status to which the user returns if the deletion is refused. Only a user that is being deleted has it.
    pub status_before_deletion: Option<UserStatus>,
    /// Why the user is blocked.
    pub blocked_reason: Option<String>,
    /// Language in which the user is addressed.
    pub language: Language,
    /// When the user was registered. `None` if an operator wrote the row by hand without this time, or if the item has
    /// only the counts of vehicles and tokens.
    pub registered_at: Option<Instant>,
    /// When the personal data was deleted.
    pub deleted_at: Option<Instant>,
    /// The machine client, if the user stands for a program.
    pub client: Option<Client>,
    /// Number of the user's last change; 0 for a row that an operator wrote by hand, and for an item that has only the
    /// counts of vehicles and tokens.
    pub version: u64,
}

/// What is known of a user at the registration.
#[derive(Clone, Debug, PartialEq)]
pub struct NewUser {
    /// Id of the user.
    pub id: UserId,
    /// E-mail address. A machine client has none.
    pub email: Option<String>,
    /// Name of the user, for people.
    pub name: Option<String>,
    /// Role of the user.
    pub role: Role,
    /// Language in which the user is addressed.
    pub language: Language,
    /// Whether the account is confirmed, so that the user is ACTIVE at once.
    pub confirmed: bool,
    /// The machine client, if the user stands for a program.
    pub client: Option<Client>,
}

/// Returns an e-mail address in the form in which it is stored and looked up.
#[must_use]
pub fn normalised_email(email: &str) -> String {
    email.trim().to_lowercase()
}

/// Returns the name of a person as it is stored, from one that another system has: without control characters, without
/// white space at its ends, and with 100 characters at most. `None` means that nothing is left.
#[must_use]
pub fn tidied_name(name: &str) -> Option<String> {
    let printable: String = name.chars().filter(|character| !character.is_control()).collect();
    let short: String = printable.trim_start().chars().take(LONGEST_NAME).collect();
    let name = short.trim_end();
    (!name.is_empty()).then(|| name.to_owned())
}

impl User {
    /// Registers a user.
    #[must_use]
    pub fn register(new: NewUser, now: Instant) -> Self {
        Self {
            id: new.id,
            email: new.email.as_deref().map(normalised_email),
            name: new.name,
            role: new.role,
            role_pending: false,
            role_written_at: None,
            status: if new.confirmed { UserStatus::Active } else { UserStatus::Unconfirmed },
            status_before_deletion: None,
            blocked_reason: None,
            language: new.language,
            registered_at: Some(now),
            deleted_at: None,
            client: new.client,
            version: 1,
        }
    }

    /// Registers a user whose row an operator wrote by hand, or whose item has only the counts of vehicles and tokens.
    /// Fills in what the row lacks, keeps a block, and returns the event of the registration. Returns `None`, and
    /// changes nothing, if the user is registered or was deleted.
    pub fn complete(&mut self, new: NewUser, now: Instant) -> Option<UserRegistered> {
        if self.registered_at.is_some() || self.status == UserStatus::Deleted {
            return None;
        }
        let registered = Self::register(new, now);
        self.email = self.email.take().or(registered.email);
        self.name = self.name.take().or(registered.name);
        if self.follows_groups(now) {
            self.role = registered.role;
        }
        self.language = registered.language;
        self.client = registered.client;
        self.registered_at = registered.registered_at;
        self.version += 1;
        self.registered_event(false)
    }

    /// Returns the event of the registration.
    #[must_use]
    pub fn registered_event(&self, has_vehicle: bool) -> Option<UserRegistered> {
        let registered_at = self.registered_at?;
        Some(UserRegistered { user_id: self.id.clone(), registered_at, has_vehicle })
    }

    /// Records that the user confirmed the account or signed in for the first time.
    ///
    /// # Errors
    /// `Conflict` unless the user is UNCONFIRMED.
    pub fn confirm(&mut self) -> Result<(), DomainError> {
        self.check(&[UserStatus::Unconfirmed], UserStatus::Active, Role::System)?;
        self.status = UserStatus::Active;
        self.version += 1;
        Ok(())
    }

    /// Blocks the user and returns the event. With `end_sessions`, the running sessions of the user end.
    ///
    /// # Errors
    /// `Forbidden` if the actor's role is USER, or `TECH_SUPPORT` and the user is an administrator; `Conflict` if the
    /// user is blocked already, is being deleted or was deleted.
    pub fn block(
        &mut self,
        actor: &Actor,
        end_sessions: bool,
        reason: impl Into<String>,
        now: Instant,
    ) -> Result<UserBlocked, DomainError> {
        self.is_subject_to(actor)?;
        self.check(&[UserStatus::Unconfirmed, UserStatus::Active], UserStatus::Blocked, actor.role)?;
        self.status = UserStatus::Blocked;
        self.blocked_reason = Some(reason.into());
        self.version += 1;
        Ok(UserBlocked { user_id: self.id.clone(), blocked_at: now, end_sessions })
    }

    /// Lifts the block of the user and returns the event.
    ///
    /// # Errors
    /// `Forbidden` if the actor's role is USER, or `TECH_SUPPORT` and the user is an administrator, or if the actor is
    /// the user; `Conflict` unless the user is BLOCKED.
    pub fn unblock(&mut self, actor: &Actor, now: Instant) -> Result<UserUnblocked, DomainError> {
        if actor.user_id == self.id {
            return Err(DomainError::Forbidden("nobody lifts a block of their own account".to_owned()));
        }
        self.is_subject_to(actor)?;
        self.check(&[UserStatus::Blocked], UserStatus::Active, actor.role)?;
        self.status = UserStatus::Active;
        self.blocked_reason = None;
        self.version += 1;
        Ok(UserUnblocked { user_id: self.id.clone(), unblocked_at: now })
    }

    /// Gives the user a role. The group of the user pool follows; until [`Self::role_written`] and for a minute after
    /// it, the role of the row counts and the group does not.
    ///
    /// # Errors
    /// `Forbidden` unless the actor's role is ADMIN or SYSTEM; `Validation` for the role SYSTEM; `NotFound` if the user
    /// was deleted.
    pub fn set_role(&mut self, role: Role, actor: &Actor) -> Result<(), DomainError> {
        if !matches!(actor.role, Role::Admin | Role::System) {
            return Err(DomainError::Forbidden("roles are given by role ADMIN".to_owned()));
        }
        if role == Role::System {
            return Err(DomainError::invalid("role", "must be USER, TECH_SUPPORT or ADMIN"));
        }
        self.must_exist()?;
        self.role = role;
        self.role_pending = true;
        self.version += 1;
        Ok(())
    }

    /// Records that the group of the user pool is that of the role.
    pub fn role_written(&mut self, now: Instant) {
        self.role_pending = false;
        self.role_written_at = Some(now);
        self.version += 1;
    }

    /// Records that the user signed in: the account is confirmed, and the groups of the user pool give `role`. Returns
    /// whether the user changed.
    ///
    /// The role stays if it was given by [`Self::set_role`] and the groups may have been read before they were written,
    /// and that of a machine client stays, too.
    pub fn signed_in(&mut self, role: Role, now: Instant) -> bool {
        let is_confirmed = self.status == UserStatus::Unconfirmed;
        let stays = !self.follows_groups(now) || self.status == UserStatus::Deleted;
        let changes_role = !stays && self.role != role;
        if is_confirmed {
            self.status = UserStatus::Active;
        }
        if changes_role {
            self.role = role;
        }
        let changed = is_confirmed || changes_role;
        self.version += u64::from(changed);
        changed
    }

    /// Returns whether the groups of a sign-in count more than the role of the row.
    fn follows_groups(&self, now: Instant) -> bool {
        let is_settled = self.role_written_at.is_none_or(|at| now - at >= STALE_GROUPS);
        is_settled && !self.role_pending && self.client.is_none()
    }

    /// Returns the role in which the user acts for the staff with a token that has the role `of_token`: the lower of
    /// the token's and the row's, because the token may be older than the last change of the role.
    ///
    /// A row without a registration and without a role that was given says nothing about the role.
    ///
    /// # Errors
    /// `Forbidden` if the user is blocked, is being deleted or was deleted.
    pub fn acts_as(&self, of_token: Role) -> Result<Role, DomainError> {
        self.status.may_act_for_staff(&self.id)?;
        let says_role = self.registered_at.is_some() || self.role_pending || self.role_written_at.is_some();
        Ok(if says_role { self.role.lower(of_token) } else { of_token })
    }

    /// Changes the name or the language. `None` leaves the value unchanged.
    ///
    /// # Errors
    /// `NotFound` if the user was deleted.
    pub fn update(&mut self, name: Option<String>, language: Option<Language>) -> Result<(), DomainError> {
        self.must_exist()?;
        self.name = name.or_else(|| self.name.take());
        self.language = language.unwrap_or(self.language);
        self.version += 1;
        Ok(())
    }

    /// Begins the deletion of the user. From now on no session may start. A deletion that did not complete begins
    /// again.
    ///
    /// # Errors
    /// `Forbidden` if an actor with role USER is another user; `Conflict` if the user was deleted.
    pub fn start_deletion(&mut self, actor: &Actor) -> Result<(), DomainError> {
        actor.may_see(&self.id, &format!("account {}", self.id))?;
        let from = [UserStatus::Unconfirmed, UserStatus::Active, UserStatus::Blocked, UserStatus::Deleting];
        self.check(&from, UserStatus::Deleting, actor.role)?;
        if self.status != UserStatus::Deleting {
            self.status_before_deletion = Some(self.status);
        }
        self.status = UserStatus::Deleting;
        self.version += 1;
        Ok(())
    }

    /// Ends the deletion without deleting anything. The user returns to the status from before the deletion.
    ///
    /// # Errors
    /// `Conflict` unless the user is DELETING.
    pub fn refuse_deletion(&mut self) -> Result<(), DomainError> {
        let before = self.status_before_deletion.unwrap_or_default();
        self.check(&[UserStatus::Deleting], before, Role::System)?;
        self.status = before;
        self.status_before_deletion = None;
        self.version += 1;
        Ok(())
    }

    /// Deletes the personal data of the user and returns the event. Only the id and the status remain.
    ///
    /// # Errors
    /// `Conflict` unless the user is DELETING.
    pub fn delete(&mut self, now: Instant) -> Result<UserDeleted, DomainError> {
        self.check(&[UserStatus::Deleting], UserStatus::Deleted, Role::System)?;
        *self = Self {
            id: self.id.clone(),
            email: None,
            name: None,
            role: Role::User,
            role_pending: false,
            role_written_at: None,
            status: UserStatus::Deleted,
            status_before_deletion: None,
            blocked_reason: None,
            language: Language::default(),
            registered_at: None,
            deleted_at: Some(now),
            client: None,
            version: self.version + 1,
        };
        self.deleted_event()
    }

    /// Returns the event of the deletion.
    ///
    /// # Errors
    /// `Conflict` unless the user is DELETED.
    pub fn deleted_event(&self) -> Result<UserDeleted, DomainError> {
        match self.deleted_at {
            Some(deleted_at) if self.status == UserStatus::Deleted => {
                Ok(UserDeleted { user_id: self.id.clone(), deleted_at })
            }
            _ => Err(DomainError::conflict(format!("user {} is {} and not DELETED", self.id, self.status.name()))),
        }
    }

    /// Checks that the actor's role is not below that of the user, as far as blocks are concerned.
    ///
    /// # Errors
    /// `Forbidden` if the user is an administrator and the actor is not.
    pub fn is_subject_to(&self, actor: &Actor) -> Result<(), DomainError> {
        if self.role != Role::Admin || matches!(actor.role, Role::Admin | Role::System) {
            return Ok(());
        }
        Err(DomainError::Forbidden("an administrator is blocked and unblocked by role ADMIN".to_owned()))
    }

    fn must_exist(&self) -> Result<(), DomainError> {
        if self.status == UserStatus::Deleted {
            return Err(DomainError::not_found("user", &self.id));
        }
        Ok(())
    }

    /// Checks that the user has one of the statuses `from`, and that `role` may bring the user from there to `to`.
    /// `from` has the statuses of one command; other commands may lead to `to` from other statuses.
    fn check(&self, from: &[UserStatus], to: UserStatus, role: Role) -> Result<(), DomainError> {
        for status in from {
            status.transition(to, role)?;
        }
        if from.contains(&self.status) {
            return Ok(());
        }
        let (is, to) = (self.status.name(), to.name());
        let from: Vec<&str> = from.iter().map(|status| status.name()).collect();
        let mut allowed = self.status.allowed();
        allowed.retain(|status| *status != to);
        Err(DomainError::Conflict(Conflict {
            message: format!("user {} is {is} and not {}, so the user cannot become {to}", self.id, from.join(" or ")),
            transition: Some(IllegalTransition { from: is, to, allowed }),
        }))
    }
}
