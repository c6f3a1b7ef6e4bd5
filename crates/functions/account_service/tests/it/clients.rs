use serde_json::{Value, json};
use testkit::{Outcome, http_event, invoke};

use crate::customers::groups;
use crate::world::{AT_ONCE, PASSWORD, World, admin, error_type, support, user};

async fn create(world: &World, scopes: Value) -> Value {
    world.act("createClient", admin(), json!({ "name": "Gate", "scopes": scopes })).await.unwrap()
}

async fn token(world: &World, client: &Value, secret: &Value) -> Outcome {
    let grant = json!({ "grant_type": "client_credentials", "client_id": client, "client_secret": secret });
    world.act("token", Value::Null, grant).await
}

#[tokio::test]
async fn a_machine_client_gets_tokens_for_its_secret() {
    let world = World::new(AT_ONCE).await;
    let client = create(&world, json!(["parking:write", "parking:read", "parking:read"])).await;
    assert_eq!((&client["scopes"], &client["role"]), (&json!(["parking:read", "parking:write"]), &json!("USER")));
    let (id, secret) = (&client["clientId"], &client["clientSecret"]);
    let tokens = token(&world, id, secret).await.unwrap();
    assert_eq!((&tokens["token_type"], tokens.get("refresh_token")), (&json!("Bearer"), None));
    for (id, secret) in [(id, &json!(PASSWORD)), (&json!("another"), secret), (&json!("a#b"), secret)] {
        assert_eq!(error_type(&token(&world, id, secret).await), "ForbiddenError");
    }
    let listed = world.act("listClients", admin(), json!({})).await.unwrap();
    assert_eq!((&listed["count"], listed["items"][0].get("clientSecret")), (&json!(1), None));
    // It does not sign in like a person, who gets a refresh token, and whose name may be an address alone.
    let address = format!("client-{}@clients.invalid", id.as_str().unwrap());
    for name in [json!(address), client["userId"].clone()] {
        let grant = json!({ "grant_type": "password", "username": name, "password": secret });
        assert_eq!(error_type(&world.act("token", Value::Null, grant).await), "ForbiddenError", "{name}");
    }
    // It is a client, and no customer.
    let of_client = json!({ "userId": client["userId"] });
    assert_eq!(error_type(&world.act("getCustomer", support(), of_client.clone()).await), "NotFoundError");
    assert_eq!(world.act("listCustomers", support(), json!({})).await.unwrap()["count"], 0);
    let machine = user(client["userId"].as_str().unwrap());
    let change = json!({ "currentPassword": secret, "newPassword": PASSWORD });
    assert_eq!(error_type(&world.act("changePassword", machine.clone(), change).await), "ForbiddenError");
    assert_eq!(error_type(&world.act("deleteAccount", machine, json!({})).await), "ForbiddenError");
}

/// With a client or an administrator that it makes, or with an export, a client would do more than its scopes allow.
#[tokio::test]
async fn a_machine_client_cannot_exceed_its_scopes() {
    let world = World::new(AT_ONCE).await;
    let ada = world.register("ada@example.com").await;
    let command = json!({ "name": "Gate", "scopes": ["accounts:read", "accounts:write"], "role": "ADMIN" });
    let client = world.act("createClient", admin(), command.clone()).await.unwrap();
    let (id, body) = (client["userId"].as_str().unwrap(), json!({ "role": "ADMIN" }));
    let token = (id, "[ADMIN]");
    assert_eq!(world.http("GET /clients", &[], token, json!({})).await.0, 200);
    for (route, path, body) in [
        ("POST /clients", vec![], command),
        ("PUT /customers/{userId}/role", vec![("userId", ada.as_str())], body.clone()),
        ("PUT /customers/{userId}/role", vec![("userId", id)], body),
        ("GET /account/export", vec![], json!({})),
    ] {
        let (status, refused) = world.http(route, &path, token, body).await;
        assert!(status == 403 && refused["detail"].as_str().unwrap().contains("machine clients"), "{route}: {refused}");
    }
    assert_eq!(world.act("listClients", admin(), json!({})).await.unwrap()["count"], 1);
}

#[tokio::test]
async fn a_revoked_client_is_invalid() {
    let world = World::new(AT_ONCE).await;
    let client = create(&world, json!(["stations:read"])).await;
    let id = json!({ "clientId": client["clientId"] });
    assert_eq!(error_type(&world.act("revokeClient", support(), id.clone()).await), "ForbiddenError");
    assert_eq!(world.act("revokeClient", admin(), id.clone()).await.unwrap(), id);
    let grant = json!({
        "grant_type": "client_credentials", "client_id": client["clientId"], "client_secret": client["clientSecret"]
    });
    let event = http_event("POST /auth/token", &[], &[], "", "", &grant.to_string());
    let response = invoke(&world.accounts, event).await.unwrap();
    assert_eq!(response["statusCode"], 401, "{response}");
    assert!(response["headers"]["www-authenticate"].as_str().unwrap().starts_with("Basic"), "{response}");
    let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["error"], "invalid_client");
    assert_eq!(error_type(&world.act("revokeClient", admin(), id).await), "NotFoundError");
    assert_eq!(world.act("listClients", admin(), json!({})).await.unwrap()["count"], 0);
    assert_eq!(world.cognito.users().await, 0);
}

/// The role is the least that has all scopes, and the group of the user pool is that of the role.
#[tokio::test]
async fn a_client_has_the_role_that_its_scopes_need() {
    let world = World::new(AT_ONCE).await;
    for (scopes, role, groups_of_it) in [
        (json!(["stations:read"]), "USER", vec![]),
        (json!(["stations:write"]), "TECH_SUPPORT", vec!["TECH_SUPPORT".to_owned()]),
        (json!(["operations:read", "runs:read"]), "TECH_SUPPORT", vec!["TECH_SUPPORT".to_owned()]),
    ] {
        let client = create(&world, scopes).await;
        assert_eq!(client["role"], role);
        assert_eq!(groups(&world, client["userId"].as_str().unwrap()).await, groups_of_it);
    }
    for actor in [user("u-1"), support()] {
        let command = json!({ "name": "Gate", "scopes": ["stations:read"] });
        assert_eq!(error_type(&world.act("createClient", actor.clone(), command).await), "ForbiddenError");
        assert_eq!(error_type(&world.act("listClients", actor, json!({})).await), "ForbiddenError");
    }
}
