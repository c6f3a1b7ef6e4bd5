//! The meter of a session while its station is advanced, and the search for the instant at which a cost limit stops the
//! session.

use std::cmp::Ordering;

use chrono::Duration;
use rust_decimal::Decimal;

use super::clock::{Clock, hours, ms_after, ms_before};
use super::{MeterLog, Reading, Session, SessionTerms};
use crate::Instant;
use crate::battery::{StationRun, Stretch};
use crate::charging::tariff::Bill;
use crate::charging::tariff::price;
use crate::units::WattHours;

/// The meter of a session while its station is advanced.
///
/// The meter reads at every whole millisecond. The power of a reading is the power of the stretch in which the
/// millisecond lies. The log is therefore a function of the simulated course alone.
pub(super) struct Meter<'s> {
    session: &'s Session,
    clock: Clock,
    pub log: MeterLog,
    /// The millisecond up to which the log is written.
    read_ms: i64,
    limit: Option<CostLimit<'s>>,
    /// The millisecond at which the cost limit stopped the session.
    pub stopped_ms: Option<i64>,
}

/// A cost limit, with the times and energies at which its tariff can change the price. Readings are fixed there, so
/// that one price holds for the whole open period.
struct CostLimit<'s> {
    max_cost: Decimal,
    terms: &'s SessionTerms,
    times_ms: Vec<i64>,
    energies: Vec<WattHours>,
}

/// A part of a stretch that contains no boundary of the tariff.
#[derive(Clone, Copy)]
struct Part<'r> {
    stretch: &'r Stretch,
    from_ms: i64,
    to_ms: i64,
    /// Whether the reading before this part is fixed even if the power stays the same.
    stands: bool,
}

/// The evaluation of a cost limit at one millisecond.
#[derive(Clone, Copy)]
struct Evaluation {
    exceeds: bool,
    /// Which price bounds of the tariff apply, excluding and including VAT. While these do not change, the cost cannot
    /// fall.
    bounds: (Ordering, Ordering),
}

impl<'s> Meter<'s> {
    pub fn new<'t: 's>(session: &'s Session, clock: Clock, until: Instant, terms: Option<&'t SessionTerms>) -> Self {
        let limit = session.limits.max_cost.zip(terms).map(|(max_cost, terms)| {
            let SessionTerms { tariff, time_zone, .. } = terms;
            // The boundaries within the open reading are needed too: they tell whether the reading is fixed.
            let open_from = session.meter.open().map_or(0, |(before, _)| before.offset_ms);
            let from = session.started_at + Duration::milliseconds(open_from);
            let times = tariff.time_boundaries(*time_zone, session.started_at, from, until);
            CostLimit {
                max_cost,
                terms,
                times_ms: times.into_iter().map(|at| clock.ms(at)).collect(),
                energies: tariff.energy_boundaries(),
            }
        });
        let read_ms = clock.ms(session.metered_at);
        Self { session, clock, log: session.meter.clone(), read_ms, limit, stopped_ms: None }
    }

    /// Writes the last step of `run` into the log.
    pub fn read(&mut self, run: &StationRun<'_>, index: usize) {
        let (stretches, until_ms) = last_step(run, index);
        let mut log = std::mem::take(&mut self.log);
        self.follow(&mut log, stretches, until_ms, |_, _| None);
        self.log = log;
        if !stretches.is_empty() {
            self.read_ms = self.read_ms.max(until_ms);
        }
    }

    /// Returns the last millisecond before the cost exceeds the limit, if that happens in the last step of `run`.
    pub fn cost_stop(&self, run: &StationRun<'_>, index: usize) -> Option<i64> {
        let limit = self.limit.as_ref()?;
        let (stretches, until_ms) = last_step(run, index);
        let register = self.register(stretches.last()?, until_ms);
        let hours = Decimal::from(until_ms - self.clock.ms(self.session.started_at)) / Decimal::from(3_600_000);
        if limit.terms.tariff.cost_at_most(register, hours) <= limit.max_cost {
            return None;
        }
        self.follow(&mut self.log.clone(), stretches, until_ms, |log, part| {
            self.first_excess(limit, log, part).map(|at| at - 1)
        })
    }

