//! An independent calculation of a session's price, only with integers: whole watt-hours, milliseconds and minor units.
//!
//! It reads a tariff as JSON and steps through the session minute by minute. It shares no code with the price engine or
//! the bill, so the tests of both compare two derivations of OCPI 2.2.1 section 11.3.2 and EN 16931.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime};
use domain::charging::tariff::{Bill, BillDimension};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::Value;

/// A charging period as the meter shows it.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    /// Start, ms since the Unix epoch.
    pub start_ms: i64,
    /// End, ms since the Unix epoch.
    pub end_ms: i64,
    /// Whether the vehicle is charging, or only plugged in.
    pub charging: bool,
    /// Increase of the register, Wh.
    pub wh: i64,
    /// Power, W. If absent, it is the energy divided by the duration.
    pub power_w: Option<i64>,
}

/// A line that the invoice must have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Name of the dimension in OCPI.
    pub dimension: String,
    /// Volume in Wh, in milliseconds, or 1.
    pub volume: i128,
    /// Price excluding VAT, in billionths.
    pub price: i128,
    /// VAT rate, in hundredths of a percent.
    pub rate: i128,
    /// Net amount, in the minor unit.
    pub net: i128,
}

/// The amounts that the invoice must show. Amounts are in the minor unit, rates in hundredths of a percent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Lines of the tariff's dimensions, in order.
    pub lines: Vec<Line>,
    /// VAT per rate of those lines, before any bound applies.
    pub vat: BTreeMap<i128, i128>,
    /// Sum of those lines.
    pub net: i128,
    /// Total excluding VAT, within the bounds.
    pub total_net: i128,
    /// Total including VAT, within the bounds.
    pub total_gross: i128,
}

/// Billionths per unit.
const NANO: i128 = 1_000_000_000;
/// Milliseconds per hour.
const MS: i128 = 3_600_000;

/// Converts a decimal string to billionths.
pub fn nano(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(fraction.len() <= 9, "{text} has more than nine decimals");
    whole.parse::<i128>().unwrap() * NANO + format!("{fraction:0<9}").parse::<i128>().unwrap()
}

fn nano_of(value: &Value) -> Option<i128> {
    value.as_str().map(nano)
}

/// Divides non-negative integers and rounds half up.
fn round(numerator: i128, denominator: i128) -> i128 {
    (2 * numerator + denominator) / (2 * denominator)
}

/// The moment at which an element is looked up.
struct Moment {
    local: NaiveDateTime,
    elapsed_ms: i64,
    wh: i64,
    /// Power as a fraction, W.
    power: Option<(i128, i128)>,
}

fn time(value: &Value) -> Option<NaiveTime> {
    value.as_str().map(|text| NaiveTime::parse_from_str(text, "%H:%M").unwrap())
}

fn date(value: &Value) -> Option<NaiveDate> {
    value.as_str().map(|text| text.parse().unwrap())
}

/// Returns whether `value`, a fraction, is at least `min` and below `max`.
fn within(value: (i128, i128), min: Option<i128>, max: Option<i128>) -> bool {
    min.is_none_or(|min| value.0 >= min * value.1) && max.is_none_or(|max| value.0 < max * value.1)
}

