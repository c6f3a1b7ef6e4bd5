//! The error log by level, service and status. Its indexes are divided into shards.

use std::collections::BTreeSet;

use domain::id::LogId;
use domain::notifications::{Level, LogEntry, LogStatus};
use lambda_kit::{Clock, Door};
use notification_service::{NotificationService, Topics};
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, NOWHERE, invoke, low_below, no_redelivery, sdk_config};

/// Builds one of a hundred entries of two levels, two services and two times.
fn entry(number: u32) -> LogEntry {
    let (info, billing, early) = (!number.is_multiple_of(10), number.is_multiple_of(2), number < 60);
    LogEntry {
        id: LogId::new(format!("log-{number:03}")).unwrap(),
        occurred_at: if early { "2026-02-22T10:00:00Z" } else { "2026-02-22T10:01:00Z" }.parse().unwrap(),
        level: if info { Level::Info } else { Level::Error },
        service: if billing { "evoke.billing" } else { "evoke.sessions" }.to_owned(),
        message: "something happened".to_owned(),
        status: LogStatus::Open,
        correlation_id: None,
        handled_by: None,
        handled_at: None,
        published: true,
        mailed: false,
        version: 1,
    }
}

async fn pages(door: &Door<NotificationService>, filter: &Value, limit: usize) -> Vec<Value> {
    let (mut all, mut token) = (Vec::new(), Value::Null);
    loop {
        let mut list =
            json!({ "action": "listLogs", "actor": { "userId": "t", "role": "TECH_SUPPORT" }, "limit": limit });
        list.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
        if token != Value::Null {
            list["nextToken"] = token;
        }
        let page = invoke(door, list).await.unwrap();
        all.extend(page["items"].as_array().unwrap().clone());
        token = page["nextToken"].clone();
        if token == Value::Null {
            return all;
        }
    }
}

fn ids(entries: &[Value]) -> BTreeSet<&str> {
    entries.iter().map(|entry| entry["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn filtered_lists_return_each_entry_once_and_newest_first() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let store = dynamodb.error_logs();
    let entries: Vec<LogEntry> = (0..100).map(entry).collect();
    for entry in &entries {
        store.insert(entry, None, entry.occurred_at).await.unwrap();
    }
    let topics = Topics::new(aws_sdk_sns::Client::new(&sdk_config(NOWHERE)), "o".to_owned(), "u".to_owned());
    let door = Door::new(
        NotificationService::new(store, topics, low_below("0"), None, no_redelivery()),
        Clock(|| "2026-02-23T10:00:00Z".parse().unwrap()),
    );
    let check = async |filter: Value, wanted: &dyn Fn(&LogEntry) -> bool| {
        let expected: BTreeSet<&str> = entries.iter().filter(|e| wanted(e)).map(|e| e.id.as_str()).collect();
        for limit in [3, 100] {
            let found = pages(&door, &filter, limit).await;
            assert_eq!(ids(&found), expected, "{filter} by {limit}");
            assert_eq!(found.len(), expected.len(), "{filter} by {limit}: each once");
            let times: Vec<&str> = found.iter().map(|entry| entry["occurredAt"].as_str().unwrap()).collect();
            assert!(times.is_sorted_by(|a, b| a >= b), "{filter} by {limit}: newest first");
        }
    };
    let info = |entry: &LogEntry| entry.level == Level::Info;
    let billing = |entry: &LogEntry| entry.service == "evoke.billing";
    check(json!({}), &|_| true).await;
    check(json!({ "level": "INFO" }), &info).await;
    check(json!({ "level": "CRITICAL" }), &|_| false).await;
    check(json!({ "service": "evoke.billing" }), &billing).await;
    check(json!({ "service": "evoke.billing", "level": "ERROR" }), &|entry| billing(entry) && !info(entry)).await;
    check(json!({ "status": "OPEN" }), &|_| true).await;

    // An entry that is acknowledged moves in the status index and keeps its place in the others.
    for number in [0, 5, 61] {
        let acknowledge = json!({
            "action": "acknowledgeLog", "actor": { "userId": "t", "role": "TECH_SUPPORT" }, "id": format!("log-{number:03}")
        });
        invoke(&door, acknowledge).await.unwrap();
    }
    let acknowledged = |entry: &LogEntry| ["log-000", "log-005", "log-061"].contains(&entry.id.as_str());
    check(json!({ "status": "ACKNOWLEDGED" }), &acknowledged).await;
    check(json!({ "status": "OPEN" }), &|entry| !acknowledged(entry)).await;
    check(json!({ "level": "INFO" }), &info).await;
    check(json!({ "service": "evoke.billing", "status": "ACKNOWLEDGED" }), &|entry| {
        billing(entry) && acknowledged(entry)
    })
    .await;
}
