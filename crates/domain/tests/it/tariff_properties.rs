//! Random tariffs and sessions: compares the price engine and the bill with an independent integer oracle.

use chrono::{DateTime, Duration, Offset, TimeZone};
use chrono_tz::Tz;
use domain::charging::tariff::Bill;
use domain::charging::tariff::{ChargingPeriod, Dimension, PeriodState, Price, Tariff, price};
use proptest::prelude::*;
use proptest::sample::select;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::{Map, Value, json};

use crate::oracle::{self, Period};
use crate::random::seeded;

const BERLIN: Tz = chrono_tz::Europe::Berlin;

fn decimal(units: i64, digits: u32) -> String {
    Decimal::new(units, digits).to_string()
}

fn vat() -> impl Strategy<Value = Option<&'static str>> {
    select(vec![None, Some("0"), Some("7"), Some("19"), Some("19.0"), Some("5.5"), Some("20")])
}

fn component(dimension: &'static str) -> impl Strategy<Value = Value> {
    let steps = match dimension {
        "FLAT" => vec![1],
        "ENERGY" => vec![1, 1, 7, 25, 100, 250, 1000, 10_000],
        _ => vec![1, 1, 60, 90, 300, 900, 1800],
    };
    (0..2500_i64, vat(), select(steps)).prop_map(move |(price, vat, step_size)| {
        let mut component = json!({ "type": dimension, "price": decimal(price, 3), "step_size": step_size });
        if let Some(vat) = vat {
            component["vat"] = json!(vat);
        }
        component
    })
}

/// Components of one or more dimensions.
fn components() -> impl Strategy<Value = Vec<Value>> {
    let chosen = select(vec![
        vec!["ENERGY"],
        vec!["ENERGY"],
        vec!["TIME"],
        vec!["FLAT", "ENERGY"],
        vec!["ENERGY", "TIME", "PARKING_TIME"],
        vec!["FLAT"],
        vec!["PARKING_TIME", "ENERGY"],
    ]);
    chosen.prop_flat_map(|dimensions| dimensions.into_iter().map(component).collect::<Vec<_>>())
}

/// A lower limit, an upper limit, or both.
fn limits(name: &'static str, most: i64, write: fn(i64) -> Value) -> impl Strategy<Value = Map<String, Value>> {
    (0..most, 1..most, select(vec!["min", "max", "both"])).prop_map(move |(low, width, which)| {
        let mut limits = Map::new();
        if which != "max" {
            limits.insert(format!("min_{name}"), write(low));
        }
        if which != "min" {
            limits.insert(format!("max_{name}"), write(low + width));
        }
        limits
    })
}

fn window() -> impl Strategy<Value = Map<String, Value>> {
    let clock = || (0..24_u32, select(vec![0, 0, 15, 30, 59])).prop_map(|(h, m)| json!(format!("{h:02}:{m:02}")));
    (prop::option::of(clock()), clock()).prop_map(|(start, end)| {
        let mut window = Map::from_iter([("end_time".to_owned(), end)]);
        window.extend(start.map(|start| ("start_time".to_owned(), start)));
        window
    })
}

fn days() -> impl Strategy<Value = Map<String, Value>> {
    let week = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"];
    let day = |number: i64| json!((DateTime::UNIX_EPOCH + Duration::days(20_454 + number)).date_naive());
    prop_oneof![
        prop::sample::subsequence(week.to_vec(), 1..7)
            .prop_map(|days| Map::from_iter([("day_of_week".to_owned(), json!(days))])),
        (0..370_i64, 1..30_i64).prop_map(move |(first, count)| Map::from_iter([
            ("start_date".to_owned(), day(first)),
            ("end_date".to_owned(), day(first + count))
        ])),
    ]
}

fn restrictions() -> impl Strategy<Value = Value> {
    // Limits are as fine as a tenth of a Wh: a register passes such a limit at the next whole Wh.
    let energy = limits("kwh", 300_000, |wh| json!(decimal(wh, 4)));
    let power = limits("power", 100, |kw| json!(decimal(kw, 0)));
    let duration = limits("duration", 7200, |seconds| json!(seconds));
    let maybe = prop::option::weighted::<BoxedStrategy<Map<String, Value>>>;
    (
        maybe(0.4, window().boxed()),
        maybe(0.2, days().boxed()),
        maybe(0.3, energy.boxed()),
        maybe(0.2, power.boxed()),
        maybe(0.3, duration.boxed()),
    )
        .prop_map(|(window, days, energy, power, duration)| {
            let parts = [window, days, energy, power, duration];
            Value::Object(parts.into_iter().flatten().flatten().collect())
        })
}

