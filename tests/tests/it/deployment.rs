//! The deployed stack is what the template declares, and each role allows exactly what its function needs.

use std::collections::{BTreeMap, BTreeSet};

use aws_config::sts::AssumeRoleProvider;
use aws_sdk_dynamodb::config::SharedCredentialsProvider;
use aws_sdk_dynamodb::types::{KeySchemaElement, KeyType};
use aws_sdk_eventbridge::types::RetryPolicy;
use aws_sdk_iot::types::SqsAction;
use aws_sdk_sqs::types::QueueAttributeName;
use e2e::{Stack, admin};
use serde_json::{Map, Value, json};
use testkit::{resources, tables, template};

fn keys(schema: &[KeySchemaElement]) -> (&str, &str) {
    let of = |kind: KeyType| {
        schema.iter().find(|key| *key.key_type() == kind).map(KeySchemaElement::attribute_name).unwrap_or_default()
    };
    (of(KeyType::Hash), of(KeyType::Range))
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_tables_are_those_of_the_template() {
    let stack = Stack::open().await;
    let client = aws_sdk_dynamodb::Client::new(&stack.config);
    for table in tables() {
        let output = table.resource.as_str();
        let name = stack.output(output);
        assert!(name.starts_with(&table.name), "{name}");
        let described = client.describe_table().table_name(name).send().await.unwrap().table.unwrap();
        assert_eq!(
            keys(described.key_schema()),
            (table.key.partition.as_str(), table.key.sort.as_deref().unwrap_or_default()),
            "{name}"
        );
        let deployed: BTreeSet<_> = described
            .global_secondary_indexes()
            .iter()
            .map(|index| {
                let projection = index.projection().unwrap();
                let kind = projection.projection_type().unwrap().as_str();
                (index.index_name().unwrap(), keys(index.key_schema()), kind, projection.non_key_attributes())
            })
            .collect();
        let expected: BTreeSet<_> = table
            .indexes
            .iter()
            .map(|index| {
                let key = (index.key.partition.as_str(), index.key.sort.as_deref().unwrap_or_default());
                (index.name.as_str(), key, index.projection.kind.as_str(), index.projection.included.as_slice())
            })
            .collect();
        assert_eq!(deployed, expected, "{name}");
        let backups = client.describe_continuous_backups().table_name(name).send().await.unwrap();
        let recovery = backups.continuous_backups_description.unwrap().point_in_time_recovery_description.unwrap();
        assert_eq!(recovery.point_in_time_recovery_status.unwrap().as_str(), "ENABLED", "{name}");
        let has_stream =
            described.stream_specification().is_some_and(aws_sdk_dynamodb::types::StreamSpecification::stream_enabled);
        assert!(has_stream, "{name}");
        let times = [("BillingTable", "expiresAt"), ("TelemetryTable", "expires_at")];
        if let Some((_, attribute)) = times.iter().find(|(table, _)| *table == output) {
            let expiry = client.describe_time_to_live().table_name(name).send().await.unwrap();
            let expiry = expiry.time_to_live_description.unwrap();
            assert_eq!(expiry.attribute_name(), Some(*attribute), "{name}");
        }
    }
}

/// All functions run under their own roles with IAM enforced, so the other tests prove that the policies suffice. This
/// test proves by the policies themselves that they allow no more: they contain no wildcard action, and a wildcard
/// resource only where AWS supports nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn policies_name_actions_and_resources() {
    let mut found = Vec::new();
    statements(template(), &mut found);
    assert!(found.len() > 40, "{}", found.len());
    for statement in found {
        let is_wide = listed(&statement["Resource"]).into_iter().any(|resource| resource == "*");
        let sid = statement["Sid"].as_str().unwrap_or_default();
        assert_eq!(is_wide, ["Trace", "ListStreams", "ReadTheRegistry"].contains(&sid), "{statement}");
        if statement["Effect"] == "Allow" {
            for action in listed(&statement["Action"]) {
                let action = action.as_str().unwrap_or_else(|| panic!("no action: {statement}"));
                assert!(!action.contains('*') && action != "dynamodb:Scan", "{action}: {statement}");
            }
        }
    }
}

