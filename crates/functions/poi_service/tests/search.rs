//! A search of the mirror finds the same POIs as a check of every POI.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use chrono::{TimeZone, Utc};
use domain::Instant;
use domain::geo::Location;
use domain::poi::{Poi, PoiDetails, PoiFilter, PoiSummary};
use lambda_kit::{Clock, Door};
use poi_service::PoiService;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, http_event, invoke, places, places_around, seeded};

fn now() -> Instant {
    Utc.with_ymd_and_hms(2026, 3, 3, 12, 0, 0).unwrap()
}

fn poi(ocm_id: u32, latitude: f64, longitude: f64, power: Option<f64>, kind: u32) -> Poi {
    let summary = PoiSummary {
        ocm_id,
        title: Some(format!("POI {ocm_id}")),
        address: None,
        town: None,
        postcode: None,
        country_id: Some(kind),
        location: Some(Location::new(latitude, longitude).unwrap()),
        operator_id: Some(ocm_id % 3),
        usage_type_id: None,
        status_type_id: None,
        number_of_points: None,
        max_power_kw: power,
        connection_type_ids: vec![kind, 100],
        data_provider_id: Some(1),
    };
    Poi { summary, details: PoiDetails::default() }
}

async fn world(pois: &[Poi]) -> (EmbeddedDynamoDb, Door<PoiService>) {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let store = dynamodb.pois();
    for poi in pois {
        assert!(store.put(poi).await.unwrap());
    }
    let door = Door::new(PoiService::new(dynamodb.pois()), Clock(now));
    (dynamodb, door)
}

/// Returns all pages of a search.
async fn find(door: &Door<PoiService>, search: &Value, limit: usize) -> Vec<(u64, f64)> {
    let (mut found, mut request) = (Vec::new(), search.clone());
    request["action"] = json!("findPois");
    request["limit"] = json!(limit);
    loop {
        let page = invoke(door, request.clone()).await.unwrap();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit && page["count"] == json!(items.len()));
        assert_eq!(page["attribution"]["licence"], "CC BY-SA 4.0");
        found.extend(
            items.iter().map(|item| (item["ocmId"].as_u64().unwrap(), item["distanceKm"].as_f64().unwrap_or(-1.0))),
        );
        if page["nextToken"].is_null() {
            return found;
        }
        request["nextToken"] = page["nextToken"].clone();
    }
}

/// Computes the result of a search by checking every POI.
fn by_hand(pois: &[Poi], at: Location, radius_km: f64, filter: &PoiFilter) -> Vec<(u64, f64)> {
    let mut near: Vec<(f64, u32)> = pois
        .iter()
        .filter(|poi| filter.accepts(&poi.summary))
        .map(|poi| (at.distance_km(&poi.summary.location.unwrap()), poi.summary.ocm_id))
        .filter(|(km, _)| *km <= radius_km)
        .collect();
    near.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    near.into_iter().map(|(km, id)| (id.into(), (km * 1000.0).round() / 1000.0)).collect()
}

#[derive(Clone, Debug)]
struct Case {
    pois: Vec<(f64, f64, Option<f64>, u32)>,
    at: (f64, f64),
    radius_km: f64,
    min_power_kw: Option<f64>,
    connection_type_id: Option<u32>,
    limit: usize,
}

fn case() -> impl Strategy<Value = Case> {
    places().prop_flat_map(|home| {
        let near = move |spread| places_around(home, spread);
        let poi = (near(1.0), prop::option::of(1.0..350.0_f64), 1_u32..5)
            .prop_map(|((lat, lon), power, kind)| (lat, lon, power, kind));
        let pois = prop::collection::vec(poi, 0..60);
        let filter = (prop::option::of(10.0..200.0_f64), prop::option::of(1_u32..6));
        (pois, near(0.3), 0.0..=100.0_f64, filter, 1_usize..30).prop_map(|(pois, at, radius_km, filter, limit)| Case {
            pois,
            at,
            radius_km,
            min_power_kw: filter.0,
            connection_type_id: filter.1,
            limit,
        })
    })
}

async fn search_equals_a_look_at_all(case: &Case) -> Result<(), TestCaseError> {
    let pois: Vec<Poi> =
        (1..).zip(&case.pois).map(|(id, (lat, lon, power, kind))| poi(id, *lat, *lon, *power, *kind)).collect();
    let (_dynamodb, door) = world(&pois).await;
    let (latitude, longitude) = case.at;
    let mut search = json!({ "latitude": latitude, "longitude": longitude, "radiusKm": case.radius_km });
    let filter =
        PoiFilter { min_power_kw: case.min_power_kw, connection_type_id: case.connection_type_id, operator_id: None };
    if let Some(power) = case.min_power_kw {
        search["minPowerKw"] = json!(power);
    }
    if let Some(kind) = case.connection_type_id {
        search["connectionTypeId"] = json!(kind);
    }
    let found = find(&door, &search, case.limit).await;
    let at = Location::new(latitude, longitude).unwrap();
    prop_assert_eq!(found, by_hand(&pois, at, case.radius_km, &filter));
    Ok(())
}

