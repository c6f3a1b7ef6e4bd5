use std::cmp::Ordering;

use chrono::Duration;
use rust_decimal::Decimal;

use super::{EndReason, MeterLog, Reading, Session, SessionStatus, SessionTerms};
use crate::Instant;
use crate::bill::Bill;
use crate::charging::{Advance, Battery, Occupant, StationRun, Stretch};
use crate::tariff::price;
use crate::units::WattHours;

/// What a tick did to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TickOutcome {
    /// It was left alone: metered up to the tick or beyond already, or ended.
    pub skipped: bool,
    /// It went from STARTED to `IN_PROGRESS`.
    pub began: bool,
    /// How it ended, if it did.
    pub ended: Option<SessionStatus>,
}

const SKIPPED: TickOutcome = TickOutcome { skipped: true, began: false, ended: None };

/// Advances the active sessions of one station to `until`, together, since they share its power.
///
/// `terms` answers the terms of those sessions that have a cost limit; without them that limit is not judged. What
/// the tick made of each session is answered in the order of `sessions`. A session whose last reading is not before
/// `until` is left alone, but takes its share of the power. A session that has ended is left alone and takes none.
///
/// A session with a cost limit is stopped at the last millisecond before its cost first exceeds the limit, even if the
/// cost would fall below the limit again later. The cost at a millisecond is the bill of the meter at that
/// millisecond, so what is billed is within the limit unless the limit is below the least price of the tariff.
///
/// The result does not depend on the instants at which a station was advanced, as long as the terms were always given
/// or never: neither the state of charge, nor the meter and its periods, nor the end of a session and its reason. Two
/// things are excepted. The simulation counts in floating point, so an instant within a ten-thousandth of a
/// millisecond of a rounding boundary can be one millisecond earlier or later, and the register there one Wh. While
/// `max_price` holds for components of several VAT rates, the price including VAT follows their mixture and can fall;
/// then it is judged where the price can change and at the ticks.
///
/// The sessions of a station carry the same station power, because it cannot be changed while sessions run. Should they
/// differ, the least counts: it overloads nothing.
pub fn advance_station<'t>(
    sessions: &mut [Session],
    until: Instant,
    terms: impl Fn(&Session) -> Option<&'t SessionTerms>,
) -> Vec<TickOutcome> {
    let active = || sessions.iter().filter(|session| session.status.is_active());
    let Some(origin) = active().map(|session| session.metered_at).min() else {
        return vec![SKIPPED; sessions.len()];
    };
    let clock = Clock { origin };
    let power_kw = active().map(|session| session.station_power_kw).fold(f64::INFINITY, f64::min);
    let mut run = StationRun::new(power_kw, sessions.iter().map(|session| clock.occupant(session)).collect());
    let mut meters: Vec<Meter<'_>> =
        sessions.iter().map(|session| Meter::new(session, clock, until, terms(session))).collect();
    while run.step(hours(clock.ms(until))) {
        // A session stopped by its cost frees its share, which changes what the others draw: the step is shortened to
        // the earliest such stop. What lies before it stays as it is.
        let stops = |(index, meter): (usize, &Meter<'_>)| Some((index, meter.cost_stop(&run, index)?));
        let stops: Vec<(usize, i64)> = meters.iter().enumerate().filter_map(stops).collect();
        if let Some(earliest) = stops.iter().map(|(_, at)| *at).min() {
            run.shorten(hours(earliest));
            for (index, _) in stops.into_iter().filter(|(_, at)| *at == earliest) {
                run.leave(index);
                meters[index].stopped_ms = Some(earliest);
            }
        }
        for (index, meter) in meters.iter_mut().enumerate() {
            meter.read(&run, index);
        }
    }
    let meters = meters.into_iter().map(|meter| (meter.log, meter.stopped_ms));
    let results: Vec<_> = run.finish().into_iter().zip(meters).collect();
    sessions
        .iter_mut()
        .zip(results)
        .map(|(session, (advance, (log, stopped_ms)))| apply(session, &advance, log, stopped_ms, clock, until))
        .collect()
}

/// Instants as whole milliseconds from one origin.
#[derive(Clone, Copy)]
struct Clock {
    origin: Instant,
}

const MS_PER_HOUR: f64 = 3_600_000.0;

/// Forgives the rounding of an instant that is a whole millisecond.
const SNAP_MS: f64 = 1e-4;

impl Clock {
    fn ms(self, at: Instant) -> i64 {
        (at - self.origin).num_milliseconds()
    }

    fn instant(self, ms: i64) -> Instant {
        self.origin + Duration::milliseconds(ms)
    }

    fn occupant(self, session: &Session) -> Occupant<'_> {
        let from = |at| if session.status.is_active() { hours(self.ms(at)) } else { f64::INFINITY };
        Occupant {
            present_from: from(session.started_at),
            advanced_to: from(session.metered_at),
            battery: session.battery(),
            limit_kw: session.limit_kw,
            vehicle_max_kw: session.vehicle_max_kw,
            model: &session.model,
        }
    }
}

