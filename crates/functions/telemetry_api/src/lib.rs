//! The `telemetry_api` Lambda: returns the latest states of battery-swap stations and their histories.

mod config;

use std::time::{Duration, Instant as Stopwatch};

use chrono::NaiveDate;
use domain::Instant;
use domain::accounts::{Area, Scope};
use domain::error::DomainError;
use domain::id::SwapStationId;
use domain::telemetry::{Reading, Silence};
use lambda_kit::{Action, Answer, Failure, Function, PageArguments, Request, action};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Archive, StationState, TelemetryStore};

pub use config::Config;

/// The part of the invocation's time that is reserved for batches in progress and for the answer.
const RESERVE: Duration = Duration::from_secs(10);

/// Arguments of a list of stations.
#[derive(Debug, Deserialize, JsonSchema)]
struct ListStations {
    #[serde(flatten)]
    page: PageArguments,
}

/// A reference to one battery-swap station.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct GetStation {
    /// The id of the station.
    station_id: SwapStationId,
}

/// A reference to the messages that a station sent on one day.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct GetHistory {
    /// The id of the station.
    station_id: SwapStationId,
    /// The day in UTC, e.g. `2024-01-15`.
    date: NaiveDate,
    #[serde(flatten)]
    page: PageArguments,
}

/// The latest state of a station: the fields that the device sent, and two that the platform adds.
#[derive(Debug, Serialize, JsonSchema)]
struct StateView {
    #[serde(flatten)]
    reading: Reading,
    /// The time at which the platform received the message.
    received_at: Instant,
    /// Whether the station has been silent for more than three of its intervals.
    stale: bool,
}

/// A page of the latest states of the stations.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StationStates {
    /// The number of stations on this page.
    count: usize,
    /// The states of the stations on this page.
    stations: Vec<StateView>,
    /// The `nextToken` for the request of the next page; null on the last page.
    next_token: Option<String>,
}

/// A page of the messages that a station sent on one day.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct History {
    /// The id of the station.
    station_id: SwapStationId,
    /// The day in UTC.
    date: NaiveDate,
    /// The number of messages on this page.
    count: usize,
    /// The messages of this page, ordered by time.
    items: Vec<Value>,
    /// The `nextToken` for the request of the next page; null on the last page.
    next_token: Option<String>,
}

/// The `telemetry_api` function.
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
                "Lists the latest state of each battery-swap station. `stale` is true if the station has been silent \
                 for more than three intervals.",
            )
            .at("GET /telemetry/stations", Scope::read(Area::Telemetry))
            .query("swapStations")
            .items_in("stations"),
        action!("getStation", GetStation => StateView, Self::get)
            .by("anyone")
            .about("Returns the latest state of a battery-swap station.")
            .at("GET /telemetry/stations/{stationId}", Scope::read(Area::Telemetry))
            .query("swapStation"),
        action!("getHistory", GetHistory => History, Self::history)
            .by("anyone")
            .about("Returns the messages that a battery-swap station sent on a UTC day, in order of time.")
            .at("GET /telemetry/stations/{stationId}/history", Scope::read(Area::Telemetry))
            .query("swapStationHistory"),
    ];
}

impl TelemetryApi {
    /// Creates the function. `silence` determines which stations are stale.
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
