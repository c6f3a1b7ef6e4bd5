//! GraphQL: the schema, made from the functions' tables of actions, and the requests of its fields.

mod door;
mod schema;

use std::collections::BTreeSet;

use lambda_kit::FieldKind;

use crate::openapi::{check, operations, project};

/// The actions that no person requests: those of the platform, of tools on the command line, of OAuth 2.0 and of
/// monitoring.
const WITHOUT_FIELD: [&str; 11] = [
    "audit",
    "health",
    "holdFunds",
    "ingest",
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
fn every_field_has_a_name_of_its_own() {
    let names: Vec<&str> = operations::all().iter().filter_map(|operation| Some(operation.graphql?.name)).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    assert!(names.len() > 50);
}

#[test]
fn queries_are_what_only_reads() {
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
