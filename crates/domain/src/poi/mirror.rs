//! How far the mirror is, what of a record is news to it, and what it lacks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::OcmSyncCompleted;
use crate::Instant;
use crate::error::DomainError;

/// Where the POIs come from, in events.
pub const SOURCE: &str = "OpenChargeMap";
/// Items that the manifest is spread over. Whoever changes it must rewrite them all.
pub const SHARDS: u32 = 64;
/// From here on ids stand for records that have none that can be read.
pub const ANONYMOUS: u32 = 1 << 31;
/// Bytes of an entry: id and hash.
const ENTRY: usize = 12;
/// Known, but not with which content: differs from every record.
const UNKNOWN: u64 = 0;
/// So many removals are never too many.
const FEW: usize = 50;
/// What a synchronisation may remove at most of the mirror, %.
const REMOVABLE_PERCENT: usize = 5;

/// Which POIs the mirror has, and a hash of the content of each.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    shards: Vec<Shard>,
}

/// A part of the manifest, as one item keeps it.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    /// Version of the item; 0 where there is none yet.
    pub version: u64,
    entries: BTreeMap<u32, u64>,
    changed: bool,
}

impl Shard {
    /// Reads what [`Shard::encode`] wrote; nothing from bytes that it did not.
    #[must_use]
    pub fn decode(version: u64, bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<ENTRY>();
        let entry = |bytes: &[u8; ENTRY]| {
            let (id, hash) = bytes.split_at(4);
            Some((u32::from_be_bytes(id.try_into().ok()?), u64::from_be_bytes(hash.try_into().ok()?)))
        };
        let entries = entries.iter().map(entry).collect::<Option<BTreeMap<u32, u64>>>()?;
        rest.is_empty().then_some(Self { version, entries, changed: false })
    }

    /// Ids and hashes, twelve bytes each.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|(id, hash)| [&id.to_be_bytes()[..], &hash.to_be_bytes()].concat()).collect()
    }
}

impl Manifest {
    /// Of its shards in their order; missing ones are empty.
    #[must_use]
    pub fn new(shards: BTreeMap<u32, Shard>) -> Self {
        let mut shards = shards;
        Self { shards: (0..SHARDS).map(|number| shards.remove(&number).unwrap_or_default()).collect() }
    }

    /// POIs in the mirror.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.entries.len()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the mirror has this content of a POI.
    #[must_use]
    pub fn has(&self, id: u32, hash: u64) -> bool {
        hash != UNKNOWN && self.shard(id).is_some_and(|shard| shard.entries.get(&id) == Some(&hash))
    }

    /// Whether the mirror has a POI, or may have it.
    #[must_use]
    pub fn contains(&self, id: u32) -> bool {
        self.shard(id).is_some_and(|shard| shard.entries.contains_key(&id))
    }

    /// Notes that the mirror has this content of a POI.
    pub fn note(&mut self, id: u32, hash: u64) {
        if let Some(shard) = self.shard_mut(id) {
            shard.changed |= shard.entries.insert(id, hash) != Some(hash);
        }
    }

    /// Notes that the mirror may have a POI, of unknown content: somebody was writing it when he died.
    pub fn suspect(&mut self, ids: &[u32]) {
        for id in ids {
            self.note(*id, UNKNOWN);
        }
    }

    /// Notes that the mirror does not have a POI.
    pub fn forget(&mut self, id: u32) {
        if let Some(shard) = self.shard_mut(id) {
            shard.changed |= shard.entries.remove(&id).is_some();
        }
    }

    /// What the mirror has above `after`, up to `last`, that is not among `seen`, which is sorted.
    #[must_use]
    pub fn missing(&self, after: u32, last: u32, seen: &[u32]) -> Vec<u32> {
        let range = after.saturating_add(1)..last.saturating_add(1);
        if range.is_empty() {
            return Vec::new();
        }
        let known = self.shards.iter().flat_map(|shard| shard.entries.range(range.clone())).map(|(id, _)| *id);
        let mut missing: Vec<u32> = known.filter(|id| seen.binary_search(id).is_err()).collect();
        missing.sort_unstable();
        missing
    }

    /// The shards that have changed since they were read or saved, with their numbers.
    pub fn changed(&self) -> impl Iterator<Item = (u32, &Shard)> {
        (0..).zip(&self.shards).filter(|(_, shard)| shard.changed)
    }

    /// Notes that a shard was saved.
    pub fn saved(&mut self, number: u32) {
        if let Some(shard) = self.shards.get_mut(number as usize) {
            shard.changed = false;
            shard.version += 1;
        }
    }

    fn shard(&self, id: u32) -> Option<&Shard> {
        self.shards.get((id % SHARDS) as usize)
    }

    fn shard_mut(&mut self, id: u32) -> Option<&mut Shard> {
        self.shards.get_mut((id % SHARDS) as usize)
    }
}

