use std::collections::HashMap;

use crate::charging::session::{Session, SessionStarted, SessionTerms};
use crate::charging::station::{Port, PortFailed, Station, StationStatusChanged};
use crate::id::{PortId, SessionId, StationId};

/// The terms of sessions, as far as they are known.
pub type Terms = HashMap<SessionId, SessionTerms>;

/// What a command changes at a site.
///
/// The changes of a command are one transaction. The changes of a tick without ends are one write a session. The version
/// in each item is the version that was read plus one: the store writes the item only if the stored version is still the
/// version that was read.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Sessions that go on, metered up to the instant or beyond.
    pub advanced: Vec<Session>,
    /// The session that starts.
    pub started: Option<Box<StartedSession>>,
    /// Sessions that ended.
    pub ended: Vec<Session>,
    /// Ports.
    pub ports: Vec<PortChange>,
    /// The station.
    pub station: StationChange,
    /// The terms of sessions, as far as they are known; the events of ends need those of `ended`.
    pub terms: Terms,
}

/// A session that starts.
#[derive(Clone, Debug)]
pub struct StartedSession {
    /// The session.
    pub session: Session,
    /// Its terms.
    pub terms: SessionTerms,
    /// Its event.
    pub event: SessionStarted,
}

/// What changes at a port.
#[derive(Clone, Debug)]
pub enum PortChange {
    /// The port was read and decided on.
    Decided {
        /// The port as it is now.
        port: Box<Port>,
        /// The event of its failure, if it failed.
        failed: Option<PortFailed>,
    },
    /// The port was not read: it is freed if this session charges there.
    Freed {
        /// The port.
        port_id: PortId,
        /// The session that ended.
        session_id: SessionId,
    },
}

/// What changes at a station.
#[derive(Clone, Debug, Default)]
pub enum StationChange {
    /// Nothing.
    #[default]
    None,
    /// A session starts: the station is counted up, while it is ACTIVE and configured as it was read. Starts at
    /// different ports do not contradict each other.
    CountedIn(Box<Station>),
    /// Sessions ended at a station that was not read: it is counted down, while exactly `running` sessions run there.
    CountedOut {
        /// The station.
        station_id: StationId,
        /// Sessions that ran there.
        running: usize,
        /// Those that still do.
        left: usize,
    },
    /// The station was read and decided on.
    Decided {
        /// The station as it is now.
        station: Box<Station>,
        /// The event of its new status, if the status changed.
        status_changed: Option<StationStatusChanged>,
    },
}

impl Changes {
    /// The session of this id, if it ended.
    #[must_use]
    pub fn ended(&self, id: &SessionId) -> Option<&Session> {
        self.ended.iter().find(|session| session.id == *id)
    }

    /// The sessions that ended and whose terms are not known.
    pub fn without_terms(&self) -> impl Iterator<Item = &SessionId> {
        self.ended.iter().map(|session| &session.id).filter(|id| !self.terms.contains_key(*id))
    }
}
