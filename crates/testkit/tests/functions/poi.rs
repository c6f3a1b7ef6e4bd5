//! The mirror of OpenChargeMap: `poi_service` and `ocm_sync`.

use domain::geo::Location;
use domain::poi::{Poi, PoiDetails, PoiSummary};
use lambda_kit::{Clock, Door};
use ocm_sync::{ApiKey, OcmSync, Source};
use poi_service::PoiService;
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, NOWHERE, invoke};

use crate::bad_input::Kind::{self, Enum, Integer, Number, Text};
use crate::bad_input::{Case, assert_refused, attack, tiny_numbers};
use crate::nowhere;
use crate::openapi::{CLOCK, DRIVER, Recorder};

fn poi_cases() -> Vec<Case> {
    const ID: Kind = Integer(0, 2_147_483_647);
    vec![
        Case(
            "findPois",
            &[
                ("nextToken", false, Text(2048)),
                ("latitude", true, Number(-90.0, 90.0)),
                ("longitude", true, Number(-180.0, 180.0)),
                ("radiusKm", false, Number(0.0, 100.0)),
                ("minPowerKw", false, Number(0.0, 10_000.0)),
                ("connectionTypeId", false, ID),
                ("operatorId", false, ID),
                ("countryId", false, ID),
                ("limit", false, Integer(1, 100)),
            ],
            json!({ "latitude": 52.5, "longitude": 13.4 }),
        ),
        Case("getPoi", &[("ocmId", true, Integer(1, 2_147_483_647))], json!({ "ocmId": 1 })),
        Case("getReferenceData", &[("kind", true, Enum)], json!({ "kind": "Operators" })),
    ]
}

#[tokio::test]
async fn poi_service_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let pois = Door::new(PoiService::new(dynamodb.pois()), Clock::SYSTEM);
    let tried = attack(&pois, poi_cases(), &["findPois", "getPoi", "getReferenceData"], &dynamodb).await;
    assert!(tried > 60, "{tried}");
}

#[tokio::test]
async fn ocm_sync_refuses_invalid_input() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let source = Source::new(NOWHERE, ApiKey::parameter(&nowhere(), "/key"), 100).unwrap();
    let sync = Door::new(OcmSync::new(dynamodb.pois(), source), Clock::SYSTEM);
    for (request, field) in [
        (json!({ "full": 1 }), "full"),
        (json!({ "full": true, "allowRemovals": "yes" }), "allowRemovals"),
        (json!({ "full": [], "allowRemovals": {} }), "full"),
    ] {
        assert_refused(&invoke(&sync, request).await, field, "ocm_sync");
    }
    assert_eq!(dynamodb.items("ev-ocm-pois").await.len(), 0);
}

#[tokio::test]
async fn numbers_too_small_to_store_are_refused_or_taken_as_zero() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let pois = Door::new(PoiService::new(dynamodb.pois()), Clock::SYSTEM);
    let find = json!({ "action": "findPois", "latitude": 1, "longitude": 1, "minPowerKw": 1, "radiusKm": 1 });
    for field in ["latitude", "longitude", "minPowerKw", "radiusKm"] {
        tiny_numbers(&pois, &find, field).await;
    }
}

/// Records the examples of a mirror with one POI.
pub async fn record(recorder: &mut Recorder, dynamodb: &EmbeddedDynamoDb) {
    let summary = PoiSummary {
        ocm_id: 123_456,
        title: Some("Museum Garage".to_owned()),
        address: Some("Museum Street 3".to_owned()),
        town: Some("Berlin".to_owned()),
        postcode: Some("10117".to_owned()),
        country_id: Some(87),
        location: Some(Location::new(52.5192, 13.3989).expect("a place")),
        operator_id: Some(3),
        usage_type_id: Some(1),
        status_type_id: Some(50),
        number_of_points: Some(2),
        max_power_kw: Some(50.0),
        connection_type_ids: vec![33],
        data_provider_id: Some(1),
    };
    let store = dynamodb.pois();
    store.put(&Poi { summary, details: PoiDetails::default() }).await.expect("a written POI");
    let provider = json!({ "id": 1, "title": "Open Charge Map Contributors", "license": "CC BY 4.0" });
    store.put_reference("DataProviders", &[provider]).await.expect("written reference data");
    let pois = Door::new(PoiService::new(dynamodb.pois()), CLOCK);
    let near: &[(&str, &str)] =
        &[("latitude", "52.52"), ("longitude", "13.41"), ("radiusKm", "2"), ("minPowerKw", "50")];
    recorder.ask(&pois, ("findPois", "GET /pois", DRIVER), &[], near, Value::Null).await;
    recorder.ask(&pois, ("getPoi", "GET /pois/{ocmId}", DRIVER), &[("ocmId", "123456")], &[], Value::Null).await;
    let route = ("getReferenceData", "GET /pois/reference-data/{kind}", DRIVER);
    recorder.ask(&pois, route, &[("kind", "DataProviders")], &[], Value::Null).await;
}
