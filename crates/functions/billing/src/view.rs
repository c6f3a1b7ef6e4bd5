use domain::Instant;
use domain::billing::{CreditNote, EntryKind, Hold, Invoice, InvoiceStatus, LedgerEntry, Wallet};
use domain::charging::tariff::Bill;
use domain::money::{Currency, amount_schema, decimal_schema};
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::Serialize;
use store::LoadedInvoice;

/// An invoice as it is answered.
#[derive(Debug, Serialize, JsonSchema)]
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
    #[schemars(schema_with = "amount_schema")]
    due: Decimal,
    /// Credited so far, including VAT.
    #[schemars(schema_with = "amount_schema")]
    credited: Decimal,
    /// kWh.
    #[schemars(schema_with = "decimal_schema")]
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
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WalletView {
    user_id: String,
    #[schemars(schema_with = "amount_schema")]
    balance: Decimal,
    currency: Currency,
    /// What prepaid sessions hold of the balance, where they do.
    #[serde(default, skip_serializing_if = "Decimal::is_zero")]
    #[schemars(schema_with = "amount_schema")]
    held: Decimal,
    /// Which sessions those are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    holds: Vec<HoldView>,
    /// The entry that a top-up made.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<EntryView>,
}

impl WalletView {
    /// A user's wallet as it is at `now`.
    #[must_use]
    pub fn new(wallet: &Wallet, now: Instant) -> Self {
        Self {
            user_id: wallet.user_id.to_string(),
            balance: wallet.balance,
            currency: wallet.currency,
            held: wallet.held(now),
            holds: wallet.holds.iter().filter(|hold| hold.is_live(now)).map(HoldView::from).collect(),
            entry: None,
        }
    }

    /// With the entry that a top-up made.
    #[must_use]
    pub fn with_entry(self, entry: &LedgerEntry) -> Self {
        Self { entry: Some(EntryView::from(entry)), ..self }
    }
}

/// What is held for a session, as it is answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldView {
    session_id: String,
    #[schemars(schema_with = "amount_schema")]
    amount: Decimal,
    currency: Currency,
    /// Until when it is held at most.
    expires_at: Instant,
}

impl From<&Hold> for HoldView {
    fn from(hold: &Hold) -> Self {
        Self {
            session_id: hold.session_id.to_string(),
            amount: hold.amount,
            currency: hold.currency,
            expires_at: hold.expires_at,
        }
    }
}

/// An entry of a ledger as it is answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryView {
    sequence: u64,
    kind: EntryKind,
    /// Negative for what went out.
    #[schemars(schema_with = "amount_schema")]
    amount: Decimal,
    #[schemars(schema_with = "amount_schema")]
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
