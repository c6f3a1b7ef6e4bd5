use domain::accounts::UserStatus;
use domain::id::UserId;
use serde::Deserialize;

use crate::dynamodb::{Db, Table};
use crate::error::StoreError;
use crate::keys;

/// Users, as far as charging reads them.
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
    /// Users in `table`.
    #[must_use]
    pub fn new(db: Db, table: impl Into<String>) -> Self {
        Self { table: Table::new(db, table) }
    }

    /// Whether a user may charge. A user without a row has not been blocked: sign-up makes the row, the token the user.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn status(&self, id: &UserId) -> Result<UserStatus, StoreError> {
        let row: Option<UserRow> = self.table.get(&keys::user(id), keys::METADATA, true).await?;
        Ok(if row.is_some_and(|row| row.blocked) { UserStatus::Blocked } else { UserStatus::Active })
    }
}
