mod fleet_part;
mod sessions;
mod stations;

pub use fleet_part::FleetPart;
pub use sessions::{ActiveKey, LoadedSession, SessionFilter, SessionStore};
pub use stations::{LoadedStation, StationFilter, StationStore};

use aws_sdk_dynamodb::Client;
use domain::charging::session::{Session, SessionEnded, SessionTerms};
use domain::charging::site::{Changes, PortChange, Site, StartedSession, StationChange, Terms};
use domain::charging::station::PortStatus;
use domain::error::Chain;
use domain::id::{PortId, SessionId, StationId};
use futures::{StreamExt, TryStreamExt, stream};

use crate::EventContext;
use crate::dynamodb::{Db, Transaction};
use crate::error::StoreError;

/// The store of the charging context. It loads sites from the tables of stations and sessions, and commits their
/// changes.
#[derive(Clone, Debug)]
pub struct ChargingStore {
    /// Stations and their ports.
    pub stations: StationStore,
    /// Sessions.
    pub sessions: SessionStore,
}

/// The number of sessions that are read or written concurrently.
const PARALLEL_SESSIONS: usize = 8;

impl ChargingStore {
    /// Creates the store for these tables.
    #[must_use]
    pub fn new(client: Client, stations: impl Into<String>, sessions: impl Into<String>) -> Self {
        let db = Db::new(client);
        Self { stations: StationStore::new(db.clone(), stations), sessions: SessionStore::new(db, sessions) }
    }

    /// Reads a station with its ports and the sessions that are running there (consistent reads).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if a table cannot be read;
    /// [`StoreError::Corrupt`] if an item cannot be decoded.
    pub async fn load_site(&self, id: &StationId) -> Result<Option<Site>, StoreError> {
        match self.stations.load(id).await? {
            Some(loaded) => self.occupied(loaded).await.map(Some),
            None => Ok(None),
        }
    }

    /// Reads a site for a start at `port`. The running sessions are read only if `port` is occupied, because a start at
    /// a free port needs no settlement.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if a table cannot be read;
    /// [`StoreError::Corrupt`] if an item cannot be decoded.
    pub async fn load_site_for_start(&self, id: &StationId, port: &PortId) -> Result<Option<Site>, StoreError> {
        let Some(loaded) = self.stations.load(id).await? else { return Ok(None) };
        let occupied = loaded.ports.iter().any(|other| other.id == *port && other.status == PortStatus::Charging);
        if occupied {
            return self.occupied(loaded).await.map(Some);
        }
        Ok(Some(Site::new(loaded.station, loaded.ports, Vec::new(), Terms::default())))
    }

    async fn occupied(&self, LoadedStation { station, ports }: LoadedStation) -> Result<Site, StoreError> {
        let running: Vec<&SessionId> = ports.iter().filter_map(|port| port.session_id.as_ref()).collect();
        let (sessions, unreadable) = self.sessions.read_running(running).await?;
        let terms = self.cost_terms(&sessions).await?;
        Ok(Site::new(station, ports, sessions, terms).with_unreadable(unreadable))
    }

