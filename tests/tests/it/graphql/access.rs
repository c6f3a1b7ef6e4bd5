//! Which callers may use which fields, and the errors of the others.

use appsync::{Authorization, Subscription};
use e2e::{Person, Stack, admin, text, token};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Staff, kind};

const SESSION: &str = "query Session($id: ID!) { session(sessionId: $id) { sessionId userId } }";
const WALLET: &str = "query Wallet($id: ID) { wallet(userId: $id) { userId balance } }";
const STATION: &str = "query Station($id: ID!) { station(stationId: $id) { stationId } }";
const CREATE: &str = "mutation Create($name: String!) {
  createStation(name: $name, address: \"Road 1\", latitude: 52.5, longitude: 13.4, powerKw: 100) { stationId }
}";
const START: &str = "mutation Start($station: ID!, $percent: Float!) {
  startSession(
    stationId: $station
    portId: \"port-1\"
    vehicle: { batteryCapacityKwh: 60 }
    chargePercent: $percent
    targetPercent: 80
  ) { sessionId }
}";
const CREATE_CLIENT: &str = "mutation Create($scopes: [String!]!) {
  createClient(name: \"e2e\", scopes: $scopes) { clientId clientSecret }
}";
const TWO_FIELDS: &str = "query Both($id: ID!) {
  station(stationId: $id) { stationId }
  wallet(userId: \"somebody-else\") { balance }
}";

/// Asserts that a request is refused with an error of this type, and returns the error.
async fn refused(
    stack: &Stack,
    who: &Authorization,
    document: &str,
    variables: Value,
    expected: &str,
) -> appsync::GraphQlError {
    let answer = stack.graphql(who, document, &variables).await;
    assert_eq!(kind(&answer.errors), expected, "{document}: {answer:?}");
    answer.errors.into_iter().next().unwrap()
}

async fn allowed(stack: &Stack, who: &Authorization, document: &str, variables: Value) -> Value {
    let answer = stack.graphql(who, document, &variables).await;
    assert!(answer.errors.is_empty(), "{document}: {:?}", answer.errors);
    answer.data
}

