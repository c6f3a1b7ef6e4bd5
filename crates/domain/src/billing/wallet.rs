use std::fmt;

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hold::Hold;
use crate::Instant;
use crate::error::{Checks, DomainError};
use crate::id::{InvoiceId, UserId};
use crate::money::Currency;

/// What a user has paid in and not yet spent.
#[derive(Clone, Debug, PartialEq)]
pub struct Wallet {
    /// Whose it is.
    pub user_id: UserId,
    /// Of every amount in it. The network's until the first money comes in, which decides it for ever.
    pub currency: Currency,
    /// The sum of its ledger; never negative.
    pub balance: Decimal,
    /// Entries of its ledger, which are numbered from 1.
    pub entries: u64,
    /// When it was opened.
    pub opened_at: Instant,
    /// What sessions hold of the balance, with holds that are over and remembered for a while.
    pub holds: Vec<Hold>,
    /// Counts its changes; 0 before it is first written.
    pub version: u64,
}

/// Why money moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EntryKind {
    /// Paid in.
    TopUp,
    /// Paid an invoice.
    Invoice,
    /// Refunded by a credit note.
    CreditNote,
}

/// An entry of a wallet's ledger. Entries are only ever added.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerEntry {
    /// Its number in the ledger, from 1, without gaps.
    pub sequence: u64,
    /// Why money moved.
    pub kind: EntryKind,
    /// What came in; negative for what went out.
    pub amount: Decimal,
    /// The balance with it.
    pub balance_after: Decimal,
    /// Of both amounts.
    pub currency: Currency,
    /// Id of the invoice or credit note, or of the top-up.
    pub reference: String,
    /// When it was made.
    pub created_at: Instant,
}

/// Why an invoice cannot be paid from a wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PaymentRefusal {
    /// The balance, without what prepaid sessions hold of it, is below what is due.
    InsufficientFunds,
    /// The wallet holds another currency, and nothing is ever converted.
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
    /// An empty wallet.
    #[must_use]
    pub fn open(user_id: UserId, currency: Currency, now: Instant) -> Self {
        let balance = currency.round(Decimal::ZERO);
        Self { user_id, currency, balance, entries: 0, opened_at: now, holds: Vec::new(), version: 0 }
    }

    /// The wallet in `currency` if no money has ever been in it, else as it is.
    #[must_use]
    pub fn in_currency_until_used(mut self, currency: Currency) -> Self {
        if self.entries == 0 {
            (self.currency, self.balance) = (currency, currency.round(Decimal::ZERO));
        }
        self
    }

    /// Pays `amount` in; `reference` names the top-up. The first money that comes in decides the wallet's currency.
    ///
    /// # Errors
    /// Validation errors for an amount that is not positive or finer than the currency's minor unit; a conflict for
    /// another currency than that of the money that is or was in the wallet.
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

    /// Pays an invoice of `amount` from what is available at `now`.
    ///
    /// # Errors
    /// Why it cannot; the wallet is then as it was.
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

    /// Takes back what a credit note refunds.
    pub fn refund(&mut self, credit_note: String, amount: Decimal, now: Instant) -> LedgerEntry {
        self.post(EntryKind::CreditNote, amount, credit_note, now)
    }

    /// Notes that an invoice waits for money, or that money is held or is no longer. The ledger stays as it is, but
    /// whoever decided on the wallet as it was before has to decide anew.
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
