//! Actions: the operations that a function offers to its callers.
//!
//! Each function has one table of actions. The table dispatches direct invocations and maps HTTP routes and GraphQL
//! fields to actions. The `OpenAPI` document, the GraphQL schema and docs/API.md are generated from it.

use std::sync::Arc;

use domain::accounts::Scope;
use futures::future::BoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use crate::Failure;
use crate::command::{Command, Contract, contract};
use crate::request::{Answer, Request};

/// An async function that handles one action of the function `F`.
pub type Handler<F> = for<'a> fn(&'a F, &'a Request) -> BoxFuture<'a, Result<Answer, Failure>>;

/// An action of the function `F`, created with [`action!`](crate::action!).
#[derive(Clone, Copy)]
pub struct Action<F: 'static> {
    /// The operation that the action performs.
    pub operation: Operation,
    contract: fn() -> Result<Arc<Contract>, Failure>,
    handler: Handler<F>,
}

/// An operation that a function offers to its callers: an action without its handler.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// The name of the function.
    pub function: &'static str,
    /// The name by which a direct invocation requests the action.
    pub name: &'static str,
    /// Who may request the action. For the documentation only: the handler does the check.
    pub by: &'static str,
    /// What the action does, in one or two sentences for the documentation.
    pub about: &'static str,
    /// The HTTP route, if the action has one.
    pub route: Option<Route>,
    /// The field of the GraphQL API, if the action has one.
    pub graphql: Option<Field>,
    /// The HTTP status of a successful answer.
    pub status: u16,
    /// Whether the route takes requests and refuses them as OAuth 2.0 (RFC 6749) demands of a token endpoint.
    pub is_oauth: bool,
    /// Generates the JSON Schema of the arguments.
    pub arguments: fn(&mut SchemaGenerator) -> Schema,
    /// Generates the JSON Schema of the answer.
    pub answer: fn(&mut SchemaGenerator) -> Schema,
    /// The scope of an action without a route.
    own_scope: Option<Scope>,
}

impl Operation {
    /// Returns the scope that a token needs: that of the route, or of [`Action::scope`] if there is no route.
    #[must_use]
    pub const fn scope(&self) -> Option<Scope> {
        match self.route {
            Some(route) => route.scope,
            None => self.own_scope,
        }
    }

    /// Returns whether the GraphQL field can be used with the API key, without a token.
    #[must_use]
    pub const fn takes_api_key(&self) -> bool {
        let is_open = match self.route {
            Some(route) => route.is_open(),
            None => false,
        };
        match self.graphql {
            Some(field) => is_open || field.takes_api_key,
            None => false,
        }
    }
}

/// A route of the HTTP API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The route key of API Gateway, e.g. `GET /stations/{stationId}`.
    pub key: &'static str,
    /// The value of the argument `to` that selects this action, if several actions share the route.
    pub to: Option<&'static str>,
    /// The scope that a token needs for the route. API Gateway checks it. A route without a scope needs no token.
    pub scope: Option<Scope>,
}

impl Route {
    /// Returns whether the route can be called without a token.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.scope.is_none()
    }
}

/// A field of the GraphQL API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The type that the field belongs to.
    pub kind: FieldKind,
    /// The name of the field.
    pub name: &'static str,
    /// Whether the API key is enough for the field, although the route of the action requires a token.
    pub takes_api_key: bool,
    /// The property of the answer that has the items of a list, if its name is not `items`.
    pub items: Option<&'static str>,
}

/// A type whose fields are the requests of the GraphQL API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// The fields that only read.
    Query,
    /// The fields that change something.
    Mutation,
}

impl FieldKind {
    /// Returns the name of the type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Query => "Query",
            Self::Mutation => "Mutation",
        }
    }
}

impl Field {
    const fn new(kind: FieldKind, name: &'static str) -> Self {
        Self { kind, name, takes_api_key: false, items: None }
    }
}

impl<F> Action<F> {
    /// Creates the action `name` of the function named `function`, with arguments of type `C` and an answer of type
    /// `A`. The action has neither a route nor a GraphQL field yet.
    #[must_use]
    pub const fn new<C: Command, A: JsonSchema>(
        function: &'static str,
        name: &'static str,
        handler: Handler<F>,
    ) -> Self {
        let operation = Operation {
            function,
            name,
            by: "",
            about: "",
            route: None,
            graphql: None,
            status: 200,
            is_oauth: false,
            arguments: schema::<C>,
            answer: schema::<A>,
            own_scope: None,
        };
        Self { operation, contract: contract::<C>, handler }
    }

    /// Sets who may request the action, for the documentation.
    #[must_use]
    pub const fn by(mut self, by: &'static str) -> Self {
        self.operation.by = by;
        self
    }

