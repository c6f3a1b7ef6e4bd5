use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use lambda_kit::Redelivery;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// An endpoint at which nothing listens.
pub const NOWHERE: &str = "http://127.0.0.1:9";

/// Returns the redelivery of a queue that does not exist. Postponing is best effort, so batches are still processed.
#[must_use]
pub fn no_redelivery() -> Redelivery {
    Redelivery::new(&sdk_config(NOWHERE), format!("{NOWHERE}/queue"))
}

/// Returns an SDK configuration for `endpoint`, from which any client can be created. It does not retry.
#[must_use]
pub fn sdk_config(endpoint: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "testkit")))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint)
        .build()
}

/// A recorded call of a function.
#[derive(Clone, Debug)]
pub struct RecordedCall {
    /// The path and the query of the request.
    pub path: String,
    /// The headers of the request.
    pub headers: HeaderMap,
    /// The header `X-Amz-Target`; empty for query protocols.
    pub target: String,
    /// The body of the request.
    pub body: String,
}

type Answer = Arc<dyn Fn(&RecordedCall, usize) -> (u16, String) + Send + Sync>;

/// A fake AWS endpoint. It records calls over the real wire protocol and answers as the test specifies. An answer with
/// `errorType` is the error of a function.
pub struct FakeAws {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<RecordedCall>>>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    calls: Arc<Mutex<Vec<RecordedCall>>>,
    answer: Answer,
}

impl FakeAws {
    /// Starts an endpoint. `answer` gets each call and the number of calls before it, and returns status and body.
    pub async fn start(answer: impl Fn(&RecordedCall, usize) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let calls = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared { calls: calls.clone(), answer: Arc::new(answer) };
        let app = Router::new().fallback(handle).with_state(shared);
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("a running server") });
        Self { address, calls, server }
    }

    /// Returns the URL of the endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<RecordedCall> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for FakeAws {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn handle(State(shared): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let call = RecordedCall {
        path: uri.to_string(),
        headers,
        target: target.clone(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let before = {
        let mut calls = shared.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(call.clone());
        calls.len() - 1
    };
    let (status, body) = (shared.answer)(&call, before);
    let content_type = if target.is_empty() { "text/xml" } else { "application/x-amz-json-1.1" };
    let mut answer = (StatusCode::from_u16(status).expect("a status"), [("content-type", content_type)], body.clone())
        .into_response();
    if serde_json::from_str::<Value>(&body).is_ok_and(|body| body.get("errorType").is_some()) {
        answer.headers_mut().insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
    }
    answer
}
