use domain::accounts::UserStatus;
use domain::id::UserId;
use serde::Deserialize;

use crate::dynamodb::{Db, Table};
use crate::error::StoreError;
use crate::keys;

/// The users table, as far as charging reads it.
#[derive(Clone, Debug)]
pub struct UserStore {
    table: Table,
}

#[derive(Deserialize)]
struct UserRow {
    #[serde(default)]
    blocked: bool,
}

impl UserStore {
    /// Creates the store for `table`.
    #[must_use]
    pub fn new(db: Db, table: impl Into<String>) -> Self {
        Self { table: Table::new(db, table) }
    }

    /// Returns whether a user may charge. A user with no row is not blocked: rows are created at sign-up, but a valid
    /// token is all it takes to be a user.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn status(&self, id: &UserId) -> Result<UserStatus, StoreError> {
        let row: Option<UserRow> = self.table.get(&keys::user(id), keys::METADATA, true).await?;
        Ok(if row.is_some_and(|row| row.blocked) { UserStatus::Blocked } else { UserStatus::Active })
    }
}
