use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::{LocalCognito, http_event, invoke};

use crate::world::{AT_ONCE, CONFIRMING, PASSWORD, World, error_type, user};

const OTHER: &str = "Battery-Staple-7";

/// Nobody learns whether there is an account, and whether its address is confirmed: neither from an answer nor from the
/// time that it takes, because each address needs the same number of calls.
#[tokio::test]
async fn confirmed_unconfirmed_and_unknown_addresses_get_the_same_answers() {
    let world = World::new(CONFIRMING).await;
    world.registered("ada@example.com").await;
    world.register("grace@example.com").await;
    let commands = [
        ("login", json!({ "password": OTHER })),
        ("confirm", json!({ "code": "000000" })),
        ("forgotPassword", json!({})),
        ("resendCode", json!({})),
        ("resetPassword", json!({ "code": "000000", "newPassword": OTHER })),
        ("resetPassword", json!({ "code": "000000", "newPassword": "weak" })),
    ];
    for (action, arguments) in commands {
        let answer = async |email: &str| {
            let mut arguments = arguments.clone();
            arguments["email"] = json!(email);
            world.http.plan(BTreeMap::new());
            (world.act(action, Value::Null, arguments).await, world.http.calls())
        };
        let unknown = answer("eve@example.com").await;
        assert_eq!(answer("ada@example.com").await, unknown, "{action}");
        assert_eq!(answer("grace@example.com").await, unknown, "{action} of an unconfirmed address");
        let (answer, _) = unknown;
        assert_eq!(answer.is_ok(), ["forgotPassword", "resendCode"].contains(&action), "{action}: {answer:?}");
    }
    let grant = async |name: &str| {
        let body = json!({ "grant_type": "password", "username": name, "password": OTHER }).to_string();
        let mut response =
            invoke(&world.accounts, http_event("POST /auth/token", &[], &[], "", "", &body)).await.unwrap();
        assert_eq!(response["statusCode"], 400, "{response}");
        response["body"].take()
    };
    let refused = grant("ada@example.com").await;
    assert!(refused.as_str().unwrap().contains("invalid_grant"), "{refused}");
    for other in ["grace@example.com", "eve@example.com", "no address", "client-1@clients.invalid"] {
        assert_eq!(grant(other).await, refused, "{other}");
    }
    // Cognito tells an unconfirmed user from others before it looks at the password, so a right one changes nothing.
    let right = world.login("grace@example.com", PASSWORD).await;
    assert_eq!(right, world.login("eve@example.com", PASSWORD).await);
    assert_eq!(error_type(&right), "ForbiddenError");
}

