//! Answers which charge points of the OpenChargeMap mirror lie near a place.
//!
//! Whoever shows the data must say whose it is and under which licence: every answer carries that.

use domain::error::DomainError;
use domain::geo::{Location, MAX_RADIUS_KM};
use domain::poi::{Poi, PoiFilter, PoiSummary, reference};
use lambda_kit::{Action, Answer, Failure, Function, PageArguments, Request, action};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Page, PoiStore};

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
    #[schemars(extend("enum" = reference::KINDS))]
    kind: String,
}

/// A POI that was found, and how far it is.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Found {
    #[serde(flatten)]
    poi: PoiSummary,
    #[serde(skip_serializing_if = "Option::is_none")]
    distance_km: Option<f64>,
}

/// A POI with whose data it is.
#[derive(Debug, Serialize, JsonSchema)]
struct Attributed {
    #[serde(flatten)]
    poi: Poi,
    attribution: Attribution,
}

/// A page of the POIs that were found, as it is answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct FoundPois {
    count: usize,
    items: Vec<Found>,
    next_token: Option<String>,
    attribution: Attribution,
}

/// One kind of the reference data, as it is answered.
#[derive(Debug, Serialize, JsonSchema)]
struct ReferenceData {
    kind: String,
    count: usize,
    items: Vec<Value>,
    attribution: Attribution,
}

/// The source of the data and its licence, which everybody who shows the data must name.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Attribution {
    text: &'static str,
    url: &'static str,
    licence: &'static str,
    licence_url: &'static str,
    /// `OpenChargeMap`'s record of the data provider, whose licence may differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_provider: Option<Value>,
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
    const ACTIONS: &'static [Action<Self>] = &[
        action!("findPois", FindPois => FoundPois, Self::find)
            .by("anyone")
            .about("Finds POIs of the OpenChargeMap mirror near a place, nearest first, or those of a country.")
            .at("GET /pois"),
        action!("getPoi", GetPoi => Attributed, Self::get)
            .by("anyone")
            .about("Answers a POI of the OpenChargeMap mirror.")
            .at("GET /pois/{ocmId}"),
        action!("getReferenceData", GetReferenceData => ReferenceData, Self::reference_data)
            .by("anyone")
            .about("Answers one kind of OpenChargeMap reference data.")
            .at("GET /pois/reference-data/{kind}"),
    ];
}

impl PoiService {
    /// Over this mirror.
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

/// To the metre.
fn rounded(km: f64) -> f64 {
    (km * 1000.0).round() / 1000.0
}
