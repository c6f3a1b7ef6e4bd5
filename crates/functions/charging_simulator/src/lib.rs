//! The `charging_simulator` Lambda: advances all active charging sessions by the charging model, and ends those that
//! reached their target or a limit.

mod budget;
mod config;
mod live;
mod queue;
mod site;
mod work;

use chrono::{DurationRound, TimeDelta};
use domain::Instant;
use domain::id::StationId;
use futures::{StreamExt, TryStreamExt, stream};
use lambda_kit::{
    Action, Answer, Context, Failure, Function, LivePublisher, RemoteFunction, Request, Trigger, action, drive_sqs,
    validate,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{ActiveKey, ChargingStore, FleetPart, keys};

use budget::TimeBudget;
use live::Live;
use work::Worked;

pub use budget::MonotonicClock;
pub use config::Config;
pub use queue::ShardQueue;

/// How many stations are looked up concurrently.
const PARALLEL_LOOKUPS: usize = 16;

/// A tick: a request to advance active sessions to a point in time.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tick {
    /// The time to which sessions are advanced. The default is now. It may lie in the future, for the simulated time of
    /// demos and tests.
    #[serde(default)]
    pub tick_at: Option<Instant>,
    /// Advance only the sessions at these stations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub station_ids: Option<Vec<StationId>>,
    /// Advance only this shard of the fleet, from 0. The simulator's queue carries one message for each shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1023))]
    pub shard: Option<u32>,
    /// The number of shards into which the fleet is divided. The default is 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub shards: Option<u32>,
}

/// The result of a tick.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TickAnswer {
    /// The time to which sessions were advanced.
    pub tick_at: Instant,
    /// The number of stations with active sessions.
    pub stations: u64,
    /// The number of active sessions.
    pub sessions: u64,
    /// The number of sessions that changed from STARTED to `IN_PROGRESS`.
    pub started: u64,
    /// The number of sessions that reached their target or a full battery.
    pub completed: u64,
    /// The number of sessions that were ended by a limit.
    pub interrupted: u64,
    /// The number of sessions that failed.
    pub failed: u64,
    /// The energy that this tick metered, kWh.
    pub energy_kwh: f64,
    /// The number of sessions that were not advanced: they were not due, changed concurrently, or there was no time.
    pub skipped: u64,
    /// The number of shards that were sent to the queue; absent if this invocation advanced the sessions itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dispatched_shards: Option<u32>,
}

/// The `charging_simulator` function.
#[derive(Debug)]
pub struct ChargingSimulator {
    charging: ChargingStore,
    queue: Option<ShardQueue>,
    inline_sessions: usize,
    /// Sends subscribers the progress of sessions; `None` if no progress is sent.
    live: Option<LivePublisher>,
    clock: MonotonicClock,
}

impl Function for ChargingSimulator {
    const NAME: &'static str = "charging_simulator";
    const ACTIONS: &'static [Action<Self>] = &[action!("tick", Tick => TickAnswer, Self::handle_tick)
        .by("whoever may invoke charging_simulator")
        .about("Advances active sessions to `tickAt`.")];
    const DEFAULT_ACTION: Option<&'static str> = Some("tick");

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let time = TimeBudget::new(&self.clock, &context);
        match trigger {
            Trigger::Event(event) => {
                let tick = Tick { tick_at: Some(event.time.unwrap_or(context.now)), ..Tick::default() };
                Ok(Answer::ok(self.tick_within(&tick, &context, &time).await?)?.body)
            }
            Trigger::Sqs(batch) => {
                let redelivery = self.queue.as_ref().map(ShardQueue::redelivery);
                drive_sqs(batch, 1, redelivery, async |message| {
                    let body = message.body.as_deref().unwrap_or_default();
                    let body =
                        serde_json::from_str(body).map_err(|error| Failure::invalid("body", error.to_string()))?;
                    self.tick_within(&validate::<Tick>(&body)?, &context, &time).await.map(|_| ())
                })
                .await
            }
            Trigger::Stream(_) | Trigger::Iot(_) | Trigger::UserPool(_) => {
                Err(Failure::invalid("payload", "must be a scheduled event or a batch of the shards' queue"))
            }
        }
    }
}

impl ChargingSimulator {
    /// Creates the function. If there are more than `inline_sessions` active sessions, a tick sends the fleet to
    /// `queue`, one message for each shard.
    #[must_use]
    pub fn new(charging: ChargingStore, queue: Option<ShardQueue>, inline_sessions: usize) -> Self {
        Self { charging, queue, inline_sessions, live: None, clock: MonotonicClock::system() }
    }

