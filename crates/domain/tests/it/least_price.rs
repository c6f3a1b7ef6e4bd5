//! A cost limit below the least price of the tariff is refused at the start of a session.

use chrono::Duration;
use domain::actor::Role;
use domain::battery::ModelConfig;
use domain::charging::session::{
    Limits, Session, SessionStatus, SessionTerms, StartSession, Vehicle, advance_station, balance_allows_least_price,
};
use domain::charging::tariff::Tariff;
use domain::charging::tariff::least_price;
use domain::error::DomainError;
use domain::id::{SessionId, UserId};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::common::{self, port, start, station};

const BERLIN: chrono_tz::Tz = chrono_tz::Europe::Berlin;

#[allow(clippy::needless_pass_by_value)] // callers write JSON
fn tariff(elements: Value, more: Value) -> Tariff {
    let mut tariff = json!({ "currency": "EUR", "elements": elements });
    tariff.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(tariff).unwrap()
}

fn component(kind: &str, price: &str) -> Value {
    json!({ "type": kind, "price": price, "vat": "19", "step_size": 1 })
}

fn minimum() -> Tariff {
    tariff(
        json!([{ "price_components": [component("ENERGY", "1.00")] }]),
        json!({ "min_price": { "excl_vat": "5.00" } }),
    )
}

fn begin(tariff: &Tariff, limits: Limits) -> Result<Session, DomainError> {
    let mut station = station(50.0, ModelConfig::StepTaper);
    station.tariff = Some(tariff.clone());
    let request = StartSession {
        id: SessionId::new("s-1").unwrap(),
        user_id: UserId::new("u-1").unwrap(),
        vehicle: Vehicle { battery_capacity_kwh: 60.0, max_power_kw: None },
        charge_percent: 10.0,
        target_percent: 90.0,
        limits,
        request_fingerprint: "test".to_owned(),
        correlation_id: "test".to_owned(),
    };
    Session::start(request, &mut station, &mut port(1, 50.0), Role::User, start()).map(|(session, _)| session)
}

fn within(max_cost: &str) -> Limits {
    Limits { max_cost: Some(max_cost.parse().unwrap()), ..Limits::default() }
}

#[test]
fn a_cost_limit_below_the_least_price_is_refused_with_the_price() {
    let Err(DomainError::Validation(errors)) = begin(&minimum(), within("5.94")) else {
        panic!("a session with a least price of 5.95 was started with a limit of 5.94");
    };
    assert_eq!(errors[0].field, "limits.maxCost");
    assert!(errors[0].message.contains("5.95 EUR"), "{}", errors[0].message);
    assert!(begin(&minimum(), Limits::default()).is_ok());
}

/// A session that is stopped by a limit equal to the least price costs no more than the limit.
#[test]
fn a_cost_limit_equal_to_the_least_price_holds() {
    for tariff in [
        minimum(),
        tariff(json!([{ "price_components": [component("FLAT", "2.00"), component("ENERGY", "1.00")] }]), json!({})),
        // A whole hour is due from the first millisecond.
        tariff(
            json!([{ "price_components": [{ "type": "TIME", "price": "9.00", "step_size": 3600 }, component("FLAT", "1.00")] }]),
            json!({}),
        ),
    ] {
        let least = least_price(&tariff, BERLIN, start());
        let session = begin(&tariff, within(&least.to_string())).unwrap();
        let terms = SessionTerms { tariff, time_zone: BERLIN, ..common::terms() };
        let mut sessions = [session];
        advance_station(&mut sessions, start() + Duration::hours(8), |_| Some(&terms));
        assert_eq!(sessions[0].status, SessionStatus::Interrupted);
        let cost = sessions[0].cost(&terms);
        assert!(cost <= least, "{cost} is above {least}");
    }
}

#[test]
fn the_least_price_depends_on_the_local_time_of_the_start() {
    let fee = |restrictions: Value| {
        let night = json!({ "price_components": [component("FLAT", "1.00")], "restrictions": restrictions });
        least_price(&tariff(json!([night]), json!({})), BERLIN, start()).to_string()
    };
    // 2026-03-03, 10:00 UTC is 11:00 in Berlin, on a Tuesday.
    assert_eq!(fee(json!({ "start_time": "11:00", "end_time": "12:00" })), "1.19");
    assert_eq!(fee(json!({ "start_time": "10:00", "end_time": "11:00" })), "0.00");
    assert_eq!(fee(json!({ "day_of_week": ["TUESDAY"] })), "1.19");
    assert_eq!(fee(json!({ "day_of_week": ["MONDAY"] })), "0.00");
    // A fee that applies only later, or only with more energy or power, can be avoided by a limit.
    assert_eq!(fee(json!({ "min_duration": 1 })), "0.00");
    assert_eq!(fee(json!({ "min_kwh": "0.001" })), "0.00");
    assert_eq!(fee(json!({ "min_power": "1" })), "0.00");
    assert_eq!(fee(json!({ "max_power": "22" })), "1.19");
    // A maximum price below the fee caps the fee.
    let bounded = tariff(
        json!([{ "price_components": [component("FLAT", "9.00")] }]),
        json!({ "max_price": { "excl_vat": "4.00" } }),
    );
    assert_eq!(least_price(&bounded, BERLIN, start()).to_string(), "4.76");
}

#[test]
fn a_prepaid_session_needs_the_least_price_in_the_wallet() {
    let balance = |text: &str| -> Decimal { text.parse().unwrap() };
    assert_eq!(balance_allows_least_price(balance("5.95"), &minimum(), BERLIN, start()), Ok(()));
    let refused = balance_allows_least_price(balance("5.94"), &minimum(), BERLIN, start());
    let Err(DomainError::Conflict(conflict)) = refused else { panic!("{refused:?}") };
    assert!(conflict.message.contains("5.94 EUR") && conflict.message.contains("5.95 EUR"), "{conflict}");
}
