//! Quotes by the tariff of a station and by a tariff in the request.

use lambda_kit::{Door, RemoteFunction};
use serde_json::{Value, json};
use session_service::SessionService;
use store::ChargingStore;
use testkit::{NOWHERE, http_event, invoke, sdk_config};

use crate::common::{CLOCK, World, admin, no_inbox};

/// Energy costs 1 EUR per kWh from 08:00 to 20:00 local time, and 0.50 EUR per kWh at night.
fn day_and_night() -> Value {
    let energy = |price: &str| json!([{ "type": "ENERGY", "price": price, "step_size": 1 }]);
    json!({
        "currency": "EUR",
        "elements": [
            { "price_components": energy("1.00"), "restrictions": { "start_time": "08:00", "end_time": "20:00" } },
            { "price_components": energy("0.50") }
        ]
    })
}

/// The tariff of [`day_and_night`] with fees, VAT and bounds of the price.
fn elaborate() -> Value {
    let mut tariff = day_and_night();
    let fees = json!([
        { "type": "FLAT", "price": "0.75", "vat": "19", "step_size": 1 },
        { "type": "TIME", "price": "2.40", "vat": "7", "step_size": 300 }
    ]);
    tariff["elements"].as_array_mut().unwrap().push(json!({ "price_components": fees }));
    tariff["min_price"] = json!({ "excl_vat": "3.00" });
    tariff["max_price"] = json!({ "excl_vat": "40.00", "incl_vat": "45.00" });
    tariff
}

/// A quote for `kwh` kWh in `minutes` minutes, with the fields of `basis`.
fn quote(basis: &Value, kwh: f64, minutes: u32, start_at: &str) -> Value {
    let mut quote = json!({ "action": "quote", "energyKwh": kwh, "minutes": minutes, "startAt": start_at });
    quote.as_object_mut().unwrap().extend(basis.as_object().unwrap().clone());
    quote
}

/// A function whose tables of stations and sessions do not exist: whatever reads them fails.
fn without_tables(world: &World) -> Door<SessionService> {
    let store = ChargingStore::new(world.dynamodb.client(), "no-stations", "no-sessions");
    let peer = RemoteFunction::new(&sdk_config(NOWHERE), "billing".to_owned());
    Door::new(SessionService::new(store, world.dynamodb.users(), peer, no_inbox()), CLOCK)
}

#[tokio::test]
async fn a_quote_by_a_tariff_is_that_of_a_station_with_the_tariff() {
    let world = World::new().await;
    let sessions = without_tables(&world);
    // Its time zone is Europe/Berlin.
    world.station("s-1", 1).await;
    for tariff in [day_and_night(), elaborate()] {
        let update = json!({ "action": "updateStation", "actor": admin(), "stationId": "s-1", "tariff": tariff });
        invoke(&world.stations, update).await.unwrap();
        let by_tariff = json!({ "tariff": tariff, "timeZone": "Europe/Berlin" });
        for (kwh, minutes, start_at) in [
            (30.0, 24, "2026-03-03T10:00:00Z"),
            (12.345, 90, "2026-03-03T18:30:00Z"),
            (0.0, 1, "2026-03-03T01:00:00Z"),
            // Through the change to summer time.
            (80.0, 1440, "2026-03-28T23:00:00Z"),
        ] {
            let by_station = quote(&json!({ "stationId": "s-1" }), kwh, minutes, start_at);
            let mut expected = invoke(&world.sessions, by_station.clone()).await.unwrap();
            assert_eq!(expected.as_object_mut().unwrap().remove("stationId"), Some(json!("s-1")));
            let quote = quote(&by_tariff, kwh, minutes, start_at);
            assert_eq!(invoke(&sessions, quote.clone()).await.unwrap(), expected, "{quote}");
            let event = http_event("POST /quotes", &[], &[], "u-1", "", &quote.to_string());
            let answer = invoke(&sessions, event).await.unwrap();
            let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
            assert_eq!((&answer["statusCode"], body), (&json!(200), expected), "{quote} over HTTP");
            assert!(invoke(&sessions, by_station).await.is_err(), "only a quote by a station reads the tables");
        }
    }
}

#[tokio::test]
async fn the_times_of_a_tariff_in_a_quote_are_in_its_time_zone() {
    let world = World::new().await;
    let sessions = without_tables(&world);
    for (zone, cost) in [
        // 08:30 to 09:30: by day.
        (json!("Europe/Berlin"), "10.00"),
        // 02:30 to 03:30: at night.
        (json!("America/New_York"), "5.00"),
        // 07:30 to 08:30: half of it at night.
        (json!("UTC"), "7.50"),
        (Value::Null, "7.50"),
    ] {
        let basis = json!({ "tariff": day_and_night(), "timeZone": zone });
        let quote = invoke(&sessions, quote(&basis, 10.0, 60, "2026-01-15T07:30:00Z")).await.unwrap();
        assert_eq!((&quote["cost"], quote.get("stationId")), (&json!(cost), None), "{zone}");
    }
}
