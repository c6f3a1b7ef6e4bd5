use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LedgerEntry, Wallet};
use crate::id::UserId;
use crate::money::{Currency, amount_schema};

/// Money was paid into a wallet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WalletToppedUp {
    /// Id of the top-up.
    pub top_up_id: String,
    /// Id of the user who owns the wallet.
    pub user_id: UserId,
    /// Amount that was paid in.
    #[schemars(schema_with = "amount_schema")]
    pub amount: Decimal,
    /// Currency of the amount and of the balance.
    pub currency: Currency,
    /// Balance of the wallet after the top-up.
    #[schemars(schema_with = "amount_schema")]
    pub balance: Decimal,
    /// Version of the wallet after the top-up: the number of its ledger entries.
    pub version: u64,
}

impl WalletToppedUp {
    /// Returns the event of a top-up of `wallet`. `entry` is the ledger entry of the top-up.
    #[must_use]
    pub fn new(wallet: &Wallet, entry: &LedgerEntry) -> Self {
        Self {
            top_up_id: entry.reference.clone(),
            user_id: wallet.user_id.clone(),
            amount: entry.amount,
            currency: entry.currency,
            balance: entry.balance_after,
            version: entry.sequence,
        }
    }
}
