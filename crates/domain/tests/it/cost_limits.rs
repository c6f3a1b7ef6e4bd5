//! Tests where a cost limit stops a session, for any vehicles, any model, any tariff and any sequence of ticks.

use chrono::{DateTime, Duration, TimeZone as _, Utc};
use domain::battery::{Battery, CurvePoint, MeasuredCurve, ModelConfig, Occupant, StationRun};
use domain::charging::session::{EndReason, Session, SessionTerms, advance_station};
use domain::charging::tariff::Bill;
use domain::charging::tariff::{ChargingPeriod, PeriodState, Tariff, price};
use domain::units::WattHours;
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::common::{self, Car, assert_same, model, session, start, station, terms};
use crate::random::seeded;

fn with(tariff: Value) -> SessionTerms {
    let tariff: Tariff = serde_json::from_value(tariff).unwrap();
    tariff.validate("tariff").unwrap();
    SessionTerms { tariff, ..terms() }
}

fn tick(sessions: &mut [Session], at: DateTime<Utc>, terms: &SessionTerms) {
    advance_station(sessions, at, |_| Some(terms));
}

fn limited(cars: &[(Car, Decimal)], power_kw: f64, model: &ModelConfig, terms: &SessionTerms) -> Vec<Session> {
    let mut station = station(power_kw, model.clone());
    let sessions = (1_u32..).zip(cars).map(|(number, (car, max_cost))| {
        let mut session = session(car, number, &mut station);
        session.limits.max_cost = Some(least(terms).max(*max_cost));
        session
    });
    sessions.collect()
}

