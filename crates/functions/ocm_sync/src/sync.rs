//! The work of one invocation on a synchronisation.
//!
//! An invocation may die at any point, because it writes in this order:
//!
//! 1. the state, with the ids of the POIs that are about to be written as pending;
//! 2. the POIs;
//! 3. the manifest, which records what was written;
//! 4. the state again, without the pending ids and with the cursor advanced.
//!
//! A sweep removes POIs that are gone from the source at its end, when it knows whether there are too many of them.
//! If the source has nothing new, nothing is written, not even a lease.

use std::mem;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use domain::error::{Chain, DomainError};
use domain::event::Event;
use domain::poi::mirror::{ANONYMOUS, Lease, Manifest, Plan, Run, SourceStatus, State};
use domain::poi::{Poi, Record, RecordError, id_of, reference};
use futures::{StreamExt, TryStreamExt, stream};
use lambda_kit::{Context, Failure};
use schemars::JsonSchema;
use serde::Serialize;
use store::{LoadedState, PoiStore, StoreError};
use tokio::time::{Instant, sleep, timeout_at};
use xxhash_rust::xxh3::xxh3_64;

use crate::elements::Elements;
use crate::source::{Source, SourceError};
use crate::{SyncAnswer, Synchronise};

/// The number of POIs that are recorded as pending, written, and recorded in the manifest together.
const CHUNK: usize = 250;
/// How many POIs are written concurrently.
const PARALLEL_WRITES: usize = 32;
/// The part of the invocation's time that is reserved for saving the progress.
const RESERVE: Duration = Duration::from_secs(15);
/// The number of bytes that are kept of a record that cannot be parsed.
const KEPT_ASIDE: usize = 8 * 1024;
/// The maximum size of an item of reference data, bytes. DynamoDB would not accept a much larger one.
const LARGEST_REFERENCE: usize = 350 * 1024;

/// The outcome of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// The mirror is up to date.
    Completed,
    /// The mirror was already up to date, and nothing was written.
    Unchanged,
    /// Time ran out. The next invocation continues.
    Interrupted,
    /// Another invocation is synchronising.
    Busy,
}

#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Refused(#[from] DomainError),
    #[error("time ran out")]
    OutOfTime,
}

/// A synchronisation in progress.
pub(crate) struct Work<'a> {
    store: &'a PoiStore,
    source: &'a Source,
    context: &'a Context,
    stop_at: Instant,
    allow_removals: bool,
    loaded: LoadedState,
    /// The state as it is stored. Changes in `loaded` are not stored yet.
    stored: State,
    manifest: Manifest,
    run: Run,
}

/// The changes from a part of a page.
#[derive(Default)]
struct News {
    pois: Vec<(Poi, u64)>,
    odd: Vec<Odd>,
    gone: Vec<u32>,
}

/// A record that cannot be parsed.
struct Odd {
    id: u32,
    hash: u64,
    record: String,
    reason: String,
}

/// The part of a page that has been read.
#[derive(Default)]
struct PageRead {
    news: News,
    seen: Vec<u32>,
    last: u32,
    processed: u64,
    failed: u64,
    disorder: Option<String>,
    scratch: Vec<u8>,
}

pub(crate) async fn synchronise(
    store: &PoiStore,
    source: &Source,
    command: &Synchronise,
    context: &Context,
) -> Result<SyncAnswer, Failure> {
    let stop_at = Instant::now() + context.time_left().saturating_sub(RESERVE);
    let loaded = store.load_state().await?;
    if loaded.state.is_taken(&context.request_id, context.now) {
        return Ok(nothing(Outcome::Busy, context));
    }
    let status = match patiently(stop_at, || source.status()).await {
        Err(SyncError::OutOfTime) => return Ok(nothing(Outcome::Interrupted, context)),
        status => status?,
    };
    let run = match loaded.state.plan(status, command.full, &context.request_id, context.now) {
        Plan::Busy => return Ok(nothing(Outcome::Busy, context)),
        Plan::Unchanged => return Ok(nothing(Outcome::Unchanged, context)),
        Plan::Run(run) => run,
    };
    let mut manifest = store.load_manifest().await?;
    manifest.suspect(&loaded.state.pending);
    let stored = loaded.state.clone();
    let allow_removals = command.allow_removals;
    let work = Work { store, source, context, stop_at, allow_removals, loaded, stored, manifest, run };
    Box::pin(work.run_to_its_end()).await
}

