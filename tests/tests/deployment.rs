//! What is deployed is what the template says, and each role may do what its function needs and no more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::collections::BTreeSet;

use aws_config::sts::AssumeRoleProvider;
use aws_sdk_dynamodb::config::SharedCredentialsProvider;
use aws_sdk_dynamodb::types::{KeySchemaElement, KeyType, ProjectionType};
use e2e::{Stack, admin};
use serde_json::json;
use testkit::TABLES;

/// In the order of [`TABLES`].
const TABLE_OUTPUTS: [&str; 7] =
    ["StationsTable", "SessionsTable", "UsersTable", "ErrorLogsTable", "BillingTable", "TelemetryTable", "PoisTable"];

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
    for (table, output) in TABLES.iter().zip(TABLE_OUTPUTS) {
        let name = stack.output(output);
        assert!(name.starts_with(table.name), "{name}");
        let described = client.describe_table().table_name(name).send().await.unwrap().table.unwrap();
        assert_eq!(keys(described.key_schema()), (table.key.0, table.key.1.unwrap_or_default()), "{name}");
        let deployed: BTreeSet<_> = described
            .global_secondary_indexes()
            .iter()
            .map(|index| {
                let projection = index.projection().unwrap();
                let expected =
                    if table.included.is_some() { ProjectionType::Include } else { ProjectionType::KeysOnly };
                assert_eq!(*projection.projection_type().unwrap(), expected, "{name}");
                let included: Vec<&str> = projection.non_key_attributes().iter().map(String::as_str).collect();
                assert_eq!(included, table.included.into_iter().collect::<Vec<_>>(), "{name}");
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
        assert_eq!(
            streams,
            ["StationsTable", "SessionsTable", "BillingTable", "TelemetryTable", "PoisTable"].contains(&output),
            "{name}"
        );
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

/// A client with a function's own role.
async fn as_role_of(stack: &Stack, function: &str) -> aws_sdk_dynamodb::Client {
    let credentials = role_of(stack, function).await;
    let config = aws_sdk_dynamodb::config::Builder::from(&stack.config).credentials_provider(credentials);
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

/// The credentials of a function's own role.
async fn role_of(stack: &Stack, function: &str) -> AssumeRoleProvider {
    let lambda = aws_sdk_lambda::Client::new(&stack.config);
    let name = stack.output(&format!("{function}FunctionName"));
    let role = lambda.get_function_configuration().function_name(name).send().await.unwrap().role.unwrap();
    AssumeRoleProvider::builder(role).session_name("e2e").configure(&stack.config).build().await
}

/// Whether a put into a table is denied. Its condition never holds, so nothing is ever written.
async fn put_is_denied(client: &aws_sdk_dynamodb::Client, table: &str, pk: &str) -> bool {
    let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    let put = client.put_item().table_name(table).item("PK", text(pk)).item("SK", text("e2e"));
    let put = put.item("station_id", text(pk));
    let error = put.condition_expression("attribute_exists(nothing)").send().await.unwrap_err().into_service_error();
    match aws_sdk_dynamodb::error::ProvideErrorMetadata::code(&error) {
        Some("AccessDeniedException") => true,
        Some("ConditionalCheckFailedException") => false,
        other => panic!("{other:?}: {error:?}"),
    }
}

/// The local cloud lets anybody take a function's role; on AWS only Lambda may, so this is for the local stack.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_writes_its_own_contexts_tables_and_no_other() {
    let stack = Stack::open().await;
    if !stack.is_local() {
        return;
    }
    for (function, own) in [
        ("HealthCheck", vec![]),
        ("StationService", vec!["StationsTable"]),
        ("SessionService", vec!["SessionsTable"]),
        ("ChargingSimulator", vec![]),
        ("NotificationService", vec!["ErrorLogsTable"]),
        ("EventRelay", vec![]),
        ("Billing", vec!["BillingTable"]),
        ("BillingAudit", vec![]),
        ("TelemetryHandler", vec![]),
        ("TelemetryApi", vec![]),
        ("TelemetryMonitor", vec![]),
        ("OcmSync", vec![]),
        ("PoiService", vec![]),
    ] {
        let client = as_role_of(&stack, function).await;
        for table in TABLE_OUTPUTS {
            let denied = put_is_denied(&client, stack.output(table), "FAILURE#e2e").await;
            assert_eq!(denied, !own.contains(&table), "{function} putting into {table}");
        }
    }
    // The reconciler notes what cannot be billed. That its role touches neither invoices nor wallets is a condition on
    // the leading key, which the local cloud does not judge.
    let reconciler = as_role_of(&stack, "DlqReconciler").await;
    for table in TABLE_OUTPUTS {
        let denied = put_is_denied(&reconciler, stack.output(table), "FAILURE#e2e").await;
        assert_eq!(denied, table != "BillingTable", "{table}");
    }
}

/// As [`as_role_of`], of the telemetry bucket.
async fn bucket_as_role_of(stack: &Stack, function: &str) -> aws_sdk_s3::Client {
    let credentials = role_of(stack, function).await;
    let config = aws_sdk_s3::config::Builder::from(&stack.config).credentials_provider(credentials);
    aws_sdk_s3::Client::from_conf(config.build())
}

/// Who writes states writes them by update alone, and the archive by put alone; who answers questions writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_archive_is_written_by_one_function_and_read_by_another() {
    let stack = Stack::open().await;
    if !stack.is_local() {
        return;
    }
    let bucket = stack.output("TelemetryBucket");
    for (function, writes, reads) in [
        ("TelemetryHandler", true, false),
        ("TelemetryApi", false, true),
        ("TelemetryMonitor", false, false),
        ("Billing", false, false),
    ] {
        let client = bucket_as_role_of(&stack, function).await;
        for (key, allowed) in [("rejected/e2e.json", writes), ("telemetry/e2e.json", writes), ("other/e2e.json", false)]
        {
            let put =
                client.put_object().bucket(bucket).key(key).body("{}".to_owned().into_bytes().into()).send().await;
            assert_eq!(put.is_ok(), allowed, "{function} writing {key}: {put:?}");
        }
        let list = client.list_objects_v2().bucket(bucket).prefix("telemetry/e2e").send().await;
        assert_eq!(list.is_ok(), reads, "{function} listing: {list:?}");
        let delete = client.delete_object().bucket(bucket).key("telemetry/e2e.json").send().await;
        assert!(delete.is_err(), "{function} deleting");
    }
    let us = aws_sdk_s3::Client::new(&stack.config);
    for key in ["rejected/e2e.json", "telemetry/e2e.json"] {
        us.delete_object().bucket(bucket).key(key).send().await.unwrap();
    }
    let versioned = us.get_bucket_versioning().bucket(bucket).send().await.unwrap();
    assert_eq!(versioned.status.unwrap().as_str(), "Enabled");
}

/// The API key of OpenChargeMap is `ocm_sync`'s alone to read, and the mirror its alone to write.
#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_is_written_by_one_function_that_alone_reads_the_key() {
    let stack = Stack::open().await;
    if !stack.is_local() {
        return;
    }
    for function in ["OcmSync", "PoiService", "StationService", "TelemetryApi"] {
        let allowed = function == "OcmSync";
        let credentials = role_of(&stack, function).await;
        let config =
            stack.config.clone().into_builder().credentials_provider(SharedCredentialsProvider::new(credentials));
        let config = config.build();
        let key = aws_sdk_ssm::Client::new(&config).get_parameter().name(stack.output("OcmApiKeyParameterName"));
        assert_eq!(key.with_decryption(true).send().await.is_ok(), allowed, "{function} reading the key");
        let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
        let update = aws_sdk_dynamodb::Client::new(&config).update_item().table_name(stack.output("PoisTable"));
        let update = update.key("PK", text("POI#e2e")).key("SK", text("METADATA")).update_expression("SET a = :a");
        let update =
            update.expression_attribute_values(":a", text("a")).condition_expression("attribute_exists(nothing)");
        let error = update.send().await.unwrap_err().into_service_error();
        let code = aws_sdk_dynamodb::error::ProvideErrorMetadata::code(&error);
        let expected = if allowed { "ConditionalCheckFailedException" } else { "AccessDeniedException" };
        assert_eq!(code, Some(expected), "{function} writing the mirror");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_trigger_has_its_dead_letter_queue_and_the_end_of_the_line_is_empty() {
    let stack = Stack::open().await;
    let sqs = aws_sdk_sqs::Client::new(&stack.config);
    let queues: Vec<&String> = stack.outputs.keys().filter(|key| key.ends_with("DeadLetterQueueUrl")).collect();
    assert_eq!(queues.len(), 10, "{queues:?}");
    let answer = sqs
        .get_queue_attributes()
        .queue_url(stack.output("ReconcilerDeadLetterQueueUrl"))
        .attribute_names(aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessages)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.attributes.unwrap()[&aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessages], "0");
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
        ("Billing", json!({ "action": "topUpWallet", "actor": admin(), "amount": "-1" })),
        ("BillingAudit", json!({ "from": "yesterday" })),
        ("DlqReconciler", json!({ "Records": [] })),
        ("TelemetryApi", json!({ "action": "getHistory", "stationId": "s", "date": "yesterday" })),
        ("TelemetryMonitor", json!({ "action": "sleep" })),
        ("TelemetryHandler", json!("not an object")),
        ("OcmSync", json!({ "full": "yes" })),
        ("PoiService", json!({ "action": "findPois", "latitude": 91, "longitude": 0 })),
    ] {
        let (kind, message) = stack.invoke(function, payload.clone()).await.unwrap_err();
        assert_eq!(kind, "ValidationError", "{function} {payload}: {message}");
        assert!(!message.is_empty());
    }
}