/// The scale of a test: how long sessions take and how much energy they draw, so that the restrictions matter.
#[derive(Clone, Copy)]
struct Scale {
    seconds: u32,
    watt_hours: u32,
    /// Local times of day.
    times: [&'static str; 3],
    energy_steps: [u32; 4],
    time_steps: [u32; 4],
    /// Factor on the prices, so that even a short session costs about ten units of the currency.
    dearer: u32,
}

/// Sessions of minutes to hours, and tens of kWh.
const LONG: Scale = Scale {
    seconds: 10_000,
    watt_hours: 40_000,
    times: ["11:30", "12:00", "14:15"],
    energy_steps: [1, 1, 100, 5000],
    time_steps: [1, 1, 60, 900],
    dearer: 1,
};
/// Sessions of a few seconds around a full minute, and about 100 Wh.
const SHORT: Scale = Scale {
    seconds: 3,
    watt_hours: 150,
    times: ["11:00", "11:01", "11:02"],
    energy_steps: [1, 1, 3, 40],
    time_steps: [1, 1, 2, 3],
    dearer: 200,
};

fn restrictions(scale: Scale) -> impl Strategy<Value = Value> {
    let kwh = move || {
        (0..scale.watt_hours, prop_oneof![3 => Just(0_u32), 1 => 0..1000_u32])
            .prop_map(|(wh, thousandths)| format!("{}.{:03}{thousandths:03}", wh / 1000, wh % 1000))
    };
    let time = move || (0..3_usize).prop_map(move |index| scale.times[index]);
    prop_oneof![
        kwh().prop_map(|kwh| json!({ "min_kwh": kwh })),
        kwh().prop_map(|kwh| json!({ "max_kwh": kwh })),
        (1..=scale.seconds).prop_map(|seconds| json!({ "min_duration": seconds })),
        (1..=scale.seconds).prop_map(|seconds| json!({ "max_duration": seconds })),
        (1..200_u32).prop_map(|kw| json!({ "min_power": kw })),
        (1..200_u32).prop_map(|kw| json!({ "max_power": kw })),
        time().prop_map(|time| json!({ "start_time": time })),
        time().prop_map(|time| json!({ "end_time": time })),
        (time(), kwh()).prop_map(|(time, kwh)| json!({ "end_time": time, "max_kwh": kwh })),
    ]
}

fn element(scale: Scale) -> impl Strategy<Value = Value> {
    let cents = |most: u32| (0..most).prop_map(|cents| format!("{}.{:02}", cents / 100, cents % 100));
    let step = |steps: [u32; 4]| (0..4_usize).prop_map(move |index| steps[index]);
    (
        proptest::option::weighted(0.9, (cents(150 * scale.dearer), step(scale.energy_steps))),
        proptest::option::weighted(0.5, (cents(1000 * scale.dearer), step(scale.time_steps))),
        proptest::option::weighted(0.3, cents(300)),
        (0..3_usize).prop_map(|index| [None, Some("19"), Some("7.7")][index]),
    )
        .prop_map(|(energy, time, flat, vat)| {
            let mut components = Vec::new();
            for (dimension, component) in [("ENERGY", energy), ("TIME", time), ("FLAT", flat.map(|price| (price, 1)))] {
                if let Some((price, step_size)) = component {
                    components.push(json!({ "type": dimension, "price": price, "vat": vat, "step_size": step_size }));
                }
            }
            if components.is_empty() {
                components.push(json!({ "type": "ENERGY", "price": "0.49", "step_size": 1 }));
            }
            json!({ "price_components": components })
        })
}

fn tariff(scale: Scale) -> impl Strategy<Value = SessionTerms> {
    let bound = |from: i64, to: i64| {
        (from..to).prop_map(|cents| {
            let net = Decimal::new(cents, 2);
            json!({ "excl_vat": net, "incl_vat": net * Decimal::new(12, 1) })
        })
    };
    (
        proptest::collection::vec((element(scale), restrictions(scale)), 0..6),
        element(scale),
        proptest::option::weighted(0.3, bound(1, 500)),
        proptest::option::weighted(0.2, bound(1000, 4000)),
    )
        .prop_map(|(restricted, last, min_price, max_price)| {
            let mut elements: Vec<Value> = Vec::new();
            for (mut element, restrictions) in restricted {
                element["restrictions"] = restrictions;
                elements.push(element);
            }
            elements.push(last);
            if max_price.is_some() {
                // With several VAT rates the gross price can fall while `max_price` applies. This is the documented
                // exception.
                for components in elements.iter_mut().filter_map(|element| element["price_components"].as_array_mut()) {
                    for component in components {
                        component["vat"] = json!("19");
                    }
                }
            }
            with(json!({ "currency": "EUR", "elements": elements, "min_price": min_price, "max_price": max_price }))
        })
}

/// Returns the least price of the tariff. A lower limit is refused at the start of a session.
fn least(terms: &SessionTerms) -> Decimal {
    Bill::new(&price(&terms.tariff, terms.time_zone, &[]), terms.tariff.currency).total_incl_vat
}

proptest! {
    #![proptest_config(seeded(500))]

    #[test]
    fn cost_limits_hold_and_do_not_depend_on_the_ticks(
        cars in proptest::collection::vec((common::car(), (1_i64..4000).prop_map(|cents| Decimal::new(cents, 2))), 1..6),
        model in model(),
        power in 10.0..400.0_f64,
        terms in tariff(LONG),
        mut cuts in proptest::collection::vec(0_i64..400 * 60_000, 0..20),
        every in prop_oneof![Just(None), Just(Some(60_000_i64))],
    ) {
        let arrived = |minute| start() + Duration::minutes(minute);
        let mut whole = limited(&cars, power, &model, &terms);
        let mut cut = whole.clone();
        tick(&mut whole, arrived(400), &terms);
        cuts.extend(every.into_iter().flat_map(|every| (0..400 * 60_000 / every).map(move |n| n * every)));
        cuts.sort_unstable();
        for ms in cuts.into_iter().chain([400 * 60_000]) {
            let at = start() + Duration::milliseconds(ms);
            let mut here: Vec<Session> =
                cut.iter().filter(|s| s.status.is_active() && s.started_at <= at).cloned().collect();
            // A read returns items in any order.
            here.reverse();
            tick(&mut here, at, &terms);
            for after in here {
                let before = cut.iter_mut().find(|session| session.id == after.id).unwrap();
                *before = after;
            }
        }
        for (whole, cut) in whole.iter().zip(&cut) {
            assert_same(whole, cut)?;
            let max_cost = whole.limits.max_cost.unwrap();
            for session in [whole, cut] {
                let cost = session.cost(&terms);
                prop_assert!(cost <= max_cost, "{cost} is above {max_cost}");
            }
        }
    }
}

/// The oracle: it simulates the station millisecond by millisecond, with its meters and costs, without any search.
struct Oracle<'a> {
    terms: &'a SessionTerms,
    power_kw: f64,
    cars: Vec<OracleCar<'a>>,
}

