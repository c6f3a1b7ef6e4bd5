use aws_sdk_cognitoidentityprovider::types::AttributeType;
use serde_json::{Value, json};

use crate::world::{AT_ONCE, PASSWORD, World, admin, error_type, support, user, vehicle};

#[tokio::test]
async fn a_blocked_user_can_neither_sign_in_nor_refresh() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    let session = world.login("ada@example.com", PASSWORD).await.unwrap();
    let block = json!({ "userId": id, "reason": "unpaid invoices", "endSessions": true });
    assert_eq!(error_type(&world.act("blockUser", user(&id), block.clone()).await), "ForbiddenError");
    let blocked = world.act("blockUser", support(), block.clone()).await.unwrap();
    assert_eq!((&blocked["status"], &blocked["blockedReason"]), (&json!("BLOCKED"), &json!("unpaid invoices")));
    assert_eq!(world.outbox(&id).await, ["USER_BLOCKED"]);
    let refused = world.login("ada@example.com", PASSWORD).await.unwrap_err();
    assert!(refused.0 == "ForbiddenError" && refused.1.contains("blocked"), "{refused:?}");
    assert_eq!(error_type(&world.login("ada@example.com", "Wrong-Horse-11").await), "ForbiddenError");
    assert_eq!(error_type(&world.refresh(&session["refreshToken"]).await), "ForbiddenError");
    assert_eq!(error_type(&world.act("blockUser", support(), block).await), "ConflictError");
    assert_eq!(world.outbox(&id).await, ["USER_BLOCKED"], "blocked once");
    let account = world.act("getAccount", user(&id), json!({})).await.unwrap();
    assert!(account["status"] == "BLOCKED" && account.get("blockedReason").is_none(), "{account}");

    let unblocked = world.act("unblockUser", support(), json!({ "userId": id })).await.unwrap();
    assert_eq!((&unblocked["status"], unblocked.get("blockedReason")), (&json!("ACTIVE"), None));
    assert_eq!(world.outbox(&id).await, ["USER_UNBLOCKED"]);
    let again = world.act("unblockUser", support(), json!({ "userId": id, "reason": "paid" })).await;
    assert_eq!(error_type(&again), "ConflictError");
    world.login("ada@example.com", PASSWORD).await.unwrap();
}

/// Cognito finds users by their addresses as well. An address is no id, and nothing may be written under it.
#[tokio::test]
async fn an_address_is_no_id_of_a_user() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    let session = world.login("ada@example.com", PASSWORD).await.unwrap();
    for (action, more) in [
        ("getCustomer", json!({})),
        ("blockUser", json!({ "reason": "r" })),
        ("unblockUser", json!({})),
        ("setRole", json!({ "role": "ADMIN" })),
        ("addVehicle", json!({ "vehicle": vehicle("B 1") })),
        ("listVehicles", json!({})),
        ("removeVehicle", json!({ "vehicleId": "v" })),
        ("addToken", json!({ "tokenId": "T", "type": "RFID" })),
        ("listTokens", json!({})),
        ("removeToken", json!({ "tokenId": "T" })),
    ] {
        let mut command = more;
        command["userId"] = json!("ada@example.com");
        let (kind, message) = world.act(action, admin(), command).await.unwrap_err();
        assert!(kind == "ValidationError" && message.contains("userId"), "{action}: {kind}: {message}");
    }
    // The actor of a direct invocation is taken as it is, and its address finds nobody.
    let nobody = user("ada@example.com");
    let account = world.act("getAccount", nobody.clone(), json!({})).await.unwrap();
    assert_eq!(account.get("email"), None, "{account}");
    world.act("logout", nobody.clone(), json!({})).await.unwrap();
    world.refresh(&session["refreshToken"]).await.unwrap();
    let change = json!({ "currentPassword": PASSWORD, "newPassword": "Battery-Staple-7" });
    assert_eq!(error_type(&world.act("changePassword", nobody, change).await), "NotFoundError");
    assert_eq!((world.dynamodb.items("ev-users").await.len(), groups(&world, &id).await), (1, vec![]));
}

/// A block that an operator writes into the table holds at once, also for a sign-in that goes on.
#[tokio::test]
async fn a_block_by_hand_holds_for_refreshes() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    let session = world.login("ada@example.com", PASSWORD).await.unwrap();
    world.dynamodb.block_user(&id).await;
    assert_eq!(error_type(&world.refresh(&session["refreshToken"]).await), "ForbiddenError");
    assert_eq!(error_type(&world.login("ada@example.com", PASSWORD).await), "ForbiddenError");
    let customer = world.act("getCustomer", support(), json!({ "userId": id })).await.unwrap();
    assert_eq!((&customer["status"], &customer["email"]), (&json!("BLOCKED"), &json!("ada@example.com")));
}

/// A valid token is all it takes to be a user, so somebody without a row can be blocked, too.
#[tokio::test]
async fn a_user_without_a_row_is_blocked() {
    let world = World::new(AT_ONCE).await;
    let account = world.act("getAccount", user("u-1"), json!({})).await.unwrap();
    assert_eq!(account, json!({ "userId": "u-1", "status": "ACTIVE", "role": "USER", "language": "en" }));
    let unknown = world.act("getCustomer", support(), json!({ "userId": "u-1" })).await;
    assert_eq!(error_type(&unknown), "NotFoundError");
    let block = json!({ "userId": "u-1", "reason": "fraud" });
    assert_eq!(world.act("blockUser", admin(), block).await.unwrap()["status"], "BLOCKED");
    assert_eq!(world.status("u-1").await, "BLOCKED");
    assert_eq!(
        (world.outbox("u-1").await, world.written("USER_REGISTERED", "u-1")),
        (vec!["USER_BLOCKED".to_owned()], 0)
    );
}

