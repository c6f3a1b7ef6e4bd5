//! A site: a charging station with its ports and the sessions that run there. Every command on a station, a port or a
//! session is decided here, on the site as a whole, and returns the [`Changes`] to commit.
//!
//! Every command that depends on running sessions first settles the site to its own instant. Every running session is
//! metered up to that instant, at the power that the station had available for it. A session that reached its natural
//! end before the instant (target, full battery, limit) ended there: it is COMPLETED or INTERRUPTED, and its port is
//! freed. The command is then decided on the sessions that are still running.

mod changes;

pub use changes::{Changes, PortChange, StartedSession, StationChange, Terms};

use crate::Instant;
use crate::actor::{Actor, Role};
use crate::charging::session::{EndReason, Session, SessionStatus, SessionTerms, StartSession, advance_station};
use crate::charging::station::{
    Port, PortCounts, PortFailed, PortStatus, Station, StationEvent, StationStatus, StationStatusChanged,
    StationUpdate, StationUpdated,
};
use crate::error::DomainError;
use crate::id::{PortId, SessionId, StationId};

/// A charging station with its ports and the sessions that run there, as read at one moment. A site decides one
/// command; for the next command the site is read again.
///
/// The version of a station changes with every start and end of a session there. [`Changes`] of a site are therefore
/// committed only while the same sessions run. The exception is a start at a free port. Of the station, this
/// start requires only that the status is ACTIVE and that `updated_at` is unchanged.
#[derive(Clone, Debug)]
pub struct Site {
    /// The station.
    pub station: Station,
    /// The ports of the station.
    pub ports: Vec<Port>,
    sessions: Vec<Session>,
    /// Sessions that should be running here and whose items cannot be decoded.
    unreadable: Vec<SessionId>,
    terms: Terms,
    read: ReadVersions,
}

/// The versions at which the items of a site were read.
#[derive(Clone, Debug)]
struct ReadVersions {
    station: u64,
    ports: Vec<u64>,
}

/// The effects of a command so far.
#[derive(Debug, Default)]
struct Settlement {
    /// Ids of the sessions that were metered up to the instant and are still running.
    advanced: Vec<SessionId>,
    /// Sessions that ended.
    ended: Vec<Session>,
    /// Events of the ports that failed.
    port_failures: Vec<PortFailed>,
}

/// What a command changed about the station itself.
#[derive(Debug)]
enum StationNews {
    StatusChanged(StationStatusChanged),
    Updated,
}

impl Site {
    /// Creates a site from the items as they were read. `terms` must have the terms of the sessions that have a cost
    /// limit; it may have the terms of other sessions too.
    #[must_use]
    pub fn new(mut station: Station, ports: Vec<Port>, sessions: Vec<Session>, terms: Terms) -> Self {
        let read = ReadVersions { station: station.version, ports: ports.iter().map(|port| port.version).collect() };
        station.charging_ports = charging(&ports);
        Self { station, ports, sessions, unreadable: Vec::new(), terms, read }
    }

    /// Returns the site with sessions whose items cannot be decoded. Ticks go on without these sessions. A command that
    /// depends on the running sessions is refused.
    #[must_use]
    pub fn with_unreadable(self, unreadable: Vec<SessionId>) -> Self {
        Self { unreadable, ..self }
    }

    /// Returns whether `session` is running here.
    #[must_use]
    pub fn runs(&self, session: &SessionId) -> bool {
        self.sessions.iter().any(|running| running.id == *session)
    }

    /// Adds the terms of a session that is running here.
    pub fn know_terms(&mut self, session: SessionId, terms: SessionTerms) {
        self.terms.insert(session, terms);
    }

    /// Returns the port with this id.
    ///
    /// # Errors
    /// `NotFound` if the station has no such port.
    pub fn port(&self, id: &PortId) -> Result<&Port, DomainError> {
        let port = self.ports.iter().find(|port| port.id == *id);
        port.ok_or_else(|| DomainError::not_found(&format!("port at station {} named", self.station.id), id))
    }

