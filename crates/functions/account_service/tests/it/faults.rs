//! Each call of a command crashes, or loses its answer. The next request puts right what is left, once.

use std::collections::BTreeMap;

use aws_sdk_cognitoidentityprovider::types::{AttributeType, MessageActionType, UserStatusType};
use serde_json::{Value, json};
use testkit::{Fault, LocalCognito, Outcome};

use crate::customers::groups;
use crate::world::{AT_ONCE, CONFIRMING, PASSWORD, World, admin, error_type, sign_up, support, text, user, vehicle};

const FAULTS: [Fault; 3] = [Fault::CrashBefore, Fault::CrashAfter, Fault::LostAnswer];

/// Runs a command with one fault. Returns false if the command has no such call.
async fn disturbed(world: &World, (call, fault): (u32, Fault), work: impl Future<Output = Outcome>) -> bool {
    world.http.plan(BTreeMap::from([(call, fault)]));
    let _ = world.http.survive(work).await;
    let was_reached = world.http.calls() > call;
    world.http.plan(BTreeMap::new());
    was_reached
}

/// Returns the address of a person for one fault.
fn address(call: u32, fault: Fault) -> String {
    format!("{fault:?}-{call}@example.com").to_lowercase()
}

/// Returns the id of the user of the pool with this address, if there is one.
async fn known(world: &World, email: &str) -> Option<String> {
    let get = world.cognito.client().admin_get_user().user_pool_id(&world.cognito.pool).username(email);
    get.send().await.ok().map(|user| user.username)
}

/// Returns whether the address of a user of the pool is verified. Only then Cognito mails a code for a new password.
async fn is_verified(world: &World, email: &str) -> bool {
    let get = world.cognito.client().admin_get_user().user_pool_id(&world.cognito.pool).username(email);
    let attributes = get.send().await.unwrap().user_attributes.unwrap_or_default();
    attributes.iter().any(|attribute| attribute.name() == "email_verified" && attribute.value() == Some("true"))
}

#[tokio::test]
async fn a_sign_up_is_completed_by_the_next_request() {
    for rules in [CONFIRMING, AT_ONCE] {
        let world = World::new(rules).await;
        let mut calls = 0;
        for fault in FAULTS {
            for call in 0.. {
                let email = address(call, fault);
                let mut command = sign_up(&email);
                command["vehicle"] = vehicle(&format!("{fault:?}{call}"));
                if !disturbed(&world, (call, fault), world.act("register", Value::Null, command.clone())).await {
                    break;
                }
                calls += 1;
                let again = world.act("register", Value::Null, command).await;
                assert!(again.is_ok() || error_type(&again) == "ConflictError", "{fault:?} at {call}: {again:?}");
                if !rules.auto_confirm {
                    let code = json!({ "email": email, "code": LocalCognito::CONFIRMATION_CODE });
                    world.act("confirm", Value::Null, code).await.unwrap();
                }
                world.login(&email, PASSWORD).await.unwrap();
                let id = known(&world, &email).await.unwrap();
                assert_eq!(world.status(&id).await, "ACTIVE", "{fault:?} at {call}");
                assert_eq!(world.written("USER_REGISTERED", &id), 1, "{fault:?} at {call}");
                // Where the user confirms the address, AWS marks it as verified, and the local Cognito does not.
                assert!(!rules.auto_confirm || is_verified(&world, &email).await, "{fault:?} at {call}");
            }
        }
        let calls_of_one = if rules.auto_confirm { 5 } else { 3 };
        assert!(calls >= 3 * calls_of_one, "{calls}");
    }
}

