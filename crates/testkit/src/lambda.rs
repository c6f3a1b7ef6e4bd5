use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use lambda_kit::{Door, Function};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::doors::invoke_raw;

/// A fake Lambda API for one function in this process. The name by which the function is invoked does not matter.
pub struct FakeLambda {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl FakeLambda {
    /// Starts the API.
    pub async fn start<F: Function>(door: Arc<Door<F>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().route("/2015-03-31/functions/{name}/invocations", post(invoke::<F>)).with_state(door);
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("a running server") });
        Self { address, server }
    }

    /// Returns the URL of the API.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for FakeLambda {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn invoke<F: Function>(State(door): State<Arc<Door<F>>>, Path(_): Path<String>, payload: Bytes) -> Response {
    match invoke_raw(&door, &payload).await {
        Ok(answer) => answer.to_string().into_response(),
        Err((kind, message)) => {
            let headers = HeaderMap::from_iter([(
                "x-amz-function-error".parse().expect("a name"),
                HeaderValue::from_static("Unhandled"),
            )]);
            (headers, json!({ "errorType": kind, "errorMessage": message }).to_string()).into_response()
        }
    }
}