/// Price bounds in minor units, with and without VAT. The VAT may or may not fit the rates of the tariff.
fn bounds(digits: u32) -> impl Strategy<Value = Map<String, Value>> {
    let incl = move |units: i64| {
        prop_oneof![
            2 => Just(None),
            2 => Just(Some(Decimal::new(units * 119, digits + 2).round_dp(digits))),
            1 => (0..=units).prop_map(move |vat| Some(Decimal::new(units + vat, digits))),
        ]
    };
    let bound = move |units: i64| {
        incl(units).prop_map(move |incl| {
            let mut bound = json!({ "excl_vat": decimal(units, digits) });
            if let Some(incl) = incl {
                bound["incl_vat"] = json!(incl.to_string());
            }
            bound
        })
    };
    (prop::option::of((1..900_i64).prop_flat_map(bound)), prop::option::of((900..3000_i64).prop_flat_map(bound)))
        .prop_map(|(least, most)| {
            let named = [("min_price", least), ("max_price", most)];
            named.into_iter().filter_map(|(name, bound)| Some((name.to_owned(), bound?))).collect()
        })
        .prop_filter("the lower bound is no higher than the upper one", |bounds: &Map<String, Value>| {
            let incl = |name: &str| bounds.get(name)?["incl_vat"].as_str()?.parse::<Decimal>().ok();
            incl("min_price").zip(incl("max_price")).is_none_or(|(least, most)| least <= most)
        })
}

fn tariff() -> impl Strategy<Value = Value> {
    let element = (components(), prop::option::weighted(0.8, restrictions())).prop_map(|(components, restrictions)| {
        let mut element = json!({ "price_components": components });
        if let Some(restrictions) = restrictions {
            element["restrictions"] = restrictions;
        }
        element
    });
    let currency = select(vec![("EUR", 2), ("EUR", 2), ("EUR", 2), ("JPY", 0), ("KWD", 3)]);
    let bounded = currency.prop_flat_map(|(currency, digits)| (Just(currency), bounds(digits)));
    (prop::collection::vec(element, 1..5), bounded).prop_map(|(elements, (currency, bounds))| {
        let mut tariff = json!({ "currency": currency, "elements": elements });
        tariff.as_object_mut().unwrap().extend(bounds);
        tariff
    })
}

/// A session in 2026, cut into periods. Some periods end between two seconds, and some have no duration or no energy.
fn periods() -> impl Strategy<Value = Vec<Period>> {
    let ms = prop_oneof![
        4 => (1..2400_i64).prop_map(|seconds| seconds * 1000),
        2 => 1..3_000_000_i64,
        1 => Just(0),
    ];
    let power = prop::option::of(0..120_000_i64);
    let period = (ms, 0..30_000_i64, power, 0..120_i64);
    // Half of the sessions are near a clock change: 29 March and 25 October, 01:00 UTC.
    let start = prop_oneof![0..31_000_000_i64, 7_500_000..7_522_000_i64, 25_643_000..25_665_000_i64];
    (start, 0..1000_i64, prop::collection::vec(period, 1..8), 0..3_000_i64).prop_map(
        |(second, ms, periods, parked_seconds)| {
            let mut at = 1_767_225_600_000 + second * 1000 + if ms < 700 { 0 } else { ms };
            let mut session = Vec::new();
            for (ms, wh, power_w, gap) in periods {
                // At most one megawatt, so that two Wh never fall into one millisecond.
                let wh = if ms == 0 { wh.min(3) } else { wh.min(ms / 4) };
                session.push(Period { start_ms: at, end_ms: at + ms, charging: true, wh, power_w });
                at += ms + if gap < 100 { 0 } else { gap * 1000 };
            }
            if parked_seconds > 1500 {
                let end_ms = at + (parked_seconds - 1500) * 1000;
                session.push(Period { start_ms: at, end_ms, charging: false, wh: 0, power_w: None });
            }
            session
        },
    )
}

