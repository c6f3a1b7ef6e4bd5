//! The progress of the mirror, what a record changes in it, and which POIs it lacks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::OcmSyncCompleted;
use crate::Instant;
use crate::error::DomainError;

/// The name of the source in events.
pub const SOURCE: &str = "OpenChargeMap";
/// The number of items over which the manifest is spread. Changing it requires rewriting all of them.
pub const SHARDS: u32 = 64;
/// Ids from this value on stand for records whose own id cannot be read.
pub const ANONYMOUS: u32 = 1 << 31;
/// Size of a manifest entry (id and hash), bytes.
const ENTRY: usize = 12;
/// Hash of a POI whose content is not known. It differs from the hash of every record.
const UNKNOWN: u64 = 0;
/// This many removals are always allowed.
const FEW: usize = 50;
/// The maximum share of the mirror that a synchronisation may remove, %.
const REMOVABLE_PERCENT: usize = 5;

/// The POIs in the mirror, with a hash of the content of each.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    shards: Vec<Shard>,
}

/// A part of the manifest that is stored as one item.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    /// Version of the item; 0 if the item does not exist yet.
    pub version: u64,
    entries: BTreeMap<u32, u64>,
    changed: bool,
}

impl Shard {
    /// Decodes the bytes that [`Shard::encode`] wrote. Returns `None` for any other bytes.
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

    /// Encodes the ids and hashes, twelve bytes per entry.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|(id, hash)| [&id.to_be_bytes()[..], &hash.to_be_bytes()].concat()).collect()
    }
}

impl Manifest {
    /// Creates a manifest from its shards by number. Missing shards are empty.
    #[must_use]
    pub fn new(shards: BTreeMap<u32, Shard>) -> Self {
        let mut shards = shards;
        Self { shards: (0..SHARDS).map(|number| shards.remove(&number).unwrap_or_default()).collect() }
    }

    /// Returns the number of POIs in the mirror.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.entries.len()).sum()
    }

    /// Returns whether the mirror has no POIs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the mirror has this POI with this content.
    #[must_use]
    pub fn has(&self, id: u32, hash: u64) -> bool {
        hash != UNKNOWN && self.shard(id).is_some_and(|shard| shard.entries.get(&id) == Some(&hash))
    }

    /// Returns whether the mirror has, or may have, this POI.
    #[must_use]
    pub fn contains(&self, id: u32) -> bool {
        self.shard(id).is_some_and(|shard| shard.entries.contains_key(&id))
    }

    /// Records that the mirror has this POI with this content.
    pub fn note(&mut self, id: u32, hash: u64) {
        if let Some(shard) = self.shard_mut(id) {
            shard.changed |= shard.entries.insert(id, hash) != Some(hash);
        }
    }

    /// Records that the mirror may have these POIs with unknown content, because an invocation died while writing them.
    pub fn suspect(&mut self, ids: &[u32]) {
        for id in ids {
            self.note(*id, UNKNOWN);
        }
    }

    /// Records that the mirror does not have this POI.
    pub fn forget(&mut self, id: u32) {
        if let Some(shard) = self.shard_mut(id) {
            shard.changed |= shard.entries.remove(&id).is_some();
        }
    }

    /// Returns the ids above `after`, up to `last`, that the mirror has and that are not in `seen`. `seen` must be
    /// sorted.
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

    /// Returns the shards that have changed since they were read or saved, with their numbers.
    pub fn changed(&self) -> impl Iterator<Item = (u32, &Shard)> {
        (0..).zip(&self.shards).filter(|(_, shard)| shard.changed)
    }

    /// Records that a shard was saved.
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

/// The state that the source reports of itself. If it is unchanged, no data has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// When the most recently changed POI was changed.
    pub last_modified: Option<Instant>,
    /// When the most recently created POI was created.
    pub last_created: Option<Instant>,
    /// The largest id.
    pub max_id: Option<u32>,
    /// Hash of all data.
    pub data_hash: Option<String>,
}

/// The progress of the mirror, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// All changes up to this time are in the mirror.
    pub checkpoint: Option<Instant>,
    /// The status of the source at the beginning of the last completed synchronisation.
    pub status: Option<SourceStatus>,
    /// The synchronisation in progress, if there is one.
    pub run: Option<Run>,
    /// The lease of the invocation that is writing.
    pub lease: Option<Lease>,
    /// Ids of the POIs that are being written and that the manifest does not have yet.
    #[serde(default)]
    pub pending: Vec<u32>,
    /// Hashes of the reference data, by kind.
    #[serde(default)]
    pub references: BTreeMap<String, u64>,
}

/// A lease: it says that an invocation is writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Id of the invocation that holds the lease.
    pub owner: String,
    /// When the lease expires.
    pub until: Instant,
}

/// A synchronisation, which may take several invocations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Only records changed at this time or later are read. `None` for a sweep, which reads all records.
    pub since: Option<Instant>,
    /// The status of the source at the beginning of the synchronisation.
    pub status: SourceStatus,
    /// All records up to this id are done.
    pub cursor: u32,
    /// When the synchronisation began.
    pub started_at: Instant,
    /// Number of records read.
    pub processed: u64,
    /// Number of POIs written.
    pub updated: u64,
    /// Number of POIs removed.
    pub removed: u64,
    /// Number of records that could not be parsed.
    pub failed: u64,
    /// Ids of the POIs that a sweep has not found at the source so far. They are removed at the end of the sweep, when
    /// all of them are known.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub gone: BTreeSet<u32>,
}

/// The work that an invocation has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Another invocation is writing.
    Busy,
    /// The source has not changed.
    Unchanged,
    /// Begin or continue this synchronisation.
    Run(Run),
}

impl Run {
    /// Creates a synchronisation that has not begun: of the records changed since a time, or a sweep of all records.
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

