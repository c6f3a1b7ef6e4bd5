//! What is deployed is what the template says, and each role may do what its function needs and no more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::{KeySchemaElement, KeyType, ProjectionType};
use e2e::{Stack, admin, eventually};
use serde_json::json;
use testkit::TABLES;

fn keys(schema: &[KeySchemaElement]) -> (&str, &str) {
    let of = |kind: KeyType| {
        schema.iter().find(|key| *key.key_type() == kind).map(KeySchemaElement::attribute_name).unwrap_or_default()
    };
    (of(KeyType::Hash), of(KeyType::Range))
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_those_that_the_embedded_tests_use() {
    let stack = Stack::open().await;
    let client = aws_sdk_dynamodb::Client::new(&stack.config);
    for (table, output) in TABLES.iter().zip(["StationsTable", "SessionsTable", "UsersTable", "ErrorLogsTable"]) {
        let name = stack.output(output);
        assert!(name.starts_with(table.name), "{name}");
        let described = client.describe_table().table_name(name).send().await.unwrap().table.unwrap();
        assert_eq!(keys(described.key_schema()), ("PK", "SK"), "{name}");
        let deployed: BTreeSet<_> = described
            .global_secondary_indexes()
            .iter()
            .map(|index| {
                let projection = index.projection().unwrap().projection_type().unwrap();
                assert_eq!(*projection, ProjectionType::KeysOnly, "{name}");
                let (partition, sort) = keys(index.key_schema());
                (index.index_name().unwrap().to_owned(), partition.to_owned(), sort.to_owned())
            })
            .collect();
        let expected: BTreeSet<_> =
            table.indexes.iter().map(|(n, p, s)| ((*n).to_owned(), (*p).to_owned(), (*s).to_owned())).collect();
        assert_eq!(deployed, expected, "{name}");
        let backups = client.describe_continuous_backups().table_name(name).send().await.unwrap();
        let recovery = backups.continuous_backups_description.unwrap().point_in_time_recovery_description.unwrap();
        assert_eq!(recovery.point_in_time_recovery_status.unwrap().as_str(), "ENABLED", "{name}");
        let streams =
            described.stream_specification().is_some_and(aws_sdk_dynamodb::types::StreamSpecification::stream_enabled);
        assert_eq!(streams, ["StationsTable", "SessionsTable"].contains(&output), "{name}");
    }
}

/// Every function works under its own role with IAM enforced: the other tests prove that policies suffice. This one
/// proves that they are no wider than that, by the policies themselves: no wildcard action, and no wildcard resource
/// but where AWS knows no other.
#[tokio::test(flavor = "multi_thread")]
async fn policies_name_actions_and_resources() {
    let template =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../infrastructure/template.yaml")).unwrap();
    assert!(!template.contains("dynamodb:*") && !template.contains("sqs:*") && !template.contains("Action: \"*\""));
    assert!(!template.contains("dynamodb:Scan"), "nothing scans");
    let statements: Vec<&str> = template.split("- Sid: ").skip(1).collect();
    assert!(statements.len() > 15, "{}", statements.len());
    for statement in statements {
        let sid = statement.lines().next().unwrap().trim();
        let resource = statement.split("Resource:").nth(1).unwrap().lines().take(2).collect::<Vec<_>>().join(" ");
        let wide = resource.contains("\"*\"") || resource.contains("'*'");
        assert_eq!(wide, ["Trace", "ListStreams"].contains(&sid), "{sid}: {resource}");
    }
}

/// Nothing that the other tests do may end there; they may run at the same time, so the poison below is let pass.
#[tokio::test(flavor = "multi_thread")]
async fn every_trigger_has_its_dead_letter_queue_and_it_is_empty() {
    let stack = Stack::open().await;
    let sqs = aws_sdk_sqs::Client::new(&stack.config);
    let queues: Vec<&String> = stack.outputs.keys().filter(|key| key.ends_with("DeadLetterQueueUrl")).collect();
    assert_eq!(queues.len(), 4, "{queues:?}");
    for queue in queues {
        let answer = sqs
            .get_queue_attributes()
            .queue_url(stack.output(queue))
            .attribute_names(aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessages)
            .send()
            .await
            .unwrap();
        let count = &answer.attributes.unwrap()[&aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessages];
        if queue != "NotificationDeadLetterQueueUrl" {
            assert_eq!(count, "0", "{queue}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_handled_ends_in_the_dead_letter_queue() {
    let stack = Stack::open().await;
    let sqs = aws_sdk_sqs::Client::new(&stack.config);
    let marker = format!("poison {}", uuid::Uuid::new_v4());
    let (queue, dead) = (stack.output("NotificationQueueUrl"), stack.output("NotificationDeadLetterQueueUrl"));
    let visibility = |seconds: &str| {
        let set = sqs.set_queue_attributes().queue_url(queue);
        set.attributes(aws_sdk_sqs::types::QueueAttributeName::VisibilityTimeout, seconds).send()
    };
    // The five receives take their time; here they need not.
    visibility("1").await.unwrap();
    sqs.send_message().queue_url(queue).message_body(&marker).send().await.unwrap();
    eventually("the dead letter", || async {
        let answer = sqs
            .receive_message()
            .queue_url(dead)
            .max_number_of_messages(10)
            .visibility_timeout(1)
            .send()
            .await
            .unwrap();
        let found = answer.messages().iter().find(|message| message.body() == Some(&marker))?;
        sqs.delete_message().queue_url(dead).receipt_handle(found.receipt_handle()?).send().await.unwrap();
        Some(())
    })
    .await;
    visibility("90").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_by_the_deployed_functions_too() {
    let stack = Stack::open().await;
    for (function, payload) in [
        ("StationService", json!({ "action": "createStation", "actor": admin() })),
        ("SessionService", json!({ "action": "startSession", "actor": admin(), "chargePercent": 101 })),
        ("NotificationService", json!({ "action": "notify", "actor": admin(), "level": "LOUD" })),
        ("ChargingSimulator", json!({ "tickAt": "tomorrow" })),
        ("EventRelay", json!({})),
        ("SessionService", json!([1, 2, 3])),
    ] {
        let (kind, message) = stack.invoke(function, payload.clone()).await.unwrap_err();
        assert_eq!(kind, "ValidationError", "{function} {payload}: {message}");
        assert!(!message.is_empty());
    }
}
