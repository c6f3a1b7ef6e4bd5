//! Processes the stations of a tick: reads a few batches ahead, advances many stations concurrently, and stops in time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::Instant;
use domain::charging::session::Session;
use domain::error::Chain;
use domain::id::StationId;
use futures::{StreamExt, stream};
use lambda_kit::Failure;
use store::{ActiveKey, ChargingStore, StoreError};

use crate::budget::TimeBudget;
use crate::live::Live;
use crate::site::{self, TickReport};

/// How many stations are advanced concurrently.
const PARALLEL_STATIONS: usize = 64;
/// How many batches are read concurrently. Only these batches and the stations in progress are in memory, however large
/// the fleet is.
const PARALLEL_BATCHES: usize = 8;
/// The number of sessions in a batch, the limit of one `BatchGetItem`. A station with more sessions is a batch of its
/// own.
const BATCH: usize = 100;

/// The result of a tick.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Worked {
    /// The number of stations with active sessions.
    pub stations: u64,
    /// The counts of their sessions. Sessions for which there was no time count as skipped.
    pub report: TickReport,
}

/// The progress of the work. It is shared, because work that is abandoned when time is up has still changed something.
#[derive(Default)]
struct Progress {
    report: TickReport,
    /// The number of sessions at the stations that were advanced.
    done: u64,
    /// The number of keys whose sessions had already ended when they were read, and of stations with only such keys.
    ended: (u64, u64),
    failure: Option<Failure>,
}

/// A station with its sessions, or the reason why they could not be read.
type Read = Result<(StationId, Vec<Session>), StoreError>;

/// Advances the sessions behind `keys` to `at`, one station at a time as a whole, until time is up.
///
/// Stations that were not started by then wait for the next tick, which starts at a different station. If a station
/// fails, the others are still advanced, and one of the failures is returned.
///
/// Subscribers are told of each station by `live`.
pub(crate) async fn advance(
    charging: &ChargingStore,
    mut keys: Vec<ActiveKey>,
    at: Instant,
    time: &TimeBudget,
    live: &Live<'_>,
) -> (Worked, Option<Failure>) {
    let count = into_turns(&mut keys, at);
    let progress = Mutex::new(Progress::default());
    let work = stream::iter(batches(&keys))
        .take_while(|_| std::future::ready(time.may_begin()))
        .map(|batch| read(charging, &keys[batch], &progress))
        .buffered(PARALLEL_BATCHES)
        .flat_map(stream::iter)
        .take_while(|_| std::future::ready(time.may_begin()))
        .for_each_concurrent(PARALLEL_STATIONS, |read| advance_station(charging, read, at, &progress, live));
    // Abandoning work in progress is as harmless as a crash: every write is conditional, and the next tick continues.
    let _ = tokio::time::timeout(time.until_answer(), work).await;
    let Progress { report, done, ended, failure } = progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    let left = keys.len() as u64 - ended.0 - done;
    if left > 0 && failure.is_none() {
        // The fleet is too large for the function. The alarm on failures of the platform tells the operators.
        metrics::counter!("InternalFailures").increment(1);
        tracing::warn!(left, done, "the time was up before every station was advanced");
    }
    let worked = Worked {
        stations: count as u64 - ended.1,
        report: TickReport { sessions: report.sessions + left, skipped: report.skipped + left, ..report },
    };
    (worked, failure)
}

/// Groups the keys by station and orders the stations by their turn. Returns the number of stations.
///
/// The order starts at a different station each minute, so that the stations left over are not always the same.
fn into_turns(keys: &mut Vec<ActiveKey>, at: Instant) -> usize {
    keys.sort_unstable();
    keys.dedup();
    let stations = keys.chunk_by(same_station).count();
    let first = domain::rotation::first(at, stations);
    let before: usize = keys.chunk_by(same_station).take(first).map(<[ActiveKey]>::len).sum();
    keys.rotate_left(before);
    stations
}

/// Combines whole stations into batches, each for one read.
fn batches(keys: &[ActiveKey]) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut end = 0;
    for station in keys.chunk_by(same_station) {
        let start = end;
        end += station.len();
        match batches.last_mut().filter(|batch| end - batch.start <= BATCH) {
            Some(batch) => batch.end = end,
            None => batches.push(start..end),
        }
    }
    batches
}

