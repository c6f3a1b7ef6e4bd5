//! The second door: API Gateway's HTTP API, payload format 2.0, with a Cognito JWT authorizer.

use std::collections::HashMap;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use domain::actor::{Actor, Role};
use domain::error::DomainError;
use domain::id::UserId;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Map, Value};

use crate::action::Action;
use crate::request::{Answer, Context, Request};
use crate::{Failure, payload};

const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The correlation id that the caller sent, if it is one: short, printable, without spaces.
pub(crate) fn correlation_id(event: &ApiGatewayV2httpRequest) -> Option<String> {
    let id = event.headers.get(CORRELATION_ID)?.to_str().ok()?;
    let is_one = (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    is_one.then(|| id.to_owned())
}

/// The request in an HTTP event.
pub(crate) fn request<F>(
    event: &ApiGatewayV2httpRequest,
    actions: &[Action<F>],
    context: Context,
) -> Result<Request, Failure> {
    let mut arguments = body(event)?;
    let query = event.query_string_parameters.iter();
    let path = event.path_parameters.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let parameters: Vec<(&str, &str)> = query.chain(path).collect();
    let to = parameters.iter().rfind(|(name, _)| *name == "to").map(|(_, text)| *text);
    let to = to.or_else(|| arguments.get("to").and_then(Value::as_str));
    let action = find(actions, event.route_key.as_deref().unwrap_or_default(), to)?;
    for (name, text) in parameters {
        arguments.insert(name.to_owned(), action.parameter(name, text)?);
    }
    if let Some(key) = event.headers.get(IDEMPOTENCY_KEY) {
        let key = key.to_str().map_err(|_| Failure::invalid("Idempotency-Key", "must be printable ASCII"))?;
        arguments.insert("idempotencyKey".to_owned(), Value::String(key.to_owned()));
    }
    Ok(Request { action: action.name.to_owned(), arguments: Value::Object(arguments), actor: actor(event)?, context })
}

/// The action of a route. Where several actions share the route, `to` selects one.
fn find<'a, F>(actions: &'a [Action<F>], key: &str, to: Option<&str>) -> Result<&'a Action<F>, Failure> {
    let mut candidates = actions.iter().filter(|action| action.is_at(key)).peekable();
    if candidates.peek().is_none() {
        return Err(DomainError::not_found("route", key).into());
    }
    let states: Vec<&str> = candidates.clone().filter_map(Action::selected_by).collect();
    let selected = candidates.find(|action| action.selected_by().is_none_or(|state| Some(state) == to));
    selected.ok_or_else(|| Failure::invalid("to", format!("must be one of {}", states.join(", "))))
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
