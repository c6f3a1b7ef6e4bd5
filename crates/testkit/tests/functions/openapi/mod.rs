//! docs/openapi.json and the table of docs/API.md, made from the functions' tables of actions; and those tables against
//! the routes of the template.

mod document;
mod examples;
pub mod operations;
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use domain::accounts::{RESOURCE_SERVER, Scope};
pub use examples::{ADMIN, CLOCK, DRIVER, Recorder, now, set_time};
use serde_json::Value;
use testkit::resources;

/// The path of a file of the project.
pub fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Compares a generated file with what it should be, or writes it where the environment asks for that.
pub fn check(path: &str, expected: &str) {
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
        let (mut compiler, mut schemas) = (boon::Compiler::new(), boon::Schemas::new());
        compiler.add_resource("https://evoke.invalid/answer", schema).unwrap();
        let index = compiler.compile("https://evoke.invalid/answer", &mut schemas).unwrap();
        let fault = schemas.validate(&example.answer, index).err().map(|fault| format!("{fault:#}"));
        assert_eq!(fault, None, "the answer of {id} is not as its schema says");
    }
    check("docs/openapi.json", &(serde_json::to_string_pretty(&document).unwrap() + "\n"));
}

#[test]
fn the_table_of_api_md_is_that_of_the_actions() {
    let page = std::fs::read_to_string(project("docs/API.md")).unwrap();
    check("docs/API.md", &reference::with_table(&page, &operations::all()));
}

/// The text of a property that joins texts.
fn joined(value: &Value) -> String {
    let [separator, parts] = value["Fn::Join"].as_array().unwrap().as_slice() else { panic!("no Fn::Join: {value}") };
    let parts: Vec<&str> = parts.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
    parts.join(separator.as_str().unwrap())
}

/// The scope that a deployed route requires; none if it takes requests without a token.
fn deployed_scope(route: &Value) -> Option<String> {
    let scopes = route.get("AuthorizationScopes").map(|scopes| scopes.as_array().unwrap().as_slice());
    match (route["AuthorizationType"].as_str().unwrap(), scopes) {
        ("JWT", Some([scope])) => Some(joined(scope)),
        ("NONE", None) => None,
        _ => panic!("neither open nor with one scope: {route}"),
    }
}

#[test]
fn the_template_has_the_routes_of_the_actions_with_their_scopes() {
    let routes = resources("AWS::ApiGatewayV2::Route");
    let deployed: BTreeMap<&str, Option<String>> =
        routes.iter().map(|(_, route)| (route["RouteKey"].as_str().unwrap(), deployed_scope(route))).collect();
    assert_eq!(deployed.len(), routes.len(), "a route is declared twice");
    let mut declared = BTreeMap::new();
    for route in operations::all().iter().filter_map(|operation| operation.route) {
        let scope = route.scope.map(Scope::in_token);
        let known = declared.insert(route.key, scope.clone());
        assert!(known.is_none_or(|known| known == scope), "the actions of {} require different scopes", route.key);
    }
    assert_eq!(deployed, declared);
    assert!(declared.len() > 25);
}

#[test]
fn the_resource_server_has_every_scope() {
    let servers = resources("AWS::Cognito::UserPoolResourceServer");
    let [(_, server)] = servers.as_slice() else { panic!("not one resource server: {servers:?}") };
    assert_eq!(server["Identifier"], RESOURCE_SERVER);
    let scopes = server["Scopes"].as_array().unwrap().iter();
    let deployed: Vec<&str> = scopes.map(|scope| scope["ScopeName"].as_str().unwrap()).collect();
    assert_eq!(deployed, Scope::ALL.map(|scope| scope.to_string()));
}

/// A read of an area leaves everything as it is, and whatever else a route does needs the other scope.
#[test]
fn routes_that_read_require_the_scope_for_reading() {
    for operation in operations::all() {
        let Some((route, scope)) = operation.route.and_then(|route| Some((route, route.scope?))) else { continue };
        let reads = route.key.starts_with("GET ") || route.key == "POST /quotes";
        let expected = if reads { Scope::read(scope.area()) } else { Scope::write(scope.area()) };
        assert_eq!(scope, expected, "{}", route.key);
    }
}

#[test]
fn every_action_is_documented() {
    for operation in operations::all() {
        assert!(!operation.by.is_empty() && operation.about.ends_with('.'), "{}", operations::id(&operation));
    }
    let ids: Vec<String> = operations::all().iter().map(operations::id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "ids are unique");
}
