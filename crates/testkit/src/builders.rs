use domain::Instant;
use domain::accounts::{
    Area, Client, Language, NewUser, RegistrationNumber, Scope, Token, TokenId, TokenType, User, Vehicle,
};
use domain::actor::Role;
use domain::billing::LowBalance;
use domain::charging::session::{EndReason, SessionStatus};
use domain::charging::session::{EventPeriod, SessionEnded};
use domain::charging::station::PortStatus;
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
        version: Some(38),
        station_version: Some(13),
        port_status: Some(PortStatus::Free),
    }
}

/// Builds an ACTIVE user with the e-mail address `<user>@example.com`, registered at `now`.
#[must_use]
pub fn registered(user: &str, now: Instant) -> User {
    let new = NewUser {
        id: UserId::new(user).expect("a fixed value"),
        email: Some(format!("{user}@example.com")),
        name: Some(format!("Ada {user}")),
        role: Role::User,
        language: Language::De,
        confirmed: true,
        client: None,
    };
    User::register(new, now)
}

/// Builds the user of a machine client that may read stations, registered at `now`.
#[must_use]
pub fn machine_client(user: &str, now: Instant) -> User {
    let client = Client {
        id: ClientId::new(format!("client-of-{user}")).expect("a fixed value"),
        name: "Gate".to_owned(),
        scopes: vec![Scope::read(Area::Stations)],
    };
    User { email: None, name: None, client: Some(client), ..registered(user, now) }
}

/// Builds a vehicle of 52 kWh.
#[must_use]
pub fn vehicle(id: &str, registration_number: Option<&str>) -> Vehicle {
    Vehicle {
        id: VehicleId::new(id).expect("a fixed value"),
        brand: "Renault".to_owned(),
        model: "Zoe".to_owned(),
        battery_capacity_kwh: 52.0,
        max_power_kw: Some(50.0),
        registration_number: registration_number.map(|text| RegistrationNumber::new(text).expect("a fixed value")),
    }
}

/// Builds an RFID card that does not expire.
#[must_use]
pub fn rfid(id: &str) -> Token {
    Token { id: TokenId::new(id).expect("a fixed value"), kind: TokenType::Rfid, valid_until: None }
}

/// Builds a limit in EUR, below which a wallet is low.
#[must_use]
pub fn low_below(amount: &str) -> LowBalance {
    LowBalance { below: amount.parse().expect("a fixed value"), currency: "EUR".parse().expect("a fixed value") }
}
