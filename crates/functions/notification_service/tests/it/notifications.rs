//! A notification is logged once and published once, however often it is reported.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::Instant;
use domain::charging::station::StationStatus;
use domain::charging::station::{PortFailed, StationStatusChanged};
use domain::event::{Event, seal};
use domain::id::{PortId, StationId};
use lambda_kit::{Clock, Door};
use notification_service::{NotificationService, Topics};
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, FakeAws, invoke, low_below, no_redelivery, sdk_config, sqs_event};

const PUBLISHED: &str = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
    <MessageId>m</MessageId></PublishResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></PublishResponse>";

fn door(dynamodb: &EmbeddedDynamoDb, sns: &FakeAws) -> Door<NotificationService> {
    door_at(dynamodb, sns, Clock::SYSTEM)
}

fn door_at(dynamodb: &EmbeddedDynamoDb, sns: &FakeAws, clock: Clock) -> Door<NotificationService> {
    let sdk = sdk_config(&sns.endpoint());
    let topics = Topics::new(aws_sdk_sns::Client::new(&sdk), "operators".to_owned(), "users".to_owned());
    Door::new(NotificationService::new(dynamodb.error_logs(), topics, low_below("0"), None, no_redelivery()), clock)
}

/// Builds the messages of a queue with these events, as a rule of the event bus sends them.
fn messages(events: impl IntoIterator<Item = Event>) -> Vec<String> {
    seal("ITEM/1", 1, "2026-02-22T10:00:00Z".parse().unwrap(), "correlation-1", events)
        .iter()
        .map(|envelope| {
            json!({
                "version": "0", "id": "b", "detail-type": envelope.event.event_type(), "source": envelope.event.source(),
                "account": "123456789012", "time": "2026-02-22T10:00:00Z", "region": "eu-central-1", "resources": [],
                "detail": envelope
            })
            .to_string()
        })
        .collect()
}

fn port_failed() -> Event {
    Event::PortFailed(PortFailed {
        station_id: StationId::new("s-1").unwrap(),
        port_id: PortId::new("port-1").unwrap(),
        session_id: None,
        reason: "ground fault".to_owned(),
        version: Some(2),
        station_version: Some(5),
        counts: None,
    })
}

async fn logs(door: &Door<NotificationService>, filter: Value) -> Vec<Value> {
    let mut request = json!({ "action": "listLogs", "actor": { "userId": "t", "role": "TECH_SUPPORT" } });
    request.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
    invoke(door, request).await.unwrap()["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_event_delivered_many_times_is_logged_and_published_once() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let sns = FakeAws::start(|_, _| (200, PUBLISHED.to_owned())).await;
    let door = Arc::new(door(&dynamodb, &sns));
    let batch = sqs_event(&messages([port_failed()]));
    for _ in 0..3 {
        assert_eq!(invoke(&door, batch.clone()).await.unwrap()["batchItemFailures"], json!([]));
    }
    assert_eq!(sns.calls().len(), 1);
    assert!(sns.calls()[0].body.contains("operators"), "{}", sns.calls()[0].body);
    let open = logs(&door, json!({})).await;
    assert_eq!(open.len(), 1);
    assert_eq!((&open[0]["level"], &open[0]["service"]), (&json!("ERROR"), &json!("evoke.stations")));
    assert_eq!(open[0]["correlationId"], "correlation-1");
    for filter in [json!({ "level": "ERROR" }), json!({ "service": "evoke.stations" }), json!({ "status": "OPEN" })] {
        assert_eq!(logs(&door, filter.clone()).await.len(), 1, "{filter}");
    }
    assert_eq!(logs(&door, json!({ "level": "ERROR", "status": "RESOLVED" })).await.len(), 0);
}

#[tokio::test]
async fn a_failed_publication_is_repeated_by_the_next_delivery() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let sns =
        FakeAws::start(|_, before| if before == 0 { (500, String::new()) } else { (200, PUBLISHED.to_owned()) }).await;
    let door = door(&dynamodb, &sns);
    let batch = sqs_event(&messages([port_failed()]));
    assert_eq!(invoke(&door, batch.clone()).await.unwrap()["batchItemFailures"], json!([{ "itemIdentifier": "m-0" }]));
    assert_eq!(invoke(&door, batch).await.unwrap()["batchItemFailures"], json!([]));
    assert_eq!((sns.calls().len(), logs(&door, json!({})).await.len()), (2, 1));
}