fn applies(restrictions: &Value, at: &Moment) -> bool {
    let days = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"];
    let today = days[at.local.weekday().num_days_from_monday() as usize];
    let (from, to) = (time(&restrictions["start_time"]), time(&restrictions["end_time"]));
    let (clock, midnight) = (at.local.time(), NaiveTime::MIN);
    let on_time = match (from.unwrap_or(midnight), to) {
        (from, None) => clock >= from,
        (from, Some(to)) if from < to => clock >= from && clock < to,
        (from, Some(to)) => !(clock >= to && clock < from),
    };
    let on_day = restrictions["day_of_week"].as_array().is_none_or(|days| days.iter().any(|day| day == today));
    let on_date = date(&restrictions["start_date"]).is_none_or(|first| at.local.date() >= first)
        && date(&restrictions["end_date"]).is_none_or(|end| at.local.date() < end);
    let limits = |min: &str, max: &str| (nano_of(&restrictions[min]), nano_of(&restrictions[max]));
    let (min_kwh, max_kwh) = limits("min_kwh", "max_kwh");
    let (min_power, max_power) = limits("min_power", "max_power");
    let seconds = |name: &str| restrictions[name].as_i64().map(|s| i128::from(s) * 1000);
    let energy = (i128::from(at.wh) * 1_000_000, 1);
    let on_power = match at.power {
        Some((watts, per)) => within((watts * 1_000_000, per), min_power, max_power),
        None => min_power.is_none() && max_power.is_none(),
    };
    on_time
        && on_day
        && on_date
        && within(energy, min_kwh, max_kwh)
        && on_power
        && within((i128::from(at.elapsed_ms), 1), seconds("min_duration"), seconds("max_duration"))
}

/// Index of a component: (element, component).
type Place = (usize, usize);

struct Meter<'a> {
    tariff: &'a Value,
    used: BTreeMap<(&'static str, Place), i128>,
    last: BTreeMap<&'static str, Place>,
}

impl Meter<'_> {
    fn component(&self, (element, component): Place) -> &Value {
        &self.tariff["elements"][element]["price_components"][component]
    }

    fn lookup(&self, dimension: &str, at: &Moment) -> Option<Place> {
        for (e, element) in self.tariff["elements"].as_array().unwrap().iter().enumerate() {
            let components = element["price_components"].as_array().unwrap();
            let Some(c) = components.iter().position(|c| c["type"] == dimension) else { continue };
            if element["restrictions"].is_null() || applies(&element["restrictions"], at) {
                return Some((e, c));
            }
        }
        None
    }

    fn use_up(&mut self, dimension: &'static str, at: &Moment, volume: i64) {
        if volume == 0 {
            return;
        }
        if let Some(place) = self.lookup(dimension, at) {
            *self.used.entry((dimension, place)).or_default() += i128::from(volume);
            self.last.insert(dimension, place);
        }
    }

    /// Charges the fee for the session at the first moment at which one applies.
    fn enter(&mut self, at: &Moment) {
        if !self.last.contains_key("FLAT") {
            self.use_up("FLAT", at, 1);
        }
    }

    /// Rounds the total of `dimension` up. `unit` is the volume that a `step_size` of 1 stands for.
    fn round_up(&mut self, dimension: &'static str, unit: i128) {
        let Some(place) = self.last.get(dimension).copied() else { return };
        let step = i128::from(self.component(place)["step_size"].as_i64().unwrap()) * unit;
        let total: i128 = self.used.iter().filter(|((of, _), _)| *of == dimension).map(|(_, volume)| volume).sum();
        let steps = (total + step - 1) / step;
        *self.used.entry((dimension, place)).or_default() += steps * step - total;
    }
}

/// Returns the energies at which an element may begin or cease to apply, each as the first whole Wh at or beyond it.
fn energy_marks(tariff: &Value) -> Vec<i64> {
    let elements = tariff["elements"].as_array().unwrap().iter();
    let limits =
        elements.flat_map(|element| ["min_kwh", "max_kwh"].map(|name| nano_of(&element["restrictions"][name])));
    limits.flatten().map(|kwh| i64::try_from((kwh + 999_999) / 1_000_000).unwrap()).collect()
}

/// Returns the milliseconds since the start at which an element may begin or cease to apply.
fn duration_marks(tariff: &Value) -> Vec<i64> {
    let elements = tariff["elements"].as_array().unwrap().iter();
    let names = ["min_duration", "max_duration"];
    let seconds = elements.flat_map(|element| names.map(|name| element["restrictions"][name].as_i64()));
    seconds.flatten().map(|seconds| seconds * 1000).collect()
}

/// Returns the local time of `at_ms` at a place that is `offset_seconds` ahead of UTC at that time.
fn local(at_ms: i64, offset_seconds: &dyn Fn(i64) -> i64) -> NaiveDateTime {
    DateTime::from_timestamp_millis(at_ms + 1000 * offset_seconds(at_ms.div_euclid(1000))).unwrap().naive_utc()
}

