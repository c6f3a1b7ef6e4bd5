//! The billing function in this process, with an embedded `DynamoDB`.

use std::sync::Arc;

use billing::Billing;
use domain::charging::session::SessionEnded;
use domain::event::{Event, seal};
use domain::id::{InvoiceId, SessionId};
use lambda_kit::{Clock, Door};
use serde_json::{Value, json};
use store::BillingStore;
pub use testkit::ended;
use testkit::{EmbeddedDynamoDb, Outcome, invoke, no_redelivery, sqs_event};

pub struct World {
    pub dynamodb: EmbeddedDynamoDb,
    pub store: BillingStore,
    pub billing: Arc<Door<Billing>>,
}

impl World {
    pub async fn new() -> Self {
        let dynamodb = EmbeddedDynamoDb::start().await;
        let store = dynamodb.billing();
        let billing = Billing::new(store.clone(), dynamodb.users(), "EUR".parse().unwrap(), no_redelivery());
        Self { billing: Arc::new(Door::new(billing, Clock::SYSTEM)), store, dynamodb }
    }

    /// Delivers ends of sessions as the queue does. Returns how many of them are reported as failed.
    pub async fn deliver(&self, ends: &[SessionEnded]) -> usize {
        let bodies: Vec<String> = ends.iter().map(message).collect();
        let answer = invoke(&self.billing, sqs_event(&bodies)).await.unwrap();
        answer["batchItemFailures"].as_array().unwrap().len()
    }

    /// Tops up a user's wallet as the cash desk does.
    pub async fn top_up(&self, user: &str, amount: &str, key: &str) -> Outcome {
        let command = json!({
            "action": "topUpWallet", "actor": admin(), "userId": user, "amount": amount, "currency": "EUR",
            "idempotencyKey": key
        });
        invoke(&self.billing, command).await
    }

    pub async fn invoice(&self, session: &str) -> Value {
        let id = InvoiceId::of(&SessionId::new(session).unwrap());
        invoke(&self.billing, json!({ "action": "getInvoice", "actor": admin(), "invoiceId": id })).await.unwrap()
    }

    pub async fn act(&self, action: &str, actor: Value, more: Value) -> Outcome {
        let mut command = json!({ "action": action, "actor": actor });
        command.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        invoke(&self.billing, command).await
    }

    pub async fn balance(&self, user: &str) -> String {
        let wallet = self.act("getWallet", actor(user), json!({})).await.unwrap();
        wallet["balance"].as_str().unwrap().to_owned()
    }

    pub async fn ledger(&self, user: &str) -> Vec<Value> {
        let page = self.act("listLedger", actor(user), json!({ "limit": 100 })).await.unwrap();
        page["items"].as_array().unwrap().clone()
    }
}

pub fn actor(user: &str) -> Value {
    json!({ "userId": user, "role": "USER" })
}

pub fn admin() -> Value {
    json!({ "userId": "admin", "role": "ADMIN" })
}

/// Builds the message that the rule of the event bus sends for the end of a session.
pub fn message(ended: &SessionEnded) -> String {
    let item = format!("SESSION#{}/METADATA", ended.session_id);
    let event = Event::SessionEnded(Box::new(ended.clone()));
    let envelope = seal(&item, 7, ended.ended_at, "correlation-1", [event]).remove(0);
    json!({
        "version": "0", "id": "b", "detail-type": "SESSION_ENDED", "source": "evoke.sessions", "account": "123456789012",
        "time": ended.ended_at, "region": "eu-central-1", "resources": [], "detail": envelope
    })
    .to_string()
}

/// Returns the type of an error. Panics if the outcome is not an error.
pub fn error_type(outcome: &Outcome) -> &str {
    match outcome {
        Err((kind, _)) => kind,
        Ok(answer) => panic!("not refused: {answer}"),
    }
}
