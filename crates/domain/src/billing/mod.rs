//! Billing: invoices, credit notes, wallets and their ledger.
//!
//! A wallet's balance is the sum of its ledger, and never negative. An invoice is sealed when it is issued: it is paid
//! and credited, but never edited.

mod credit_note;
mod invoice;
mod wallet;

pub use credit_note::{CreditLine, CreditNote, CreditedLine};
pub use invoice::{Invoice, InvoiceStatus, Issued, Payment};
pub use wallet::{EntryKind, LedgerEntry, PaymentRefusal, Wallet};
