//! Properties that hold for any vehicles, any model and any sequence of ticks.

use chrono::Duration;
use domain::battery::{Battery, Occupant, StationRun};
use domain::charging::session::{EndReason, MAX_READINGS, Session, SessionStatus, advance_station};
use domain::machine::State;
use proptest::prelude::*;

use crate::common::{Car, assert_same, car, model, session, start, station};
use crate::random::seeded;

fn sessions(cars: &[Car], power_kw: f64, model: &domain::battery::ModelConfig) -> Vec<Session> {
    let mut station = station(power_kw, model.clone());
    (1_u32..).zip(cars).map(|(number, car)| session(car, number, &mut station)).collect()
}

/// Advances the sessions that have arrived and are still running, as ticks do.
fn tick(sessions: &mut [Session], minute: i64) {
    tick_at(sessions, start() + Duration::minutes(minute));
}

fn tick_at(sessions: &mut [Session], at: domain::Instant) {
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
    fn advancing_in_several_ticks_gives_the_same_result(
        cars in proptest::collection::vec(car(), 1..6),
        model in model(),
        power in 10.0..400.0_f64,
        mut cuts in proptest::collection::vec(0_i64..400 * 60_000, 0..12),
        every in prop_oneof![Just(None), Just(Some(60_000_i64))],
    ) {
        let mut whole = sessions(&cars, power, &model);
        let mut cut = whole.clone();
        tick(&mut whole, 400);
        cuts.extend(every.into_iter().flat_map(|every| (0..400 * 60_000 / every).map(move |n| n * every)));
        cuts.sort_unstable();
        for ms in cuts.into_iter().chain([400 * 60_000]) {
            tick_at(&mut cut, start() + Duration::milliseconds(ms));
        }
        for (a, b) in whole.iter().zip(&cut) {
            assert_same(a, b)?;
        }
    }

    #[test]
    fn a_curve_is_cut_at_whole_kilowatts(car in car(), model in model(), power in 10.0..400.0_f64) {
        let [session] = &sessions(&[car], power, &model)[..] else { unreachable!() };
        let battery = Battery {
            capacity_kwh: session.battery_capacity_kwh,
            percent: session.start_percent,
            stop_percent: session.target_percent,
        };
        let occupant = Occupant {
            present_from: 0.0,
            advanced_to: 0.0,
            battery,
            limit_kw: session.limit_kw,
            vehicle_max_kw: session.vehicle_max_kw,
            model: &session.model,
        };
        let stretches = StationRun::new(power, vec![occupant]).advance(100.0).remove(0).stretches;
        let mut percent = battery.percent;
        for (index, stretch) in stretches.iter().enumerate() {
            let kwh = (stretch.percent - percent) * battery.capacity_kwh / 100.0;
            let mean_kw = kwh / (stretch.to - stretch.from);
            percent = stretch.percent;
            // The mean power of a very short stretch is dominated by rounding.
            if kwh < 1e-4 {
                continue;
            }
            let is_whole = index > 0 && index + 1 < stretches.len();
            let most = if is_whole { 1e-6 * mean_kw } else { 1.0 };
            prop_assert!((mean_kw - stretch.power_kw).abs() <= most, "{mean_kw} {stretch:?}");
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
                prop_assert!(after.register().kwh_f64() <= model_kwh + 1e-6, "no more than the model delivered");
                prop_assert!(model_kwh <= car.capacity_kwh + 1e-9);
                prop_assert!(after.register().kwh_f64() + 0.001_001 >= model_kwh, "at most one Wh is not yet counted");
                prop_assert!(car.max_energy_kwh.is_none_or(|max| model_kwh <= max + 1e-9));
                prop_assert!(after.meter.readings().len() <= MAX_READINGS);
                let readings = after.meter.readings();
                prop_assert!(readings.windows(2).all(|w| w[0].offset_ms <= w[1].offset_ms && w[0].register <= w[1].register));
                delivered_kwh += (after.charge_percent - before.charge_percent) * car.capacity_kwh / 100.0;
            }
            // A session that arrives between two ticks is metered from its arrival, so the first tick can span an hour.
            let hours = f64::from(i32::try_from(step).unwrap()) / 60.0;
            prop_assert!(delivered_kwh <= power * hours * (1.0 + 1e-9) + 1e-9, "{delivered_kwh} kWh in {hours} h of {power} kW");
        }
    }

    #[test]
    fn a_repeated_or_late_tick_changes_nothing(
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
}

#[test]
fn the_lowest_station_power_applies_in_any_order_and_ended_sessions_take_none() {
    let car = Car {
        capacity_kwh: 100.0,
        max_kw: 100.0,
        percent: 0.0,
        target: 69.0,
        port_kw: 100.0,
        arrives_minute: 0,
        max_energy_kwh: None,
    };
    let mut all = sessions(&[car.clone(), car.clone(), car], 80.0, &domain::battery::ModelConfig::StepTaper);
    all[1].station_power_kw = 60.0;
    all[2].end(SessionStatus::Interrupted, EndReason::StoppedByUser);
    let ended = all[2].clone();
    for _ in 0..3 {
        all.rotate_left(1);
        let mut ticked = all.clone();
        let outcomes = advance_station(&mut ticked, start() + Duration::minutes(6), |_| None);
        for (session, outcome) in ticked.iter().zip(outcomes) {
            if session.id == ended.id {
                assert!(outcome.skipped);
                assert_eq!(*session, ended);
            } else {
                assert_eq!(session.register().0, 3000, "30 kW each for a tenth of an hour");
            }
        }
    }
}

#[test]
fn the_end_reason_names_the_limit_that_was_reached() {
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
        let mut all = sessions(&[car], 50.0, &domain::battery::ModelConfig::StepTaper);
        tick(&mut all, 60);
        assert_eq!((all[0].status, all[0].end_reason, all[0].register().0), (status, Some(reason), wh));
        assert!(all[0].status.transitions().is_empty());
        assert_eq!(all[0].version, 2);
    }
}
