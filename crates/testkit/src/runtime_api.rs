use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A fake Lambda Runtime API. It passes payloads to a real function binary and collects the answers.
pub struct RuntimeApi {
    address: SocketAddr,
    state: Arc<Queue>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Queue {
    payloads: Mutex<VecDeque<Vec<u8>>>,
    answers: Mutex<Vec<Result<Value, Value>>>,
    changed: Notify,
}

impl RuntimeApi {
    /// Starts the API.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Queue::default());
        let app = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{what}", post(answer))
            .route("/2018-06-01/runtime/init/error", post(|| async { StatusCode::ACCEPTED }))
            .with_state(state.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("a running server") });
        Self { address, state, server }
    }

    /// Starts the binary of a function. Its environment contains only these variables and those that Lambda sets.
    #[must_use]
    pub fn spawn(&self, binary: &Path, environment: &[(&str, &str)]) -> Child {
        self.spawn_writing(binary, environment, Stdio::null())
    }

    /// Works like [`RuntimeApi::spawn`], and writes the log and metrics of the function to `log`.
    #[must_use]
    pub fn spawn_writing(&self, binary: &Path, environment: &[(&str, &str)], log: Stdio) -> Child {
        Command::new(binary)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", self.address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "test")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "eu-central-1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("a started function")
    }

    /// Queues an invocation.
    pub fn push(&self, payload: impl Into<Vec<u8>>) {
        self.state.payloads.lock().unwrap_or_else(PoisonError::into_inner).push_back(payload.into());
        self.state.changed.notify_waiters();
    }

    /// Waits for the answer number `count`, counted from 0.
    ///
    /// # Errors
    /// The error document when the function failed.
    pub async fn answer(&self, count: usize) -> Result<Value, Value> {
        let wait = async {
            loop {
                let changed = self.state.changed.notified();
                let known = self.state.answers.lock().unwrap_or_else(PoisonError::into_inner).get(count).cloned();
                if let Some(answer) = known {
                    return answer;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("an answer within 30 s")
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn next(State(queue): State<Arc<Queue>>) -> Response {
    loop {
        let changed = queue.changed.notified();
        let payload = queue.payloads.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(payload) = payload {
            let headers = [
                ("lambda-runtime-aws-request-id", "request-1"),
                ("lambda-runtime-deadline-ms", "4102444800000"),
                ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:123456789012:function:test"),
            ];
            return (headers, payload).into_response();
        }
        changed.await;
    }
}

async fn answer(
    State(queue): State<Arc<Queue>>,
    UrlPath((_, what)): UrlPath<(String, String)>,
    body: Bytes,
) -> StatusCode {
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let answer = if what == "response" { Ok(body) } else { Err(body) };
    queue.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    queue.changed.notify_waiters();
    StatusCode::ACCEPTED
}
