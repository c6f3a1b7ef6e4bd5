use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::Object;
use chrono::{NaiveDate, SecondsFormat};
use domain::Instant;
use domain::error::DomainError;
use domain::id::SwapStationId;
use domain::telemetry::archive::{BatchKey, PROMPT, Place, batch_prefixes, messages_prefix};
use domain::telemetry::{Message, Reading, RejectedMessage};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::aws_error::AwsError;
use crate::dynamodb::{Page, PageRequest, resume, token};
use crate::error::StoreError;

/// The number of objects that are read or written concurrently.
const PARALLEL: usize = 16;
/// The maximum number of batches that one page of a history reads. The rest is left to the next page.
const BATCHES_A_PAGE: u64 = 400;
/// The maximum number of bytes, after decompression, that one page of a history reads: twice the size of
/// [`BATCHES_A_PAGE`] usual batches.
const BYTES_A_PAGE: u64 = 64 * MIB;
/// The maximum number of pages of keys that one page of a history lists.
const LISTS_A_PAGE: u64 = 100;
/// A page cannot end at its bounds if everything that was read overlaps the beginning of the page. It is given up at
/// this multiple of the bounds.
const GIVEN_UP_AT: u64 = 4;
/// The maximum number of compressed bytes held at the same time, unless a single batch is larger.
const BYTES_AT_ONCE: u64 = 8 * MIB;
/// The maximum size of a batch after decompression. The service's own batches have 500 messages of at most 128 KB and
/// never come near it.
const LARGEST_BATCH: u64 = 64 * MIB;
const MIB: u64 = 1024 * 1024;

/// The raw telemetry in an S3 bucket: accepted and rejected messages.
#[derive(Clone, Debug)]
pub struct Archive {
    client: Client,
    bucket: String,
    requests: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    puts: AtomicU64,
    gets: AtomicU64,
    lists: AtomicU64,
}

/// The number of requests made since the archive was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveRequests {
    /// Objects written.
    pub puts: u64,
    /// Objects read.
    pub gets: u64,
    /// Pages of keys listed.
    pub lists: u64,
}

/// The content of a history token: continue after this place.
#[derive(Serialize, Deserialize)]
struct After {
    at: Instant,
    id: Uuid,
}

/// A message of a history, before its page is known.
enum Row {
    /// A message in an object of its own. The object is read only if the message is on the page.
    Object,
    /// A message from a batch.
    Message(Value),
}

impl Archive {
    /// Creates the archive for `bucket`.
    #[must_use]
    pub fn new(client: Client, bucket: impl Into<String>) -> Self {
        Self { client, bucket: bucket.into(), requests: Arc::default() }
    }

    /// Returns the number of requests made so far.
    #[must_use]
    pub fn requests(&self) -> ArchiveRequests {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { puts, gets, lists } = &*self.requests;
        ArchiveRequests { puts: get(puts), gets: get(gets), lists: get(lists) }
    }

    /// Stores one message in an object of its own. Storing the same message again writes the same object.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the bucket cannot be written.
    pub async fn keep(&self, message: &Message) -> Result<(), StoreError> {
        self.put(&message.key(), "application/json", message.line.clone().into_bytes()).await
    }

    /// Stores the messages of a batch in one object: gzipped, one per line, in order of time. All messages must be of
    /// one UTC day. Storing the same messages again writes the same object. A message that appears twice is written
    /// once.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the bucket cannot be written.
    pub async fn keep_batch(&self, messages: &[&Message]) -> Result<(), StoreError> {
        let ordered: BTreeMap<(Instant, Uuid), &Message> =
            messages.iter().map(|message| (message.order(), *message)).collect();
        let places = ordered.values().map(|message| Place::new(message.reading.timestamp, message.id));
        let Some(key) = BatchKey::new(places) else { return Ok(()) };
        let body = pack(ordered.values().map(|message| message.line.as_str()));
        let body = body.map_err(|error| StoreError::corrupt(&key.key, error))?;
        // The content encoding is not set, because a client that decodes it automatically would return content that
        // does not match the name of the object.
        self.put(&key.key, "application/gzip", body).await
    }

    /// Stores a rejected message with the reason.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Rejected`] if the bucket cannot be written.
    pub async fn keep_rejected(&self, rejected: &RejectedMessage) -> Result<(), StoreError> {
        let key = rejected.key();
        let json = serde_json::to_vec_pretty(rejected).map_err(|error| StoreError::corrupt(&key, error))?;
        self.put(&key, "application/json", json).await
    }

