//! A token endpoint of OAuth 2.0: what it takes, and how it refuses.

use domain::accounts::{Area, Scope};
use lambda_kit::{Action, Answer, Clock, Door, Failure, Function, Request, action};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use testkit::{http_event, invoke};

const FORM: &str = "application/x-www-form-urlencoded";
/// `client-1:secret-1`
const CLIENT: &str = "Basic Y2xpZW50LTE6c2VjcmV0LTE=";

/// Answers with the arguments that it got, or fails as the password says.
struct TokenEndpoint;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum GrantType {
    Password,
    ClientCredentials,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[allow(clippy::struct_field_names)] // the name of RFC 6749
struct Grant {
    grant_type: GrantType,
    #[serde(default)]
    scope: Option<Scope>,
    #[serde(default)]
    lifetime: Option<u32>,
    #[serde(default)]
    #[schemars(length(max = 20))]
    password: Option<String>,
    #[serde(default)]
    client_id: Option<String>,
}

impl Function for TokenEndpoint {
    const NAME: &'static str = "token_endpoint";
    const ACTIONS: &'static [Action<Self>] = &[
        action!("token", Grant => Value, Self::token).open_at("POST /auth/token").oauth(),
        action!("other", Grant => Value, Self::token).at("POST /other", Scope::write(Area::Accounts)),
    ];
}

impl TokenEndpoint {
    #[allow(clippy::unused_async, clippy::unused_self)] // handlers are async methods
    async fn token(&self, grant: Grant, request: &Request) -> Result<Answer, Failure> {
        if matches!(grant.grant_type, GrantType::ClientCredentials) && grant.client_id.is_none() {
            return Err(Failure::invalid("client_id", "is required"));
        }
        if let Some(scope) = grant.scope {
            assert!(Scope::ALL.contains(&scope));
        }
        assert_eq!(request.arguments.get("lifetime").and_then(Value::as_u64), grant.lifetime.map(u64::from));
        match grant.password.as_deref() {
            Some("wrong") => Err(Failure::Forbidden("the address or the password is wrong".to_owned())),
            Some("busy") => Err(Failure::unavailable("the pool secret-pool is down")),
            Some("often") => Err(Failure::TooManyRequests("wait a minute".to_owned())),
            Some("defect") => Err(Failure::internal("secret-table")),
            Some("panic") => panic!("secret-panic"),
            _ => Answer::ok(&request.arguments),
        }
    }
}

fn event(content_type: &str, body: &str) -> Value {
    let mut event = http_event("POST /auth/token", &[], &[], "", "", body);
    event["headers"]["content-type"] = json!(content_type);
    event
}

fn with_authorization(mut event: Value, authorization: &str) -> Value {
    event["headers"]["authorization"] = json!(authorization);
    event
}

/// Returns the status, the headers and the body of the answer.
async fn ask(event: Value) -> (u64, Value, Value) {
    let answer = invoke(&Door::new(TokenEndpoint, Clock::SYSTEM), event).await.unwrap();
    let body = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    (answer["statusCode"].as_u64().unwrap(), answer["headers"].clone(), body)
}

async fn taken(event: Value) -> Value {
    let (status, headers, body) = ask(event).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!((&headers["cache-control"], &headers["pragma"]), (&json!("no-store"), &json!("no-cache")));
    body
}

async fn refused(event: Value, status: u64, error: &str) -> String {
    let (found, headers, body) = ask(event).await;
    assert_eq!((found, &body["error"]), (status, &json!(error)), "{body}");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["x-correlation-id"], "correlation-1");
    assert_eq!(headers.get("www-authenticate").is_some(), status == 401);
    let fields: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["error", "error_description"]);
    let description = body["error_description"].as_str().unwrap().to_owned();
    assert!(!description.is_empty() && description.len() < 1000, "{description}");
    assert!(description.chars().all(|c| matches!(c, ' '..='~') && c != '"' && c != '\\'), "{description}");
    assert!(!description.contains("secret-") && !description.contains("secretsecret"), "{description}");
    description
}

#[tokio::test]
async fn a_form_and_json_give_the_same_arguments() {
    let expected =
        json!({ "grant_type": "password", "username": "ä+b@example.org", "password": "a b&c", "lifetime": 60 });
    let form = "grant_type=password&username=%C3%A4%2Bb%40example.org&password=a+b%26c&lifetime=60";
    assert_eq!(taken(event(FORM, form)).await, expected);
    assert_eq!(taken(event("Application/X-WWW-Form-Urlencoded; charset=UTF-8", form)).await, expected);
    assert_eq!(taken(event("application/json", &expected.to_string())).await, expected);
    // API Gateway encodes bodies of some content types.
    let mut encoded = event(FORM, "Z3JhbnRfdHlwZT1wYXNzd29yZA==");
    encoded["isBase64Encoded"] = json!(true);
    assert_eq!(taken(encoded).await, json!({ "grant_type": "password" }));
}

#[tokio::test]
async fn what_a_form_must_not_set_is_left_out() {
    let body = "grant_type=password&action=other&actor=boss&scope=&unknown=1";
    assert_eq!(taken(event(FORM, body)).await, json!({ "grant_type": "password", "unknown": "1" }));
    // Parameters in an address end up in logs, so that RFC 6749 forbids them.
    let mut in_query = event(FORM, "grant_type=password");
    in_query["queryStringParameters"] = json!({ "password": "wrong" });
    assert_eq!(taken(in_query).await, json!({ "grant_type": "password" }));
}

