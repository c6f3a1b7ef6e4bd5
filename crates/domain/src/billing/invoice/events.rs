use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::InvoiceStatus;
use crate::Instant;
use crate::billing::wallet::PaymentRefusal;
use crate::id::{InvoiceId, SessionId, StationId, UserId};
use crate::money::{Currency, amount_schema};

/// An invoice was issued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvoiceGenerated {
    /// Id of the invoice.
    pub invoice_id: InvoiceId,
    /// Id of the billed session.
    pub session_id: SessionId,
    /// Id of the user who pays.
    pub user_id: UserId,
    /// Id of the station where the session ran.
    pub station_id: StationId,
    /// Status in which the invoice was issued: PAID or OPEN.
    pub status: InvoiceStatus,
    /// Currency of both totals.
    pub currency: Currency,
    /// Invoice total excluding VAT.
    #[schemars(schema_with = "amount_schema")]
    pub total_excl_vat: Decimal,
    /// Invoice total including VAT.
    #[schemars(schema_with = "amount_schema")]
    pub total_incl_vat: Decimal,
    /// When the invoice was issued.
    pub issued_at: Instant,
}

/// An invoice was paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentCompleted {
    /// Id of the invoice.
    pub invoice_id: InvoiceId,
    /// Id of the billed session.
    pub session_id: SessionId,
    /// Id of the user who paid.
    pub user_id: UserId,
    /// Amount that was due and was paid, including VAT.
    #[schemars(schema_with = "amount_schema")]
    pub amount: Decimal,
    /// Currency of the amount and of the balance.
    pub currency: Currency,
    /// Balance of the wallet after the payment. Absent if nothing was due, so that no money was moved.
    #[schemars(schema_with = "amount_schema")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Decimal>,
    /// Version of the wallet after the payment: the number of its ledger entries. Absent if no money was moved, and from
    /// events that were written before the field existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet_version: Option<u64>,
}

/// An invoice could not be paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentFailed {
    /// Id of the invoice.
    pub invoice_id: InvoiceId,
    /// Id of the billed session.
    pub session_id: SessionId,
    /// Id of the user who pays.
    pub user_id: UserId,
    /// Amount that is due, including VAT.
    #[schemars(schema_with = "amount_schema")]
    pub amount: Decimal,
    /// Currency of the amount.
    pub currency: Currency,
    /// Why the wallet could not pay the invoice.
    pub reason: PaymentRefusal,
}

/// The outcome of a payment.
#[derive(Clone, Debug, PartialEq)]
pub enum PaymentOutcome {
    /// The wallet paid the invoice.
    Completed(PaymentCompleted),
    /// The wallet could not pay the invoice.
    Failed(PaymentFailed),
}