#[tokio::test]
async fn tokens_are_issued_for_a_password_and_refreshed() {
    let world = World::new(AT_ONCE).await;
    world.register("ada@example.com").await;
    let grant = json!({ "grant_type": "password", "username": "ADA@example.com", "password": PASSWORD });
    let tokens = world.act("token", Value::Null, grant.clone()).await.unwrap();
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(900)));
    let refreshed = world.refresh(&tokens["refresh_token"]).await.unwrap();
    assert!(refreshed["access_token"].as_str().unwrap().len() > 20 && refreshed.get("refresh_token").is_none());
    assert_eq!(error_type(&world.refresh(&json!("made.up")).await), "ForbiddenError");
    let app = world.cognito.app_client.clone();
    for (field, value, kind) in [
        ("client_id", json!(app), None),
        ("client_id", json!("another"), Some("ValidationError")),
        ("client_secret", json!("a secret"), Some("ValidationError")),
        // The user pool of this test has no trigger that adds scopes.
        ("scope", json!("stations:read"), Some("ValidationError")),
        ("scope", json!("stations"), Some("ValidationError")),
    ] {
        let mut grant = grant.clone();
        grant[field] = value;
        let outcome = world.act("token", Value::Null, grant).await;
        assert_eq!(outcome.as_ref().err().map(|(kind, _)| kind.as_str()), kind, "{field}: {outcome:?}");
    }
    // The refresh token that was sent stays valid if the refreshed token lacks a scope.
    let token = &tokens["refresh_token"];
    let too_much = json!({ "grant_type": "refresh_token", "refresh_token": token, "scope": "stations:read" });
    assert_eq!(error_type(&world.act("token", Value::Null, too_much).await), "ValidationError");
    world.refresh(token).await.unwrap();
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_and_all_sign_ins_end() {
    let world = World::new(AT_ONCE).await;
    world.register("ada@example.com").await;
    let before = world.login("ada@example.com", PASSWORD).await.unwrap();
    let email = json!({ "email": "ada@example.com" });
    world.act("forgotPassword", Value::Null, email).await.unwrap();
    let reset = json!({ "email": "ada@example.com", "code": LocalCognito::RESET_CODE, "newPassword": OTHER });
    world.act("resetPassword", Value::Null, reset.clone()).await.unwrap();
    assert_eq!(error_type(&world.act("resetPassword", Value::Null, reset).await), "ValidationError", "once");
    assert_eq!(error_type(&world.login("ada@example.com", PASSWORD).await), "ForbiddenError");
    assert_eq!(error_type(&world.refresh(&before["refreshToken"]).await), "ForbiddenError");
    world.login("ada@example.com", OTHER).await.unwrap();
}

#[tokio::test]
async fn a_password_is_changed_with_the_current_one() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    let session = world.login("ada@example.com", PASSWORD).await.unwrap();
    let change = async |current: &str, new: &str, everywhere: bool| {
        let arguments = json!({ "currentPassword": current, "newPassword": new, "everywhere": everywhere });
        world.act("changePassword", user(&id), arguments).await
    };
    assert_eq!(error_type(&change(OTHER, "Another-Horse-1", false).await), "ForbiddenError");
    assert_eq!(error_type(&change(PASSWORD, "weak", false).await), "ValidationError");
    assert_eq!(change(PASSWORD, OTHER, false).await.unwrap(), json!({ "signedOutEverywhere": false }));
    world.refresh(&session["refreshToken"]).await.unwrap();
    assert_eq!(error_type(&world.login("ada@example.com", PASSWORD).await), "ForbiddenError");
    assert_eq!(change(OTHER, PASSWORD, true).await.unwrap(), json!({ "signedOutEverywhere": true }));
    assert_eq!(error_type(&world.refresh(&session["refreshToken"]).await), "ForbiddenError");
    world.login("ada@example.com", PASSWORD).await.unwrap();
    let stranger = json!({ "currentPassword": PASSWORD, "newPassword": OTHER });
    assert_eq!(error_type(&world.act("changePassword", user("u-1"), stranger).await), "NotFoundError");
}

#[tokio::test]
async fn a_logout_ends_one_sign_in_or_all() {
    let world = World::new(AT_ONCE).await;
    let id = world.register("ada@example.com").await;
    let mut sign_ins = Vec::new();
    for _ in 0..3 {
        sign_ins.push(world.login("ada@example.com", PASSWORD).await.unwrap()["refreshToken"].take());
    }
    let logout = |arguments: Value| world.act("logout", user(&id), arguments);
    let one = logout(json!({ "refreshToken": sign_ins[0] })).await.unwrap();
    assert_eq!(one, json!({ "userId": id, "everywhere": false }));
    assert_eq!(error_type(&world.refresh(&sign_ins[0]).await), "ForbiddenError");
    world.refresh(&sign_ins[1]).await.unwrap();
    assert_eq!(logout(json!({})).await.unwrap()["everywhere"], true);
    for token in &sign_ins {
        assert_eq!(error_type(&world.refresh(token).await), "ForbiddenError");
    }
    world.act("logout", user("u-1"), json!({ "everywhere": true })).await.unwrap();
}