/// Returns the events in the outboxes of the error log.
async fn outboxes(dynamodb: &EmbeddedDynamoDb) -> Vec<Value> {
    let items = dynamodb.items("ev-error-logs").await;
    let outboxes = items.iter().filter_map(|item| item.get("outbox")?.as_s().ok());
    outboxes.flat_map(|outbox| serde_json::from_str::<Vec<Value>>(outbox).unwrap()).collect()
}

/// The event is written together with the entry. A later write to the entry must not report it again.
#[tokio::test]
async fn operators_are_told_of_a_new_entry_by_one_event() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let sns =
        FakeAws::start(|_, before| if before == 0 { (500, String::new()) } else { (200, PUBLISHED.to_owned()) }).await;
    let door = door(&dynamodb, &sns);
    let batch = sqs_event(&messages([port_failed()]));
    invoke(&door, batch.clone()).await.unwrap();
    let written = outboxes(&dynamodb).await;
    assert_eq!(written.len(), 1);
    let entry = &logs(&door, json!({})).await[0];
    let expected = json!({
        "eventId": written[0]["eventId"], "eventType": "ERROR_LOGGED", "schemaVersion": 1,
        "occurredAt": "2026-02-22T10:00:00Z", "correlationId": "correlation-1", "logId": entry["id"],
        "kind": "PORT_FAILED", "level": "ERROR", "service": "evoke.stations", "message": entry["message"]
    });
    assert_eq!(written[0], expected);
    for _ in 0..2 {
        assert_eq!(invoke(&door, batch.clone()).await.unwrap()["batchItemFailures"], json!([]));
        assert_eq!(outboxes(&dynamodb).await, [Value::Null; 0], "the mark of the publication is no new entry");
    }
    let act =
        |action: &str| json!({ "action": action, "actor": { "userId": "a", "role": "ADMIN" }, "id": entry["id"] });
    for action in ["acknowledgeLog", "resolveLog"] {
        invoke(&door, act(action)).await.unwrap();
        assert_eq!(outboxes(&dynamodb).await, [Value::Null; 0], "{action}");
    }
}

/// An entry whose publication failed lacks the mark that removes its event, so each event is still there.
#[tokio::test]
async fn only_what_operators_have_to_look_at_is_an_alert() {
    let sns = FakeAws::start(|_, _| (500, String::new())).await;
    for (level, audience, key, is_alert) in [
        ("INFO", "OPERATORS", None, false),
        ("WARNING", "OPERATORS", None, true),
        ("ERROR", "OPERATORS", Some("k"), true),
        ("CRITICAL", "OPERATORS", Some("k"), true),
        ("CRITICAL", "USERS", Some("k"), false),
        ("WARNING", "USERS", None, false),
    ] {
        let dynamodb = EmbeddedDynamoDb::start().await;
        let door = door(&dynamodb, &sns);
        let mut notify = json!({
            "action": "notify", "actor": { "userId": "s", "role": "SYSTEM" }, "level": level, "audience": audience,
            "service": "test", "message": "m"
        });
        notify["deduplicationKey"] = json!(key);
        if key.is_none() {
            notify.as_object_mut().unwrap().remove("deduplicationKey");
        }
        assert_eq!(invoke(&door, notify).await.unwrap_err().0, "UnavailableError");
        let kinds: Vec<Value> = outboxes(&dynamodb).await.iter().map(|event| event["kind"].clone()).collect();
        assert_eq!(kinds.len(), usize::from(is_alert), "{level} for {audience}");
        assert!(kinds.iter().all(|kind| *kind == "NOTICE"), "{kinds:?}");
    }
    let dynamodb = EmbeddedDynamoDb::start().await;
    let ended = Event::SessionEnded(Box::new(testkit::ended("x-1", "u-1", 1000)));
    let answer = invoke(&door(&dynamodb, &sns), sqs_event(&messages([ended]))).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([{ "itemIdentifier": "m-0" }]));
    assert_eq!((dynamodb.items("ev-error-logs").await.len(), outboxes(&dynamodb).await.len()), (1, 0));
}

