use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};

use crate::broker::{Broker, Identity, Line, LineEvent};
use crate::station::SwapStation;

/// The id of the station in whose name messages are forged.
pub const SOMEBODY_ELSE: &str = "somebody-else";
/// The maximum delay before the first attempt to reconnect. It doubles with each attempt up to `LONGEST_BACKOFF`.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// How long the broker may take for the last acknowledgements, or for closing a connection that publishes a forbidden
/// message.
const PATIENCE: Duration = Duration::from_secs(10);
/// The maximum number of unacknowledged messages on a connection. It is so low that publishing never blocks.
const WINDOW: usize = 50;
/// The maximum number of messages that are kept while the broker is unreachable. Beyond it the oldest are lost, as in a
/// real device.
const BUFFER: usize = 10_000;

/// The schedule of a fleet.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The interval between two messages of a station.
    pub interval: Duration,
    /// How long the fleet reports. Without it the fleet reports until it is stopped.
    pub duration: Option<Duration>,
    /// The factor by which batteries are swapped and charged faster than in real time.
    pub speed: f64,
}

/// The faults of a fleet, each as a share of the messages, 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Messages that are held back for some intervals.
    pub late: f64,
    /// Messages that are sent twice.
    pub duplicate: f64,
    /// Messages that are followed by an invalid one.
    pub malformed: f64,
    /// Messages that are followed by one on the topic of another station.
    pub foreign: f64,
}

/// The progress of a fleet, for display.
#[derive(Debug, Default)]
pub struct Progress {
    /// The number of messages that the broker acknowledged.
    pub acknowledged: AtomicU64,
    /// The number of connected stations.
    pub connected: AtomicU64,
    /// The number of connections that broke unintentionally.
    pub reconnects: AtomicU64,
    /// The number of faults that were made.
    pub faults: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Tells the stations to stop reporting.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The messages of a station that the broker acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The id of the station.
    pub station: String,
    /// The valid messages, each once even if it was sent twice.
    pub valid: Vec<String>,
    /// The malformed messages.
    pub malformed: Vec<String>,
    /// The number of valid messages that were sent twice.
    pub duplicates: usize,
    /// The number of valid messages that were sent late.
    pub late: usize,
    /// The number of messages that were sent to the topic of another station.
    pub foreign: usize,
    /// The number of those that the broker accepted. It must be zero.
    pub foreign_taken: usize,
    /// The number of messages that were never acknowledged.
    pub lost: usize,
}

/// A message that a device is sending.
#[derive(Clone, Debug)]
struct Outgoing {
    payload: Vec<u8>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Valid,
    Late,
    Duplicate,
    Malformed,
}

/// A simulated station with its connection.
#[derive(Debug)]
pub struct Device {
    identity: Identity,
    broker: Broker,
    station: SwapStation,
    faults: Faults,
    rng: StdRng,
    /// Messages that are still to be published.
    waiting: VecDeque<Outgoing>,
    /// Messages that were published but have no packet id yet, in order.
    handed_over: VecDeque<Outgoing>,
    /// Messages that were sent but not acknowledged, by packet id.
    in_flight: BTreeMap<u16, Outgoing>,
    /// Messages that are held back, each with the tick at which it is sent.
    held: Vec<(u64, Outgoing)>,
    report: Report,
}

impl Device {
    /// Creates the device with this identity. The seed determines its station and its faults.
    #[must_use]
    pub fn new(identity: Identity, broker: Broker, faults: Faults, seed: u64) -> Self {
        let report = Report { station: identity.thing.clone(), ..Report::default() };
        Self {
            station: SwapStation::new(identity.thing.clone(), seed),
            identity,
            broker,
            faults,
            rng: StdRng::seed_from_u64(seed ^ 0x00FA_017E),
            waiting: VecDeque::new(),
            handed_over: VecDeque::new(),
            in_flight: BTreeMap::new(),
            held: Vec::new(),
            report,
        }
    }

