use std::future::Future;
use std::time::Duration;

use domain::Instant;
use domain::actor::Actor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{EventContext, Page, PageRequest};

use crate::action::Action;
use crate::command::{Command, validate};
use crate::events::{EventBridgeEvent, SqsEvent, StreamEvent};
use crate::{Code, Failure};

/// A Lambda function, as the doors see it.
pub trait Function: Sized + Send + Sync + 'static {
    /// Its name, which is its binary's.
    const NAME: &'static str;
    /// What the function can be asked for.
    const ACTIONS: &'static [Action<Self>] = &[];
    /// The action of a direct invocation that names none.
    const DEFAULT_ACTION: Option<&'static str> = None;

    /// Answers a request, whichever door it came through.
    fn handle(&self, request: Request) -> impl Future<Output = Result<Answer, Failure>> + Send {
        async move {
            let action = Self::ACTIONS.iter().find(|action| action.name == request.action);
            let action = action.ok_or_else(|| request.unknown_action(Self::ACTIONS))?;
            action.handle(self, &request).await
        }
    }

    /// Works off a trigger that is not a request.
    fn trigger(&self, trigger: Trigger, context: Context) -> impl Future<Output = Result<Value, Failure>> + Send {
        let _ = (trigger, context);
        async { Err(Failure::invalid("payload", format!("{} takes no events of this kind", Self::NAME))) }
    }
}

/// Something that happened, rather than somebody who asks.
#[derive(Debug)]
pub enum Trigger {
    /// A batch of a queue.
    Sqs(SqsEvent),
    /// A batch of a table's stream.
    Stream(StreamEvent),
    /// An event of a bus or a schedule.
    Event(Box<EventBridgeEvent>),
    /// A device's message, as a rule of IoT Core hands it over: with the station of its topic.
    Iot(Value),
}

/// When and in which context a function works.
#[derive(Clone, Debug)]
pub struct Context {
    /// Now, in whole milliseconds.
    pub now: Instant,
    /// When the invocation is cut off.
    pub deadline: Instant,
    /// Of the invocation: the same for every attempt of an asynchronous one.
    pub request_id: String,
    /// Taken from the caller, or made.
    pub correlation_id: String,
}

impl Context {
    /// What events written by this invocation carry.
    #[must_use]
    pub fn event_context(&self) -> EventContext {
        EventContext { correlation_id: self.correlation_id.clone(), now: self.now }
    }

    /// How long the invocation may still take.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        (self.deadline - self.now).to_std().unwrap_or_default()
    }
}

/// A request, whichever door it came through.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked for.
    pub action: String,
    /// Its arguments: a JSON object.
    pub arguments: Value,
    /// Who asks, where that was said.
    pub actor: Option<Actor>,
    /// When and in which context.
    pub context: Context,
}

impl Request {
    /// The arguments as the command they should be.
    ///
    /// # Errors
    /// A validation failure naming every failing field.
    pub fn command<C: Command>(&self) -> Result<C, Failure> {
        validate(&self.arguments)
    }

    /// Who asks.
    ///
    /// # Errors
    /// A validation failure when nobody was named.
    pub fn actor(&self) -> Result<&Actor, Failure> {
        self.actor.as_ref().ok_or_else(|| {
            Failure::invalid("actor", "is required: {\"userId\": …, \"role\": ADMIN|TECH_SUPPORT|USER|SYSTEM}")
        })
    }

    fn unknown_action<F>(&self, known: &[Action<F>]) -> Failure {
        let name: String = self.action.chars().take(64).collect();
        if known.is_empty() {
            return Failure::invalid("action", format!("{name:?} is unknown: this function takes events alone"));
        }
        let known: Vec<&str> = known.iter().map(|action| action.name).collect();
        Failure::invalid("action", format!("{name:?} is none of {}", known.join(", ")))
    }
}

/// What a request is answered with.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The JSON body.
    pub body: Value,
    /// HTTP status.
    pub status: u16,
    /// HTTP `Location` of what was created.
    pub location: Option<String>,
}

impl Answer {
    /// 200 with `body`.
    ///
    /// # Errors
    /// An internal failure when `body` cannot be written as JSON.
    pub fn ok(body: impl Serialize) -> Result<Self, Failure> {
        let body = serde_json::to_value(body).map_err(Failure::internal)?;
        Ok(Self { body, status: 200, location: None })
    }

    /// 201 with `body`, which is found at `location` from now on.
    ///
    /// # Errors
    /// An internal failure when `body` cannot be written as JSON.
    pub fn created(location: String, body: impl Serialize) -> Result<Self, Failure> {
        Ok(Self { status: 201, location: Some(location), ..Self::ok(body)? })
    }

    /// 200 with a page of a list.
    ///
    /// # Errors
    /// An internal failure when an item cannot be written as JSON.
    pub fn page<T, V: Serialize>(page: Page<T>, view: impl Fn(T) -> V) -> Result<Self, Failure> {
        let items: Vec<V> = page.items.into_iter().map(view).collect();
        Self::ok(json!({ "count": items.len(), "items": items, "nextToken": page.next_token }))
    }
}

/// A page of a list, as [`Answer::page`] answers it.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ListOf{T}")]
pub struct ListOf<T> {
    /// How many items the page has.
    pub count: usize,
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; null on the last page.
    pub next_token: Option<String>,
}

/// Which page of a list is asked for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageArguments {
    /// The most items on it, 1 to 100; 25 when it is not said.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<u8>,
    /// The `nextToken` of the page before.
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
    /// Whether it is worth an error in the log: the platform failed, not the request.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self.code, Code::Internal | Code::Unavailable)
    }
}