/// What the source says of itself: where it is as it was, nothing has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Of the POI that was changed last.
    pub last_modified: Option<Instant>,
    /// Of the POI that was made last.
    pub last_created: Option<Instant>,
    /// Largest id.
    pub max_id: Option<u32>,
    /// Of everything.
    pub data_hash: Option<String>,
}

/// How far the mirror is, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What was changed until then is in the mirror.
    pub checkpoint: Option<Instant>,
    /// What the source said of itself when the last synchronisation began that was completed.
    pub status: Option<SourceStatus>,
    /// The synchronisation that is under way, if one is.
    pub run: Option<Run>,
    /// Who is writing.
    pub lease: Option<Lease>,
    /// POIs that are being written, and of which the manifest does not know yet.
    #[serde(default)]
    pub pending: Vec<u32>,
    /// Hashes of the reference data, by kind.
    #[serde(default)]
    pub references: BTreeMap<String, u64>,
}

/// Says that somebody is writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Which invocation.
    pub owner: String,
    /// Until then at the latest.
    pub until: Instant,
}

/// A synchronisation, perhaps of several invocations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Records changed since then, inclusive; all of them where it is a sweep.
    pub since: Option<Instant>,
    /// What the source said of itself at its beginning.
    pub status: SourceStatus,
    /// Records up to this id are done.
    pub cursor: u32,
    /// When it began.
    pub started_at: Instant,
    /// Records looked at.
    pub processed: u64,
    /// POIs written.
    pub updated: u64,
    /// POIs removed.
    pub removed: u64,
    /// Records not understood.
    pub failed: u64,
    /// POIs that a sweep missed at the source so far. They are removed at its end, when all of them are known.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub gone: BTreeSet<u32>,
}

/// What an invocation has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Somebody else is writing.
    Busy,
    /// The source is as it was.
    Unchanged,
    /// Begin or go on with this.
    Run(Run),
}

impl Run {
    /// One that has not begun: of what was changed since a time, or a sweep.
    #[must_use]
    pub fn new(since: Option<Instant>, status: SourceStatus, started_at: Instant) -> Self {
        Self {
            since,
            status,
            cursor: 0,
            started_at,
            processed: 0,
            updated: 0,
            removed: 0,
            failed: 0,
            gone: BTreeSet::new(),
        }
    }

    /// Whether it looks at every record, and so sees what is gone.
    #[must_use]
    pub fn is_sweep(&self) -> bool {
        self.since.is_none()
    }

    /// The event that ends it.
    #[must_use]
    pub fn completed(&self, finished_at: Instant) -> OcmSyncCompleted {
        OcmSyncCompleted {
            source: SOURCE.to_owned(),
            started_at: self.started_at,
            finished_at,
            processed: self.processed,
            updated: self.updated,
            removed: self.removed,
            failed: self.failed,
        }
    }

    /// Notes which POIs a page from the cursor on lacks. What an earlier reading of the page noted does not count.
    pub fn miss(&mut self, missing: Vec<u32>) {
        let _ = self.gone.split_off(&self.cursor.saturating_add(1));
        self.gone.extend(missing);
    }

    /// Refuses to remove so many POIs that the source is more likely to be broken than right.
    ///
    /// # Errors
    /// A conflict that says how many, and how to insist.
    pub fn may_remove(&self, mirrored: usize) -> Result<(), DomainError> {
        let all = usize::try_from(self.removed).unwrap_or(usize::MAX).saturating_add(self.gone.len());
        if all <= FEW.max(mirrored * REMOVABLE_PERCENT / 100) {
            return Ok(());
        }
        Err(DomainError::conflict(format!(
            "the source lacks at least {all} of {mirrored} mirrored POIs, more than {REMOVABLE_PERCENT} %: none of them is \
             removed; if that is right, say {{\"full\": true, \"allowRemovals\": true}}"
        )))
    }
}