    /// Returns the messages of a station on one UTC day as they were sent, each once, by their time in whole seconds.
    ///
    /// A page may be short or even empty and still have a next page: it ends when the bound of batches or bytes is
    /// reached, or when `has_time` returns false.
    ///
    /// # Errors
    /// [`StoreError::Domain`]: a validation error for a token of another list, or a conflict if the objects of the day
    /// must be restored first or too many of them overlap; [`StoreError::Unavailable`] if the bucket cannot be read in
    /// time; [`StoreError::Rejected`] if it refuses to be read.
    pub async fn history(
        &self,
        station: &SwapStationId,
        day: NaiveDate,
        page: &PageRequest,
        has_time: impl Fn() -> bool,
    ) -> Result<Page<Value>, StoreError> {
        let list = format!("telemetry {station} {day}");
        let after: Option<After> = resume(&list, page.next_token.as_deref())?;
        let after = after.map_or(Place::START, |after| Place { at: after.at, id: after.id });
        let mut rows: BTreeMap<Place, Row> = BTreeMap::new();
        for place in self.messages_after(station, day, after, page.limit + 1).await? {
            rows.insert(place, Row::Object);
        }
        let unread = self.add_batches(station, day, after, (page.limit, has_time), &mut rows).await?;
        // Rows may be missing from the first batch on that was not read.
        let unread = unread.map(|at| Place { at, id: Uuid::nil() });
        if let Some(unread) = &unread {
            rows.split_off(unread);
        }
        let rest = rows.keys().nth(page.limit).copied().map(|beyond| rows.split_off(&beyond));
        let next = match rest {
            Some(_) => rows.keys().next_back().copied(),
            None => unread,
        };
        let next_token = next.map(|Place { at, id }| token(&list, After { at, id })).transpose()?;
        Ok(Page { items: self.read_rows(station, rows).await?, next_token })
    }

    /// Returns the places of the first `limit` messages after `after` that are in objects of their own.
    async fn messages_after(
        &self,
        station: &SwapStationId,
        day: NaiveDate,
        after: Place,
        limit: usize,
    ) -> Result<Vec<Place>, StoreError> {
        let prefix = messages_prefix(station, day);
        let mut places = Vec::new();
        let mut start = (after != Place::START).then(|| after.key(station));
        while places.len() < limit {
            let keys = self.list(&prefix, start).await?;
            let Some((last, _)) = keys.last() else { break };
            start = Some(last.clone());
            // A place after `after` may have a key before it, because a batch can contain a message of the same second.
            places
                .extend(keys.iter().filter_map(|(key, _)| Place::of_key(station, key)).filter(|place| *place > after));
        }
        Ok(places)
    }

    /// Adds the messages of a station after `after` that are in batches, as far as a page of `limit` needs them.
    /// Returns the time from which on batches were not read.
    async fn add_batches(
        &self,
        station: &SwapStationId,
        day: NaiveDate,
        after: Place,
        (limit, has_time): (usize, impl Fn() -> bool),
        rows: &mut BTreeMap<Place, Row>,
    ) -> Result<Option<Instant>, StoreError> {
        let mut batches = Batches::open(self, day, after).await?;
        let (mut read, mut bytes) = (0, 0);
        loop {
            let Some(frontier) = batches.frontier(self).await? else { return Ok(None) };
            let known = rows.range(..Place { at: frontier, id: Uuid::nil() }).count();
            let is_spent = |times: u64| read >= BATCHES_A_PAGE * times || bytes >= BYTES_A_PAGE * times;
            let is_late = read > 0 && !has_time();
            // The batches at `after` are always read, so that every page makes progress.
            if known > limit || ((is_spent(1) || is_late) && frontier > after.at) {
                return Ok(Some(frontier));
            }
            if is_spent(GIVEN_UP_AT) {
                return Err(too_many(day));
            }
            if is_late {
                return Err(StoreError::unavailable(
                    day.to_string(),
                    format!("{read} batches took all the time there was"),
                ));
            }
            let chunk = batches.take(self, PARALLEL, BYTES_AT_ONCE).await?;
            read += chunk.len() as u64;
            let found = stream::iter(chunk).map(|batch| async move { self.read_batch(station, &batch.key).await });
            let found: Vec<(Vec<(Place, Value)>, u64)> = found.buffer_unordered(PARALLEL).try_collect().await?;
            bytes += found.iter().map(|(_, bytes)| bytes).sum::<u64>();
            let found = found.into_iter().flat_map(|(found, _)| found);
            rows.extend(found.filter(|(place, _)| *place > after).map(|(place, sent)| (place, Row::Message(sent))));
        }
    }

