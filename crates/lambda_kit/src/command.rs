//! Validation of requests.
//!
//! A request is checked against the JSON Schema of its command before it is parsed. A parser stops at the first error;
//! the schema reports every invalid field by its name.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use domain::error::FieldError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Failure;

/// A type for the arguments of an action.
pub trait Command: DeserializeOwned + JsonSchema + 'static {}

impl<T: DeserializeOwned + JsonSchema + 'static> Command for T {}

/// A compiled JSON Schema together with its source, which gives the types of query parameters.
pub(crate) struct Contract {
    validator: Validator,
    schema: Value,
}

static CONTRACTS: LazyLock<RwLock<HashMap<TypeId, Arc<Contract>>>> = LazyLock::new(RwLock::default);

/// Returns the contract of `C`. It is compiled at its first use, so that a cold start pays only for the action it runs.
pub(crate) fn contract<C: Command>() -> Result<Arc<Contract>, Failure> {
    let id = TypeId::of::<C>();
    if let Some(known) = CONTRACTS.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
        return Ok(known.clone());
    }
    let schema = schemars::schema_for!(C).to_value();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).map_err(Failure::internal)?;
    let contract = Arc::new(Contract { validator, schema });
    CONTRACTS.write().unwrap_or_else(PoisonError::into_inner).insert(id, contract.clone());
    Ok(contract)
}

/// Validates `arguments` and parses them.
///
/// # Errors
/// [`Code::Validation`](crate::Code::Validation), with one entry for each field that is missing, out of range, of the
/// wrong type or outside its enumeration.
pub fn validate<C: Command>(arguments: &Value) -> Result<C, Failure> {
    validate_at("", arguments)
}

/// Works like [`validate`] for an object that is the field `at` of a request: the names of the fields begin with `at`.
pub(crate) fn validate_at<C: Command>(at: &str, arguments: &Value) -> Result<C, Failure> {
    let contract = contract::<C>()?;
    let mut errors = Vec::new();
    for error in contract.validator.iter_errors(arguments) {
        explain(&error, &mut errors);
    }
    if !errors.is_empty() {
        errors.dedup();
        for error in &mut errors {
            error.field = join(at, &error.field);
        }
        return Err(Failure::invalid_fields(errors));
    }
    serde_path_to_error::deserialize(whole_numbers(arguments)).map_err(|error| {
        let path = error.path().to_string();
        Failure::invalid(join(at, &path), error.into_inner().to_string())
    })
}

/// `arguments` with whole numbers as integers: to JSON Schema 76.0 is an integer, to Rust it is not.
fn whole_numbers(arguments: &Value) -> Value {
    match arguments {
        Value::Number(number) => {
            #[allow(clippy::cast_possible_truncation)] // it is compared below
            let whole = number.as_f64().filter(|_| number.is_f64()).map(|number| (number, number as i64));
            #[allow(clippy::cast_precision_loss, clippy::float_cmp)] // only a number that stays the same is replaced
            let whole = whole.filter(|(number, whole)| *whole as f64 == *number && whole.unsigned_abs() < 1 << 53);
            whole.map_or_else(|| arguments.clone(), |(_, whole)| whole.into())
        }
        Value::Array(items) => items.iter().map(whole_numbers).collect(),
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), whole_numbers(field))).collect(),
        _ => arguments.clone(),
    }
}

fn join(at: &str, field: &str) -> String {
    match (at, field) {
        ("", "" | ".") => "payload".to_owned(),
        ("", field) => field.to_owned(),
        (at, "" | ".") => at.to_owned(),
        (at, field) => format!("{at}.{field}"),
    }
}

