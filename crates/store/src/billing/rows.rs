//! The items of the billing table.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::Instant;
use domain::billing::{CreditNote, EntryKind, Hold, Invoice, InvoiceStatus, LedgerEntry, Payment, Wallet};
use domain::charging::tariff::{Bill, BillLine, VatLine};
use domain::id::{InvoiceId, SessionId, StationId, UserId};
use domain::money::Currency;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{LoadedInvoice, TopUp};
use crate::dynamodb::{Item, decode, encode, time};
use crate::error::StoreError;
use crate::keys;

/// Value of the status attribute of wallets. It makes the status index list the wallets too.
pub const WALLET_STATUS: &str = "WALLET";

/// The attributes of a sealed invoice that may change.
const CHANGEABLE: [&str; 7] =
    [keys::billing::BY_STATUS.partition, "credited", "paidAmount", "paidAt", "ledgerEntry", "version", keys::OUTBOX];

// `createdAt` is when the invoice was issued: the indexes sort by it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvoiceRow {
    #[serde(rename = "PK")]
    pub pk: String,
    #[serde(rename = "SK")]
    sk: String,
    session_id: SessionId,
    user_id: UserId,
    station_id: StationId,
    pub status: InvoiceStatus,
    #[serde(with = "time")]
    created_at: Instant,
    currency: Currency,
    /// Number of `LINE#n` items.
    pub lines: usize,
    vat: Vec<VatLine>,
    total_excl_vat: Decimal,
    total_incl_vat: Decimal,
    energy_kwh: Decimal,
    #[serde(with = "time")]
    started_at: Instant,
    #[serde(with = "time")]
    ended_at: Instant,
    credited: Decimal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paid_amount: Option<Decimal>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::option")]
    paid_at: Option<Instant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ledger_entry: Option<u64>,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outbox: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct LineRow {
    #[serde(rename = "PK")]
    pub pk: String,
    #[serde(rename = "SK")]
    pub sk: String,
    #[serde(flatten)]
    line: BillLine,
}

/// A credit note as one JSON document, because it is written once and always read as a whole.
#[derive(Debug, Serialize, Deserialize)]
pub struct CreditNoteRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    note: String,
    fingerprint: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WalletRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    status: String,
    #[serde(with = "time")]
    created_at: Instant,
    currency: Currency,
    balance: Decimal,
    entries: u64,
    version: u64,
}

// DynamoDB deletes the item after `expiresAt`. No other item of the table has this attribute.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    session_id: SessionId,
    amount: Decimal,
    currency: Currency,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_cost: Option<Decimal>,
    attempts: BTreeMap<String, bool>,
    ended: bool,
    #[serde(with = "chrono::serde::ts_seconds")]
    expires_at: Instant,
    version: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    kind: EntryKind,
    amount: Decimal,
    balance_after: Decimal,
    currency: Currency,
    reference: String,
    #[serde(with = "time")]
    created_at: Instant,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenInvoiceRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    pub invoice_id: InvoiceId,
    /// Currency of the invoice. It saves reading the invoices that the wallet can never pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TopUpRow {
    #[serde(rename = "PK")]
    pk: String,
    #[serde(rename = "SK")]
    sk: String,
    pub fingerprint: String,
    pub sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outbox: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureRow {
    #[serde(rename = "PK")]
    pub pk: String,
    #[serde(rename = "SK")]
    pub sk: String,
    pub reason: String,
    #[serde(with = "time")]
    pub failed_at: Instant,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbox: Option<String>,
}

/// Decodes a wallet, if there is one, and its holds.
pub fn funds(pk: &str, items: Vec<Item>) -> Result<(Option<Wallet>, Vec<Hold>), StoreError> {
    let (mut wallet, mut holds) = (None, Vec::new());
    for item in items {
        if item.get(keys::SK).and_then(|sk| sk.as_s().ok()).is_some_and(|sk| sk == keys::BALANCE) {
            wallet = Some(decode::<WalletRow>(pk, item)?.into_wallet()?);
        } else {
            holds.push(decode::<HoldRow>(pk, item)?.into_hold());
        }
    }
    Ok((wallet, holds))
}