#[tokio::test]
async fn a_client_authenticates_by_http_basic() {
    let expected = json!({ "grant_type": "client_credentials", "client_id": "client-1", "client_secret": "secret-1" });
    let form = || event(FORM, "grant_type=client_credentials");
    assert_eq!(taken(with_authorization(form(), CLIENT)).await, expected);
    assert_eq!(taken(with_authorization(form(), &CLIENT.replace("Basic ", "basic  "))).await, expected);
    let in_json = event("application/json", &json!({ "grant_type": "client_credentials" }).to_string());
    assert_eq!(taken(with_authorization(in_json, CLIENT)).await, expected);
    let named = event(FORM, "grant_type=client_credentials&client_id=client-1");
    assert_eq!(taken(with_authorization(named, CLIENT)).await, expected);
    // The secret may contain a colon; the id may not.
    let colon = with_authorization(form(), "Basic YTpiOmM=");
    assert_eq!(taken(colon).await["client_secret"], "b:c");
    // An application may send its token with every request.
    let bearer = with_authorization(event(FORM, "grant_type=password"), "Bearer a.b.c");
    assert_eq!(taken(bearer).await, json!({ "grant_type": "password" }));
}

#[tokio::test]
async fn a_client_is_refused() {
    let form = || event(FORM, "grant_type=client_credentials");
    // No Base64; nothing at all; no colon; no id; no secret; not UTF-8.
    for wrong in ["Basic %%%", "Basic", "Basic ", "Basic Y2xpZW50", "Basic OmI=", "Basic YTo=", "Basic //86YQ=="] {
        let description = refused(with_authorization(form(), wrong), 401, "invalid_client").await;
        assert!(description.contains("authorization"), "{description}");
    }
    refused(form(), 401, "invalid_client").await;
    let twice = event(FORM, "grant_type=client_credentials&client_id=client-1&client_secret=secret-1");
    refused(with_authorization(twice, CLIENT), 400, "invalid_request").await;
    let another = event(FORM, "grant_type=client_credentials&client_id=client-2");
    refused(with_authorization(another, CLIENT), 400, "invalid_request").await;
    let revoked = event(FORM, "grant_type=client_credentials&client_id=client-1&password=wrong");
    refused(revoked, 401, "invalid_client").await;
}

#[tokio::test]
async fn malformed_requests_are_refused_in_the_form_of_rfc_6749() {
    let mut events = vec![
        event(FORM, ""),
        event(FORM, "password=x"),
        event(FORM, "grant_type=password&grant_type=password"),
        event(FORM, "grant_type=password&password=%ff"),
        event(FORM, "grant_type=password&%ff=x"),
        event(FORM, "{\"grant_type\": \"password\"}"),
        event(FORM, &format!("grant_type=password&password={}", "secret".repeat(1000))),
        event("application/json", "grant_type=password"),
        event("application/json", "[1]"),
        event("application/json", "{\"grant_type\": 1}"),
        event("text/plain", "grant_type=password"),
    ];
    for base64 in ["//79", "%%%"] {
        for content_type in [FORM, "application/json"] {
            let mut event = event(content_type, base64); // bytes that are not UTF-8; not base64 at all
            event["isBase64Encoded"] = json!(true);
            events.push(event);
        }
    }
    for event in events {
        refused(event, 400, "invalid_request").await;
    }
    refused(event(FORM, "grant_type=magic"), 400, "unsupported_grant_type").await;
    let description = refused(event(FORM, "grant_type=password&scope=stations:admin"), 400, "invalid_scope").await;
    assert!(description.contains("stations:read, stations:write"), "{description}");
}

#[tokio::test]
async fn failures_have_the_codes_of_rfc_6749_and_tell_nothing_internal() {
    let cases = [
        ("wrong", 400, "invalid_grant"),
        ("often", 429, "temporarily_unavailable"),
        ("busy", 503, "temporarily_unavailable"),
        ("defect", 500, "server_error"),
        ("panic", 500, "server_error"),
    ];
    for (password, status, error) in cases {
        refused(event(FORM, &format!("grant_type=password&password={password}")), status, error).await;
    }
}

/// The same action by other ways: problem documents and function errors.
#[tokio::test]
async fn other_routes_and_direct_invocations_are_not_affected() {
    let mut other = http_event("POST /other", &[], &[], "u-1", "", "grant_type=password");
    other["headers"]["content-type"] = json!(FORM);
    other["headers"]["authorization"] = json!(CLIENT);
    let (status, headers, body) = ask(other).await;
    assert_eq!((status, &body["code"]), (400, &json!("ValidationError")));
    assert_eq!(headers["content-type"], "application/problem+json");
    assert!(headers.get("pragma").is_none());

    let door = Door::new(TokenEndpoint, Clock::SYSTEM);
    let (kind, message) = invoke(&door, json!({ "action": "token", "grant_type": "magic" })).await.unwrap_err();
    assert_eq!(kind, "ValidationError", "{message}");
    let (kind, _) =
        invoke(&door, json!({ "action": "token", "grant_type": "password", "password": "wrong" })).await.unwrap_err();
    assert_eq!(kind, "ForbiddenError");
}

/// What a panic or a failed assertion prints of a request must contain no password.
#[tokio::test]
async fn a_request_is_printed_without_its_arguments() {
    let request = Request {
        action: "token".to_owned(),
        arguments: Value::Object(Map::from_iter([("password".to_owned(), json!("Correct-Horse-7"))])),
        actor: None,
        context: crate::triggers::context(),
    };
    let printed = format!("{request:?}");
    assert!(printed.contains("token") && !printed.contains("Correct-Horse"), "{printed}");
}