    /// Reports until the schedule ends or the fleet is stopped, and waits for the last acknowledgements. `clock` is the
    /// clock of the device.
    ///
    /// # Errors
    /// When the certificate or the key cannot be parsed.
    pub async fn run(
        mut self,
        schedule: Schedule,
        progress: Arc<Progress>,
        clock: fn() -> DateTime<Utc>,
    ) -> Result<Report> {
        let end = schedule.duration.map(|duration| Instant::now() + duration);
        let mut ticks = tokio::time::interval(schedule.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut tick = 0_u64;
        let mut give_up = None;
        let mut failures = 0_u32;
        loop {
            let mut line =
                self.broker.dial(&self.identity.thing, &self.identity.certificate, &self.identity.private_key)?;
            let mut connected = false;
            let broken = loop {
                let over = progress.stop.load(Ordering::Relaxed) || end.is_some_and(|end| Instant::now() >= end);
                if over && give_up.is_none() {
                    give_up = Some(Instant::now() + PATIENCE);
                    let held = std::mem::take(&mut self.held);
                    self.waiting.extend(held.into_iter().map(|(_, message)| message));
                }
                if connected {
                    self.hand_over(&line).await?;
                }
                if give_up.is_some_and(|at| self.is_idle() || Instant::now() >= at) {
                    if connected {
                        progress.connected.fetch_sub(1, Ordering::Relaxed);
                    }
                    line.hang_up().await;
                    return Ok(self.finish());
                }
                tokio::select! {
                    event = line.next() => match event {
                        LineEvent::Connected => {
                            connected = true;
                            failures = 0;
                            Progress::count(&progress.connected);
                        }
                        LineEvent::Sent(id) => {
                            if let Some(message) = self.handed_over.pop_front() {
                                self.in_flight.insert(id, message);
                            }
                        }
                        LineEvent::Acknowledged(id) => self.acknowledged(id, &progress),
                        LineEvent::Received(..) => {}
                        LineEvent::Broken(reason) => break reason,
                    },
                    _ = ticks.tick() => {
                        if give_up.is_none() {
                            tick += 1;
                            let foreign = self.tick(tick, schedule, &progress, clock());
                            if foreign && connected {
                                progress.connected.fetch_sub(1, Ordering::Relaxed);
                                connected = false;
                                line.hang_up().await;
                                self.trespass(clock()).await?;
                                break String::new();
                            }
                        }
                    }
                }
            };
            if connected {
                progress.connected.fetch_sub(1, Ordering::Relaxed);
            }
            self.take_back();
            if !broken.is_empty() {
                tracing::debug!(station = self.identity.thing, broken, "the connection broke");
                Progress::count(&progress.reconnects);
                tokio::time::sleep(self.backoff(failures)).await;
                failures += 1;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.handed_over.is_empty() && self.in_flight.is_empty()
    }

    /// Returns a delay with full jitter, between zero and the doubled delay, so that a fleet does not reconnect at
    /// once.
    fn backoff(&mut self, failures: u32) -> Duration {
        let longest = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_BACKOFF);
        longest.mul_f64(self.rng.random())
    }

    /// Simulates one interval: the report of the station, and its faults. Returns whether the device must publish to
    /// the topic of another station.
    fn tick(&mut self, tick: u64, schedule: Schedule, progress: &Progress, now: DateTime<Utc>) -> bool {
        self.station.advance(schedule.interval.mul_f64(schedule.speed), now);
        let due = self.held.extract_if(.., |(at, _)| *at <= tick).map(|(_, message)| message);
        self.waiting.extend(due);
        let reading = self.station.reading(now);
        let message = |kind, value: &Value| Outgoing { payload: value.to_string().into_bytes(), kind };
        if self.goes_wrong(self.faults.late, progress) {
            let at = tick + self.rng.random_range(2..6);
            self.held.push((at, message(Kind::Late, &reading)));
        } else {
            self.waiting.push_back(message(Kind::Valid, &reading));
            if self.goes_wrong(self.faults.duplicate, progress) {
                self.waiting.push_back(message(Kind::Duplicate, &reading));
            }
        }
        if self.goes_wrong(self.faults.malformed, progress) {
            let payload = self.malformed(&reading).into_bytes();
            self.waiting.push_back(Outgoing { payload, kind: Kind::Malformed });
        }
        while self.waiting.len() > BUFFER {
            self.waiting.pop_front();
            self.report.lost += 1;
        }
        self.goes_wrong(self.faults.foreign, progress)
    }

    fn goes_wrong(&mut self, share: f64, progress: &Progress) -> bool {
        let wrong = share > 0.0 && self.rng.random::<f64>() < share;
        if wrong {
            Progress::count(&progress.faults);
        }
        wrong
    }

    fn malformed(&mut self, reading: &Value) -> String {
        let mut message = reading.clone();
        match self.rng.random_range(0..6) {
            0 => return message.to_string()[..20].to_owned(),
            1 => message["humidity"] = json!(420),
            2 => message["status"] = json!("on fire"),
            3 => message["timestamp"] = json!("2099-01-01T00:00:00Z"),
            4 => message["station_id"] = json!(SOMEBODY_ELSE),
            _ => drop(message.as_object_mut().map(|fields| fields.remove("battery_available"))),
        }
        message.to_string()
    }

    /// Publishes waiting messages.
    async fn hand_over(&mut self, line: &Line) -> Result<()> {
        let topic = format!("ev/station/{}/telemetry", self.identity.thing);
        while self.handed_over.len() + self.in_flight.len() < WINDOW {
            let Some(message) = self.waiting.pop_front() else { break };
            let payload = message.payload.clone();
            self.handed_over.push_back(message);
            if line.publish(&topic, payload).await.is_err() {
                // The connection itself reports that it broke.
                break;
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, id: u16, progress: &Progress) {
        let Some(message) = self.in_flight.remove(&id) else { return };
        Progress::count(&progress.acknowledged);
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        match message.kind {
            Kind::Valid => self.report.valid.push(text),
            Kind::Late => {
                self.report.late += 1;
                self.report.valid.push(text);
            }
            Kind::Duplicate => self.report.duplicates += 1,
            Kind::Malformed => self.report.malformed.push(text),
        }
    }

    /// Puts the messages that were not acknowledged before a connection broke back into the queue, in order.
    fn take_back(&mut self) {
        let mut again: VecDeque<Outgoing> = std::mem::take(&mut self.in_flight).into_values().collect();
        again.append(&mut self.handed_over);
        again.append(&mut self.waiting);
        self.waiting = again;
    }

    /// Publishes to the topic of another station on a separate connection. The broker must close the connection.
    async fn trespass(&mut self, now: DateTime<Utc>) -> Result<()> {
        self.report.foreign += 1;
        let mut line =
            self.broker.dial(&self.identity.thing, &self.identity.certificate, &self.identity.private_key)?;
        let mut reading = self.station.reading(now);
        reading["station_id"] = json!(SOMEBODY_ELSE);
        line.publish(&format!("ev/station/{SOMEBODY_ELSE}/telemetry"), reading.to_string()).await?;
        let until_it_ends = async {
            loop {
                match line.next().await {
                    LineEvent::Acknowledged(_) => return true,
                    LineEvent::Broken(_) => return false,
                    _ => {}
                }
            }
        };
        let taken = tokio::time::timeout(PATIENCE, until_it_ends).await.unwrap_or(false);
        self.report.foreign_taken += usize::from(taken);
        Ok(())
    }

    fn finish(mut self) -> Report {
        self.report.lost += self.waiting.len() + self.handed_over.len() + self.in_flight.len();
        self.report
    }
}
