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
#[allow(missing_docs)]
pub struct InvoiceGenerated {
    pub invoice_id: InvoiceId,
    pub session_id: SessionId,
    pub user_id: UserId,
    pub station_id: StationId,
    /// PAID or OPEN, as it was issued.
    pub status: InvoiceStatus,
    pub currency: Currency,
    #[schemars(schema_with = "amount_schema")]
    pub total_excl_vat: Decimal,
    #[schemars(schema_with = "amount_schema")]
    pub total_incl_vat: Decimal,
    pub issued_at: Instant,
}

/// An invoice was paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct PaymentCompleted {
    pub invoice_id: InvoiceId,
    pub session_id: SessionId,
    pub user_id: UserId,
    /// What was due, including VAT.
    #[schemars(schema_with = "amount_schema")]
    pub amount: Decimal,
    pub currency: Currency,
}

/// An invoice could not be paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct PaymentFailed {
    pub invoice_id: InvoiceId,
    pub session_id: SessionId,
    pub user_id: UserId,
    /// What is due, including VAT.
    #[schemars(schema_with = "amount_schema")]
    pub amount: Decimal,
    pub currency: Currency,
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
