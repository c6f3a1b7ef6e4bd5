use std::collections::BTreeMap;

use chrono::Duration;
use chrono_tz::Tz;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::restrictions::Moment;
use super::{PriceBound, PriceComponent, Tariff};
use crate::Instant;

/// What a price component prices (OCPI `TariffDimensionType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Dimension {
    /// Once per session.
    Flat,
    /// Per kWh.
    Energy,
    /// Per hour of charging.
    Time,
    /// Per hour of being plugged in without charging.
    ParkingTime,
}

/// Whether the vehicle charges or just occupies the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PeriodState {
    /// Energy flows.
    Charging,
    /// Charging is over, the vehicle still plugged in.
    Parking,
}

/// A stretch of a session during which energy flowed evenly. The engine splits it where the price changes.
#[derive(Clone, Debug, PartialEq)]
pub struct ChargingPeriod {
    /// When it began.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
    /// Charging or parking.
    pub state: PeriodState,
    /// Energy delivered in it, kWh.
    pub kwh: Decimal,
    /// Power, kW; without it energy over time.
    pub power_kw: Option<Decimal>,
    /// Current, A, where it was metered.
    pub current_a: Option<Decimal>,
}

/// A priced line: one component's volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// What is priced.
    pub dimension: Dimension,
    /// kWh, hours, or 1 for a flat fee; including what `step_size` added.
    pub quantity: Decimal,
    /// Price per unit, excluding VAT.
    pub unit_price: Decimal,
    /// VAT, %; absent where none applies.
    pub vat_rate: Option<Decimal>,
    /// Exact, excluding VAT.
    pub net: Decimal,
}

/// The exact price of a session, before any rounding.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// The lines, in order of dimension and unit price.
    pub lines: Vec<Line>,
    /// Exact total, excluding VAT, within the tariff's bounds.
    pub excl_vat: Decimal,
    /// Exact total, including VAT, within the tariff's bounds.
    pub incl_vat: Decimal,
}

const MS_PER_HOUR: i64 = 3_600_000;

/// Prices the `periods` of a session (in order, without overlap) by `tariff`, local times being those of `tz`.
///
/// An element applies from one moment to the next as its restrictions say; `step_size` applies once to ENERGY, and once
/// to `PARKING_TIME` or, without any, to TIME (OCPI 2.2.1 section 11.3.2.1), in steps of the component billed last.
#[must_use]
pub fn price(tariff: &Tariff, tz: Tz, periods: &[ChargingPeriod]) -> Price {
    let mut meter = Volumes::default();
    for slice in slices(tariff, tz, periods) {
        meter.add(tariff, tz, &slice);
    }
    meter.round_up_steps(tariff);
    let lines = meter.lines(tariff);
    let net: Decimal = lines.iter().map(|line| line.net).sum();
    let vat: Decimal = lines.iter().map(|line| line.net * rate(line.vat_rate)).sum();
    Price {
        excl_vat: bound(net, tariff, |bound| Some(bound.excl_vat)),
        incl_vat: bound(net + vat, tariff, |bound| bound.incl_vat),
        lines,
    }
}

/// A VAT percentage as a factor.
fn rate(vat: Option<Decimal>) -> Decimal {
    vat.unwrap_or_default() / Decimal::ONE_HUNDRED
}

fn bound(amount: Decimal, tariff: &Tariff, side: impl Fn(&PriceBound) -> Option<Decimal>) -> Decimal {
    let at_least = tariff.min_price.as_ref().and_then(&side).unwrap_or(amount).max(amount);
    tariff.max_price.as_ref().and_then(&side).unwrap_or(at_least).min(at_least)
}

/// A part of a charging period inside which no restriction changes its answer.
struct Slice<'a> {
    period: &'a ChargingPeriod,
    start: Instant,
    ms: i64,
    kwh: Decimal,
    /// Of the session, at the start of the slice.
    elapsed_ms: i64,
    kwh_before: Decimal,
}

fn slices<'a>(tariff: &Tariff, tz: Tz, periods: &'a [ChargingPeriod]) -> Vec<Slice<'a>> {
    let mut slices = Vec::new();
    let Some(first) = periods.first() else {
        return slices;
    };
    let mut kwh_before = Decimal::ZERO;
    for period in periods {
        let mut cuts = cuts(tariff, tz, first.start, period, kwh_before);
        cuts.push((period.end, period.kwh));
        let (mut at, mut done) = (period.start, Decimal::ZERO);
        for (end, kwh) in cuts {
            slices.push(Slice {
                period,
                start: at,
                ms: (end - at).num_milliseconds(),
                kwh: kwh - done,
                elapsed_ms: (at - first.start).num_milliseconds(),
                kwh_before: kwh_before + done,
            });
            (at, done) = (end, kwh);
        }
        kwh_before += period.kwh;
    }
    slices
}

/// Where inside `period` a restriction could change its answer: instants, with the period's energy up to them.
fn cuts(
    tariff: &Tariff,
    tz: Tz,
    session_start: Instant,
    period: &ChargingPeriod,
    kwh_before: Decimal,
) -> Vec<(Instant, Decimal)> {
    let ms = (period.end - period.start).num_milliseconds();
    if ms == 0 {
        return Vec::new();
    }
    let mut cuts = BTreeMap::new();
    for restrictions in tariff.elements.iter().filter_map(|element| element.restrictions.as_ref()) {
        let mut instants = Vec::new();
        restrictions.clock_boundaries(tz, period.start, period.end, &mut instants);
        instants.extend(restrictions.duration_boundaries().map(|ms| session_start + Duration::milliseconds(ms)));
        for at in instants.into_iter().filter(|at| period.start < *at && *at < period.end) {
            let share = Decimal::from((at - period.start).num_milliseconds()) / Decimal::from(ms);
            cuts.entry(at).or_insert(period.kwh * share);
        }
        for boundary in restrictions.energy_boundaries() {
            let kwh = boundary - kwh_before;
            if kwh <= Decimal::ZERO || kwh >= period.kwh {
                continue;
            }
            let offset = (kwh / period.kwh * Decimal::from(ms)).to_i64().unwrap_or_default();
            cuts.insert(period.start + Duration::milliseconds(offset), kwh);
        }
    }
    cuts.into_iter().collect()
}

