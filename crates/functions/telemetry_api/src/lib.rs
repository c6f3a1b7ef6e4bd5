//! Answers the latest states of battery-swap stations and their histories.

use std::time::{Duration, Instant as Stopwatch};

use chrono::NaiveDate;
use domain::Instant;
use domain::error::DomainError;
use domain::id::StationId;
use domain::telemetry::{Reading, Silence};
use lambda_kit::{Action, Answer, Failure, Function, PageArguments, Request, action};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Archive, StationState, TelemetryStore};

/// Kept back from the invocation's time: for the batches under way, and for the answer.
const RESERVE: Duration = Duration::from_secs(10);

/// A page of the fleet.
#[derive(Debug, Deserialize, JsonSchema)]
struct ListStations {
    #[serde(flatten)]
    page: PageArguments,
}

/// One station.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct GetStation {
    station_id: StationId,
}

/// What a station sent on a UTC day.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct GetHistory {
    station_id: StationId,
    date: NaiveDate,
    #[serde(flatten)]
    page: PageArguments,
}

/// A station's latest state as it is answered: the device's own fields, and what we know of it.
#[derive(Debug, Serialize, JsonSchema)]
struct StateView {
    #[serde(flatten)]
    reading: Reading,
    /// When we received it.
    received_at: Instant,
    /// Whether the station has been silent for more than three of its intervals.
    stale: bool,
}

/// A page of the fleet, as it is answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StationStates {
    count: usize,
    stations: Vec<StateView>,
    next_token: Option<String>,
}

/// The messages of a station's day, as they are answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct History {
    station_id: StationId,
    date: NaiveDate,
    count: usize,
    items: Vec<Value>,
    next_token: Option<String>,
}

/// The function.
#[derive(Debug)]
pub struct TelemetryApi {
    states: TelemetryStore,
    archive: Archive,
    silence: Silence,
}

impl Function for TelemetryApi {
    const NAME: &'static str = "telemetry_api";
    const ACTIONS: &'static [Action<Self>] = &[
        action!("listStations", ListStations => StationStates, Self::list)
            .by("anyone")
            .about(
                "Lists the latest state of each battery-swap station. `stale` is true after three silent \
                 intervals.",
            )
            .at("GET /telemetry/stations"),
        action!("getStation", GetStation => StateView, Self::get)
            .by("anyone")
            .about("Answers the latest state of a battery-swap station.")
            .at("GET /telemetry/stations/{stationId}"),
        action!("getHistory", GetHistory => History, Self::history)
            .by("anyone")
            .about("Answers the messages that a battery-swap station sent on a UTC day, in order of time.")
            .at("GET /telemetry/stations/{stationId}/history"),
    ];
}

impl TelemetryApi {
    /// Over these; `silence` says which stations are stale.
    #[must_use]
    pub fn new(states: TelemetryStore, archive: Archive, silence: Silence) -> Self {
        Self { states, archive, silence }
    }

    async fn list(&self, ListStations { page }: ListStations, request: &Request) -> Result<Answer, Failure> {
        let page = self.states.list(&page.into()).await?;
        let stations: Vec<StateView> =
            page.items.into_iter().map(|state| self.view(state, request.context.now)).collect();
        Answer::ok(StationStates { count: stations.len(), stations, next_token: page.next_token })
    }

    async fn get(&self, GetStation { station_id }: GetStation, request: &Request) -> Result<Answer, Failure> {
        let state = self.states.load(&station_id).await?;
        let state = state.ok_or_else(|| DomainError::not_found("telemetry of station", &station_id))?;
        Answer::ok(self.view(state, request.context.now))
    }

    async fn history(
        &self,
        GetHistory { station_id, date, page }: GetHistory,
        request: &Request,
    ) -> Result<Answer, Failure> {
        let watch = Stopwatch::now();
        let has_time = || watch.elapsed() < request.context.time_left().saturating_sub(RESERVE);
        let page = self.archive.history(&station_id, date, &page.into(), has_time).await?;
        let count = page.items.len();
        Answer::ok(History { station_id, date, count, items: page.items, next_token: page.next_token })
    }

    fn view(&self, state: StationState, now: Instant) -> StateView {
        let silent = self.silence.is_stale(state.reading.timestamp, now);
        StateView { reading: state.reading, received_at: state.received_at, stale: silent }
    }
}
