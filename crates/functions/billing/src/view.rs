use domain::Instant;
use domain::bill::Bill;
use domain::billing::{CreditNote, EntryKind, Invoice, InvoiceStatus, LedgerEntry, Wallet};
use domain::id::UserId;
use domain::money::Currency;
use rust_decimal::Decimal;
use serde::Serialize;
use store::LoadedInvoice;

/// An invoice as it is answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InvoiceView {
    invoice_id: String,
    session_id: String,
    user_id: String,
    station_id: String,
    status: InvoiceStatus,
    #[serde(flatten)]
    bill: Bill,
    /// What is still to be paid.
    due: Decimal,
    /// Credited so far, including VAT.
    credited: Decimal,
    /// kWh.
    energy_kwh: Decimal,
    started_at: Instant,
    ended_at: Instant,
    issued_at: Instant,
    #[serde(skip_serializing_if = "Option::is_none")]
    paid_at: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_notes: Option<Vec<CreditNote>>,
}

impl From<&Invoice> for InvoiceView {
    fn from(invoice: &Invoice) -> Self {
        Self {
            invoice_id: invoice.id.to_string(),
            session_id: invoice.session_id.to_string(),
            user_id: invoice.user_id.to_string(),
            station_id: invoice.station_id.to_string(),
            status: invoice.status,
            bill: invoice.bill.clone(),
            due: invoice.due(),
            credited: invoice.credited,
            energy_kwh: invoice.energy_kwh,
            started_at: invoice.started_at,
            ended_at: invoice.ended_at,
            issued_at: invoice.issued_at,
            paid_at: invoice.payment.as_ref().map(|payment| payment.paid_at),
            credit_notes: None,
        }
    }
}

impl From<&LoadedInvoice> for InvoiceView {
    fn from(loaded: &LoadedInvoice) -> Self {
        Self { credit_notes: Some(loaded.credit_notes.clone()), ..Self::from(&loaded.invoice) }
    }
}

/// A wallet as it is answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WalletView {
    user_id: String,
    balance: Decimal,
    currency: Currency,
    /// The entry that a top-up made.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<EntryView>,
}

impl WalletView {
    /// A user's wallet; one that was never used is empty, in the network's currency.
    #[must_use]
    pub fn new(user: &UserId, wallet: Option<&Wallet>, currency: Currency) -> Self {
        Self {
            user_id: user.to_string(),
            balance: wallet.map_or_else(|| currency.round(Decimal::ZERO), |wallet| wallet.balance),
            currency: wallet.map_or(currency, |wallet| wallet.currency),
            entry: None,
        }
    }

    /// With the entry that a top-up made.
    #[must_use]
    pub fn with_entry(self, entry: &LedgerEntry) -> Self {
        Self { entry: Some(EntryView::from(entry)), ..self }
    }
}

/// An entry of a ledger as it is answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryView {
    sequence: u64,
    kind: EntryKind,
    /// Negative for what went out.
    amount: Decimal,
    balance_after: Decimal,
    currency: Currency,
    /// Id of the invoice, the credit note or the top-up.
    reference: String,
    created_at: Instant,
}

impl From<&LedgerEntry> for EntryView {
    fn from(entry: &LedgerEntry) -> Self {
        Self {
            sequence: entry.sequence,
            kind: entry.kind,
            amount: entry.amount,
            balance_after: entry.balance_after,
            currency: entry.currency,
            reference: entry.reference.clone(),
            created_at: entry.created_at,
        }
    }
}