#[derive(Clone)]
struct OracleCar<'a> {
    session: &'a Session,
    battery: Battery,
    /// Readings: offset in ms, register in Wh, power in W.
    readings: Vec<(i64, u64, i64)>,
    end: Option<(i64, EndReason)>,
}

impl<'a> Oracle<'a> {
    fn new(sessions: &'a [Session], terms: &'a SessionTerms) -> Self {
        let cars = sessions.iter().map(|session| OracleCar {
            session,
            battery: Battery {
                capacity_kwh: session.battery_capacity_kwh,
                percent: session.start_percent,
                stop_percent: session.target_percent,
            },
            readings: Vec::new(),
            end: None,
        });
        Self { terms, power_kw: sessions[0].station_power_kw, cars: cars.collect() }
    }

    /// Returns the cars after charging from one instant to another (hours), the cars that became full in between with
    /// the instant, and the power of each car.
    fn charge(&self, from: f64, to: f64, who: &[usize]) -> (Vec<OracleCar<'a>>, Vec<(usize, f64)>, Vec<f64>) {
        let mut cars = self.cars.clone();
        let occupants = who.iter().map(|index| Occupant {
            present_from: from,
            advanced_to: from,
            battery: cars[*index].battery,
            limit_kw: cars[*index].session.limit_kw,
            vehicle_max_kw: cars[*index].session.vehicle_max_kw,
            model: &cars[*index].session.model,
        });
        let advances = StationRun::new(self.power_kw, occupants.collect()).advance(to);
        let (mut full, mut powers) = (Vec::new(), vec![0.0; cars.len()]);
        for (index, advance) in who.iter().zip(advances) {
            cars[*index].battery.percent = advance.percent;
            full.extend(advance.ended_at.map(|at| (*index, at)));
            // A change of the power within a ten-thousandth of a millisecond before a full one counts as at the full one.
            let began = advance.stretches.iter().rfind(|stretch| stretch.from < to - 1e-4 / 3_600_000.0);
            powers[*index] = began.or(advance.stretches.last()).map_or(0.0, |stretch| stretch.power_kw);
        }
        (cars, full, powers)
    }

    /// Simulates the millisecond that ends at `ms`.
    fn millisecond(&mut self, ms: i64) {
        let hours = |ms: i64| f64::from(i32::try_from(ms).unwrap()) / 3_600_000.0;
        let mut who: Vec<usize> = (0..self.cars.len()).filter(|index| self.cars[*index].end.is_none()).collect();
        let mut from = hours(ms - 1);
        loop {
            let (mut next, full, powers) = self.charge(from, hours(ms), &who);
            for index in &who {
                let car = &mut next[*index];
                car.read(ms, powers[*index], self.terms);
                if full.iter().any(|(at, _)| at == index) {
                    car.end = Some((ms, EndReason::TargetReached));
                }
            }
            let exceeding: Vec<usize> = who
                .iter()
                .copied()
                .filter(|index| next[*index].cost(self.terms) > next[*index].session.limits.max_cost.unwrap())
                .collect();
            if exceeding.is_empty() {
                self.cars = next;
                return;
            }
            for index in &exceeding {
                self.cars[*index].end = Some((ms - 1, EndReason::CostLimit));
            }
            // A car that became full within the millisecond did so while the stopped cars were still charging. So the
            // stopped cars leave at that instant.
            let before = full.iter().filter(|(index, at)| !exceeding.contains(index) && *at < hours(ms));
            let leave_at = before.map(|(_, at)| *at).fold(from, f64::max);
            let (charged, ..) = self.charge(from, leave_at, &who);
            if leave_at > from {
                for (car, charged) in self.cars.iter_mut().zip(charged) {
                    car.battery = charged.battery;
                }
                from = leave_at;
            }
            who.retain(|index| !exceeding.contains(index));
        }
    }
}

