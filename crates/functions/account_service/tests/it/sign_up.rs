use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::{Fault, LocalCognito, http_event, invoke, resources};

use crate::world::{AT_ONCE, CONFIRMING, PASSWORD, World, admin, error_type, sign_up, support, text, user, vehicle};

#[tokio::test]
async fn a_person_registers_confirms_and_signs_in() {
    let world = World::new(CONFIRMING).await;
    let mut command = sign_up("Ada@Example.com");
    command["vehicle"] = vehicle("M-EV 42E");
    command["language"] = json!("de");
    let answer = world.act("register", Value::Null, command).await.unwrap();
    let id = answer["userId"].as_str().unwrap().to_owned();
    assert_eq!(answer, json!({ "userId": id, "email": "ada@example.com", "name": "Ada", "status": "UNCONFIRMED" }));
    assert_eq!(world.written("USER_REGISTERED", &id), 1);
    let row = world.row(&id).await.unwrap();
    assert_eq!((text(&row, "email"), text(&row, "language")), ("ada@example.com", "de"));

    let refused = world.login("ada@example.com", PASSWORD).await;
    assert_eq!(error_type(&refused), "ForbiddenError");
    let wrong = json!({ "email": "ada@example.com", "code": "000000" });
    assert_eq!(error_type(&world.act("confirm", Value::Null, wrong).await), "ValidationError");
    assert_eq!(world.status(&id).await, "UNCONFIRMED");
    let code = json!({ "email": "ADA@example.com", "code": LocalCognito::CONFIRMATION_CODE });
    let confirmed = json!({ "email": "ada@example.com", "status": "ACTIVE" });
    assert_eq!(world.act("confirm", Value::Null, code.clone()).await.unwrap(), confirmed);
    assert_eq!(error_type(&world.act("confirm", Value::Null, code).await), "ValidationError", "a code is used once");
    assert_eq!(world.status(&id).await, "ACTIVE");

    let signed_in = world.login("ADA@example.com", PASSWORD).await.unwrap();
    assert_eq!((&signed_in["userId"], &signed_in["tokenType"]), (&json!(id), &json!("Bearer")));
    assert_eq!(signed_in["expiresIn"], 900);
    for token in ["accessToken", "idToken", "refreshToken"] {
        assert!(signed_in[token].as_str().unwrap().len() > 20, "{token}");
    }
    let account = world.act("getAccount", user(&id), json!({})).await.unwrap();
    assert_eq!((&account["status"], &account["role"]), (&json!("ACTIVE"), &json!("USER")));
    assert_eq!(world.written("USER_REGISTERED", &id), 0);
}

