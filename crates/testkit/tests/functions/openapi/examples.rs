//! A short story through the HTTP door of every function. What it asked and what was answered are the examples of the
//! document. Time and ids are fixed, so that the document changes only when the API does.

use std::cell::Cell;
use std::collections::BTreeMap;

use domain::Instant;
use lambda_kit::{Clock, Door, Function};
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, http_event, invoke};

use crate::{accounts, billing, charging, health, notifications, poi, telemetry};

thread_local! {
    static NOW: Cell<Instant> = const { Cell::new(Instant::MIN_UTC) };
}

/// The clock of all functions.
pub const CLOCK: Clock = Clock(now);

/// A request and its answer.
#[derive(Clone, Debug, Default)]
pub struct Example {
    pub parameters: BTreeMap<String, Value>,
    pub body: Option<Value>,
    pub status: u64,
    pub answer: Value,
}

impl Example {
    /// The value of a parameter of the path or the query.
    pub fn parameter(&self, name: &str) -> Option<&Value> {
        self.parameters.get(name)
    }
}

/// The time of the story.
pub fn now() -> Instant {
    NOW.get()
}

pub fn set_time(time: &str) {
    NOW.set(format!("2026-03-03T{time}Z").parse().expect("a time"));
}

/// Records what is asked and answered.
#[derive(Default)]
pub struct Recorder {
    /// By the id of the operation.
    pub examples: BTreeMap<String, Example>,
}

/// Who asks: a user's id and groups.
pub type Caller = (&'static str, &'static str);
pub const ADMIN: Caller = ("admin-1", "[ADMIN]");
pub const DRIVER: Caller = ("driver-1", "");

impl Recorder {
    /// Asks over HTTP as `caller`, and keeps it as the example of the operation `id`.
    pub async fn ask<F: Function>(
        &mut self,
        door: &Door<F>,
        (id, route, caller): (&str, &str, Caller),
        path: &[(&str, &str)],
        query: &[(&str, &str)],
        body: Value,
    ) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let answer = invoke(door, http_event(route, path, query, caller.0, caller.1, &text)).await.expect("an answer");
        let status = answer["statusCode"].as_u64().expect("a status");
        assert!(status < 300, "{id}: {answer}");
        let answer: Value = serde_json::from_str(answer["body"].as_str().expect("a body")).expect("JSON");
        let parameters = path.iter().chain(query).map(|(name, text)| ((*name).to_owned(), value(text))).collect();
        let body = Some(body).filter(|body| !body.is_null());
        self.examples.insert(id.to_owned(), Example { parameters, body, status, answer: answer.clone() });
        answer
    }
}

/// A parameter as its schema types it.
fn value(text: &str) -> Value {
    text.parse::<f64>().ok().filter(|_| !text.contains(':')).map_or_else(
        || json!(text),
        |number| {
            if number.fract() == 0.0 { serde_json::from_str(text).unwrap_or(json!(number)) } else { json!(number) }
        },
    )
}

/// An example of every routed action, by the operation's id.
pub async fn record() -> BTreeMap<String, Example> {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let mut recorder = Recorder::default();
    charging::record(&mut recorder, &dynamodb).await;
    billing::record(&mut recorder, &dynamodb).await;
    notifications::record(&mut recorder, &dynamodb).await;
    telemetry::record(&mut recorder, &dynamodb).await;
    poi::record(&mut recorder, &dynamodb).await;
    health::record(&mut recorder, &dynamodb).await;
    accounts::record(&mut recorder, &dynamodb).await;
    recorder.examples
}