#[test]
fn a_search_finds_all_pois_within_the_radius_nearest_first() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(seeded(96));
    let result = runner.run(&case(), |case| runtime.block_on(search_equals_a_look_at_all(&case)));
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test]
async fn a_country_is_listed_page_by_page() {
    let pois: Vec<Poi> = (1..=25).map(|id| poi(id, 50.0, 8.0, Some(50.0), 1 + id % 2)).collect();
    let (_dynamodb, door) = world(&pois).await;
    let mut found = find(&door, &json!({ "countryId": 1, "operatorId": 0 }), 3).await;
    found.sort_by_key(|(id, _)| *id);
    assert_eq!(found, [(6, -1.0), (12, -1.0), (18, -1.0), (24, -1.0)]);
}

#[tokio::test]
async fn a_poi_is_returned_with_its_attribution() {
    let (dynamodb, door) = world(&[poi(7, 50.0, 8.0, Some(50.0), 33)]).await;
    let providers = [json!({ "id": 1, "title": "A city", "license": "CC BY 4.0" })];
    dynamodb.pois().put_reference("DataProviders", &providers).await.unwrap();
    let got = invoke(&door, json!({ "action": "getPoi", "ocmId": 7 })).await.unwrap();
    assert_eq!((&got["title"], &got["location"]["latitude"]), (&json!("POI 7"), &json!(50.0)));
    assert_eq!(got["attribution"]["dataProvider"]["license"], "CC BY 4.0");
    let (code, _) = invoke(&door, json!({ "action": "getPoi", "ocmId": 8 })).await.unwrap_err();
    assert_eq!(code, "NotFoundError");
    let providers = invoke(&door, json!({ "action": "getReferenceData", "kind": "DataProviders" })).await.unwrap();
    assert_eq!(providers["count"], 1);
    let (code, message) = invoke(&door, json!({ "action": "getReferenceData", "kind": "Cats" })).await.unwrap_err();
    assert!(code == "ValidationError" && message.contains("kind: must be one of ConnectionTypes"), "{message}");
}

#[tokio::test]
async fn numbers_in_a_query_string_are_parsed() {
    let (_dynamodb, door) = world(&[poi(7, 50.0, 8.0, Some(50.0), 33), poi(8, 50.01, 8.0, None, 33)]).await;
    let query = [("latitude", "50"), ("longitude", "8"), ("radiusKm", "5"), ("minPowerKw", "22"), ("limit", "10")];
    let answer = invoke(&door, http_event("GET /pois", &[], &query, "u", "USER", "")).await.unwrap();
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&answer["statusCode"], &body["count"], &body["items"][0]["ocmId"]),
        (&json!(200), &json!(1), &json!(7))
    );
    let one = http_event("GET /pois/{ocmId}", &[("ocmId", "8")], &[], "u", "USER", "");
    assert_eq!(invoke(&door, one).await.unwrap()["statusCode"], 200);
    for (query, field) in [
        (vec![("latitude", "50")], "longitude"),
        (vec![("latitude", "91"), ("longitude", "8")], "latitude"),
        (vec![], "latitude"),
        (vec![("latitude", "50"), ("longitude", "8"), ("radiusKm", "101")], "radiusKm"),
        (vec![("latitude", "50"), ("longitude", "8"), ("countryId", "1")], "countryId"),
        (vec![("latitude", "x"), ("longitude", "8")], "latitude"),
    ] {
        let answer = invoke(&door, http_event("GET /pois", &[], &query, "u", "USER", "")).await.unwrap();
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!((&answer["statusCode"], &body["errors"][0]["field"]), (&json!(400), &json!(field)), "{body}");
    }
}

#[tokio::test]
async fn a_search_for_few_reads_few_cells() {
    let pois: Vec<Poi> =
        (0..400).map(|n| poi(n + 1, 50.0 + f64::from(n % 20) * 0.08, 8.0 + f64::from(n / 20) * 0.1, None, 1)).collect();
    let (dynamodb, _door) = world(&pois).await;
    let (near, far) = (dynamodb.pois(), dynamodb.pois());
    let page = |limit| store::PageRequest { limit, next_token: None };
    let at = Location::new(50.8, 9.0).unwrap();
    near.near(at, 100.0, &PoiFilter::default(), &page(5)).await.unwrap();
    far.near(at, 100.0, &PoiFilter::default(), &page(1000)).await.unwrap();
    let (near, far) = (near.table().db().capacity().units().read, far.table().db().capacity().units().read);
    assert!(near * 4.0 < far, "{near} {far}");
}
