use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::world::{AT_ONCE, World, error_type, support, user, vehicle};

#[tokio::test]
async fn vehicles_are_added_listed_and_removed() {
    let world = World::new(AT_ONCE).await;
    let ada = world.register("ada@example.com").await;
    let add = async |actor: Value, number: &str| {
        world.act("addVehicle", actor, json!({ "userId": ada, "vehicle": vehicle(number) })).await
    };
    let first = add(user(&ada), "M-EV 42E").await.unwrap();
    let id = first["vehicleId"].as_str().unwrap();
    assert_eq!((&first["brand"], &first["registrationNumber"]), (&json!("Renault"), &json!("M-EV 42E")));
    assert_eq!(error_type(&add(user(&ada), "m.ev.42e").await), "ConflictError");
    assert_eq!(error_type(&add(user("u-1"), "B 1").await), "ForbiddenError");
    add(support(), "B 1").await.unwrap();
    let listed = world.act("listVehicles", user(&ada), json!({})).await.unwrap();
    assert_eq!((&listed["count"], &listed["nextToken"]), (&json!(2), &Value::Null));
    let others = world.act("listVehicles", user("u-1"), json!({ "userId": ada })).await;
    assert_eq!(error_type(&others), "ForbiddenError");

    let remove = json!({ "vehicleId": id });
    assert_eq!(error_type(&world.act("removeVehicle", user("u-1"), remove.clone()).await), "NotFoundError");
    assert_eq!(world.act("removeVehicle", user(&ada), remove.clone()).await.unwrap(), first);
    assert_eq!(error_type(&world.act("removeVehicle", user(&ada), remove).await), "NotFoundError");
    add(user(&ada), "M-EV 42E").await.unwrap();
}

#[tokio::test]
async fn tokens_are_added_listed_and_removed() {
    let world = World::new(AT_ONCE).await;
    let ada = world.register("ada@example.com").await;
    let card = json!({ "tokenId": "04a2b3c4", "type": "RFID" });
    assert_eq!(world.act("addToken", user(&ada), card.clone()).await.unwrap(), card);
    let taken = json!({ "tokenId": "04A2B3C4", "type": "OTHER" });
    assert_eq!(error_type(&world.act("addToken", user("u-1"), taken).await), "ConflictError");
    let others = json!({ "userId": ada, "tokenId": "X", "type": "RFID" });
    assert_eq!(error_type(&world.act("addToken", user("u-1"), others).await), "ForbiddenError");
    let listed = world.act("listTokens", support(), json!({ "userId": ada })).await.unwrap();
    assert_eq!(listed["items"], json!([card]));
    let remove = json!({ "tokenId": "04A2B3C4" });
    assert_eq!(error_type(&world.act("removeToken", user("u-1"), remove.clone()).await), "NotFoundError");
    assert_eq!(world.act("removeToken", user(&ada), remove).await.unwrap(), card);
    assert_eq!(world.act("listTokens", user(&ada), json!({})).await.unwrap()["count"], 0);
}

/// Nobody needs an account to have vehicles and tokens: a valid token is all it takes to be a user.
#[tokio::test]
async fn a_user_without_an_account_has_vehicles_and_tokens() {
    let world = World::new(AT_ONCE).await;
    world.act("addVehicle", user("u-1"), json!({ "vehicle": vehicle("B 1") })).await.unwrap();
    world.act("addToken", user("u-2"), json!({ "tokenId": "T", "type": "APP_USER" })).await.unwrap();
    assert_eq!(world.act("listVehicles", user("u-1"), json!({})).await.unwrap()["count"], 1);
    assert_eq!(world.written("USER_REGISTERED", "u-1"), 0);
}

/// Cognito answers few requests a second. What a user has does not need them, and a list of all users is asked only for
/// what may be the id of a user of an identity provider.
#[tokio::test]
async fn few_requests_ask_the_user_pool() {
    let world = World::new(AT_ONCE).await;
    for (action, id, more, calls) in [
        ("addVehicle", "u-1", json!({ "vehicle": vehicle("B 1") }), 1),
        ("listVehicles", "u-1", json!({}), 1),
        ("addToken", "u-1", json!({ "tokenId": "T", "type": "RFID" }), 1),
        ("listTokens", "u-1", json!({}), 1),
        ("getAccount", "u-1", json!({}), 2),
        ("getAccount", "6f1e1d0a-3c52-4a7e-9b1c-7d8f0e2a4b61", json!({}), 3),
    ] {
        world.http.plan(BTreeMap::new());
        world.act(action, user(id), more).await.unwrap();
        assert_eq!(world.http.calls(), calls, "{action} of {id}");
    }
}

#[tokio::test]
async fn an_account_is_changed_by_its_user() {
    let world = World::new(AT_ONCE).await;
    let ada = world.register("ada@example.com").await;
    let changed = world.act("updateAccount", user(&ada), json!({ "language": "de" })).await.unwrap();
    assert_eq!((&changed["language"], &changed["name"]), (&json!("de"), &json!("Ada")));
    let changed = world.act("updateAccount", user(&ada), json!({ "name": "Ada L." })).await.unwrap();
    assert_eq!((&changed["language"], &changed["name"]), (&json!("de"), &json!("Ada L.")));
    let unknown = world.act("updateAccount", user("u-1"), json!({ "language": "de" })).await;
    assert_eq!(error_type(&unknown), "NotFoundError");
}
