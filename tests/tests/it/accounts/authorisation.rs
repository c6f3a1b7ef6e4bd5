//! What people and machine clients may do: scopes, roles and blocks.

use std::collections::BTreeSet;

use domain::actor::Role;
use e2e::{Answer, Person, Stack, eventually, minutes_after, text};
use reqwest::Method;
use serde_json::{Value, json};

use super::{refused_by_oauth, scopes, scopes_of};

/// Brings a customer to another status, as the staff does.
async fn transition(stack: &Stack, staff: &str, user: &str, body: Value) -> Answer {
    stack.call(Method::POST, &format!("/customers/{user}/transitions"), staff, Some(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_client_has_its_scopes_and_no_more() {
    let stack = Stack::open().await;
    let admin = stack.sign_up(&["ADMIN"]).await;
    let new = json!({ "name": "e2e", "scopes": ["stations:read"] });
    let client = stack.call(Method::POST, "/clients", &admin.token, Some(new)).await.must_be(201);
    assert_eq!((text(&client, "role"), &client["scopes"]), ("USER", &json!(["stations:read"])));
    let (id, secret) = (text(&client, "clientId"), text(&client, "clientSecret"));

    let grant = [("grant_type", "client_credentials")];
    let tokens = stack.request_tokens(&grant, Some((id, secret))).await.must_be(200);
    assert_eq!((text(&tokens, "scope"), &tokens["refresh_token"]), ("evoke/stations:read", &Value::Null));
    let token = text(&tokens, "access_token");
    assert_eq!(scopes(token), BTreeSet::from(["evoke/stations:read".to_owned()]));
    stack.call(Method::GET, "/stations", token, None).await.must_be(200);
    let forbidden = [(Method::POST, "/stations"), (Method::GET, "/sessions"), (Method::GET, "/account")];
    for (method, path) in forbidden {
        let refused = stack.call(method, path, token, None).await.must_be(403);
        assert_eq!(refused, json!({ "message": "Forbidden" }), "{path}");
    }

    // The client may also be named in the body, of a form or of JSON.
    let in_the_body = [grant[0], ("client_id", id), ("client_secret", secret)];
    stack.request_tokens(&in_the_body, None).await.must_be(200);
    let body = json!({ "grant_type": "client_credentials", "client_id": id, "client_secret": secret });
    stack.post("/auth/token", body).await.must_be(200);
    refused_by_oauth(stack.request_tokens(&grant, Some((id, "wrong"))).await, 401, "invalid_client");
    let more = [grant[0], ("scope", "evoke/stations:write")];
    refused_by_oauth(stack.request_tokens(&more, Some((id, secret))).await, 400, "invalid_scope");

    // A client is no person: it cannot sign in as one, and is no customer.
    let as_a_person = json!({ "email": format!("client-{id}@clients.invalid"), "password": secret });
    stack.post("/auth/login", as_a_person).await.must_be(403);
    let path = format!("/customers/{}", text(&client, "userId"));
    stack.call(Method::GET, &path, &admin.token, None).await.must_be(404);
    let listed = eventually("the client in the list", || async {
        let page = stack.call(Method::GET, "/clients?limit=100", &admin.token, None).await.must_be(200);
        page["items"].as_array().unwrap().iter().find(|item| item["clientId"] == id).cloned()
    })
    .await;
    assert_eq!(listed["clientSecret"], Value::Null, "the secret is shown once");

    stack.call(Method::DELETE, &format!("/clients/{id}"), &admin.token, None).await.must_be(200);
    refused_by_oauth(stack.request_tokens(&grant, Some((id, secret))).await, 401, "invalid_client");
    stack.delete_user(&admin.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_role_counts_from_the_next_sign_in() {
    let stack = Stack::open().await;
    let (admin, tech) = (stack.sign_up(&["ADMIN"]).await, stack.sign_up(&["TECH_SUPPORT"]).await);
    let mut person = Person::register(&stack).await;
    let path = format!("/customers/{}/role", person.user_id);
    let set =
        async |token: &str, role: &str| stack.call(Method::PUT, &path, token, Some(json!({ "role": role }))).await;
    person.get(&stack, "/error-logs").await.must_be(403);
    set(&person.token, "ADMIN").await.must_be(403);
    set(&tech.token, "TECH_SUPPORT").await.must_be(403);

    let customer = set(&admin.token, "TECH_SUPPORT").await.must_be(200);
    assert_eq!(text(&customer, "role"), "TECH_SUPPORT");
    refused_by_oauth(person.refresh(&stack).await, 400, "invalid_grant");
    person.log_in(&stack).await;
    assert_eq!(scopes(&person.token), scopes_of(Role::TechSupport));
    person.get(&stack, "/error-logs").await.must_be(200);

    set(&admin.token, "USER").await.must_be(200);
    person.log_in(&stack).await;
    assert_eq!(scopes(&person.token), scopes_of(Role::User));
    person.get(&stack, "/error-logs").await.must_be(403);
    stack.delete_account(&person.user_id).await;
    for user in [admin, tech] {
        stack.delete_user(&user.name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_user_stops_reads_and_pays_but_starts_nothing() {
    let stack = Stack::open().await;
    let stations = [stack.station(1).await, stack.station(1).await];
    let staff = stack.sign_up(&["TECH_SUPPORT"]).await;
    let mut person = Person::register(&stack).await;
    let session = person.start(&stack, &stations[0]).await.must_be(201);
    let id = text(&session, "sessionId");

    let block = json!({ "to": "BLOCKED", "reason": "the card was stolen" });
    let blocked = transition(&stack, &staff.token, &person.user_id, block.clone()).await.must_be(200);
    assert_eq!((text(&blocked, "status"), text(&blocked, "blockedReason")), ("BLOCKED", "the card was stolen"));
    let again = transition(&stack, &staff.token, &person.user_id, block).await.must_be(409);
    assert_eq!((text(&again, "from"), text(&again, "to")), ("BLOCKED", "BLOCKED"));

    // The access token is still valid, so the functions look at the row.
    let refused = person.start(&stack, &stations[1]).await.must_be(403);
    assert!(text(&refused, "detail").contains("is blocked"), "{refused}");
    let account = person.get(&stack, "/account").await.must_be(200);
    assert_eq!((text(&account, "status"), &account["blockedReason"]), ("BLOCKED", &Value::Null));
    stack.tick(&stations[0], minutes_after(&session, 6)).await.unwrap();
    let running = person.get(&stack, &format!("/sessions/{id}")).await.must_be(200);
    assert_eq!(text(&running, "status"), "IN_PROGRESS", "the block ends no session unless it says so");
    person.stop(&stack, id).await.must_be(200);
    let invoice = stack.invoice(id).await;
    let path = format!("/invoices/{}", text(&invoice, "invoiceId"));
    person.get(&stack, &path).await.must_be(200);
    // Paying is not refused. It fails because the wallet is empty, and nobody may top it up until the block is lifted.
    let unpaid = person.post(&stack, &format!("{path}/payments"), json!({})).await.must_be(409);
    assert!(text(&unpaid, "detail").contains("balance is too low"), "{unpaid}");
    assert_eq!(stack.top_up(&person.user_id, "50.00", "k").await.unwrap_err().0, "ForbiddenError");

    let lifted = transition(&stack, &staff.token, &person.user_id, json!({ "to": "ACTIVE" })).await.must_be(200);
    assert_eq!((text(&lifted, "status"), &lifted["blockedReason"]), ("ACTIVE", &Value::Null));
    person.log_in(&stack).await;
    stack.top_up(&person.user_id, "50.00", "k").await.unwrap();
    assert_eq!(text(&person.get(&stack, &path).await.must_be(200), "status"), "PAID");
    let session = person.start(&stack, &stations[1]).await.must_be(201);
    person.stop(&stack, text(&session, "sessionId")).await.must_be(200);
    stack.delete_user(&staff.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_ends_sign_ins_and_the_running_session_if_asked_to() {
    let stack = Stack::open().await;
    let station = stack.station(1).await;
    let staff = stack.sign_up(&["TECH_SUPPORT"]).await;
    let mut person = Person::register(&stack).await;
    let session = person.start(&stack, &station).await.must_be(201);
    let path = format!("/sessions/{}", text(&session, "sessionId"));
    let block = json!({ "to": "BLOCKED", "reason": "fraud", "endSessions": true });
    person.post(&stack, &format!("/customers/{}/transitions", person.user_id), block.clone()).await.must_be(403);
    transition(&stack, &staff.token, &person.user_id, block).await.must_be(200);

    let refused = person.try_log_in(&stack).await.must_be(403);
    assert_eq!(text(&refused, "code"), "ForbiddenError");
    refused_by_oauth(person.refresh(&stack).await, 400, "invalid_grant");
    let ended = eventually("the end of the session", || async {
        let session = person.get(&stack, &path).await.must_be(200);
        session["endedAt"].is_string().then_some(session)
    })
    .await;
    assert_eq!((text(&ended, "status"), text(&ended, "endReason")), ("INTERRUPTED", "USER_BLOCKED"));

    transition(&stack, &staff.token, &person.user_id, json!({ "to": "ACTIVE", "reason": "a mistake" }))
        .await
        .must_be(200);
    // The block has ended the sign-in for good.
    refused_by_oauth(person.refresh(&stack).await, 400, "invalid_grant");
    person.log_in(&stack).await;
    person.refresh(&stack).await.must_be(200);
    stack.delete_user(&staff.name).await;
}
