//! The `poi_service` Lambda: searches the OpenChargeMap mirror for charge points near a place or in a country.
//!
//! Everybody who shows the data must name its source and its licence. Therefore every answer contains both.

mod config;

use domain::accounts::{Area, Scope};
use domain::error::DomainError;
use domain::geo::{Location, MAX_RADIUS_KM};
use domain::poi::{Poi, PoiFilter, PoiSummary, reference};
use lambda_kit::{Action, Answer, Failure, Function, PageArguments, Request, action};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Page, PoiStore};

pub use config::Config;

/// The default radius of a search, km.
const DEFAULT_RADIUS_KM: f64 = 10.0;

/// Arguments of a search for POIs: near a place, nearest first, or in a country.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindPois {
    /// The latitude of the place, degrees north.
    #[serde(default)]
    #[schemars(range(min = -90.0, max = 90.0))]
    latitude: Option<f64>,
    /// The longitude of the place, degrees east.
    #[serde(default)]
    #[schemars(range(min = -180.0, max = 180.0))]
    longitude: Option<f64>,
    /// The radius of the search, km. The default is 10.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 100.0))]
    radius_km: Option<f64>,
    /// The id of a country in OpenChargeMap, instead of a place.
    #[serde(default)]
    #[schemars(range(max = 2_147_483_647))]
    country_id: Option<u32>,
    #[serde(flatten)]
    filter: PoiFilter,
    #[serde(flatten)]
    page: PageArguments,
}

/// A reference to one POI.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GetPoi {
    /// The id of the POI in OpenChargeMap.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    ocm_id: u32,
}

/// A reference to one kind of reference data.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GetReferenceData {
    /// The name of the kind in OpenChargeMap, e.g. `ConnectionTypes`.
    #[schemars(extend("enum" = reference::KINDS))]
    kind: String,
}

/// A POI that a search found.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Found {
    #[serde(flatten)]
    poi: PoiSummary,
    /// The distance from the place of the search, km; absent in a search by country.
    #[serde(skip_serializing_if = "Option::is_none")]
    distance_km: Option<f64>,
}

/// A POI with the source of its data.
#[derive(Debug, Serialize, JsonSchema)]
struct Attributed {
    #[serde(flatten)]
    poi: Poi,
    /// The source of the data and its licence.
    attribution: Attribution,
}

/// A page of the POIs that a search found.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct FoundPois {
    /// The number of POIs on this page.
    count: usize,
    /// The POIs of this page.
    items: Vec<Found>,
    /// The `nextToken` for the request of the next page; null on the last page.
    next_token: Option<String>,
    /// The source of the data and its licence.
    attribution: Attribution,
}

/// One kind of reference data.
#[derive(Debug, Serialize, JsonSchema)]
struct ReferenceData {
    /// The name of the kind in OpenChargeMap.
    kind: String,
    /// The number of entries.
    count: usize,
    /// The entries as OpenChargeMap returns them.
    items: Vec<Value>,
    /// The source of the data and its licence.
    attribution: Attribution,
}

/// The source of the data and its licence. Everybody who shows the data must name both.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Attribution {
    /// The text that names the source.
    text: &'static str,
    /// The URL of the source.
    url: &'static str,
    /// The name of the licence.
    licence: &'static str,
    /// The URL of the licence.
    licence_url: &'static str,
    /// OpenChargeMap's record of the data provider, whose licence may differ; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_provider: Option<Value>,
}

/// The area of a search.
enum Search {
    Near(Location, f64),
    Country(u32),
}

/// The `poi_service` function.
#[derive(Debug)]
pub struct PoiService {
    pois: PoiStore,
}

impl Function for PoiService {
    const NAME: &'static str = "poi_service";
    const ACTIONS: &'static [Action<Self>] = &[
        action!("findPois", FindPois => FoundPois, Self::find)
            .by("anyone")
            .about("Finds the POIs of the OpenChargeMap mirror in a country or near a place, nearest first.")
            .at("GET /pois", Scope::read(Area::Stations))
            .query("pois")
            .with_api_key(),
        action!("getPoi", GetPoi => Attributed, Self::get)
            .by("anyone")
            .about("Returns a POI of the OpenChargeMap mirror.")
            .at("GET /pois/{ocmId}", Scope::read(Area::Stations))
            .query("poi"),
        action!("getReferenceData", GetReferenceData => ReferenceData, Self::reference_data)
            .by("anyone")
            .about("Returns one kind of OpenChargeMap reference data.")
            .at("GET /pois/reference-data/{kind}", Scope::read(Area::Stations))
            .query("referenceData"),
    ];
}

impl PoiService {
    /// Creates a function that searches this mirror.
    #[must_use]
    pub fn new(pois: PoiStore) -> Self {
        Self { pois }
    }

    async fn find(&self, command: FindPois, _: &Request) -> Result<Answer, Failure> {
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
        let Page { items, next_token } = page;
        Answer::ok(FoundPois { count: items.len(), items, next_token, attribution: Attribution::OPEN_CHARGE_MAP })
    }

    async fn get(&self, GetPoi { ocm_id }: GetPoi, _: &Request) -> Result<Answer, Failure> {
        let poi = self.pois.load(ocm_id).await?;
        let poi = poi.ok_or_else(|| DomainError::not_found("POI", ocm_id))?;
        let data_provider = self.provider(poi.summary.data_provider_id).await?;
        let attribution = Attribution { data_provider, ..Attribution::OPEN_CHARGE_MAP };
        Answer::ok(Attributed { poi, attribution })
    }

    async fn provider(&self, id: Option<u32>) -> Result<Option<Value>, Failure> {
        let Some(id) = id else { return Ok(None) };
        let providers = self.pois.reference("DataProviders").await?.unwrap_or_default();
        Ok(providers.into_iter().find(|provider| provider["id"] == json!(id)))
    }

    async fn reference_data(
        &self,
        GetReferenceData { kind }: GetReferenceData,
        _: &Request,
    ) -> Result<Answer, Failure> {
        if !reference::KINDS.contains(&kind.as_str()) {
            return Err(Failure::invalid("kind", format!("must be one of {}", reference::KINDS.join(", "))));
        }
        let entries = self.pois.reference(&kind).await?;
        let entries = entries.ok_or_else(|| DomainError::not_found("reference data of kind", &kind))?;
        let attribution = Attribution::OPEN_CHARGE_MAP;
        Answer::ok(ReferenceData { kind, count: entries.len(), items: entries, attribution })
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

impl Attribution {
    const OPEN_CHARGE_MAP: Self = Self {
        text: "Open Charge Map contributors",
        url: "https://openchargemap.org",
        licence: "CC BY-SA 4.0",
        licence_url: "https://creativecommons.org/licenses/by-sa/4.0/",
        data_provider: None,
    };
}

/// Rounds a distance to metres.
fn rounded(km: f64) -> f64 {
    (km * 1000.0).round() / 1000.0
}