impl OracleCar<'_> {
    /// Reads the meter by the rules of the log: one reading for each power and for each side of a tariff boundary, at
    /// most eight readings, and the last one is never merged.
    fn read(&mut self, ms: i64, power_kw: f64, terms: &SessionTerms) {
        let kwh = (self.battery.percent - self.session.start_percent) * self.battery.capacity_kwh / 100.0;
        let register = WattHours::register(kwh).0;
        #[allow(clippy::cast_possible_truncation)]
        let power = (power_kw * 1000.0 + 1e-3).round() as i64;
        let before = self.readings.len().checked_sub(2).map_or((0, 0), |at| (self.readings[at].0, self.readings[at].1));
        match self.readings.last_mut() {
            Some(last) if (last.2 - power).abs() <= 2 && !reached(self.session, terms, before, (last.0, last.1)) => {
                (last.0, last.1) = (ms, register);
            }
            _ => self.readings.push((ms, register, power)),
        }
        if self.readings.len() == 9 {
            let gaps: Vec<i64> = self.readings[..8].windows(2).map(|pair| (pair[0].2 - pair[1].2).abs()).collect();
            let first = gaps.iter().position(|gap| gap == gaps.iter().min().unwrap()).unwrap();
            let start = first.checked_sub(1).map_or(0, |at| self.readings[at].0);
            let (a, b) = (self.readings[first], self.readings[first + 1]);
            self.readings[first + 1].2 = ((a.0 - start) * a.2 + (b.0 - a.0) * b.2) / (b.0 - start);
            self.readings.remove(first);
        }
    }

    fn cost(&self, terms: &SessionTerms) -> Decimal {
        let mut before = (0, 0);
        let periods = self.readings.iter().map(|(ms, register, power)| {
            let from = std::mem::replace(&mut before, (*ms, *register));
            ChargingPeriod {
                start: self.session.started_at + Duration::milliseconds(from.0),
                end: self.session.started_at + Duration::milliseconds(*ms),
                state: PeriodState::Charging,
                kwh: Decimal::new(i64::try_from(register - from.1).unwrap(), 3),
                power_kw: Some(Decimal::new(*power, 3)),
                current_a: None,
            }
        });
        let periods: Vec<ChargingPeriod> = periods.collect();
        Bill::new(&price(&terms.tariff, terms.time_zone, &periods), terms.tariff.currency).total_incl_vat
    }
}

/// Returns whether a boundary of the tariff lies after `from` and not after `to` (offset in ms, register in Wh).
fn reached(session: &Session, terms: &SessionTerms, from: (i64, u64), to: (i64, u64)) -> bool {
    terms.tariff.elements.iter().filter_map(|element| element.restrictions.as_ref()).any(|restrictions| {
        let energies = [restrictions.min_kwh, restrictions.max_kwh].into_iter().flatten();
        let durations = [restrictions.min_duration, restrictions.max_duration].into_iter().flatten();
        let times = [restrictions.start_time, restrictions.end_time].into_iter().flatten();
        let times = times.map(|time| {
            let local = session.started_at.with_timezone(&terms.time_zone).date_naive().and_time(time);
            let at = terms.time_zone.from_local_datetime(&local).unwrap().to_utc();
            (at - session.started_at).num_milliseconds()
        });
        let wh = |register: u64| Decimal::from(register);
        energies.map(|kwh| kwh * Decimal::ONE_THOUSAND).any(|energy| wh(from.1) < energy && energy <= wh(to.1))
            || durations.map(|seconds| i64::from(seconds) * 1000).chain(times).any(|at| from.0 < at && at <= to.0)
    })
}

