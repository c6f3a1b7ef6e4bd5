//! Looks every minute which battery-swap stations have fallen silent, and which are back.
//!
//! Each is reported once: that it was is noted on the station's state in the write that carries the event.

use domain::Instant;
use domain::event::{Event, TelemetryStale};
use domain::telemetry::Silence;
use futures::{StreamExt, TryStreamExt, stream};
use lambda_kit::{Answer, Context, Failure, Function, Request, Trigger};
use serde::Serialize;
use serde_json::Value;
use store::{PageRequest, StationState, TelemetryStore};

/// States read at once.
const PAGE: usize = 1000;
/// Changes written at the same time.
const PARALLEL: usize = 16;

/// The function.
#[derive(Debug)]
pub struct TelemetryMonitor {
    states: TelemetryStore,
    silence: Silence,
}

/// What a look at the fleet found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Watched {
    /// Stations of the fleet.
    pub stations: usize,
    /// Those that are silent now.
    pub silent: usize,
    /// Those that were reported as silent.
    pub fell_silent: usize,
    /// Those that were reported as back.
    pub came_back: usize,
}

/// What is to be reported of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    FellSilent,
    CameBack,
}

impl Function for TelemetryMonitor {
    const NAME: &'static str = "telemetry_monitor";
    const DEFAULT_ACTION: Option<&'static str> = Some("watch");

    async fn handle(&self, request: Request) -> Result<Answer, Failure> {
        match request.action.as_str() {
            "watch" => Answer::ok(self.watch(&request.context).await?),
            _ => Err(request.unknown_action(&["watch"])),
        }
    }

    async fn trigger(&self, trigger: Trigger, context: Context) -> Result<Value, Failure> {
        let Trigger::Event(_) = trigger else {
            return Err(Failure::invalid("payload", "must be a scheduled event"));
        };
        Ok(Answer::ok(self.watch(&context).await?)?.body)
    }
}

impl TelemetryMonitor {
    /// Over these states; `silence` says which stations are silent.
    #[must_use]
    pub fn new(states: TelemetryStore, silence: Silence) -> Self {
        Self { states, silence }
    }

    /// Looks at the whole fleet and reports what changed.
    ///
    /// # Errors
    /// Unavailable when the table cannot be reached; what was reported until then stays so.
    pub async fn watch(&self, context: &Context) -> Result<Watched, Failure> {
        let mut watched = Watched::default();
        let mut token = None;
        loop {
            let page = self.states.list(&PageRequest { limit: PAGE, next_token: token }).await?;
            self.watch_page(&page.items, &mut watched, context).await?;
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        #[allow(clippy::cast_precision_loss)] // a gauge
        metrics::gauge!("StationsSilent").set(watched.silent as f64);
        Ok(watched)
    }

    async fn watch_page(
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

    /// Reports a change, unless the station's state changed meanwhile: the next look decides anew then.
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
        match self.states.set_silent(state, silent, event, &context.trace()).await {
            Err(error) if error.is_stale() => Ok(None),
            written => {
                written?;
                tracing::info!(station.id = state.reading.station_id.as_str(), ?change, "reported");
                Ok(Some(change))
            }
        }
    }
}
