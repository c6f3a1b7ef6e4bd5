//! The holds of prepaid sessions on a wallet.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::billing::{Hold, Wallet};
use domain::id::{InvoiceId, UserId};

use super::BillingStore;
use super::rows::HoldRow;
use crate::dynamodb::{Transaction, UpdateExpression, delete_if, encode, key, number};
use crate::error::StoreError;
use crate::keys;

impl BillingStore {
    /// Holds money of a wallet for a session that has not been billed, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the wallet or the hold has changed since it was read, or if the session has
    /// been billed.
    pub async fn hold(&self, wallet: &Wallet, hold: &Hold) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        let invoice = keys::invoice(&InvoiceId::of(&hold.session_id));
        transaction.require_absent(self.table.name(), key(&invoice, keys::METADATA))?;
        self.keep_hold(&mut transaction, &wallet.user_id, hold)?;
        self.book(&mut transaction, Some(wallet), &[])?;
        transaction.commit(self.table.db()).await
    }

    /// Records that another attempt at starting the session relies on the hold. Any number of attempts can join at the
    /// same time.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the hold is over.
    pub async fn join_hold(&self, user: &UserId, hold: &Hold, attempt: &str) -> Result<(), StoreError> {
        let update = UpdateExpression::new()
            .set_entry("attempts", attempt, AttributeValue::Bool(true))
            .add("version", 1)
            .only_if("amount", AttributeValue::S(hold.amount.to_string()))
            .build(self.table.name(), key(&keys::wallet(user), &keys::hold(&hold.session_id)))?;
        // This is a transaction with a single write because, unlike a plain update, a transaction waits for conflicting
        // transactions.
        let mut transaction = Transaction::new();
        transaction.update(update);
        transaction.commit(self.table.db()).await
    }

    /// Writes that a hold was given up or has ended, in one transaction with the wallet if money became available.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if the hold or the wallet has changed since it was read.
    pub async fn end_hold(&self, user: &UserId, hold: &Hold, wallet: Option<&Wallet>) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        self.keep_hold(&mut transaction, user, hold)?;
        self.book(&mut transaction, wallet, &[])?;
        transaction.commit(self.table.db()).await
    }

    /// Writes the current state of a hold, on condition of the version at which it was read.
    fn keep_hold(&self, transaction: &mut Transaction, user: &UserId, hold: &Hold) -> Result<(), StoreError> {
        let pk = keys::wallet(user);
        let mut row = encode(&pk, HoldRow::new(&pk, hold))?;
        if hold.version == 1 {
            return transaction.insert(self.table.name(), row);
        }
        row.remove(keys::PK);
        row.remove(keys::SK);
        let update = UpdateExpression::new().set_all(row, &HoldRow::OPTIONAL).only_version(hold.version - 1);
        transaction.update(update.build(self.table.name(), key(&pk, &keys::hold(&hold.session_id)))?);
        Ok(())
    }

    /// Deletes the hold of a billed session. From then on the existence of the invoice shows that the session has
    /// ended.
    pub(super) fn forget_hold(
        &self,
        transaction: &mut Transaction,
        user: &UserId,
        hold: &Hold,
    ) -> Result<(), StoreError> {
        let key = key(&keys::wallet(user), &keys::hold(&hold.session_id));
        transaction.delete(delete_if(self.table.name(), key, "version", number(hold.version - 1))?);
        Ok(())
    }
}
