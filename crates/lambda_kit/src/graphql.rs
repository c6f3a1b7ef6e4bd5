//! GraphQL requests from a resolver of AppSync, with a payload such as
//! `{"field": "station", "arguments": {…}, "identity": {…}, "correlationId": …}`.
//!
//! AppSync has verified the token and the types of the arguments. AppSync does not check scopes, and accepts ID tokens
//! too. So this module checks the scope, and that the token is an access token.

use domain::actor::Actor;
use serde_json::{Map, Value, json};

use crate::action::{Action, Field, Operation};
use crate::request::{Answer, Context, Request, is_correlation_id};
use crate::{Failure, token};

/// Returns whether a payload is a GraphQL request.
pub(crate) fn is_request(payload: &Value) -> bool {
    let has = |name: &str| payload.get(name).is_some();
    payload["field"].is_string() && !has("action") && !has("requestContext")
}

/// Returns the correlation id that the caller sent, if it is valid.
pub(crate) fn correlation_id(payload: &Value) -> Option<String> {
    payload["correlationId"].as_str().filter(|id| is_correlation_id(id)).map(str::to_owned)
}

/// Parses a payload into the field that it asks for and a request of the field's action.
pub(crate) fn request<F>(
    mut payload: Value,
    actions: &[Action<F>],
    context: Context,
) -> Result<(Field, Request), Failure> {
    let (field, operation) = find(actions, payload["field"].as_str().unwrap_or_default())?;
    let actor = actor(&payload["identity"], &operation)?;
    let arguments = arguments(payload["arguments"].take())?;
    Ok((field, Request { action: operation.name.to_owned(), arguments, actor, context }))
}

fn find<F>(actions: &[Action<F>], name: &str) -> Result<(Field, Operation), Failure> {
    fields(actions).find(|(field, _)| field.name == name).ok_or_else(|| {
        let name: String = name.chars().take(64).collect();
        let known: Vec<&str> = fields(actions).map(|(field, _)| field.name).collect();
        match known.as_slice() {
            [] => Failure::invalid("field", format!("{name:?} is unknown: this function has no fields of GraphQL")),
            known => Failure::invalid("field", format!("{name:?} is none of {}", known.join(", "))),
        }
    })
}

fn fields<F>(actions: &[Action<F>]) -> impl Iterator<Item = (Field, Operation)> {
    actions.iter().filter_map(|action| Some((action.operation.graphql?, action.operation)))
}

/// Checks that the caller may use the field, and builds the actor from the claims of the token. A caller with the API
/// key has no identity, and the request then has no actor.
fn actor(identity: &Value, operation: &Operation) -> Result<Option<Actor>, Failure> {
    if identity.is_null() {
        return if operation.takes_api_key() { Ok(None) } else { Err(forbidden("the API key is not enough for this")) };
    }
    let claims = &identity["claims"];
    if claims["token_use"] != token::ACCESS {
        return Err(token::wrong_kind());
    }
    match operation.scope() {
        Some(scope) => {
            let (scope, scopes) = (scope.in_token(), claims["scope"].as_str().unwrap_or_default());
            if !scopes.split_whitespace().any(|held| held == scope) {
                return Err(forbidden(format!("the token needs the scope {scope}")));
            }
        }
        None if operation.takes_api_key() => {}
        None => return Err(Failure::internal(format!("the field of {} has no scope", operation.name))),
    }
    // AppSync passes the groups as a list, API Gateway as one text.
    let groups = claims["cognito:groups"].as_array().into_iter().flatten().filter_map(Value::as_str);
    token::actor(claims["sub"].as_str(), groups).map(Some)
}

fn forbidden(message: impl Into<String>) -> Failure {
    Failure::Forbidden(message.into())
}

/// Returns the arguments without those that are null. In GraphQL, null means the same as an argument that is left out.
fn arguments(arguments: Value) -> Result<Value, Failure> {
    match arguments {
        Value::Null => Ok(Value::Object(Map::new())),
        Value::Object(_) => Ok(without_nulls(arguments)),
        _ => Err(Failure::invalid("arguments", "must be a JSON object")),
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        Value::Object(fields) => {
            let given = fields.into_iter().filter(|(_, field)| !field.is_null());
            given.map(|(name, field)| (name, without_nulls(field))).collect()
        }
        _ => value,
    }
}

/// Converts an answer to the data of a field.
pub(crate) fn data(field: Field, answer: Answer) -> Value {
    let mut data = answer.body;
    if let (Some(list), Some(properties)) = (field.items, data.as_object_mut())
        && let Some(items) = properties.remove(list)
    {
        properties.insert("items".to_owned(), items);
    }
    data
}

/// Converts data or a failure to the answer for the resolver, which makes a GraphQL error of a failure.
pub(crate) fn response(result: Result<Value, Failure>, correlation_id: &str) -> Value {
    match result {
        Ok(data) => json!({ "data": data }),
        Err(failure) => json!({ "error": failure.into_field_error(correlation_id) }),
    }
}