proptest! {
    #![proptest_config(seeded(100))]

    #[test]
    fn a_cost_limit_stops_at_the_last_millisecond_before_the_cost_first_exceeds_it(
        cars in proptest::collection::vec(
            (common::car(), 0.1..60.0_f64, 200_i64..2500),
            1..4,
        ),
        model in model(),
        power in 50.0..600.0_f64,
        terms in tariff(SHORT),
        mut cuts in proptest::collection::vec(1_i64..4000, 0..3),
    ) {
        let cars: Vec<(Car, Decimal)> = cars
            .into_iter()
            .map(|(car, gap, cents)| {
                // At least 30 kW into small batteries, so that they follow their curves and become full within the
                // simulated time.
                let capacity_kwh = car.capacity_kwh / 20.0;
                let (max_kw, port_kw) = (car.max_kw.max(30.0), car.port_kw.max(30.0));
                let target = (car.percent + gap).min(100.0);
                let car = Car { capacity_kwh, max_kw, target, port_kw, arrives_minute: 0, max_energy_kwh: None, ..car };
                (car, Decimal::new(cents, 2))
            })
            .collect();
        // Start 1.5 s before a full minute.
        let at = start() + Duration::milliseconds(58_500);
        let mut sessions = limited(&cars, power, &model, &terms);
        for session in &mut sessions {
            (session.started_at, session.metered_at) = (at, at);
        }
        let expected = {
            let mut oracle = Oracle::new(&sessions, &terms);
            for ms in 1..=4000 {
                oracle.millisecond(ms);
            }
            oracle.cars.iter().map(|car| (car.end, car.readings.clone())).collect::<Vec<_>>()
        };
        cuts.sort_unstable();
        for ms in cuts.into_iter().chain([4000]) {
            tick(&mut sessions, at + Duration::milliseconds(ms), &terms);
        }
        for (session, (end, readings)) in sessions.iter().zip(expected) {
            let ended = session.ended_at.map(|ended| (ended - at).num_milliseconds());
            let actual: Vec<_> = session
                .meter
                .readings()
                .iter()
                .map(|reading| (reading.offset_ms, reading.register.0, i64::from(reading.power_w)))
                .collect();
            prop_assert_eq!(ended.zip(session.end_reason), end, "{:?} {:?}", session, readings);
            prop_assert_eq!(actual, readings);
        }
    }
}

/// Returns where a session at `power_kw` under `tariff` is stopped by `limit`, for several sequences of ticks within an
/// hour: the reason, the time since the start (ms) and the register (Wh).
fn stops(tariff: Value, power_kw: f64, limit: &str) -> Vec<(Option<EndReason>, i64, u64)> {
    let terms = with(tariff);
    let car = Car {
        capacity_kwh: 2000.0,
        max_kw: power_kw,
        percent: 0.0,
        target: 69.0,
        port_kw: power_kw,
        arrives_minute: 0,
        max_energy_kwh: None,
    };
    let ticks: [Vec<i64>; 4] = [
        vec![3_600_000],
        (1..=60).map(|minute| minute * 60_000).collect(),
        vec![7, 360_000, 3_600_000],
        (1..=3000).map(|n| n * 10).chain([3_600_000]).collect(),
    ];
    let stop = |ticks: Vec<i64>| {
        let mut all = limited(&[(car.clone(), limit.parse().unwrap())], power_kw, &ModelConfig::StepTaper, &terms);
        for ms in ticks {
            tick(&mut all, start() + Duration::milliseconds(ms), &terms);
        }
        (all[0].end_reason, (all[0].metered_at - start()).num_milliseconds(), all[0].register().0)
    };
    ticks.into_iter().map(stop).collect()
}

#[test]
fn a_session_stops_before_an_energy_bound_that_lowers_the_price() {
    // The first 3 kWh are billed in steps of 10 kWh: 10.00. From then on the step is one Wh at 0.10 per kWh, so the
    // price falls.
    let tariff = json!({
        "currency": "EUR",
        "elements": [
            { "price_components": [{ "type": "ENERGY", "price": "1.00", "step_size": 10000 }],
              "restrictions": { "max_kwh": "3" } },
            { "price_components": [{ "type": "ENERGY", "price": "0.10", "step_size": 1 }] },
        ],
    });
    // At 36 kW the first Wh is full after 100 ms.
    assert_eq!(stops(tariff, 36.0, "9"), [(Some(EndReason::CostLimit), 99, 0); 4]);
}

