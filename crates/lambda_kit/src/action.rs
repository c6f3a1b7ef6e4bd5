//! Actions: what a function can be asked for. One table for each function says everything about them: it dispatches
//! requests, finds the action of a route, and is what the `OpenAPI` document and docs/API.md are made of.

use std::sync::Arc;

use futures::future::BoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use crate::Failure;
use crate::command::{Command, Contract, contract};
use crate::request::{Answer, Request};

/// How a function answers an action.
pub type Handler<F> = for<'a> fn(&'a F, &'a Request) -> BoxFuture<'a, Result<Answer, Failure>>;

/// An action of the function `F`. [`action!`](crate::action!) makes one.
#[derive(Clone, Copy)]
pub struct Action<F: 'static> {
    /// The name, as a direct invocation gives it.
    pub name: &'static str,
    /// Who may ask for the action, for the documentation. The handler checks it.
    pub by: &'static str,
    /// What the action does: one or two sentences for the documentation.
    pub about: &'static str,
    /// The HTTP route, if the action has one.
    pub route: Option<Route>,
    /// The HTTP status of success.
    pub status: u16,
    /// Makes the JSON Schema of the arguments.
    pub arguments: fn(&mut SchemaGenerator) -> Schema,
    /// Makes the JSON Schema of the answer.
    pub answer: fn(&mut SchemaGenerator) -> Schema,
    contract: fn() -> Result<Arc<Contract>, Failure>,
    handler: Handler<F>,
}

/// A route of the HTTP API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// As API Gateway names it, e.g. `GET /stations/{stationId}`.
    pub key: &'static str,
    /// The value of the argument `to` that selects this action, where several actions share the route.
    pub to: Option<&'static str>,
    /// Whether the route needs no token.
    pub open: bool,
}

impl<F> Action<F> {
    /// The action `name`, whose arguments are a `C` and whose answer is an `A`. It has no route.
    #[must_use]
    pub const fn new<C: Command, A: JsonSchema>(name: &'static str, handler: Handler<F>) -> Self {
        Self {
            name,
            by: "",
            about: "",
            route: None,
            status: 200,
            arguments: schema::<C>,
            answer: schema::<A>,
            contract: contract::<C>,
            handler,
        }
    }

    /// The action, documented as allowed to `by`.
    #[must_use]
    pub const fn by(self, by: &'static str) -> Self {
        Self { by, ..self }
    }

    /// The action with the sentences that document it.
    #[must_use]
    pub const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    /// The action with a route of its own.
    #[must_use]
    pub const fn at(self, key: &'static str) -> Self {
        Self { route: Some(Route { key, to: None, open: false }), ..self }
    }

    /// The action with a route that it shares with others: the argument `to` selects it.
    #[must_use]
    pub const fn at_transition(self, key: &'static str, to: &'static str) -> Self {
        Self { route: Some(Route { key, to: Some(to), open: false }), ..self }
    }

    /// The action with a route that needs no token.
    #[must_use]
    pub const fn open_at(self, key: &'static str) -> Self {
        Self { route: Some(Route { key, to: None, open: true }), ..self }
    }

    /// The action that answers 201 with the location of what it created.
    #[must_use]
    pub const fn creates(self) -> Self {
        Self { status: 201, ..self }
    }

    /// Answers a request for this action.
    ///
    /// # Errors
    /// Whatever the handler refuses.
    pub async fn handle(&self, function: &F, request: &Request) -> Result<Answer, Failure> {
        (self.handler)(function, request).await
    }

    /// A parameter of the path or the query as the JSON that the arguments want.
    pub(crate) fn parameter(&self, name: &str, text: &str) -> Result<Value, Failure> {
        Ok((self.contract)()?.query_value(name, text))
    }

    /// Whether the action's route is `key`.
    pub(crate) fn is_at(&self, key: &str) -> bool {
        self.route.is_some_and(|route| route.key == key)
    }

    /// The value of `to` that selects the action on its route.
    pub(crate) fn selected_by(&self) -> Option<&'static str> {
        self.route.and_then(|route| route.to)
    }
}

impl<F> std::fmt::Debug for Action<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Action").field("name", &self.name).field("route", &self.route).finish_non_exhaustive()
    }
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// An action of a function: `action!("getStation", StationRef => StationView, Self::get)`.
///
/// The handler is an async method `fn(&self, command: StationRef, request: &Request) -> Result<Answer, Failure>`. It is
/// called with the arguments, checked against the schema of their type.
#[macro_export]
macro_rules! action {
    ($name:literal, $command:ty => $answer:ty, $handler:path) => {
        $crate::Action::new::<$command, $answer>($name, |function, request| {
            ::std::boxed::Box::pin(async move {
                let command: $command = request.command()?;
                $handler(function, command, request).await
            })
        })
    };
}