/// Index of a component in its tariff: (element, component).
type Place = (usize, usize);

/// How much of each component was used: kWh, milliseconds, or 1.
#[derive(Default)]
struct Volumes {
    used: BTreeMap<(Dimension, Place), Decimal>,
    /// The component of a dimension that was billed last; its step size counts.
    last: BTreeMap<Dimension, Place>,
}

impl Volumes {
    fn add(&mut self, tariff: &Tariff, tz: Tz, slice: &Slice<'_>) {
        let moment = slice.moment(tz);
        if !self.last.contains_key(&Dimension::Flat) {
            self.bill(tariff, &moment, Dimension::Flat, Decimal::ONE);
        }
        match slice.period.state {
            PeriodState::Charging => {
                if slice.kwh > Decimal::ZERO {
                    self.bill(tariff, &moment, Dimension::Energy, slice.kwh);
                }
                self.bill_time(tariff, &moment, Dimension::Time, slice.ms);
            }
            PeriodState::Parking => {
                self.bill_time(tariff, &moment, Dimension::ParkingTime, slice.ms);
            }
        }
    }

    fn bill_time(&mut self, tariff: &Tariff, moment: &Moment, dimension: Dimension, ms: i64) {
        if ms > 0 {
            self.bill(tariff, moment, dimension, Decimal::from(ms));
        }
    }

    fn bill(&mut self, tariff: &Tariff, moment: &Moment, dimension: Dimension, volume: Decimal) {
        let Some(place) = active(tariff, moment, dimension) else {
            return;
        };
        *self.used.entry((dimension, place)).or_default() += volume;
        self.last.insert(dimension, place);
    }

    fn round_up_steps(&mut self, tariff: &Tariff) {
        self.round_up(tariff, Dimension::Energy, Decimal::new(1, 3));
        let time =
            if self.last.contains_key(&Dimension::ParkingTime) { Dimension::ParkingTime } else { Dimension::Time };
        self.round_up(tariff, time, Decimal::ONE_THOUSAND);
    }

    /// Brings the total of `dimension` up to a whole number of steps; `unit` is one Wh or one second in its volume.
    fn round_up(&mut self, tariff: &Tariff, dimension: Dimension, unit: Decimal) {
        let Some(place) = self.last.get(&dimension).copied() else {
            return;
        };
        let step = Decimal::from(component(tariff, place).step_size) * unit;
        let total: Decimal =
            self.used.iter().filter(|((used, _), _)| *used == dimension).map(|(_, volume)| *volume).sum();
        let missing = (total / step).ceil() * step - total;
        *self.used.entry((dimension, place)).or_default() += missing;
    }

    fn lines(&self, tariff: &Tariff) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for ((dimension, place), volume) in &self.used {
            let component = component(tariff, *place);
            let same = lines.iter_mut().find(|line| {
                line.dimension == *dimension && line.unit_price == component.price && line.vat_rate == component.vat
            });
            match same {
                Some(line) => line.quantity += *volume,
                None => lines.push(Line {
                    dimension: *dimension,
                    quantity: *volume,
                    unit_price: component.price,
                    vat_rate: component.vat,
                    net: Decimal::ZERO,
                }),
            }
        }
        lines.iter_mut().for_each(settle);
        lines
    }
}

/// Turns a line's milliseconds into hours and prices it: one division, after the multiplication.
fn settle(line: &mut Line) {
    let (quantity, net) = match line.dimension {
        Dimension::Time | Dimension::ParkingTime => {
            let hour = Decimal::from(MS_PER_HOUR);
            (line.quantity / hour, line.quantity * line.unit_price / hour)
        }
        Dimension::Flat | Dimension::Energy => (line.quantity, line.quantity * line.unit_price),
    };
    line.quantity = quantity.normalize();
    line.net = net.normalize();
}

fn component(tariff: &Tariff, (element, component): Place) -> &PriceComponent {
    &tariff.elements[element].price_components[component]
}

/// The first element that holds at `moment` and prices `dimension`.
fn active(tariff: &Tariff, moment: &Moment, dimension: Dimension) -> Option<Place> {
    tariff.elements.iter().enumerate().find_map(|(e, element)| {
        let c = element.price_components.iter().position(|component| component.dimension == dimension)?;
        element.restrictions.as_ref().is_none_or(|r| r.hold(moment)).then_some((e, c))
    })
}

impl Slice<'_> {
    fn moment(&self, tz: Tz) -> Moment {
        Moment {
            local: self.start.with_timezone(&tz).naive_local(),
            kwh: self.kwh_before,
            elapsed_ms: self.elapsed_ms,
            power_kw: self.period.power_kw.or_else(|| self.period.mean_kw()),
            current_a: self.period.current_a,
        }
    }
}

impl ChargingPeriod {
    fn mean_kw(&self) -> Option<Decimal> {
        let ms = (self.end - self.start).num_milliseconds();
        (ms > 0).then(|| self.kwh * Decimal::from(MS_PER_HOUR) / Decimal::from(ms))
    }
}
