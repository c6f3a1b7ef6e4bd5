use std::fmt;
use std::time::Duration;

use domain::Instant;
use domain::actor::Actor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{EventContext, Page, PageRequest};

use crate::command::{Command, validate};
use crate::events::{EventBridgeEvent, SqsEvent, StreamEvent};
use crate::{Code, Failure};

/// An invocation by an event source instead of a caller.
#[derive(Debug)]
pub enum Trigger {
    /// A batch of messages from an SQS queue.
    Sqs(SqsEvent),
    /// A batch of records from the stream of a DynamoDB table.
    Stream(StreamEvent),
    /// An event from an event bus or a schedule.
    Event(Box<EventBridgeEvent>),
    /// A device's message from a rule of IoT Core, which adds the station id from the MQTT topic.
    Iot(Value),
    /// An event of a Cognito user pool, e.g. before it generates a token. The answer goes to the pool as it is.
    UserPool(Value),
}

/// The context of an invocation.
#[derive(Clone, Debug)]
pub struct Context {
    /// The current time, in whole milliseconds.
    pub now: Instant,
    /// The time at which Lambda aborts the invocation.
    pub deadline: Instant,
    /// The id of the invocation. All attempts of an asynchronous invocation have the same id.
    pub request_id: String,
    /// The correlation id: the caller's, or a new one.
    pub correlation_id: String,
}

impl Context {
    /// Returns the context for the events that this invocation writes.
    #[must_use]
    pub fn event_context(&self) -> EventContext {
        EventContext { correlation_id: self.correlation_id.clone(), now: self.now }
    }

    /// Returns the time from the start of the invocation to its deadline.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        (self.deadline - self.now).to_std().unwrap_or_default()
    }
}

/// Returns whether a caller may set the correlation id `id`: 1 to 128 printable ASCII characters without spaces.
pub(crate) fn is_correlation_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A request by a caller: a direct invocation, an HTTP request or a GraphQL request.
#[derive(Clone)]
pub struct Request {
    /// The name of the requested action.
    pub action: String,
    /// The arguments, a JSON object.
    pub arguments: Value,
    /// The actor, if the request names one.
    pub actor: Option<Actor>,
    /// The context of the invocation.
    pub context: Context,
}

/// Leaves the arguments out, because they may contain a password.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Request");
        debug.field("action", &self.action).field("actor", &self.actor).field("context", &self.context);
        debug.finish_non_exhaustive()
    }
}

impl Request {
    /// Validates and parses the arguments.
    ///
    /// # Errors
    /// [`Code::Validation`], with one entry for each invalid field.
    pub fn command<C: Command>(&self) -> Result<C, Failure> {
        validate(&self.arguments)
    }

    /// Returns the actor.
    ///
    /// # Errors
    /// [`Code::Validation`] when the request names no actor.
    pub fn actor(&self) -> Result<&Actor, Failure> {
        self.actor.as_ref().ok_or_else(|| {
            Failure::invalid("actor", "is required: {\"userId\": …, \"role\": ADMIN|TECH_SUPPORT|USER|SYSTEM}")
        })
    }
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The JSON body.
    pub body: Value,
    /// The HTTP status.
    pub status: u16,
    /// The HTTP header `Location`: the path of the created object.
    pub location: Option<String>,
}

impl Answer {
    /// Creates an answer with the status 200.
    ///
    /// # Errors
    /// [`Code::Internal`] when `body` cannot be serialized.
    pub fn ok(body: impl Serialize) -> Result<Self, Failure> {
        let body = serde_json::to_value(body).map_err(Failure::internal)?;
        Ok(Self { body, status: 200, location: None })
    }

    /// Creates an answer with the status 201 and the path of the created object.
    ///
    /// # Errors
    /// [`Code::Internal`] when `body` cannot be serialized.
    pub fn created(location: String, body: impl Serialize) -> Result<Self, Failure> {
        Ok(Self { status: 201, location: Some(location), ..Self::ok(body)? })
    }

    /// Creates an answer with the status 200 and one page of a list.
    ///
    /// # Errors
    /// [`Code::Internal`] when an item cannot be serialized.
    pub fn page<T, V: Serialize>(page: Page<T>, view: impl Fn(T) -> V) -> Result<Self, Failure> {
        let items: Vec<V> = page.items.into_iter().map(view).collect();
        Self::ok(json!({ "count": items.len(), "items": items, "nextToken": page.next_token }))
    }
}

/// A page of a list.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ListOf{T}")]
pub struct ListOf<T> {
    /// The number of items on this page.
    pub count: usize,
    /// The items of this page.
    pub items: Vec<T>,
    /// The `nextToken` for the request of the next page; null on the last page.
    pub next_token: Option<String>,
}

/// The requested page of a list.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageArguments {
    /// The maximum number of items on the page, 1 to 100. The default is 25.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<u8>,
    /// The `nextToken` of the previous page. Without it the first page is returned.
    #[serde(default)]
    #[schemars(length(max = 2048))]
    pub next_token: Option<String>,
}

impl From<PageArguments> for PageRequest {
    fn from(arguments: PageArguments) -> Self {
        Self { limit: arguments.limit.unwrap_or(25).into(), next_token: arguments.next_token }
    }
}

impl Failure {
    /// Returns whether the platform failed rather than the request. Such a failure is logged as an error.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self.code(), Code::Internal | Code::Unavailable)
    }
}
