//! Compares the price engine with the examples of the OCPI 2.2.1-d2 specification (totals recomputed exactly) and with
//! cases of Evoke: bounds without VAT, prices that change within a period, and steps.

use chrono::{Duration, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use domain::charging::tariff::{Bill, BillDimension};
use domain::charging::tariff::{ChargingPeriod, Dimension, PeriodState, Price, Tariff, price};
use domain::error::DomainError;
use domain::money::Currency;
use rust_decimal::Decimal;
use serde_json::{Value, json};

fn decimal(value: &Value) -> Decimal {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/tariff-golden.json")).unwrap()
}

fn price_of(case: &Value, tz: Tz) -> (Tariff, Price) {
    let tariff: Tariff = serde_json::from_value(case["tariff"].clone()).unwrap();
    let local: NaiveDateTime = case["startLocal"].as_str().unwrap().parse().unwrap();
    let mut start = tz.from_local_datetime(&local).unwrap().to_utc();
    let mut periods = Vec::new();
    for segment in case["segments"].as_array().unwrap() {
        #[allow(clippy::cast_possible_truncation)]
        let end = start + Duration::milliseconds((segment["minutes"].as_f64().unwrap() * 60_000.0) as i64);
        let optional = |key: &str| segment.get(key).map(decimal);
        periods.push(ChargingPeriod {
            start,
            end,
            state: serde_json::from_value::<PeriodState>(segment["state"].clone()).unwrap(),
            kwh: decimal(&segment["energyKwh"]),
            power_kw: optional("powerKw"),
            current_a: optional("currentA"),
        });
        start = end;
    }
    (tariff.clone(), price(&tariff, tz, &periods))
}

#[test]
fn totals_are_exact() {
    let golden = golden();
    let tz: Tz = golden["timeZone"].as_str().unwrap().parse().unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 22);
    for case in cases {
        let (_, price) = price_of(case, tz);
        assert_eq!(price.excl_vat, decimal(&case["exact"]["exclVat"]), "{} excluding VAT: {price:?}", case["name"]);
        assert_eq!(price.incl_vat, decimal(&case["exact"]["inclVat"]), "{} including VAT: {price:?}", case["name"]);
    }
}

#[test]
fn bill_totals_are_sums_of_printed_amounts_and_close_to_the_exact_price() {
    let golden = golden();
    let tz: Tz = golden["timeZone"].as_str().unwrap().parse().unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let (tariff, price) = price_of(case, tz);
        let bill = Bill::new(&price, tariff.currency);
        let net: Decimal = bill.lines.iter().map(|line| line.net_amount).sum();
        let vat: Decimal = bill.vat.iter().map(|line| line.amount).sum();
        assert_eq!(bill.total_excl_vat, net, "{}", case["name"]);
        assert_eq!(bill.total_incl_vat, net + vat, "{}", case["name"]);
        // Each line and each VAT rate rounds once, by at most half a cent.
        let most = Decimal::new(5, 3) * Decimal::from(bill.lines.len() + bill.vat.len() + 1);
        assert!((bill.total_incl_vat - price.incl_vat).abs() <= most, "{}: {bill:?}", case["name"]);
    }
}

#[test]
fn a_price_bound_that_applies_is_a_line_of_the_bill() {
    let golden = golden();
    let tz: Tz = golden["timeZone"].as_str().unwrap().parse().unwrap();
    let find =
        |name: &str| golden["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap().clone();
    for (name, dimension, incl) in [
        ("minimum price not reached by energy", BillDimension::MinPrice, "0.55"),
        ("maximum price reached", BillDimension::MaxPrice, "11.00"),
    ] {
        let (tariff, price) = price_of(&find(name), tz);
        let bill = Bill::new(&price, tariff.currency);
        assert_eq!(bill.lines.last().unwrap().dimension, dimension, "{name}");
        assert_eq!(bill.total_incl_vat.to_string(), incl, "{name}");
    }
}

#[test]
fn prices_with_bounds_splits_and_steps_match_hand_computed_values() {
    let golden: Value = serde_json::from_str(include_str!("../golden/tariff-bounds-and-cuts.json")).unwrap();
    let tz: Tz = golden["timeZone"].as_str().unwrap().parse().unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 20);
    for case in cases {
        let name = &case["name"];
        let (tariff, price) = price_of(case, tz);
        tariff.validate("tariff").unwrap();
        assert_eq!(price.excl_vat, decimal(&case["exact"]["exclVat"]), "{name} excluding VAT: {price:?}");
        assert_eq!(price.incl_vat, decimal(&case["exact"]["inclVat"]), "{name} including VAT: {price:?}");
        let energy = price.lines.iter().filter(|line| line.dimension == Dimension::Energy);
        let wh: Decimal = energy.map(|line| line.quantity * Decimal::ONE_THOUSAND).sum();
        assert_eq!(wh, decimal(&case["energyWh"]), "{name}: {price:?}");
        let bill = Bill::new(&price, tariff.currency);
        let vat: serde_json::Map<String, Value> =
            bill.vat.iter().map(|vat| (vat.rate.to_string(), json!(vat.amount.to_string()))).collect();
        let printed = json!({
            "exclVat": bill.total_excl_vat.to_string(), "inclVat": bill.total_incl_vat.to_string(), "vat": vat
        });
        assert_eq!(printed, case["bill"], "{name}: {bill:?}");
    }
}