#[tokio::test]
async fn a_sign_in_completes_a_sign_up_that_nobody_repeats() {
    let world = World::new(AT_ONCE).await;
    let mut calls = 0;
    for fault in FAULTS {
        for call in 0.. {
            let email = address(call, fault);
            if !disturbed(&world, (call, fault), world.act("register", Value::Null, sign_up(&email))).await {
                assert!(call >= 5, "{call}");
                break;
            }
            let Some(id) = known(&world, &email).await else { continue };
            calls += 1;
            world.login(&email, PASSWORD).await.unwrap();
            world.login(&email, PASSWORD).await.unwrap();
            assert_eq!(world.status(&id).await, "ACTIVE", "{fault:?} at {call}");
            assert_eq!(world.written("USER_REGISTERED", &id), 1, "{fault:?} at {call}");
            assert!(is_verified(&world, &email).await, "{fault:?} at {call}");
        }
    }
    assert!(calls >= 3 * 4, "{calls}");
}

/// Cognito mails no code for a new password to somebody with a temporary password or an address that is not verified.
#[tokio::test]
async fn a_customer_whose_creation_died_can_set_a_password() {
    let world = World::new(CONFIRMING).await;
    let mut calls = 0;
    for fault in FAULTS {
        for call in 0.. {
            let email = address(call, fault);
            let command = json!({ "email": email, "name": "Grace" });
            if !disturbed(&world, (call, fault), world.act("createCustomer", support(), command)).await {
                break;
            }
            let Some(id) = known(&world, &email).await else { continue };
            calls += 1;
            world.act("forgotPassword", Value::Null, json!({ "email": email })).await.unwrap();
            let (status, is_verified) = standing(&world, &id).await;
            assert_eq!((status, is_verified), (UserStatusType::Confirmed, true), "{fault:?} at {call}");
            let code = LocalCognito::RESET_CODE;
            let reset = json!({ "email": email, "code": code, "newPassword": PASSWORD });
            world.act("resetPassword", Value::Null, reset).await.unwrap();
            assert_eq!(world.login(&email, PASSWORD).await.unwrap()["userId"], id, "{fault:?} at {call}");
            assert_eq!(world.status(&id).await, "ACTIVE", "{fault:?} at {call}");
        }
    }
    assert!(calls >= 3 * 2, "{calls}");
}

/// An operator may have given the temporary password to its owner. Only that of a customer is replaced.
#[tokio::test]
async fn the_temporary_password_of_the_staff_stays() {
    let world = World::new(CONFIRMING).await;
    let (client, pool) = (world.cognito.client(), &world.cognito.pool);
    for (email, group, replaced) in [
        ("admin@example.com", Some("ADMIN"), false),
        ("support@example.com", Some("TECH_SUPPORT"), false),
        ("user@example.com", Some("USER"), true),
        ("grace@example.com", None, true),
    ] {
        let address = AttributeType::builder().name("email").value(email).build().unwrap();
        let create = client.admin_create_user().user_pool_id(pool).username(email).temporary_password(PASSWORD);
        let create = create.user_attributes(address);
        let created = create.message_action(MessageActionType::Suppress).send().await.unwrap();
        let id = created.user.unwrap().username.unwrap();
        if let Some(group) = group {
            let add = client.admin_add_user_to_group().user_pool_id(pool).username(&id).group_name(group);
            add.send().await.unwrap();
        }
        let customer = json!({ "email": email, "name": "Eve" });
        assert_eq!(error_type(&world.act("createCustomer", support(), customer).await), "ConflictError");
        world.act("forgotPassword", Value::Null, json!({ "email": email })).await.unwrap();
        let expected = if replaced { UserStatusType::Confirmed } else { UserStatusType::ForceChangePassword };
        assert_eq!(standing(&world, &id).await.0, expected, "{email}");
    }
}

/// Returns the status of a user of the pool, and whether the address counts as verified.
async fn standing(world: &World, id: &str) -> (UserStatusType, bool) {
    let get = world.cognito.client().admin_get_user().user_pool_id(&world.cognito.pool).username(id);
    let found = get.send().await.unwrap();
    let verified = found.user_attributes().iter().find(|attribute| attribute.name() == "email_verified");
    (found.user_status.clone().unwrap(), verified.is_some_and(|attribute| attribute.value() == Some("true")))
}

