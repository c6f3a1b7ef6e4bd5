//! Direct invocations, with a payload such as `{"action": …, "actor": {…}, …arguments}`.

use domain::actor::Actor;
use serde_json::Value;

use crate::Failure;
use crate::command::validate_at;
use crate::function::Function;
use crate::request::{Context, Request};

/// Parses the payload of a direct invocation into a request.
pub(crate) fn request<F: Function>(payload: Value, context: Context) -> Result<Request, Failure> {
    let Value::Object(fields) = &payload else {
        return Err(Failure::invalid("payload", "must be a JSON object such as {\"action\": …, \"actor\": {…}}"));
    };
    let action = match fields.get("action") {
        Some(Value::String(action)) => action.clone(),
        Some(_) => return Err(Failure::invalid("action", "must be text")),
        None => F::DEFAULT_ACTION.map(str::to_owned).ok_or_else(|| Failure::invalid("action", "is required"))?,
    };
    let actor = match fields.get("actor") {
        None | Some(Value::Null) => None,
        Some(actor) => Some(validate_at::<Actor>("actor", actor)?),
    };
    Ok(Request { action, actor, arguments: payload, context })
}