fn meter<'a>(tariff: &'a Value, periods: &[Period], offset_seconds: &dyn Fn(i64) -> i64) -> Meter<'a> {
    let mut meter = Meter { tariff, used: BTreeMap::new(), last: BTreeMap::new() };
    let (marks, durations) = (energy_marks(tariff), duration_marks(tariff));
    let session_start = periods.first().map_or(0, |period| period.start_ms);
    let mut before = 0;
    for period in periods {
        let ms = period.end_ms - period.start_ms;
        let power = match period.power_w {
            Some(watts) => Some((i128::from(watts), 1)),
            None => (ms > 0).then(|| (i128::from(period.wh) * MS, i128::from(ms))),
        };
        let register = |at_ms: i64| {
            let share = i128::from(period.wh) * i128::from(at_ms - period.start_ms) / i128::from(ms);
            before + i64::try_from(share).unwrap()
        };
        let moment = |at_ms: i64, wh: i64| Moment {
            local: local(at_ms, offset_seconds),
            elapsed_ms: at_ms - session_start,
            wh,
            power,
        };
        // Uses up the time from `from` to `to`, during which the register goes from `low` to `high`.
        let mut step = |from: i64, to: i64, low: i64, high: i64| {
            let at = moment(from, low);
            meter.enter(&at);
            meter.use_up(if period.charging { "TIME" } else { "PARKING_TIME" }, &at, to - from);
            if !period.charging {
                return;
            }
            if marks.iter().any(|mark| low < *mark && *mark < high) {
                for wh in low..high {
                    let at = moment(from, wh);
                    meter.enter(&at);
                    meter.use_up("ENERGY", &at, 1);
                }
            } else {
                meter.use_up("ENERGY", &at, high - low);
            }
        };
        if ms == 0 {
            step(period.start_ms, period.end_ms, before, before + period.wh);
        }
        let mut from = period.start_ms;
        while from < period.end_ms {
            // Clocks and UTC offsets change at whole minutes.
            let minute = from + 60_000 - from.rem_euclid(60_000);
            let durations = durations.iter().map(|ms| session_start + ms).filter(|at| *at > from);
            let to = durations.chain([minute, period.end_ms]).min().unwrap();
            // Split in halves, down to the millisecond in which the register passes a mark.
            let mut parts = vec![(from, to)];
            while let Some((from, to)) = parts.pop() {
                let (low, high) = (register(from), register(to));
                if to - from > 1 && marks.iter().any(|mark| low < *mark && *mark <= high) {
                    let middle = from + (to - from) / 2;
                    parts.extend([(middle, to), (from, middle)]);
                } else {
                    step(from, to, low, high);
                }
            }
            from = to;
        }
        before += period.wh;
    }
    meter.round_up("ENERGY", 1);
    let timed = if meter.last.contains_key("PARKING_TIME") { "PARKING_TIME" } else { "TIME" };
    meter.round_up(timed, 1000);
    meter
}

fn hundredths(value: &Value) -> i128 {
    nano_of(value).map_or(0, |rate| rate / 10_000_000)
}

