use std::panic::AssertUnwindSafe;
use std::time::SystemTime;

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use domain::Instant;
use domain::telemetry::TOPIC_STATION;
use futures::FutureExt;
use futures::future::BoxFuture;
use lambda_runtime::{Context as LambdaContext, Diagnostic, LambdaEvent};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::Instrument;
use uuid::Uuid;

use crate::function::Function;
use crate::request::{Answer, Context, Request, Trigger};
use crate::{Failure, Payload, direct, graphql, http_api, measure, oauth};

/// The wall clock. No other code reads it: everything behind the [`Door`] takes the time as an argument.
#[derive(Clone, Copy, Debug)]
pub struct Clock(pub fn() -> Instant);

impl Clock {
    /// The system clock, truncated to whole milliseconds because stored times have that precision.
    pub const SYSTEM: Self = Self(|| {
        #[allow(clippy::disallowed_methods)] // the only place that reads the clock
        let now = DateTime::<Utc>::from(SystemTime::now());
        now.duration_trunc(TimeDelta::milliseconds(1)).unwrap_or(now)
    });
}

/// The entry point of a function.
///
/// There are four ways in: a direct invocation, an HTTP request, a GraphQL request and a trigger (queue, stream, event,
/// device message or event of a user pool). The door detects which of them an invocation uses, and answers in the
/// format of that way.
#[derive(Debug)]
pub struct Door<F> {
    function: F,
    clock: Clock,
}

impl<F: Function> Door<F> {
    /// Creates the entry point of `function`.
    pub fn new(function: F, clock: Clock) -> Self {
        Self { function, clock }
    }

    /// Returns the function behind this door.
    pub fn function(&self) -> &F {
        &self.function
    }

    /// Handles one invocation.
    ///
    /// # Errors
    /// A Lambda function error whose `errorType` is the name of the failure's code. A failed HTTP or GraphQL request is
    /// not an error here: it is answered with a problem document or with `{"error": …}`.
    pub async fn invoke(&self, event: LambdaEvent<Payload>) -> Result<Value, Diagnostic> {
        let (Payload(payload), lambda) = event.into_parts();
        let payload = match payload {
            Ok(payload) => payload,
            Err(reason) => {
                let context = self.context(&lambda, None);
                let failure = Failure::invalid("payload", format!("must be JSON: {reason}"));
                return Err(log(failure, &context).into_diagnostic());
            }
        };
        // This check comes first: the fields that a device puts into its message must not turn it into another kind of
        // event.
        let is_message = payload.get(TOPIC_STATION).is_some();
        if !is_message && payload["requestContext"]["http"].is_object() {
            return self.http(payload, &lambda).await;
        }
        if !is_message && graphql::is_request(&payload) {
            return Ok(self.graphql(payload, &lambda).await);
        }
        let correlation_id = payload["correlationId"].as_str().filter(|id| !is_message && id.len() <= 128);
        let correlation_id = correlation_id.map(str::to_owned);
        let context = self.context(&lambda, correlation_id);
        let result = match trigger(&payload) {
            Ok(Some(trigger)) => self.guard(self.function.trigger(trigger, context.clone()).boxed(), &context).await,
            Ok(None) => self.direct(payload, &context).await.map(|answer| answer.body),
            Err(failure) => Err(failure),
        };
        result.map_err(|failure| log(failure, &context).into_diagnostic())
    }

    async fn direct(&self, payload: Value, context: &Context) -> Result<Answer, Failure> {
        self.answer(direct::request::<F>(payload, context.clone())?).await
    }

