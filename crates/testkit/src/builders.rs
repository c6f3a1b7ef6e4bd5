use domain::billing::LowBalance;
use domain::charging::session::{EndReason, SessionStatus};
use domain::charging::session::{EventPeriod, SessionEnded};
use domain::charging::tariff::{PeriodState, Tariff};
use domain::id::{ClientId, PortId, SessionId, StationId, UserId, VehicleId};
use rust_decimal::Decimal;

/// Builds the end of a session with `watt_hours` Wh in half an hour, at 0.50 EUR per kWh without VAT.
#[must_use]
pub fn ended(session: &str, user: &str, watt_hours: u32) -> SessionEnded {
    let (started_at, ended_at) = (
        "2026-02-22T10:00:00Z".parse().expect("a fixed value"),
        "2026-02-22T10:30:00Z".parse().expect("a fixed value"),
    );
    let energy_kwh = Decimal::new(watt_hours.into(), 3);
    SessionEnded {
        session_id: SessionId::new(session).expect("a fixed value"),
        user_id: UserId::new(user).expect("a fixed value"),
        station_id: StationId::new("station-1").expect("a fixed value"),
        port_id: PortId::new("port-1").expect("a fixed value"),
        status: SessionStatus::Completed,
        reason: EndReason::TargetReached,
        energy_kwh,
        duration_minutes: 30.0,
        started_at,
        ended_at,
        tariff: Tariff::per_kwh("0.50".parse().expect("a fixed value"), "EUR".parse().expect("a fixed value")),
        time_zone: "Europe/Berlin".to_owned(),
        charging_periods: vec![EventPeriod {
            start: started_at,
            end: ended_at,
            state: PeriodState::Charging,
            energy_kwh,
            power_kw: energy_kwh * Decimal::TWO,
        }],
    }
}

/// Builds a limit in EUR, below which a wallet is low.
#[must_use]
pub fn low_below(amount: &str) -> LowBalance {
    LowBalance { below: amount.parse().expect("a fixed value"), currency: "EUR".parse().expect("a fixed value") }
}