#[tokio::test]
async fn a_confirmation_is_completed_by_the_next_request() {
    let world = World::new(CONFIRMING).await;
    for (fault, next) in FAULTS.into_iter().flat_map(|fault| [(fault, "confirm"), (fault, "login")]) {
        for call in 0.. {
            let email = format!("{next}-{}", address(call, fault));
            let id = world.register(&email).await;
            let code = json!({ "email": email, "code": LocalCognito::CONFIRMATION_CODE });
            let confirm = || world.act("confirm", Value::Null, code.clone());
            if !disturbed(&world, (call, fault), confirm()).await {
                assert!(call >= 4, "{call}");
                break;
            }
            let is_completed = next == "login" && world.login(&email, PASSWORD).await.is_ok();
            if !is_completed {
                // The answer to a confirmed address is that to a wrong code. The sign-in then writes the row.
                let again = confirm().await;
                let is_refused = next == "confirm" && again.as_ref().is_err_and(|(kind, _)| kind == "ValidationError");
                assert!(again.is_ok() || is_refused, "{fault:?} at {call}: {again:?}");
                world.login(&email, PASSWORD).await.unwrap();
            }
            assert_eq!(world.status(&id).await, "ACTIVE", "{fault:?} at {call}, then {next}");
        }
    }
}

/// The next request may be the same one, or any one of the user.
#[tokio::test]
async fn a_role_is_completed_by_the_next_request() {
    let world = World::new(AT_ONCE).await;
    let nexts = ["setRole", "login", "refresh", "getAccount"];
    for (fault, next) in FAULTS.into_iter().flat_map(|fault| nexts.map(|next| (fault, next))) {
        for call in 0.. {
            let email = format!("{next}-{}", address(call, fault)).to_lowercase();
            let id = world.register(&email).await;
            let command = json!({ "userId": id, "role": "TECH_SUPPORT" });
            if !disturbed(&world, (call, fault), world.act("setRole", admin(), command.clone())).await {
                assert!(call >= 11, "{call}");
                break;
            }
            // Until then, the mark says that the groups may be those of an earlier role.
            let row = world.row(&id).await.unwrap();
            let (is_done, is_marked) = (groups(&world, &id).await == ["TECH_SUPPORT"], row.contains_key("rolePending"));
            let is_given = text(&row, "role") == "TECH_SUPPORT";
            assert!(is_marked || is_done || !is_given, "{fault:?} at {call}");
            match next {
                "setRole" => drop(world.act("setRole", admin(), command).await.unwrap()),
                "getAccount" => drop(world.act("getAccount", user(&id), json!({})).await.unwrap()),
                _ => {
                    let tokens = world.login(&email, PASSWORD).await.unwrap();
                    assert!(next == "login" || world.refresh(&tokens["refreshToken"]).await.is_ok(), "signed out");
                }
            }
            let row = world.row(&id).await.unwrap();
            assert!(!row.contains_key("rolePending"), "{fault:?} at {call}, then {next}");
            if is_given || next == "setRole" {
                assert_eq!(text(&row, "role"), "TECH_SUPPORT", "{fault:?} at {call}, then {next}");
                assert_eq!(groups(&world, &id).await, ["TECH_SUPPORT"], "{fault:?} at {call}, then {next}");
            }
        }
    }
}

/// With each request, a user whose role is pending has the groups written, and so could keep the user pool too busy for
/// a block that waits for it.
#[tokio::test]
async fn a_block_does_not_wait_for_a_pending_role() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    // The rows of the actor and of the user are read, and then the role is marked.
    world.http.plan(BTreeMap::from([(2, Fault::CrashAfter)]));
    let set_role = world.act("setRole", admin(), json!({ "userId": id, "role": "USER" }));
    assert!(world.http.survive(set_role).await.is_none());
    assert!(world.row(&id).await.unwrap().contains_key("rolePending"));

    // The same two rows are read, and the block is written. Only then the user pool is asked.
    world.http.plan(BTreeMap::from([(3, Fault::CrashBefore)]));
    let block = world.act("blockUser", admin(), json!({ "userId": id, "reason": "r" }));
    assert!(world.http.survive(block).await.is_none());
    world.http.plan(BTreeMap::new());
    assert_eq!(world.status(&id).await, "BLOCKED");
    assert!(world.row(&id).await.unwrap().contains_key("rolePending"));
}