/// Decodes the items of an invoice's partition.
pub fn assemble(pk: &str, items: Vec<Item>) -> Result<LoadedInvoice, StoreError> {
    let (mut row, mut lines, mut credit_notes) = (None, Vec::new(), Vec::new());
    // The query returns the items by sort key, so the lines are in order.
    for item in items {
        let sk = item.get(keys::SK).and_then(|sk| sk.as_s().ok()).cloned().unwrap_or_default();
        if sk == keys::METADATA {
            row = Some(decode::<InvoiceRow>(pk, item)?);
        } else if sk.starts_with("LINE#") {
            lines.push(decode::<LineRow>(pk, item)?.line);
        } else {
            credit_notes.push(decode::<CreditNoteRow>(pk, item)?.into_note()?.0);
        }
    }
    let row = row.ok_or_else(|| StoreError::corrupt(pk, "its METADATA are missing"))?;
    credit_notes.sort_by_key(|note: &CreditNote| note.issued_at);
    Ok(LoadedInvoice { invoice: row.into_invoice(lines)?, credit_notes })
}

/// Decodes the ledger entries, in the order of the items.
pub fn entries(pk: &str, items: Vec<Item>) -> Result<Vec<LedgerEntry>, StoreError> {
    items.into_iter().map(|item| decode::<EntryRow>(pk, item)?.into_entry()).collect()
}

impl InvoiceRow {
    pub fn new(invoice: &Invoice, outbox: Option<String>) -> Self {
        let payment = invoice.payment.as_ref();
        Self {
            pk: keys::invoice(&invoice.id),
            sk: keys::METADATA.to_owned(),
            session_id: invoice.session_id.clone(),
            user_id: invoice.user_id.clone(),
            station_id: invoice.station_id.clone(),
            status: invoice.status,
            created_at: invoice.issued_at,
            currency: invoice.bill.currency,
            lines: invoice.bill.lines.len(),
            vat: invoice.bill.vat.clone(),
            total_excl_vat: invoice.bill.total_excl_vat,
            total_incl_vat: invoice.bill.total_incl_vat,
            energy_kwh: invoice.energy_kwh,
            started_at: invoice.started_at,
            ended_at: invoice.ended_at,
            credited: invoice.credited,
            paid_amount: payment.map(|payment| payment.amount),
            paid_at: payment.map(|payment| payment.paid_at),
            ledger_entry: payment.and_then(|payment| payment.entry),
            version: invoice.version,
            outbox,
        }
    }

    /// Returns the attributes that an update of a sealed invoice may change.
    pub fn changeable(self, pk: &str) -> Result<Item, StoreError> {
        let mut item = encode(pk, self)?;
        item.retain(|attribute, _: &mut AttributeValue| CHANGEABLE.contains(&attribute.as_str()));
        Ok(item)
    }

    /// Returns the currency and the amount due while the invoice is OPEN.
    pub fn due(&self) -> Option<(Currency, Decimal)> {
        (self.status == InvoiceStatus::Open).then(|| (self.currency, self.total_incl_vat - self.credited))
    }

    pub fn id(&self) -> Result<InvoiceId, StoreError> {
        InvoiceId::new(keys::id_of(&self.pk)).map_err(|error| StoreError::corrupt(&self.pk, error))
    }

    pub fn into_invoice(self, lines: Vec<BillLine>) -> Result<Invoice, StoreError> {
        if lines.len() != self.lines {
            return Err(StoreError::corrupt(&self.pk, format!("it has {} of {} lines", lines.len(), self.lines)));
        }
        let payment = self.paid_amount.zip(self.paid_at);
        Ok(Invoice {
            id: self.id()?,
            session_id: self.session_id,
            user_id: self.user_id,
            station_id: self.station_id,
            status: self.status,
            bill: Bill {
                currency: self.currency,
                lines,
                vat: self.vat,
                total_excl_vat: self.total_excl_vat,
                total_incl_vat: self.total_incl_vat,
            },
            energy_kwh: self.energy_kwh,
            started_at: self.started_at,
            ended_at: self.ended_at,
            issued_at: self.created_at,
            credited: self.credited,
            payment: payment.map(|(amount, paid_at)| Payment { amount, paid_at, entry: self.ledger_entry }),
            version: self.version,
        })
    }
}

