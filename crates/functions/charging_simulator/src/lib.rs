//! Advances every active charging session by the charging model, and ends those that reached their end.

mod queue;
mod site;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DurationRound, TimeDelta};
use domain::Instant;
use domain::id::StationId;
use domain::session::Session;
use futures::{StreamExt, TryStreamExt, stream};
use lambda_kit::{Answer, Context, Failure, Function, Request, Trigger, drive_sqs, validate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use site::TickReport;
use store::{ActiveKey, ChargingStore};

pub use queue::ShardQueue;

/// Stations advanced at the same time.
const PARALLEL_STATIONS: usize = 64;
/// Index shards read at the same time.
const PARALLEL_SHARDS: usize = 16;
/// Kept back from the invocation's time for what is under way and the answer.
const RESERVE: Duration = Duration::from_secs(3);

/// A tick: advance what is active to an instant.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tick {
    /// The instant, now unless it is said. It may lie in the future: simulated time for demos and tests.
    #[serde(default)]
    pub tick_at: Option<Instant>,
    /// Only these stations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub station_ids: Option<Vec<StationId>>,
    /// Only this shard of the active index: a part of a tick that was handed on to the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1023))]
    pub shard: Option<u32>,
}

/// What a tick did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TickAnswer {
    /// The instant that was advanced to.
    pub tick_at: Instant,
    /// Stations with active sessions.
    pub stations: u64,
    /// Active sessions.
    pub sessions: u64,
    /// Went from STARTED to `IN_PROGRESS`.
    pub started: u64,
    /// Ended at their target, or full.
    pub completed: u64,
    /// Ended by a limit.
    pub interrupted: u64,
    /// Failed.
    pub failed: u64,
    /// Energy metered by this tick, kWh.
    pub energy_kwh: f64,
    /// Sessions left alone: not due, changed by somebody else meanwhile, or out of time.
    pub skipped: u64,
    /// Shards handed on to the queue instead of being worked inline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispatched_shards: Option<u32>,
}

/// The function.
#[derive(Debug)]
pub struct ChargingSimulator {
    charging: ChargingStore,
    queue: Option<ShardQueue>,
    inline_sessions: usize,
}

impl Function for ChargingSimulator {
    const NAME: &'static str = "charging_simulator";
    const DEFAULT_ACTION: Option<&'static str> = Some("tick");

    async fn handle(&self, request: Request) -> Result<Answer, Failure> {
        match request.action.as_str() {
            "tick" => Answer::ok(self.tick(&request.command()?, &request.context).await?),
            _ => Err(request.unknown_action(&["tick"])),
        }
    }

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        match trigger {
            Trigger::Event(event) => {
                let tick = Tick { tick_at: Some(event.time.unwrap_or(context.now)), ..Tick::default() };
                Ok(Answer::ok(self.tick(&tick, &context).await?)?.body)
            }
            Trigger::Sqs(batch) => {
                let redelivery = self.queue.as_ref().map(ShardQueue::redelivery);
                drive_sqs(batch, 1, redelivery, async |message| {
                    let body = message.body.as_deref().unwrap_or_default();
                    let body =
                        serde_json::from_str(body).map_err(|error| Failure::invalid("body", error.to_string()))?;
                    self.tick(&validate::<Tick>(&body)?, &context).await.map(|_| ())
                })
                .await
            }
            Trigger::Stream(_) | Trigger::Iot(_) => {
                Err(Failure::invalid("payload", "must be a scheduled event or a batch of the shards' queue"))
            }
        }
    }
}

impl ChargingSimulator {
    /// Over these tables. Above `inline_sessions` active sessions a tick is handed on to `queue`, shard by shard.
    #[must_use]
    pub fn new(charging: ChargingStore, queue: Option<ShardQueue>, inline_sessions: usize) -> Self {
        Self { charging, queue, inline_sessions }
    }

