use std::collections::HashMap;

use crate::charging::session::{Session, SessionEnded, SessionStarted, SessionTerms};
use crate::charging::station::{Port, PortFailed, PortStatus, Station, StationEvent};
use crate::id::{PortId, SessionId, StationId};

/// The terms of sessions, as far as they are known.
pub type Terms = HashMap<SessionId, SessionTerms>;

/// The changes that a command makes to a site.
///
/// The changes of a command are committed in one transaction. The changes of a tick in which no session ends are one
/// write per session. The version in each item is the version that was read plus one: the store writes the item only if
/// the stored version is still the version that was read (optimistic locking).
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Sessions that continue, metered up to the instant of the command or beyond.
    pub advanced: Vec<Session>,
    /// The session that starts.
    pub started: Option<Box<StartedSession>>,
    /// Sessions that ended.
    pub ended: Vec<Session>,
    /// Changes of ports.
    pub ports: Vec<PortChange>,
    /// Change of the station.
    pub station: StationChange,
    /// The terms of sessions, as far as they are known. The end events need the terms of the sessions in `ended`.
    pub terms: Terms,
}

/// A session that starts.
#[derive(Clone, Debug)]
pub struct StartedSession {
    /// The session.
    pub session: Session,
    /// The terms of the session.
    pub terms: SessionTerms,
    /// The event of the session's start.
    pub event: SessionStarted,
}

/// A change of a port.
#[derive(Clone, Debug)]
pub enum PortChange {
    /// The port was read, and the command changed it.
    Decided {
        /// The port after the change.
        port: Box<Port>,
        /// The event of the port's failure, if the port failed.
        failed: Option<PortFailed>,
    },
    /// The port was not read: the store frees it if this session is running there.
    Freed {
        /// Id of the port.
        port_id: PortId,
        /// Id of the session that ended.
        session_id: SessionId,
    },
}

/// A change of a station.
#[derive(Clone, Debug, Default)]
pub enum StationChange {
    /// No change.
    #[default]
    None,
    /// A session starts: the store increments the station's count of charging ports, provided that the station is still
    /// ACTIVE and its configuration is still the one that was read. Starts at different ports do not conflict with each
    /// other.
    CountedIn(Box<Station>),
    /// Sessions ended at a station of which the tick read nothing: the store decrements the station's count of charging
    /// ports, provided that exactly `running` sessions run there. The events of the ends carry the version of the
    /// station, so the store reads it first, and the station must then still have it.
    CountedOut {
        /// Id of the station.
        station_id: StationId,
        /// Number of sessions that were running at the station.
        running: usize,
        /// Number of sessions that are still running.
        left: usize,
    },
    /// The station was read, and the command changed it.
    Decided {
        /// The station after the change.
        station: Box<Station>,
        /// The event of the change. Sessions that end change the station without an event of its own.
        event: Option<StationEvent>,
    },
}

impl Changes {
    /// Returns the session with this id if it is among the sessions that ended.
    #[must_use]
    pub fn ended(&self, id: &SessionId) -> Option<&Session> {
        self.ended.iter().find(|session| session.id == *id)
    }

    /// Returns the event of the end of `session`, which is among the sessions that ended. `station_version` is the
    /// version of the station after these changes.
    #[must_use]
    pub fn end_event(&self, session: &Session, terms: &SessionTerms, station_version: Option<u64>) -> SessionEnded {
        SessionEnded { station_version, port_status: self.port_status(session), ..session.ended_event(terms) }
    }

    /// Returns the status of the port of a session that ended, as it is after these changes.
    fn port_status(&self, session: &Session) -> Option<PortStatus> {
        self.ports.iter().find_map(|change| match change {
            PortChange::Decided { port, .. } => (port.id == session.port_id).then_some(port.status),
            PortChange::Freed { session_id, .. } => (*session_id == session.id).then_some(PortStatus::Free),
        })
    }

    /// Returns the ids of the sessions that ended and whose terms are not known.
    pub fn without_terms(&self) -> impl Iterator<Item = &SessionId> {
        self.ended.iter().map(|session| &session.id).filter(|id| !self.terms.contains_key(*id))
    }
}