    /// Sets the description of the action for the documentation.
    #[must_use]
    pub const fn about(mut self, about: &'static str) -> Self {
        self.operation.about = about;
        self
    }

    /// Sets a route that belongs to this action alone, and the scope that it requires.
    #[must_use]
    pub const fn at(mut self, key: &'static str, scope: Scope) -> Self {
        self.operation.route = Some(Route { key, to: None, scope: Some(scope) });
        self
    }

    /// Sets a route that the action shares with others, and the scope that it requires. The argument `to` selects one
    /// of the actions.
    #[must_use]
    pub const fn at_transition(mut self, key: &'static str, to: &'static str, scope: Scope) -> Self {
        self.operation.route = Some(Route { key, to: Some(to), scope: Some(scope) });
        self
    }

    /// Sets a route that can be called without a token.
    #[must_use]
    pub const fn open_at(mut self, key: &'static str) -> Self {
        self.operation.route = Some(Route { key, to: None, scope: None });
        self
    }

    /// Sets the scope that an action without a route requires over GraphQL. An action with a route requires the scope
    /// of the route.
    #[must_use]
    pub const fn scope(mut self, scope: Scope) -> Self {
        self.operation.own_scope = Some(scope);
        self
    }

    /// Makes the action a query of the GraphQL API. `field` is a noun: what the action returns.
    #[must_use]
    pub const fn query(mut self, field: &'static str) -> Self {
        self.operation.graphql = Some(Field::new(FieldKind::Query, field));
        self
    }

    /// Makes the action a mutation of the GraphQL API. The field has the name of the action.
    #[must_use]
    pub const fn mutation(mut self) -> Self {
        self.operation.graphql = Some(Field::new(FieldKind::Mutation, self.operation.name));
        self
    }

    /// Allows the GraphQL field with the API key, although the route requires a token. Call it after
    /// [`query`](Self::query) or [`mutation`](Self::mutation).
    #[must_use]
    pub const fn with_api_key(mut self) -> Self {
        if let Some(field) = &mut self.operation.graphql {
            field.takes_api_key = true;
        }
        self
    }

    /// Renames the property `list` of the answer to `items` in GraphQL, the name that all lists have there. Call it
    /// after [`query`](Self::query).
    #[must_use]
    pub const fn items_in(mut self, list: &'static str) -> Self {
        if let Some(field) = &mut self.operation.graphql {
            field.items = Some(list);
        }
        self
    }

    /// Makes the route a token endpoint of OAuth 2.0 (RFC 6749).
    ///
    /// The body may be a form or JSON. A client may authenticate itself by HTTP Basic, which gives the arguments
    /// `client_id` and `client_secret`. A failure is answered as `{"error": …, "error_description": …}` instead of as a
    /// problem document. Other ways to request the action are not affected.
    #[must_use]
    pub const fn oauth(mut self) -> Self {
        self.operation.is_oauth = true;
        self
    }

    /// Marks an action that creates something: it answers 201 with the location of what it created.
    #[must_use]
    pub const fn creates(mut self) -> Self {
        self.operation.status = 201;
        self
    }

    /// Runs the handler of this action.
    ///
    /// # Errors
    /// Returns the failure of the handler.
    pub async fn handle(&self, function: &F, request: &Request) -> Result<Answer, Failure> {
        (self.handler)(function, request).await
    }

    /// Converts a path or query parameter to the JSON type that the arguments require.
    pub(crate) fn parameter(&self, name: &str, text: &str) -> Result<Value, Failure> {
        Ok((self.contract)()?.query_value(name, text))
    }

    /// Returns whether the action has the route `key`.
    pub(crate) fn is_at(&self, key: &str) -> bool {
        self.operation.route.is_some_and(|route| route.key == key)
    }

    /// Returns the value of the argument `to` that selects this action on its route.
    pub(crate) fn selected_by(&self) -> Option<&'static str> {
        self.operation.route.and_then(|route| route.to)
    }
}

impl<F> std::fmt::Debug for Action<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Action").field("operation", &self.operation).finish_non_exhaustive()
    }
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Creates an [`Action`]: `action!("getStation", StationRef => StationView, Self::get)`. It belongs in the
/// implementation of [`Function`](crate::Function) for the type of the function.
///
/// The handler is an async method `fn(&self, command: StationRef, request: &Request) -> Result<Answer, Failure>`. It
/// receives the arguments after they were checked against the JSON Schema of their type.
#[macro_export]
macro_rules! action {
    ($name:literal, $command:ty => $answer:ty, $handler:path) => {
        $crate::Action::new::<$command, $answer>(<Self as $crate::Function>::NAME, $name, |function, request| {
            ::std::boxed::Box::pin(async move {
                let command: $command = request.command()?;
                $handler(function, command, request).await
            })
        })
    };
}