    /// Returns whether the synchronisation reads every record and can therefore detect removed POIs.
    #[must_use]
    pub fn is_sweep(&self) -> bool {
        self.since.is_none()
    }

    /// Returns the event of the completed synchronisation.
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

    /// Records which POIs a page that begins at the cursor lacks. Replaces what an earlier reading of the page
    /// recorded.
    pub fn miss(&mut self, missing: Vec<u32>) {
        let _ = self.gone.split_off(&self.cursor.saturating_add(1));
        self.gone.extend(missing);
    }

    /// Refuses to remove so many POIs that the source is probably broken.
    ///
    /// # Errors
    /// `Conflict`, with the number of POIs and the request that allows the removal.
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
    /// Returns whether an invocation other than `owner` is writing.
    #[must_use]
    pub fn is_taken(&self, owner: &str, now: Instant) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.owner != owner && lease.until > now)
    }

    /// Returns the work to do, given the current status of the source. `full` requests a sweep.
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

    /// Records that `run` is complete. Everything that the source reported at the beginning of the run is now in the
    /// mirror. A reported time later than the start of the run is not used as the checkpoint, because later changes up
    /// to that time would be skipped.
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
    fn decoding_an_encoded_shard_gives_the_same_shard() {
        let mut manifest = Manifest::new(BTreeMap::new());
        for id in (1..5000).chain([ANONYMOUS | 7]) {
            manifest.note(id, u64::from(id) << 33 | 1);
        }
        let shards = manifest.changed().map(|(number, shard)| (number, Shard::decode(3, &shard.encode())));
        let shards: Option<BTreeMap<u32, Shard>> = shards.map(|(number, shard)| Some((number, shard?))).collect();
        let read = Manifest::new(shards.unwrap_or_default());
        assert_eq!((read.len(), read.changed().count()), (5000, 0));
        assert!(read.has(4999, 4999 << 33 | 1) && !read.has(4999, 4999 << 33) && !read.has(5000, 1));
        assert!(Shard::decode(1, &[0; 13]).is_none(), "the length is not a multiple of an entry");
    }

    #[test]
    fn suspected_pois_match_no_content_and_missing_pois_lie_in_the_range() {
        let mut manifest = Manifest::new(BTreeMap::new());
        for id in [3, 5, 8, 13, ANONYMOUS | 1] {
            manifest.note(id, 9);
        }
        manifest.suspect(&[5, 6]);
        assert!(!manifest.has(5, 9) && !manifest.has(5, 0) && !manifest.has(6, 0));
        assert_eq!(manifest.missing(3, 8, &[8]), [5, 6]);
        assert_eq!(manifest.missing(0, ANONYMOUS - 1, &[]), [3, 5, 6, 8, 13], "records without an id are not missing");
        assert!(manifest.missing(8, 8, &[]).is_empty() && manifest.missing(9, 8, &[]).is_empty());
        manifest.forget(5);
        assert_eq!(manifest.missing(3, 8, &[]), [6, 8]);
    }

    #[test]
    fn few_removals_are_always_allowed_and_many_are_refused() {
        let run = |gone: u32| Run { removed: 10, gone: (1..=gone).collect(), ..Run::new(None, status(0), at(0)) };
        assert!(run(40).may_remove(60).is_ok() && run(41).may_remove(60).is_err(), "fifty, including earlier removals");
        assert!(run(90).may_remove(2000).is_ok() && run(91).may_remove(2000).is_err(), "five percent");
    }

    #[test]
    fn reading_a_page_again_replaces_its_missing_pois() {
        let mut run = Run::new(None, status(0), at(0));
        run.miss(vec![3, 5]);
        run.cursor = 8;
        run.miss(vec![9, 13]);
        run.miss(vec![13]);
        assert_eq!(run.gone, BTreeSet::from([3, 5, 13]), "9 was found when the page was read again");
    }

    #[test]
    fn the_plan_depends_on_the_state_the_status_and_the_lease() {
        let mut state = State::default();
        let sweep = Run::new(None, status(1), at(9));
        assert_eq!(state.plan(status(1), false, "a", at(9)), Plan::Run(sweep.clone()), "the first run is a sweep");
        state.complete(&sweep);
        assert_eq!(state.plan(status(1), false, "a", at(10)), Plan::Unchanged);
        let window = Run::new(Some(at(1)), status(2), at(10));
        assert_eq!(state.plan(status(2), false, "a", at(10)), Plan::Run(window.clone()));
        assert!(matches!(state.plan(status(1), true, "a", at(10)), Plan::Run(run) if run.is_sweep()));
        state.pending = vec![1];
        assert!(matches!(state.plan(status(1), false, "a", at(10)), Plan::Run(_)), "an invocation left pending POIs");
        state.run = Some(window.clone());
        assert_eq!(state.plan(status(3), false, "a", at(11)), Plan::Run(window), "a run in progress continues");
        assert!(matches!(state.plan(status(3), true, "a", at(11)), Plan::Run(run) if run.is_sweep()));
        state.lease = Some(Lease { owner: "b".to_owned(), until: at(12) });
        assert_eq!(state.plan(status(3), false, "a", at(11)), Plan::Busy);
        assert!(!state.is_taken("b", at(11)) && !state.is_taken("a", at(12)), "an own lease and an expired lease");
    }

    #[test]
    fn a_time_in_the_future_does_not_become_the_checkpoint() {
        let mut state = State::default();
        state.complete(&Run::new(None, status(1000), at(9)));
        assert_eq!(state.checkpoint, Some(at(9)), "later changes up to that time would be skipped");
        state.complete(&Run::new(None, SourceStatus::default(), at(20)));
        assert_eq!(state.checkpoint, Some(at(9)), "the source reports no time");
    }
}