#[allow(clippy::cast_precision_loss)] // milliseconds within a few years are far below 2^52
fn hours(ms: i64) -> f64 {
    ms as f64 / MS_PER_HOUR
}

/// The last whole millisecond not after `hours` from the origin, in which the simulation counts.
#[allow(clippy::cast_possible_truncation)]
fn ms_before(hours: f64) -> i64 {
    (hours * MS_PER_HOUR + SNAP_MS).floor() as i64
}

/// The first whole millisecond not before `hours`.
#[allow(clippy::cast_possible_truncation)]
fn ms_after(hours: f64) -> i64 {
    (hours * MS_PER_HOUR - SNAP_MS).ceil() as i64
}

/// The meter of a session while its station is advanced.
///
/// The meter reads at every whole millisecond, and the power of a reading is that of the stretch in which the
/// millisecond lies. That makes the log a function of the simulated course alone.
struct Meter<'s> {
    session: &'s Session,
    clock: Clock,
    log: MeterLog,
    /// Up to when the log is written.
    read_ms: i64,
    limit: Option<CostLimit<'s>>,
    stopped_ms: Option<i64>,
}

/// A cost limit with the places where its tariff can change the price. Readings stand there, so that the price of the
/// open period is that of one moment.
struct CostLimit<'s> {
    max_cost: Decimal,
    terms: &'s SessionTerms,
    times_ms: Vec<i64>,
    energies: Vec<WattHours>,
}

/// A part of a stretch without a boundary of the tariff inside.
#[derive(Clone, Copy)]
struct Part<'r> {
    stretch: &'r Stretch,
    from_ms: i64,
    to_ms: i64,
    /// The reading before stands, even at the same power.
    stands: bool,
}

/// What a session costs at one millisecond.
#[derive(Clone, Copy)]
struct Judgement {
    exceeds: bool,
    /// Which bounds of the price hold, excluding and including VAT. While these stay the same, the cost cannot fall.
    bounds: (Ordering, Ordering),
}

