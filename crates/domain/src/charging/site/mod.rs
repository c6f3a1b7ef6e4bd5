//! A site: a charging station with its ports and the sessions that run there. Every command on them is decided here,
//! on the site as a whole, and answers the [`Changes`] to commit.
//!
//! One rule says what a command finds. It settles the site to its instant first: every running session is metered up
//! to then, at the power that the station had for it. A session whose end lies before the instant (target, full
//! battery, limit) has ended there: it is COMPLETED or INTERRUPTED, and its port is freed. The command is decided on
//! what still runs.

mod changes;

pub use changes::{Changes, PortChange, StartedSession, StationChange, Terms};

use crate::Instant;
use crate::actor::{Actor, Role};
use crate::charging::session::{EndReason, Session, SessionStatus, SessionTerms, StartSession, advance_station};
use crate::charging::station::{
    Port, PortFailed, PortStatus, Station, StationStatus, StationStatusChanged, StationUpdate,
};
use crate::error::DomainError;
use crate::id::{PortId, SessionId, StationId};

/// A charging station with its ports and the sessions that run there, as read at one moment. A site decides one
/// command; for the next one the site is read again.
///
/// A station's version changes with every start and end at it, so [`Changes`] of a site are committed only while the
/// same sessions run.
#[derive(Clone, Debug)]
pub struct Site {
    /// The station.
    pub station: Station,
    /// Its ports.
    pub ports: Vec<Port>,
    sessions: Vec<Session>,
    terms: Terms,
    read: ReadVersions,
}

/// The versions at which a site's items were read.
#[derive(Clone, Debug)]
struct ReadVersions {
    station: u64,
    ports: Vec<u64>,
}

/// What a command has brought about so far.
#[derive(Debug, Default)]
struct Settlement {
    /// Sessions that were metered up to the instant and still run.
    advanced: Vec<SessionId>,
    /// Sessions that ended.
    ended: Vec<Session>,
    /// The failures of ports.
    port_failures: Vec<PortFailed>,
}

impl Site {
    /// A site as read. `terms` has the terms of those sessions that have a cost limit; it may have more.
    #[must_use]
    pub fn new(mut station: Station, ports: Vec<Port>, sessions: Vec<Session>, terms: Terms) -> Self {
        let read = ReadVersions { station: station.version, ports: ports.iter().map(|port| port.version).collect() };
        station.charging_ports = charging(&ports);
        Self { station, ports, sessions, terms, read }
    }

    /// Whether `session` runs here.
    #[must_use]
    pub fn runs(&self, session: &SessionId) -> bool {
        self.sessions.iter().any(|running| running.id == *session)
    }

    /// Notes the terms of a session that runs here.
    pub fn know_terms(&mut self, session: SessionId, terms: SessionTerms) {
        self.terms.insert(session, terms);
    }

    /// The port with this id.
    ///
    /// # Errors
    /// Not found.
    pub fn port(&self, id: &PortId) -> Result<&Port, DomainError> {
        let port = self.ports.iter().find(|port| port.id == *id);
        port.ok_or_else(|| DomainError::not_found(&format!("port at station {} named", self.station.id), id))
    }

    /// Starts a session at a port. A port whose session has reached its end is free for the next one.
    ///
    /// # Errors
    /// Not found, a validation error naming the fields, or a conflict: the station has no tariff or is not ACTIVE, or
    /// the port is not FREE.
    pub fn start(
        &mut self,
        request: StartSession,
        port: &PortId,
        role: Role,
        now: Instant,
    ) -> Result<Changes, DomainError> {
        let occupied = self.port(port)?.status == PortStatus::Charging;
        // An arrival needs no settlement: the next tick knows by `started_at` from when on the newcomer takes its share.
        let settlement = if occupied { self.settle(now) } else { Settlement::default() };
        let terms = SessionTerms::of(&request, &self.station)?;
        let Some(port) = self.ports.iter_mut().find(|candidate| candidate.id == *port) else {
            return Err(DomainError::not_found("port", port));
        };
        let (session, event) = Session::start(request, &mut self.station, port, role, now)?;
        let counted_in = settlement.ended.is_empty();
        let mut changes = self.changes(settlement, None);
        if counted_in {
            changes.station = StationChange::CountedIn(Box::new(self.station.clone()));
        }
        changes.started = Some(Box::new(StartedSession { session, terms, event }));
        Ok(changes)
    }

