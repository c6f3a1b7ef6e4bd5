use domain::Instant;
use domain::billing::{CreditNote, EntryKind, Hold, Invoice, InvoiceStatus, LedgerEntry, Wallet};
use domain::charging::tariff::Bill;
use domain::money::{Currency, amount_schema, decimal_schema};
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::Serialize;
use store::LoadedInvoice;

/// An invoice.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvoiceView {
    /// The id of the invoice, derived from the id of the session.
    invoice_id: String,
    /// The session that the invoice bills.
    session_id: String,
    /// The user who pays the invoice.
    user_id: String,
    /// The station at which the session took place.
    station_id: String,
    /// The status of the invoice.
    status: InvoiceStatus,
    #[serde(flatten)]
    bill: Bill,
    /// The amount that is still to be paid, including VAT.
    #[schemars(schema_with = "amount_schema")]
    due: Decimal,
    /// The amount that has been credited so far, including VAT.
    #[schemars(schema_with = "amount_schema")]
    credited: Decimal,
    /// The billed energy, kWh with at most three decimals.
    #[schemars(schema_with = "decimal_schema")]
    energy_kwh: Decimal,
    /// The time at which the session started.
    started_at: Instant,
    /// The time at which the session ended.
    ended_at: Instant,
    /// The time at which the invoice was issued.
    issued_at: Instant,
    /// The time at which the invoice was paid; absent while it is not paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    paid_at: Option<Instant>,
    /// The credit notes on the invoice; absent in lists.
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

/// The wallet of a user.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WalletView {
    /// The owner of the wallet.
    user_id: String,
    /// The balance of the wallet, including the money that is held for prepaid sessions.
    #[schemars(schema_with = "amount_schema")]
    balance: Decimal,
    /// The currency of all amounts of the wallet (ISO 4217).
    currency: Currency,
    /// The part of the balance that is held for prepaid sessions; absent if it is zero.
    #[serde(default, skip_serializing_if = "Decimal::is_zero")]
    #[schemars(schema_with = "amount_schema")]
    held: Decimal,
    /// The holds, one for each prepaid session; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    holds: Vec<HoldView>,
    /// The version of the balance: the number of entries in the ledger. Updates with a lower version are older.
    version: u64,
    /// The ledger entry of the top-up; absent in answers to other actions.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<EntryView>,
}

impl WalletView {
    /// Builds the view of a wallet as it is at `now`.
    #[must_use]
    pub fn new(wallet: &Wallet, now: Instant) -> Self {
        Self {
            user_id: wallet.user_id.to_string(),
            balance: wallet.balance,
            currency: wallet.currency,
            held: wallet.held(now),
            holds: wallet.holds.iter().filter(|hold| hold.is_live(now)).map(HoldView::from).collect(),
            version: wallet.entries,
            entry: None,
        }
    }

    /// Adds the ledger entry of a top-up.
    #[must_use]
    pub fn with_entry(self, entry: &LedgerEntry) -> Self {
        Self { entry: Some(EntryView::from(entry)), ..self }
    }
}

/// Money that is held for one prepaid session.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldView {
    /// The session that may spend the money.
    session_id: String,
    /// The amount that is held.
    #[schemars(schema_with = "amount_schema")]
    amount: Decimal,
    /// The currency of `amount` (ISO 4217).
    currency: Currency,
    /// The time at which the hold expires. It usually ends earlier, with the session's invoice or failure.
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

/// An entry of a wallet's ledger.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryView {
    /// The number of the entry in the ledger, from 1 without gaps.
    sequence: u64,
    /// The kind of the entry.
    kind: EntryKind,
    /// The amount: positive for money received, negative for money spent.
    #[schemars(schema_with = "amount_schema")]
    amount: Decimal,
    /// The balance of the wallet after this entry.
    #[schemars(schema_with = "amount_schema")]
    balance_after: Decimal,
    /// The currency of the amounts (ISO 4217).
    currency: Currency,
    /// The id of the invoice, the credit note or the top-up.
    reference: String,
    /// The time at which the entry was created.
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