    async fn read_rows(&self, station: &SwapStationId, rows: BTreeMap<Place, Row>) -> Result<Vec<Value>, StoreError> {
        let read = stream::iter(rows).map(|(place, row)| async move {
            match row {
                Row::Message(message) => Ok(Some(message)),
                Row::Object => {
                    let key = place.key(station);
                    let Some(bytes) = self.get(&key).await? else { return Ok(None) };
                    serde_json::from_slice(&bytes).map(Some).map_err(|error| StoreError::corrupt(key, error))
                }
            }
        });
        let read: Vec<Option<Value>> = read.buffered(PARALLEL).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Returns the messages of a station in a batch, and the size of the batch after decompression.
    async fn read_batch(&self, station: &SwapStationId, key: &str) -> Result<(Vec<(Place, Value)>, u64), StoreError> {
        let Some(bytes) = self.get(key).await? else { return Ok((Vec::new(), 0)) };
        // Reads line by line, because the decompressed batch need not fit into memory.
        let mut lines = BufReader::new(GzDecoder::new(bytes.as_slice()).take(LARGEST_BATCH));
        // The service writes the lines without spaces, so most lines of other stations need not be parsed.
        let hint = format!("\"station_id\":\"{station}\"");
        let (mut found, mut unpacked, mut line) = (Vec::new(), 0, String::new());
        loop {
            line.clear();
            let read = lines.read_line(&mut line).map_err(|error| StoreError::corrupt(key, error))?;
            if read == 0 {
                return Ok((found, unpacked));
            }
            unpacked += read as u64;
            if line.contains(&hint) {
                found.extend(place_of(station, &line).map_err(|error| StoreError::corrupt(key, error))?);
            }
        }
    }

    async fn put(&self, key: &str, content_type: &str, body: Vec<u8>) -> Result<(), StoreError> {
        self.requests.puts.fetch_add(1, Ordering::Relaxed);
        let put = self.client.put_object().bucket(&self.bucket).key(key).content_type(content_type);
        put.body(ByteStream::from(body)).send().await.map_err(|error| classify(key, error))?;
        Ok(())
    }

    /// Returns the content of an object, if the object exists.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.requests.gets.fetch_add(1, Ordering::Relaxed);
        let answer = match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => return Ok(None),
            answer => answer.map_err(|error| classify(key, error))?,
        };
        let body = answer.body.collect().await.map_err(|error| StoreError::unavailable(key, error))?;
        Ok(Some(body.to_vec()))
    }

    /// Returns one page of keys in order, after `start`, with the sizes of their objects.
    async fn list(&self, prefix: &str, start: Option<String>) -> Result<Vec<(String, u64)>, StoreError> {
        self.requests.lists.fetch_add(1, Ordering::Relaxed);
        let list = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).set_start_after(start);
        let answer = list.send().await.map_err(|error| classify(prefix, error))?;
        let size = |object: &Object| object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        let objects = answer.contents.unwrap_or_default().into_iter();
        Ok(objects.filter_map(|object| Some((object.key.clone()?, size(&object)))).collect())
    }
}

/// The batches of a day that may contain messages after a place, in order of their first messages.
struct Batches {
    ahead: BTreeSet<Listed>,
    /// Prompt batches that were listed and not yet taken. More are listed when these run out.
    prompt: VecDeque<Listed>,
    prefix: String,
    start: Option<String>,
    /// Batches that end before this instant contain nothing that is needed.
    from: Instant,
    listed: bool,
    day: NaiveDate,
    lists: u64,
}

/// A batch, and the size of its object.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    batch: BatchKey,
    bytes: u64,
}