fn nothing(outcome: Outcome, context: &Context) -> SyncAnswer {
    let run = Run::new(None, SourceStatus::default(), context.now);
    SyncAnswer { event: run.completed(context.now), outcome }
}

impl Work<'_> {
    async fn run_to_its_end(mut self) -> Result<SyncAnswer, Failure> {
        let worked = self.work().await;
        let ended = match worked {
            Ok(()) => self.complete().await,
            Err(SyncError::OutOfTime) => {
                let rest = Some(self.run.clone());
                self.put_down(rest).await.map(|()| Outcome::Interrupted)
            }
            Err(error) => {
                // A refused run is dropped. If it were resumed, it would be refused again, and no other run could
                // start.
                let rest = (!matches!(error, SyncError::Refused(_))).then(|| self.run.clone());
                // Give the lease back, so that the next invocation need not wait for it. If that fails as well, the
                // first error is still the one to report.
                if !is_taken(&error) {
                    let _ = self.put_down(rest).await;
                }
                Err(error)
            }
        };
        match ended {
            Ok(outcome) => Ok(SyncAnswer { event: self.run.completed(self.now()), outcome }),
            Err(error) if is_taken(&error) => {
                Ok(SyncAnswer { event: self.run.completed(self.now()), outcome: Outcome::Busy })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the current time: the start of the invocation plus the time that has passed since.
    fn now(&self) -> domain::Instant {
        let left = self.stop_at.saturating_duration_since(Instant::now()) + RESERVE;
        let now = self.context.deadline - chrono::TimeDelta::from_std(left).unwrap_or_default();
        now.clamp(self.context.now, self.context.deadline)
    }

    async fn work(&mut self) -> Result<(), SyncError> {
        if self.run.is_sweep() && self.run.cursor == 0 {
            self.mirror_reference_data().await?;
        }
        let mut delays = patience();
        loop {
            match self.page().await {
                Ok(true) => return Ok(()),
                Ok(false) => delays = patience(),
                Err(SyncError::Source(error)) => pause(error, &mut delays, self.stop_at).await?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn mirror_reference_data(&mut self) -> Result<(), SyncError> {
        let source = self.source;
        let answer = patiently(self.stop_at, || source.reference_data()).await?;
        for kind in reference::KINDS {
            let Some(entries) = reference::entries(&answer, kind) else {
                tracing::warn!(kind, "the reference data lacks a kind");
                continue;
            };
            let bytes = serde_json::to_vec(&entries).map_err(SourceError::unexpected)?;
            let hash = xxh3_64(&bytes);
            if self.loaded.state.references.get(kind) == Some(&hash) {
                continue;
            }
            if bytes.len() > LARGEST_REFERENCE {
                tracing::error!(kind, bytes = bytes.len(), "the reference data is too large for an item");
                continue;
            }
            self.claim().await?;
            self.store.put_reference(kind, &entries).await?;
            self.loaded.state.references.insert(kind.to_owned(), hash);
        }
        Ok(())
    }

    /// Processes one page. Returns whether it was the last page, i.e. an empty one.
    async fn page(&mut self) -> Result<bool, SyncError> {
        let asked = timeout_at(self.stop_at, self.source.page(self.run.cursor, self.run.since)).await;
        let mut answer = asked.map_err(|_| SyncError::OutOfTime)??;
        let mut page = PageRead { last: self.run.cursor, ..PageRead::default() };
        let mut elements = Elements::default();
        loop {
            let piece = timeout_at(self.stop_at, answer.chunk()).await.map_err(|_| SyncError::OutOfTime)?;
            let Some(piece) = piece.map_err(SourceError::busy)? else { break };
            let read = elements.feed(&piece, |element| page.take(element, self.run.cursor, &self.manifest));
            read.map_err(SourceError::busy)?;
            if page.news.len() >= CHUNK {
                self.apply(mem::take(&mut page.news)).await?;
            }
        }
        elements.end().map_err(SourceError::busy)?;
        if let Some(disorder) = page.disorder {
            return Err(SourceError::unexpected(disorder).into());
        }
        let is_last = page.processed == 0;
        if !is_last && page.last == self.run.cursor {
            let reason = format!("no record above {} has an id, so there is no next page", page.last);
            return Err(SourceError::unexpected(reason).into());
        }
        if self.run.is_sweep() {
            let until = if is_last { ANONYMOUS - 1 } else { page.last };
            self.run.miss(self.manifest.missing(self.run.cursor, until, &page.seen));
            if !self.allow_removals {
                self.run.may_remove(self.manifest.len())?;
            }
        }
        self.apply(page.news).await?;
        if is_last || self.allow_removals {
            self.remove_gone().await?;
        }
        self.run.cursor = page.last;
        self.run.processed += page.processed;
        self.run.failed += page.failed;
        metrics::counter!("OcmProcessed").increment(page.processed);
        metrics::counter!("OcmFailed").increment(page.failed);
        Ok(is_last)
    }

    /// Stores a lease for this invocation, together with its run and the pending ids.
    async fn claim(&mut self) -> Result<(), SyncError> {
        let lease = Lease { owner: self.context.request_id.clone(), until: self.context.deadline };
        self.loaded.state.lease = Some(lease);
        self.loaded.state.run = Some(self.run.clone());
        self.save(None).await
    }

    async fn apply(&mut self, news: News) -> Result<(), SyncError> {
        if news.len() == 0 {
            return Ok(());
        }
        self.loaded.state.pending.extend(news.ids());
        self.claim().await?;
        let store = self.store;
        let written = stream::iter(news.pois)
            .map(|(poi, hash)| async move { Ok::<_, StoreError>((poi.summary.ocm_id, hash, store.put(&poi).await?)) });
        let written: Vec<(u32, u64, bool)> = written.buffer_unordered(PARALLEL_WRITES).try_collect().await?;
        for (id, hash, _) in written.into_iter().filter(|(_, _, written)| *written) {
            self.manifest.note(id, hash);
            self.run.updated += 1;
            metrics::counter!("OcmUpdated").increment(1);
        }
        for odd in news.odd {
            tracing::warn!(ocm.id = odd.id, reason = odd.reason, "a record is not understood and was kept aside");
            store.keep_aside(odd.id, &odd.record, &odd.reason, self.context.now).await?;
            self.manifest.note(odd.id, odd.hash);
        }
        for id in news.gone {
            store.remove(id).await?;
            self.manifest.forget(id);
            self.run.removed += 1;
            metrics::counter!("OcmRemoved").increment(1);
        }
        store.save_manifest(&mut self.manifest).await?;
        self.loaded.state.pending.clear();
        Ok(())
    }

    async fn remove_gone(&mut self) -> Result<(), SyncError> {
        // An invocation that died in this function has already removed some of them.
        let gone: Vec<u32> = self.run.gone.iter().copied().filter(|id| self.manifest.contains(*id)).collect();
        // POIs missing from this page need not be stored in the run, because a resumed run would find them again. With
        // `allowRemovals` they may be too many to store.
        self.run.miss(Vec::new());
        for chunk in gone.chunks(CHUNK) {
            self.apply(News { gone: chunk.to_vec(), ..News::default() }).await?;
            self.run.gone.retain(|id| !chunk.contains(id));
        }
        self.run.gone.clear();
        Ok(())
    }

    async fn complete(&mut self) -> Result<Outcome, SyncError> {
        if self.manifest.changed().next().is_some() {
            self.claim().await?;
            self.store.save_manifest(&mut self.manifest).await?;
        }
        let state = &mut self.loaded.state;
        state.complete(&self.run);
        state.lease = None;
        state.pending.clear();
        if *state == self.stored {
            return Ok(Outcome::Unchanged);
        }
        let event = Event::OcmSyncCompleted(self.run.completed(self.now()));
        self.save(Some(event)).await?;
        Ok(Outcome::Completed)
    }

    /// Gives the lease back, and stores the rest of the run for the next invocation.
    async fn put_down(&mut self, rest: Option<Run>) -> Result<(), SyncError> {
        self.loaded.state.lease = None;
        self.loaded.state.run = rest;
        if self.loaded.state == self.stored {
            return Ok(());
        }
        self.save(None).await
    }

    async fn save(&mut self, event: Option<Event>) -> Result<(), SyncError> {
        self.store.save_state(&mut self.loaded, event, &self.context.event_context()).await?;
        self.stored = self.loaded.state.clone();
        Ok(())
    }
}

impl News {
    fn len(&self) -> usize {
        self.pois.len() + self.odd.len() + self.gone.len()
    }

    fn ids(&self) -> impl Iterator<Item = u32> {
        let pois = self.pois.iter().map(|(poi, _)| poi.summary.ocm_id);
        pois.chain(self.odd.iter().map(|odd| odd.id)).chain(self.gone.iter().copied())
    }
}

impl PageRead {
    fn take(&mut self, element: &[u8], cursor: u32, manifest: &Manifest) {
        self.processed += 1;
        match Record::parse(element) {
            Ok(record) => {
                let id = record.id;
                self.in_order(id, cursor);
                let hash = record.hash(&mut self.scratch);
                // The source may return a record twice. The second one counts, and only it is written.
                self.news.pois.pop_if(|(poi, _)| poi.summary.ocm_id == id);
                if !manifest.has(id, hash) {
                    self.news.pois.push((record.into_poi(), hash));
                }
            }
            Err(error) => self.take_odd(element, &error, cursor, manifest),
        }
    }

    fn take_odd(&mut self, element: &[u8], error: &RecordError, cursor: u32, manifest: &Manifest) {
        self.failed += 1;
        let hash = xxh3_64(element);
        let own = id_of(element);
        if let Some(id) = own {
            self.in_order(id, cursor);
        }
        #[allow(clippy::cast_possible_truncation)] // some bits of a hash
        let id = own.unwrap_or(ANONYMOUS | hash as u32);
        if !manifest.has(id, hash) {
            let record = String::from_utf8_lossy(&element[..element.len().min(KEPT_ASIDE)]).into_owned();
            self.news.odd.push(Odd { id, hash, record, reason: error.to_string() });
        }
    }

    /// Checks that ids are in ascending order. Paging and finding removed records rely on this order, so a source that
    /// violates it cannot be mirrored.
    fn in_order(&mut self, id: u32, cursor: u32) {
        if id < self.last || id <= cursor {
            let disorder = || format!("POI {id} comes after {}: greaterthanid or sortby is not honoured", self.last);
            self.disorder.get_or_insert_with(disorder);
        }
        self.last = self.last.max(id);
        if self.seen.last() != Some(&id) {
            self.seen.push(id);
        }
    }
}

/// Returns the delays between attempts: about 0.2 s growing to 10 s, half a minute in total.
fn patience() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(7)
        .build()
}

/// Waits before the next attempt. Returns the error if another attempt cannot help or there is no time for it.
async fn pause(
    error: SourceError,
    delays: &mut impl Iterator<Item = Duration>,
    stop_at: Instant,
) -> Result<(), SyncError> {
    let Some(delay) = delays.next().and_then(|delay| error.retry_in(delay)) else { return Err(error.into()) };
    tracing::warn!(error = %Chain(&error), delay_ms = delay.as_millis(), "trying again");
    if Instant::now() + delay >= stop_at {
        return Err(SyncError::OutOfTime);
    }
    sleep(delay).await;
    Ok(())
}

async fn patiently<T, F>(stop_at: Instant, mut ask: impl FnMut() -> F) -> Result<T, SyncError>
where
    F: Future<Output = Result<T, SourceError>>,
{
    let mut delays = patience();
    loop {
        match timeout_at(stop_at, ask()).await.map_err(|_| SyncError::OutOfTime)? {
            Ok(answer) => return Ok(answer),
            Err(error) => pause(error, &mut delays, stop_at).await?,
        }
    }
}

/// Returns whether another invocation has changed what this one was about to write.
fn is_taken(error: &SyncError) -> bool {
    matches!(error, SyncError::Store(error) if error.is_stale())
}

impl From<SyncError> for Failure {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::Source(error) => error.into(),
            SyncError::Store(error) => error.into(),
            SyncError::Refused(error) => error.into(),
            SyncError::OutOfTime => Self::unavailable(error),
        }
    }
}