/// Returns the amounts that the invoice of a session with these `periods` must show. `digits` is the number of decimals
/// of the currency's minor unit.
pub fn invoice(tariff: &Value, periods: &[Period], offset_seconds: &dyn Fn(i64) -> i64, digits: u32) -> Expected {
    let meter = meter(tariff, periods, offset_seconds);
    let minor = 10_i128.pow(digits);
    // Components with the same dimension, price and VAT share a line.
    let mut volumes: BTreeMap<(&str, i128, Option<i128>), i128> = BTreeMap::new();
    for ((dimension, place), volume) in &meter.used {
        let component = meter.component(*place);
        let rate = component["vat"].as_str().map(|_| hundredths(&component["vat"]));
        *volumes.entry((dimension, nano_of(&component["price"]).unwrap(), rate)).or_default() += volume;
    }
    let mut lines = Vec::new();
    // Exact sums, net and including VAT, as integers scaled by billionths, hundredths of a percent and the milliseconds
    // of an hour.
    let (mut exact_net, mut exact_gross) = (0, 0);
    let mut bases: BTreeMap<i128, i128> = BTreeMap::new();
    for ((dimension, price, rate), volume) in volumes {
        let per = match dimension {
            "FLAT" => MS,
            "ENERGY" => MS / 1000,
            _ => 1,
        };
        let rate = rate.unwrap_or_default();
        let exact = volume * price * per;
        let net = round(exact * minor, MS * NANO);
        exact_net += exact;
        exact_gross += exact * (10_000 + rate);
        *bases.entry(rate).or_default() += net;
        lines.push(Line { dimension: dimension.to_owned(), volume, price, rate, net });
    }
    lines.sort();
    let vat: BTreeMap<i128, i128> = bases.iter().map(|(rate, base)| (*rate, round(base * rate, 10_000))).collect();
    let net: i128 = bases.values().sum();
    let gross = net + vat.values().sum::<i128>();
    // A session that cost nothing is taxed at the tariff's highest rate.
    if exact_net == 0 {
        let components = tariff["elements"].as_array().unwrap().iter();
        let rates = components.flat_map(|element| element["price_components"].as_array().unwrap());
        let highest = rates.map(|component| hundredths(&component["vat"])).max().unwrap();
        (exact_net, exact_gross) = (1, 10_000 + highest);
    }
    let with_vat = |amount: i128| round(amount * exact_gross, exact_net * 10_000);
    let amount = |value: &Value| nano_of(value).map(|nano| round(nano * minor, NANO));
    let bound = |name: &str| amount(&tariff[name]["excl_vat"]).map(|excl| (excl, amount(&tariff[name]["incl_vat"])));
    let (least, most) = (bound("min_price"), bound("max_price"));
    let mut total_net = net;
    if let Some((excl, _)) = least {
        total_net = total_net.max(excl);
    }
    if let Some((excl, _)) = most {
        total_net = total_net.min(excl);
    }
    // The gross amount follows the net amount. Then it has bounds of its own, of which the upper bound is applied last.
    let mut total_gross = if total_net == net { gross } else { with_vat(total_net) };
    if let Some((_, Some(incl))) = least {
        let ceiling = most.map(|(excl, incl)| incl.unwrap_or_else(|| with_vat(excl)));
        total_gross = total_gross.max(ceiling.map_or(incl, |most| most.min(incl)));
    }
    if let Some((_, Some(incl))) = most {
        total_gross = total_gross.min(incl);
    }
    Expected { lines, vat, net, total_net, total_gross }
}

/// Returns OCPI's name of the billed dimension, or `None` for the adjustment to a price bound.
pub fn dimension(of: BillDimension) -> Option<&'static str> {
    match of {
        BillDimension::Flat => Some("FLAT"),
        BillDimension::Energy => Some("ENERGY"),
        BillDimension::Time => Some("TIME"),
        BillDimension::ParkingTime => Some("PARKING_TIME"),
        BillDimension::MinPrice | BillDimension::MaxPrice => None,
    }
}

/// Fails with a description if `printed` differs from `expected`.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, printed: &T, expected: &T) -> Result<(), String> {
    if printed == expected { Ok(()) } else { Err(format!("{what}: printed {printed:?}, expected {expected:?}")) }
}

fn integer(value: Decimal) -> Result<i128, String> {
    if value.is_integer() { Ok(value.to_i128().unwrap()) } else { Err(format!("{value} is not a whole number")) }
}

impl Expected {
    /// Checks `bill` against the expected amounts. The error describes the difference.
    pub fn check(&self, bill: &Bill) -> Result<(), String> {
        self.compare(bill).map_err(|difference| format!("{difference} in {bill:?}"))
    }

