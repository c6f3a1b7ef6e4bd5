//! Invalid input of every kind. The answer must be a `ValidationError` that names the fields; nothing may be written,
//! nothing may panic, and the answer may contain nothing internal.
//!
//! What every function refuses is tested here. The modules of the contexts attack each action with wrong arguments.

use std::collections::BTreeSet;

use lambda_kit::{Clock, Door, Function};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use store::Archive;
use telemetry_handler::TelemetryHandler;
use testkit::{EmbeddedDynamoDb, EmbeddedS3, Outcome, invoke, no_redelivery, sqs_event, tables};

use crate::{AnyFunction, functions};

/// The values that a field accepts, which determine the values that it must refuse.
#[derive(Clone, Copy)]
pub enum Kind {
    Id,
    /// A text with at most this many characters.
    Text(usize),
    /// Text that may be empty, with at most this number of characters.
    TextOrNothing(usize),
    /// A number in this range.
    Number(f64, f64),
    Integer(i64, i64),
    /// A name of an enumeration.
    Enum,
    Time,
    Object,
    Array,
    Decimal,
}

use Kind::{Array, Decimal, Enum, Id, Integer, Number, Object, Text, TextOrNothing, Time};

impl Kind {
    /// Returns values of the wrong type, out of range, too long or unknown.
    pub fn wrong(self) -> Vec<Value> {
        let long = |n: usize| Value::String("x".repeat(n));
        match self {
            Id => {
                vec![json!(1), json!([]), json!(""), json!("a#b"), json!("a b"), json!("\u{0}"), json!("ß"), long(49)]
            }
            Text(most) => vec![json!(1), json!({}), json!(""), long(most + 1)],
            TextOrNothing(most) => vec![json!(1), json!({}), long(most + 1)],
            Number(low, high) => {
                let mut wrong = vec![json!("1"), json!(true), json!(low - 1.0), json!(high + 1.0), json!(1e300)];
                if low > 0.0 {
                    wrong.extend([json!(0), json!(1e-200), json!(low / 2.0)]);
                }
                wrong
            }
            Integer(low, high) => vec![json!("1"), json!(1.5), json!(low - 1), json!(high + 1), json!(1e300)],
            Enum => vec![json!(1), json!("BANANA"), json!(""), long(100_000)],
            Time => vec![json!(1), json!("yesterday"), json!("2026-02-30T00:00:00Z"), json!("")],
            Object => vec![json!(1), json!("x"), json!([])],
            Array => vec![json!(1), json!("x"), json!({})],
            Decimal => vec![json!("abc"), json!("-1"), json!(-1), json!(""), json!("1e5"), json!("NaN"), long(100)],
        }
    }
}

/// An action, its fields (name, required, kind), and a valid request.
pub struct Case(pub &'static str, pub &'static [(&'static str, bool, Kind)], pub Value);

/// Sets or removes a field such as `ports[0].maxPowerKw`.
pub fn edit(request: &mut Value, field: &str, value: Option<Value>) {
    let pointer = format!("/{}", field.replace("[0].", "/0/").replace('.', "/"));
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = request.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => parent.insert(name.to_owned(), value),
        None => parent.remove(name),
    };
}

pub fn assert_refused(outcome: &Outcome, field: &str, what: &str) {
    let Err((kind, message)) = outcome else { panic!("{what} was taken: {outcome:?}") };
    assert_eq!(kind, "ValidationError", "{what}: {message}");
    assert!(message.contains(field), "{what} does not name {field}: {message}");
    assert!(message.len() < 4000, "{what}: {} characters", message.len());
    for internal in ["panicked", "ev-stations", "ev-sessions", "aws", "src/", "127.0.0.1", "xxxxxxxxxx"] {
        assert!(!message.contains(internal), "{what} tells {internal}: {message}");
    }
}

/// Returns payloads that are not JSON, not UTF-8, not an object, nested too deeply, or contain numbers that JSON does
/// not have.
fn malformed() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "{",
        "[1]",
        "1",
        "\"text\"",
        "{\"powerKw\": NaN}",
        "{\"powerKw\": -Infinity}",
        "{'a': 1}",
        "{\"powerKw\": 1e999}",
    ];
    let mut all: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    all.push(b"{\"name\": \"\xff\xfe\"}".to_vec());
    all.push(format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes());
    all.push(format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000)).into_bytes());
    all
}