/// Returns the names of all functions, as the keys of their outputs have them, e.g. `SessionService`.
fn functions(stack: &Stack) -> Vec<&str> {
    let names: Vec<&str> = stack.outputs.keys().filter_map(|key| key.strip_suffix("FunctionName")).collect();
    assert_eq!(names.len(), resources("AWS::Serverless::Function").len(), "{names:?}");
    names
}

/// Collects the statements of policies in this part of the template.
fn statements<'a>(part: &'a Value, found: &mut Vec<&'a Value>) {
    if part["Effect"].is_string() {
        found.push(part);
    }
    let inside: Vec<&Value> = match part {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => members.values().collect(),
        _ => Vec::new(),
    };
    for part in inside {
        statements(part, found);
    }
}

/// Returns the elements of a list, or a single value.
fn listed(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |all| all.iter().collect())
}

/// Creates a client with the role of a function.
async fn as_role_of(stack: &Stack, function: &str) -> aws_sdk_dynamodb::Client {
    let credentials = role_of(stack, function).await;
    let config = aws_sdk_dynamodb::config::Builder::from(&stack.config).credentials_provider(credentials);
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

/// Returns the credentials of the role of a function.
async fn role_of(stack: &Stack, function: &str) -> AssumeRoleProvider {
    let lambda = aws_sdk_lambda::Client::new(&stack.config);
    let name = stack.output(&format!("{function}FunctionName"));
    let role = lambda.get_function_configuration().function_name(name).send().await.unwrap().role.unwrap();
    AssumeRoleProvider::builder(role).session_name("e2e").configure(&stack.config).build().await
}

/// Returns whether writing to a table is denied. The condition of the write never holds, so nothing is ever written.
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

/// Works like [`as_role_of`] for an S3 client of the telemetry bucket.
async fn bucket_as_role_of(stack: &Stack, function: &str) -> aws_sdk_s3::Client {
    let credentials = role_of(stack, function).await;
    let config = aws_sdk_s3::config::Builder::from(&stack.config).credentials_provider(credentials);
    aws_sdk_s3::Client::from_conf(config.build())
}

/// The local cloud lets anybody assume the role of a function. On AWS only Lambda may.
mod local_cloud_alone {
    use super::*;

    /// A role can put items only into the tables of its own context.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_role_can_write_only_the_tables_of_its_context() {
        let stack = Stack::local().await;
        let own = |function: &str| match function {
            "StationService" => Some("StationsTable"),
            "SessionService" => Some("SessionsTable"),
            "NotificationService" => Some("ErrorLogsTable"),
            // The reconciler records sessions that cannot be billed in the billing table. A condition on the leading
            // key keeps its role away from invoices and wallets; the local cloud does not evaluate that condition.
            "Billing" | "DlqReconciler" => Some("BillingTable"),
            // token_scopes may only update what it finds there.
            "AccountService" => Some("UsersTable"),
            _ => None,
        };
        for function in functions(&stack) {
            let client = as_role_of(&stack, function).await;
            for table in tables().iter().map(|table| table.resource.as_str()) {
                let denied = put_is_denied(&client, stack.output(table), "FAILURE#e2e").await;
                assert_eq!(denied, own(function) != Some(table), "{function} putting into {table}");
            }
        }
    }

    /// The function that writes states may only update them, and may only put objects into the archive. The function
    /// that answers queries writes nothing.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_archive_is_written_by_one_function_and_read_by_another() {
        let stack = Stack::local().await;
        let bucket = stack.output("TelemetryBucket");
        for (function, writes, reads) in [
            ("TelemetryHandler", true, false),
            ("TelemetryApi", false, true),
            ("TelemetryMonitor", false, false),
            ("Billing", false, false),
        ] {
            let client = bucket_as_role_of(&stack, function).await;
            for (key, allowed) in
                [("rejected/e2e.json", writes), ("telemetry/e2e.json", writes), ("other/e2e.json", false)]
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

    /// Only `account_service` may administer the user pool. Neither the trigger of the user pool nor any other function
    /// may even look users up.
    #[tokio::test(flavor = "multi_thread")]
    async fn only_account_service_administers_the_user_pool() {
        let stack = Stack::local().await;
        for function in functions(&stack) {
            let credentials = SharedCredentialsProvider::new(role_of(&stack, function).await);
            let config = stack.config.clone().into_builder().credentials_provider(credentials).build();
            let find = aws_sdk_cognitoidentityprovider::Client::new(&config).admin_get_user();
            let find = find.user_pool_id(stack.output("UserPoolId")).username("nobody@example.com");
            let error = find.send().await.unwrap_err().into_service_error();
            let code = aws_sdk_cognitoidentityprovider::error::ProvideErrorMetadata::code(&error);
            let allowed = function == "AccountService";
            let expected = if allowed { "UserNotFoundException" } else { "AccessDeniedException" };
            assert_eq!(code, Some(expected), "{function} looking up a user");
        }
    }

    /// Only `ocm_sync` may read the API key of OpenChargeMap and write the mirror.
    #[tokio::test(flavor = "multi_thread")]
    async fn only_ocm_sync_writes_the_mirror_and_reads_the_api_key() {
        let stack = Stack::local().await;
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
}

/// The queues of the stack by ARN, each with the key of its output, its URL and its redrive policy.
struct Queues(BTreeMap<String, (String, String, Value)>);

impl Queues {
    async fn of(stack: &Stack) -> Self {
        let sqs = aws_sdk_sqs::Client::new(&stack.config);
        let mut queues = BTreeMap::new();
        for (key, url) in stack.outputs.iter().filter(|(key, _)| key.ends_with("QueueUrl")) {
            let all = sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
            let attributes = all.send().await.unwrap().attributes.unwrap();
            let redrive = attributes.get(&QueueAttributeName::RedrivePolicy).map_or("null", String::as_str);
            let arn = attributes[&QueueAttributeName::QueueArn].clone();
            queues.insert(arn, (key.clone(), url.clone(), serde_json::from_str(redrive).unwrap()));
        }
        Self(queues)
    }

    fn is_dead_letter(&self, arn: &str) -> bool {
        self.0.get(arn).is_some_and(|(key, ..)| key.ends_with("DeadLetterQueueUrl"))
    }

    /// Returns whether messages that a consumer of this queue fails to process go to a dead-letter queue after 3 to 5
    /// receives.
    fn is_redriven(&self, arn: &str) -> bool {
        let Some((_, _, redrive)) = self.0.get(arn) else { return false };
        let next = redrive["deadLetterTargetArn"].as_str().unwrap_or_default();
        let receives = &redrive["maxReceiveCount"];
        let receives = receives.as_u64().or_else(|| receives.as_str()?.parse().ok()).unwrap_or_default();
        // SQS counts receives across queues: a dead letter has already been received five times.
        let before = if self.is_dead_letter(arn) { 5 } else { 0 };
        next != arn && self.is_dead_letter(next) && (3 + before..=5 + before).contains(&receives)
    }
}

/// The deployed asynchronous triggers of the functions, by kind and function.
#[derive(Default)]
struct Triggers {
    found: BTreeSet<(&'static str, String)>,
    /// The triggers whose failed invocations are not kept.
    unsafe_ones: Vec<String>,
}

impl Triggers {
    fn note(&mut self, kind: &'static str, of: &str, is_safe: bool, what: &dyn std::fmt::Debug) {
        if !is_safe {
            self.unsafe_ones.push(format!("{kind} of {of}: {what:?}"));
        }
        assert!(self.found.insert((kind, of.to_owned())), "{kind} of {of} twice");
    }

    fn count(&self, kind: &str) -> usize {
        self.found.iter().filter(|(of, _)| *of == kind).count()
    }

    /// Adds the queues and streams that a function reads.
    async fn mappings(&mut self, stack: &Stack, queues: &Queues, function: &str) {
        let lambda = aws_sdk_lambda::Client::new(&stack.config);
        let mut pages = lambda.list_event_source_mappings().function_name(function).into_paginator().send();
        while let Some(page) = pages.next().await {
            for mapping in page.unwrap().event_source_mappings() {
                let source = mapping.event_source_arn().unwrap();
                let of = format!("{function} by {source}");
                if source.contains(":sqs:") {
                    self.note("queue", &of, queues.is_redriven(source), mapping);
                    continue;
                }
                let failed = mapping.destination_config().and_then(|to| to.on_failure()?.destination());
                let bounds = (mapping.maximum_retry_attempts(), mapping.maximum_record_age_in_seconds());
                let is_safe =
                    failed.is_some_and(|arn| queues.is_dead_letter(arn)) && bounds == (Some(-1), Some(86_400));
                self.note("stream", &of, is_safe, mapping);
            }
        }
    }

    /// Adds the targets of a rule. A function among them is invoked asynchronously, so its failures need a destination
    /// too.
    async fn targets(&mut self, stack: &Stack, queues: &Queues, kind: &'static str, (bus, rule): (&str, &str)) {
        let events = aws_sdk_eventbridge::Client::new(&stack.config);
        let targets = events.list_targets_by_rule().event_bus_name(bus).rule(rule).send().await.unwrap();
        for target in targets.targets() {
            let kept = target.dead_letter_config().and_then(|config| config.arn());
            let tries = target.retry_policy().and_then(RetryPolicy::maximum_retry_attempts);
            let mut is_safe = kept.is_some_and(|arn| queues.is_dead_letter(arn))
                && tries.is_some_and(|tries| (3..=5).contains(&tries));
            if target.arn().contains(":lambda:") {
                is_safe &= invocations_are_kept(stack, queues, target.arn()).await;
            } else {
                is_safe &= queues.is_redriven(target.arn());
            }
            self.note(kind, &format!("{rule} to {}", target.id()), is_safe, target);
        }
    }
}

/// Returns whether an asynchronous invocation of a function that failed for good goes to a dead-letter queue.
async fn invocations_are_kept(stack: &Stack, queues: &Queues, function: &str) -> bool {
    let lambda = aws_sdk_lambda::Client::new(&stack.config);
    let config = lambda.get_function_event_invoke_config().function_name(function).qualifier("$LATEST").send().await;
    let destination = config.ok().and_then(|config| config.destination_config?.on_failure?.destination);
    destination.is_some_and(|arn| queues.is_dead_letter(&arn))
}

/// Returns the number of events of this type that the functions of the template have.
fn declared(kind: &str) -> usize {
    let functions = resources("AWS::Serverless::Function").into_iter();
    let events = functions.filter_map(|(_, function)| function["Events"].as_object()).flat_map(Map::values);
    events.filter(|event| event["Type"] == kind).count()
}

/// For each trigger of the deployed stack, failures end in a dead-letter queue.
#[tokio::test(flavor = "multi_thread")]
async fn every_trigger_has_a_dead_letter_queue_and_the_last_one_is_empty() {
    let stack = Stack::open().await;
    let queues = Queues::of(&stack).await;
    let mut triggers = Triggers::default();
    let events = aws_sdk_eventbridge::Client::new(&stack.config);
    for (_, name) in stack.outputs.iter().filter(|(key, _)| key.ends_with("FunctionName")) {
        triggers.mappings(&stack, &queues, name).await;
    }
    for (_, arn) in stack.outputs.iter().filter(|(key, _)| key.ends_with("FunctionArn")) {
        let rules = events.list_rule_names_by_target().target_arn(arn).send().await.unwrap();
        for rule in rules.rule_names() {
            triggers.targets(&stack, &queues, "schedule", ("default", rule)).await;
        }
    }
    // Other tests create their own rules on the event bus meanwhile.
    let bus = stack.output("EventBusName");
    let rules = events.list_rules().event_bus_name(bus).name_prefix("ev-").send().await.unwrap();
    for rule in rules.rules() {
        triggers.targets(&stack, &queues, "rule", (bus, rule.name().unwrap())).await;
    }
    let iot = aws_sdk_iot::Client::new(&stack.config);
    let rule = iot.get_topic_rule().rule_name(stack.output("TelemetryRuleName")).send().await.unwrap().rule.unwrap();
    for action in rule.actions() {
        let is_safe = match (action.lambda(), action.sqs()) {
            (Some(lambda), _) => invocations_are_kept(&stack, &queues, lambda.function_arn()).await,
            (_, Some(sqs)) => {
                queues.0.iter().any(|(arn, (_, url, _))| url == sqs.queue_url() && queues.is_redriven(arn))
            }
            _ => false,
        };
        triggers.note("device", stack.output("TelemetryRuleName"), is_safe, action);
    }
    let kept = rule.error_action().and_then(|action| action.sqs()).map(SqsAction::queue_url);
    assert_eq!(
        kept,
        Some(stack.output("TelemetryDeadLetterQueueUrl")),
        "for messages that the rule itself cannot deliver"
    );

    assert_eq!(triggers.unsafe_ones, [""; 0]);
    for (kind, declared) in [
        ("queue", declared("SQS")),
        ("stream", declared("DynamoDB")),
        ("schedule", declared("Schedule")),
        ("rule", resources("AWS::Events::Rule").len()),
        ("device", resources("AWS::IoT::TopicRule").len()),
    ] {
        assert!(declared > 0 && triggers.count(kind) == declared, "{kind}: {declared} declared, {:?}", triggers.found);
    }
    // dlq_reconciler reads every dead-letter queue except the last one, which is empty.
    let lambda = aws_sdk_lambda::Client::new(&stack.config);
    let reconciler = lambda.get_function_configuration().function_name(stack.output("DlqReconcilerFunctionName"));
    let variables = reconciler.send().await.unwrap().environment.unwrap().variables.unwrap();
    let read: BTreeMap<String, Value> = serde_json::from_str(&variables["DEAD_LETTER_QUEUES"]).unwrap();
    for (arn, (key, url, _)) in queues.0.iter().filter(|(_, (key, ..))| key.ends_with("DeadLetterQueueUrl")) {
        let is_last = key == "ReconcilerDeadLetterQueueUrl";
        let expected = (!is_last).then_some(url.as_str());
        assert_eq!(read.get(arn).and_then(|queue| queue["url"].as_str()), expected, "{key}");
        assert!(is_last || queues.is_redriven(arn), "{key}: letters that cannot be processed stay for ever");
    }
    let answer = aws_sdk_sqs::Client::new(&stack.config)
        .get_queue_attributes()
        .queue_url(stack.output("ReconcilerDeadLetterQueueUrl"))
        .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.attributes.unwrap()[&QueueAttributeName::ApproximateNumberOfMessages], "0");
}

/// Expired counts of rejected messages and entries of the error log are deleted.
#[tokio::test(flavor = "multi_thread")]
async fn expired_items_are_deleted_by_the_table() {
    let stack = Stack::open().await;
    let client = aws_sdk_dynamodb::Client::new(&stack.config);
    for (table, attribute) in [("TelemetryTable", "expires_at"), ("ErrorLogsTable", "expiresAt")] {
        let described = client.describe_time_to_live().table_name(stack.output(table)).send().await.unwrap();
        let described = described.time_to_live_description.unwrap();
        assert_eq!(described.time_to_live_status.unwrap().as_str(), "ENABLED", "{table}");
        assert_eq!(described.attribute_name.as_deref(), Some(attribute), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_functions_refuse_invalid_input() {
    let stack = Stack::open().await;
    for function in functions(&stack) {
        let (kind, message) = stack.invoke(function, json!([1, 2, 3])).await.unwrap_err();
        assert_eq!(kind, "ValidationError", "{function}: {message}");
    }
    for (function, payload) in [
        ("StationService", json!({ "action": "createStation", "actor": admin() })),
        ("SessionService", json!({ "action": "startSession", "actor": admin(), "chargePercent": 101 })),
        ("NotificationService", json!({ "action": "notify", "actor": admin(), "level": "LOUD" })),
        ("ChargingSimulator", json!({ "tickAt": "tomorrow" })),
        ("EventRelay", json!({})),
        ("Billing", json!({ "action": "topUpWallet", "actor": admin(), "amount": "-1" })),
        ("BillingAudit", json!({ "from": "yesterday" })),
        ("DlqReconciler", json!({ "action": "sleep" })),
        ("TelemetryApi", json!({ "action": "getHistory", "stationId": "s", "date": "yesterday" })),
        ("TelemetryMonitor", json!({ "action": "sleep" })),
        ("TelemetryHandler", json!("not an object")),
        ("OcmSync", json!({ "full": "yes" })),
        ("PoiService", json!({ "action": "findPois", "latitude": 91, "longitude": 0 })),
        ("AccountService", json!({ "action": "register", "email": "ada", "password": 1 })),
        ("TokenScopes", json!({ "triggerSource": "PreSignUp_SignUp", "userPoolId": "pool", "userName": "u" })),
    ] {
        let (kind, message) = stack.invoke(function, payload.clone()).await.unwrap_err();
        assert_eq!(kind, "ValidationError", "{function} {payload}: {message}");
        assert!(!message.is_empty());
    }
}
