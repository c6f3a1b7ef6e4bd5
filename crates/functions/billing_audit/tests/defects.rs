//! Each defect of the books, planted: the audit finds it, says what it is, and the operators are told once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use billing::Billing;
use billing_audit::BillingAudit;
use charging_simulator::ChargingSimulator;
use domain::id::{InvoiceId, SessionId};
use lambda_kit::{Clock, Context, Door, Function, Peer, Trigger};
use notification_service::{NotificationService, Topics};
use serde_json::{Value, json};
use session_service::SessionService;
use station_service::StationService;
use testkit::{EmbeddedDynamoDb, FakeAws, FakeLambda, NOWHERE, invoke, no_redelivery, sdk_config, sqs_event};

const PUBLISHED: &str = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
    <MessageId>m</MessageId></PublishResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></PublishResponse>";

struct World {
    dynamodb: EmbeddedDynamoDb,
    audit: Door<BillingAudit>,
    billing: Door<Billing>,
    sns: FakeAws,
    _lambda: FakeLambda,
}

impl World {
    async fn new() -> Self {
        let dynamodb = EmbeddedDynamoDb::start().await;
        let sns = FakeAws::start(|_, _| (200, PUBLISHED.to_owned())).await;
        let client = aws_sdk_sns::Client::new(&sdk_config(&sns.endpoint()));
        let topics = Topics::new(client, "operators".to_owned(), "users".to_owned());
        let notifications = NotificationService::new(dynamodb.error_logs(), topics, no_redelivery());
        let lambda = FakeLambda::start(Arc::new(Door::new(notifications, Clock::SYSTEM))).await;
        let peer = Peer::new(&sdk_config(&lambda.endpoint()), "notification".to_owned());
        let nobody = Peer::new(&sdk_config(NOWHERE), "nobody".to_owned());
        let audit = BillingAudit::new(dynamodb.charging().sessions, dynamodb.billing(), peer, nobody);
        let billing = Billing::new(dynamodb.billing(), "EUR".parse().unwrap(), no_redelivery());
        Self {
            audit: Door::new(audit, Clock::SYSTEM),
            billing: Door::new(billing, Clock::SYSTEM),
            dynamodb,
            sns,
            _lambda: lambda,
        }
    }

