use chrono::Duration;
use rust_decimal::Decimal;

use super::{EndReason, Session, SessionStatus, SessionTerms};
use crate::Instant;
use crate::charging::{Advance, Battery, Occupant, StationRun};
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
/// `until` is left alone, but takes its share of the power.
pub fn advance_station<'t>(
    sessions: &mut [Session],
    until: Instant,
    terms: impl Fn(&Session) -> Option<&'t SessionTerms>,
) -> Vec<TickOutcome> {
    let Some(origin) = sessions.iter().map(|session| session.metered_at).min() else {
        return Vec::new();
    };
    let clock = Clock { origin };
    let station = Station { clock, until: clock.hours(until) };
    let mut leaves = vec![f64::INFINITY; sessions.len()];
    // A session stopped by its cost frees its share, which changes what the others draw: the earliest such stop is
    // fixed first, then the station is run again.
    let advances = loop {
        let advances = station.run(sessions, &leaves, station.until);
        let stop = (0..sessions.len())
            .filter(|index| leaves[*index].is_infinite())
            .filter_map(|index| Some((index, station.cost_stop(sessions, &leaves, index, &advances, &terms)?)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        match stop {
            Some((index, at)) => leaves[index] = at,
            None => break advances,
        }
    };
    sessions
        .iter_mut()
        .zip(advances)
        .zip(leaves)
        .map(|((session, advance), leaves)| apply(session, &advance, clock, until, leaves))
        .collect()
}

/// Instants as hours from an origin, which is what the simulation counts in.
#[derive(Clone, Copy)]
struct Clock {
    origin: Instant,
}

const MS_PER_HOUR: f64 = 3_600_000.0;

impl Clock {
    #[allow(clippy::cast_precision_loss)] // milliseconds within a few years are far below 2^52
    fn hours(self, at: Instant) -> f64 {
        (at - self.origin).num_milliseconds() as f64 / MS_PER_HOUR
    }

    #[allow(clippy::cast_possible_truncation)]
    fn instant(self, hours: f64) -> Instant {
        self.origin + Duration::milliseconds((hours * MS_PER_HOUR).round() as i64)
    }
}

struct Station {
    clock: Clock,
    until: f64,
}

impl Station {
    fn run(&self, sessions: &[Session], leaves: &[f64], until: f64) -> Vec<Advance> {
        let power = sessions.first().map_or(0.0, |session| session.station_power_kw);
        let occupants = sessions
            .iter()
            .zip(leaves)
            .map(|(session, leaves_at)| Occupant {
                present_from: self.clock.hours(session.started_at),
                advanced_to: self.clock.hours(session.metered_at),
                leaves_at: *leaves_at,
                battery: session.battery(),
                limit_kw: session.limit_kw,
                vehicle_max_kw: session.vehicle_max_kw,
                model: &session.model,
            })
            .collect();
        StationRun::new(power, occupants).advance(until)
    }

    /// The last millisecond at which the session at `index` still costs no more than its limit, if that is passed
    /// within this advance. The price never falls, so the instant is found by bisection.
    fn cost_stop<'t>(
        &self,
        sessions: &[Session],
        leaves: &[f64],
        index: usize,
        advances: &[Advance],
        terms: &impl Fn(&Session) -> Option<&'t SessionTerms>,
    ) -> Option<f64> {
        let session = &sessions[index];
        let max_cost = session.limits.max_cost?;
        let terms = terms(session)?;
        let cost = |advance: &Advance, until: f64| -> Decimal {
            let mut metered = session.clone();
            record(&mut metered, advance, self.clock, self.clock.instant(until));
            metered.bill(terms).total_incl_vat
        };
        if cost(&advances[index], self.until) <= max_cost {
            return None;
        }
        let (mut low, mut high) = (self.clock.hours(session.metered_at), self.until);
        while (high - low) * MS_PER_HOUR > 1.0 {
            let middle = f64::midpoint(low, high);
            let run = self.run(sessions, leaves, middle);
            if cost(&run[index], middle) <= max_cost {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(low)
    }
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

fn apply(session: &mut Session, advance: &Advance, clock: Clock, until: Instant, leaves: f64) -> TickOutcome {
    if session.metered_at >= until || !session.status.is_active() {
        return SKIPPED;
    }
    let began = session.status == SessionStatus::Started;
    let left = leaves.is_finite().then_some(leaves);
    let end = advance.ended_at.or(left).map(|at| clock.instant(at).clamp(session.metered_at, until));
    record(session, advance, clock, end.unwrap_or(until));
    if began {
        session.status = SessionStatus::InProgress;
        session.status_changed_at = until;
    }
    let ended = end.map(|_| {
        let (status, reason) = match advance.ended_at {
            Some(_) => session.natural_end(),
            None => (SessionStatus::Interrupted, EndReason::CostLimit),
        };
        session.end(status, reason);
        status
    });
    session.version += 1;
    TickOutcome { skipped: false, began, ended }
}

/// Writes what an advance delivered into the session's battery and meter.
fn record(session: &mut Session, advance: &Advance, clock: Clock, until: Instant) {
    let mut percent = session.charge_percent;
    for stretch in &advance.stretches {
        let hours = stretch.to - stretch.from;
        let at = clock.instant(stretch.to).clamp(session.metered_at, until);
        let kwh = (stretch.percent - percent) * session.battery_capacity_kwh / 100.0;
        let power_w = if hours > 0.0 { watts(kwh / hours) } else { 0 };
        let register = WattHours::register(session.delivered_kwh(stretch.percent));
        session.meter.record((at - session.started_at).num_milliseconds(), register, power_w);
        percent = stretch.percent;
    }
    session.charge_percent = advance.percent;
    session.power_kw = (advance.power_kw * 1000.0).round() / 1000.0;
    session.metered_at = until;
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn watts(kw: f64) -> u32 {
    (kw * 1000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32
}