/// Flattens an error into errors of single fields. If the schema has alternatives, only the errors of the alternative
/// that the caller most likely meant are reported.
fn explain(error: &ValidationError<'_>, into: &mut Vec<FieldError>) {
    let at = field(error.instance_path().as_str());
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let property = property.as_str().map_or_else(|| property.to_string(), str::to_owned);
            let field = if at.is_empty() { property } else { format!("{at}.{property}") };
            into.push(FieldError::new(field, "is required"));
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            let meant = context.iter().min_by_key(|branch| (mismatches(branch, error), branch.len()));
            match meant {
                Some(branch) if !branch.is_empty() => {
                    for error in branch {
                        explain(error, into);
                    }
                }
                _ => into.push(FieldError::new(at, error.masked().to_string())),
            }
        }
        _ => into.push(FieldError::new(at, right(error))),
    }
}

/// Describes the value that the schema requires, without repeating the value that was sent.
fn right(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::Type { kind } => match kind {
            TypeKind::Single(kind) => format!("must be of type {kind}"),
            TypeKind::Multiple(kinds) => {
                let kinds: Vec<String> = kinds.iter().map(|kind| kind.to_string()).collect();
                format!("must be of type {}", kinds.join(" or "))
            }
        },
        ValidationErrorKind::Enum { options } => {
            let names = options.as_array().map(Vec::as_slice).unwrap_or_default();
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            format!("must be one of {}", names.join(", "))
        }
        ValidationErrorKind::Constant { expected_value } => format!("must be {expected_value}"),
        ValidationErrorKind::Minimum { limit } => format!("must be {limit} or more"),
        ValidationErrorKind::Maximum { limit } => format!("must be {limit} or less"),
        ValidationErrorKind::ExclusiveMinimum { limit } => format!("must be above {limit}"),
        ValidationErrorKind::ExclusiveMaximum { limit } => format!("must be below {limit}"),
        ValidationErrorKind::MinLength { limit } => {
            format!("must have at least {limit} characters")
        }
        ValidationErrorKind::MaxLength { limit } => format!("must have at most {limit} characters"),
        ValidationErrorKind::MinItems { limit } => format!("must have at least {limit} entries"),
        ValidationErrorKind::MaxItems { limit } => format!("must have at most {limit} entries"),
        ValidationErrorKind::Pattern { pattern } => format!("must match {pattern}"),
        ValidationErrorKind::Format { format } => format!("must be a {format}"),
        _ => error.masked().to_string(),
    }
}

/// Counts the signs that the caller did not mean this alternative: errors about the type of the value itself or about
/// a constant.
fn mismatches(branch: &[ValidationError<'_>], whole: &ValidationError<'_>) -> usize {
    let here = whole.instance_path().as_str();
    let is_mismatch = |error: &&ValidationError<'_>| match error.kind() {
        ValidationErrorKind::Constant { .. } | ValidationErrorKind::Enum { .. } => true,
        ValidationErrorKind::Type { .. } => error.instance_path().as_str() == here,
        _ => false,
    };
    branch.iter().filter(is_mismatch).count()
}

/// Converts a JSON pointer such as `/ports/0/maxPowerKw` to a field name such as `ports[0].maxPowerKw`.
fn field(pointer: &str) -> String {
    let mut field = String::new();
    for part in pointer.split('/').skip(1) {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            field.extend(["[", part, "]"]);
        } else {
            if !field.is_empty() {
                field.push('.');
            }
            field.push_str(&part.replace("~1", "/").replace("~0", "~"));
        }
    }
    field
}

impl Contract {
    /// Converts a query parameter to JSON. The text stays text unless the schema requires a number or a boolean.
    pub(crate) fn query_value(&self, name: &str, text: &str) -> Value {
        let types = &self.schema["properties"][name]["type"];
        let wants = |kind: &str| types == kind || types.as_array().is_some_and(|all| all.iter().any(|t| t == kind));
        if (wants("number") || wants("integer") || wants("boolean"))
            && let Ok(value @ (Value::Number(_) | Value::Bool(_))) = serde_json::from_str(text)
        {
            return value;
        }
        Value::String(text.to_owned())
    }
}