impl<'s> Meter<'s> {
    fn new<'t: 's>(session: &'s Session, clock: Clock, until: Instant, terms: Option<&'t SessionTerms>) -> Self {
        let limit = session.limits.max_cost.zip(terms).map(|(max_cost, terms)| {
            let SessionTerms { tariff, time_zone, .. } = terms;
            // Those within the open reading tell whether it stands.
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
    fn read(&mut self, run: &StationRun<'_>, index: usize) {
        let (stretches, until_ms) = last_step(run, index);
        let mut log = std::mem::take(&mut self.log);
        self.follow(&mut log, stretches, until_ms, |_, _| None);
        self.log = log;
        if !stretches.is_empty() {
            self.read_ms = self.read_ms.max(until_ms);
        }
    }

    /// The last millisecond before the cost exceeds the limit, if it does in the last step of `run`.
    fn cost_stop(&self, run: &StationRun<'_>, index: usize) -> Option<i64> {
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

    /// Records `stretches` up to `until_ms` part by part, and asks `stop` before each.
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

    /// The part of `stretch` from `from_ms` to the next boundary of the tariff, at most to `to_ms`.
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

    /// The first millisecond of `part` at which the cost exceeds the limit, where `log` is written up to the part.
    ///
    /// The cost is searched piece by piece, each of which it cannot fall on: the step size that counts changes with the
    /// first time and with the first energy of a period, and the price with the energy bound that ends the part.
    fn first_excess(&self, limit: &CostLimit<'_>, log: &MeterLog, part: Part<'_>) -> Option<i64> {
        let Part { stretch, from_ms, to_ms, .. } = part;
        let at = |ms: i64| {
            let mut log = log.clone();
            log.record(self.reading(stretch, ms), part.stands);
            log
        };
        let judge = |ms: i64| limit.judge(&at(ms), self.session.started_at);
        let before = at(from_ms + 1).open().map_or(WattHours(0), |(before, _)| before.register);
        let first_energy = first_ms(from_ms, to_ms, |ms| self.register(stretch, ms) > before);
        let mut low = from_ms;
        for high in [first_energy - 1, to_ms - 1, to_ms] {
            if low < high {
                if let Some(excess) = first_excess_between(low + 1, high, judge) {
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

/// The stretches of a session in the last step of `run`, and the last millisecond that belongs to the step: of a session
/// that ended, the one in which it did.
fn last_step<'r>(run: &'r StationRun<'_>, index: usize) -> (&'r [Stretch], i64) {
    let until_ms = run.so_far(index).ended_at.map_or_else(|| ms_before(run.now()), ms_after);
    (run.last_stretches(index), until_ms)
}

impl CostLimit<'_> {
    fn judge(&self, log: &MeterLog, started_at: Instant) -> Judgement {
        let SessionTerms { tariff, time_zone, .. } = self.terms;
        let price = price(tariff, *time_zone, &log.periods(started_at));
        let net: Decimal = price.lines.iter().map(|line| line.net).sum();
        let vat: Decimal =
            price.lines.iter().map(|line| line.net * line.vat_rate.unwrap_or_default() / Decimal::ONE_HUNDRED).sum();
        // Sums of quotients that are the same amount can differ in the last of 28 digits.
        let compare = |bounded: Decimal, sum: Decimal| (bounded - sum).round_dp(12).cmp(&Decimal::ZERO);
        Judgement {
            exceeds: Bill::new(&price, tariff.currency).total_incl_vat > self.max_cost,
            bounds: (compare(price.excl_vat, net), compare(price.incl_vat, net + vat)),
        }
    }
}

/// The first millisecond from `low` to `high` that exceeds, where the cost falls only where the bounds that hold change.
fn first_excess_between(low: i64, high: i64, judge: impl Fn(i64) -> Judgement) -> Option<i64> {
    let mut low = low;
    let last = judge(high);
    loop {
        let first = judge(low);
        let same = first.bounds == last.bounds;
        let end = if same { high } else { first_ms(low, high, |ms| judge(ms).bounds != first.bounds) - 1 };
        let end_exceeds = if same { last.exceeds } else { judge(end).exceeds };
        if end_exceeds {
            return Some(first_ms(low - 1, end, |ms| judge(ms).exceeds));
        }
        if same {
            return None;
        }
        low = end + 1;
    }
}

/// The first millisecond after `from`, up to `to`, from which on `holds`; the one after `to` where there is none.
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

impl Session {
    fn battery(&self) -> Battery {
        Battery {
            capacity_kwh: self.battery_capacity_kwh,
            percent: self.charge_percent,
            stop_percent: self.stop_percent(),
        }
    }

    /// State of charge at which the target or the energy limit ends it, %.
    fn stop_percent(&self) -> f64 {
        self.energy_limit_percent().min(self.target_percent)
    }

    fn energy_limit_percent(&self) -> f64 {
        self.limits
            .max_energy_kwh
            .map_or(f64::INFINITY, |kwh| self.start_percent + 100.0 * kwh / self.battery_capacity_kwh)
    }

    /// What the model delivered up to `percent`, kWh.
    fn delivered_kwh(&self, percent: f64) -> f64 {
        (percent - self.start_percent) * self.battery_capacity_kwh / 100.0
    }

    fn natural_end(&self) -> (SessionStatus, EndReason) {
        if self.charge_percent < self.stop_percent() {
            (SessionStatus::Completed, EndReason::BatteryFull)
        } else if self.energy_limit_percent() < self.target_percent {
            (SessionStatus::Interrupted, EndReason::EnergyLimit)
        } else {
            (SessionStatus::Completed, EndReason::TargetReached)
        }
    }
}

fn apply(
    session: &mut Session,
    advance: &Advance,
    log: MeterLog,
    stopped_ms: Option<i64>,
    clock: Clock,
    until: Instant,
) -> TickOutcome {
    if session.metered_at >= until || !session.status.is_active() {
        return SKIPPED;
    }
    let began = session.status == SessionStatus::Started;
    let full_ms = advance.ended_at.map(ms_after);
    let end = stopped_ms.or(full_ms).map(|ms| clock.instant(ms).clamp(session.metered_at, until));
    session.meter = log;
    session.charge_percent = match stopped_ms {
        Some(ms) => advance.percent_at(hours(ms)).unwrap_or(session.charge_percent),
        None => advance.percent,
    };
    session.power_kw = (advance.power_kw * 1000.0).round() / 1000.0;
    session.metered_at = end.unwrap_or(until);
    if began {
        session.status = SessionStatus::InProgress;
        session.status_changed_at = until;
    }
    let ended = end.map(|_| {
        let (status, reason) = match stopped_ms {
            Some(_) => (SessionStatus::Interrupted, EndReason::CostLimit),
            None => session.natural_end(),
        };
        session.end(status, reason);
        status
    });
    session.version += 1;
    TickOutcome { skipped: false, began, ended }
}

/// Half a watt, and a thousandth less for the rounding of a power that ends in half a watt, is one more.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn watts(kw: f64) -> u32 {
    (kw * 1000.0 + 1e-3).round().clamp(0.0, f64::from(u32::MAX)) as u32
}
