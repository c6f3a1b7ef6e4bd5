use domain::Instant;
use domain::charging::session::{EndReason, Limits, Session, SessionStatus, SessionTerms, Vehicle};
use domain::charging::tariff::Bill;
use domain::money::{Currency, amount_schema};
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::Serialize;

use crate::commands::Quote;

/// A session as it is answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    session_id: String,
    station_id: String,
    port_id: String,
    user_id: String,
    status: SessionStatus,
    vehicle: Vehicle,
    /// %.
    charge_percent: f64,
    start_percent: f64,
    target_percent: f64,
    limits: Limits,
    /// kW.
    power_kw: f64,
    /// Of the billable register, kWh with three decimals at most.
    energy_kwh: f64,
    /// What an invoice issued now would say, including VAT.
    #[schemars(schema_with = "amount_schema")]
    cost: Decimal,
    currency: Currency,
    started_at: Instant,
    /// Up to when energy and cost are known.
    metered_at: Instant,
    duration_minutes: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_reason: Option<EndReason>,
}

impl SessionView {
    /// `session`, priced by its terms.
    #[must_use]
    pub fn new(session: &Session, terms: &SessionTerms) -> Self {
        Self {
            session_id: session.id.to_string(),
            station_id: session.station_id.to_string(),
            port_id: session.port_id.to_string(),
            user_id: session.user_id.to_string(),
            status: session.status,
            vehicle: terms.vehicle,
            charge_percent: session.charge_percent,
            start_percent: session.start_percent,
            target_percent: session.target_percent,
            limits: session.limits,
            power_kw: session.power_kw,
            energy_kwh: session.register().kwh_f64(),
            cost: session.cost(terms),
            currency: terms.tariff.currency,
            started_at: session.started_at,
            metered_at: session.metered_at,
            duration_minutes: session.duration_minutes(),
            ended_at: session.ended_at,
            end_reason: session.end_reason,
        }
    }
}

/// A quote as it is answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuoteView {
    station_id: String,
    energy_kwh: f64,
    minutes: f64,
    start_at: Instant,
    /// Including VAT, as a session's cost is.
    #[schemars(schema_with = "amount_schema")]
    cost: Decimal,
    #[serde(flatten)]
    bill: Bill,
}

impl QuoteView {
    /// The quote for `request`, which `bill` is.
    #[must_use]
    pub fn new(request: &Quote, start_at: Instant, bill: Bill) -> Self {
        Self {
            station_id: request.station_id.to_string(),
            energy_kwh: request.energy_kwh,
            minutes: request.minutes,
            start_at,
            cost: bill.total_incl_vat,
            bill,
        }
    }
}
