use std::collections::{BTreeMap, BTreeSet};

use chrono::Duration;
use chrono_tz::Tz;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{Bounds, ByRate};
use super::restrictions::Moment;
use super::{PriceComponent, Tariff};
use crate::Instant;

/// The dimension that a price component prices (OCPI `TariffDimensionType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Dimension {
    /// A fee per session.
    Flat,
    /// A price per kWh.
    Energy,
    /// A price per hour of charging.
    Time,
    /// A price per hour of being plugged in without charging.
    ParkingTime,
}

/// Whether the vehicle is charging or only occupies the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PeriodState {
    /// Energy flows.
    Charging,
    /// Charging is over, but the vehicle is still plugged in.
    Parking,
}

/// A charging period: a part of a session during which the power was constant. The engine splits it where the price
/// changes.
#[derive(Clone, Debug, PartialEq)]
pub struct ChargingPeriod {
    /// When the period began.
    pub start: Instant,
    /// When the period ended.
    pub end: Instant,
    /// Whether the vehicle was charging or parking.
    pub state: PeriodState,
    /// Energy delivered during the period, kWh.
    pub kwh: Decimal,
    /// Power, kW. If absent, it is the energy divided by the duration.
    pub power_kw: Option<Decimal>,
    /// Current, A, if it was metered.
    pub current_a: Option<Decimal>,
}

/// A priced line: the volume of one price component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The dimension that is priced.
    pub dimension: Dimension,
    /// Volume in kWh, in hours, or 1 for a flat fee, including what `step_size` added.
    pub quantity: Decimal,
    /// Price per unit, excluding VAT.
    pub unit_price: Decimal,
    /// VAT rate, %. Absent if no VAT applies.
    pub vat_rate: Option<Decimal>,
    /// Exact amount excluding VAT.
    pub net: Decimal,
}

/// The exact price of a session, before any rounding.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// Lines, in order of dimension and of the component's place in the tariff.
    pub lines: Vec<Line>,
    /// Exact total excluding VAT, within the price bounds of the tariff.
    pub excl_vat: Decimal,
    /// Exact total including VAT, within the price bounds of the tariff.
    pub incl_vat: Decimal,
    /// The data that a bill needs to bring its rounded totals within the same bounds.
    pub(crate) bounds: Bounds,
}

const MS_PER_HOUR: i64 = 3_600_000;

/// Prices the `periods` of a session by `tariff`. The periods must be in order and must not overlap. Local times are in
/// `tz`.
///
/// At every moment the restrictions decide which element applies. `step_size` applies once to ENERGY, and once to
/// `PARKING_TIME` or, if there is no parking time, to TIME (OCPI 2.2.1 section 11.3.2.1). The step size is that of the
/// component billed last.
///
/// Volumes are integers: whole watt-hours as the register shows them, and milliseconds. If the price changes within a
/// period, the energy is divided at the whole Wh that the register showed at that moment, so the parts add up to the
/// register. A register value that is not a whole number of Wh is rounded up.
#[must_use]
pub fn price(tariff: &Tariff, tz: Tz, periods: &[ChargingPeriod]) -> Price {
    let mut volumes = Volumes::default();
    for slice in slices(tariff, tz, periods) {
        volumes.add(tariff, tz, &slice);
    }
    volumes.round_up_steps(tariff);
    volumes.price(tariff)
}

/// Returns the register value in whole Wh after `kwh`, rounded up.
fn whole_watt_hours(kwh: Decimal) -> u64 {
    let wh = kwh.max(Decimal::ZERO).checked_mul(Decimal::ONE_THOUSAND);
    wh.and_then(|wh| wh.ceil().to_u64()).unwrap_or(u64::MAX)
}

/// A part of a charging period during which no restriction begins or ceases to hold.
struct Slice<'a> {
    period: &'a ChargingPeriod,
    start: Instant,
    ms: u64,
    wh: u64,
    /// Time since the start of the session, at the start of the slice.
    elapsed_ms: i64,
    wh_before: u64,
}