#[test]
fn a_session_stops_before_the_first_energy_of_a_period_lowers_the_price() {
    // At 3.6 kW, the first ten seconds give 10 Wh, billed in steps of 100 Wh: 100.00. After that every second costs
    // 10.00, and from the first Wh after such a second the smaller step applies: 10 Wh cost 10.00.
    let tariff = json!({
        "currency": "EUR",
        "elements": [
            { "price_components": [
                { "type": "ENERGY", "price": "1000", "step_size": 100 },
                { "type": "TIME", "price": "0", "step_size": 1 },
              ],
              "restrictions": { "max_duration": 10 } },
            { "price_components": [
                { "type": "ENERGY", "price": "0.01", "step_size": 1 },
                { "type": "TIME", "price": "36000", "step_size": 1 },
            ] },
        ],
    });
    assert_eq!(stops(tariff, 3.6, "105"), [(Some(EndReason::CostLimit), 10_000, 10); 4]);
}

#[test]
fn a_session_stops_before_an_energy_bound_passed_within_a_millisecond_lowers_the_price() {
    // At 5,000 kW the register shows 1, 2 and 4 Wh after 1, 2 and 3 ms: it passes the bound within the third
    // millisecond.
    let tariff = json!({
        "currency": "EUR",
        "elements": [
            { "price_components": [{ "type": "ENERGY", "price": "1000", "step_size": 1000 }],
              "restrictions": { "max_kwh": "0.003" } },
            { "price_components": [{ "type": "ENERGY", "price": "1", "step_size": 1 }] },
        ],
    });
    assert_eq!(stops(tariff, 5000.0, "500"), [(Some(EndReason::CostLimit), 0, 0); 4]);
}

#[test]
fn a_session_stops_before_the_maximum_price_lowers_the_gross_price() {
    // 9.00 with 27 % VAT, and 1.00 per kWh without VAT. The maximum price applies from 10.00 net.
    let tariff = json!({
        "currency": "EUR",
        "elements": [{ "price_components": [
            { "type": "FLAT", "price": "9.00", "vat": "27", "step_size": 1 },
            { "type": "ENERGY", "price": "1.00", "vat": "0", "step_size": 1 },
        ] }],
        "max_price": { "excl_vat": "10.00" },
    });
    // 11.43 + 0.574 rounds to 12.00; with 575 Wh the sum is 12.01. At 36 kW a Wh takes 100 ms.
    assert_eq!(stops(tariff, 36.0, "12"), [(Some(EndReason::CostLimit), 57_499, 574); 4]);
}

#[test]
fn forty_cost_limits_are_reached_in_one_tick() {
    let points = (0..16).map(|n| CurvePoint { percent: f64::from(n) * 6.25, power_kw: 120.0 - f64::from(n) * 6.0 });
    let model = ModelConfig::MeasuredCurve(MeasuredCurve { points: points.collect() });
    let terms = terms();
    let cars: Vec<(Car, Decimal)> = (1..=40_u32)
        .map(|number| {
            let n = f64::from(number);
            let car = Car {
                capacity_kwh: 30.0 + n,
                max_kw: 150.0,
                percent: 10.0 + n / 2.0,
                target: 100.0,
                port_kw: 150.0,
                arrives_minute: 0,
                max_energy_kwh: None,
            };
            (car, Decimal::new(25 + 4 * i64::from(number), 2))
        })
        .collect();
    let mut all = limited(&cars, 400.0, &model, &terms);
    let before = std::time::Instant::now();
    tick(&mut all, start() + Duration::minutes(20), &terms);
    println!("40 cost limits in one tick of 20 minutes: {:?}", before.elapsed());
    let mut ends: Vec<DateTime<Utc>> = all.iter().filter_map(|session| session.ended_at).collect();
    ends.dedup();
    assert_eq!(ends.len(), 40, "every session stops at its own instant");
    assert!(ends.is_sorted(), "the sessions stop in the order of their limits");
    for session in &all {
        assert_eq!(session.end_reason, Some(EndReason::CostLimit), "{session:?}");
        // One Wh costs less than half a cent.
        assert_eq!(session.cost(&terms), session.limits.max_cost.unwrap());
    }
}