impl Batches {
    async fn open(archive: &Archive, day: NaiveDate, after: Place) -> Result<Self, StoreError> {
        let [prompt, late] = batch_prefixes(day);
        let (mut ahead, mut lists) = (BTreeSet::new(), 0);
        let mut start = None;
        loop {
            if lists >= LISTS_A_PAGE {
                return Err(too_many(day));
            }
            lists += 1;
            let keys = archive.list(&late, start).await?;
            let Some((last, _)) = keys.last() else { break };
            start = Some(last.clone());
            ahead.extend(reaching(&keys, after.at));
        }
        let start = (after != Place::START).then(|| {
            // A prompt batch that reaches `after` begins no earlier than this.
            let from = (after.at - PROMPT).to_rfc3339_opts(SecondsFormat::Secs, true);
            format!("{prompt}{from}")
        });
        let from = after.at;
        Ok(Self { ahead, prompt: VecDeque::new(), prefix: prompt, start, from, listed: false, day, lists })
    }

    async fn fill(&mut self, archive: &Archive) -> Result<(), StoreError> {
        while self.prompt.is_empty() && !self.listed {
            if self.lists >= LISTS_A_PAGE {
                return Err(too_many(self.day));
            }
            self.lists += 1;
            let keys = archive.list(&self.prefix, self.start.take()).await?;
            self.start = keys.last().map(|(key, _)| key.clone());
            self.listed = keys.is_empty();
            self.prompt.extend(reaching(&keys, self.from));
        }
        Ok(())
    }

    /// Returns when the first message of the next batch was measured.
    async fn frontier(&mut self, archive: &Archive) -> Result<Option<Instant>, StoreError> {
        self.fill(archive).await?;
        let fronts = [self.ahead.first(), self.prompt.front()];
        Ok(fronts.into_iter().flatten().map(|listed| listed.batch.first).min())
    }

    /// Takes the next batches: at most `count`, and no more once they have `bytes` bytes.
    async fn take(&mut self, archive: &Archive, count: usize, bytes: u64) -> Result<Vec<BatchKey>, StoreError> {
        let (mut taken, mut sum) = (Vec::new(), 0);
        while taken.len() < count && sum < bytes {
            self.fill(archive).await?;
            let next = match (self.ahead.first(), self.prompt.front()) {
                (Some(late), Some(prompt)) if late.batch.first <= prompt.batch.first => self.ahead.pop_first(),
                (Some(_), None) => self.ahead.pop_first(),
                _ => self.prompt.pop_front(),
            };
            let Some(next) = next else { break };
            sum += next.bytes;
            taken.push(next.batch);
        }
        Ok(taken)
    }
}

/// Returns the batches with these keys that do not end before `from`.
fn reaching(keys: &[(String, u64)], from: Instant) -> impl Iterator<Item = Listed> {
    let listed = keys.iter().filter_map(|(key, bytes)| Some(Listed { batch: BatchKey::parse(key)?, bytes: *bytes }));
    listed.filter(move |listed| listed.batch.last >= from)
}

fn too_many(day: NaiveDate) -> StoreError {
    let message = format!(
        "{day} has more batches of the whole fleet than can be searched for one station: query the archive with Athena"
    );
    DomainError::conflict(message).into()
}

/// Returns the place of a batch's line in the history of `station`, if the line is of that station.
fn place_of(station: &SwapStationId, line: &str) -> Result<Option<(Place, Value)>, serde_json::Error> {
    let sent: Value = serde_json::from_str(line)?;
    let reading: Reading = serde_json::from_value(sent.clone())?;
    if reading.station_id != *station {
        return Ok(None);
    }
    let message = Message::new(reading, &sent);
    Ok(Some((Place::new(message.reading.timestamp, message.id), sent)))
}

fn pack<'a>(lines: impl Iterator<Item = &'a str>) -> std::io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    for line in lines {
        gzip.write_all(line.as_bytes())?;
        gzip.write_all(b"\n")?;
    }
    gzip.finish()
}

const BUSY: [&str; 5] = ["SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling"];

fn classify<E>(key: &str, error: SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let is_busy = match &error {
        SdkError::ServiceError(service) => match service.err().code() {
            Some("InvalidObjectState") => {
                let message = "telemetry of that day is in cold storage: restore the day's objects first";
                return DomainError::conflict(message).into();
            }
            code => code.is_some_and(|code| BUSY.contains(&code)),
        },
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => true,
        _ => false,
    };
    let error = AwsError::from(error);
    if is_busy { StoreError::unavailable(key, error) } else { StoreError::rejected(key, error) }
}
