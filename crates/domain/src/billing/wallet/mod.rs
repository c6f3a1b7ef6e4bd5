mod events;
mod holds;
mod low;

pub use events::WalletToppedUp;
pub use low::LowBalance;

use std::fmt;

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::billing::hold::Hold;
use crate::error::{Checks, DomainError};
use crate::id::{InvoiceId, UserId};
use crate::money::Currency;

/// A user's wallet: the money that the user has paid in and not yet spent.
#[derive(Clone, Debug, PartialEq)]
pub struct Wallet {
    /// Id of the user who owns the wallet.
    pub user_id: UserId,
    /// Currency of every amount in the wallet. It is the currency of the network until the first money comes in; that
    /// money sets the currency for good.
    pub currency: Currency,
    /// Balance: the sum of the ledger entries. It is never negative.
    pub balance: Decimal,
    /// Number of ledger entries. They are numbered from 1.
    pub entries: u64,
    /// When the wallet was opened.
    pub opened_at: Instant,
    /// Amounts that sessions hold of the balance. Holds that are over are remembered here for a while.
    pub holds: Vec<Hold>,
    /// Number of the wallet's last change; 0 before the wallet is first written.
    pub version: u64,
}

/// Why money was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EntryKind {
    /// The user paid money in.
    TopUp,
    /// The wallet paid an invoice.
    Invoice,
    /// A credit note refunded money.
    CreditNote,
}

/// An entry of a wallet's ledger. The ledger is append-only.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerEntry {
    /// Number of the entry in the ledger: from 1, without gaps.
    pub sequence: u64,
    /// Why the money was moved.
    pub kind: EntryKind,
    /// Amount of the entry: positive for money that came in, negative for money that went out.
    pub amount: Decimal,
    /// Balance after the entry.
    pub balance_after: Decimal,
    /// Currency of both amounts.
    pub currency: Currency,
    /// Id of the invoice, the credit note or the top-up.
    pub reference: String,
    /// When the entry was made.
    pub created_at: Instant,
}

/// Why an invoice cannot be paid from a wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PaymentRefusal {
    /// The balance, less the amounts that prepaid sessions hold, is below the amount due.
    InsufficientFunds,
    /// The wallet has another currency. Amounts are never converted.
    CurrencyMismatch,
}

impl fmt::Display for PaymentRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InsufficientFunds => "the wallet's balance is too low, without what prepaid sessions hold of it",
            Self::CurrencyMismatch => "the wallet holds another currency, and nothing is converted",
        })
    }
}

impl Wallet {
    /// Creates an empty wallet.
    #[must_use]
    pub fn open(user_id: UserId, currency: Currency, now: Instant) -> Self {
        let balance = currency.round(Decimal::ZERO);
        Self { user_id, currency, balance, entries: 0, opened_at: now, holds: Vec::new(), version: 0 }
    }

    /// Returns the wallet with its currency set to `currency` if no money has ever been in it, and unchanged otherwise.
    #[must_use]
    pub fn in_currency_until_used(mut self, currency: Currency) -> Self {
        if self.entries == 0 {
            (self.currency, self.balance) = (currency, currency.round(Decimal::ZERO));
        }
        self
    }

    /// Pays `amount` into the wallet. `reference` names the top-up. The first money that comes in sets the currency of
    /// the wallet.
    ///
    /// # Errors
    /// `Validation` if the amount is not positive or has more decimals than the currency's minor unit; `Conflict` if
    /// the currency is not the one of the money that is or was in the wallet.
    pub fn top_up(
        &mut self,
        amount: Decimal,
        currency: Currency,
        reference: String,
        now: Instant,
    ) -> Result<LedgerEntry, DomainError> {
        let mut checks = Checks::new();
        checks.require(amount > Decimal::ZERO, "amount", "must be above 0").require(
            currency.round(amount) == amount,
            "amount",
            format!("must have at most {} decimals, as {currency} has", currency.minor_digits()),
        );
        checks.finish()?;
        if self.entries == 0 {
            self.currency = currency;
        }
        if currency != self.currency {
            return Err(DomainError::conflict(format!(
                "the wallet of user {} is in {}, and {currency} is not converted: top up in {}",
                self.user_id, self.currency, self.currency
            )));
        }
        Ok(self.post(EntryKind::TopUp, amount, reference, now))
    }

    /// Pays an invoice of `amount` from the money that is available at `now`.
    ///
    /// # Errors
    /// The reason why the wallet cannot pay. The wallet then stays unchanged.
    pub fn pay(
        &mut self,
        invoice: &InvoiceId,
        amount: Decimal,
        currency: Currency,
        now: Instant,
    ) -> Result<LedgerEntry, PaymentRefusal> {
        if currency != self.currency {
            return Err(PaymentRefusal::CurrencyMismatch);
        }
        if self.available(now) < amount {
            return Err(PaymentRefusal::InsufficientFunds);
        }
        Ok(self.post(EntryKind::Invoice, -amount, invoice.to_string(), now))
    }

    /// Pays the refund of a credit note into the wallet.
    pub fn refund(&mut self, credit_note: String, amount: Decimal, now: Instant) -> LedgerEntry {
        self.post(EntryKind::CreditNote, amount, credit_note, now)
    }

    /// Raises the version, because an invoice waits for money, or money is held or no longer held. The ledger does not
    /// change, but any decision that was based on the wallet before must be made again.
    pub fn touch(&mut self) {
        self.version += 1;
    }

    fn post(&mut self, kind: EntryKind, amount: Decimal, reference: String, now: Instant) -> LedgerEntry {
        self.balance = self.currency.round(self.balance + amount);
        self.entries += 1;
        self.version += 1;
        LedgerEntry {
            sequence: self.entries,
            kind,
            amount: self.currency.round(amount),
            balance_after: self.balance,
            currency: self.currency,
            reference,
            created_at: now,
        }
    }
}
