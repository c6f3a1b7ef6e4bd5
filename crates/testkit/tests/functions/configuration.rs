//! The template sets exactly the environment variables that each function reads, and a function whose variable is
//! missing or wrong does not start.

use std::collections::{BTreeMap, BTreeSet};

use lambda_kit::{ConfigError, Env};

use crate::{AnyFunction, functions};

/// The variables that AWS sets in every function.
const SET_BY_AWS: [&str; 1] = ["AWS_LAMBDA_FUNCTION_NAME"];
/// The variables that the crate `lambda_runtime` reads itself.
const READ_BY_THE_RUNTIME: [&str; 1] = ["AWS_LAMBDA_LOG_LEVEL"];
/// The variables whose values are parsed. The values of the others are names, which may be any text.
const PARSED: [&str; 9] = [
    "CURRENCY",
    "DEAD_LETTER_QUEUES",
    "ERROR_LOG_RETENTION_DAYS",
    "MAX_REPLAYS",
    "OCM_PAGE_SIZE",
    "REJECTED_MESSAGES_LIMIT",
    "SIMULATOR_INLINE_SESSIONS",
    "SIMULATOR_SHARDS",
    "TELEMETRY_INTERVAL_SECONDS",
];

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Returns the names under the first `Variables:` of a part of the template.
fn variables(part: &str) -> BTreeSet<&str> {
    let mut lines = part.lines().skip_while(|line| line.trim() != "Variables:");
    let Some(outer) = lines.next().map(indentation) else { return BTreeSet::new() };
    lines
        .take_while(|line| line.trim().is_empty() || indentation(line) > outer)
        .filter(|line| indentation(line) == outer + 2 && !line.trim().starts_with('#'))
        .filter_map(|line| Some(line.trim().split_once(':')?.0))
        .collect()
}

/// Returns the variables that the template sets in each function, including those of `Globals`.
fn variables_of_the_template(template: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let (head, resources) = template.split_once("\nResources:\n").unwrap();
    let globals = variables(head.split_once("\nGlobals:\n").unwrap().1);
    // Only functions have variables, so the resources between two functions do no harm.
    let functions = resources.split("\n    Type: AWS::Serverless::Function\n").skip(1);
    functions
        .map(|function| {
            let code = function.split_once("CodeUri: ../target/lambda/").unwrap().1;
            (code.split_once('/').unwrap().0, variables(function).union(&globals).copied().collect())
        })
        .collect()
}

/// Returns a valid value of a variable.
fn valid(name: &str) -> &'static str {
    match name {
        "CURRENCY" => "EUR",
        "DEAD_LETTER_QUEUES" => "{}",
        _ => "7",
    }
}

/// Builds an environment in which each variable has a valid value, except that `changed` has the value `value`. If
/// `value` is `None`, `changed` is not set.
fn environment(variables: &[&str], changed: &str, value: Option<&str>) -> Env {
    let variables = variables.iter().filter_map(|&name| {
        let value = if name == changed { value } else { Some(valid(name)) };
        Some((name, value?))
    });
    variables.collect()
}

#[test]
fn the_template_sets_exactly_the_variables_that_each_function_reads() {
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infrastructure/template.yaml");
    let template = std::fs::read_to_string(template).unwrap();
    let mut set = variables_of_the_template(&template);
    for names in set.values_mut() {
        names.retain(|name| !READ_BY_THE_RUNTIME.contains(name));
    }
    let mut read = BTreeMap::new();
    for AnyFunction { name, variables, .. } in functions() {
        let names: BTreeSet<&str> = variables.iter().copied().filter(|name| !SET_BY_AWS.contains(name)).collect();
        read.insert(name, names);
    }
    assert_eq!(set, read);
}

#[test]
fn a_missing_or_empty_variable_is_named() {
    for AnyFunction { name: function, variables, read, .. } in functions() {
        for &name in variables {
            for value in [None, Some(""), Some(" ")] {
                let error = read(&environment(variables, name, value)).unwrap_err();
                assert!(matches!(error, ConfigError::Missing(missing) if missing == name), "{function}: {error}");
            }
        }
    }
}

#[test]
fn an_invalid_value_is_refused_with_the_name_of_its_variable() {
    let mut refused = BTreeSet::new();
    for AnyFunction { name: function, variables, read, .. } in functions() {
        for &name in variables {
            match read(&environment(variables, name, Some("invalid"))) {
                Ok(()) => {}
                Err(ConfigError::Invalid { name: named, .. }) if named == name => {
                    refused.insert(name);
                }
                Err(error) => panic!("{function}: {error}"),
            }
        }
    }
    assert_eq!(refused, BTreeSet::from(PARSED));
}