impl LineRow {
    pub fn new(pk: &str, number: usize, line: &BillLine) -> Self {
        Self { pk: pk.to_owned(), sk: keys::line(number), line: line.clone() }
    }

    pub fn line(&self) -> BillLine {
        self.line.clone()
    }
}

impl CreditNoteRow {
    pub fn new(pk: &str, note: &CreditNote, fingerprint: &str) -> Result<Self, StoreError> {
        let sk = keys::credit_note(&note.credit_note_id);
        let note = serde_json::to_string(note).map_err(|error| StoreError::corrupt(pk, error))?;
        Ok(Self { pk: pk.to_owned(), sk, note, fingerprint: fingerprint.to_owned() })
    }

    pub fn into_note(self) -> Result<(CreditNote, String), StoreError> {
        let note = serde_json::from_str(&self.note);
        let note = note.map_err(|error| StoreError::corrupt(format!("{}/{}", self.pk, self.sk), error))?;
        Ok((note, self.fingerprint))
    }
}

impl WalletRow {
    pub fn new(wallet: &Wallet) -> Self {
        Self {
            pk: keys::wallet(&wallet.user_id),
            sk: keys::BALANCE.to_owned(),
            status: WALLET_STATUS.to_owned(),
            created_at: wallet.opened_at,
            currency: wallet.currency,
            balance: wallet.balance,
            entries: wallet.entries,
            version: wallet.version,
        }
    }

    pub fn into_wallet(self) -> Result<Wallet, StoreError> {
        Ok(Wallet {
            user_id: UserId::new(keys::id_of(&self.pk)).map_err(|error| StoreError::corrupt(&self.pk, error))?,
            currency: self.currency,
            balance: self.balance,
            entries: self.entries,
            opened_at: self.created_at,
            holds: Vec::new(),
            version: self.version,
        })
    }
}

impl HoldRow {
    /// Attributes that may be absent from a hold.
    pub const OPTIONAL: [&str; 1] = ["maxCost"];

    pub fn new(pk: &str, hold: &Hold) -> Self {
        Self {
            pk: pk.to_owned(),
            sk: keys::hold(&hold.session_id),
            session_id: hold.session_id.clone(),
            amount: hold.amount,
            currency: hold.currency,
            max_cost: hold.max_cost,
            attempts: hold.attempts.clone(),
            ended: hold.ended,
            expires_at: hold.expires_at,
            version: hold.version,
        }
    }

    fn into_hold(self) -> Hold {
        Hold {
            session_id: self.session_id,
            amount: self.amount,
            currency: self.currency,
            max_cost: self.max_cost,
            attempts: self.attempts,
            ended: self.ended,
            expires_at: self.expires_at,
            version: self.version,
        }
    }
}

impl EntryRow {
    pub fn new(pk: &str, entry: &LedgerEntry) -> Self {
        Self {
            pk: pk.to_owned(),
            sk: keys::entry(entry.sequence),
            kind: entry.kind,
            amount: entry.amount,
            balance_after: entry.balance_after,
            currency: entry.currency,
            reference: entry.reference.clone(),
            created_at: entry.created_at,
        }
    }

    pub fn into_entry(self) -> Result<LedgerEntry, StoreError> {
        let sequence = keys::id_of(&self.sk).parse().map_err(|error| StoreError::corrupt(&self.sk, error))?;
        Ok(LedgerEntry {
            sequence,
            kind: self.kind,
            amount: self.amount,
            balance_after: self.balance_after,
            currency: self.currency,
            reference: self.reference,
            created_at: self.created_at,
        })
    }
}

impl OpenInvoiceRow {
    pub fn new(invoice: &Invoice) -> Self {
        Self {
            pk: keys::wallet(&invoice.user_id),
            sk: keys::open_invoice(&invoice.issued_at, &invoice.id),
            invoice_id: invoice.id.clone(),
            currency: Some(invoice.bill.currency),
        }
    }
}

impl TopUpRow {
    pub fn new(pk: &str, top_up: &TopUp, outbox: Option<String>) -> Self {
        Self {
            pk: pk.to_owned(),
            sk: keys::top_up(top_up.id),
            fingerprint: top_up.fingerprint.clone(),
            sequence: top_up.sequence,
            outbox,
        }
    }
}