fn slices<'a>(tariff: &Tariff, tz: Tz, periods: &'a [ChargingPeriod]) -> Vec<Slice<'a>> {
    let mut slices = Vec::new();
    let Some(first) = periods.first() else {
        return slices;
    };
    let (mut kwh, mut register) = (Decimal::ZERO, 0);
    for period in periods {
        kwh += period.kwh;
        let from = register;
        register = whole_watt_hours(kwh).max(from);
        let ramp = Ramp { ms: period.milliseconds(), from, to: register };
        let (mut at, mut reading) = (0, from);
        for (ms, wh) in ramp.cuts(tariff, tz, first.start, period) {
            let start = period.start + milliseconds(at);
            slices.push(Slice {
                period,
                start,
                ms: ms - at,
                wh: wh - reading,
                elapsed_ms: (start - first.start).num_milliseconds(),
                wh_before: reading,
            });
            (at, reading) = (ms, wh);
        }
    }
    slices
}

fn milliseconds(ms: u64) -> Duration {
    Duration::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// The register during a period: it rises evenly and shows whole Wh.
struct Ramp {
    ms: u64,
    from: u64,
    to: u64,
}

impl Ramp {
    /// Returns the register value `ms` after the start of the period. `ms` must be below the period's length.
    fn reading(&self, ms: u64) -> u64 {
        let gained = u128::from(self.to - self.from) * u128::from(ms) / u128::from(self.ms.max(1));
        self.from + u64::try_from(gained).unwrap_or(u64::MAX)
    }

    /// Returns the first millisecond at which the register shows `wh`, which must be above its start and at most its
    /// end.
    fn reaches(&self, wh: u64) -> u64 {
        let ms = (u128::from(wh - self.from) * u128::from(self.ms)).div_ceil(u128::from(self.to - self.from));
        u64::try_from(ms).unwrap_or(u64::MAX)
    }

    /// Returns the points within `period` at which a restriction could begin or cease to hold, and the end of the
    /// period. Each point is the milliseconds since the start of the period with the register value at that time.
    fn cuts(&self, tariff: &Tariff, tz: Tz, session_start: Instant, period: &ChargingPeriod) -> BTreeSet<(u64, u64)> {
        let mut cuts = BTreeSet::from([(self.ms, self.to)]);
        for restrictions in tariff.elements.iter().filter_map(|element| element.restrictions.as_ref()) {
            let mut instants = Vec::new();
            restrictions.clock_boundaries(tz, period.start, period.end, &mut instants);
            instants.extend(restrictions.duration_boundaries().map(|ms| session_start + Duration::milliseconds(ms)));
            let offsets = instants.into_iter().map(|at| (at - period.start).num_milliseconds());
            let inside = offsets.filter_map(|ms| u64::try_from(ms).ok()).filter(|ms| (1..self.ms).contains(ms));
            cuts.extend(inside.map(|ms| (ms, self.reading(ms))));
            // A register in whole Wh passes a limit between two values when it shows the upper one.
            let limits = restrictions.energy_boundaries().map(whole_watt_hours);
            let passed = limits.filter(|wh| self.from < *wh && *wh < self.to);
            cuts.extend(passed.map(|wh| (self.reaches(wh), wh)));
        }
        cuts
    }
}

/// Index of a price component in its tariff: (element, component).
type Place = (usize, usize);

/// The volume used of each price component: Wh, milliseconds, or 1.
#[derive(Default)]
struct Volumes {
    used: BTreeMap<(Dimension, Place), u64>,
    /// The component of each dimension that was billed last. Its step size applies.
    last: BTreeMap<Dimension, Place>,
}

impl Volumes {
    fn add(&mut self, tariff: &Tariff, tz: Tz, slice: &Slice<'_>) {
        let moment = slice.moment(tz);
        if !self.last.contains_key(&Dimension::Flat) {
            self.bill(tariff, &moment, Dimension::Flat, 1);
        }
        match slice.period.state {
            PeriodState::Charging => {
                self.bill(tariff, &moment, Dimension::Energy, slice.wh);
                self.bill(tariff, &moment, Dimension::Time, slice.ms);
            }
            PeriodState::Parking => self.bill(tariff, &moment, Dimension::ParkingTime, slice.ms),
        }
    }

    fn bill(&mut self, tariff: &Tariff, moment: &Moment, dimension: Dimension, volume: u64) {
        if volume == 0 {
            return;
        }
        let Some(place) = active(tariff, moment, dimension) else {
            return;
        };
        *self.used.entry((dimension, place)).or_default() += volume;
        self.last.insert(dimension, place);
    }

    fn round_up_steps(&mut self, tariff: &Tariff) {
        self.round_up(tariff, Dimension::Energy, 1);
        let time =
            if self.last.contains_key(&Dimension::ParkingTime) { Dimension::ParkingTime } else { Dimension::Time };
        self.round_up(tariff, time, 1000);
    }

    /// Rounds the total of `dimension` up to a multiple of the step size. `unit` is the volume of one Wh or one second.
    fn round_up(&mut self, tariff: &Tariff, dimension: Dimension, unit: u64) {
        let Some(place) = self.last.get(&dimension).copied() else {
            return;
        };
        let step = u64::from(component(tariff, place).step_size.max(1)) * unit;
        let total: u64 = self.used.iter().filter(|((used, _), _)| *used == dimension).map(|(_, volume)| *volume).sum();
        *self.used.entry((dimension, place)).or_default() += total.next_multiple_of(step) - total;
    }

    fn price(&self, tariff: &Tariff) -> Price {
        let mut merged: Vec<(Dimension, &PriceComponent, u64)> = Vec::new();
        for ((dimension, place), volume) in &self.used {
            let component = component(tariff, *place);
            let same = merged
                .iter_mut()
                .find(|(of, other, _)| of == dimension && other.price == component.price && other.vat == component.vat);
            match same {
                Some((_, _, sum)) => *sum += *volume,
                None => merged.push((*dimension, component, *volume)),
            }
        }
        let mut by_rate = ByRate::default();
        let mut lines = Vec::with_capacity(merged.len());
        for (dimension, component, volume) in merged {
            // All dimensions have the same divisor, so the totals are divided only once, after they are summed.
            let net_ms = Decimal::from(volume) * Decimal::from(dimension.milliseconds_per_volume()) * component.price;
            by_rate.add(component.vat.unwrap_or_default(), net_ms);
            lines.push(Line {
                dimension,
                quantity: dimension.quantity(volume),
                unit_price: component.price,
                vat_rate: component.vat,
                net: (net_ms / Decimal::from(MS_PER_HOUR)).normalize(),
            });
        }
        let (net, gross) = by_rate.totals(Decimal::from(MS_PER_HOUR));
        let bounds = Bounds::new(tariff, by_rate);
        let (excl_vat, incl_vat) = bounds.hold(net, gross, |amount| amount);
        Price { lines, excl_vat, incl_vat, bounds }
    }
}

impl Dimension {
    /// Returns the milliseconds that correspond to a volume of one, where one hour corresponds to one unit of the
    /// price.
    fn milliseconds_per_volume(self) -> i64 {
        match self {
            Self::Flat => MS_PER_HOUR,
            Self::Energy => MS_PER_HOUR / 1000,
            Self::Time | Self::ParkingTime => 1,
        }
    }

    /// Converts a volume to the unit of the price: kWh, hours or 1.
    fn quantity(self, volume: u64) -> Decimal {
        let units = Decimal::from(volume) * Decimal::from(self.milliseconds_per_volume());
        (units / Decimal::from(MS_PER_HOUR)).normalize()
    }
}

fn component(tariff: &Tariff, (element, component): Place) -> &PriceComponent {
    &tariff.elements[element].price_components[component]
}

/// Returns the first element that applies at `moment` and prices `dimension`.
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
            kwh: Decimal::from_i128_with_scale(self.wh_before.into(), 3),
            elapsed_ms: self.elapsed_ms,
            power_kw: self.period.power_kw.or_else(|| self.period.mean_kw()),
            current_a: self.period.current_a,
        }
    }
}

impl ChargingPeriod {
    fn milliseconds(&self) -> u64 {
        u64::try_from((self.end - self.start).num_milliseconds()).unwrap_or_default()
    }

    fn mean_kw(&self) -> Option<Decimal> {
        let ms = self.milliseconds();
        (ms > 0).then(|| self.kwh * Decimal::from(MS_PER_HOUR) / Decimal::from(ms))
    }
}
