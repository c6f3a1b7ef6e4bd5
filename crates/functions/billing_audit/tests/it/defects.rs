//! Defects planted in the books. The audit must find and describe each one, and notify the operators once.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::json;
use testkit::invoke;

use crate::common::{World, invoice};

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
    // A debit that refers to something else; a balance, an entry and a gap that do not add up.
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
    assert_eq!(world.sns.calls().len(), 6, "each defect was published to the operators");
    world.audit().await;
    assert_eq!(world.sns.calls().len(), 6, "once");
    let logs = world.dynamodb.items("ev-error-logs").await;
    let critical = logs.iter().filter(|item| item.get("level") == Some(&AttributeValue::S("CRITICAL".to_owned())));
    assert_eq!(critical.count(), 6);
}

#[tokio::test]
async fn an_inverted_window_is_refused_and_a_scheduled_audit_needs_no_window() {
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

/// The ledger has more entries than the wallet counts, or an entry that cannot be parsed.
#[tokio::test]
async fn uncounted_and_unreadable_entries_are_defects() {
    let world = World::new().await;
    for user in ["u-1", "u-2", "u-3"] {
        world.top_up(user).await;
    }
    let added = world.dynamodb.items("ev-billing").await;
    let mut entry =
        added.into_iter().find(|item| item["PK"].as_s().unwrap() == "WALLET#u-1" && item.contains_key("kind"));
    let entry = entry.as_mut().unwrap();
    entry.insert("SK".to_owned(), AttributeValue::S("ENTRY#000000000002".to_owned()));
    let put = world.dynamodb.client().put_item().table_name("ev-billing");
    put.set_item(Some(entry.clone())).send().await.unwrap();
    world.set("WALLET#u-2".to_owned(), "ENTRY#000000000001", "kind", AttributeValue::S("GIFT".to_owned())).await;
    let found = world.audit().await;
    let mut defects: Vec<(&str, &str)> = found["defects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|defect| (defect["subject"].as_str().unwrap(), defect["message"].as_str().unwrap()))
        .collect();
    defects.sort_unstable();
    assert_eq!(defects.len(), 2, "{found}");
    assert_eq!((defects[0].0, defects[1].0), ("u-1", "u-2"));
    assert!(defects[0].1.contains("counts 1 entries, its ledger has 2"), "{}", defects[0].1);
}
