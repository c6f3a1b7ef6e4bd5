use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use domain::Instant;
use domain::event::Event;
use domain::id::SessionId;
use domain::session::{Session, SessionStatus, SessionTerms, TickOutcome, advance_station};
use domain::station::{Port, Station};

use crate::db::Db;
use crate::error::StoreError;
use crate::sessions::SessionStore;
use crate::stations::{LoadedStation, StationStore};
use crate::{Trace, Transaction};

/// The charging context: stations and sessions, and the transactions that touch both.
#[derive(Clone, Debug)]
pub struct ChargingStore {
    /// Stations and their ports.
    pub stations: StationStore,
    /// Sessions.
    pub sessions: SessionStore,
}

/// What advancing sessions did, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TickReport {
    /// Sessions looked at.
    pub sessions: u64,
    /// Went from STARTED to `IN_PROGRESS`.
    pub started: u64,
    /// Reached their target, or a full battery.
    pub completed: u64,
    /// Stopped by a limit.
    pub interrupted: u64,
    /// Failed.
    pub failed: u64,
    /// Left alone: not due, or changed by somebody else at the same time.
    pub skipped: u64,
    /// Energy metered, Wh.
    pub watt_hours: u64,
}

impl std::ops::AddAssign for TickReport {
    fn add_assign(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.started += other.started;
        self.completed += other.completed;
        self.interrupted += other.interrupted;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.watt_hours += other.watt_hours;
    }
}

/// Shards of the active index, unless a deployment chooses another number.
pub const DEFAULT_SHARDS: u32 = 16;

impl ChargingStore {
    /// Over these tables, by this client.
    #[must_use]
    pub fn new(client: Client, stations: impl Into<String>, sessions: impl Into<String>, shards: u32) -> Self {
        let db = Db::new(client);
        Self { stations: StationStore::new(db.clone(), stations), sessions: SessionStore::new(db, sessions, shards) }
    }

    /// The sessions that run at a station, as they are now.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn running_at(&self, station: &LoadedStation) -> Result<Vec<Session>, StoreError> {
        let ids: Vec<&SessionId> = station.ports.iter().filter_map(|port| port.session_id.as_ref()).collect();
        self.sessions.read_running(ids, true).await
    }

    /// Starts a session: puts it, takes its port, counts it in at its station; all or nothing.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when session, port or station are not as they were decided on.
    pub async fn start(
        &self,
        (session, terms): (&Session, &SessionTerms),
        (station, port): (&Station, &Port),
        event: Event,
        trace: &Trace,
    ) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        self.sessions.insert(&mut transaction, session, terms, [event], trace)?;
        self.stations.save_port_in(&mut transaction, port, [], trace)?;
        self.stations.count_in(&mut transaction, station)?;
        transaction.commit(self.sessions.db()).await
    }

    /// Ends a session that ended well: writes it, frees its port, counts it out at its station; all or nothing.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when it is not as it was at `read_version`, or its port is another's.
    pub async fn end(
        &self,
        (session, terms): (&Session, &SessionTerms),
        read_version: u64,
        correlation_id: &str,
    ) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        self.end_session(&mut transaction, (session, terms), read_version, correlation_id)?;
        self.stations.free_port(&mut transaction, &session.station_id, &session.port_id, &session.id)?;
        self.stations.count_out(&mut transaction, &session.station_id)?;
        transaction.commit(self.sessions.db()).await
    }

    /// Ends a session with its port, which failed; all or nothing.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when either is not as it was read.
    pub async fn fail(
        &self,
        (session, terms): (&Session, &SessionTerms),
        read_version: u64,
        (port, event): (&Port, Event),
        trace: &Trace,
    ) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        self.end_session(&mut transaction, (session, terms), read_version, &trace.correlation_id)?;
        self.stations.save_port_in(&mut transaction, port, [event], trace)?;
        self.stations.count_out(&mut transaction, &session.station_id)?;
        transaction.commit(self.sessions.db()).await
    }

    /// Writes the end of a session, with its event, within `transaction`.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn end_session(
        &self,
        transaction: &mut Transaction,
        (session, terms): (&Session, &SessionTerms),
        read_version: u64,
        correlation_id: &str,
    ) -> Result<(), StoreError> {
        let now = session.ended_at.unwrap_or(session.metered_at);
        let trace = Trace { correlation_id: correlation_id.to_owned(), now };
        self.sessions.save_end(transaction, session, read_version, [session.ended_event(terms)], &trace)
    }

    /// The terms of those sessions that have a cost limit, which an advance needs.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn cost_terms(&self, sessions: &[Session]) -> Result<HashMap<SessionId, SessionTerms>, StoreError> {
        let mut terms = HashMap::new();
        for session in sessions.iter().filter(|session| session.limits.max_cost.is_some()) {
            terms.insert(session.id.clone(), self.sessions.load_terms(&session.id).await?);
        }
        Ok(terms)
    }

    /// Advances the sessions of one station to `until` and writes what became of them.
    ///
    /// Those that go on are written before those that end: a crash in between leaves the latter active, so that the
    /// next advance still knows whose share was whose. A session that somebody else changed meanwhile is skipped.
    ///
    /// # Errors
    /// When a table cannot be read or written; what has been written stays, and the next advance goes on from there.
    pub async fn advance(&self, mut sessions: Vec<Session>, until: Instant) -> Result<TickReport, StoreError> {
        let terms = self.cost_terms(&sessions).await?;
        let before: Vec<u64> = sessions.iter().map(|session| session.register().0).collect();
        let outcomes = advance_station(&mut sessions, until, |session| terms.get(&session.id));
        let mut report = TickReport { sessions: sessions.len() as u64, ..TickReport::default() };
        let mut order: Vec<usize> = (0..sessions.len()).collect();
        order.sort_by_key(|index| outcomes[*index].ended.is_some());
        for index in order {
            let (session, outcome) = (&sessions[index], outcomes[index]);
            if !outcome.skipped && self.save_advanced(session, outcome).await? {
                report.count(outcome, session.register().0 - before[index]);
            } else {
                report.skipped += 1;
            }
        }
        Ok(report)
    }

    /// Writes sessions that were advanced for the sake of another one; those that somebody else changed are skipped.
    ///
    /// # Errors
    /// When a table cannot be read or written.
    pub async fn save_others(&self, sessions: &[Session], outcomes: &[TickOutcome]) -> Result<(), StoreError> {
        for (session, outcome) in sessions.iter().zip(outcomes) {
            if !outcome.skipped {
                self.save_advanced(session, *outcome).await?;
            }
        }
        Ok(())
    }

    /// Writes an advanced session; false when somebody else changed it first.
    async fn save_advanced(&self, session: &Session, outcome: TickOutcome) -> Result<bool, StoreError> {
        let written = if outcome.ended.is_some() {
            let terms = self.sessions.load_terms(&session.id).await?;
            self.end((session, &terms), session.version - 1, &terms.correlation_id).await
        } else {
            self.sessions.save_tick(session).await
        };
        match written {
            Ok(()) => Ok(true),
            Err(error) if error.is_stale() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl TickReport {
    fn count(&mut self, outcome: TickOutcome, watt_hours: u64) {
        self.started += u64::from(outcome.began);
        self.watt_hours += watt_hours;
        match outcome.ended {
            Some(SessionStatus::Completed) => self.completed += 1,
            Some(SessionStatus::Interrupted) => self.interrupted += 1,
            Some(SessionStatus::Failed) => self.failed += 1,
            _ => {}
        }
    }
}
