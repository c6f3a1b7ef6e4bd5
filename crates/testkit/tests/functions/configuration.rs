//! The template sets exactly the environment variables that each function reads, and a function whose variable is
//! missing or wrong does not start.

use std::collections::{BTreeMap, BTreeSet};

use domain::error::Chain;
use lambda_kit::{CommonConfig, ConfigError, Env, FromEnv};
use serde_json::{Map, Value};
use testkit::{resources, template};

use crate::{AnyFunction, functions};

/// The variables that AWS sets in every function.
const SET_BY_AWS: [&str; 1] = ["AWS_LAMBDA_FUNCTION_NAME"];
/// The variables that the crate `lambda_runtime` reads itself.
const READ_BY_THE_RUNTIME: [&str; 1] = ["AWS_LAMBDA_LOG_LEVEL"];
/// The variables whose values are parsed. The values of the others are names, which may be any text.
const PARSED: [&str; 13] = [
    "AUTO_CONFIRM",
    "CURRENCY",
    "DEAD_LETTER_QUEUES",
    "ERROR_LOG_RETENTION_DAYS",
    "GRAPHQL_URL",
    "MAIL_SENDER",
    "MAX_REPLAYS",
    "OCM_PAGE_SIZE",
    "REJECTED_MESSAGES_LIMIT",
    "SIMULATOR_INLINE_SESSIONS",
    "SIMULATOR_SHARDS",
    "TELEMETRY_INTERVAL_SECONDS",
    "WALLET_LOW_THRESHOLD",
];

/// Returns the variables that a part of the template sets.
fn variables(part: &Value) -> BTreeSet<&str> {
    let variables = part["Environment"]["Variables"].as_object();
    variables.into_iter().flat_map(Map::keys).map(String::as_str).collect()
}

/// Returns the variables that the template sets in each function, including those of `Globals`.
fn variables_of_the_template() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let globals = variables(&template()["Globals"]["Function"]);
    let functions = resources("AWS::Serverless::Function").into_iter();
    functions
        .map(|(_, function)| {
            let code = function["CodeUri"].as_str().unwrap();
            let (_, name) = code.trim_end_matches('/').rsplit_once("../target/lambda/").unwrap();
            (name, variables(function).union(&globals).copied().collect())
        })
        .collect()
}

/// Returns a valid value of a variable.
fn valid(name: &str) -> &'static str {
    match name {
        "CURRENCY" => "EUR",
        "DEAD_LETTER_QUEUES" => "{}",
        "AUTO_CONFIRM" => "true",
        "GRAPHQL_URL" => "http://localhost/graphql",
        "MAIL_SENDER" => "none",
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
    let mut set = variables_of_the_template();
    for names in set.values_mut() {
        names.retain(|name| !READ_BY_THE_RUNTIME.contains(name));
    }
    let mut read = BTreeMap::new();
    for AnyFunction { name, variables, .. } in functions() {
        let variables = variables.iter().chain(CommonConfig::VARIABLES).copied();
        let names: BTreeSet<&str> = variables.filter(|name| !SET_BY_AWS.contains(name)).collect();
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
    for &name in CommonConfig::VARIABLES {
        for value in [None, Some(""), Some(" ")] {
            let error = CommonConfig::from_env(&environment(CommonConfig::VARIABLES, name, value)).unwrap_err();
            assert!(matches!(error, ConfigError::Missing(missing) if missing == name), "{error}");
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

#[test]
fn the_error_about_a_json_variable_does_not_show_its_value() {
    let name = "DEAD_LETTER_QUEUES";
    let AnyFunction { variables, read, .. } = functions().into_iter().find(|f| f.variables.contains(&name)).unwrap();
    let error = read(&environment(variables, name, Some(r#"{"arn:of:a:queue": 1}"#))).unwrap_err();
    let text = format!("{error:?} {}", Chain(&error));
    assert!(text.contains(&format!("environment variable {name} is wrong: invalid type")), "{text}");
    assert!(!text.contains("arn:of:a:queue"), "{text}");
}
