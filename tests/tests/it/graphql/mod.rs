//! The GraphQL API on the deployed stack: its fields, the rights of callers, and live updates.

mod access;
mod examples;
mod live;

use appsync::Authorization;
use e2e::{SignedUp, Stack, token};
use serde_json::{Value, json};

/// A member of the staff, and the authorization of the sign-in.
struct Staff {
    user: SignedUp,
    authorization: Authorization,
}

impl Staff {
    async fn sign_up(stack: &Stack, group: &str) -> Self {
        let user = stack.sign_up(&[group]).await;
        let authorization = token(&user.token);
        Self { user, authorization }
    }

    async fn leave(self, stack: &Stack) {
        stack.delete_user(&self.user.name).await;
    }
}

/// Sends an announcement to `live_publisher`, as `charging_simulator` and `telemetry_handler` do.
async fn publish(stack: &Stack, update: Value) {
    let actor = json!({ "userId": "e2e", "role": "SYSTEM" });
    let command = json!({ "action": "publish", "actor": actor, "updates": [update] });
    stack.invoke("LivePublisher", command).await.expect("a published update");
}

/// Returns the type of the first error.
fn kind(errors: &[appsync::GraphQlError]) -> &str {
    errors.first().and_then(|error| error.error_type.as_deref()).unwrap_or_default()
}