    /// So many sessions of half an hour, each user's own, billed from the events that their ends wrote.
    async fn sessions(&self, users: &[&str]) -> Vec<String> {
        let stations = Door::new(StationService::new(self.dynamodb.charging()), Clock::SYSTEM);
        let nobody = Peer::new(&sdk_config(NOWHERE), "nobody".to_owned());
        let sessions =
            Door::new(SessionService::new(self.dynamodb.charging(), self.dynamodb.users(), nobody), Clock::SYSTEM);
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

    /// Delivers the events that lie on the ended sessions.
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

    async fn top_up(&self, user: &str) {
        let top_up = json!({
            "action": "topUpWallet", "actor": { "userId": user, "role": "USER" }, "amount": "20.00", "currency": "EUR",
            "idempotencyKey": "k"
        });
        invoke(&self.billing, top_up).await.unwrap();
    }

    /// Audits everything up to in two hours: sessions ended in simulated time.
    async fn audit(&self) -> Value {
        let now = (Clock::SYSTEM.0)();
        let window = json!({ "from": now - chrono::Duration::hours(2), "to": now + chrono::Duration::hours(2) });
        invoke(&self.audit, window).await.unwrap()
    }

    async fn set(&self, pk: String, sk: &str, attribute: &str, value: AttributeValue) {
        let update = self.dynamodb.client().update_item().table_name("ev-billing");
        let update = update.key("PK", AttributeValue::S(pk)).key("SK", AttributeValue::S(sk.to_owned()));
        let update = update.update_expression("SET #a = :v").expression_attribute_names("#a", attribute);
        update.expression_attribute_values(":v", value).send().await.unwrap();
    }

    async fn delete(&self, table: &str, pk: String, sk: &str) {
        let delete = self.dynamodb.client().delete_item().table_name(table);
        delete.key("PK", AttributeValue::S(pk)).key("SK", AttributeValue::S(sk.to_owned())).send().await.unwrap();
    }
}

fn invoice(session: &str) -> String {
    format!("INVOICE#{}", InvoiceId::of(&SessionId::new(session).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_planted_defect_is_found_and_reported_once() {
    let world = World::new().await;
    let users = ["u-1", "u-2", "u-3", "u-4", "u-5", "u-6"];
    for user in users {
        world.top_up(user).await;
    }
    let sessions = world.sessions(&users).await;
    let clean = world.audit().await;
    assert_eq!(
        (&clean["defects"], &clean["sessions"], &clean["invoices"], &clean["wallets"]),
        (&json!([]), &json!(6), &json!(6), &json!(6)),
        "{clean}"
    );

    world.delete("ev-billing", invoice(&sessions[0]), "METADATA").await;
    world.delete("ev-sessions", format!("SESSION#{}", sessions[1]), "METADATA").await;
    // A debit that is another's; a balance, an entry and a gap that do not add up.
    world.set("WALLET#u-3".to_owned(), "ENTRY#000000000002", "reference", AttributeValue::S("other".to_owned())).await;
    world.set("WALLET#u-4".to_owned(), "BALANCE", "balance", AttributeValue::S("15.01".to_owned())).await;
    world.set("WALLET#u-5".to_owned(), "ENTRY#000000000001", "amount", AttributeValue::S("21.00".to_owned())).await;
    world.delete("ev-billing", "WALLET#u-6".to_owned(), "ENTRY#000000000001").await;

    let found = world.audit().await;
    let mut kinds: Vec<(&str, &str)> = found["defects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|defect| (defect["kind"].as_str().unwrap(), defect["subject"].as_str().unwrap()))
        .collect();
    kinds.sort_unstable();
    let (second, third) = (invoice(&sessions[1]), invoice(&sessions[2]));
    let mut expected = vec![
        ("SESSION_WITHOUT_INVOICE", sessions[0].as_str()),
        ("INVOICE_WITHOUT_SESSION", &second["INVOICE#".len()..]),
        ("PAYMENT_WITHOUT_DEBIT", &third["INVOICE#".len()..]),
        ("LEDGER_MISMATCH", "u-4"),
        ("LEDGER_MISMATCH", "u-5"),
        ("LEDGER_MISMATCH", "u-6"),
    ];
    expected.sort_unstable();
    assert_eq!(kinds, expected, "{found}");
    assert_eq!(world.sns.calls().len(), 6, "each was published to the operators");
    world.audit().await;
    assert_eq!(world.sns.calls().len(), 6, "once");
    let logs = world.dynamodb.items("ev-error-logs").await;
    let critical = logs.iter().filter(|item| item.get("level") == Some(&AttributeValue::S("CRITICAL".to_owned())));
    assert_eq!(critical.count(), 6);
}

/// A defect in the last wallet of more than fit into the time of one invocation: that one hands on, the next finds it.
#[tokio::test(flavor = "multi_thread")]
async fn an_audit_that_runs_out_of_time_goes_on_in_another_invocation() {
    let world = World::new().await;
    for number in 0..150 {
        world.top_up(&format!("u-{number:03}")).await;
    }
    // The newest come first, so the oldest are left.
    world.set("WALLET#u-000".to_owned(), "BALANCE", "balance", AttributeValue::S("0.00".to_owned())).await;
    let lambda = FakeAws::start(|_, _| (202, String::new())).await;
    let peer = |aws: &FakeAws| Peer::new(&sdk_config(&aws.endpoint()), "ev-billing-audit-dev".to_owned());
    let nobody = Peer::new(&sdk_config(NOWHERE), "nobody".to_owned());
    let (sessions, billing) = (world.dynamodb.charging().sessions, world.dynamodb.billing());
    let audit = BillingAudit::new(sessions, billing, nobody, peer(&lambda));
    let scheduled = json!({ "detail-type": "Scheduled Event", "source": "aws.events", "detail": {} });
    let now = (Clock::SYSTEM.0)();
    let in_a_hurry = Context {
        now,
        deadline: now + chrono::Duration::seconds(1),
        correlation_id: "c".to_owned(),
        request_id: "r".to_owned(),
    };
    let trigger = Trigger::Event(serde_json::from_value(scheduled).unwrap());
    let answer = audit.trigger(trigger, in_a_hurry).await.unwrap();
    assert_eq!((&answer["wallets"], &answer["defects"]), (&json!(100), &json!([])));
    let handed_on: Value = serde_json::from_str(&lambda.calls()[0].body).unwrap();
    assert_eq!((&handed_on["nextToken"], &handed_on["goesOn"]), (&answer["nextToken"], &json!(true)));
    let rest = invoke(&world.audit, handed_on).await.unwrap();
    assert_eq!((&rest["wallets"], &rest["defects"][0]["subject"]), (&json!(50), &json!("u-000")), "{rest}");
    assert_eq!((&rest["sessions"], &rest["nextToken"]), (&json!(0), &Value::Null), "sessions were looked at before");
}

#[tokio::test]
async fn a_window_that_is_none_is_refused_and_a_schedule_needs_none() {
    let world = World::new().await;
    let (kind, message) = invoke(&world.audit, json!({ "from": "2026-02-22T10:00:00Z", "to": "2026-02-21T10:00:00Z" }))
        .await
        .unwrap_err();
    assert_eq!(kind, "ValidationError");
    assert!(message.contains("from"), "{message}");
    let scheduled = json!({
        "version": "0", "id": "e", "detail-type": "Scheduled Event", "source": "aws.events", "account": "123456789012",
        "time": "2026-02-22T04:00:00Z", "region": "eu-central-1", "resources": [], "detail": {}
    });
    let answer = invoke(&world.audit, scheduled).await.unwrap();
    assert_eq!((&answer["defects"], &answer["wallets"]), (&json!([]), &json!(0)));
}