#[test]
fn inconsistent_price_bounds_are_refused_with_the_field() {
    let refused = |min: Value, max: Value| {
        let energy =
            json!([{ "price_components": [{ "type": "ENERGY", "price": "1.00", "vat": "19", "step_size": 1 }] }]);
        let tariff = json!({ "currency": "EUR", "elements": energy, "min_price": min, "max_price": max });
        let tariff: Tariff = serde_json::from_value(tariff).unwrap();
        match tariff.validate("tariff") {
            Ok(()) => Vec::new(),
            Err(DomainError::Validation(errors)) => errors.into_iter().map(|error| error.field).collect(),
            Err(other) => panic!("{other}"),
        }
    };
    let bound = |excl: &str, incl: &str| json!({ "excl_vat": excl, "incl_vat": incl });
    let net = |excl: &str| json!({ "excl_vat": excl });
    assert_eq!(refused(bound("1.00", "1.19"), bound("2.00", "2.38")), Vec::<String>::new());
    assert_eq!(refused(net("2.00"), net("2.00")), Vec::<String>::new());
    assert_eq!(refused(bound("1.00", "1.00"), Value::Null), Vec::<String>::new());
    assert_eq!(refused(bound("2.00", "1.99"), Value::Null), ["tariff.min_price.incl_vat"]);
    assert_eq!(refused(Value::Null, bound("2.00", "1.99")), ["tariff.max_price.incl_vat"]);
    assert_eq!(refused(bound("2.00", "4.01"), Value::Null), ["tariff.min_price.incl_vat"]);
    assert_eq!(refused(net("9.00"), net("3.00")), ["tariff.min_price.excl_vat"]);
    assert_eq!(refused(bound("2.00", "2.50"), bound("2.00", "2.38")), ["tariff.min_price.incl_vat"]);
    assert_eq!(refused(net("1000000000"), Value::Null), ["tariff.min_price.excl_vat"]);
}

#[test]
fn rounding_is_half_away_from_zero_to_the_minor_unit() {
    let round =
        |currency: &str, amount: &str| currency.parse::<Currency>().unwrap().round(amount.parse().unwrap()).to_string();
    assert_eq!(round("EUR", "0.125"), "0.13");
    assert_eq!(round("EUR", "-0.125"), "-0.13");
    assert_eq!(round("EUR", "7"), "7.00");
    assert_eq!(round("JPY", "0.5"), "1");
    assert_eq!(round("KWD", "0.0005"), "0.001");
}

#[test]
fn a_restriction_follows_the_local_clock_through_both_dst_changes() {
    let tariff: Tariff = serde_json::from_value(serde_json::json!({
        "currency": "EUR",
        "elements": [
            { "price_components": [{ "type": "TIME", "price": "6.00", "step_size": 1 }],
              "restrictions": { "start_time": "02:30", "end_time": "04:00" } },
            { "price_components": [{ "type": "TIME", "price": "0.60", "step_size": 1 }] },
        ],
    }))
    .unwrap();
    let tz: Tz = "Europe/Berlin".parse().unwrap();
    let cost = |start: &str, hours: i64| {
        let start = start.parse::<domain::Instant>().unwrap();
        let period = ChargingPeriod {
            start,
            end: start + Duration::hours(hours),
            state: PeriodState::Charging,
            kwh: Decimal::ONE,
            power_kw: None,
            current_a: None,
        };
        price(&tariff, tz, &[period]).excl_vat.to_string()
    };
    // 2026-03-29: 01:00 CET to 05:00 CEST is three hours; 02:30 does not exist, and 03:00 to 04:00 is the expensive
    // hour.
    assert_eq!(cost("2026-03-29T00:00:00Z", 3), "7.2");
    // 2026-10-25: 02:00 CEST to 04:00 CET is three hours; 02:30 to 03:00 happens twice, followed by the hour until
    // 04:00.
    assert_eq!(cost("2026-10-25T00:00:00Z", 3), "12.6");
}
