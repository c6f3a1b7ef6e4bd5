//! Accounts on the deployed stack: people who register and sign in over HTTP, staff, and machine clients.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use aws_sdk_cognitoidentityprovider::Client as Cognito;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::accounts::Scope;
use domain::actor::Role;
use e2e::{
    Answer, MAIL_DOMAIN, PASSWORD_PREFIX, Person, Stack, Tap, admin, eventually, minutes_after, new_address,
    new_password, now, text,
};
use reqwest::Method;
use serde_json::{Value, json};

/// How long an event that must not arrive is waited for.
const SILENCE: Duration = Duration::from_secs(2);

/// Makes 50 calls at once.
async fn fifty<T, F>(call: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..50).map(|n| tokio::spawn(call(n))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

/// Returns a registration number that no vehicle has.
fn new_number() -> String {
    format!("E2E {}", uuid::Uuid::new_v4().simple().to_string()[..8].to_uppercase())
}

fn vehicle(number: &str) -> Value {
    json!({ "brand": "Renault", "model": "Zoe", "batteryCapacity": 52, "registrationNumber": number })
}

/// Returns the scopes of an access token.
fn scopes(token: &str) -> BTreeSet<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    text(&claims, "scope").split_whitespace().map(str::to_owned).collect()
}

/// Returns the scopes of a role, as tokens name them.
fn scopes_of(role: Role) -> BTreeSet<String> {
    Scope::of(role).map(Scope::in_token).collect()
}

/// Returns the items of a partition of the table of users.
async fn items(stack: &Stack, pk: String) -> Vec<HashMap<String, AttributeValue>> {
    let dynamodb = aws_sdk_dynamodb::Client::new(&stack.config);
    let query = dynamodb.query().table_name(stack.output("UsersTable")).consistent_read(true);
    let query = query.key_condition_expression("PK = :pk").expression_attribute_values(":pk", AttributeValue::S(pk));
    query.send().await.unwrap().items.unwrap_or_default()
}

/// Returns the number of rows that have this address.
async fn rows_with(stack: &Stack, email: &str) -> usize {
    let dynamodb = aws_sdk_dynamodb::Client::new(&stack.config);
    let query = dynamodb.query().table_name(stack.output("UsersTable")).index_name("email-index");
    let query = query.key_condition_expression("email = :email");
    let query = query.expression_attribute_values(":email", AttributeValue::S(email.to_owned()));
    query.send().await.unwrap().items().len()
}

/// Brings a customer to another status, as the staff does.
async fn transition(stack: &Stack, staff: &str, user: &str, body: Value) -> Answer {
    stack.call(Method::POST, &format!("/customers/{user}/transitions"), staff, Some(body)).await
}