fn same_station(a: &ActiveKey, b: &ActiveKey) -> bool {
    a.station_id == b.station_id
}

async fn read(charging: &ChargingStore, batch: &[ActiveKey], progress: &Mutex<Progress>) -> Vec<Read> {
    let sessions = match charging.sessions.read_active(batch).await {
        Ok(sessions) => sessions,
        Err(error) => return vec![Err(error)],
    };
    let mut found: BTreeMap<StationId, Vec<Session>> = BTreeMap::new();
    let running = sessions.len();
    for session in sessions {
        found.entry(session.station_id.clone()).or_default().push(session);
    }
    // Keep the stations in the order of their turns.
    let stations = batch.chunk_by(same_station).map(|keys| found.remove_entry(&keys[0].station_id));
    let (running_at, none_at): (Vec<_>, Vec<_>) = stations.partition(Option::is_some);
    let mut progress = lock(progress);
    progress.ended.0 += (batch.len() - running) as u64;
    progress.ended.1 += none_at.len() as u64;
    running_at.into_iter().flatten().map(Ok).collect()
}

async fn advance_station(
    charging: &ChargingStore,
    read: Read,
    at: Instant,
    progress: &Mutex<Progress>,
    live: &Live<'_>,
) {
    let (station, sessions) = match read {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "a batch of sessions was not read");
            lock(progress).failure = Some(error.into());
            return;
        }
    };
    let count = sessions.len() as u64;
    match site::advance(charging, &station, sessions, at).await {
        Ok(advanced) => {
            {
                let mut progress = lock(progress);
                progress.report += advanced.report;
                progress.done += count;
            }
            live.tell(station, at, advanced.sessions).await;
        }
        Err(error) => {
            tracing::error!(station.id = %station, error = %Chain(&error), "a station was not advanced");
            lock(progress).failure = Some(error.into());
        }
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use domain::id::SessionId;

    use super::*;

    /// Returns the keys of stations with one, two, three … sessions, in no order. The last station has more sessions
    /// than a batch.
    fn keys() -> Vec<ActiveKey> {
        let sessions = |station: usize| if station == 29 { 2 * BATCH + 1 } else { station + 1 };
        let mut keys: Vec<ActiveKey> = (0..30)
            .flat_map(|station| (0..sessions(station)).map(move |session| (station, session)))
            .map(|(station, session)| ActiveKey {
                station_id: StationId::new(format!("station-{station}")).unwrap(),
                session_id: SessionId::new(format!("session-{station}-{session}")).unwrap(),
            })
            .collect();
        keys.sort_by_key(|key| domain::id::derive(&[key.session_id.as_str()]));
        keys
    }

    #[test]
    fn batches_keep_stations_whole_and_each_station_comes_first_at_some_time() {
        let keys = keys();
        let mut all = keys.clone();
        all.sort_unstable();
        let mut firsts = BTreeSet::new();
        for minute in 0..60 {
            let mut turns = keys.clone();
            turns.extend_from_slice(&keys[..5]); // an index may show a key on two pages
            let at = Instant::from_timestamp(60 * (29_000_000 + minute), 0).unwrap();
            assert_eq!(into_turns(&mut turns, at), 30);
            let batches = batches(&turns);
            assert!(batches.iter().all(|batch| !batch.is_empty()));
            assert_eq!((batches[0].start, batches[batches.len() - 1].end), (0, keys.len()));
            assert!(batches.windows(2).all(|pair| pair[0].end == pair[1].start));
            for batch in batches {
                let stations = turns[batch.clone()].chunk_by(same_station).count();
                assert!(stations == 1 || batch.len() <= BATCH, "{batch:?} has {stations} stations");
                let next = turns.get(batch.end);
                assert!(next.is_none_or(|next| next.station_id != turns[batch.end - 1].station_id));
            }
            firsts.insert(turns[0].station_id.clone());
            turns.sort_unstable();
            assert_eq!(turns, all);
        }
        assert_eq!(firsts.len(), 30, "sixty minutes are enough for thirty stations");
    }
}
