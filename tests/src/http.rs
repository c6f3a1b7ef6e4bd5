//! The HTTP API of the deployed stack.

use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::{PATIENCE, Stack};

/// The content type of [`form`].
pub const FORM: &str = "application/x-www-form-urlencoded";
/// The pause before a request that was throttled is sent again.
const PAUSE: Duration = Duration::from_millis(500);

/// The answer to an HTTP request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body: JSON, or else a text.
    pub body: Value,
}

impl Answer {
    /// Returns the body of an answer that must have this status.
    #[track_caller]
    #[allow(clippy::must_use_candidate)] // some tests need only the check
    pub fn must_be(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// Returns the status and the body, without what differs between two answers to the same request.
    #[must_use]
    pub fn comparable(&self) -> (u16, Value) {
        let mut body = self.body.clone();
        if let Some(fields) = body.as_object_mut() {
            fields.remove("correlationId");
        }
        (self.status, body)
    }

    /// Returns the correlation id of the request.
    #[must_use]
    pub fn correlation_id(&self) -> &str {
        self.headers["x-correlation-id"].to_str().expect("a correlation id")
    }
}

/// Encodes the fields of a form.
#[must_use]
pub fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

impl Stack {
    /// Sends a request with a token, or without one if it is empty.
    pub async fn call(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.http_api_url));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        send(request).await
    }

    /// Posts to a route that needs no token.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, "", Some(body)).await
    }

    /// Requests tokens by a form, as OAuth 2.0 has it. `client` authenticates itself by HTTP Basic.
    pub async fn request_tokens(&self, fields: &[(&str, &str)], client: Option<(&str, &str)>) -> Answer {
        let request = self.http.post(format!("{}/auth/token", self.http_api_url));
        let mut request = request.header(CONTENT_TYPE, FORM).body(form(fields));
        if let Some((id, secret)) = client {
            request = request.basic_auth(id, Some(secret));
        }
        send(request).await
    }
}

/// Sends a request, and sends it again while it is throttled. A throttled request has changed nothing.
async fn send(request: RequestBuilder) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let again = request.try_clone().expect("a body that can be sent twice");
        let response = again.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        if status != 429 || Instant::now() > deadline {
            let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
            return Answer { status, headers, body };
        }
        tokio::time::sleep(PAUSE).await;
    }
}