/// Asserts that the token endpoint refused the request with this code of RFC 6749.
#[track_caller]
fn refused_by_oauth(answer: Answer, status: u16, error: &str) {
    let body = answer.must_be(status);
    assert_eq!(text(&body, "error"), error, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_registers_signs_in_refreshes_and_logs_out() {
    let stack = Stack::open().await;
    let mut person = Person::register_with(&stack, json!({ "language": "de" })).await;
    let first = person.clone();
    let tokens = person.log_in(&stack).await;
    assert_eq!((text(&tokens, "tokenType"), &tokens["expiresIn"]), ("Bearer", &json!(900)));
    assert_eq!(scopes(&person.token), scopes_of(Role::User));

    let account = person.get(&stack, "/account").await.must_be(200);
    assert_eq!((text(&account, "userId"), text(&account, "email")), (person.user_id.as_str(), person.email.as_str()));
    assert_eq!((text(&account, "status"), text(&account, "role")), ("ACTIVE", "USER"));
    assert_eq!((text(&account, "name"), text(&account, "language")), (person.name.as_str(), "de"));
    for (token, status) in [("", 401), (person.id_token.as_str(), 403)] {
        stack.call(Method::GET, "/account", token, None).await.must_be(status);
    }

    let refreshed = person.refresh(&stack).await;
    assert_eq!(refreshed.headers["cache-control"], "no-store");
    let refreshed = refreshed.must_be(200);
    assert_eq!((text(&refreshed, "token_type"), &refreshed["expires_in"]), ("Bearer", &json!(900)));
    assert_eq!(scopes(text(&refreshed, "access_token")), scopes_of(Role::User));
    stack.call(Method::GET, "/account", text(&refreshed, "access_token"), None).await.must_be(200);

    let one = json!({ "refreshToken": person.refresh_token });
    let ended = person.post(&stack, "/auth/logout", one).await.must_be(200);
    assert_eq!(ended["everywhere"], false);
    refused_by_oauth(person.refresh(&stack).await, 400, "invalid_grant");
    first.refresh(&stack).await.must_be(200);
    let ended = person.post(&stack, "/auth/logout", json!({})).await.must_be(200);
    assert_eq!(ended["everywhere"], true);
    refused_by_oauth(first.refresh(&stack).await, 400, "invalid_grant");
    stack.delete_account(&person.user_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_ends_all_sign_ins_if_asked_to() {
    let stack = Stack::open().await;
    let mut person = Person::register(&stack).await;
    let new = new_password();
    let change = |current: &str| json!({ "currentPassword": current, "newPassword": new, "everywhere": true });
    person.post(&stack, "/auth/password", change("Wrong-Horse-7")).await.must_be(403);
    let changed = person.post(&stack, "/auth/password", change(&person.password)).await.must_be(200);
    assert_eq!(changed["signedOutEverywhere"], true);
    person.try_log_in(&stack).await.must_be(403);
    refused_by_oauth(person.refresh(&stack).await, 400, "invalid_grant");
    person.password = new;
    person.log_in(&stack).await;
    stack.delete_account(&person.user_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_registrations_of_one_address_give_one_account() {
    let stack = Stack::open().await;
    let email = new_address();
    let request = json!({ "email": email, "name": "Fifty", "password": new_password() });
    let answers = fifty(|_| {
        let (stack, request) = (stack.clone(), request.clone());
        async move { stack.post("/auth/register", request).await }
    })
    .await;
    let (created, refused): (Vec<Answer>, Vec<Answer>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(created.len(), 1, "{refused:?}");
    for answer in refused {
        assert_eq!(text(&answer.must_be(409), "code"), "ConflictError");
    }
    // Upper and lower case are the same address.
    let mut again = request.clone();
    again["email"] = json!(email.to_uppercase());
    stack.post("/auth/register", again).await.must_be(409);

    let rows = eventually("the row in the index", || async {
        let rows = rows_with(&stack, &email).await;
        (rows > 0).then_some(rows)
    })
    .await;
    assert_eq!(rows, 1);
    let list = Cognito::new(&stack.config).list_users().user_pool_id(stack.output("UserPoolId"));
    let users = list.filter(format!("email = \"{email}\"")).send().await.unwrap();
    assert_eq!(users.users().len(), 1);
    stack.delete_account(text(&created[0].body, "userId")).await;
}

/// A user needs no row, so the fifty users are only named.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_users_who_add_one_registration_number_give_one_vehicle() {
    let stack = Stack::open().await;
    let (number, prefix) = (new_number(), uuid::Uuid::new_v4());
    let outcomes = fifty(|n| {
        let actor = json!({ "userId": format!("{prefix}-{n}"), "role": "USER" });
        let add = json!({ "action": "addVehicle", "actor": actor, "vehicle": vehicle(&number) });
        let stack = stack.clone();
        async move { stack.invoke("AccountService", add).await }
    })
    .await;
    let winners: Vec<usize> = (0..50).filter(|n| outcomes[*n].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    for (kind, message) in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(kind, "ConflictError", "{message}");
    }
    let list = json!({ "action": "listCustomers", "actor": admin(), "registrationNumber": number });
    let owners = stack.invoke("AccountService", list).await.unwrap();
    assert_eq!(owners["count"], 1, "{owners}");
    assert_eq!(text(&owners["items"][0], "userId"), format!("{prefix}-{}", winners[0]));
    // Neither case nor separators make it another number.
    let add = json!({
        "action": "addVehicle", "actor": { "userId": format!("{prefix}-50"), "role": "USER" },
        "vehicle": vehicle(&number.to_lowercase().replace(' ', "-"))
    });
    assert_eq!(stack.invoke("AccountService", add).await.unwrap_err().0, "ConflictError");
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
async fn an_account_is_deleted_when_its_user_owes_nothing() {
    let stack = Stack::open().await;
    let (station, number) = (stack.station(1).await, new_number());
    let person = Person::register_with(&stack, json!({ "vehicle": vehicle(&number) })).await;
    let session = person.start(&stack, &station).await.must_be(201);
    let id = text(&session, "sessionId");
    let refused = person.delete(&stack).await.must_be(409);
    assert!(text(&refused, "detail").contains(id), "{refused}");
    stack.tick(&station, minutes_after(&session, 6)).await.unwrap();
    person.stop(&stack, id).await.must_be(200);
    let invoice = stack.invoice(id).await;
    let refused = person.delete(&stack).await.must_be(409);
    assert!(text(&refused, "detail").contains(text(&invoice, "invoiceId")), "{refused}");
    let account = person.get(&stack, "/account").await.must_be(200);
    assert_eq!(text(&account, "status"), "ACTIVE", "a refused deletion changes nothing");

    stack.top_up(&person.user_id, "50.00", "k").await.unwrap();
    let deleted = person.delete(&stack).await.must_be(200);
    assert_eq!((text(&deleted, "userId"), text(&deleted, "status")), (person.user_id.as_str(), "DELETED"));
    assert_eq!(person.delete(&stack).await.must_be(200), deleted, "a repeated request gets the same answer");

    let unknown = Person { email: new_address(), ..person.clone() };
    let (gone, unknown) = (person.try_log_in(&stack).await, unknown.try_log_in(&stack).await);
    assert_eq!(gone.comparable(), unknown.comparable());
    refused_by_oauth(person.refresh(&stack).await, 400, "invalid_grant");
    let find = Cognito::new(&stack.config).admin_get_user().user_pool_id(stack.output("UserPoolId"));
    let error = find.username(&person.user_id).send().await.unwrap_err().into_service_error();
    assert!(error.is_user_not_found_exception(), "{error:?}");
    nothing_brings_it_back(&stack, &person, &station).await;

    let left = items(&stack, format!("USER#{}", person.user_id)).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["status"], AttributeValue::S("DELETED".to_owned()));
    let row = format!("{left:?}");
    for personal in [&person.email, &person.name, &number] {
        assert!(!row.contains(personal.as_str()), "{row}");
    }
    let unique = items(&stack, format!("REGISTRATION#{}", number.replace(' ', ""))).await;
    assert!(unique.is_empty(), "{unique:?}");
    let invoice = stack.invoice(id).await;
    assert_eq!((text(&invoice, "status"), text(&invoice, "userId")), ("PAID", person.user_id.as_str()));

    // The address and the registration number are free again.
    let more = json!({ "email": person.email, "vehicle": vehicle(&number) });
    let next = Person::register_with(&stack, more).await;
    assert_ne!(next.user_id, person.user_id);
    stack.delete_account(&next.user_id).await;
}

/// Uses the access token of a deleted account, which is still valid, and lets the staff use its id.
async fn nothing_brings_it_back(stack: &Stack, person: &Person, station: &str) {
    let (account, export) = ("/account".to_owned(), "/account/export".to_owned());
    let (vehicles, tokens) =
        (format!("/customers/{}/vehicles", person.user_id), format!("/customers/{}/tokens", person.user_id));
    let token = json!({ "tokenId": "E2E", "type": "RFID" });
    let change = json!({ "currentPassword": person.password, "newPassword": new_password() });
    for (method, path, body, status) in [
        (Method::GET, account.clone(), None, 404),
        (Method::PATCH, account, Some(json!({ "name": "Ghost" })), 404),
        (Method::GET, export, None, 404),
        (Method::POST, vehicles, Some(json!({ "vehicle": vehicle(&new_number()) })), 404),
        (Method::POST, tokens, Some(token), 404),
        (Method::POST, "/auth/password".to_owned(), Some(change), 404),
        (Method::POST, "/auth/logout".to_owned(), Some(json!({})), 200),
    ] {
        let answer = stack.call(method.clone(), &path, &person.token, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
    }
    person.start(stack, station).await.must_be(403);
    for action in [
        json!({ "action": "getCustomer" }),
        json!({ "action": "blockUser", "reason": "late" }),
        json!({ "action": "unblockUser" }),
        json!({ "action": "setRole", "role": "ADMIN" }),
    ] {
        let mut command = action;
        command["actor"] = admin();
        command["userId"] = json!(person.user_id);
        let (kind, message) = stack.invoke("AccountService", command.clone()).await.unwrap_err();
        assert_eq!(kind, "NotFoundError", "{command}: {message}");
    }
    let top_up = stack.top_up(&person.user_id, "1.00", "late").await;
    assert_eq!(top_up.unwrap_err().0, "ForbiddenError");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_everything_that_is_stored_of_a_user() {
    let stack = Stack::open().await;
    let (station, number) = (stack.station(1).await, new_number());
    let person = Person::register_with(&stack, json!({ "vehicle": vehicle(&number) })).await;
    let card = format!("CARD-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    let token = json!({ "tokenId": card, "type": "RFID" });
    person.post(&stack, &format!("/customers/{}/tokens", person.user_id), token).await.must_be(201);
    stack.top_up(&person.user_id, "50.00", "k").await.unwrap();
    // The session is with the vehicle that was saved at the registration.
    let path = format!("/customers/{}/vehicles", person.user_id);
    let saved = person.get(&stack, &path).await.must_be(200);
    assert_eq!((saved["count"].as_u64(), text(&saved["items"][0], "registrationNumber")), (Some(1), number.as_str()));
    let start = json!({
        "stationId": station, "portId": "port-1", "vehicleId": saved["items"][0]["vehicleId"], "chargePercent": 20
    });
    let session = person.post(&stack, "/sessions", start).await.must_be(201);
    assert_eq!(session["vehicle"]["batteryCapacityKwh"], 52.0);
    stack.tick(&station, minutes_after(&session, 6)).await.unwrap();
    person.stop(&stack, text(&session, "sessionId")).await.must_be(200);
    let invoice = stack.invoice(text(&session, "sessionId")).await;

    let export = eventually("the export with the invoice", || async {
        let export = person.get(&stack, "/account/export").await.must_be(200);
        (!export["invoices"].as_array().unwrap().is_empty()).then_some(export)
    })
    .await;
    assert_eq!(text(&export["profile"], "email"), person.email);
    assert_eq!(export["vehicles"], saved["items"]);
    assert_eq!(text(&export["tokens"][0], "tokenId"), card);
    assert_eq!(export["sessions"][0]["sessionId"], session["sessionId"]);
    assert_eq!(export["invoices"][0]["invoiceId"], invoice["invoiceId"]);
    let ledger: Vec<&str> = export["ledger"].as_array().unwrap().iter().map(|entry| text(entry, "kind")).collect();
    assert_eq!(ledger, ["INVOICE", "TOP_UP"]);
    assert_eq!(export["more"], Value::Null, "a short export has one page");
    stack.delete_account(&person.user_id).await;
}

/// Of a person who registers, and of a user whom only the user pool knows before the first token.
#[tokio::test(flavor = "multi_thread")]
async fn the_bus_gets_one_event_for_each_new_user() {
    let stack = Stack::open().await;
    let pattern = json!({ "source": ["evoke.accounts"], "detail-type": ["USER_REGISTERED"] });
    let tap = Tap::open(&stack, &pattern).await;
    let mut person = Person::register_with(&stack, json!({ "vehicle": vehicle(&new_number()) })).await;
    person.log_in(&stack).await;
    person.refresh(&stack).await.must_be(200);
    person.get(&stack, "/account").await.must_be(200);
    let of_the_pool = stack.sign_up(&["USER"]).await;
    let account = stack.call(Method::GET, "/account", &of_the_pool.token, None).await.must_be(200);
    assert_eq!((text(&account, "email"), text(&account, "status")), (of_the_pool.name.as_str(), "ACTIVE"));

    let users = [person.user_id.as_str(), text(&account, "userId")];
    let of = |events: &[Value], user: &str| -> Vec<Value> {
        events.iter().filter(|event| event["userId"] == user).cloned().collect()
    };
    let mut events = tap.read(|events| users.iter().all(|user| !of(events, user).is_empty())).await;
    // Everything was written before the last answer.
    tokio::time::sleep(SILENCE).await;
    events.extend(tap.read(|_| true).await);
    tap.close().await;
    for (user, has_vehicle) in users.into_iter().zip([true, false]) {
        let events = of(&events, user);
        // The bus may deliver an event twice, under one id.
        let ids: BTreeSet<&str> = events.iter().map(|event| text(event, "eventId")).collect();
        assert_eq!(ids.len(), 1, "{events:?}");
        assert_eq!(events[0]["hasVehicle"], has_vehicle, "{events:?}");
        let event = events[0].to_string();
        assert!(!event.contains(MAIL_DOMAIN) && !event.contains(&person.name), "{event}");
    }
    stack.delete_account(&person.user_id).await;
    stack.delete_user(&of_the_pool.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_says_whether_an_address_is_known() {
    let stack = Stack::open().await;
    let person = Person::register(&stack).await;
    let (wrong, new, unknown) = (new_password(), new_password(), new_address());
    let requests = |email: &str| {
        [
            ("/auth/login", json!({ "email": email, "password": wrong })),
            ("/auth/token", json!({ "grant_type": "password", "username": email, "password": wrong })),
            ("/auth/password/forgot", json!({ "email": email })),
            ("/auth/code", json!({ "email": email })),
            ("/auth/password/reset", json!({ "email": email, "code": "000000", "newPassword": new })),
            ("/auth/confirm", json!({ "email": email, "code": "000000" })),
        ]
    };
    for ((path, known), (_, unknown)) in requests(&person.email).into_iter().zip(requests(&unknown)) {
        let (known, unknown) = (stack.post(path, known).await, stack.post(path, unknown).await);
        assert_eq!(known.comparable(), unknown.comparable(), "{path}");
        let is_refused = !["/auth/password/forgot", "/auth/code"].contains(&path);
        assert_eq!(known.status >= 400, is_refused, "{path}: {}", known.body);
    }
    stack.delete_account(&person.user_id).await;
}

/// Values that must not be in a log, and a part of each by which it is found.
#[derive(Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn add(&mut self, what: &'static str, value: &str) {
        self.0.push((what, value.to_owned()));
    }

    /// Tokens are longer than what CloudWatch searches for. Their ends are unique.
    fn add_token(&mut self, what: &'static str, token: &str) {
        self.add(what, &token[token.len().saturating_sub(40)..]);
    }

    /// Adds what a person has and gets.
    fn add_person(&mut self, person: &Person) {
        self.add("the name", &person.name);
        self.add("the password", &person.password);
        self.add_token("the access token", &person.token);
        self.add_token("the ID token", &person.id_token);
        self.add_token("the refresh token", &person.refresh_token);
    }
}

/// Returns the messages in the log of a function that contain this text, of all that it has logged since `since` (ms).
async fn logged(stack: &Stack, function: &str, since: i64, wanted: &str) -> Vec<String> {
    let logs = aws_sdk_cloudwatchlogs::Client::new(&stack.config);
    let filter = logs.filter_log_events().log_group_name(format!("/aws/lambda/{function}")).start_time(since);
    let mut pages = filter.filter_pattern(format!("\"{wanted}\"")).into_paginator().send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap_or_else(|error| panic!("the log of {function}: {error:?}"));
        let messages = page.events().iter().filter_map(|event| event.message());
        // The local cloud ignores upper and lower case.
        found.extend(messages.filter(|message| message.contains(wanted)).map(str::to_owned));
    }
    found
}

/// Returns whether `code` is a word of its own in `text`, and not a part of a number or an id.
fn has_word(text: &str, code: &str) -> bool {
    let joins = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    text.match_indices(code).any(|(start, _)| {
        let (before, after) = (text[..start].chars().next_back(), text[start + code.len()..].chars().next());
        !before.is_some_and(joins) && !after.is_some_and(joins)
    })
}

/// Makes requests with passwords, tokens and addresses, right and wrong ones, and returns them with the correlation id
/// of the last request, which was refused.
async fn handle_secrets(stack: &Stack) -> (Secrets, String) {
    let mut secrets = Secrets::default();
    let admin = stack.sign_up(&["ADMIN"]).await;
    let number = new_number();
    let mut person = Person::register_with(stack, json!({ "vehicle": vehicle(&number) })).await;
    secrets.add_person(&person);
    secrets.add("a registration number", &number);
    secrets.add("a registration number without separators", &number.replace(' ', ""));
    let card = format!("E2E{}", uuid::Uuid::new_v4().simple().to_string()[..20].to_uppercase());
    secrets.add("a card", &card);
    let refreshed = person.refresh(stack).await.must_be(200);
    secrets.add_token("a refreshed access token", text(&refreshed, "access_token"));
    let name = format!("Renamed {}", uuid::Uuid::new_v4().simple());
    stack.call(Method::PATCH, "/account", &person.token, Some(json!({ "name": name }))).await.must_be(200);
    secrets.add("a new name", &name);
    let new = new_password();
    let change = json!({ "currentPassword": person.password, "newPassword": new });
    person.post(stack, "/auth/password", change).await.must_be(200);
    person.password = new;
    person.log_in(stack).await;
    secrets.add_person(&person);
    // The address is in the query here.
    let search = format!("/customers?email={}", person.email);
    stack.call(Method::GET, &search, &admin.token, None).await.must_be(200);
    let client = json!({ "name": "e2e", "scopes": ["stations:read"] });
    let client = stack.call(Method::POST, "/clients", &admin.token, Some(client)).await.must_be(201);
    let (id, secret) = (text(&client, "clientId"), text(&client, "clientSecret"));
    secrets.add("the secret of a machine client", secret);
    let grant = [("grant_type", "client_credentials")];
    stack.request_tokens(&grant, Some((id, secret))).await.must_be(200);

    // Requests that are refused are logged. What was wrong with them must not be repeated.
    let weak = format!("weak-{}", uuid::Uuid::new_v4().simple());
    secrets.add("a weak password", &weak);
    let register = |email: &str, password: &Value| json!({ "email": email, "name": "E2E", "password": password });
    stack.post("/auth/register", register(&new_address(), &json!(weak))).await.must_be(400);
    stack.post("/auth/register", register(MAIL_DOMAIN, &json!([weak]))).await.must_be(400);
    stack.post("/auth/register", register(&person.email, &json!(person.password))).await.must_be(409);
    let mut garbage = person.clone();
    garbage.refresh_token = format!("garbage-{}", uuid::Uuid::new_v4().simple());
    secrets.add("a wrong refresh token", &garbage.refresh_token);
    refused_by_oauth(garbage.refresh(stack).await, 400, "invalid_grant");
    let of_person = |what: &str| format!("/customers/{}/{what}", person.user_id);
    person.post(stack, &of_person("vehicles"), json!({ "vehicle": vehicle(&number) })).await.must_be(409);
    for status in [201, 409] {
        let token = json!({ "tokenId": card, "type": "RFID" });
        person.post(stack, &of_person("tokens"), token).await.must_be(status);
    }
    for status in [200, 404] {
        let path = of_person(&format!("tokens/{card}"));
        stack.call(Method::DELETE, &path, &person.token, None).await.must_be(status);
    }
    let wrong = json!({ "action": "login", "email": person.email, "password": { "of": weak } });
    assert_eq!(stack.invoke("AccountService", wrong).await.unwrap_err().0, "ValidationError");
    stack.call(Method::DELETE, &format!("/clients/{id}"), &admin.token, None).await.must_be(200);
    stack.delete_account(&person.user_id).await;
    stack.delete_user(&admin.name).await;
    let last = person.try_log_in(stack).await;
    assert_eq!(last.status, 403);
    let last = last.correlation_id().to_owned();
    (secrets, last)
}

/// Looks for secrets in the logs of all functions.
async fn assert_not_logged(stack: &Stack, secrets: &Secrets, since: i64) {
    for function in stack.outputs.iter().filter(|(key, _)| key.ends_with("FunctionName")).map(|(_, name)| name) {
        for (what, value) in &secrets.0 {
            let found = logged(stack, function, since, value).await;
            assert!(found.is_empty(), "{what} is in the log of {function}: {found:?}");
        }
    }
}

/// On the local cloud, the test looks through all that was logged since the start of the cloud. The addresses and the
/// passwords of all tests have parts by which they are found.
#[tokio::test(flavor = "multi_thread")]
async fn no_log_has_passwords_tokens_names_addresses_plates_or_cards() {
    let stack = Stack::open().await;
    let since = if stack.is_local() { 0 } else { now().timestamp_millis() };
    let (mut secrets, last) = handle_secrets(&stack).await;
    secrets.add("an address", MAIL_DOMAIN);
    secrets.add("a password", PASSWORD_PREFIX);
    secrets.add("the address of a machine client", "@clients.invalid");
    // CloudWatch shows a message some seconds after it was logged.
    let function = stack.output("AccountServiceFunctionName");
    eventually("the last message in the log", || async {
        (!logged(&stack, function, since, &last).await.is_empty()).then_some(())
    })
    .await;
    assert_not_logged(&stack, &secrets, since).await;
}

/// The codes that the local Cognito mails are always the same, so that a test knows them. Its hosted pages are simpler
/// than those of AWS.
mod local_cloud_alone {
    use super::*;
    use e2e::{FORM, form};
    use reqwest::header::{CONTENT_TYPE, LOCATION};

    /// The code for a new password.
    const CODE: &str = "654321";
    /// The example of RFC 7636, appendix B: a secret of the application, and its SHA-256.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    async fn reset(stack: &Stack, email: &str, code: &str, password: &str) -> Answer {
        let reset = json!({ "email": email, "code": code, "newPassword": password });
        stack.post("/auth/password/reset", reset).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_forgotten_password_is_replaced_by_the_mailed_code() {
        let stack = Stack::local().await;
        let mut person = Person::register(&stack).await;
        let new = new_password();
        stack.post("/auth/password/forgot", json!({ "email": person.email })).await.must_be(200);
        let wrong = reset(&stack, &person.email, "000000", &new).await.must_be(400);
        assert_eq!(text(&wrong["errors"][0], "field"), "code", "{wrong}");
        let weak = reset(&stack, &person.email, CODE, "too-weak").await.must_be(400);
        assert_eq!(text(&weak["errors"][0], "field"), "newPassword", "{weak}");
        let done = reset(&stack, &person.email, CODE, &new).await.must_be(200);
        assert_eq!(done["signedOutEverywhere"], true);
        reset(&stack, &person.email, CODE, &new).await.must_be(400);
        refused_by_oauth(person.refresh(&stack).await, 400, "invalid_grant");
        person.try_log_in(&stack).await.must_be(403);
        person.password = new;
        person.log_in(&stack).await;
        // The code is in no log, where any number may be: only as a word of its own.
        for function in stack.outputs.iter().filter(|(key, _)| key.ends_with("FunctionName")).map(|(_, name)| name) {
            let found = logged(&stack, function, 0, CODE).await;
            assert!(!found.iter().any(|message| has_word(message, CODE)), "{function}: {found:?}");
        }
        stack.delete_account(&person.user_id).await;
    }

    /// The staff registers a customer, who then sets a password.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_customer_of_the_staff_sets_a_password_by_the_mailed_code() {
        let stack = Stack::local().await;
        let staff = stack.sign_up(&["TECH_SUPPORT"]).await;
        let (email, password, number) = (new_address(), new_password(), new_number());
        let create = json!({ "email": email, "name": "Walk-in", "vehicle": vehicle(&number) });
        let customer = stack.call(Method::POST, "/customers", &staff.token, Some(create.clone())).await.must_be(201);
        assert_eq!(text(&customer, "status"), "ACTIVE");
        stack.call(Method::POST, "/customers", &staff.token, Some(create)).await.must_be(409);
        let query = number.replace(' ', "%20");
        for query in [format!("email={email}"), format!("registrationNumber={query}")] {
            let found = stack.call(Method::GET, &format!("/customers?{query}"), &staff.token, None).await.must_be(200);
            assert_eq!(found["items"], json!([customer]), "{query}");
        }
        let login = json!({ "email": email, "password": password });
        stack.post("/auth/login", login.clone()).await.must_be(403);
        stack.post("/auth/password/forgot", json!({ "email": email })).await.must_be(200);
        reset(&stack, &email, CODE, &password).await.must_be(200);
        let tokens = stack.post("/auth/login", login).await.must_be(200);
        assert_eq!(tokens["userId"], customer["userId"]);
        stack.delete_account(text(&customer, "userId")).await;
        stack.delete_user(&staff.name).await;
    }

    /// The authorization code flow with PKCE, by which the web application signs people in.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_hosted_pages_issue_tokens_with_the_scopes_of_the_role() {
        let stack = Stack::local().await;
        let person = Person::register(&stack).await;
        let (pages, client) = (stack.output("SignInUrl"), stack.output("UserPoolClientId"));
        let describe = Cognito::new(&stack.config).describe_user_pool_client().client_id(client);
        let app = describe.user_pool_id(stack.output("UserPoolId")).send().await.unwrap().user_pool_client.unwrap();
        let callback = app.callback_urls().first().expect("an address to return to").as_str();
        // The code comes with a redirection to the application, which does not run here.
        let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let post = async |path: &str, fields: &[(&str, &str)]| {
            let request = browser.post(format!("{pages}{path}")).header(CONTENT_TYPE, FORM);
            request.body(form(fields)).send().await.unwrap()
        };

        let mut fields = vec![
            ("response_type", "code"),
            ("client_id", client),
            ("redirect_uri", callback),
            ("scope", "openid email"),
            ("state", "a-state"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        let page = browser.get(format!("{pages}/oauth2/authorize?{}", form(&fields))).send().await.unwrap();
        assert_eq!(page.status(), 200);
        assert!(page.text().await.unwrap().contains("<form method=\"POST\" action=\"/login\">"));
        fields.extend([("username", person.email.as_str()), ("password", person.password.as_str())]);
        let signed_in = post("/login", &fields).await;
        assert_eq!(signed_in.status(), 302);
        let location = reqwest::Url::parse(signed_in.headers()[LOCATION].to_str().unwrap()).unwrap();
        assert!(location.as_str().starts_with(callback), "{location}");
        let answered =
            |name: &str| location.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        assert_eq!(answered("state").as_deref(), Some("a-state"));
        let code = answered("code").expect("a code");

        let exchange = |verifier| {
            [
                ("grant_type", "authorization_code"),
                ("client_id", client),
                ("code", code.as_str()),
                ("redirect_uri", callback),
                ("code_verifier", verifier),
            ]
        };
        assert_eq!(post("/oauth2/token", &exchange(CHALLENGE)).await.status(), 400, "a code without its verifier");
        let tokens = post("/oauth2/token", &exchange(VERIFIER)).await;
        assert_eq!(tokens.status(), 200);
        let tokens: Value = tokens.json().await.unwrap();
        assert_eq!(post("/oauth2/token", &exchange(VERIFIER)).await.status(), 400, "a code a second time");

        let refresh =
            [("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", text(&tokens, "refresh_token"))];
        let refreshed: Value = post("/oauth2/token", &refresh).await.json().await.unwrap();
        for token in [text(&tokens, "access_token"), text(&refreshed, "access_token")] {
            let has = scopes(token);
            assert!(has.is_superset(&scopes_of(Role::User)), "{has:?}");
            assert!(!has.contains("aws.cognito.signin.user.admin") && !has.contains("evoke/stations:write"), "{has:?}");
            let account = stack.call(Method::GET, "/account", token, None).await.must_be(200);
            assert_eq!(text(&account, "userId"), person.user_id);
        }
        stack.delete_account(&person.user_id).await;
    }
}
