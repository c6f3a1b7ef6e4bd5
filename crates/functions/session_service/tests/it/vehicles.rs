//! Starts with a saved vehicle, and by users who may not start.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::id::{UserId, VehicleId};
use serde_json::{Value, json};
use store::EventContext;
use testkit::{Outcome, invoke, registered, vehicle};

use crate::common::{CLOCK, World, error_type, id};

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

/// Registers a user who saves these vehicles, of 52 kWh and 50 kW each.
async fn register(world: &World, owner: &str, vehicles: &[&str]) {
    let (users, now) = (world.dynamodb.users(), (CLOCK.0)());
    let context = EventContext { correlation_id: "correlation-1".to_owned(), now };
    users.insert(&registered(owner, now), None, &context).await.unwrap();
    for id in vehicles {
        users.add_vehicle(&user(owner), &vehicle(id, None)).await.unwrap();
    }
}

/// Starts a session at a port of s-1 with a saved vehicle.
async fn start(world: &World, port: &str, by: &str, vehicle_id: &str, more: Value) -> Outcome {
    let mut named = json!({ "vehicle": null, "vehicleId": vehicle_id });
    named.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.start("s-1", port, by, named).await
}

#[tokio::test]
async fn a_session_starts_with_a_saved_vehicle_of_its_user() {
    let world = World::new().await;
    world.station("s-1", 2).await;
    register(&world, "u-1", &["v-1"]).await;
    for (by, missing) in [("u-1", "v-2"), ("u-2", "v-1")] {
        let refused = start(&world, "port-1", by, missing, json!({})).await;
        assert_eq!(error_type(&refused), "NotFoundError");
        assert_eq!(refused.unwrap_err().1, format!("there is no vehicle of user {by} named {missing}"));
    }
    assert!(world.dynamodb.items("ev-sessions").await.is_empty());
    let session = start(&world, "port-1", "u-1", "v-1", json!({})).await.unwrap();
    assert_eq!(session["vehicle"], json!({ "batteryCapacityKwh": 52.0, "maxPowerKw": 50.0 }));
    // Staff name a vehicle of the user for whom they start.
    let by_staff = json!({
        "action": "startSession", "actor": { "userId": "t-1", "role": "TECH_SUPPORT" }, "userId": "u-1",
        "stationId": "s-1", "portId": "port-2", "vehicleId": "v-1", "chargePercent": 20
    });
    assert_eq!(invoke(&world.sessions, by_staff).await.unwrap()["vehicle"]["batteryCapacityKwh"], 52.0);
}

#[tokio::test]
async fn a_start_names_exactly_one_vehicle() {
    let world = World::new().await;
    world.station("s-1", 1).await;
    register(&world, "u-1", &["v-1"]).await;
    for (more, says) in [
        (json!({ "vehicle": null }), "vehicle: one of vehicle and vehicleId is required"),
        (json!({ "vehicleId": "v-1" }), "vehicleId: is given together with vehicle: give vehicle, or vehicleId"),
    ] {
        let refused = world.start("s-1", "port-1", "u-1", more).await;
        assert_eq!(error_type(&refused), "ValidationError");
        assert!(refused.as_ref().unwrap_err().1.contains(says), "{refused:?}");
    }
    assert!(world.dynamodb.items("ev-sessions").await.is_empty());
}

#[tokio::test]
async fn a_repeated_start_gives_its_session_even_without_the_vehicle() {
    let world = World::new().await;
    world.station("s-1", 2).await;
    register(&world, "u-1", &["v-1", "v-2"]).await;
    let keyed = json!({ "idempotencyKey": "key-1" });
    let first = start(&world, "port-1", "u-1", "v-1", keyed.clone()).await.unwrap();
    let again = start(&world, "port-1", "u-1", "v-1", keyed.clone()).await.unwrap();
    assert_eq!(id(&again), id(&first));
    // Another vehicle is another request, even one that is described like the saved one.
    assert_eq!(error_type(&start(&world, "port-1", "u-1", "v-2", keyed.clone()).await), "ConflictError");
    let mut described = keyed.clone();
    described["vehicle"] = json!({ "batteryCapacityKwh": 52, "maxPowerKw": 50 });
    assert_eq!(error_type(&world.start("s-1", "port-1", "u-1", described).await), "ConflictError");
    let gone = VehicleId::new("v-1").unwrap();
    world.dynamodb.users().remove_vehicle(&user("u-1"), &gone).await.unwrap();
    let removed = start(&world, "port-1", "u-1", "v-1", keyed).await.unwrap();
    assert_eq!((id(&removed), &removed["vehicle"]["batteryCapacityKwh"]), (id(&first), &json!(52.0)));
    let fresh = start(&world, "port-2", "u-1", "v-1", json!({})).await;
    assert_eq!(error_type(&fresh), "NotFoundError");
}

#[tokio::test]
async fn users_who_are_blocked_or_deleted_start_nothing() {
    let world = World::new().await;
    world.station("s-1", 2).await;
    let put = async |status: &str| {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let put = world.dynamodb.client().put_item().table_name("ev-users");
        let put = put.item("PK", text(&format!("USER#{status}"))).item("SK", text("METADATA"));
        put.item("status", text(status)).send().await.unwrap();
    };
    for status in ["BLOCKED", "DELETING", "DELETED"] {
        put(status).await;
        assert_eq!(error_type(&world.start("s-1", "port-1", status, json!({})).await), "ForbiddenError", "{status}");
        // The refusal does not depend on the vehicle.
        assert_eq!(error_type(&start(&world, "port-1", status, "v-1", json!({})).await), "ForbiddenError", "{status}");
    }
    assert!(world.dynamodb.items("ev-sessions").await.is_empty());
    for (status, port) in [("ACTIVE", "port-1"), ("UNCONFIRMED", "port-2")] {
        put(status).await;
        world.start("s-1", port, status, json!({})).await.unwrap();
    }
}
