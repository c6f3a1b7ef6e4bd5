//! Builders and strategies for the tests.

use chrono::{DateTime, Utc};
use domain::actor::Role;
use domain::battery::{CurvePoint, MeasuredCurve, ModelConfig, TwoStageLinear};
use domain::charging::connector::ConnectorType;
use domain::charging::session::{Limits, Session, SessionTerms, StartSession, Vehicle};
use domain::charging::station::{Port, PortStatus, Station, StationStatus};
use domain::charging::tariff::Tariff;
use domain::geo::Location;
use domain::id::{PortId, SessionId, StationId, UserId};
use proptest::prelude::*;

pub fn start() -> DateTime<Utc> {
    "2026-03-03T10:00:00Z".parse().unwrap()
}

pub fn tariff() -> Tariff {
    Tariff::per_kwh("0.49".parse().unwrap(), "EUR".parse().unwrap())
}

pub fn station(power_kw: f64, model: ModelConfig) -> Station {
    Station {
        id: StationId::new("station-1").unwrap(),
        name: "Test".to_owned(),
        address: "Road 1".to_owned(),
        location: Location::new(52.5, 13.4).unwrap(),
        time_zone: chrono_tz::Europe::Berlin,
        power_kw,
        tariff: Some(tariff()),
        model,
        status: StationStatus::Active,
        charging_ports: 0,
        created_at: start(),
        updated_at: start(),
        version: 1,
    }
}

pub fn port(number: u32, max_power_kw: f64) -> Port {
    Port {
        station_id: StationId::new("station-1").unwrap(),
        id: PortId::new(format!("port-{number}")).unwrap(),
        number,
        connector: ConnectorType::Iec62196T2Combo,
        max_power_kw,
        status: PortStatus::Free,
        session_id: None,
        version: 1,
    }
}

#[derive(Clone, Debug)]
pub struct Car {
    pub capacity_kwh: f64,
    pub max_kw: f64,
    pub percent: f64,
    pub target: f64,
    pub port_kw: f64,
    pub arrives_minute: u32,
    pub max_energy_kwh: Option<f64>,
}

pub fn car() -> impl Strategy<Value = Car> {
    (
        10.0..150.0_f64,
        3.0..300.0_f64,
        0.0..95.0_f64,
        0.5..100.0_f64,
        3.0..300.0_f64,
        0..60_u32,
        proptest::option::weighted(0.2, 1.0..60.0_f64),
    )
        .prop_map(|(capacity_kwh, max_kw, percent, gap, port_kw, arrives_minute, max_energy_kwh)| Car {
            capacity_kwh,
            max_kw,
            percent,
            target: (percent + gap).min(100.0),
            port_kw,
            arrives_minute,
            max_energy_kwh,
        })
}

pub fn model() -> impl Strategy<Value = ModelConfig> {
    let curve = proptest::collection::vec(5.0..250.0_f64, 2..8).prop_map(|powers| {
        let last = f64::from(u32::try_from(powers.len() - 1).unwrap());
        let points = powers
            .iter()
            .zip(0_u32..)
            .map(|(power_kw, index)| CurvePoint { percent: 100.0 * f64::from(index) / last, power_kw: *power_kw });
        ModelConfig::MeasuredCurve(MeasuredCurve { points: points.collect() })
    });
    prop_oneof![Just(ModelConfig::StepTaper), Just(ModelConfig::TwoStageLinear(TwoStageLinear::default())), curve,]
}

pub fn request(number: u32, car: &Car) -> StartSession {
    StartSession {
        id: SessionId::new(format!("session-{number}")).unwrap(),
        user_id: UserId::new("u-1").unwrap(),
        vehicle: Vehicle { battery_capacity_kwh: car.capacity_kwh, max_power_kw: Some(car.max_kw) },
        charge_percent: car.percent,
        target_percent: car.target,
        limits: Limits { max_energy_kwh: car.max_energy_kwh, ..Limits::default() },
        request_fingerprint: "test".to_owned(),
        correlation_id: "test".to_owned(),
    }
}

pub fn session(car: &Car, number: u32, station: &mut Station) -> Session {
    let at = start() + chrono::Duration::minutes(car.arrives_minute.into());
    let mut port = port(number, car.port_kw);
    Session::start(request(number, car), station, &mut port, Role::User, at).unwrap().0
}

pub fn terms() -> SessionTerms {
    SessionTerms {
        tariff: tariff(),
        time_zone: chrono_tz::Europe::Berlin,
        vehicle: Vehicle { battery_capacity_kwh: 60.0, max_power_kw: None },
        request_fingerprint: "test".to_owned(),
        correlation_id: "test".to_owned(),
    }
}

/// Asserts that two sessions are the same, apart from floating-point rounding: at the edge of a millisecond or a Wh
/// they may differ by one.
pub fn assert_same(a: &Session, b: &Session) -> Result<(), TestCaseError> {
    let ms = |at: Option<DateTime<Utc>>| at.map(|at| at.timestamp_millis());
    prop_assert_eq!((a.status, a.end_reason), (b.status, b.end_reason), "{:?} {:?}", a, b);
    prop_assert!((a.charge_percent - b.charge_percent).abs() < 1e-6, "{:?} {:?}", a, b);
    prop_assert_eq!(a.ended_at.is_some(), b.ended_at.is_some(), "{:?} {:?}", a, b);
    prop_assert!(ms(a.ended_at).zip(ms(b.ended_at)).is_none_or(|(a, b)| a.abs_diff(b) <= 1), "{:?} {:?}", a, b);
    let (a_readings, b_readings) = (a.meter.readings(), b.meter.readings());
    prop_assert_eq!(a_readings.len(), b_readings.len(), "{:?} {:?}", a, b);
    for (x, y) in a_readings.iter().zip(b_readings) {
        prop_assert!(x.offset_ms.abs_diff(y.offset_ms) <= 1, "{:?} {:?}", a, b);
        prop_assert!(x.register.0.abs_diff(y.register.0) <= 1, "{:?} {:?}", a, b);
        prop_assert!(x.power_w.abs_diff(y.power_w) <= 1, "{:?} {:?}", a, b);
    }
    Ok(())
}
