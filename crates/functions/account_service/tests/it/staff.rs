//! Members of the staff whose access token is older than the last change of their row.

use serde_json::json;

use crate::world::{AT_ONCE, World, admin, user, vehicle};

const TRANSITIONS: &str = "POST /customers/{userId}/transitions";

/// Registers a person who gets this role, and returns the id of the user.
async fn member(world: &World, email: &str, role: &str) -> String {
    let id = world.register(email).await;
    world.act("setRole", admin(), json!({ "userId": id, "role": role })).await.unwrap();
    id
}

/// Returns the status of each action of the staff, with a token that still has the role ADMIN.
async fn statuses(world: &World, staff: &str, customer: &str) -> Vec<u64> {
    let none: &[(&str, &str)] = &[];
    let of_customer: &[(&str, &str)] = &[("userId", customer)];
    let mut statuses = Vec::new();
    for (route, path, body) in [
        ("GET /customers", none, json!({})),
        ("GET /customers/{userId}", of_customer, json!({})),
        ("POST /customers", none, json!({ "email": "new@example.com", "name": "New" })),
        (TRANSITIONS, of_customer, json!({ "to": "BLOCKED", "reason": "r" })),
        (TRANSITIONS, of_customer, json!({ "to": "ACTIVE" })),
        ("PUT /customers/{userId}/role", of_customer, json!({ "role": "TECH_SUPPORT" })),
        ("POST /customers/{userId}/vehicles", of_customer, json!({ "vehicle": vehicle("B 1") })),
        ("GET /customers/{userId}/vehicles", of_customer, json!({})),
        ("POST /customers/{userId}/tokens", of_customer, json!({ "tokenId": "T", "type": "RFID" })),
        ("GET /customers/{userId}/tokens", of_customer, json!({})),
        ("POST /clients", none, json!({ "name": "Gate", "scopes": ["parking:read"] })),
        ("GET /clients", none, json!({})),
    ] {
        statuses.push(world.http(route, path, (staff, "[ADMIN]"), body).await.0);
    }
    statuses
}

#[tokio::test]
async fn a_blocked_or_demoted_administrator_does_nothing_with_a_token_that_lives() {
    let world = World::new(AT_ONCE).await;
    let customer = world.register("ada@example.com").await;
    let staff = member(&world, "grace@example.com", "ADMIN").await;
    let all = statuses(&world, &staff, &customer).await;
    assert!(all.iter().all(|status| *status < 300), "{all:?}");
    world.act("setRole", admin(), json!({ "userId": customer, "role": "USER" })).await.unwrap();

    world.act("blockUser", admin(), json!({ "userId": staff, "reason": "r" })).await.unwrap();
    assert_eq!(statuses(&world, &staff, &customer).await, [403; 12], "blocked");
    let (of_staff, token) = ([("userId", staff.as_str())], (staff.as_str(), "[ADMIN]"));
    let (status, unblocked) = world.http(TRANSITIONS, &of_staff, token, json!({ "to": "ACTIVE" })).await;
    assert_eq!(status, 403, "{unblocked}");
    world.act("unblockUser", admin(), json!({ "userId": staff })).await.unwrap();

    world.act("setRole", admin(), json!({ "userId": staff, "role": "USER" })).await.unwrap();
    assert_eq!(statuses(&world, &staff, &customer).await, [403; 12], "demoted");
    let to_admin = json!({ "role": "ADMIN" });
    let (status, promoted) = world.http("PUT /customers/{userId}/role", &of_staff, token, to_admin).await;
    assert_eq!(status, 403, "{promoted}");

    world.act("deleteAccount", user(&staff), json!({})).await.unwrap();
    assert_eq!(statuses(&world, &staff, &customer).await, [403; 12], "deleted");
    assert_eq!((world.status(&customer).await.as_str(), world.cognito.users().await), ("ACTIVE", 3));
}

/// The role of the row is the lower one here; `TECH_SUPPORT` still does what it may.
#[tokio::test]
async fn an_administrator_who_became_tech_support_is_tech_support_at_once() {
    let world = World::new(AT_ONCE).await;
    let customer = world.register("ada@example.com").await;
    let staff = member(&world, "grace@example.com", "TECH_SUPPORT").await;
    let all = statuses(&world, &staff, &customer).await;
    let refused: Vec<usize> = (0..all.len()).filter(|index| all[*index] == 403).collect();
    assert_eq!(refused, [5, 10, 11], "setRole, createClient, listClients: {all:?}");
}

/// Somebody whom Cognito alone made an administrator may have no row, or one that only counts vehicles.
#[tokio::test]
async fn the_role_of_the_token_counts_where_the_row_says_nothing() {
    let world = World::new(AT_ONCE).await;
    let get = || world.http("GET /clients", &[], ("boss", "[ADMIN]"), json!({}));
    assert_eq!(get().await.0, 200);
    world.act("addVehicle", user("boss"), json!({ "vehicle": vehicle("B 2") })).await.unwrap();
    assert_eq!(get().await.0, 200);
    world.act("blockUser", admin(), json!({ "userId": "boss", "reason": "r" })).await.unwrap();
    assert_eq!(get().await.0, 403);
}
