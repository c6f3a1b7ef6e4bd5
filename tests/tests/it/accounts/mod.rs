//! Accounts on the deployed stack: people who register and sign in over HTTP, staff, and machine clients.

mod authorisation;
mod deletion;
mod local_cloud_alone;
mod registration;
mod secrecy;
mod sign_in;

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::accounts::Scope;
use domain::actor::Role;
use e2e::{Answer, Stack, text};
use serde_json::{Value, json};

/// Returns a registration number that no vehicle has.
fn new_number() -> String {
    format!("E2E {}", uuid::Uuid::new_v4().simple().to_string()[..8].to_uppercase())
}

fn vehicle(number: &str) -> Value {
    json!({ "brand": "Renault", "model": "Zoe", "batteryCapacity": 52, "registrationNumber": number })
}

/// Returns the scopes of an access token.
fn scopes(token: &str) -> BTreeSet<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    text(&claims, "scope").split_whitespace().map(str::to_owned).collect()
}

/// Returns the scopes of a role, as tokens name them.
fn scopes_of(role: Role) -> BTreeSet<String> {
    Scope::of(role).map(Scope::in_token).collect()
}

/// Asserts that the token endpoint refused the request with this code of RFC 6749.
#[track_caller]
fn refused_by_oauth(answer: Answer, status: u16, error: &str) {
    let body = answer.must_be(status);
    assert_eq!(text(&body, "error"), error, "{body}");
}

/// Returns the messages in the log of a function that contain this text, of all that it has logged since `since` (ms).
async fn logged(stack: &Stack, function: &str, since: i64, wanted: &str) -> Vec<String> {
    let logs = aws_sdk_cloudwatchlogs::Client::new(&stack.config);
    let filter = logs.filter_log_events().log_group_name(format!("/aws/lambda/{function}")).start_time(since);
    let mut pages = filter.filter_pattern(format!("\"{wanted}\"")).into_paginator().send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap_or_else(|error| panic!("the log of {function}: {error:?}"));
        let messages = page.events().iter().filter_map(|event| event.message());
        // The local cloud ignores upper and lower case.
        found.extend(messages.filter(|message| message.contains(wanted)).map(str::to_owned));
    }
    found
}