/// Asserts that each of these subscriptions is refused with an error of this type.
async fn none_in_effect(stack: &Stack, who: &Authorization, expected: &str, subscriptions: Vec<Subscription>) {
    for subscription in subscriptions {
        let what = format!("{subscription:?}");
        assert_eq!(kind(&stack.refusal(who, subscription).await), expected, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_a_type_the_fields_and_the_correlation_id() {
    let stack = Stack::open().await;
    let person = Person::register(&stack).await;
    let staff = Staff::sign_up(&stack, "ADMIN").await;
    let station = stack.station(1).await;
    let who = token(&person.token);

    let start = json!({ "station": station, "percent": 120 });
    let invalid = refused(&stack, &who, START, start.clone(), "ValidationError").await;
    assert_eq!(invalid.path, json!(["startSession"]));
    assert!(!text(&invalid.error_info, "correlationId").is_empty(), "{invalid:?}");
    let fields: Vec<&str> = invalid.error_info["errors"].as_array().unwrap().iter().map(|e| text(e, "field")).collect();
    assert_eq!(fields, ["chargePercent"], "{invalid:?}");

    // A correlation id of the caller is the one of the error, as over HTTP.
    let id = format!("e2e-{}", Uuid::new_v4());
    let request = reqwest::Client::new().post(stack.output("GraphqlUrl")).header("authorization", &person.token);
    let request = request.header("x-correlation-id", &id).json(&json!({ "query": START, "variables": start }));
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(text(&answer["errors"][0]["errorInfo"], "correlationId"), id, "{answer}");

    let transition = "mutation T($id: ID!) { transitionStation(stationId: $id, to: NEW) { status } }";
    let conflict = refused(&stack, &staff.authorization, transition, json!({ "id": station }), "ConflictError").await;
    assert_eq!((text(&conflict.error_info, "from"), text(&conflict.error_info, "to")), ("ACTIVE", "NEW"));
    assert!(conflict.error_info["allowed"].as_array().is_some_and(|allowed| allowed.len() == 2), "{conflict:?}");
    refused(&stack, &who, STATION, json!({ "id": format!("e2e-{}", Uuid::new_v4()) }), "NotFoundError").await;

    // What AppSync itself checks never reaches a function.
    let unknown = "mutation T($id: ID!) { transitionStation(stationId: $id, to: BROKEN) { status } }";
    for (document, variables) in [(unknown, json!({ "id": station })), (STATION, json!({}))] {
        let answer = stack.graphql(&staff.authorization, document, &variables).await;
        assert!(!answer.errors.is_empty() && answer.errors[0].error_info.is_null(), "{answer:?}");
    }

    // One field that fails leaves the others.
    let answer = stack.graphql(&who, TWO_FIELDS, &json!({ "id": station })).await;
    assert_eq!(answer.data["station"]["stationId"], station.as_str());
    assert_eq!((kind(&answer.errors), &answer.errors[0].path), ("ForbiddenError", &json!(["wallet"])));
    stack.delete_account(&person.user_id).await;
    staff.leave(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_read_only_their_own_data_and_staff_read_all_data() {
    let stack = Stack::open().await;
    let (person, other) = (Person::register(&stack).await, Person::register(&stack).await);
    let staff = Staff::sign_up(&stack, "TECH_SUPPORT").await;
    let station = stack.station(1).await;
    let session = stack.start(&station, 1, &person.user_id, json!({})).await.unwrap();
    let (session, id) = (json!({ "id": session["sessionId"] }), json!({ "id": person.user_id }));
    for who in [token(&person.token), staff.authorization.clone()] {
        let read = allowed(&stack, &who, SESSION, session.clone()).await;
        assert_eq!(read["session"]["userId"], person.user_id.as_str());
        let read = allowed(&stack, &who, WALLET, id.clone()).await;
        assert_eq!(read["wallet"]["userId"], person.user_id.as_str());
    }
    let foreign = token(&other.token);
    refused(&stack, &foreign, SESSION, session, "ForbiddenError").await;
    refused(&stack, &foreign, WALLET, id, "ForbiddenError").await;
    refused(&stack, &foreign, CREATE, json!({ "name": "E2E" }), "ForbiddenError").await;

    none_in_effect(
        &stack,
        &foreign,
        "ForbiddenError",
        vec![
            Subscription::sessions_of(&person.user_id),
            Subscription::wallet(&person.user_id),
            Subscription::operator_alerts(),
        ],
    )
    .await;
    let subscriptions = vec![
        Subscription::sessions_of(&person.user_id),
        Subscription::wallet(&person.user_id),
        Subscription::operator_alerts(),
    ];
    stack.follow(staff.authorization.clone(), subscriptions).await;
    stack.delete_account(&other.user_id).await;
    staff.leave(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_key_is_enough_for_the_open_fields_alone() {
    let stack = Stack::open().await;
    let key = stack.api_key();
    let station = stack.station(1).await;
    let near = "query Near { stations(latitude: 52.5, longitude: 13.4, limit: 1) { items { stationId } } }";
    assert!(allowed(&stack, &key, near, json!({})).await["stations"]["items"][0]["stationId"].is_string());
    for (document, variables) in [
        (SESSION, json!({ "id": "a-session" })),
        (WALLET, json!({})),
        (STATION, json!({ "id": station })),
        (CREATE, json!({ "name": "E2E" })),
        ("query Account { account { userId } }", json!({})),
        ("query Customers { customers { items { userId } } }", json!({})),
    ] {
        let error = refused(&stack, &key, document, variables, "Unauthorized").await;
        assert!(error.error_info.is_null(), "no function was asked: {error:?}");
    }
    stack.follow(key.clone(), vec![Subscription::station(&station)]).await;
    none_in_effect(
        &stack,
        &key,
        "Unauthorized",
        vec![
            Subscription::sessions_at(&station),
            Subscription::progress_at(&station),
            Subscription::wallet("somebody"),
            Subscription::swap_station("a-station"),
            Subscription::operator_alerts(),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_must_be_real_an_access_token_and_have_the_scope() {
    let stack = Stack::open().await;
    let person = Person::register(&stack).await;
    let staff = Staff::sign_up(&stack, "ADMIN").await;
    let station = stack.station(1).await;
    let id = json!({ "id": station });

    let forged = format!("{}AAAAAAAA", &person.token[..person.token.len() - 8]);
    for nobody in [token(&forged), token("not-a-token"), Authorization::ApiKey("da2-not-a-key".to_owned())] {
        refused(&stack, &nobody, STATION, id.clone(), "UnauthorizedException").await;
        none_in_effect(&stack, &nobody, "UnauthorizedException", vec![Subscription::station(&station)]).await;
    }

    let id_token = token(&person.id_token);
    refused(&stack, &id_token, STATION, id.clone(), "ForbiddenError").await;
    none_in_effect(
        &stack,
        &id_token,
        "ForbiddenError",
        vec![Subscription::station(&station), Subscription::sessions_of(&person.user_id)],
    )
    .await;

    let scopes = json!({ "scopes": ["stations:read"] });
    let client = allowed(&stack, &staff.authorization, CREATE_CLIENT, scopes).await;
    let client = &client["createClient"];
    let (name, secret) = (text(client, "clientId"), text(client, "clientSecret"));
    let grant = [("grant_type", "client_credentials")];
    let tokens = stack.request_tokens(&grant, Some((name, secret))).await.must_be(200);
    let machine = token(text(&tokens, "access_token"));
    allowed(&stack, &machine, STATION, id.clone()).await;
    stack.follow(machine.clone(), vec![Subscription::station(&station)]).await;
    let lacks = refused(&stack, &machine, WALLET, json!({}), "ForbiddenError").await;
    assert!(lacks.message.contains("billing:read"), "{lacks:?}");
    none_in_effect(
        &stack,
        &machine,
        "ForbiddenError",
        vec![
            Subscription::sessions_at(&station),
            Subscription::progress_at(&station),
            Subscription::swap_station("a-station"),
        ],
    )
    .await;
    let revoke = json!({ "action": "revokeClient", "actor": admin(), "clientId": name });
    stack.invoke("AccountService", revoke).await.unwrap();
    stack.delete_account(&person.user_id).await;
    staff.leave(&stack).await;
}
