mod fleet_part;
mod sessions;
mod stations;

pub use fleet_part::FleetPart;
pub use sessions::{ActiveKey, LoadedSession, SessionFilter, SessionStore};
pub use stations::{LoadedStation, StationFilter, StationStore};

use aws_sdk_dynamodb::Client;
use domain::charging::session::{Session, SessionTerms};
use domain::charging::site::{Changes, PortChange, Site, StartedSession, StationChange, Terms};
use domain::charging::station::PortStatus;
use domain::id::{PortId, SessionId, StationId};
use futures::{StreamExt, TryStreamExt, stream};

use crate::EventContext;
use crate::dynamodb::{Db, Transaction};
use crate::error::StoreError;

/// The charging context: sites are loaded from, and their changes committed to, the tables of stations and sessions.
#[derive(Clone, Debug)]
pub struct ChargingStore {
    /// Stations and their ports.
    pub stations: StationStore,
    /// Sessions.
    pub sessions: SessionStore,
}

/// Sessions of one site that are written at the same time.
const PARALLEL_SESSIONS: usize = 8;

impl ChargingStore {
    /// Over these tables, by this client.
    #[must_use]
    pub fn new(client: Client, stations: impl Into<String>, sessions: impl Into<String>) -> Self {
        let db = Db::new(client);
        Self { stations: StationStore::new(db.clone(), stations), sessions: SessionStore::new(db, sessions) }
    }

    /// Reads a station with its ports and the sessions that run there, as they are now.
    ///
    /// # Errors
    /// When a table cannot be read or an item not understood.
    pub async fn load_site(&self, id: &StationId) -> Result<Option<Site>, StoreError> {
        match self.stations.load(id).await? {
            Some(loaded) => self.occupied(loaded).await.map(Some),
            None => Ok(None),
        }
    }

    /// Reads a site for a start at `port`. The sessions that run there are read only where `port` is occupied: a start at
    /// a free port settles nobody.
    ///
    /// # Errors
    /// When a table cannot be read or an item not understood.
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
        let sessions = self.sessions.read_running(running).await?;
        let terms = self.cost_terms(&sessions).await?;
        Ok(Site::new(station, ports, sessions, terms))
    }

    /// The terms of those sessions that have a cost limit, which settling them needs. Terms that are not understood are
    /// left out with an error in the log: that limit is not judged, and the others at the site go on.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn cost_terms(&self, sessions: &[Session]) -> Result<Terms, StoreError> {
        let limited = sessions.iter().filter(|session| session.limits.max_cost.is_some());
        let mut terms = Terms::new();
        for (id, loaded) in self.terms(limited.map(|session| &session.id)).await {
            match loaded {
                Ok(loaded) => drop(terms.insert(id, loaded)),
                Err(error @ StoreError::Corrupt { .. }) => {
                    tracing::error!(session.id = %id, %error, "the cost limit of a session is not judged");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(terms)
    }

    /// Writes all that a command changed at a site in one transaction, so that nobody sees one session stopped and its
    /// neighbours not yet metered up to that instant.
    ///
    /// Natural ends carry the correlation id of their session's start, everything else that of `context`.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when an item is not as it was decided on; then nothing was written.
    pub async fn commit(&self, changes: &Changes, context: &EventContext) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        for session in &changes.advanced {
            self.sessions.save_tick_in(&mut transaction, session)?;
        }
        self.commit_with(transaction, changes, context).await
    }

    /// Writes sessions that go on, each by itself, and answers those that somebody else changed first.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn save_advanced(&self, sessions: &[Session]) -> Result<Vec<SessionId>, StoreError> {
        let writes: Vec<_> = sessions.iter().map(|session| self.save_tick(session)).collect();
        let stale = stream::iter(writes).buffer_unordered(PARALLEL_SESSIONS);
        stale.try_filter_map(|stale| async move { Ok(stale) }).try_collect().await
    }

    /// Writes a session that goes on, and answers its id if somebody else changed it first.
    async fn save_tick(&self, session: &Session) -> Result<Option<SessionId>, StoreError> {
        match self.sessions.save_tick(session).await {
            Ok(()) => Ok(None),
            Err(error) if error.is_stale() => Ok(Some(session.id.clone())),
            Err(error) => Err(error),
        }
    }

    /// Writes the ends of a tick in one transaction, after [`ChargingStore::save_advanced`] has written the sessions that
    /// go on. A crash in between leaves those that end active, so that the next tick still knows whose share was whose.
    ///
    /// # Errors
    /// [`StoreError::ConditionFailed`] when an item is not as it was decided on; then nothing was written.
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
        for session in &changes.ended {
            let terms = terms.get(&session.id);
            let terms = terms.ok_or_else(|| StoreError::corrupt(session.id.as_str(), "its terms are missing"))?;
            self.end(&mut transaction, session, terms, context)?;
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
        self.station_change(&mut transaction, &changes.station, context)?;
        if transaction.is_empty() {
            return Ok(());
        }
        transaction.commit(self.sessions.table().db()).await
    }

    fn end(
        &self,
        transaction: &mut Transaction,
        session: &Session,
        terms: &SessionTerms,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        let natural = session.end_reason.is_some_and(domain::charging::session::EndReason::is_natural);
        let correlation_id = if natural { &terms.correlation_id } else { &context.correlation_id };
        let now = session.ended_at.unwrap_or(session.metered_at);
        let context = EventContext { correlation_id: correlation_id.clone(), now };
        self.sessions.save_end(transaction, session, [session.ended_event(terms)], &context)
    }

    fn station_change(
        &self,
        transaction: &mut Transaction,
        change: &StationChange,
        context: &EventContext,
    ) -> Result<(), StoreError> {
        match change {
            StationChange::None => Ok(()),
            StationChange::CountedIn(station) => self.stations.count_in(transaction, station),
            StationChange::CountedOut { station_id, running, left } => {
                self.stations.count_out(transaction, station_id, *running, *left)
            }
            StationChange::Decided { station, status_changed } => {
                self.stations.save_in(transaction, station, status_changed.clone(), context)
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