    /// Starts a session at a port. If the session at the port has reached its end, the port is free for the new one.
    ///
    /// # Errors
    /// `NotFound` if the station has no such port; `Validation`, naming the invalid fields; `Conflict` if the station
    /// has no tariff or is not ACTIVE, or if the port is not FREE.
    pub fn start(
        &mut self,
        request: StartSession,
        port: &PortId,
        role: Role,
        now: Instant,
    ) -> Result<Changes, DomainError> {
        let occupied = self.port(port)?.status == PortStatus::Charging;
        // A start at a free port needs no settlement: the next tick knows from `started_at` since when the new session
        // takes its share of the power.
        let settlement = if occupied { self.settle(now)? } else { Settlement::default() };
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

    /// Stops a session. The energy delivered up to `now` is billed.
    ///
    /// # Errors
    /// `Forbidden` if the actor is another user; `Conflict` if the session is not running here.
    pub fn stop(&mut self, id: &SessionId, actor: &Actor, now: Instant) -> Result<Changes, DomainError> {
        let reason = if actor.role == Role::User { EndReason::StoppedByUser } else { EndReason::StoppedByOperator };
        self.interrupt(id, reason, actor, now)
    }

    /// Interrupts a session for `reason`. The energy delivered up to `now` is billed. A session that had already reached
    /// its natural end keeps the reason of that end.
    ///
    /// # Errors
    /// `Forbidden` if the actor is another user; `Conflict` if the session is not running here.
    pub fn interrupt(
        &mut self,
        id: &SessionId,
        reason: EndReason,
        actor: &Actor,
        now: Instant,
    ) -> Result<Changes, DomainError> {
        self.running(id)?.may_stop(actor)?;
        let mut settlement = self.settle(now)?;
        if let Some(session) = self.end(id, SessionStatus::Interrupted, reason, &mut settlement) {
            self.release(&session);
            settlement.ended.push(session);
        }
        Ok(self.changes(settlement, None))
    }

    /// Fails a session and its port. If the session had already reached its natural end, neither the session nor the
    /// port fails.
    ///
    /// # Errors
    /// `Forbidden` for users; `Conflict` if the session is not running here.
    pub fn fail_session(
        &mut self,
        id: &SessionId,
        reason: &str,
        role: Role,
        now: Instant,
    ) -> Result<Changes, DomainError> {
        self.running(id)?.may_fail(role)?;
        let mut settlement = self.settle(now)?;
        if let Some(session) = self.end(id, SessionStatus::Failed, EndReason::Error, &mut settlement) {
            if let Some(port) = self.ports.iter_mut().find(|port| port.id == session.port_id) {
                port.fail(role)?;
                settlement.port_failures.push(port.failed_event(Some(session.id.clone()), reason));
            }
            settlement.ended.push(session);
        }
        Ok(self.changes(settlement, None))
    }

    /// Fails a port and the session that is running there. A session that had already reached its natural end does not
    /// fail.
    ///
    /// # Errors
    /// `NotFound` if the station has no such port; `Forbidden` for users; `Conflict` unless the port is CHARGING.
    pub fn fail_port(&mut self, id: &PortId, reason: &str, role: Role, now: Instant) -> Result<Changes, DomainError> {
        self.port(id)?;
        // The port must fail first: the settlement frees the ports of sessions that have ended, and this port has to
        // stay in ERROR.
        for port in self.ports.iter_mut().filter(|port| port.id == *id) {
            port.fail(role)?;
        }
        let mut settlement = self.settle(now)?;
        let running = self.sessions.iter().find(|session| session.port_id == *id).map(|session| session.id.clone());
        let failed = running
            .and_then(|session| self.end(&session, SessionStatus::Failed, EndReason::PortFailed, &mut settlement));
        let event = self.port(id)?.failed_event(failed.as_ref().map(|session| session.id.clone()), reason);
        settlement.port_failures.push(event);
        settlement.ended.extend(failed);
        Ok(self.changes(settlement, None))
    }

    /// Moves the station to status `to`. If that status ends running sessions, the sessions that had already reached
    /// their natural end are ended normally, and the other sessions fail together with their ports.
    ///
    /// # Errors
    /// `Forbidden` or `Conflict` if the state machine does not allow the transition; `Conflict` if a station without a
    /// tariff would be commissioned.
    pub fn transition(&mut self, to: StationStatus, actor: &Actor, now: Instant) -> Result<Changes, DomainError> {
        let event = self.station.transition(to, actor, now)?;
        let mut settlement = Settlement::default();
        if to.fails_sessions() {
            settlement = self.settle(now)?;
            self.fail_all("the station went out of order", actor.role, &mut settlement)?;
        }
        Ok(self.changes(settlement, Some(StationNews::StatusChanged(event))))
    }

    /// Applies `update` to the station. The power and the charging model can change only if no session is running any
    /// more.
    ///
    /// # Errors
    /// `Forbidden` unless the actor's role is ADMIN; `Validation` for a field that is out of range; `Conflict` if the
    /// power or the charging model would change while a session runs.
    pub fn update(&mut self, update: StationUpdate, actor: &Actor, now: Instant) -> Result<Changes, DomainError> {
        let settlement = if self.station.changes_physics(&update) { self.settle(now)? } else { Settlement::default() };
        self.station.charging_ports = charging(&self.ports);
        self.station.update(update, actor, now)?;
        Ok(self.changes(settlement, Some(StationNews::Updated)))
    }

    /// Advances the running sessions to `until`: a tick, decided on the whole site. The function [`tick`] does the same
    /// without reading a station.
    pub fn tick(&mut self, until: Instant) -> Changes {
        let settlement = self.settle_to(until);
        self.changes(settlement, None)
    }

    /// Returns the running sessions.
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

    /// Settles the site to `now`, or to the latest instant that a running session has been metered up to if that is
    /// later. The two can differ because ticks may run in simulated time while commands run in real time.
    ///
    /// # Errors
    /// A conflict if a session here cannot be read: the others would be metered as if that session drew no power.
    fn settle(&mut self, now: Instant) -> Result<Settlement, DomainError> {
        if let Some(session) = self.unreadable.first() {
            let station = &self.station.id;
            let message = format!("session {session} at station {station} cannot be read and must be repaired first");
            return Err(DomainError::conflict(message));
        }
        Ok(self.settle_to(self.sessions.iter().map(|session| session.metered_at).fold(now, Instant::max)))
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

    /// Takes a running session out of the site and ends it. Returns `None` if the session has already ended.
    ///
    /// Every other session of the site is written as well, even if it has already been metered up to the instant.
    /// Otherwise a tick that read the site earlier could meter another session beyond the instant, at the power that it
    /// had beside the ended session.
    fn end(
        &mut self,
        id: &SessionId,
        status: SessionStatus,
        reason: EndReason,
        settlement: &mut Settlement,
    ) -> Option<Session> {
        let index = self.sessions.iter().position(|session| session.id == *id)?;
        let mut session = self.sessions.remove(index);
        // One write raises the version by one. If the settlement has already raised it, the end is part of the same
        // write.
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

    /// Fails every port that is charging, together with its session. A port whose session is not there fails alone.
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

    /// Returns the changes of a command. The station is part of them only if something other than the meters changed.
    fn changes(&mut self, settlement: Settlement, news: Option<StationNews>) -> Changes {
        let Settlement { advanced, ended, port_failures } = settlement;
        let version = self.read.station + 1;
        let counts = PortCounts::of(&self.ports);
        let mut ports = Vec::new();
        for (port, read) in self.ports.iter_mut().zip(&self.read.ports) {
            if port.version == *read {
                continue;
            }
            port.version = read + 1;
            let failed = port_failures.iter().find(|failed| failed.port_id == port.id).map(|failed| PortFailed {
                version: Some(port.version),
                station_version: Some(version),
                counts: Some(counts),
                ..failed.clone()
            });
            ports.push(PortChange::Decided { port: Box::new(port.clone()), failed });
        }
        self.station.charging_ports = counts.charging_ports;
        let unchanged = ports.is_empty() && ended.is_empty() && self.station.version == self.read.station;
        let station = if unchanged {
            StationChange::None
        } else {
            self.station.version = version;
            let event = news.map(|news| self.station_event(news, counts));
            StationChange::Decided { station: Box::new(self.station.clone()), event }
        };
        let advanced = self.sessions.iter().filter(|session| advanced.contains(&session.id)).cloned().collect();
        Changes { advanced, started: None, ended, ports, station, terms: self.terms.clone() }
    }

    /// Returns the event of a change of the station, whose version is already the one after the change.
    fn station_event(&self, news: StationNews, counts: PortCounts) -> StationEvent {
        let version = Some(self.station.version);
        match news {
            StationNews::Updated => StationEvent::Updated(StationUpdated::new(&self.station, &self.ports)),
            StationNews::StatusChanged(changed) => StationEvent::StatusChanged(StationStatusChanged {
                version,
                station_version: version,
                counts: Some(counts),
                ..changed
            }),
        }
    }
}

/// Advances the sessions that run at one station to `until` without reading the station and its ports: a tick.
///
/// `terms` must have the terms of the sessions that have a cost limit. Ends of sessions are committed only if
/// `sessions` are all sessions that run at the station.
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
    PortCounts::of(ports).charging_ports
}
