//! The `health_check` Lambda: reports whether the tables and the event bus can be reached. It never fails because one
//! of them cannot.

mod config;

use std::error::Error;
use std::time::{Duration, Instant as Stopwatch};

use aws_sdk_dynamodb::error::SdkError;
use domain::error::Chain;
use futures::future::join_all;
use lambda_kit::{Action, Answer, AwsError, Failure, Function, Request, action};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

pub use config::Config;

/// The time after which a dependency that has not answered counts as unreachable.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer is reused, ms. Anybody can call the route, and the calls that it makes have account-wide quotas
/// of a few calls per second, which deployments need as well.
const HOLDS_MS: i64 = 10_000;

/// The `health_check` function.
#[derive(Debug)]
pub struct HealthCheck {
    tables: Vec<String>,
    bus: Option<String>,
    dynamodb: aws_sdk_dynamodb::Client,
    eventbridge: aws_sdk_eventbridge::Client,
    /// The last answer. A request that finds no valid answer does the check; concurrent requests wait for its result.
    last: Mutex<Option<Health>>,
}

/// The health of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All configured dependencies can be reached.
    Healthy,
    /// At least one dependency cannot be reached.
    Degraded,
    /// No table can be reached.
    Unhealthy,
}

/// The state of one dependency.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// The name of the table or bus.
    name: String,
    /// Whether the dependency answered without an error.
    reachable: bool,
    /// The time until the answer, ms.
    latency_ms: f64,
    /// `unreachable` or `timeout`; absent if the dependency can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

/// The result of a health check.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// The health of the platform.
    status: Status,
    /// The name of the function, `health_check`.
    service: &'static str,
    /// The version of the function.
    version: &'static str,
    /// The time of the check, at most ten seconds ago.
    checked_at: domain::Instant,
    /// The state of each table.
    tables: Vec<Dependency>,
    /// The state of the event bus; absent if none is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    bus: Option<Dependency>,
}

/// The arguments of a health check. There are none; fields that are sent are ignored.
#[derive(Debug, Deserialize, JsonSchema)]
struct Check {}

impl Function for HealthCheck {
    const NAME: &'static str = "health_check";
    const ACTIONS: &'static [Action<Self>] = &[action!("health", Check => Health, Self::health)
        .by("anyone, without a token")
        .about("Returns whether the tables and the event bus can be reached. The answer is at most ten seconds old.")
        .open_at("GET /health")];
    const DEFAULT_ACTION: Option<&'static str> = Some("health");
}

impl HealthCheck {
    /// Creates a function that checks these tables and this event bus.
    #[must_use]
    pub fn new(
        tables: Vec<String>,
        bus: Option<String>,
        dynamodb: aws_sdk_dynamodb::Client,
        eventbridge: aws_sdk_eventbridge::Client,
    ) -> Self {
        Self { tables, bus, dynamodb, eventbridge, last: Mutex::new(None) }
    }

    async fn health(&self, Check {}: Check, request: &Request) -> Result<Answer, Failure> {
        let health = self.current(request.context.now).await;
        let status = if health.status == Status::Unhealthy { 503 } else { 200 };
        Ok(Answer { status, ..Answer::ok(health)? })
    }

    /// Returns the health at `now`. The result is at most ten seconds old.
    async fn current(&self, now: domain::Instant) -> Health {
        let mut last = self.last.lock().await;
        let holds = |health: &&Health| (0..HOLDS_MS).contains(&(now - health.checked_at).num_milliseconds());
        if let Some(health) = last.as_ref().filter(holds) {
            return health.clone();
        }
        last.insert(self.check(now).await).clone()
    }

    async fn check(&self, now: domain::Instant) -> Health {
        let tables = join_all(self.tables.iter().map(|name| self.table(name)));
        let bus = async {
            match &self.bus {
                Some(name) => Some(self.bus(name).await),
                None => None,
            }
        };
        let (tables, bus) = futures::join!(tables, bus);
        Health {
            status: status(&tables, bus.as_ref()),
            service: Self::NAME,
            version: env!("CARGO_PKG_VERSION"),
            checked_at: now,
            tables,
            bus,
        }
    }

    async fn table(&self, name: &str) -> Dependency {
        probe(name, self.dynamodb.describe_table().table_name(name).send()).await
    }

    async fn bus(&self, name: &str) -> Dependency {
        probe(name, self.eventbridge.describe_event_bus().name(name).send()).await
    }
}

/// Runs `call` and measures its time. The error itself goes only to the log, because anybody can read the answer.
async fn probe<T, E>(name: &str, call: impl Future<Output = Result<T, SdkError<E>>>) -> Dependency
where
    E: Error + Send + Sync + 'static,
{
    let watch = Stopwatch::now();
    let error = match tokio::time::timeout(TIMEOUT, call).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => {
            let error = AwsError::from(error);
            tracing::warn!(dependency = name, cause = %Chain(&error), "a dependency cannot be reached");
            Some("unreachable")
        }
        Err(_) => Some("timeout"),
    };
    let latency_ms = (watch.elapsed().as_secs_f64() * 1e6).round() / 1000.0;
    Dependency { name: name.to_owned(), reachable: error.is_none(), latency_ms, error }
}

fn status(tables: &[Dependency], bus: Option<&Dependency>) -> Status {
    let reachable = tables.iter().filter(|table| table.reachable).count();
    if !tables.is_empty() && reachable == 0 {
        return Status::Unhealthy;
    }
    if reachable < tables.len() || bus.is_some_and(|bus| !bus.reachable) {
        return Status::Degraded;
    }
    Status::Healthy
}
