use domain::Instant;
use domain::charging::session::{EndReason, Limits, Session, SessionStatus, SessionTerms, Vehicle};
use domain::money::{Currency, amount_schema};
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::Serialize;

/// A charging session.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// The id of the session.
    session_id: String,
    /// The station at which the vehicle charges.
    station_id: String,
    /// The port at which the vehicle charges.
    port_id: String,
    /// The user who pays for the session.
    user_id: String,
    /// The status of the session.
    status: SessionStatus,
    /// The vehicle that charges.
    vehicle: Vehicle,
    /// The state of charge at `meteredAt`, %.
    charge_percent: f64,
    /// The state of charge at the start, %.
    start_percent: f64,
    /// The state of charge at which the session ends, %.
    target_percent: f64,
    /// The limits of the session. For a prepaid session `maxCost` is at most the amount that is held for it.
    limits: Limits,
    /// The charging power at `meteredAt`, kW.
    power_kw: f64,
    /// The energy in the meter register, kWh with at most three decimals. This energy is billed.
    energy_kwh: f64,
    /// The total of an invoice issued now, including VAT; zero for a FAILED session, which is not billed.
    #[schemars(schema_with = "amount_schema")]
    cost: Decimal,
    /// The currency of the costs (ISO 4217).
    currency: Currency,
    /// The time at which the session started.
    started_at: Instant,
    /// The time up to which energy and cost are known.
    metered_at: Instant,
    /// The minutes from the start to the end of the session, or to `meteredAt` while it runs.
    duration_minutes: f64,
    /// The version of the session, which rises with every change. Updates with a lower version are older.
    version: u64,
    /// The time at which the session ended; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Instant>,
    /// The reason for the end of the session; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    end_reason: Option<EndReason>,
}

impl SessionView {
    /// Builds the view of a session and prices the session by its terms.
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
            version: session.version,
            ended_at: session.ended_at,
            end_reason: session.end_reason,
        }
    }
}