#[tokio::test]
async fn without_confirmation_a_person_is_active_at_once() {
    let world = World::new(AT_ONCE).await;
    let event = http_event("POST /auth/register", &[], &[], "", "", &sign_up("ada@example.com").to_string());
    let response = invoke(&world.accounts, event).await.unwrap();
    assert_eq!((&response["statusCode"], &response["headers"]["location"]), (&json!(201), &json!("/account")));
    let answer: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
    assert_eq!(answer["status"], "ACTIVE");
    world.login("ada@example.com", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_known_address_is_a_conflict_confirmed_or_not() {
    let world = World::new(CONFIRMING).await;
    let id = world.register("ada@example.com").await;
    let again = || world.act("register", Value::Null, sign_up("ADA@example.com"));
    assert_eq!(error_type(&again().await), "ConflictError");
    let code = json!({ "email": "ada@example.com", "code": LocalCognito::CONFIRMATION_CODE });
    world.act("confirm", Value::Null, code).await.unwrap();
    assert_eq!(error_type(&again().await), "ConflictError");
    let customer = json!({ "email": "ada@example.com", "name": "Eve" });
    assert_eq!(error_type(&world.act("createCustomer", admin(), customer).await), "ConflictError");
    assert_eq!((world.cognito.users().await, world.written("USER_REGISTERED", &id)), (1, 1));
    assert_eq!(text(&world.row(&id).await.unwrap(), "name"), "Ada");
}

#[tokio::test]
async fn a_registration_number_that_is_taken_leaves_no_account() {
    let world = World::new(AT_ONCE).await;
    let ada = world.register("ada@example.com").await;
    world.act("addVehicle", user(&ada), json!({ "vehicle": vehicle("M-EV 42E") })).await.unwrap();
    // With a known address, nobody learns whether a number is.
    let refused = async |number: &str| {
        let mut command = sign_up("ada@example.com");
        command["vehicle"] = vehicle(number);
        world.act("register", Value::Null, command).await.unwrap_err()
    };
    assert_eq!(refused("M-EV 42E").await, refused("B 1").await);
    // A refused sign-up leaves the address free. Somebody could repeat it, so Cognito must not mail a code.
    let mut command = sign_up("grace@example.com");
    command["vehicle"] = vehicle("m ev42e");
    for (action, actor, reads) in [("register", Value::Null, 2), ("createCustomer", admin(), 3)] {
        world.http.plan(BTreeMap::new());
        assert_eq!(error_type(&world.act(action, actor, command.clone()).await), "ConflictError", "{action}");
        assert_eq!(world.http.calls(), reads, "{action} asks for the address and the number alone");
    }
    assert_eq!((world.cognito.users().await, world.dynamodb.items("ev-users").await.len()), (1, 3));
    command["vehicle"] = vehicle("B 1");
    world.act("register", Value::Null, command).await.unwrap();
}

/// The number may be taken after it was looked up. Meanwhile, another request may have written the row of the user. Its
/// address and name must not stay without an account.
#[tokio::test]
async fn a_sign_up_that_is_refused_at_its_last_write_leaves_a_bare_id() {
    for is_healed in [false, true] {
        let world = World::new(AT_ONCE).await;
        let mut command = sign_up("grace@example.com");
        command["vehicle"] = vehicle("B 1");
        // Hold the seventh call: the address and the number are looked up, the user of the pool is created, looked up,
        // verified and confirmed, and then comes the transaction.
        world.http.plan(BTreeMap::from([(6, Fault::Hold)]));
        let meanwhile = world.http.while_held(async {
            assert_eq!(world.cognito.users().await, 1);
            world.act("addVehicle", user("u-1"), json!({ "vehicle": vehicle("B 1") })).await.unwrap();
            if is_healed {
                world.login("grace@example.com", PASSWORD).await.unwrap();
            }
        });
        let register = world.act("register", Value::Null, command);
        let (refused, ()) = Box::pin(futures::future::join(register, meanwhile)).await;
        assert_eq!(error_type(&refused), "ConflictError", "healed: {is_healed}");
        assert_eq!(world.cognito.users().await, 0, "healed: {is_healed}");
        let items = world.dynamodb.items("ev-users").await;
        let everything = format!("{items:?}");
        assert!(!everything.contains("grace@") && !everything.contains("Ada"), "healed: {is_healed}: {everything}");
        let tombstones = items.iter().filter(|item| text(item, "status") == "DELETED").count();
        assert_eq!(tombstones, 1, "healed: {is_healed}: whoever heals at this moment writes nothing");
        assert_eq!(error_type(&world.login("grace@example.com", PASSWORD).await), "ForbiddenError");
        world.register("grace@example.com").await;
    }
}

#[tokio::test]
async fn the_staff_creates_a_customer_who_chooses_a_password() {
    let world = World::new(CONFIRMING).await;
    let command =
        || json!({ "email": "Grace@example.com", "name": "Grace", "vehicle": vehicle("B 1"), "language": "de" });
    assert_eq!(error_type(&world.act("createCustomer", user("u-1"), command()).await), "ForbiddenError");
    let customer = world.act("createCustomer", support(), command()).await.unwrap();
    let id = customer["userId"].as_str().unwrap().to_owned();
    assert_eq!((&customer["status"], &customer["email"]), (&json!("ACTIVE"), &json!("grace@example.com")));
    assert_eq!(error_type(&world.login("grace@example.com", PASSWORD).await), "ForbiddenError");
    let email = json!({ "email": "grace@example.com" });
    world.act("forgotPassword", Value::Null, email).await.unwrap();
    let reset = json!({
        "email": "grace@example.com", "code": LocalCognito::RESET_CODE, "newPassword": PASSWORD
    });
    world.act("resetPassword", Value::Null, reset).await.unwrap();
    assert_eq!(world.login("grace@example.com", PASSWORD).await.unwrap()["userId"], id);
    let vehicles = world.act("listVehicles", support(), json!({ "userId": id })).await.unwrap();
    assert_eq!(vehicles["count"], 1);
}

/// Cognito takes passwords of up to 256 characters, and so does the API.
#[tokio::test]
async fn a_password_may_be_a_long_passphrase_of_any_characters() {
    let world = World::new(AT_ONCE).await;
    for (email, length, is_taken) in
        [("a@example.com", 64, true), ("b@example.com", 256, true), ("c@example.com", 257, false)]
    {
        let password: String = "aA1".chars().chain("é ß-".chars().cycle()).take(length - 1).chain(['z']).collect();
        let command = json!({ "email": email, "name": "Ada", "password": password });
        let registered = world.act("register", Value::Null, command).await;
        assert_eq!(registered.is_ok(), is_taken, "{length}: {registered:?}");
        assert_eq!(world.login(email, &password).await.is_ok(), is_taken, "{length}");
        let cut = &password[..password.len() - 1];
        assert_eq!(error_type(&world.login(email, cut).await), "ForbiddenError", "the last character counts");
    }
}

/// The check of a new password comes before the user pool's, which does not refuse it then.
#[test]
fn the_rules_for_passwords_are_those_of_the_template() {
    let pools = resources("AWS::Cognito::UserPool");
    let rules = &pools[0].1["Policies"]["PasswordPolicy"];
    assert_eq!(
        *rules,
        json!({
            "MinimumLength": 12, "RequireLowercase": true, "RequireUppercase": true, "RequireNumbers": true,
            "RequireSymbols": false
        })
    );
}
