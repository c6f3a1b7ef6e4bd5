//! GraphQL: the schema, made from the functions' tables of actions, and the requests of its fields.

mod door;
mod schema;

use std::collections::{BTreeMap, BTreeSet};

use domain::live::EVENT_TYPES;
use lambda_kit::FieldKind;
use testkit::{resources, template};

use crate::openapi::{check, operations, project};

/// The actions that no person requests: those of the platform, of tools on the command line, of OAuth 2.0 and of
/// monitoring.
const WITHOUT_FIELD: [&str; 12] = [
    "audit",
    "health",
    "holdFunds",
    "ingest",
    "publish",
    "reconcile",
    "releaseFunds",
    "republishEnd",
    "sync",
    "tick",
    "token",
    "watch",
];

#[test]
fn the_schema_is_that_of_the_actions() {
    let live = std::fs::read_to_string(project("infrastructure/graphql/live.graphql")).unwrap();
    check("infrastructure/graphql/schema.graphql", &schema::schema(&operations::all(), &live));
}

#[test]
fn every_action_of_a_person_has_a_field() {
    let without = operations::all().into_iter().filter(|operation| operation.graphql.is_none());
    let without: BTreeSet<&str> = without.map(|operation| operation.name).collect();
    assert_eq!(without, BTreeSet::from(WITHOUT_FIELD));
}

#[test]
fn the_template_passes_each_field_to_the_function_of_its_action() {
    let rows = &template()["Mappings"]["DataSources"];
    let mut deployed = BTreeMap::new();
    for (id, resolver) in resources("AWS::AppSync::Resolver") {
        let source = resolver["DataSourceName"]["Fn::GetAtt"][0].as_str().unwrap();
        let row = &rows[source.strip_suffix("DataSource").unwrap()];
        // Subscriptions and what is published to them have no function.
        let Some(function) = row["Function"].as_str() else { continue };
        let field = (resolver["TypeName"].as_str().unwrap(), resolver["FieldName"].as_str().unwrap());
        assert_eq!(deployed.insert(field, function.replace('-', "_")), None, "{id}");
    }
    let operations = operations::all().into_iter();
    let declared: BTreeMap<_, _> = operations
        .filter_map(|operation| {
            let field = operation.graphql?;
            Some(((field.kind.name(), field.name), operation.function.to_owned()))
        })
        .collect();
    assert_eq!(deployed, declared);
}

/// Another event would never reach `live_publisher`.
#[test]
fn the_rule_of_live_publisher_names_the_events_from_which_updates_follow() {
    let rules = resources("AWS::Events::Rule");
    let (_, rule) = rules.iter().find(|(id, _)| *id == "LivePublisherRule").unwrap();
    let named = rule["EventPattern"]["detail-type"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    assert_eq!(named.collect::<BTreeSet<_>>(), BTreeSet::from(EVENT_TYPES));
}

#[test]
fn every_field_has_a_name_of_its_own() {
    let names: Vec<&str> = operations::all().iter().filter_map(|operation| Some(operation.graphql?.name)).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    assert!(names.len() > 50);
}

#[test]
fn queries_are_the_actions_that_only_read() {
    for operation in operations::all() {
        let Some(field) = operation.graphql else { continue };
        let key = operation.route.map_or("", |route| route.key);
        let reads = key.starts_with("GET ") || key == "POST /quotes";
        assert_eq!(field.kind == FieldKind::Query, reads, "{}", field.name);
        assert!(reads || field.name == operation.name, "{}", field.name);
    }
}

/// A field without a scope would be open to every token.
#[test]
fn every_field_requires_a_scope_unless_it_is_open() {
    let (mut with_key, mut open) = (BTreeSet::new(), BTreeSet::new());
    for operation in operations::all() {
        let Some(field) = operation.graphql else { continue };
        if operation.takes_api_key() {
            with_key.insert(field.name);
        }
        if operation.scope().is_none() {
            open.insert(field.name);
        }
    }
    let expected = ["confirm", "forgotPassword", "login", "register", "resendCode", "resetPassword"];
    assert_eq!(open, BTreeSet::from(expected));
    assert_eq!(with_key, &open | &BTreeSet::from(["pois", "stations"]));
}