/// Every action of the function has a case, and every argument of the action is a field of that case.
fn assert_complete<F: Function>(cases: &[Case]) {
    let mut missing = Vec::new();
    for operation in F::ACTIONS.iter().map(|action| action.operation) {
        let fields: Vec<&str> = cases
            .iter()
            .filter(|case| case.0 == operation.name)
            .flat_map(|Case(_, fields, _)| fields.iter().map(|(field, ..)| *field))
            .collect();
        if !cases.iter().any(|case| case.0 == operation.name) {
            missing.push(operation.name.to_owned());
        }
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let schema = (operation.arguments)(&mut generator).to_value();
        let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
        let schema = name.map_or(schema.clone(), |name| generator.definitions()[name].clone());
        let arguments = schema["properties"].as_object().cloned().unwrap_or_default();
        let tried = |argument: &str| fields.iter().any(|field| field.split(['.', '[']).next() == Some(argument));
        missing.extend(arguments.keys().filter(|name| !tried(name)).map(|name| format!("{}.{name}", operation.name)));
    }
    assert!(missing.is_empty(), "{} has no bad input for {missing:?}", F::NAME);
}

/// Sends all invalid requests. Returns the number of refused requests. All actions need an actor, except those that are
/// `open`.
pub async fn attack<F: Function>(
    door: &Door<F>,
    cases: Vec<Case>,
    open: &[&str],
    dynamodb: &EmbeddedDynamoDb,
) -> usize {
    assert_complete::<F>(&cases);
    let operations = F::ACTIONS.iter().map(|action| action.operation);
    let for_anyone = operations.filter(|operation| operation.by == "anyone");
    let for_anyone: BTreeSet<&str> = for_anyone.map(|operation| operation.name).collect();
    assert_eq!(for_anyone, open.iter().copied().collect::<BTreeSet<&str>>(), "{}: what anyone may do", F::NAME);
    let mut tried = 0;
    for Case(action, fields, arguments) in cases {
        let mut valid = arguments;
        valid["action"] = json!(action);
        valid["actor"] = json!({ "userId": "a", "role": "ADMIN" });
        for (field, required, kind) in fields {
            let removed = required.then_some(None);
            for wrong in kind.wrong().into_iter().map(Some).chain(removed) {
                let what: String = format!("{action} with {field} = {wrong:?}").chars().take(120).collect();
                let mut request = valid.clone();
                edit(&mut request, field, wrong);
                assert_refused(&invoke(door, request).await, field, &what);
                tried += 1;
            }
        }
        // With all fields invalid at once, all of them are named and not just the first.
        let mut request = valid.clone();
        let top: Vec<_> = fields.iter().filter(|(field, ..)| !field.contains(['.', '['])).collect();
        for (field, _, kind) in &top {
            edit(&mut request, field, Some(kind.wrong().remove(0)));
        }
        if !top.is_empty() {
            let outcome = invoke(door, request).await;
            for (field, ..) in &top {
                assert_refused(&outcome, field, &format!("{action} with everything wrong"));
            }
        }
        let wrong_actors = [
            json!("admin"),
            json!({}),
            json!({ "userId": "a", "role": "ROOT" }),
            json!({ "userId": "", "role": "ADMIN" }),
        ];
        let missing = (!open.contains(&action)).then_some(Value::Null);
        for actor in wrong_actors.into_iter().chain(missing) {
            let mut request = valid.clone();
            request["actor"] = actor;
            assert_refused(&invoke(door, request).await, "actor", &format!("{action} by a wrong actor"));
            tried += 1;
        }
    }
    assert_nothing_written(dynamodb, F::NAME).await;
    tried
}

