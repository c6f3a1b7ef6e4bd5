use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::invoke::{InvokeError, InvokeOutput};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use aws_sdk_lambda::{Client, Config};
use domain::actor::Actor;
use serde_json::{Value, json};
use store::AwsError;

use crate::{Code, Failure};

/// Another Lambda function, called with its actions. Evoke's contexts use each other's functions this way, because each
/// context is the only one to write its tables.
#[derive(Clone, Debug)]
pub struct RemoteFunction {
    client: Client,
    function: String,
}

impl RemoteFunction {
    /// The longest time that [`trigger`](Self::trigger) waits for an answer. It is longer than the timeout of
    /// `telemetry_handler` and `live_publisher` (30 s), the only functions that are invoked in this way.
    pub const LONGEST_TRIGGER: Duration = Duration::from_secs(35);

    /// Creates a peer for the function with this name.
    #[must_use]
    pub fn new(sdk: &SdkConfig, function: String) -> Self {
        Self::with_client(Client::new(sdk), function)
    }

    /// Creates a peer for the function with this name that uses the given client.
    #[must_use]
    pub fn with_client(client: Client, function: String) -> Self {
        Self { client, function }
    }

    /// Invokes an action with the role SYSTEM, waits, and returns the body of its answer.
    ///
    /// # Errors
    /// The refusal of the function. [`Code::Unavailable`] when the function cannot be reached or is itself unavailable,
    /// and [`Code::Internal`] when it failed in any other way.
    pub async fn command(&self, action: &str, arguments: Value, correlation_id: &str) -> Result<Value, Failure> {
        let call = self.client.invoke().function_name(&self.function);
        body(call.payload(payload(action, arguments, correlation_id)).send().await)
    }

    /// Invokes the function once with the payload of a trigger, such as a batch of queue messages, and returns its
    /// answer.
    ///
    /// The timeouts and retries of the other calls do not apply: an invocation that takes long is still in progress,
    /// and a second one would handle the same messages at the same time.
    ///
    /// # Errors
    /// The same as [`command`](Self::command). [`Code::Unavailable`] also when there is no answer within
    /// [`LONGEST_TRIGGER`](Self::LONGEST_TRIGGER). [`Code::TooManyRequests`] when Lambda throttles the invocation.
    pub async fn trigger(&self, payload: &Value) -> Result<Value, Failure> {
        let longest = Self::LONGEST_TRIGGER;
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(longest).operation_timeout(longest).build();
        let once = Config::builder().timeout_config(timeouts).retry_config(RetryConfig::disabled());
        let call = self.client.invoke().function_name(&self.function).payload(Blob::new(payload.to_string()));
        match call.customize().config_override(once).send().await {
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 429) => {
                Err(Failure::TooManyRequests(AwsError::from(error).to_string()))
            }
            answer => body(answer),
        }
    }

    /// Invokes an action asynchronously with the role SYSTEM. Lambda runs it later, with the retries and the
    /// dead-letter queue of the invoked function.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when the invocation cannot be sent.
    pub async fn command_later(&self, action: &str, arguments: Value, correlation_id: &str) -> Result<(), Failure> {
        let call = self.client.invoke().function_name(&self.function).invocation_type(InvocationType::Event);
        let sent = call.payload(payload(action, arguments, correlation_id)).send().await;
        sent.map(|_| ()).map_err(AwsError::from).map_err(Failure::unavailable)
    }
}

/// Returns the body of an answer.
fn body(answer: Result<InvokeOutput, SdkError<InvokeError>>) -> Result<Value, Failure> {
    let answer = answer.map_err(AwsError::from).map_err(Failure::unavailable)?;
    let body = answer.payload.map(Blob::into_inner).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).map_err(Failure::internal)?;
    match answer.function_error {
        None => Ok(body),
        Some(_) => Err(refusal(&body)),
    }
}

fn payload(action: &str, arguments: Value, correlation_id: &str) -> Blob {
    let mut payload = json!({ "action": action, "actor": Actor::system(), "correlationId": correlation_id });
    if let (Some(payload), Value::Object(arguments)) = (payload.as_object_mut(), arguments) {
        payload.extend(arguments);
    }
    Blob::new(payload.to_string())
}

/// Converts the function error of a peer to a failure. The text of an internal error goes only to the log.
fn refusal(body: &Value) -> Failure {
    let kind = body["errorType"].as_str().unwrap_or_default();
    let message = body["errorMessage"].as_str().unwrap_or_default().to_owned();
    match Code::ALL.into_iter().find(|code| code.name() == kind) {
        Some(Code::Validation) => Failure::Validation { message, fields: Vec::new() },
        Some(Code::Forbidden) => Failure::Forbidden(message),
        Some(Code::NotFound) => Failure::NotFound(message),
        Some(Code::Conflict) => Failure::Conflict { message, transition: None },
        Some(Code::TooManyRequests) => Failure::TooManyRequests(message),
        Some(Code::Unavailable) => Failure::unavailable(message),
        Some(Code::Internal) | None => Failure::internal(format!("{kind}: {message}")),
    }
}
