//! Billing: invoices, credit notes, wallets with their ledgers, and the amounts that prepaid sessions hold of a wallet.
//!
//! The balance of a wallet is the sum of its ledger entries and is never negative. The amounts that sessions hold of it
//! are never above the balance. An invoice is sealed when it is issued: it can be paid and credited, but never edited.

mod credit_note;
mod failure;
mod hold;
mod invoice;
mod wallet;

pub use credit_note::{CreditLine, CreditNote, CreditNoteIssued, CreditedLine};
pub use failure::BillingFailed;
pub use hold::{Hold, HoldEnd, HoldRequest, SOLE_ATTEMPT, session_has_ended};
pub use invoice::{
    Invoice, InvoiceGenerated, InvoiceStatus, Issued, Payment, PaymentCompleted, PaymentFailed, PaymentOutcome,
    SettledInvoices,
};
pub use wallet::{EntryKind, LedgerEntry, LowBalance, PaymentRefusal, Wallet, WalletToppedUp};