async fn assert_nothing_written(dynamodb: &EmbeddedDynamoDb, function: &str) {
    for table in tables() {
        assert_eq!(dynamodb.items(&table.name).await.len(), 0, "{function} wrote to {}", table.name);
    }
}

/// Numbers closer to 0 than a database can store.
pub const TINY: [f64; 4] = [1e-200, -1e-200, f64::MIN_POSITIVE, 1e-131];

/// Sends `request` with every tiny number in `field`. Each is accepted, or refused by name; none causes an internal
/// error.
pub async fn tiny_numbers<F: Function>(door: &Door<F>, request: &Value, field: &str) -> Vec<Value> {
    let mut taken = Vec::new();
    for (index, tiny) in TINY.into_iter().enumerate() {
        let mut request = request.clone();
        edit(&mut request, field, Some(json!(tiny)));
        if request["stationId"] == "new" {
            request["stationId"] = json!(format!("{}-{index}", field.replace(['[', ']'], "-")));
        }
        match invoke(door, request).await {
            Ok(answer) => taken.push(answer),
            outcome => assert_refused(&outcome, field, &format!("{field} = {tiny}")),
        }
    }
    taken
}

#[tokio::test]
async fn every_function_refuses_what_is_no_request() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    for AnyFunction { name, open, .. } in functions() {
        let invoke = open(&dynamodb);
        for payload in malformed() {
            let text = String::from_utf8_lossy(&payload[..payload.len().min(40)]).into_owned();
            assert_refused(&invoke(payload).await, "payload", &format!("{name} with {text}"));
        }
        for action in [json!("dropTables"), json!(1), json!(null), json!("x".repeat(100_000))] {
            let payload = json!({ "action": action }).to_string().into_bytes();
            let (kind, message) = invoke(payload).await.unwrap_err();
            assert_eq!(kind, "ValidationError", "{name}: {message}");
            assert!(message.contains("action") && message.len() < 1000, "{name}: {message}");
        }
        assert_nothing_written(&dynamodb, name).await;
    }
}

/// The bodies of queue messages that are no JSON objects.
fn no_objects() -> Value {
    sqs_event(&["[1]".to_owned(), "not JSON".to_owned()])
}

/// A function that reads a queue reports each message as failed, so that the queue keeps it for the dead-letter queue.
#[tokio::test]
async fn no_function_takes_messages_that_are_no_json_objects() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let mut readers = BTreeSet::new();
    for AnyFunction { name, open, .. } in functions() {
        // It stores such messages, because another attempt cannot help: see the next test.
        if name == "telemetry_handler" {
            continue;
        }
        match open(&dynamodb)(no_objects().to_string().into_bytes()).await {
            Ok(answer) => {
                assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 2, "{name}: {answer}");
                readers.insert(name);
            }
            Err((kind, message)) => assert_eq!(kind, "ValidationError", "{name}: {message}"),
        }
        assert_nothing_written(&dynamodb, name).await;
    }
    let expected = ["billing", "charging_simulator", "live_publisher", "notification_service", "session_service"];
    assert_eq!(readers, BTreeSet::from(expected));
}

#[tokio::test]
async fn telemetry_handler_archives_messages_that_are_no_json_objects_as_rejected() {
    let (dynamodb, s3) = (EmbeddedDynamoDb::start().await, EmbeddedS3::start("telemetry").await);
    let archive = Archive::new(s3.client(), "telemetry");
    let handler = TelemetryHandler::new(dynamodb.telemetry(), archive, no_redelivery(), 10);
    let answer = invoke(&Door::new(handler, Clock::SYSTEM), no_objects()).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([]));
    let kept: Vec<String> = s3.objects("telemetry").await.into_iter().map(|(key, _)| key).collect();
    assert!(kept.len() == 2 && kept.iter().all(|key| key.starts_with("rejected/")), "{kept:?}");
    assert_nothing_written(&dynamodb, "telemetry_handler").await;
}