#[tokio::test]
async fn an_invalid_message_fails_alone() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let sns = FakeAws::start(|_, _| (200, PUBLISHED.to_owned())).await;
    let door = door(&dynamodb, &sns);
    let back = Event::StationStatusChanged(StationStatusChanged {
        station_id: StationId::new("s-1").unwrap(),
        from: StationStatus::Maintenance,
        to: StationStatus::Active,
        version: Some(6),
        station_version: Some(6),
        counts: None,
    });
    let mut bodies = messages([port_failed(), back]);
    bodies.insert(1, "{\"detail\": 1}".to_owned());
    let answer = invoke(&door, sqs_event(&bodies)).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([{ "itemIdentifier": "m-1" }]));
    assert_eq!(logs(&door, json!({})).await.len(), 1, "a station that comes back is nothing to act on");
}

#[tokio::test]
async fn only_staff_acknowledge_and_resolve_entries() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let sns = FakeAws::start(|_, _| (200, PUBLISHED.to_owned())).await;
    let door = door(&dynamodb, &sns);
    let notify = json!({
        "action": "notify", "actor": { "userId": "s", "role": "SYSTEM" }, "level": "CRITICAL", "service": "test",
        "message": "it burns", "deduplicationKey": "fire-1"
    });
    let entry = invoke(&door, notify.clone()).await.unwrap();
    assert_eq!(invoke(&door, notify.clone()).await.unwrap()["id"], entry["id"], "the same key gives the same entry");
    assert_eq!(sns.calls().len(), 1);
    let act = |action: &str, role: &str| json!({ "action": action, "actor": { "userId": "t-1", "role": role }, "id": entry["id"] });
    assert_eq!(invoke(&door, act("acknowledgeLog", "USER")).await.unwrap_err().0, "ForbiddenError");
    let acknowledged = invoke(&door, act("acknowledgeLog", "TECH_SUPPORT")).await.unwrap();
    assert_eq!((&acknowledged["status"], &acknowledged["handledBy"]), (&json!("ACKNOWLEDGED"), &json!("t-1")));
    assert_eq!(invoke(&door, act("acknowledgeLog", "ADMIN")).await.unwrap_err().0, "ConflictError");
    assert_eq!(invoke(&door, act("resolveLog", "ADMIN")).await.unwrap()["status"], "RESOLVED");
    assert_eq!(invoke(&door, act("resolveLog", "ADMIN")).await.unwrap_err().0, "ConflictError");
    let listed = invoke(&door, json!({ "action": "listLogs", "actor": { "userId": "u", "role": "USER" } })).await;
    assert_eq!(listed.unwrap_err().0, "ForbiddenError");
}

fn day(text: &str) -> Instant {
    format!("{text}T12:00:00Z").parse().unwrap()
}

/// Returns the items of the error log: level or MARKER, and the day on which each expires.
async fn expiries(dynamodb: &EmbeddedDynamoDb) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    for item in dynamodb.items("ev-error-logs").await {
        let level = item.get("level").map_or("MARKER", |level| level.as_s().unwrap());
        let expiry = item.get("expiresAt").map(|at| match at {
            AttributeValue::N(seconds) => chrono::DateTime::from_timestamp(seconds.parse().unwrap(), 0).unwrap(),
            other => panic!("{other:?} are no epoch seconds"),
        });
        found.push((level.to_owned(), expiry.map(|at| at.date_naive().to_string())));
    }
    found.sort();
    found
}

fn notify(level: &str, key: &str) -> Value {
    json!({
        "action": "notify", "actor": { "userId": "s", "role": "SYSTEM" }, "level": level, "service": "test",
        "message": "m", "deduplicationKey": key
    })
}