#[tokio::test]
async fn a_block_is_completed_by_the_next_request() {
    let world = World::new(AT_ONCE).await;
    for fault in FAULTS {
        for call in 0.. {
            let email = address(call, fault);
            let id = world.register(&email).await;
            let session = world.login(&email, PASSWORD).await.unwrap();
            let command = json!({ "userId": id, "reason": "r" });
            if !disturbed(&world, (call, fault), world.act("blockUser", support(), command.clone())).await {
                assert!(call >= 4, "{call}");
                break;
            }
            let again = world.act("blockUser", support(), command).await;
            assert!(again.is_ok() || error_type(&again) == "ConflictError", "{fault:?} at {call}: {again:?}");
            assert_eq!(world.status(&id).await, "BLOCKED", "{fault:?} at {call}");
            assert_eq!(world.outbox(&id).await, ["USER_BLOCKED"], "{fault:?} at {call}");
            assert_eq!(error_type(&world.refresh(&session["refreshToken"]).await), "ForbiddenError");
            assert_eq!(error_type(&world.login(&email, PASSWORD).await), "ForbiddenError");
        }
    }
}

#[tokio::test]
async fn a_deletion_is_completed_by_the_next_request() {
    let world = World::new(AT_ONCE).await;
    for fault in FAULTS {
        for call in 0.. {
            let email = address(call, fault);
            let id = world.register(&email).await;
            let number = format!("{fault:?}{call}");
            world.act("addVehicle", user(&id), json!({ "vehicle": vehicle(&number) })).await.unwrap();
            world.act("addToken", user(&id), json!({ "tokenId": number, "type": "RFID" })).await.unwrap();
            if !disturbed(&world, (call, fault), world.act("deleteAccount", user(&id), json!({}))).await {
                assert!(call >= 7, "{call}");
                break;
            }
            let deleted = world.act("deleteAccount", user(&id), json!({})).await.unwrap();
            assert_eq!(deleted["status"], "DELETED", "{fault:?} at {call}");
            assert_eq!(known(&world, &email).await, None, "{fault:?} at {call}");
            assert_eq!(world.written("USER_DELETED", &id), 1, "{fault:?} at {call}");
            let items = world.dynamodb.items("ev-users").await;
            let of_user = items.iter().filter(|item| format!("{item:?}").contains(&id)).count();
            assert_eq!(of_user, 1, "{fault:?} at {call}");
        }
    }
}

/// A machine client whose creation dies is of no use to anybody, and another one can be created.
#[tokio::test]
async fn a_client_is_created_whole_or_useless() {
    let world = World::new(AT_ONCE).await;
    for fault in FAULTS {
        for call in 0.. {
            let command = json!({ "name": "Gate", "scopes": ["operations:read"] });
            if !disturbed(&world, (call, fault), world.act("createClient", admin(), command.clone())).await {
                assert!(call >= 5, "{call}");
                break;
            }
            let client = world.act("createClient", admin(), command).await.unwrap();
            let grant = json!({
                "grant_type": "client_credentials", "client_id": client["clientId"],
                "client_secret": client["clientSecret"]
            });
            world.act("token", Value::Null, grant).await.unwrap();
        }
    }
    // Each client that is listed has a row with its scopes, and can be revoked.
    let listed = world.act("listClients", admin(), json!({ "limit": 100 })).await.unwrap();
    for client in listed["items"].as_array().unwrap() {
        assert_eq!(client["scopes"], json!(["operations:read"]));
        world.act("revokeClient", admin(), json!({ "clientId": client["clientId"] })).await.unwrap();
    }
    assert_eq!(world.act("listClients", admin(), json!({})).await.unwrap()["count"], 0);
}
