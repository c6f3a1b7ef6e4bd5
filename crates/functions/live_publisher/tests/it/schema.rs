//! The mutations and their inputs, compared with the schema of the API.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use chrono::DateTime;
use live_publisher::Mutation;
use serde_json::Value;

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../infrastructure/graphql/schema.graphql");

/// The fields of each type and input of the schema, or the values of each enum, in their order. A value has no type.
pub struct Schema(BTreeMap<String, Vec<(String, String)>>);

impl Schema {
    /// Reads the schema.
    pub fn read() -> Self {
        let text = fs::read_to_string(SCHEMA).unwrap();
        let mut lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let mut types = BTreeMap::new();
        while let Some(line) = lines.next() {
            let mut words = line.split_whitespace();
            let kind = words.next().unwrap_or_default();
            if !["type", "input", "enum"].contains(&kind) {
                continue;
            }
            let name = words.next().unwrap().to_owned();
            let fields = lines.by_ref().take_while(|line| *line != "}").filter(|line| !line.trim().is_empty());
            let field = |line: &str| {
                let line = line.trim();
                let (name, rest) = line.split_once(": ").unwrap_or((line, ""));
                (name.to_owned(), rest.split(" @").next().unwrap_or_default().to_owned())
            };
            types.insert(name, fields.map(field).collect());
        }
        Self(types)
    }

    fn fields(&self, name: &str) -> &[(String, String)] {
        self.0.get(name).unwrap_or_else(|| panic!("{name} is not in the schema"))
    }

    /// Returns a selection of all fields of a type.
    fn everything(&self, name: &str) -> String {
        let field = |(field, kind): &(String, String)| {
            let inner = kind.trim_matches(['[', ']', '!']);
            if self.0.contains_key(inner) && self.fields(inner).iter().any(|(_, kind)| !kind.is_empty()) {
                format!("{field} {}", self.everything(inner))
            } else {
                field.clone()
            }
        };
        let fields: Vec<String> = self.fields(name).iter().map(field).collect();
        format!("{{ {} }}", fields.join(" "))
    }

    /// Checks that `value` is one of type `kind`.
    pub fn check(&self, kind: &str, value: &Value, what: &str) {
        if let Some(kind) = kind.strip_suffix('!') {
            assert!(!value.is_null(), "{what} is missing");
            return self.check(kind, value, what);
        }
        if value.is_null() {
            return;
        }
        if let Some(kind) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) {
            for item in value.as_array().unwrap_or_else(|| panic!("{what}: {value}")) {
                self.check(kind, item, what);
            }
            return;
        }
        let text = value.as_str();
        let is_right = match kind {
            "ID" | "String" => text.is_some(),
            "AWSDateTime" => text.is_some_and(|text| DateTime::parse_from_rfc3339(text).is_ok()),
            "Boolean" => value.is_boolean(),
            "Int" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            "Float" => value.is_number(),
            _ if self.fields(kind).iter().all(|(_, kind)| kind.is_empty()) => {
                self.fields(kind).iter().any(|(name, _)| text == Some(name.as_str()))
            }
            _ => {
                let given = value.as_object().unwrap_or_else(|| panic!("{what}: {value}"));
                let known: BTreeSet<&str> = self.fields(kind).iter().map(|(name, _)| name.as_str()).collect();
                for (name, kind) in self.fields(kind) {
                    self.check(kind, given.get(name).unwrap_or(&Value::Null), &format!("{what}.{name}"));
                }
                given.keys().all(|name| known.contains(name.as_str()))
            }
        };
        assert!(is_right, "{what}: {value} is no {kind}");
    }

    /// Checks the input of a mutation.
    pub fn check_input(&self, field: &str, input: &Value) {
        let name = field.strip_prefix("publish").unwrap();
        let mutation = format!("{field}(input");
        let (_, kind) = self.fields("Mutation").iter().find(|(name, _)| *name == mutation).unwrap();
        let (argument, returned) = kind.split_once("): ").unwrap();
        assert_eq!(argument, format!("{returned}Input!"), "{name}");
        self.check(argument, input, field);
    }
}

/// Subscribers get only what is selected.
#[test]
fn each_mutation_selects_every_field_of_its_update() {
    let schema = Schema::read();
    let publishing = schema.fields("Mutation").iter().filter(|(name, _)| name.starts_with("publish"));
    let mut expected = BTreeMap::new();
    for (field, kind) in publishing {
        let field = field.strip_suffix("(input").unwrap();
        let (input, update) = kind.split_once("): ").unwrap();
        let selection = schema.everything(update);
        let document = format!("mutation Publish($input: {input}) {{ {field}(input: $input) {selection} }}");
        expected.insert(field.to_owned(), document);
    }
    let documents = Mutation::ALL.map(|mutation| (mutation.field.to_owned(), mutation.document.to_owned()));
    assert_eq!(BTreeMap::from(documents), expected);
}

/// The input of a mutation has the fields of its update, so that nothing that is published is lost.
#[test]
fn each_input_has_the_fields_of_its_update() {
    let schema = Schema::read();
    for (name, fields) in &schema.0 {
        let Some(update) = name.strip_suffix("Input").and_then(|update| schema.0.get(update)) else { continue };
        let published = Mutation::ALL.iter().any(|mutation| mutation.document.contains(&format!("$input: {name}!")));
        if !published {
            continue;
        }
        let alike = |(name, kind): &(String, String)| (name.clone(), kind.replace("Input", ""));
        assert_eq!(&fields.iter().map(alike).collect::<Vec<_>>(), update, "{name}");
    }
}