impl State {
    /// Whether somebody else than `owner` is writing.
    #[must_use]
    pub fn is_taken(&self, owner: &str, now: Instant) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.owner != owner && lease.until > now)
    }

    /// What to do, with what the source says of itself; `full` asks for a sweep.
    #[must_use]
    pub fn plan(&self, status: SourceStatus, full: bool, owner: &str, now: Instant) -> Plan {
        if self.is_taken(owner, now) {
            return Plan::Busy;
        }
        if let Some(run) = self.run.as_ref().filter(|run| run.is_sweep() || !full) {
            return Plan::Run(run.clone());
        }
        match self.checkpoint.filter(|_| !full) {
            None => Plan::Run(Run::new(None, status, now)),
            Some(_) if self.status.as_ref() == Some(&status) && self.pending.is_empty() => Plan::Unchanged,
            Some(checkpoint) => Plan::Run(Run::new(Some(checkpoint), status, now)),
        }
    }

    /// Notes that `run` is complete. What the source said at its beginning is in the mirror now; a time that it has
    /// not reached yet does not count, or changes until then would be passed over.
    pub fn complete(&mut self, run: &Run) {
        let reached = run.status.last_modified.map(|at| at.min(run.started_at));
        self.checkpoint = reached.or(self.checkpoint).or(Some(run.started_at - chrono::TimeDelta::days(1)));
        self.status = Some(run.status.clone());
        self.run = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(hour: i64) -> Instant {
        Instant::UNIX_EPOCH + TimeDelta::hours(500_000 + hour)
    }

    fn status(hour: i64) -> SourceStatus {
        SourceStatus { last_modified: Some(at(hour)), ..SourceStatus::default() }
    }

    #[test]
    fn what_a_shard_was_written_as_is_what_is_read() {
        let mut manifest = Manifest::new(BTreeMap::new());
        for id in (1..5000).chain([ANONYMOUS | 7]) {
            manifest.note(id, u64::from(id) << 33 | 1);
        }
        let shards = manifest.changed().map(|(number, shard)| (number, Shard::decode(3, &shard.encode())));
        let shards: Option<BTreeMap<u32, Shard>> = shards.map(|(number, shard)| Some((number, shard?))).collect();
        let read = Manifest::new(shards.unwrap_or_default());
        assert_eq!((read.len(), read.changed().count()), (5000, 0));
        assert!(read.has(4999, 4999 << 33 | 1) && !read.has(4999, 4999 << 33) && !read.has(5000, 1));
        assert!(Shard::decode(1, &[0; 13]).is_none(), "no multiple of an entry");
    }

    #[test]
    fn what_is_suspected_has_no_content_and_what_is_missing_lies_between() {
        let mut manifest = Manifest::new(BTreeMap::new());
        for id in [3, 5, 8, 13, ANONYMOUS | 1] {
            manifest.note(id, 9);
        }
        manifest.suspect(&[5, 6]);
        assert!(!manifest.has(5, 9) && !manifest.has(5, 0) && !manifest.has(6, 0));
        assert_eq!(manifest.missing(3, 8, &[8]), [5, 6]);
        assert_eq!(manifest.missing(0, ANONYMOUS - 1, &[]), [3, 5, 6, 8, 13], "what has no id is not missed");
        assert!(manifest.missing(8, 8, &[]).is_empty() && manifest.missing(9, 8, &[]).is_empty());
        manifest.forget(5);
        assert_eq!(manifest.missing(3, 8, &[]), [6, 8]);
    }

    #[test]
    fn few_removals_are_always_taken_and_many_never_without_a_word() {
        let run = |gone: u32| Run { removed: 10, gone: (1..=gone).collect(), ..Run::new(None, status(0), at(0)) };
        assert!(run(40).may_remove(60).is_ok() && run(41).may_remove(60).is_err(), "fifty, with those before");
        assert!(run(90).may_remove(2000).is_ok() && run(91).may_remove(2000).is_err(), "a twentieth");
    }

    #[test]
    fn a_page_that_is_read_again_is_missed_anew() {
        let mut run = Run::new(None, status(0), at(0));
        run.miss(vec![3, 5]);
        run.cursor = 8;
        run.miss(vec![9, 13]);
        run.miss(vec![13]);
        assert_eq!(run.gone, BTreeSet::from([3, 5, 13]), "9 came back before the page was done");
    }

    #[test]
    fn what_is_to_be_done() {
        let mut state = State::default();
        let sweep = Run::new(None, status(1), at(9));
        assert_eq!(state.plan(status(1), false, "a", at(9)), Plan::Run(sweep.clone()), "the first looks at everything");
        state.complete(&sweep);
        assert_eq!(state.plan(status(1), false, "a", at(10)), Plan::Unchanged);
        let window = Run::new(Some(at(1)), status(2), at(10));
        assert_eq!(state.plan(status(2), false, "a", at(10)), Plan::Run(window.clone()));
        assert!(matches!(state.plan(status(1), true, "a", at(10)), Plan::Run(run) if run.is_sweep()));
        state.pending = vec![1];
        assert!(matches!(state.plan(status(1), false, "a", at(10)), Plan::Run(_)), "what somebody left unfinished");
        state.run = Some(window.clone());
        assert_eq!(state.plan(status(3), false, "a", at(11)), Plan::Run(window), "what is under way goes on");
        assert!(matches!(state.plan(status(3), true, "a", at(11)), Plan::Run(run) if run.is_sweep()));
        state.lease = Some(Lease { owner: "b".to_owned(), until: at(12) });
        assert_eq!(state.plan(status(3), false, "a", at(11)), Plan::Busy);
        assert!(!state.is_taken("b", at(11)) && !state.is_taken("a", at(12)), "one's own, and one that ran out");
    }

    #[test]
    fn a_time_that_is_not_reached_yet_is_no_checkpoint() {
        let mut state = State::default();
        state.complete(&Run::new(None, status(1000), at(9)));
        assert_eq!(state.checkpoint, Some(at(9)), "or what changes until then would be passed over");
        state.complete(&Run::new(None, SourceStatus::default(), at(20)));
        assert_eq!(state.checkpoint, Some(at(9)), "the source does not say");
    }
}
