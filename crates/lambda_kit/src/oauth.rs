//! A token endpoint of OAuth 2.0 (RFC 6749): bodies as forms, clients that authenticate by HTTP Basic, and refusals in
//! the form of section 5.2.

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value, json};

use crate::action::Action;
use crate::http_api::{self, wrong_body};
use crate::request::{Answer, Request};
use crate::{Code, Failure};

const GRANT: &str = "grant_type";
const CLIENT: &str = "client_id";
const SECRET: &str = "client_secret";
const SCOPE: &str = "scope";
/// The field that a failure names if a client could not be authenticated by the header `Authorization`.
const AUTHORIZATION: &str = "authorization";
const CLIENT_CREDENTIALS: &str = "client_credentials";

/// Returns the arguments of a request: the fields of the body, and the client of the header `Authorization`.
///
/// RFC 6749 forbids parameters in the query, because addresses end up in logs. They are ignored.
pub(crate) fn arguments<F>(event: &ApiGatewayV2httpRequest, action: &Action<F>) -> Result<Map<String, Value>, Failure> {
    let mut arguments =
        if is_form(&event.headers) { form(&http_api::text(event)?, action)? } else { http_api::body(event)? };
    if let Some((client, secret)) = client(&event.headers)? {
        if arguments.contains_key(SECRET) {
            return Err(Failure::invalid(SECRET, "must not be in the body if the header Authorization has it"));
        }
        if arguments.get(CLIENT).is_some_and(|named| *named != client) {
            return Err(Failure::invalid(CLIENT, "must be the client of the header Authorization"));
        }
        arguments.insert(CLIENT.to_owned(), client.into());
        arguments.insert(SECRET.to_owned(), secret.into());
    }
    Ok(arguments)
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Parses a form. An empty value counts as left out, and a parameter must not be repeated (section 3.2 of RFC 6749).
fn form<F>(text: &str, action: &Action<F>) -> Result<Map<String, Value>, Failure> {
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        // The parser replaces bytes that are not UTF-8.
        if name.contains(char::REPLACEMENT_CHARACTER) || value.contains(char::REPLACEMENT_CHARACTER) {
            return Err(wrong_body("must be UTF-8"));
        }
        if value.is_empty() {
            continue;
        }
        let value = action.parameter(&name, &value)?;
        if fields.insert(name.into_owned(), value).is_some() {
            return Err(wrong_body("must not contain a parameter twice"));
        }
    }
    fields.remove("actor");
    fields.remove("action");
    Ok(fields)
}

/// Returns the id and the secret of a client that authenticates itself by HTTP Basic.
///
/// Other schemes are ignored: an application may send its token with each request. RFC 6749 wants the id and the secret
/// form-encoded. They are taken as they are, because those that are issued here consist of letters, digits, `-` and `_`,
/// which no encoding changes.
fn client(headers: &HeaderMap) -> Result<Option<(String, String)>, Failure> {
    let wrong = || Failure::invalid(AUTHORIZATION, "must be Basic with the Base64 of client_id:client_secret");
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().map_err(|_| wrong())?.trim();
    let (scheme, credentials) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Ok(None);
    }
    let bytes = BASE64.decode(credentials.trim()).map_err(|_| wrong())?;
    let pair = String::from_utf8(bytes).map_err(|_| wrong())?;
    match pair.split_once(':') {
        Some((client, secret)) if !client.is_empty() && !secret.is_empty() => {
            Ok(Some((client.to_owned(), secret.to_owned())))
        }
        _ => Err(wrong()),
    }
}

/// Returns the grant type that a request names.
pub(crate) fn grant(request: &Request) -> Option<String> {
    request.arguments.get(GRANT).and_then(Value::as_str).map(str::to_owned)
}

/// Converts an answer, or the failure of a request that named `grant`, to an HTTP response.
pub(crate) fn response(
    result: Result<Answer, Failure>,
    grant: Option<&str>,
    correlation_id: &str,
) -> ApiGatewayV2httpResponse {
    let mut response = match result {
        Ok(answer) => http_api::success(answer, correlation_id),
        Err(failure) => refusal(&failure, grant, correlation_id),
    };
    // RFC 6749 demands this beside `Cache-Control: no-store`.
    response.headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

fn refusal(failure: &Failure, grant: Option<&str>, correlation_id: &str) -> ApiGatewayV2httpResponse {
    let (status, error) = error(failure, grant);
    let body = json!({ "error": error, "error_description": description(failure.message()) });
    let mut response = http_api::json(status, "application/json", &body, correlation_id);
    if status == 401 {
        response.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"evoke\""));
    }
    response
}

