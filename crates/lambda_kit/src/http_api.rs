//! The second door: API Gateway's HTTP API, payload format 2.0, with a Cognito JWT authorizer.

use std::collections::HashMap;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use domain::actor::{Actor, Role};
use domain::id::UserId;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Map, Value};

use crate::request::{Answer, Context, Request, RouteAction};
use crate::{Failure, payload};

/// A route of the HTTP API and the action it stands for.
#[derive(Clone, Copy)]
pub struct Route {
    /// As API Gateway names it, e.g. `GET /stations/{stationId}`.
    pub key: &'static str,
    /// What it asks for.
    pub action: RouteAction,
    /// Reads a parameter of the path or the query as the JSON that the action's command wants.
    parameter: fn(&str, &str) -> Result<Value, Failure>,
}

impl Route {
    /// The route `key` stands for `action`, whose arguments are a `C`.
    #[must_use]
    pub const fn new<C: crate::Command>(key: &'static str, action: RouteAction) -> Self {
        Self { key, action, parameter: |name, text| Ok(crate::command::contract::<C>()?.query_value(name, text)) }
    }
}

const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The correlation id that the caller sent, if it is one: short, printable, without spaces.
pub(crate) fn correlation_id(event: &ApiGatewayV2httpRequest) -> Option<String> {
    let id = event.headers.get(CORRELATION_ID)?.to_str().ok()?;
    let is_one = (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    is_one.then(|| id.to_owned())
}

/// The request in an HTTP event.
pub(crate) fn request(event: &ApiGatewayV2httpRequest, routes: &[Route], context: Context) -> Result<Request, Failure> {
    let key = event.route_key.as_deref().unwrap_or_default();
    let route = routes.iter().find(|route| route.key == key);
    let route = route.ok_or_else(|| domain::error::DomainError::not_found("route", key))?;
    let mut arguments = body(event)?;
    for (name, text) in event.query_string_parameters.iter() {
        arguments.insert(name.to_owned(), (route.parameter)(name, text)?);
    }
    for (name, text) in &event.path_parameters {
        arguments.insert(name.clone(), (route.parameter)(name, text)?);
    }
    if let Some(key) = event.headers.get(IDEMPOTENCY_KEY) {
        let key = key.to_str().map_err(|_| Failure::invalid("Idempotency-Key", "must be printable ASCII"))?;
        arguments.insert("idempotencyKey".to_owned(), Value::String(key.to_owned()));
    }
    let actor = actor(event)?;
    let arguments = Value::Object(arguments);
    let action = route.action.resolve(&arguments)?.to_owned();
    Ok(Request { action, arguments, actor, context })
}

/// The body as a JSON object; no body is an empty one. `actor` and `action` are not the body's to say.
fn body(event: &ApiGatewayV2httpRequest) -> Result<Map<String, Value>, Failure> {
    let wrong = |message: String| Failure::invalid("body", message);
    let text = event.body.as_deref().unwrap_or_default();
    let bytes = if event.is_base64_encoded {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| wrong(error.to_string()))?
    } else {
        text.as_bytes().to_vec()
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| wrong(format!("must be UTF-8: {error}")))?;
    match payload::parse(text).map_err(|error| wrong(format!("must be JSON: {error}")))? {
        Value::Object(mut fields) => {
            fields.remove("actor");
            fields.remove("action");
            Ok(fields)
        }
        _ => Err(wrong("must be a JSON object".to_owned())),
    }
}

/// Who asks, by the token's claims; nobody on a route without authorizer.
fn actor(event: &ApiGatewayV2httpRequest) -> Result<Option<Actor>, Failure> {
    let authorizer = event.request_context.authorizer.as_ref();
    let Some(claims) = authorizer.and_then(|authorizer| authorizer.jwt.as_ref()).map(|jwt| &jwt.claims) else {
        return Ok(None);
    };
    let sub = claims.get("sub").ok_or_else(|| Failure::invalid("authorization", "the token has no sub"))?;
    Ok(Some(Actor { user_id: UserId::new(sub.as_str())?, role: role(claims) }))
}

/// The highest role among the groups.
fn role(claims: &HashMap<String, String>) -> Role {
    let claim = claims.get("cognito:groups").map(String::as_str).unwrap_or_default();
    let has = |name: &str| groups(claim).any(|group| group == name);
    if has("ADMIN") {
        Role::Admin
    } else if has("TECH_SUPPORT") {
        Role::TechSupport
    } else {
        Role::User
    }
}

/// The names in the claim of groups, which API Gateway writes as `[ADMIN TECH_SUPPORT]`.
///
/// A name can have any character but a space, quotes and commas too, so nothing else separates names: `regional.ADMIN`
/// is one, and so is `"ADMIN"`.
fn groups(claim: &str) -> impl Iterator<Item = &str> {
    claim.strip_prefix('[').and_then(|claim| claim.strip_suffix(']')).unwrap_or(claim).split_whitespace()
}

/// An answer, or a failure, as an HTTP response.
pub(crate) fn response(result: Result<Answer, Failure>, correlation_id: &str) -> ApiGatewayV2httpResponse {
    let (status, content_type, body, location) = match result {
        Ok(answer) => (answer.status, "application/json", answer.body, answer.location),
        Err(failure) => (failure.code.status(), "application/problem+json", failure.into_problem(correlation_id), None),
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(correlation_id) {
        headers.insert(CORRELATION_ID, id);
    }
    if let Some(location) = location.and_then(|location| HeaderValue::from_str(&location).ok()) {
        headers.insert(header::LOCATION, location);
    }
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = status.into();
    response.headers = headers;
    response.body = Some(Body::Text(body.to_string()));
    response
}
