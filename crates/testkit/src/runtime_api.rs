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
use axum::serve::ListenerExt as _;
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

impl Queue {
    fn keep(&self, answer: Result<Value, Value>) -> StatusCode {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        self.changed.notify_waiters();
        StatusCode::ACCEPTED
    }
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
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .with_state(state.clone());
        // A small answer must not wait for the acknowledgement of the one before: that can take 40 ms.
        let listener = listener.tap_io(|connection| {
            let _ = connection.set_nodelay(true);
        });
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("a running server") });
        Self { address, state, server }
    }

    /// Starts the binary of a function. Its environment contains only these variables, those that Lambda sets, and
    /// those that the template sets for every function.
    #[must_use]
    pub fn spawn(&self, binary: &Path, environment: &[(&str, &str)]) -> Child {
        self.spawn_writing(binary, environment, Stdio::null())
    }

    /// Works like [`RuntimeApi::spawn`], and writes the log and metrics of the function to `log`.
    #[must_use]
    pub fn spawn_writing(&self, binary: &Path, environment: &[(&str, &str)], log: Stdio) -> Child {
        let mut command = self.command(binary, environment);
        command.stdout(log).stderr(Stdio::null()).spawn().expect("a started function")
    }

    /// Returns the command that starts a function. Its environment contains only these variables, those that Lambda
    /// sets, and those that the template sets for every function.
    #[must_use]
    pub fn command(&self, program: &Path, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", self.address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "test")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_DEFAULT_REGION", "eu-central-1")
            .env("METRICS_NAMESPACE", "Evoke/test")
            .envs(environment.iter().copied())
            .stdin(Stdio::null());
        command
    }

    /// Queues an invocation.
    pub fn push(&self, payload: impl Into<Vec<u8>>) {
        self.state.payloads.lock().unwrap_or_else(PoisonError::into_inner).push_back(payload.into());
        self.state.changed.notify_waiters();
    }

    /// Waits for the answer number `count`, counted from 0. Panics if there is none within 30 s.
    ///
    /// # Errors
    /// The error document when the function failed, or reports that it could not start.
    pub async fn answer(&self, count: usize) -> Result<Value, Value> {
        tokio::time::timeout(Duration::from_secs(30), self.answered(count)).await.expect("an answer within 30 s")
    }

    /// Works like [`RuntimeApi::answer`], but waits for as long as it takes.
    ///
    /// # Errors
    /// The same as [`RuntimeApi::answer`].
    pub async fn answered(&self, count: usize) -> Result<Value, Value> {
        loop {
            let changed = self.state.changed.notified();
            let known = self.state.answers.lock().unwrap_or_else(PoisonError::into_inner).get(count).cloned();
            if let Some(answer) = known {
                return answer;
            }
            changed.await;
        }
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
                // The client of AWS for Python crashes without a content type.
                ("content-type", "application/json"),
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
    queue.keep(if what == "response" { Ok(body) } else { Err(body) })
}

async fn init_error(State(queue): State<Arc<Queue>>, body: Bytes) -> StatusCode {
    queue.keep(Err(serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn the_error_of_a_function_that_cannot_start_is_its_answer() {
        let api = RuntimeApi::start().await;
        let url = format!("http://{}/2018-06-01/runtime/init/error", api.address);
        let error = json!({ "errorType": "Runtime.ImportModuleError" });
        reqwest::Client::new().post(url).json(&error).send().await.unwrap();
        assert_eq!(api.answer(0).await, Err(error));
    }

    #[tokio::test]
    async fn an_invocation_says_that_it_is_json() {
        let api = RuntimeApi::start().await;
        api.push("{}");
        let url = format!("http://{}/2018-06-01/runtime/invocation/next", api.address);
        let invocation = reqwest::get(url).await.unwrap();
        assert_eq!(invocation.headers()["content-type"], "application/json");
    }
}
