//! Events of a Cognito user pool: how the door recognises them, and that the other functions refuse them.

use domain::Instant;
use lambda_kit::{Action, Answer, Clock, Context, Door, Failure, Function, Request, Trigger, action};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, invoke};

use crate::{AnyFunction, functions};

/// Adds a field to the events of a user pool, and names all others.
struct PoolTrigger;

#[derive(Debug, Deserialize, JsonSchema)]
struct Nothing {}

impl Function for PoolTrigger {
    const NAME: &'static str = "pool_trigger";
    const ACTIONS: &'static [Action<Self>] = &[action!("direct", Nothing => Value, Self::direct)];
    const DEFAULT_ACTION: Option<&'static str> = Some("direct");

    async fn trigger(&self, trigger: Trigger, _context: Context) -> Result<Value, Failure> {
        match trigger {
            Trigger::UserPool(mut event) => {
                event["response"]["claimsAndScopeOverrideDetails"] = json!({ "taken": true });
                Ok(event)
            }
            Trigger::Event(_) => Ok(json!("event")),
            Trigger::Iot(_) => Ok(json!("iot")),
            Trigger::Sqs(_) | Trigger::Stream(_) => Ok(json!("batch")),
        }
    }
}

impl PoolTrigger {
    #[allow(clippy::unused_async, clippy::unused_self)] // handlers are async methods
    async fn direct(&self, _: Nothing, _: &Request) -> Result<Answer, Failure> {
        Answer::ok("direct")
    }
}

/// Returns the context of an invocation.
pub fn context() -> Context {
    let now: Instant = "2026-03-03T08:00:00Z".parse().unwrap();
    Context { now, deadline: now, request_id: "request-1".to_owned(), correlation_id: "correlation-1".to_owned() }
}

/// Returns the event of a user pool that is about to generate a token (version 2).
fn pool_event() -> Value {
    json!({
        "version": "2", "triggerSource": "TokenGeneration_Authentication", "region": "eu-central-1",
        "userPoolId": "eu-central-1_example", "userName": "0198e2f4-0000-7000-8000-000000000000",
        "callerContext": { "awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": "client" },
        "request": {
            "userAttributes": { "sub": "0198e2f4-0000-7000-8000-000000000000", "email": "ada@example.org" },
            "groupConfiguration": { "groupsToOverride": [], "iamRolesToOverride": [], "preferredRole": null },
            "scopes": ["aws.cognito.signin.user.admin"]
        },
        "response": { "claimsAndScopeOverrideDetails": null }
    })
}

#[tokio::test]
async fn the_event_of_a_user_pool_is_answered_as_the_function_says() {
    let door = Door::new(PoolTrigger, Clock::SYSTEM);
    let mut expected = pool_event();
    expected["response"]["claimsAndScopeOverrideDetails"] = json!({ "taken": true });
    assert_eq!(invoke(&door, pool_event()).await, Ok(expected));
}

#[tokio::test]
async fn other_payloads_are_no_events_of_a_user_pool() {
    let door = Door::new(PoolTrigger, Clock::SYSTEM);
    for (field, value) in [("triggerSource", json!(1)), ("triggerSource", json!(null)), ("userPoolId", json!({}))] {
        let mut event = pool_event();
        event[field] = value;
        assert_eq!(invoke(&door, event).await, Ok(json!("direct")), "{field}");
    }
    // A device names its message as it likes.
    let mut message = pool_event();
    message["topic_station_id"] = json!("station-1");
    assert_eq!(invoke(&door, message).await, Ok(json!("iot")));
    let mut event = pool_event();
    for (field, value) in [("detail-type", json!("T")), ("source", json!("s")), ("detail", json!({}))] {
        event[field] = value;
    }
    assert_eq!(invoke(&door, event).await, Ok(json!("event")));
}

/// Only `token_scopes` takes them.
#[tokio::test]
async fn no_other_function_takes_events_of_a_user_pool() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    for AnyFunction { name, open, .. } in functions() {
        if name == "token_scopes" {
            continue;
        }
        let (kind, message) = open(&dynamodb)(pool_event().to_string().into_bytes()).await.unwrap_err();
        assert_eq!(kind, "ValidationError", "{name}: {message}");
        assert!(!message.contains("ada@example.org"), "{name}: {message}");
    }
}