    /// Advances what is active.
    ///
    /// # Errors
    /// Unavailable or internal when a table or the queue could not be used; what was written stays, and the same tick
    /// again goes on from there.
    pub async fn tick(&self, tick: &Tick, context: &Context) -> Result<TickAnswer, Failure> {
        // Whole milliseconds are what is stored: a finer instant would be later than itself once it is read back.
        let at = tick.tick_at.unwrap_or(context.now);
        let at = at.duration_trunc(TimeDelta::milliseconds(1)).unwrap_or(at);
        let keys = self.active(tick).await?;
        let handed_on = tick.shard.is_none() && tick.station_ids.is_none() && keys.len() > self.inline_sessions;
        if let (true, Some(queue)) = (handed_on, &self.queue) {
            let shards = self.charging.sessions.shards();
            queue.hand_on(at, shards).await?;
            return Ok(TickAnswer { dispatched_shards: Some(shards), ..answer(at, 0, &TickReport::default()) });
        }
        let sessions = self.charging.sessions.read_active(&keys).await?;
        let mut stations: BTreeMap<StationId, Vec<Session>> = BTreeMap::new();
        for session in sessions {
            stations.entry(session.station_id.clone()).or_default().push(session);
        }
        let count = stations.len() as u64;
        let report = self.advance(stations, at, context.time_left()).await?;
        metrics::counter!("SessionsTicked").increment(report.sessions - report.skipped);
        metrics::counter!("WattHoursMetered").increment(report.watt_hours);
        Ok(answer(at, count, &report))
    }

    async fn active(&self, tick: &Tick) -> Result<Vec<ActiveKey>, Failure> {
        let sessions = &self.charging.sessions;
        if let Some(stations) = &tick.station_ids {
            let found =
                stream::iter(stations.clone()).map(|station| async move { sessions.active_at_station(&station).await });
            return Ok(found.buffer_unordered(PARALLEL_SHARDS).try_concat().await?);
        }
        let shards = match tick.shard {
            Some(shard) => shard..shard + 1,
            None => 0..sessions.shards(),
        };
        let found = stream::iter(shards).map(|shard| sessions.active_in_shard(shard));
        Ok(found.buffer_unordered(PARALLEL_SHARDS).try_concat().await?)
    }

    /// Advances the stations side by side until the time is up; those not begun by then wait for the next tick.
    async fn advance(
        &self,
        stations: BTreeMap<StationId, Vec<Session>>,
        at: Instant,
        time_left: Duration,
    ) -> Result<TickReport, Failure> {
        let total: u64 = stations.values().map(|sessions| sessions.len() as u64).sum();
        let results: Vec<Result<TickReport, Failure>> = stream::iter(stations)
            .take_until(tokio::time::sleep(time_left.saturating_sub(RESERVE)))
            .map(|(station, sessions)| async move {
                site::advance(&self.charging, &station, sessions, at).await.map_err(|error| {
                    tracing::error!(station.id = %station, %error, "a station was not advanced");
                    Failure::from(error)
                })
            })
            .buffer_unordered(PARALLEL_STATIONS)
            .collect()
            .await;
        let mut report = TickReport::default();
        let mut failure = None;
        for result in results {
            match result {
                Ok(station) => report += station,
                Err(error) => failure = Some(error),
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        report.skipped += total - report.sessions;
        report.sessions = total;
        Ok(report)
    }
}

#[allow(clippy::cast_precision_loss)] // watt-hours of one tick are far below 2^52
fn answer(tick_at: Instant, stations: u64, report: &TickReport) -> TickAnswer {
    TickAnswer {
        tick_at,
        stations,
        sessions: report.sessions,
        started: report.started,
        completed: report.completed,
        interrupted: report.interrupted,
        failed: report.failed,
        energy_kwh: report.watt_hours as f64 / 1000.0,
        skipped: report.skipped,
        dispatched_shards: None,
    }
}