    /// Stops a session, with the energy delivered up to now.
    ///
    /// # Errors
    /// Forbidden for another user; a conflict when the session does not run here.
    pub fn stop(&mut self, id: &SessionId, actor: &Actor, now: Instant) -> Result<Changes, DomainError> {
        self.running(id)?.may_stop(actor)?;
        let reason = if actor.role == Role::User { EndReason::StoppedByUser } else { EndReason::StoppedByOperator };
        let mut settlement = self.settle(now);
        if let Some(session) = self.end(id, SessionStatus::Interrupted, reason, &mut settlement) {
            self.release(&session);
            settlement.ended.push(session);
        }
        Ok(self.changes(settlement, None))
    }

    /// Fails a session and its port. A session that had reached its end before has not failed, and neither has its
    /// port.
    ///
    /// # Errors
    /// Forbidden for users; a conflict when the session does not run here.
    pub fn fail_session(
        &mut self,
        id: &SessionId,
        reason: &str,
        role: Role,
        now: Instant,
    ) -> Result<Changes, DomainError> {
        self.running(id)?.may_fail(role)?;
        let mut settlement = self.settle(now);
        if let Some(session) = self.end(id, SessionStatus::Failed, EndReason::Error, &mut settlement) {
            if let Some(port) = self.ports.iter_mut().find(|port| port.id == session.port_id) {
                port.fail(role)?;
                settlement.port_failures.push(port.failed_event(Some(session.id.clone()), reason));
            }
            settlement.ended.push(session);
        }
        Ok(self.changes(settlement, None))
    }

    /// Fails a port, and the session that runs there. A session that had reached its end before has not failed.
    ///
    /// # Errors
    /// Not found; forbidden for users; a conflict unless the port is CHARGING.
    pub fn fail_port(&mut self, id: &PortId, reason: &str, role: Role, now: Instant) -> Result<Changes, DomainError> {
        self.port(id)?;
        // The port fails first: the settlement frees the ports of sessions that have ended, and this one stays in ERROR.
        for port in self.ports.iter_mut().filter(|port| port.id == *id) {
            port.fail(role)?;
        }
        let mut settlement = self.settle(now);
        let running = self.sessions.iter().find(|session| session.port_id == *id).map(|session| session.id.clone());
        let failed = running
            .and_then(|session| self.end(&session, SessionStatus::Failed, EndReason::PortFailed, &mut settlement));
        let event = self.port(id)?.failed_event(failed.as_ref().map(|session| session.id.clone()), reason);
        settlement.port_failures.push(event);
        settlement.ended.extend(failed);
        Ok(self.changes(settlement, None))
    }

    /// Brings the station to `to`. Where that ends what runs there, sessions that had reached their end before are
    /// completed, and the others fail with their ports.
    ///
    /// # Errors
    /// Forbidden or conflict by the state machine; a conflict when a station without a tariff would be commissioned.
    pub fn transition(&mut self, to: StationStatus, actor: &Actor, now: Instant) -> Result<Changes, DomainError> {
        let event = self.station.transition(to, actor, now)?;
        let mut settlement = Settlement::default();
        if to.fails_sessions() {
            settlement = self.settle(now);
            self.fail_all("the station went out of order", actor.role, &mut settlement)?;
        }
        Ok(self.changes(settlement, Some(event)))
    }

    /// Applies `update`. Power and charging model change only when no session runs any more.
    ///
    /// # Errors
    /// Forbidden for anyone but an ADMIN; a validation error for a field out of range; a conflict when power or model
    /// would change under a running session.
    pub fn update(&mut self, update: StationUpdate, actor: &Actor, now: Instant) -> Result<Changes, DomainError> {
        let settlement = if self.station.changes_physics(&update) { self.settle(now) } else { Settlement::default() };
        self.station.charging_ports = charging(&self.ports);
        self.station.update(update, actor, now)?;
        Ok(self.changes(settlement, None))
    }

    /// Advances what runs here to `until`: a tick, decided on the whole site. [`tick`] is the same without a station.
    pub fn tick(&mut self, until: Instant) -> Changes {
        let settlement = self.settle_to(until);
        self.changes(settlement, None)
    }

    /// The sessions that run here.
    #[must_use]
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    fn running(&self, id: &SessionId) -> Result<&Session, DomainError> {
        self.sessions
            .iter()
            .find(|session| session.id == *id)
            .ok_or_else(|| DomainError::conflict(format!("session {id} does not run at station {}", self.station.id)))
    }

    /// Settles to `now`, or to the last instant that a running session has been metered up to: the clocks of a tick
    /// in simulated time and of a command may differ.
    fn settle(&mut self, now: Instant) -> Settlement {
        self.settle_to(self.sessions.iter().map(|session| session.metered_at).fold(now, Instant::max))
    }