    /// Records `stretches` up to `until_ms`, part by part. Calls `stop` before each part and ends when it returns an
    /// instant.
    fn follow(
        &self,
        log: &mut MeterLog,
        stretches: &[Stretch],
        until_ms: i64,
        stop: impl Fn(&MeterLog, Part<'_>) -> Option<i64>,
    ) -> Option<i64> {
        let mut from_ms = self.read_ms;
        for (index, stretch) in stretches.iter().enumerate() {
            let is_last = index + 1 == stretches.len();
            let stretch_to = if is_last { until_ms } else { ms_before(stretch.to).min(until_ms) };
            while from_ms < stretch_to {
                let part = self.part(log, stretch, from_ms, stretch_to);
                if let Some(at) = stop(log, part) {
                    return Some(at);
                }
                log.record(self.reading(stretch, part.to_ms), part.stands);
                from_ms = part.to_ms;
            }
        }
        None
    }

    /// Returns the part of `stretch` from `from_ms` to the next boundary of the tariff, or to `to_ms` if that is
    /// earlier.
    fn part<'r>(&self, log: &MeterLog, stretch: &'r Stretch, from_ms: i64, to_ms: i64) -> Part<'r> {
        let Some(limit) = &self.limit else {
            return Part { stretch, from_ms, to_ms, stands: false };
        };
        let started_ms = self.clock.ms(self.session.started_at);
        let stands = log.open().is_some_and(|(before, open)| {
            let time = (before.offset_ms + started_ms, open.offset_ms + started_ms);
            limit.times_ms.iter().any(|at| time.0 < *at && *at <= time.1)
                || limit.energies.iter().any(|energy| before.register < *energy && *energy <= open.register)
        });
        let next_time = limit.times_ms.get(limit.times_ms.partition_point(|at| *at <= from_ms));
        let to_ms = next_time.map_or(to_ms, |at| to_ms.min(*at));
        let next_energy = limit.energies.iter().filter(|energy| **energy > log.register()).min();
        let to_ms = next_energy
            .map_or(to_ms, |energy| first_ms(from_ms, to_ms, |ms| self.register(stretch, ms) >= *energy).min(to_ms));
        Part { stretch, from_ms, to_ms, stands }
    }

    /// Returns the first millisecond of `part` at which the cost exceeds the limit. `log` must be written up to the
    /// start of the part.
    ///
    /// The search covers pieces of the part within which the cost cannot fall, except where a price bound starts or
    /// stops applying. The pieces end where the energy of the period first rises (the step size that applies changes
    /// with the first time and with the first energy of a period) and just before the end of the part (the price
    /// changes with the energy boundary that ends the part).
    fn first_excess(&self, limit: &CostLimit<'_>, log: &MeterLog, part: Part<'_>) -> Option<i64> {
        let Part { stretch, from_ms, to_ms, .. } = part;
        let at = |ms: i64| {
            let mut log = log.clone();
            log.record(self.reading(stretch, ms), part.stands);
            log
        };
        let evaluate = |ms: i64| limit.evaluate(&at(ms), self.session.started_at);
        let before = at(from_ms + 1).open().map_or(WattHours(0), |(before, _)| before.register);
        let first_energy = first_ms(from_ms, to_ms, |ms| self.register(stretch, ms) > before);
        let mut low = from_ms;
        for high in [first_energy - 1, to_ms - 1, to_ms] {
            if low < high {
                if let Some(excess) = first_excess_between(low + 1, high, evaluate) {
                    return Some(excess);
                }
                low = high;
            }
        }
        None
    }

    fn reading(&self, stretch: &Stretch, ms: i64) -> Reading {
        Reading {
            offset_ms: ms - self.clock.ms(self.session.started_at),
            register: self.register(stretch, ms),
            power_w: watts(stretch.power_kw),
        }
    }

    fn register(&self, stretch: &Stretch, ms: i64) -> WattHours {
        WattHours::register(self.session.delivered_kwh(stretch.percent_at(hours(ms))))
    }
}

/// Returns the stretches of a session in the last step of `run`, and the last millisecond that belongs to the step. For
/// a session that ended, this is the millisecond in which it ended.
fn last_step<'r>(run: &'r StationRun<'_>, index: usize) -> (&'r [Stretch], i64) {
    let until_ms = run.so_far(index).ended_at.map_or_else(|| ms_before(run.now()), ms_after);
    (run.last_stretches(index), until_ms)
}

impl CostLimit<'_> {
    fn evaluate(&self, log: &MeterLog, started_at: Instant) -> Evaluation {
        let SessionTerms { tariff, time_zone, .. } = self.terms;
        let price = price(tariff, *time_zone, &log.periods(started_at));
        let net: Decimal = price.lines.iter().map(|line| line.net).sum();
        let vat: Decimal =
            price.lines.iter().map(|line| line.net * line.vat_rate.unwrap_or_default() / Decimal::ONE_HUNDRED).sum();
        // Two sums of quotients that represent the same amount can differ in the last of 28 digits.
        let compare = |bounded: Decimal, sum: Decimal| (bounded - sum).round_dp(12).cmp(&Decimal::ZERO);
        Evaluation {
            exceeds: Bill::new(&price, tariff.currency).total_incl_vat > self.max_cost,
            bounds: (compare(price.excl_vat, net), compare(price.incl_vat, net + vat)),
        }
    }
}

/// Returns the first millisecond from `low` to `high` at which the cost exceeds the limit. The cost may fall only where
/// the bounds that apply change.
fn first_excess_between(low: i64, high: i64, evaluate: impl Fn(i64) -> Evaluation) -> Option<i64> {
    let mut low = low;
    let last = evaluate(high);
    loop {
        let first = evaluate(low);
        let same = first.bounds == last.bounds;
        let end = if same { high } else { first_ms(low, high, |ms| evaluate(ms).bounds != first.bounds) - 1 };
        let end_exceeds = if same { last.exceeds } else { evaluate(end).exceeds };
        if end_exceeds {
            return Some(first_ms(low - 1, end, |ms| evaluate(ms).exceeds));
        }
        if same {
            return None;
        }
        low = end + 1;
    }
}

/// Returns the first millisecond after `from`, up to `to`, from which `holds` is true; `to + 1` if there is none.
fn first_ms(from: i64, to: i64, holds: impl Fn(i64) -> bool) -> i64 {
    let (mut low, mut high) = (from, to + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// Converts kW to whole watts. Half a watt rounds up; so does a power up to a thousandth of a watt below, because the
/// floating-point value of a power that ends in half a watt can be slightly too small.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn watts(kw: f64) -> u32 {
    (kw * 1000.0 + 1e-3).round().clamp(0.0, f64::from(u32::MAX)) as u32
}
