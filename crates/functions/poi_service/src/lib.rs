//! Answers which charge points of the OpenChargeMap mirror lie near a place.
//!
//! Whoever shows the data must say whose it is and under which licence: every answer carries that.

use domain::error::DomainError;
use domain::geo::{Location, MAX_RADIUS_KM};
use domain::poi::{Poi, PoiFilter, PoiSummary, reference};
use lambda_kit::{Answer, Failure, Function, PageArguments, Request, Route, RouteAction};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Page, PoiStore};

const ACTIONS: [&str; 3] = ["findPois", "getPoi", "getReferenceData"];
/// Unless the request says another, km.
const DEFAULT_RADIUS_KM: f64 = 10.0;

/// Which POIs are looked for: those near a place, nearest first, or those of a country.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindPois {
    /// Degrees north.
    #[serde(default)]
    #[schemars(range(min = -90.0, max = 90.0))]
    latitude: Option<f64>,
    /// Degrees east.
    #[serde(default)]
    #[schemars(range(min = -180.0, max = 180.0))]
    longitude: Option<f64>,
    /// km.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 100.0))]
    radius_km: Option<f64>,
    /// `OpenChargeMap`'s id of a country, instead of a place.
    #[serde(default)]
    #[schemars(range(max = 2_147_483_647))]
    country_id: Option<u32>,
    #[serde(flatten)]
    filter: PoiFilter,
    #[serde(flatten)]
    page: PageArguments,
}

/// Which POI is asked for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GetPoi {
    /// `OpenChargeMap`'s id.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    ocm_id: u32,
}

/// Which kind of the reference data is asked for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GetReferenceData {
    /// `OpenChargeMap`'s name of it, e.g. `ConnectionTypes`.
    #[schemars(length(min = 1, max = 64))]
    kind: String,
}

/// A POI that was found, and how far it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    #[serde(flatten)]
    poi: PoiSummary,
    #[serde(skip_serializing_if = "Option::is_none")]
    distance_km: Option<f64>,
}

/// A POI with whose data it is.
#[derive(Debug, Serialize)]
struct Attributed {
    #[serde(flatten)]
    poi: Poi,
    attribution: Value,
}

/// What is searched.
enum Search {
    Near(Location, f64),
    Country(u32),
}

/// The function.
#[derive(Debug)]
pub struct PoiService {
    pois: PoiStore,
}

impl Function for PoiService {
    const NAME: &'static str = "poi_service";
    const ROUTES: &'static [Route] = &[
        Route::new::<FindPois>("GET /pois", RouteAction::Is("findPois")),
        Route::new::<GetPoi>("GET /pois/{ocmId}", RouteAction::Is("getPoi")),
        Route::new::<GetReferenceData>("GET /pois/reference-data/{kind}", RouteAction::Is("getReferenceData")),
    ];

    async fn handle(&self, request: Request) -> Result<Answer, Failure> {
        match request.action.as_str() {
            "findPois" => self.find(request.command()?).await,
            "getPoi" => self.get(request.command()?).await,
            "getReferenceData" => self.reference_data(request.command()?).await,
            _ => Err(request.unknown_action(&ACTIONS)),
        }
    }
}

impl PoiService {
    /// Over this mirror.
    #[must_use]
    pub fn new(pois: PoiStore) -> Self {
        Self { pois }
    }

    async fn find(&self, command: FindPois) -> Result<Answer, Failure> {
        let search = command.search()?;
        let FindPois { filter, page, .. } = command;
        let page = match search {
            Search::Near(at, radius_km) => {
                let Page { items, next_token } = self.pois.near(at, radius_km, &filter, &page.into()).await?;
                let items = items.into_iter().map(|(km, poi)| Found { poi, distance_km: Some(rounded(km)) });
                Page { items: items.collect::<Vec<_>>(), next_token }
            }
            Search::Country(country) => {
                let Page { items, next_token } = self.pois.of_country(country, &filter, &page.into()).await?;
                let items = items.into_iter().map(|poi| Found { poi, distance_km: None });
                Page { items: items.collect(), next_token }
            }
        };
        let attribution = attribution();
        Answer::ok(json!({
            "count": page.items.len(), "items": page.items, "nextToken": page.next_token, "attribution": attribution
        }))
    }

    async fn get(&self, GetPoi { ocm_id }: GetPoi) -> Result<Answer, Failure> {
        let poi = self.pois.load(ocm_id).await?;
        let poi = poi.ok_or_else(|| DomainError::not_found("POI", ocm_id))?;
        let mut attribution = attribution();
        // What was taken from somebody else's data may have another licence than the rest.
        if let Some(provider) = self.provider(poi.summary.data_provider_id).await? {
            attribution["dataProvider"] = provider;
        }
        Answer::ok(Attributed { poi, attribution })
    }

    async fn provider(&self, id: Option<u32>) -> Result<Option<Value>, Failure> {
        let Some(id) = id else { return Ok(None) };
        let providers = self.pois.reference("DataProviders").await?.unwrap_or_default();
        Ok(providers.into_iter().find(|provider| provider["id"] == json!(id)))
    }

    async fn reference_data(&self, GetReferenceData { kind }: GetReferenceData) -> Result<Answer, Failure> {
        if !reference::KINDS.contains(&kind.as_str()) {
            return Err(Failure::invalid("kind", format!("must be one of {}", reference::KINDS.join(", "))));
        }
        let entries = self.pois.reference(&kind).await?;
        let entries = entries.ok_or_else(|| DomainError::not_found("reference data of kind", &kind))?;
        let attribution = attribution();
        Answer::ok(json!({ "kind": kind, "count": entries.len(), "items": entries, "attribution": attribution }))
    }
}

impl FindPois {
    fn search(&self) -> Result<Search, DomainError> {
        match (self.latitude, self.longitude, self.country_id) {
            (Some(latitude), Some(longitude), None) => {
                let radius_km = self.radius_km.unwrap_or(DEFAULT_RADIUS_KM).min(MAX_RADIUS_KM);
                Ok(Search::Near(Location::new(latitude, longitude)?, radius_km))
            }
            (None, None, Some(country)) => Ok(Search::Country(country)),
            (None, None, None) => {
                Err(DomainError::invalid("latitude", "is required with longitude, or else countryId"))
            }
            (_, _, Some(_)) => {
                Err(DomainError::invalid("countryId", "cannot be combined with latitude and longitude: choose one"))
            }
            (Some(_), None, None) => Err(DomainError::invalid("longitude", "is required with latitude")),
            (None, Some(_), None) => Err(DomainError::invalid("latitude", "is required with longitude")),
        }
    }
}

/// Whose the data is.
fn attribution() -> Value {
    json!({
        "text": "Open Charge Map contributors",
        "url": "https://openchargemap.org",
        "licence": "CC BY-SA 4.0",
        "licenceUrl": "https://creativecommons.org/licenses/by-sa/4.0/"
    })
}

/// To the metre.
fn rounded(km: f64) -> f64 {
    (km * 1000.0).round() / 1000.0
}
