//! docs/openapi.json and the table of docs/API.md, made from the functions' tables of actions; and those tables against
//! the routes of the template.

mod document;
mod examples;
mod operations;
mod reference;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use examples::{ADMIN, CLOCK, DRIVER, Recorder, now, set_time};
use testkit::resources;

fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Compares a generated file with what it should be, or writes it where the environment asks for that.
fn check(path: &str, expected: &str) {
    let file = project(path);
    #[allow(clippy::disallowed_methods)] // where the file is to be written
    let write = std::env::var_os("EVOKE_WRITE_CONTRACTS").is_some();
    if write {
        std::fs::write(&file, expected).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{path} has drifted from the actions: run `make schema` and review the change");
}

#[tokio::test]
async fn the_openapi_document_is_that_of_the_actions() {
    let examples = examples::record().await;
    let document = document::document(&operations::all(), &examples);
    for (id, schema) in document::answer_schemas(&document) {
        let example = &examples[&id];
        let operation = operations::all().into_iter().find(|operation| operations::id(operation) == id).unwrap();
        assert_eq!(example.status, u64::from(operation.status), "the status of {id}");
        let validator = jsonschema::validator_for(&schema).unwrap();
        let faults: Vec<String> = validator.iter_errors(&example.answer).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "the answer of {id} is not as its schema says: {faults:?}");
    }
    check("docs/openapi.json", &(serde_json::to_string_pretty(&document).unwrap() + "\n"));
}

#[test]
fn the_table_of_api_md_is_that_of_the_actions() {
    let page = std::fs::read_to_string(project("docs/API.md")).unwrap();
    check("docs/API.md", &reference::with_table(&page, &operations::all()));
}

#[test]
fn the_template_has_the_routes_of_the_actions() {
    let routes = resources("AWS::ApiGatewayV2::Route").into_iter();
    let deployed: BTreeSet<&str> = routes.map(|(_, route)| route["RouteKey"].as_str().unwrap()).collect();
    let operations = operations::all();
    let declared: BTreeSet<&str> = operations.iter().filter_map(|operation| Some(operation.route?.key)).collect();
    assert_eq!(deployed, declared);
    assert!(declared.len() > 25);
}

#[test]
fn every_action_is_documented() {
    for operation in operations::all() {
        assert!(!operation.by.is_empty() && operation.about.ends_with('.'), "{}", operations::id(&operation));
    }
    let ids: Vec<String> = operations::all().iter().map(operations::id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "ids are unique");
}