    /// Returns the terms of the sessions that have a cost limit. They are needed to settle these sessions. Terms that
    /// cannot be decoded are left out and logged as an error: the cost limit of that session is not checked, but the
    /// other sessions of the site continue.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be read.
    pub async fn cost_terms(&self, sessions: &[Session]) -> Result<Terms, StoreError> {
        let limited = sessions.iter().filter(|session| session.limits.max_cost.is_some());
        let mut terms = Terms::new();
        for (id, loaded) in self.terms(limited.map(|session| &session.id)).await {
            match loaded {
                Ok(loaded) => drop(terms.insert(id, loaded)),
                Err(error @ StoreError::Corrupt { .. }) => {
                    let error = Chain(&error);
                    tracing::error!(session.id = %id, %error, "the cost limit of a session is not checked");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(terms)
    }

    /// Writes all changes of a command at a site in one transaction. A reader therefore never sees a stopped session
    /// beside sessions that have not been metered up to the same instant.
    ///
    /// The event of a natural end carries the correlation id of the session's start. Every other event carries the
    /// correlation id of `context`.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if an item has changed since it was read; nothing is written then.
    pub async fn commit(&self, changes: &Changes, context: &EventContext) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        for session in &changes.advanced {
            self.sessions.save_tick_in(&mut transaction, session)?;
        }
        self.commit_with(transaction, changes, context).await
    }

    /// Writes the sessions that continue, each in its own write, and returns the ids of the sessions that another
    /// writer changed first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the table cannot be written.
    pub async fn save_advanced(&self, sessions: &[Session]) -> Result<Vec<SessionId>, StoreError> {
        let writes: Vec<_> = sessions.iter().map(|session| self.save_tick(session)).collect();
        let stale = stream::iter(writes).buffer_unordered(PARALLEL_SESSIONS);
        stale.try_filter_map(|stale| async move { Ok(stale) }).try_collect().await
    }

    /// Writes a session that continues, and returns its id if another writer changed it first.
    async fn save_tick(&self, session: &Session) -> Result<Option<SessionId>, StoreError> {
        match self.sessions.save_tick(session).await {
            Ok(()) => Ok(None),
            Err(error) if error.is_stale() => Ok(Some(session.id.clone())),
            Err(error) => Err(error),
        }
    }

    /// Writes the session ends of a tick in one transaction. [`ChargingStore::save_advanced`] must have written the
    /// sessions that continue before. After a crash in between, the ending sessions are still active, so the next tick
    /// still knows how the power was shared.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] if an item has changed since it was read; nothing is written then.
    pub async fn commit_ends(&self, changes: &Changes, context: &EventContext) -> Result<(), StoreError> {
        self.commit_with(Transaction::new(), changes, context).await
    }

    async fn commit_with(
        &self,
        mut transaction: Transaction,
        changes: &Changes,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        if let Some(started) = &changes.started {
            let StartedSession { session, terms, event } = started.as_ref();
            self.sessions.insert(&mut transaction, session, terms, [event.clone()], context)?;
        }
        let mut terms = changes.terms.clone();
        for (id, loaded) in self.terms(changes.without_terms()).await {
            terms.insert(id, loaded?);
        }
        let version = self.station_version(&changes.station).await?;
        for session in &changes.ended {
            let terms = terms.get(&session.id);
            let terms = terms.ok_or_else(|| StoreError::corrupt(session.id.as_str(), "its terms are missing"))?;
            self.end(&mut transaction, session, changes.end_event(session, terms, version), (terms, context))?;
        }
        for port in &changes.ports {
            match port {
                PortChange::Decided { port, failed } => {
                    self.stations.save_port_in(&mut transaction, port, failed.clone(), context)?;
                }
                PortChange::Freed { port_id, session_id } => {
                    let station = changes.ended(session_id).map(|session| &session.station_id);
                    let station = station.ok_or_else(|| StoreError::corrupt(port_id.as_str(), "nobody left it"))?;
                    self.stations.free_port(&mut transaction, station, port_id, session_id)?;
                }
            }
        }
        self.station_change(&mut transaction, &changes.station, version, context)?;
        if transaction.is_empty() {
            return Ok(());
        }
        transaction.commit(self.sessions.table().db()).await
    }

    /// Returns the version of the station after these changes, for the events of the sessions that ended. Of a station of
    /// which a tick read nothing, the version is read now.
    async fn station_version(&self, change: &StationChange) -> Result<Option<u64>, StoreError> {
        match change {
            StationChange::None | StationChange::CountedIn(_) => Ok(None),
            StationChange::Decided { station, .. } => Ok(Some(station.version)),
            StationChange::CountedOut { station_id, .. } => {
                let version = self.stations.version(station_id).await?;
                let version = version.ok_or_else(|| StoreError::ConditionFailed(station_id.to_string()))?;
                Ok(Some(version + 1))
            }
        }
    }

    fn end(
        &self,
        transaction: &mut Transaction,
        session: &Session,
        event: SessionEnded,
        (terms, context): (&SessionTerms, &EventContext),
    ) -> Result<(), StoreError> {
        let natural = session.end_reason.is_some_and(domain::charging::session::EndReason::is_natural);
        let correlation_id = if natural { &terms.correlation_id } else { &context.correlation_id };
        let now = session.ended_at.unwrap_or(session.metered_at);
        let context = EventContext { correlation_id: correlation_id.clone(), now };
        self.sessions.save_end(transaction, session, [event], &context)
    }

    fn station_change(
        &self,
        transaction: &mut Transaction,
        change: &StationChange,
        version: Option<u64>,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        match change {
            StationChange::None => Ok(()),
            StationChange::CountedIn(station) => self.stations.count_in(transaction, station),
            StationChange::CountedOut { station_id, running, left } => {
                let version = version.ok_or_else(|| StoreError::ConditionFailed(station_id.to_string()))?;
                self.stations.count_out(transaction, (station_id, version), *running, *left)
            }
            StationChange::Decided { station, event } => {
                self.stations.save_in(transaction, station, event.clone(), context)
            }
        }
    }

    async fn terms(&self, ids: impl Iterator<Item = &SessionId>) -> Vec<(SessionId, Result<SessionTerms, StoreError>)> {
        let load = |id: &SessionId| {
            let id = id.clone();
            async move { (id.clone(), self.sessions.load_terms(&id).await) }
        };
        stream::iter(ids.map(load).collect::<Vec<_>>()).buffer_unordered(PARALLEL_SESSIONS).collect().await
    }
}
