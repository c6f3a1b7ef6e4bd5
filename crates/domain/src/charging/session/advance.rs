use super::clock::{Clock, hours, ms_after};
use super::running_meter::Meter;
use super::{EndReason, MeterLog, Session, SessionStatus, SessionTerms};
use crate::Instant;
use crate::battery::{Advance, Battery, Occupant, StationRun};

/// The result of a tick for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TickOutcome {
    /// The tick did not change the session: it has already been metered up to the tick or beyond, or it has ended.
    pub skipped: bool,
    /// The session went from STARTED to `IN_PROGRESS`.
    pub began: bool,
    /// The final status, if the session ended.
    pub ended: Option<SessionStatus>,
}

const SKIPPED: TickOutcome = TickOutcome { skipped: true, began: false, ended: None };

/// Advances the active sessions of one station to `until`. They are advanced together because they share the station's
/// power.
///
/// `terms` returns the terms of the sessions that have a cost limit; the cost limit of a session without terms is not
/// checked. The result has one outcome per session, in the order of `sessions`. A session that has already been metered
/// up to `until` or beyond is not changed, but still takes its share of the power. A session that has ended is not
/// changed and takes no power.
///
/// A session with a cost limit is stopped at the last millisecond before its cost first exceeds the limit, even if the
/// cost would fall below the limit again later. The cost at a millisecond is the bill for the meter readings up to that
/// millisecond. The billed amount is therefore within the limit, unless the limit is below the tariff's least price.
///
/// The result does not depend on the instants at which the station was advanced before, provided that the terms were
/// given either every time or never. This holds for the state of charge, for the meter and its periods, and for the end
/// of a session and its reason. There are two exceptions. First, the simulation uses floating point, so an instant
/// within a ten-thousandth of a millisecond of a rounding boundary can be one millisecond earlier or later, and its
/// register reading can differ by one Wh. Second, while the tariff's `max_price` caps a price whose components have
/// different VAT rates, the price including VAT depends on how the components are mixed and can fall. In that case the
/// limit is checked where the price can change, and at the ticks.
///
/// All sessions of a station carry the same station power, because it cannot be changed while sessions run. If the
/// values differ nevertheless, the lowest one applies, so that the station is never overloaded.
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
    let mut run = StationRun::new(power_kw, sessions.iter().map(|session| session.occupant(clock)).collect());
    let mut meters: Vec<Meter<'_>> =
        sessions.iter().map(|session| Meter::new(session, clock, until, terms(session))).collect();
    while run.step(hours(clock.ms(until))) {
        // A session that is stopped by its cost limit frees its share of the power, which changes what the other
        // sessions draw. The step is therefore shortened to the earliest such stop. The part of the step before the
        // stop stays valid.
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

impl Session {
    fn occupant(&self, clock: Clock) -> Occupant<'_> {
        let from = |at| if self.status.is_active() { hours(clock.ms(at)) } else { f64::INFINITY };
        Occupant {
            present_from: from(self.started_at),
            advanced_to: from(self.metered_at),
            battery: self.battery(),
            limit_kw: self.limit_kw,
            vehicle_max_kw: self.vehicle_max_kw,
            model: &self.model,
        }
    }

    fn battery(&self) -> Battery {
        Battery {
            capacity_kwh: self.battery_capacity_kwh,
            percent: self.charge_percent,
            stop_percent: self.stop_percent(),
        }
    }

    /// Returns the state of charge at which the target or the energy limit ends the session, %.
    fn stop_percent(&self) -> f64 {
        self.energy_limit_percent().min(self.target_percent)
    }

    fn energy_limit_percent(&self) -> f64 {
        self.limits
            .max_energy_kwh
            .map_or(f64::INFINITY, |kwh| self.start_percent + 100.0 * kwh / self.battery_capacity_kwh)
    }

    /// Returns the energy that the model has delivered when the state of charge reaches `percent`, kWh.
    pub(super) fn delivered_kwh(&self, percent: f64) -> f64 {
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
