//! What holds for any vehicles, any model and any way of cutting time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;
#[path = "../../testkit/src/random.rs"]
mod random;

use chrono::Duration;
use common::{Car, car, model, session, start, station, terms};
use domain::machine::State;
use domain::session::{EndReason, MAX_READINGS, Session, SessionStatus, advance_station};
use proptest::prelude::*;
use random::seeded;

fn sessions(cars: &[Car], power_kw: f64, model: &domain::charging::ModelConfig) -> Vec<Session> {
    let mut station = station(power_kw, model.clone());
    (1_u32..).zip(cars).map(|(number, car)| session(car, number, &mut station)).collect()
}

/// Advances those that have arrived and still run, as ticks do.
fn tick(sessions: &mut [Session], minute: i64) {
    let at = start() + Duration::minutes(minute);
    let mut here: Vec<Session> =
        sessions.iter().filter(|s| s.status.is_active() && s.started_at <= at).cloned().collect();
    advance_station(&mut here, at, |_| None);
    for after in here {
        let before = sessions.iter_mut().find(|s| s.id == after.id).unwrap();
        *before = after;
    }
}

proptest! {
    #![proptest_config(seeded(1000))]

    #[test]
    fn cutting_the_interval_changes_nothing(
        cars in proptest::collection::vec(car(), 1..6),
        model in model(),
        power in 10.0..400.0_f64,
        mut cuts in proptest::collection::vec(61_i64..400, 0..12),
    ) {
        let mut whole = sessions(&cars, power, &model);
        let mut cut = whole.clone();
        tick(&mut whole, 400);
        cuts.sort_unstable();
        for minute in cuts.into_iter().chain([400]) {
            tick(&mut cut, minute);
        }
        for (a, b) in whole.iter().zip(&cut) {
            prop_assert!((a.charge_percent - b.charge_percent).abs() < 1e-6, "{} {}", a.charge_percent, b.charge_percent);
            prop_assert!(a.register().0.abs_diff(b.register().0) <= 1, "{:?} {:?}", a.register(), b.register());
            prop_assert_eq!(a.status, b.status);
            prop_assert_eq!(a.end_reason, b.end_reason);
            let (a, b) = (a.ended_at.map(|at| at.timestamp_millis()), b.ended_at.map(|at| at.timestamp_millis()));
            prop_assert!(a.zip(b).is_none_or(|(a, b)| a.abs_diff(b) <= 2), "{a:?} {b:?}");
        }
    }

    #[test]
    fn energy_is_bounded_and_the_meter_never_falls(
        cars in proptest::collection::vec(car(), 1..6),
        model in model(),
        power in 10.0..400.0_f64,
        step in 1_i64..30,
    ) {
        let mut all = sessions(&cars, power, &model);
        let mut minute = 0;
        while minute < 300 {
            minute += step;
            let before = all.clone();
            tick(&mut all, minute);
            let mut delivered_kwh = 0.0;
            for ((before, after), car) in before.iter().zip(&all).zip(&cars) {
                prop_assert!(after.register() >= before.register());
                prop_assert!(after.charge_percent >= before.charge_percent);
                prop_assert!(after.charge_percent <= car.target);
                let model_kwh = (after.charge_percent - car.percent) * car.capacity_kwh / 100.0;
                prop_assert!(after.register().kwh_f64() <= model_kwh + 1e-6, "never more than the model delivered");
                prop_assert!(model_kwh <= car.capacity_kwh + 1e-9);
                prop_assert!(after.register().kwh_f64() + 0.001_001 >= model_kwh, "less than a Wh is not yet counted");
                prop_assert!(car.max_energy_kwh.is_none_or(|max| model_kwh <= max + 1e-9));
                prop_assert!(after.meter.readings().len() <= MAX_READINGS);
                let readings = after.meter.readings();
                prop_assert!(readings.windows(2).all(|w| w[0].offset_ms <= w[1].offset_ms && w[0].register <= w[1].register));
                delivered_kwh += (after.charge_percent - before.charge_percent) * car.capacity_kwh / 100.0;
            }
            // A session that arrives between two ticks is metered from its arrival on, so the first tick spans an hour.
            let hours = f64::from(i32::try_from(step).unwrap()) / 60.0;
            prop_assert!(delivered_kwh <= power * hours * (1.0 + 1e-9) + 1e-9, "{delivered_kwh} kWh in {hours} h of {power} kW");
        }
    }

    #[test]
    fn a_tick_again_or_late_changes_nothing(
        cars in proptest::collection::vec(car(), 1..6),
        model in model(),
        power in 10.0..400.0_f64,
        late in 0_i64..=120,
    ) {
        let mut all = sessions(&cars, power, &model);
        tick(&mut all, 120);
        let once = all.clone();
        let outcomes = advance_station(&mut all, start() + Duration::minutes(late), |_| None);
        prop_assert!(outcomes.iter().all(|outcome| outcome.skipped));
        prop_assert_eq!(all, once);
    }

    #[test]
    fn a_cost_limit_stops_at_the_last_instant_within_it(
        car in car(),
        power in 10.0..400.0_f64,
        cents in 1_i64..3000,
        step in 1_i64..60,
    ) {
        let mut all = sessions(&[Car { max_energy_kwh: None, ..car }], power, &domain::charging::ModelConfig::StepTaper);
        let max_cost = rust_decimal::Decimal::new(cents, 2);
        all[0].limits.max_cost = Some(max_cost);
        let terms = terms();
        let mut minute = 60;
        while all[0].status.is_active() && minute < 10_000 {
            minute += step;
            advance_station(&mut all, start() + Duration::minutes(minute), |_| Some(&terms));
        }
        let cost = all[0].bill(&terms).total_incl_vat;
        prop_assert!(cost <= max_cost, "{cost} is above {max_cost}");
        if all[0].end_reason == Some(EndReason::CostLimit) {
            prop_assert_eq!(all[0].status, SessionStatus::Interrupted);
            // A watt-hour more, and a millisecond's worth of it, would have passed the limit.
            prop_assert!(max_cost - cost <= rust_decimal::Decimal::new(1, 2), "{cost} is far below {max_cost}");
        }
    }
}

#[test]
fn the_reason_of_an_end_is_the_bound_that_was_met() {
    let car = |target, max_energy_kwh| Car {
        capacity_kwh: 50.0,
        max_kw: 50.0,
        percent: 50.0,
        target,
        port_kw: 50.0,
        arrives_minute: 0,
        max_energy_kwh,
    };
    for (car, status, reason, wh) in [
        (car(60.0, None), SessionStatus::Completed, EndReason::TargetReached, 5000),
        (car(60.0, Some(2.5)), SessionStatus::Interrupted, EndReason::EnergyLimit, 2500),
        (car(60.0, Some(25.0)), SessionStatus::Completed, EndReason::TargetReached, 5000),
    ] {
        let mut all = sessions(&[car], 50.0, &domain::charging::ModelConfig::StepTaper);
        tick(&mut all, 60);
        assert_eq!((all[0].status, all[0].end_reason, all[0].register().0), (status, Some(reason), wh));
        assert!(all[0].status.transitions().is_empty());
        assert_eq!(all[0].version, 2);
    }
}
