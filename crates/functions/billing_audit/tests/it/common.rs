//! Sessions, invoices and wallets in an embedded `DynamoDB`, and their audit.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use billing::Billing;
use billing_audit::BillingAudit;
use charging_simulator::ChargingSimulator;
use domain::id::{InvoiceId, SessionId};
use lambda_kit::{Clock, Door, RemoteFunction};
use notification_service::{NotificationService, Topics};
use serde_json::{Value, json};
use session_service::{Inbox, SessionService};
use station_service::StationService;
use testkit::{
    EmbeddedDynamoDb, FakeAws, FakeLambda, NOWHERE, invoke, low_below, no_redelivery, sdk_config, sqs_event,
};

const PUBLISHED: &str = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
    <MessageId>m</MessageId></PublishResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></PublishResponse>";

pub struct World {
    pub dynamodb: EmbeddedDynamoDb,
    pub audit: Door<BillingAudit>,
    pub billing: Door<Billing>,
    pub sns: FakeAws,
    _lambda: FakeLambda,
}

impl World {
    pub async fn new() -> Self {
        let dynamodb = EmbeddedDynamoDb::start().await;
        let sns = FakeAws::start(|_, _| (200, PUBLISHED.to_owned())).await;
        let client = aws_sdk_sns::Client::new(&sdk_config(&sns.endpoint()));
        let topics = Topics::new(client, "operators".to_owned(), "users".to_owned());
        let notifications =
            NotificationService::new(dynamodb.error_logs(), topics, low_below("0"), None, no_redelivery());
        let lambda = FakeLambda::start(Arc::new(Door::new(notifications, Clock::SYSTEM))).await;
        let peer = RemoteFunction::new(&sdk_config(&lambda.endpoint()), "notification".to_owned());
        let nobody = RemoteFunction::new(&sdk_config(NOWHERE), "nobody".to_owned());
        let audit = BillingAudit::new(dynamodb.charging().sessions, dynamodb.billing(), peer, nobody);
        let billing = Billing::new(dynamodb.billing(), dynamodb.users(), "EUR".parse().unwrap(), no_redelivery());
        Self {
            audit: Door::new(audit, Clock::SYSTEM),
            billing: Door::new(billing, Clock::SYSTEM),
            dynamodb,
            sns,
            _lambda: lambda,
        }
    }

    /// Creates sessions of half an hour, one for each user, and bills them from the events that their ends wrote.
    pub async fn sessions(&self, users: &[&str]) -> Vec<String> {
        let stations = Door::new(StationService::new(self.dynamodb.charging()), Clock::SYSTEM);
        let nobody = RemoteFunction::new(&sdk_config(NOWHERE), "nobody".to_owned());
        let inbox = Inbox::new(&sdk_config(NOWHERE), "inbox".to_owned());
        let sessions = SessionService::new(self.dynamodb.charging(), self.dynamodb.users(), nobody, inbox);
        let sessions = Door::new(sessions, Clock::SYSTEM);
        let simulator = Door::new(ChargingSimulator::new(self.dynamodb.charging(), None, 1000), Clock::SYSTEM);
        let mut ids = Vec::new();
        for user in users {
            let admin = json!({ "userId": "admin", "role": "ADMIN" });
            let create = json!({
                "action": "createStation", "actor": admin, "stationId": format!("at-{user}"), "name": "N", "address": "A",
                "latitude": 1, "longitude": 1, "powerKw": 100, "pricePerKwh": "0.50", "currency": "EUR",
                "ports": [{ "portNumber": 1, "connectorType": "CCS2", "maxPowerKw": 100 }]
            });
            invoke(&stations, create).await.unwrap();
            let commission = json!({ "action": "transitionStation", "actor": admin, "stationId": format!("at-{user}"), "to": "ACTIVE" });
            invoke(&stations, commission).await.unwrap();
            let start = json!({
                "action": "startSession", "actor": { "userId": user, "role": "USER" }, "stationId": format!("at-{user}"),
                "portId": "port-1", "vehicle": { "batteryCapacityKwh": 100 }, "chargePercent": 20, "targetPercent": 30
            });
            let started = invoke(&sessions, start).await.unwrap();
            ids.push(started["sessionId"].as_str().unwrap().to_owned());
        }
        let later = (Clock::SYSTEM.0)() + chrono::Duration::hours(1);
        invoke(&simulator, json!({ "tickAt": later })).await.unwrap();
        self.bill().await;
        ids
    }

    /// Delivers the events in the outboxes of the ended sessions.
    async fn bill(&self) {
        let items = self.dynamodb.items("ev-sessions").await;
        let outboxes = items.iter().filter_map(|item| item.get("outbox")?.as_s().ok());
        let events = outboxes.flat_map(|outbox| serde_json::from_str::<Vec<Value>>(outbox).unwrap());
        let bodies: Vec<String> = events
            .filter(|event| event["eventType"] == "SESSION_ENDED")
            .map(|event| json!({ "detail": event }).to_string())
            .collect();
        let answer = invoke(&self.billing, sqs_event(&bodies)).await.unwrap();
        assert_eq!(answer["batchItemFailures"], json!([]));
    }

    pub async fn top_up(&self, user: &str) {
        let top_up = json!({
            "action": "topUpWallet", "actor": { "userId": "admin", "role": "ADMIN" }, "userId": user, "amount": "20.00",
            "currency": "EUR", "idempotencyKey": "k"
        });
        invoke(&self.billing, top_up).await.unwrap();
    }

    /// Audits everything up to two hours from now, because the sessions ended in simulated time.
    pub async fn audit(&self) -> Value {
        let now = (Clock::SYSTEM.0)();
        let window = json!({ "from": now - chrono::Duration::hours(2), "to": now + chrono::Duration::hours(2) });
        invoke(&self.audit, window).await.unwrap()
    }

    pub async fn set(&self, pk: String, sk: &str, attribute: &str, value: AttributeValue) {
        let update = self.dynamodb.client().update_item().table_name("ev-billing");
        let update = update.key("PK", AttributeValue::S(pk)).key("SK", AttributeValue::S(sk.to_owned()));
        let update = update.update_expression("SET #a = :v").expression_attribute_names("#a", attribute);
        update.expression_attribute_values(":v", value).send().await.unwrap();
    }

    pub async fn delete(&self, table: &str, pk: String, sk: &str) {
        let delete = self.dynamodb.client().delete_item().table_name(table);
        delete.key("PK", AttributeValue::S(pk)).key("SK", AttributeValue::S(sk.to_owned())).send().await.unwrap();
    }
}

pub fn invoice(session: &str) -> String {
    format!("INVOICE#{}", InvoiceId::of(&SessionId::new(session).unwrap()))
}
