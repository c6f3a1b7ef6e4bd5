//! Answers the latest states of battery-swap stations and their histories.

use std::time::{Duration, Instant as Stopwatch};

use chrono::NaiveDate;
use domain::Instant;
use domain::error::DomainError;
use domain::id::StationId;
use domain::telemetry::{Reading, Silence};
use lambda_kit::{Answer, Failure, Function, PageArguments, Request, Route, RouteAction};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{Archive, StationState, TelemetryStore};

const ACTIONS: [&str; 3] = ["listStations", "getStation", "getHistory"];
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
#[derive(Debug, Serialize)]
struct StateView {
    #[serde(flatten)]
    reading: Reading,
    /// When we received it.
    received_at: Instant,
    /// Whether the station has been silent for more than three of its intervals.
    stale: bool,
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
    const ROUTES: &'static [Route] = &[
        Route::new::<ListStations>("GET /telemetry/stations", RouteAction::Is("listStations")),
        Route::new::<GetStation>("GET /telemetry/stations/{stationId}", RouteAction::Is("getStation")),
        Route::new::<GetHistory>("GET /telemetry/stations/{stationId}/history", RouteAction::Is("getHistory")),
    ];

    async fn handle(&self, request: Request) -> Result<Answer, Failure> {
        match request.action.as_str() {
            "listStations" => self.list(&request).await,
            "getStation" => self.get(&request).await,
            "getHistory" => self.history(&request).await,
            _ => Err(request.unknown_action(&ACTIONS)),
        }
    }
}

impl TelemetryApi {
    /// Over these; `silence` says which stations are stale.
    #[must_use]
    pub fn new(states: TelemetryStore, archive: Archive, silence: Silence) -> Self {
        Self { states, archive, silence }
    }

    async fn list(&self, request: &Request) -> Result<Answer, Failure> {
        let ListStations { page } = request.command()?;
        let page = self.states.list(&page.into()).await?;
        let stations: Vec<StateView> =
            page.items.into_iter().map(|state| self.view(state, request.context.now)).collect();
        Answer::ok(json!({ "count": stations.len(), "stations": stations, "nextToken": page.next_token }))
    }

    async fn get(&self, request: &Request) -> Result<Answer, Failure> {
        let GetStation { station_id } = request.command()?;
        let state = self.states.load(&station_id).await?;
        let state = state.ok_or_else(|| DomainError::not_found("telemetry of station", &station_id))?;
        Answer::ok(self.view(state, request.context.now))
    }

    async fn history(&self, request: &Request) -> Result<Answer, Failure> {
        let GetHistory { station_id, date, page } = request.command()?;
        let watch = Stopwatch::now();
        let has_time = || watch.elapsed() < request.context.time_left().saturating_sub(RESERVE);
        let page = self.archive.history(&station_id, date, &page.into(), has_time).await?;
        Answer::ok(json!({
            "stationId": station_id, "date": date, "count": page.items.len(), "items": page.items,
            "nextToken": page.next_token
        }))
    }

    fn view(&self, state: StationState, now: Instant) -> StateView {
        let silent = self.silence.is_stale(state.reading.timestamp, now);
        StateView { reading: state.reading, received_at: state.received_at, stale: silent }
    }
}