fn metered(period: &Period) -> ChargingPeriod {
    let at = |ms| DateTime::from_timestamp_millis(ms).unwrap();
    ChargingPeriod {
        start: at(period.start_ms),
        end: at(period.end_ms),
        state: if period.charging { PeriodState::Charging } else { PeriodState::Parking },
        kwh: Decimal::new(period.wh, 3),
        power_kw: period.power_w.map(|watts| Decimal::new(watts, 3)),
        current_a: None,
    }
}

fn offset_seconds(at: i64) -> i64 {
    let at = DateTime::from_timestamp(at, 0).unwrap().naive_utc();
    BERLIN.offset_from_utc_datetime(&at).fix().local_minus_utc().into()
}

fn price_of(tariff: &Value, periods: &[Period]) -> (Tariff, Price) {
    let tariff: Tariff = serde_json::from_value(tariff.clone()).unwrap();
    tariff.validate("tariff").unwrap();
    let periods: Vec<ChargingPeriod> = periods.iter().map(metered).collect();
    let price = price(&tariff, BERLIN, &periods);
    (tariff, price)
}

/// Returns the total of the ENERGY lines, which must be whole Wh.
fn energy_wh(price: &Price) -> i128 {
    let lines = price.lines.iter().filter(|line| line.dimension == Dimension::Energy);
    let quantities = lines.map(|line| line.quantity * Decimal::ONE_THOUSAND);
    quantities.inspect(|wh| assert!(wh.is_integer(), "{wh} Wh")).map(|wh| wh.to_i128().unwrap()).sum()
}

proptest! {
    #![proptest_config(seeded(5000))]

    /// If energy always has a price, the billed energy is the register, rounded up to a step once.
    #[test]
    fn billed_energy_is_the_register_rounded_up_once(
        mut tariff in tariff(),
        last in component("ENERGY"),
        step in select(vec![1, 7, 100, 250, 1000, 10_000]),
        periods in periods(),
    ) {
        let elements = tariff["elements"].as_array_mut().unwrap();
        elements.push(json!({ "price_components": [last] }));
        for component in elements.iter_mut().flat_map(|element| element["price_components"].as_array_mut().unwrap()) {
            if component["type"] == "ENERGY" {
                component["step_size"] = json!(step);
            }
        }
        let register: i128 = periods.iter().map(|period| i128::from(period.wh)).sum();
        let (_, price) = price_of(&tariff, &periods);
        prop_assert_eq!(energy_wh(&price), (register + step - 1) / step * step, "{:?}", price.lines);
    }

    /// For any tariff, any session and any periods, the lines, VAT and totals match the oracle.
    #[test]
    fn a_bill_matches_the_oracle(tariff in tariff(), periods in periods()) {
        let (read, price) = price_of(&tariff, &periods);
        let expected = oracle::invoice(&tariff, &periods, &offset_seconds, read.currency.minor_digits());
        let energy = expected.lines.iter().filter(|line| line.dimension == "ENERGY");
        prop_assert_eq!(energy_wh(&price), energy.map(|line| line.volume).sum::<i128>());
        let bill = Bill::new(&price, read.currency);
        if let Err(difference) = expected.check(&bill) {
            return Err(TestCaseError::fail(difference));
        }
        let net: Decimal = bill.lines.iter().map(|line| line.net_amount).sum();
        let vat: Decimal = bill.vat.iter().map(|vat| vat.amount).sum();
        prop_assert_eq!((bill.total_excl_vat, bill.total_incl_vat), (net, net + vat), "totals are sums");
        // The total to pay is within the published bounds.
        if let Some(most) = &read.max_price {
            prop_assert!(bill.total_excl_vat <= read.currency.round(most.excl_vat));
            prop_assert!(most.incl_vat.is_none_or(|incl| bill.total_incl_vat <= read.currency.round(incl)));
        }
        if let Some(least) = &read.min_price {
            prop_assert!(bill.total_excl_vat >= read.currency.round(least.excl_vat));
        }
    }
}
