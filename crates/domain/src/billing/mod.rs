//! Billing: invoices, credit notes, wallets with their ledger and what prepaid sessions hold of them.
//!
//! A wallet's balance is the sum of its ledger, and never negative; what sessions hold of it is never above it. An
//! invoice is sealed when it is issued: it is paid and credited, but never edited.

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
pub use wallet::{EntryKind, LedgerEntry, PaymentRefusal, Wallet};