    fn compare(&self, bill: &Bill) -> Result<(), String> {
        let minor = |amount: Decimal| integer(amount * Decimal::from(10_i64.pow(bill.currency.minor_digits())));
        let hundredths = |rate: Decimal| integer(rate * Decimal::ONE_HUNDRED);
        let mut lines = Vec::new();
        for line in &bill.lines {
            let Some(dimension) = dimension(line.dimension) else { continue };
            let volume = match dimension {
                "FLAT" => integer(line.quantity)?,
                "ENERGY" => integer(line.quantity * Decimal::ONE_THOUSAND)?,
                // Hours have six decimals, so they are exact to within two milliseconds.
                _ => (line.quantity * Decimal::from(3_600_000)).round().to_i128().unwrap(),
            };
            let price = nano(&line.unit_price.to_string());
            let (rate, net) = (hundredths(line.vat_rate)?, minor(line.net_amount)?);
            lines.push(Line { dimension: dimension.to_owned(), volume, price, rate, net });
        }
        let known = |line: &Line| (line.dimension.clone(), line.price, line.rate, line.net, line.volume);
        lines.sort_by_key(known);
        let mut expected = self.lines.clone();
        expected.sort_by_key(known);
        for (line, expected) in lines.iter_mut().zip(&expected) {
            if line.dimension.ends_with("TIME") && (line.volume - expected.volume).abs() <= 2 {
                line.volume = expected.volume;
            }
        }
        same("lines", &lines, &expected)?;
        same("total excluding VAT", &minor(bill.total_excl_vat)?, &self.total_net)?;
        same("total including VAT", &minor(bill.total_incl_vat)?, &self.total_gross)?;
        let mut changes = 0;
        for line in bill.lines.iter().filter(|line| dimension(line.dimension).is_none()) {
            changes += minor(line.net_amount)?;
            let raised = (self.total_net, self.total_gross) > (self.net, self.gross());
            same("label", &line.dimension, &if raised { BillDimension::MinPrice } else { BillDimension::MaxPrice })?;
        }
        same("change by a bound", &changes, &(self.total_net - self.net))?;
        self.compare_vat(bill)
    }

    /// Checks that there is one VAT entry per rate, with the VAT of the rate's lines. If a price bound applies, one
    /// entry may include its rounding difference.
    fn compare_vat(&self, bill: &Bill) -> Result<(), String> {
        let mut nets: BTreeMap<Decimal, Decimal> = BTreeMap::new();
        for line in &bill.lines {
            *nets.entry(line.vat_rate).or_default() += line.net_amount;
        }
        let rates = |rates: Vec<Decimal>| rates.into_iter().filter(|rate| !rate.is_zero()).collect::<Vec<_>>();
        let printed = rates(bill.vat.iter().map(|vat| vat.rate).collect());
        same("rates of VAT", &printed, &rates(nets.keys().copied().collect()))?;
        let percentage = |rate: &Decimal| (Decimal::ZERO..=Decimal::ONE_HUNDRED).contains(rate);
        if !printed.iter().all(percentage) || nets.values().any(|net| net.is_sign_negative() && !net.is_zero()) {
            return Err(format!("rates {printed:?} of {nets:?}"));
        }
        let minor = Decimal::from(10_i64.pow(bill.currency.minor_digits()));
        let mut by_rounding = 0;
        for vat in &bill.vat {
            let net = integer(nets[&vat.rate] * minor)?;
            // Six significant digits are enough for a stated rate; the rates of tariffs have two decimals.
            let rate = integer((vat.rate * Decimal::from(100_000_000)).trunc())?;
            let amount = integer(vat.amount * minor)?;
            if amount < 0 {
                return Err(format!("a VAT of {}", vat.amount));
            }
            by_rounding += (amount - round(net * rate, 10_000_000_000)).abs();
        }
        let bounded = (self.total_net, self.total_gross) != (self.net, self.gross());
        let most = if bounded { i128::try_from(bill.vat.len()).unwrap() } else { 0 };
        if by_rounding > most { Err(format!("VAT that is {by_rounding} off")) } else { Ok(()) }
    }

    /// Total including VAT, before any bound applies.
    fn gross(&self) -> i128 {
        self.net + self.vat.values().sum::<i128>()
    }
}