/// Returns the HTTP status and the error code of a failure.
///
/// RFC 6749 has no code for an endpoint that is busy. The two that it has for authorization requests are used.
fn error(failure: &Failure, grant: Option<&str>) -> (u16, &'static str) {
    let is_wrong = |name: &str| match failure {
        Failure::Validation { fields, .. } => fields.iter().any(|error| error.field == name),
        _ => false,
    };
    let is_client = grant == Some(CLIENT_CREDENTIALS);
    match failure.code() {
        Code::Validation if is_wrong(AUTHORIZATION) => (401, "invalid_client"),
        Code::Validation if is_client && (is_wrong(CLIENT) || is_wrong(SECRET)) => (401, "invalid_client"),
        // A grant type that is missing or no text makes the request malformed.
        Code::Validation if grant.is_some() && is_wrong(GRANT) => (400, "unsupported_grant_type"),
        Code::Validation if is_wrong(SCOPE) => (400, "invalid_scope"),
        Code::Validation | Code::NotFound => (400, "invalid_request"),
        Code::Forbidden if is_client => (401, "invalid_client"),
        Code::Conflict if failure.is_stale() => (503, "temporarily_unavailable"),
        Code::Forbidden | Code::Conflict => (400, "invalid_grant"),
        Code::TooManyRequests => (429, "temporarily_unavailable"),
        Code::Unavailable => (503, "temporarily_unavailable"),
        Code::Internal => (500, "server_error"),
    }
}

/// Returns a message with the characters that RFC 6749 allows in a description.
fn description(message: &str) -> String {
    let allowed = |character| match character {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => character,
        _ => '?',
    };
    message.chars().map(allowed).collect()
}

#[cfg(test)]
mod tests {
    use domain::error::DomainError;

    use super::*;

    #[test]
    fn each_failure_has_a_code_of_rfc_6749() {
        let (password, client) = (Some("password"), Some(CLIENT_CREDENTIALS));
        let forbidden = || Failure::Forbidden("no".to_owned());
        let cases = [
            (Failure::invalid("username", "is required"), password, 400, "invalid_request"),
            (Failure::invalid("body", "must be UTF-8"), None, 400, "invalid_request"),
            (Failure::invalid(GRANT, "is required"), None, 400, "invalid_request"),
            (Failure::invalid(GRANT, "must be one of …"), Some("magic"), 400, "unsupported_grant_type"),
            (Failure::invalid(SCOPE, "must be one of …"), client, 400, "invalid_scope"),
            (Failure::invalid(AUTHORIZATION, "must be Basic"), None, 401, "invalid_client"),
            (Failure::invalid(CLIENT, "is required"), client, 401, "invalid_client"),
            (Failure::invalid(SECRET, "is required"), client, 401, "invalid_client"),
            (Failure::invalid(SECRET, "must not be in the body"), None, 400, "invalid_request"),
            (forbidden(), password, 400, "invalid_grant"),
            (forbidden(), Some("refresh_token"), 400, "invalid_grant"),
            (forbidden(), client, 401, "invalid_client"),
            (DomainError::conflict("not confirmed").into(), password, 400, "invalid_grant"),
            (DomainError::not_found("route", "x").into(), None, 400, "invalid_request"),
            (Failure::stale("changed"), password, 503, "temporarily_unavailable"),
            (Failure::TooManyRequests("wait".to_owned()), password, 429, "temporarily_unavailable"),
            (Failure::unavailable("a hidden cause"), password, 503, "temporarily_unavailable"),
            (Failure::internal("a hidden cause"), client, 500, "server_error"),
        ];
        for (failure, grant, status, code) in cases {
            assert_eq!(error(&failure, grant), (status, code), "{failure} with {grant:?}");
            let body = response(Err(failure), grant, "c-1").body;
            assert!(!format!("{body:?}").contains("hidden"), "{body:?}");
        }
    }

    #[test]
    fn a_description_has_the_characters_that_rfc_6749_allows() {
        assert_eq!(description("a \"b\" \\ … ß\n~"), "a 'b' / ? ??~");
    }
}