/// An entry expires ninety days after it was reported, together with the marker of its id, whatever reported it. From
/// then on a list no longer shows it, even if the table still contains it, and the same report creates a new entry.
#[tokio::test]
async fn an_expired_entry_can_be_reported_again() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let sns = FakeAws::start(|_, _| (200, PUBLISHED.to_owned())).await;
    let first = door_at(&dynamodb, &sns, Clock(|| day("2026-03-01")));
    invoke(&first, notify("WARNING", "k")).await.unwrap();
    // The event is a week old when it arrives. The time of the report counts.
    assert_eq!(invoke(&first, sqs_event(&messages([port_failed()]))).await.unwrap()["batchItemFailures"], json!([]));
    let expected = ["ERROR", "MARKER", "WARNING"].map(|what| (what.to_owned(), Some("2026-05-30".to_owned())));
    assert_eq!(expiries(&dynamodb).await, expected);

    let before = door_at(&dynamodb, &sns, Clock(|| "2026-05-30T11:59:59Z".parse().unwrap()));
    assert_eq!(logs(&before, json!({})).await.len(), 2);
    invoke(&before, notify("WARNING", "k")).await.unwrap();
    assert_eq!(sns.calls().len(), 2, "it is still the same report");
    let after = door_at(&dynamodb, &sns, Clock(|| day("2026-05-30")));
    for filter in [json!({}), json!({ "level": "ERROR" }), json!({ "service": "test" }), json!({ "status": "OPEN" })] {
        assert_eq!(logs(&after, filter.clone()).await, [Value::Null; 0], "{filter}");
    }
    let anew = invoke(&after, notify("WARNING", "k")).await.unwrap();
    assert_eq!((sns.calls().len(), &anew["occurredAt"]), (3, &json!("2026-05-30T12:00:00Z")));
    invoke(&after, notify("WARNING", "k")).await.unwrap();
    assert_eq!((sns.calls().len(), logs(&after, json!({})).await.len()), (3, 1));
}

/// DynamoDB deletes expired items in any order: an entry before its marker, or a marker before its entry.
#[tokio::test]
async fn expired_items_may_be_deleted_in_any_order() {
    for deleted in ["entry", "marker"] {
        let dynamodb = EmbeddedDynamoDb::start().await;
        let sns = FakeAws::start(|_, _| (200, PUBLISHED.to_owned())).await;
        let first = door_at(&dynamodb, &sns, Clock(|| day("2026-03-01")));
        let entry = invoke(&first, notify("ERROR", "k")).await.unwrap();
        let items = dynamodb.items("ev-error-logs").await;
        let item = items.iter().find(|item| item.contains_key("level") == (deleted == "entry")).unwrap();
        let delete = dynamodb.client().delete_item().table_name("ev-error-logs");
        delete.key("PK", item["PK"].clone()).key("SK", item["SK"].clone()).send().await.unwrap();
        let later = door_at(&dynamodb, &sns, Clock(|| day("2026-06-01")));
        if deleted == "entry" {
            let resolve =
                json!({ "action": "resolveLog", "actor": { "userId": "a", "role": "ADMIN" }, "id": entry["id"] });
            assert_eq!(invoke(&later, resolve).await.unwrap_err().0, "NotFoundError");
        }
        invoke(&later, notify("ERROR", "k")).await.unwrap();
        assert_eq!((sns.calls().len(), logs(&later, json!({})).await.len()), (2, 1), "{deleted}");
    }
}

