use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::Instant;
use domain::charging::session::{Session, SessionStatus};
use domain::charging::site::{self, Changes};
use domain::id::{SessionId, StationId};
use domain::live::SessionProgress;
use store::{ChargingStore, EventContext, StoreError};

/// The maximum number of attempts for one station in one tick. A station that keeps changing waits for the next tick.
const ATTEMPTS: usize = 5;

/// The counts of what a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TickReport {
    /// The number of sessions read.
    pub sessions: u64,
    /// The number of sessions that changed from STARTED to `IN_PROGRESS`.
    pub started: u64,
    /// The number of sessions that reached their target or a full battery.
    pub completed: u64,
    /// The number of sessions that were ended by a limit.
    pub interrupted: u64,
    /// The number of sessions that failed.
    pub failed: u64,
    /// The number of sessions that were not advanced: they were not due or changed concurrently.
    pub skipped: u64,
    /// The metered energy, Wh.
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

/// The result of a tick at one station.
#[derive(Clone, Debug)]
pub struct Advanced {
    /// The counts of what the tick did.
    pub report: TickReport,
    /// The progress of the sessions that were advanced, including the sessions that ended.
    pub sessions: Vec<SessionProgress>,
}

/// Advances the sessions that run at a station to `until`, and commits the changes.
///
/// `sessions` comes from the index, which may be slightly out of date, and the station is not read. Therefore ends are
/// committed only if `sessions` are all that run at the station and all are unchanged. Otherwise the current station is
/// read, and the tick is decided again.
///
/// # Errors
/// Returns a [`StoreError`] when a table cannot be read or written. Changes that were written stay, and the next tick
/// continues from there.
pub async fn advance(
    charging: &ChargingStore,
    station: &StationId,
    sessions: Vec<Session>,
    until: Instant,
) -> Result<Advanced, StoreError> {
    let mut progress = Progress::new(&sessions);
    let terms = charging.cost_terms(&sessions).await?;
    let mut changes = site::tick(station, sessions, terms, until);
    for _ in 0..ATTEMPTS {
        if progress.commit(charging, &changes, until).await? {
            break;
        }
        let Some(mut site) = charging.load_site(station).await? else { break };
        progress.read(site.sessions());
        changes = site.tick(until);
    }
    Ok(progress.advanced())
}

/// The progress of a tick at one station.
#[derive(Debug, Default)]
struct Progress {
    looked_at: BTreeSet<SessionId>,
    /// The sessions that were advanced, with their progress.
    ticked: BTreeMap<SessionId, SessionProgress>,
    /// The status and the meter register (Wh) of each session as last read.
    before: HashMap<SessionId, (SessionStatus, u64)>,
    report: TickReport,
}

impl Progress {
    fn new(sessions: &[Session]) -> Self {
        let mut progress = Self::default();
        progress.looked_at.extend(sessions.iter().map(|session| session.id.clone()));
        progress.read(sessions);
        progress
    }

    fn read(&mut self, sessions: &[Session]) {
        let read = sessions.iter().map(|session| (session.id.clone(), (session.status, session.register().0)));
        self.before.extend(read);
    }

    /// Commits the changes of a tick. Returns false if the tick must be decided again on the current station.
    async fn commit(
        &mut self,
        charging: &ChargingStore,
        changes: &Changes,
        until: Instant,
    ) -> Result<bool, StoreError> {
        let stale = charging.save_advanced(&changes.advanced).await?;
        for session in changes.advanced.iter().filter(|session| !stale.contains(&session.id)) {
            self.count(session);
        }
        if changes.ended.is_empty() {
            return Ok(true);
        }
        if !stale.is_empty() {
            return Ok(false);
        }
        // The events of sessions that end by themselves carry the correlation id of the session. This id is not used.
        let context = EventContext { correlation_id: String::new(), now: until };
        match charging.commit_ends(changes, &context).await {
            Ok(()) => {}
            Err(error) if error.is_stale() => return Ok(false),
            Err(error) => return Err(error),
        }
        for session in &changes.ended {
            self.count(session);
        }
        Ok(true)
    }

    fn count(&mut self, session: &Session) {
        let (status, watt_hours) = self.before.get(&session.id).copied().unwrap_or((session.status, 0));
        self.ticked.insert(session.id.clone(), SessionProgress::of(session));
        self.report.started += u64::from(status == SessionStatus::Started);
        self.report.watt_hours += session.register().0.saturating_sub(watt_hours);
        match session.status {
            SessionStatus::Completed => self.report.completed += 1,
            SessionStatus::Interrupted => self.report.interrupted += 1,
            SessionStatus::Failed => self.report.failed += 1,
            SessionStatus::Started | SessionStatus::InProgress => {}
        }
    }

    fn advanced(mut self) -> Advanced {
        self.looked_at.extend(self.ticked.keys().cloned());
        self.report.sessions = self.looked_at.len() as u64;
        self.report.skipped = (self.looked_at.len() - self.ticked.len()) as u64;
        Advanced { report: self.report, sessions: self.ticked.into_values().collect() }
    }
}