    /// Sets the function `live_publisher`, which sends subscribers the progress of sessions after each tick.
    #[must_use]
    pub fn telling(self, live_publisher: Option<RemoteFunction>) -> Self {
        Self { live: live_publisher.map(LivePublisher::new), ..self }
    }

    /// Sets the clock that measures the time of invocations.
    #[must_use]
    pub fn timed_by(self, clock: MonotonicClock) -> Self {
        Self { clock, ..self }
    }

    async fn handle_tick(&self, tick: Tick, request: &Request) -> Result<Answer, Failure> {
        Answer::ok(self.tick(&tick, &request.context).await?)
    }

    /// Advances the active sessions.
    ///
    /// # Errors
    /// [`Code::Validation`](lambda_kit::Code::Validation) when the shard does not exist.
    /// [`Code::Unavailable`](lambda_kit::Code::Unavailable) or [`Code::Internal`](lambda_kit::Code::Internal) when a
    /// table or the queue cannot be used. Changes that were written stay, and the same tick can be repeated.
    pub async fn tick(&self, tick: &Tick, context: &Context) -> Result<TickAnswer, Failure> {
        self.tick_within(tick, context, &TimeBudget::new(&self.clock, context)).await
    }

    async fn tick_within(&self, tick: &Tick, context: &Context, time: &TimeBudget) -> Result<TickAnswer, Failure> {
        // Stored times have whole milliseconds. A finer time would be later than its own stored value.
        let at = tick.tick_at.unwrap_or(context.now);
        let at = at.duration_trunc(TimeDelta::milliseconds(1)).unwrap_or(at);
        let keys = match (&tick.station_ids, tick.part()?, &self.queue) {
            (Some(stations), ..) => self.active_at(stations).await?,
            (None, Some(part), _) => self.active(part, None, time).await?,
            (None, None, None) => self.active(FleetPart::WHOLE, None, time).await?,
            (None, None, Some(queue)) => {
                let keys = self.active(FleetPart::WHOLE, Some(self.inline_sessions), time).await?;
                if keys.len() > self.inline_sessions {
                    let shards = queue.hand_on(at).await?;
                    return Ok(TickAnswer { dispatched_shards: Some(shards), ..answer(at, &Worked::default()) });
                }
                keys
            }
        };
        let live = Live::new(self.live.as_ref(), time, &context.correlation_id);
        let (worked, failure) = work::advance(&self.charging, keys, at, time, &live).await;
        live.finish().await;
        metrics::counter!("SessionsTicked").increment(worked.report.sessions - worked.report.skipped);
        metrics::counter!("WattHoursMetered").increment(worked.report.watt_hours);
        failure.map_or_else(|| Ok(answer(at, &worked)), Err)
    }

    /// Returns the keys of the active sessions of a part of the fleet.
    ///
    /// If there are more than `most`, this invocation cannot advance them, and only somewhat more than `most` are read.
    async fn active(&self, part: FleetPart, most: Option<usize>, time: &TimeBudget) -> Result<Vec<ActiveKey>, Failure> {
        // Twice an even share of each partition of the index. A small fleet then needs one page of each partition, and
        // of a large fleet little more is read than is needed to see that it is large.
        let page = most.map(|most| (2 * (most / keys::SHARDS as usize + 1)).min(1000));
        let mut pages = std::pin::pin!(self.charging.sessions.active(part, page));
        let mut keys = Vec::new();
        while keys.len() <= most.unwrap_or(usize::MAX) {
            let page = tokio::time::timeout(time.until_answer(), pages.try_next()).await;
            match page.map_err(|_| Failure::unavailable("the active sessions could not be found in time"))?? {
                Some(page) => keys.extend(page),
                None => break,
            }
        }
        Ok(keys)
    }

    async fn active_at(&self, stations: &[StationId]) -> Result<Vec<ActiveKey>, Failure> {
        let sessions = &self.charging.sessions;
        let found =
            stream::iter(stations.to_vec()).map(|station| async move { sessions.active_at_station(&station).await });
        Ok(found.buffer_unordered(PARALLEL_LOOKUPS).try_concat().await?)
    }
}

impl Tick {
    /// Returns the part of the fleet that the tick names, if any.
    fn part(&self) -> Result<Option<FleetPart>, Failure> {
        let Some(shard) = self.shard else { return Ok(None) };
        let shards = self.shards.unwrap_or(keys::SHARDS);
        let part = FleetPart::new(shard, shards);
        part.map(Some).ok_or_else(|| Failure::invalid("shard", format!("must be below {shards}, the number of shards")))
    }
}

#[allow(clippy::cast_precision_loss)] // watt-hours of one tick are far below 2^52
fn answer(tick_at: Instant, Worked { stations, report }: &Worked) -> TickAnswer {
    TickAnswer {
        tick_at,
        stations: *stations,
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
