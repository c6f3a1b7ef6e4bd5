use serde_json::Value;

use crate::Failure;
use crate::action::Action;
use crate::request::{Answer, Context, Request, Trigger};

/// A Lambda function.
pub trait Function: Sized + Send + Sync + 'static {
    /// The name of the function, which is also the name of its binary.
    const NAME: &'static str;
    /// The actions that the function offers.
    const ACTIONS: &'static [Action<Self>] = &[];
    /// The action that runs when a direct invocation names none.
    const DEFAULT_ACTION: Option<&'static str> = None;

    /// Answers a request, which may be a direct invocation, an HTTP request or a GraphQL request.
    fn handle(&self, request: Request) -> impl Future<Output = Result<Answer, Failure>> + Send {
        async move {
            let action = Self::ACTIONS.iter().find(|action| action.operation.name == request.action);
            let action = action.ok_or_else(|| unknown_action(&request.action, Self::ACTIONS))?;
            action.handle(self, &request).await
        }
    }

    /// Processes a trigger.
    fn trigger(&self, trigger: Trigger, context: Context) -> impl Future<Output = Result<Value, Failure>> + Send {
        let _ = (trigger, context);
        async { Err(Failure::invalid("payload", format!("{} takes no events of this kind", Self::NAME))) }
    }
}

/// Returns the failure for an action that the function does not have.
fn unknown_action<F>(name: &str, known: &[Action<F>]) -> Failure {
    let name: String = name.chars().take(64).collect();
    if known.is_empty() {
        return Failure::invalid("action", format!("{name:?} is unknown: this function takes events alone"));
    }
    let known: Vec<&str> = known.iter().map(|action| action.operation.name).collect();
    Failure::invalid("action", format!("{name:?} is none of {}", known.join(", ")))
}