/// An entry that needs action stays until somebody resolves it.
#[tokio::test]
async fn a_critical_entry_expires_only_after_it_was_resolved() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let sns = FakeAws::start(|_, _| (200, PUBLISHED.to_owned())).await;
    let first = door_at(&dynamodb, &sns, Clock(|| day("2026-03-01")));
    let entry = invoke(&first, notify("CRITICAL", "k")).await.unwrap();
    let never = ["CRITICAL", "MARKER"].map(|what| (what.to_owned(), None));
    assert_eq!(expiries(&dynamodb).await, never);
    let later = door_at(&dynamodb, &sns, Clock(|| day("2027-03-01")));
    invoke(&later, notify("CRITICAL", "k")).await.unwrap();
    assert_eq!((sns.calls().len(), logs(&later, json!({})).await.len()), (1, 1));
    let act =
        |action: &str| json!({ "action": action, "actor": { "userId": "a", "role": "ADMIN" }, "id": entry["id"] });
    invoke(&later, act("acknowledgeLog")).await.unwrap();
    assert_eq!(expiries(&dynamodb).await, never);
    invoke(&later, act("resolveLog")).await.unwrap();
    let expected = ["CRITICAL", "MARKER"].map(|what| (what.to_owned(), Some("2027-05-30".to_owned())));
    assert_eq!(expiries(&dynamodb).await, expected);
    let closed = json!({ "status": "RESOLVED" });
    let last = door_at(&dynamodb, &sns, Clock(|| day("2027-05-29")));
    assert_eq!(logs(&last, closed.clone()).await.len(), 1);
    let gone = door_at(&dynamodb, &sns, Clock(|| day("2027-05-30")));
    assert_eq!(logs(&gone, closed).await.len(), 0);
}

#[tokio::test]
async fn a_notification_of_a_user_has_the_user_id_as_an_attribute() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let sns = FakeAws::start(|_, _| (200, PUBLISHED.to_owned())).await;
    let door = door(&dynamodb, &sns);
    let ended = |user: &str| Event::SessionEnded(Box::new(testkit::ended(&format!("x-{user}"), user, 1000)));
    let batch = sqs_event(&messages([ended("u-1"), ended("u-2"), port_failed()]));
    assert_eq!(invoke(&door, batch).await.unwrap()["batchItemFailures"], json!([]));
    let actor = json!({ "userId": "s", "role": "SYSTEM" });
    let notify = json!({
        "action": "notify", "actor": actor, "level": "INFO", "service": "test", "message": "m",
        "audience": "USERS", "userId": "u-3"
    });
    invoke(&door, notify.clone()).await.unwrap();
    let mut to_nobody = notify.clone();
    to_nobody.as_object_mut().unwrap().remove("userId");
    invoke(&door, to_nobody).await.unwrap();
    let mut to_operators = notify;
    to_operators["audience"] = json!("OPERATORS");
    let (code, message) = invoke(&door, to_operators).await.unwrap_err();
    assert!(code == "ValidationError" && message.contains("userId"), "{message}");

    let mut told: Vec<(String, Vec<(String, String)>)> =
        sns.calls().iter().map(|call| (topic(&call.body), attributes(&call.body))).collect();
    told.sort();
    let of = |name: &str, attributes: &[(String, String)]| {
        attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let told: Vec<_> = told
        .iter()
        .map(|(topic, all)| (topic.as_str(), of("audience", all), of("kind", all), of("userId", all)))
        .collect();
    let some = |text: &str| Some(text.to_owned());
    let mut expected = [
        ("operators", some("OPERATORS"), some("PORT_FAILED"), None),
        ("users", some("USERS"), some("NOTICE"), None),
        ("users", some("USERS"), some("SESSION_ENDED"), some("u-1")),
        ("users", some("USERS"), some("SESSION_ENDED"), some("u-2")),
        ("users", some("USERS"), some("NOTICE"), some("u-3")),
    ];
    expected.sort();
    let mut told = told;
    told.sort();
    assert_eq!(told, expected);
}

fn parameters(body: &str) -> Vec<(String, String)> {
    let parts = body.split('&').filter_map(|part| part.split_once('='));
    parts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn topic(body: &str) -> String {
    parameters(body).into_iter().find(|(name, _)| name == "TopicArn").map(|(_, value)| value).unwrap()
}

/// Parses the message attributes of a publication: `MessageAttributes.entry.1.Name=level&…Value.StringValue=ERROR`.
fn attributes(body: &str) -> Vec<(String, String)> {
    let all = parameters(body);
    let names = all.iter().filter_map(|(name, value)| Some((name.strip_suffix(".Name")?, value)));
    let value = |entry: &str| {
        all.iter().find(|(name, _)| *name == format!("{entry}.Value.StringValue")).map(|(_, value)| value.clone())
    };
    names.filter_map(|(entry, name)| Some((name.clone(), value(entry)?))).collect()
}
