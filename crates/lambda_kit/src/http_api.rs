//! HTTP requests from an API Gateway HTTP API: payload format 2.0, with a Cognito JWT authorizer.

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use domain::actor::Actor;
use domain::error::DomainError;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Map, Value};

use crate::action::Action;
use crate::request::{Answer, Context, Request, is_correlation_id};
use crate::{Failure, oauth, payload, token};

const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Returns the correlation id that the caller sent, if it is valid.
pub(crate) fn correlation_id(event: &ApiGatewayV2httpRequest) -> Option<String> {
    let id = event.headers.get(CORRELATION_ID)?.to_str().ok()?;
    is_correlation_id(id).then(|| id.to_owned())
}

/// Parses an HTTP event into a request.
pub(crate) fn request<F>(
    event: &ApiGatewayV2httpRequest,
    actions: &[Action<F>],
    context: Context,
) -> Result<Request, Failure> {
    if let Some(action) = oauth_action(event, actions) {
        let arguments = oauth::arguments(event, action)?;
        let action = action.operation.name.to_owned();
        return Ok(Request { action, arguments: Value::Object(arguments), actor: actor(event)?, context });
    }
    let mut arguments = body(event)?;
    let query = event.query_string_parameters.iter();
    let path = event.path_parameters.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let parameters: Vec<(&str, &str)> = query.chain(path).collect();
    let to = parameters.iter().rfind(|(name, _)| *name == "to").map(|(_, text)| *text);
    let to = to.or_else(|| arguments.get("to").and_then(Value::as_str));
    let action = find(actions, route_key(event), to)?;
    for (name, text) in parameters {
        arguments.insert(name.to_owned(), action.parameter(name, text)?);
    }
    if let Some(key) = event.headers.get(IDEMPOTENCY_KEY) {
        let key = key.to_str().map_err(|_| Failure::invalid("Idempotency-Key", "must be printable ASCII"))?;
        arguments.insert("idempotencyKey".to_owned(), Value::String(key.to_owned()));
    }
    let action = action.operation.name.to_owned();
    Ok(Request { action, arguments: Value::Object(arguments), actor: actor(event)?, context })
}

fn route_key(event: &ApiGatewayV2httpRequest) -> &str {
    event.route_key.as_deref().unwrap_or_default()
}

/// Returns whether the route of the request is a token endpoint of OAuth 2.0.
pub(crate) fn is_oauth<F>(event: &ApiGatewayV2httpRequest, actions: &[Action<F>]) -> bool {
    oauth_action(event, actions).is_some()
}

fn oauth_action<'a, F>(event: &ApiGatewayV2httpRequest, actions: &'a [Action<F>]) -> Option<&'a Action<F>> {
    actions.iter().find(|action| action.operation.is_oauth && action.is_at(route_key(event)))
}

/// Finds the action of a route. If several actions share the route, `to` selects one.
fn find<'a, F>(actions: &'a [Action<F>], key: &str, to: Option<&str>) -> Result<&'a Action<F>, Failure> {
    let mut candidates = actions.iter().filter(|action| action.is_at(key)).peekable();
    if candidates.peek().is_none() {
        return Err(DomainError::not_found("route", key).into());
    }
    let states: Vec<&str> = candidates.clone().filter_map(Action::selected_by).collect();
    let selected = candidates.find(|action| action.selected_by().is_none_or(|state| Some(state) == to));
    selected.ok_or_else(|| Failure::invalid("to", format!("must be one of {}", states.join(", "))))
}

/// Parses the body as a JSON object; a missing body is an empty object. The fields `actor` and `action` are removed,
/// because the token determines the actor and the route determines the action.
pub(crate) fn body(event: &ApiGatewayV2httpRequest) -> Result<Map<String, Value>, Failure> {
    let text = text(event)?;
    if text.bytes().all(|byte| byte.is_ascii_whitespace()) {
        return Ok(Map::new());
    }
    match payload::parse(&text).map_err(|error| wrong_body(format!("must be JSON: {error}")))? {
        Value::Object(mut fields) => {
            fields.remove("actor");
            fields.remove("action");
            Ok(fields)
        }
        _ => Err(wrong_body("must be a JSON object")),
    }
}

/// Returns the body as text, which is empty if there is no body.
pub(crate) fn text(event: &ApiGatewayV2httpRequest) -> Result<String, Failure> {
    let text = event.body.as_deref().unwrap_or_default();
    if !event.is_base64_encoded {
        return Ok(text.to_owned());
    }
    let bytes = BASE64.decode(text).map_err(|error| wrong_body(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| wrong_body(format!("must be UTF-8: {}", error.utf8_error())))
}

pub(crate) fn wrong_body(message: impl Into<String>) -> Failure {
    Failure::invalid("body", message)
}

/// Builds the actor from the claims of the token. A route without authorizer has no actor.
fn actor(event: &ApiGatewayV2httpRequest) -> Result<Option<Actor>, Failure> {
    let authorizer = event.request_context.authorizer.as_ref();
    let Some(claims) = authorizer.and_then(|authorizer| authorizer.jwt.as_ref()).map(|jwt| &jwt.claims) else {
        return Ok(None);
    };
    // The scope of a route keeps id tokens out. A route that was deployed without one would take them.
    if claims.get("token_use").is_some_and(|kind| kind != token::ACCESS) {
        return Err(token::wrong_kind());
    }
    let sub = claims.get("sub").map(String::as_str);
    token::actor(sub, groups(claims.get("cognito:groups").map(String::as_str).unwrap_or_default())).map(Some)
}

/// Returns the names in the groups claim, which API Gateway formats as `[ADMIN TECH_SUPPORT]`.
///
/// A group name can contain any character except a space, even quotes and commas. Therefore only spaces separate names:
/// `regional.ADMIN` and `"ADMIN"` are each one name, and neither of them is `ADMIN`.
fn groups(claim: &str) -> impl Iterator<Item = &str> {
    claim.strip_prefix('[').and_then(|claim| claim.strip_suffix(']')).unwrap_or(claim).split_whitespace()
}

/// Converts an answer or a failure to an HTTP response.
pub(crate) fn response(result: Result<Answer, Failure>, correlation_id: &str) -> ApiGatewayV2httpResponse {
    match result {
        Ok(answer) => success(answer, correlation_id),
        Err(failure) => {
            let status = failure.code().status();
            json(status, "application/problem+json", &failure.into_problem(correlation_id), correlation_id)
        }
    }
}

/// Converts an answer to an HTTP response.
pub(crate) fn success(answer: Answer, correlation_id: &str) -> ApiGatewayV2httpResponse {
    let mut response = json(answer.status, "application/json", &answer.body, correlation_id);
    if let Some(location) = answer.location.and_then(|location| HeaderValue::from_str(&location).ok()) {
        response.headers.insert(header::LOCATION, location);
    }
    response
}

/// Creates a response with a JSON body.
pub(crate) fn json(
    status: u16,
    content_type: &'static str,
    body: &Value,
    correlation_id: &str,
) -> ApiGatewayV2httpResponse {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(correlation_id) {
        headers.insert(CORRELATION_ID, id);
    }
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = status.into();
    response.headers = headers;
    response.body = Some(Body::Text(body.to_string()));
    response
}
