use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use domain::Instant;
use domain::accounts::{UserStatus, Vehicle};
use domain::id::{UserId, VehicleId};
use lru::LruCache;
use store::{StoreError, UserStore};

/// How long this execution environment relies on having read that a user may charge.
const LONGEST_MEMORY: TimeDelta = TimeDelta::minutes(15);
/// How long a start waits for the row of a user who is remembered. The other steps of the start need the rest of the
/// time.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The number of users that are remembered: 10,000, which are some 2 MB.
const MOST_REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

/// The users. This execution environment remembers those of whom it has read that they may charge.
#[derive(Debug)]
pub struct Users {
    store: UserStore,
    /// When each user was read. The user who was read longest ago is dropped first.
    allowed: Mutex<LruCache<UserId, Instant>>,
}

/// What a start knows of its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The user was read, and has this status.
    Read(UserStatus),
    /// The user cannot be read now, but was allowed to charge less than 15 minutes ago.
    Remembered,
}

impl Users {
    /// Creates the users of `store`, none of whom is remembered.
    pub fn new(store: UserStore) -> Self {
        Self { store, allowed: Mutex::new(LruCache::new(MOST_REMEMBERED)) }
    }

    /// Reads the status of a user, and remembers whether the user may charge.
    pub async fn status(&self, user: &UserId, now: Instant) -> Result<UserStatus, StoreError> {
        let status = self.store.status(user).await?;
        if status.may_charge(user).is_ok() {
            self.allowed().put(user.clone(), now);
        } else {
            self.forget(user);
        }
        Ok(status)
    }

    /// Returns what is known of a user who starts a session. A user who is remembered need not be read.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the user cannot be read and is not remembered.
    pub async fn standing(&self, user: &UserId, now: Instant) -> Result<Standing, StoreError> {
        let status = self.status(user, now);
        if !self.remembers(user, now) {
            return status.await.map(Standing::Read);
        }
        match tokio::time::timeout(LONGEST_WAIT, status).await {
            Err(_) | Ok(Err(StoreError::Unavailable { .. })) => Ok(Standing::Remembered),
            Ok(status) => status.map(Standing::Read),
        }
    }

    /// Forgets that a user may charge.
    pub fn forget(&self, user: &UserId) {
        self.allowed().pop(user);
    }

    /// Reads a saved vehicle of a user.
    pub async fn vehicle(&self, user: &UserId, id: &VehicleId) -> Result<Option<Vehicle>, StoreError> {
        self.store.vehicle(user, id).await
    }

    fn remembers(&self, user: &UserId, now: Instant) -> bool {
        self.allowed().peek(user).is_some_and(|read| now - *read < LONGEST_MEMORY)
    }

    fn allowed(&self) -> MutexGuard<'_, LruCache<UserId, Instant>> {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