    fn settle_to(&mut self, instant: Instant) -> Settlement {
        let mut settlement = Settlement::default();
        let mut sessions = std::mem::take(&mut self.sessions);
        let outcomes = advance_station(&mut sessions, instant, |session| self.terms.get(&session.id));
        for (session, outcome) in sessions.into_iter().zip(outcomes) {
            if outcome.ended.is_some() {
                self.release(&session);
                settlement.ended.push(session);
                continue;
            }
            if !outcome.skipped {
                settlement.advanced.push(session.id.clone());
            }
            self.sessions.push(session);
        }
        settlement
    }

    /// Takes a running session out of the site and ends it; nothing, when it has ended before.
    ///
    /// Every neighbour is written as well, even where it was metered up to the instant already: a tick that read the
    /// site before must not meter a neighbour beyond the instant beside a session that has ended.
    fn end(
        &mut self,
        id: &SessionId,
        status: SessionStatus,
        reason: EndReason,
        settlement: &mut Settlement,
    ) -> Option<Session> {
        let index = self.sessions.iter().position(|session| session.id == *id)?;
        let mut session = self.sessions.remove(index);
        // One write is one version: where the settlement has counted it, the end is part of the same write.
        match settlement.advanced.iter().position(|advanced| advanced == id) {
            Some(index) => drop(settlement.advanced.remove(index)),
            None => session.version += 1,
        }
        session.end(status, reason);
        for neighbour in &mut self.sessions {
            if !settlement.advanced.contains(&neighbour.id) {
                neighbour.version += 1;
                settlement.advanced.push(neighbour.id.clone());
            }
        }
        Some(session)
    }

    /// Fails every port that charges, with its session. A port whose session is not there fails by itself.
    fn fail_all(&mut self, reason: &str, role: Role, settlement: &mut Settlement) -> Result<(), DomainError> {
        let running: Vec<SessionId> = self.sessions.iter().map(|session| session.id.clone()).collect();
        for id in running {
            let ended = self.end(&id, SessionStatus::Failed, EndReason::StationOutOfOrder, settlement);
            settlement.ended.extend(ended);
        }
        for port in self.ports.iter_mut().filter(|port| port.status == PortStatus::Charging) {
            let session = port.session_id.clone();
            port.fail(role)?;
            settlement.port_failures.push(port.failed_event(session, reason));
        }
        Ok(())
    }

    /// Frees the port of a session that ended.
    fn release(&mut self, session: &Session) {
        for port in self.ports.iter_mut().filter(|port| port.id == session.port_id) {
            port.release(&session.id);
        }
    }

    /// What a command changed: of the station, only if anything else than the meters changed.
    fn changes(&mut self, settlement: Settlement, status_changed: Option<StationStatusChanged>) -> Changes {
        let Settlement { advanced, ended, port_failures } = settlement;
        let mut ports = Vec::new();
        for (port, read) in self.ports.iter_mut().zip(&self.read.ports) {
            if port.version == *read {
                continue;
            }
            port.version = read + 1;
            let failed = port_failures.iter().find(|failed| failed.port_id == port.id).cloned();
            ports.push(PortChange::Decided { port: Box::new(port.clone()), failed });
        }
        self.station.charging_ports = charging(&self.ports);
        let unchanged = ports.is_empty() && ended.is_empty() && self.station.version == self.read.station;
        let station = if unchanged {
            StationChange::None
        } else {
            self.station.version = self.read.station + 1;
            StationChange::Decided { station: Box::new(self.station.clone()), status_changed }
        };
        let advanced = self.sessions.iter().filter(|session| advanced.contains(&session.id)).cloned().collect();
        Changes { advanced, started: None, ended, ports, station, terms: self.terms.clone() }
    }
}

/// Advances the sessions that run at one station to `until`, without having read station and ports: a tick.
///
/// `terms` has the terms of those that have a cost limit. Ends are committed only if `sessions` are all that run at
/// the station.
#[must_use]
pub fn tick(station: &StationId, mut sessions: Vec<Session>, terms: Terms, until: Instant) -> Changes {
    let running = sessions.len();
    let outcomes = advance_station(&mut sessions, until, |session| terms.get(&session.id));
    let mut changes = Changes { terms, ..Changes::default() };
    for (session, outcome) in sessions.into_iter().zip(outcomes) {
        if outcome.ended.is_some() {
            changes.ports.push(PortChange::Freed { port_id: session.port_id.clone(), session_id: session.id.clone() });
            changes.ended.push(session);
        } else if !outcome.skipped {
            changes.advanced.push(session);
        }
    }
    if !changes.ended.is_empty() {
        let left = running - changes.ended.len();
        changes.station = StationChange::CountedOut { station_id: station.clone(), running, left };
    }
    changes
}

fn charging(ports: &[Port]) -> u32 {
    let charging = ports.iter().filter(|port| port.status == PortStatus::Charging).count();
    u32::try_from(charging).unwrap_or(u32::MAX)
}