/// `TECH_SUPPORT` may block and unblock everybody but administrators.
#[tokio::test]
async fn an_administrator_is_blocked_by_administrators_alone() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    world.act("setRole", admin(), json!({ "userId": id, "role": "ADMIN" })).await.unwrap();
    let session = world.login("ada@example.com", PASSWORD).await.unwrap();
    let (block, unblock) = (json!({ "userId": id, "reason": "r" }), json!({ "userId": id }));
    assert_eq!(error_type(&world.act("blockUser", support(), block.clone()).await), "ForbiddenError");
    assert_eq!(world.status(&id).await, "ACTIVE");
    world.refresh(&session["refreshToken"]).await.unwrap();
    world.act("blockUser", admin(), block).await.unwrap();
    assert_eq!(error_type(&world.act("unblockUser", support(), unblock.clone()).await), "ForbiddenError");
    assert_eq!(world.status(&id).await, "BLOCKED");
    world.act("unblockUser", admin(), unblock).await.unwrap();
}

#[tokio::test]
async fn a_role_is_written_to_the_row_and_to_the_groups() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    let session = world.login("ada@example.com", PASSWORD).await.unwrap();
    let to = |role: &str| json!({ "userId": id, "role": role });
    for actor in [user(&id), support()] {
        assert_eq!(error_type(&world.act("setRole", actor, to("ADMIN")).await), "ForbiddenError");
    }
    for role in ["ADMIN", "TECH_SUPPORT", "USER"] {
        let changed = world.act("setRole", admin(), to(role)).await.unwrap();
        assert_eq!(changed["role"], role);
        assert!(!world.row(&id).await.unwrap().contains_key("rolePending"), "{role}");
        assert_eq!(groups(&world, &id).await, [role]);
    }
    assert_eq!(error_type(&world.refresh(&session["refreshToken"]).await), "ForbiddenError", "signed out");
    let unknown = json!({ "userId": "u-1", "role": "ADMIN" });
    assert_eq!(error_type(&world.act("setRole", admin(), unknown).await), "NotFoundError");
}

/// Returns the groups of a user in the user pool.
pub async fn groups(world: &World, user: &str) -> Vec<String> {
    let list = world.cognito.client().admin_list_groups_for_user().user_pool_id(&world.cognito.pool).username(user);
    let groups = list.send().await.unwrap().groups.unwrap_or_default();
    groups.into_iter().filter_map(|group| group.group_name).collect()
}

#[tokio::test]
async fn customers_are_listed_by_address_status_and_registration_number() {
    let world = World::new(AT_ONCE).await;
    let ada = world.register("ada@example.com").await;
    let grace = world.register("grace@example.com").await;
    world.act("addVehicle", user(&grace), json!({ "vehicle": vehicle("M-EV 42E") })).await.unwrap();
    let listed = async |arguments: Value| -> Vec<String> {
        let page = world.act("listCustomers", support(), arguments).await.unwrap();
        let items = page["items"].as_array().unwrap().iter();
        items.map(|customer| customer["userId"].as_str().unwrap().to_owned()).collect()
    };
    let mut all = listed(json!({})).await;
    all.sort();
    let mut both = vec![ada.clone(), grace.clone()];
    both.sort();
    assert_eq!(all, both);
    assert_eq!(listed(json!({ "limit": 1 })).await.len(), 1);
    assert_eq!(listed(json!({ "status": "BLOCKED" })).await, [""; 0]);
    assert_eq!(listed(json!({ "email": "ADA@example.com" })).await, [ada.as_str()]);
    assert_eq!(listed(json!({ "email": "eve@example.com" })).await, [""; 0]);
    assert_eq!(listed(json!({ "registrationNumber": "mev42e" })).await, [grace.as_str()]);
    assert_eq!(error_type(&world.act("listCustomers", user(&ada), json!({})).await), "ForbiddenError");
    assert_eq!(error_type(&world.act("getCustomer", user(&ada), json!({ "userId": ada })).await), "ForbiddenError");
}

/// A user who signed up without `register`, e.g. on the hosted pages, gets the row at the first request.
#[tokio::test]
async fn a_user_of_the_pool_without_a_row_gets_one_once() {
    let world = World::new(AT_ONCE).await;
    let (client, pool) = (world.cognito.client(), &world.cognito.pool);
    let sign_up = client.sign_up().client_id(&world.cognito.app_client).username("ada@example.com").password(PASSWORD);
    let name = AttributeType::builder().name("name").value(format!(" Ada\n{} ", "x".repeat(300))).build().unwrap();
    let sign_up = sign_up.user_attributes(name);
    let id = sign_up.send().await.unwrap().user_sub;
    client.admin_confirm_sign_up().user_pool_id(pool).username(&id).send().await.unwrap();
    client.admin_add_user_to_group().user_pool_id(pool).username(&id).group_name("ADMIN").send().await.unwrap();
    for _ in 0..2 {
        let customer = world.act("getCustomer", support(), json!({ "userId": id })).await.unwrap();
        assert_eq!((&customer["email"], &customer["role"]), (&json!("ada@example.com"), &json!("ADMIN")));
        assert_eq!(customer["name"], format!("Ada{}", "x".repeat(97)));
    }
    assert_eq!(world.written("USER_REGISTERED", &id), 1);
}