    async fn http(&self, payload: Value, lambda: &LambdaContext) -> Result<Value, Diagnostic> {
        let event: Result<ApiGatewayV2httpRequest, Failure> = parse(payload);
        let id = event.as_ref().ok().and_then(http_api::correlation_id);
        let context = self.context(lambda, id);
        let is_oauth = event.as_ref().is_ok_and(|event| http_api::is_oauth(event, F::ACTIONS));
        let request = event.and_then(|event| http_api::request(&event, F::ACTIONS, context.clone()));
        let grant = request.as_ref().ok().and_then(oauth::grant);
        let result = match request {
            Ok(request) => self.answer(request).await,
            Err(failure) => Err(failure),
        };
        let result = result.map_err(|failure| log(failure, &context));
        let response = if is_oauth {
            oauth::response(result, grant.as_deref(), &context.correlation_id)
        } else {
            http_api::response(result, &context.correlation_id)
        };
        serde_json::to_value(response).map_err(|error| log(Failure::internal(error), &context).into_diagnostic())
    }

    async fn graphql(&self, payload: Value, lambda: &LambdaContext) -> Value {
        let context = self.context(lambda, graphql::correlation_id(&payload));
        let result = match graphql::request(payload, F::ACTIONS, context.clone()) {
            Ok((field, request)) => self.answer(request).await.map(|answer| graphql::data(field, answer)),
            Err(failure) => Err(failure),
        };
        graphql::response(result.map_err(|failure| log(failure, &context)), &context.correlation_id)
    }

    async fn answer(&self, request: Request) -> Result<Answer, Failure> {
        let context = request.context.clone();
        self.guard(self.function.handle(request).boxed(), &context).await
    }

    /// Catches a panic. A panic is a bug in Evoke: it fails its own invocation as an internal error, and no other.
    async fn guard<T>(&self, work: BoxFuture<'_, Result<T, Failure>>, context: &Context) -> Result<T, Failure> {
        let span = tracing::info_span!("invocation", correlation.id = context.correlation_id);
        let caught = AssertUnwindSafe(work.instrument(span)).catch_unwind().await;
        caught.unwrap_or_else(|panic| Err(Failure::panicked(&*panic)))
    }

    fn context(&self, lambda: &LambdaContext, correlation_id: Option<String>) -> Context {
        let now = (self.clock.0)();
        let deadline = i64::try_from(lambda.deadline).ok().and_then(DateTime::from_timestamp_millis);
        Context {
            now,
            deadline: deadline.filter(|at| *at > now).unwrap_or(now + TimeDelta::minutes(1)),
            request_id: lambda.request_id.clone(),
            correlation_id: correlation_id.unwrap_or_else(|| Uuid::now_v7().to_string()),
        }
    }
}

/// Parses a payload that is a trigger. Returns `None` for a payload that is a direct invocation.
fn trigger(payload: &Value) -> Result<Option<Trigger>, Failure> {
    if payload.get(TOPIC_STATION).is_some() {
        return Ok(Some(Trigger::Iot(payload.clone())));
    }
    let source = payload["Records"][0]["eventSource"].as_str();
    match source {
        Some("aws:sqs") => Ok(Some(Trigger::Sqs(parse(payload.clone())?))),
        Some("aws:dynamodb") => Ok(Some(Trigger::Stream(parse(payload.clone())?))),
        Some(other) => Err(Failure::invalid("Records[0].eventSource", format!("{other:?} is no source of ours"))),
        None if payload["detail-type"].is_string() => Ok(Some(Trigger::Event(Box::new(parse(payload.clone())?)))),
        None if payload["triggerSource"].is_string() && payload["userPoolId"].is_string() => {
            Ok(Some(Trigger::UserPool(payload.clone())))
        }
        None => Ok(None),
    }
}

fn parse<T: DeserializeOwned>(payload: Value) -> Result<T, Failure> {
    serde_json::from_value(payload).map_err(|error| Failure::invalid("payload", error.to_string()))
}

/// Logs a failure. Failures are logged here and nowhere else, so that each appears in the log once.
fn log(failure: Failure, context: &Context) -> Failure {
    measure::count_failure(&failure);
    let (code, message) = (failure.code().name(), failure.message());
    if failure.is_ours() {
        let cause = failure.cause();
        tracing::error!(code, cause, correlation.id = context.correlation_id, "the invocation failed: {message}");
    } else {
        tracing::info!(code, correlation.id = context.correlation_id, "the request was refused: {message}");
    }
    failure
}
