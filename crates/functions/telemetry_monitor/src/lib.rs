//! The `telemetry_monitor` Lambda: checks every minute which battery-swap stations have fallen silent, and which are
//! back.
//!
//! Each change is reported once: the write that contains the event also records the change in the station's state. A
//! run checks as much of the fleet as time allows, and the next run continues there. Therefore no station is always the
//! last.

mod config;

use std::time::{Duration, Instant as Stopwatch};

use domain::Instant;
use domain::event::Event;
use domain::telemetry::Silence;
use domain::telemetry::TelemetryStale;
use futures::{StreamExt, TryStreamExt, stream};
use lambda_kit::{Action, Answer, Context, Failure, Function, Request, Trigger, action};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{PageRequest, Round, StationState, TelemetryStore};

pub use config::Config;

/// The number of states on a page.
const PAGE: usize = 1000;
/// How many changes are written concurrently.
const PARALLEL: usize = 16;
/// The part of a run's time that is reserved for a slow page in progress, and for saving the position.
const RESERVE: Duration = Duration::from_secs(15);

/// The `telemetry_monitor` function.
#[derive(Debug)]
pub struct TelemetryMonitor {
    states: TelemetryStore,
    silence: Silence,
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Watched {
    /// The number of stations that were checked.
    pub stations: usize,
    /// The number of those stations that are silent now.
    pub silent: usize,
    /// The number of stations that this run reported as silent.
    pub fell_silent: usize,
    /// The number of stations that this run reported as back.
    pub came_back: usize,
    /// Whether the run reached the end of the fleet. Otherwise the next run continues where this one stopped.
    pub whole_fleet: bool,
}

/// A change of a station that is to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    FellSilent,
    CameBack,
}

/// The arguments of a run. There are none.
#[derive(Debug, Deserialize, JsonSchema)]
struct Watch {}

impl Function for TelemetryMonitor {
    const NAME: &'static str = "telemetry_monitor";
    const ACTIONS: &'static [Action<Self>] = &[action!("watch", Watch => Watched, Self::handle_watch)
        .by("whoever may invoke telemetry_monitor")
        .about("Reports battery-swap stations that fell silent or came back.")];
    const DEFAULT_ACTION: Option<&'static str> = Some("watch");

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let Trigger::Event(_) = trigger else {
            return Err(Failure::invalid("payload", "must be a scheduled event"));
        };
        Ok(Answer::ok(self.watch(&context).await?)?.body)
    }
}

impl TelemetryMonitor {
    /// Creates the function. `silence` determines which stations are silent.
    #[must_use]
    pub fn new(states: TelemetryStore, silence: Silence) -> Self {
        Self { states, silence }
    }

    async fn handle_watch(&self, Watch {}: Watch, request: &Request) -> Result<Answer, Failure> {
        Answer::ok(self.watch(&request.context).await?)
    }

    /// Checks the fleet from where the last run stopped, as far as time allows but at least one page, and reports
    /// changes.
    ///
    /// # Errors
    /// [`Code::Unavailable`](lambda_kit::Code::Unavailable) when the table cannot be used. Changes that were already
    /// reported stay reported.
    pub async fn watch(&self, context: &Context) -> Result<Watched, Failure> {
        let watch = Stopwatch::now();
        let stopped = self.states.round().await?;
        let mut round = stopped.clone().unwrap_or_else(|| Round::begun(context.now));
        let mut watched = Watched::default();
        let ended = loop {
            match self.watch_page(&mut round, &mut watched, context).await {
                Err(failure) => break Err(failure),
                Ok(()) if round.next_token.is_none() => break Ok(true),
                Ok(()) if context.time_left().saturating_sub(RESERVE) <= watch.elapsed() => break Ok(false),
                Ok(()) => {}
            }
        };
        // A run that fails at its first page drops the saved position. If that page can never be read, resuming there
        // would mean that no station is ever checked again.
        let goes_on = round.next_token.is_some() && (ended.is_ok() || watched.stations > 0);
        let now = goes_on.then_some(&round);
        if now != stopped.as_ref() {
            self.states.keep_round(now).await?;
        }
        watched.whole_fleet = ended?;
        if watched.whole_fleet {
            #[allow(clippy::cast_precision_loss)] // a gauge
            metrics::gauge!("StationsSilent").set(round.silent as f64);
            #[allow(clippy::cast_precision_loss)] // a gauge
            metrics::gauge!("FleetRoundSeconds").set((context.now - round.began_at).num_seconds() as f64);
        }
        Ok(watched)
    }

    async fn watch_page(&self, round: &mut Round, watched: &mut Watched, context: &Context) -> Result<(), Failure> {
        let page = PageRequest { limit: PAGE, next_token: round.next_token.clone() };
        let page = self.states.list(&page).await?;
        let silent_before = watched.silent;
        self.watch_states(&page.items, watched, context).await?;
        round.silent += watched.silent - silent_before;
        round.next_token = page.next_token;
        Ok(())
    }

    async fn watch_states(
        &self,
        states: &[StationState],
        watched: &mut Watched,
        context: &Context,
    ) -> Result<(), Failure> {
        watched.stations += states.len();
        let stale = |state: &&StationState| self.silence.is_stale(state.reading.timestamp, context.now);
        watched.silent += states.iter().filter(stale).count();
        let changes: Vec<(StationState, Change)> =
            states.iter().filter_map(|state| Some((state.clone(), self.change(state, context.now)?))).collect();
        let reports =
            stream::iter(changes).map(|(state, change)| async move { self.report(&state, change, context).await });
        let reported: Vec<Option<Change>> = reports.buffer_unordered(PARALLEL).try_collect().await?;
        let count = |change| reported.iter().filter(|reported| **reported == Some(change)).count();
        watched.fell_silent += count(Change::FellSilent);
        watched.came_back += count(Change::CameBack);
        Ok(())
    }

    fn change(&self, state: &StationState, now: Instant) -> Option<Change> {
        match (self.silence.is_stale(state.reading.timestamp, now), &state.silent_since) {
            (true, None) => Some(Change::FellSilent),
            (false, Some(_)) => Some(Change::CameBack),
            _ => None,
        }
    }

    /// Reports a change. If the station's state changed concurrently, nothing is reported, and the next run decides
    /// again.
    async fn report(&self, state: &StationState, change: Change, context: &Context) -> Result<Option<Change>, Failure> {
        let silent = change == Change::FellSilent;
        let seen = state.reading.timestamp;
        let since = state.silent_since.unwrap_or(seen);
        let until = if silent { context.now } else { seen };
        let event = Event::TelemetryStale(TelemetryStale {
            station_id: state.reading.station_id.clone(),
            stale: silent,
            last_seen_at: seen,
            silent_seconds: (until - since).num_seconds().max(0).unsigned_abs(),
        });
        match self.states.set_silent(state, silent, event, &context.event_context()).await {
            Err(error) if error.is_stale() => Ok(None),
            written => {
                written?;
                tracing::info!(station.id = state.reading.station_id.as_str(), ?change, "reported");
                Ok(Some(change))
            }
        }
    }
}
