//! Requests are checked against the JSON Schema of their command before they are parsed, so that every failing field
//! is reported, by its name, and not just the first.

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

/// The arguments of an action.
pub trait Command: DeserializeOwned + JsonSchema + 'static {}

impl<T: DeserializeOwned + JsonSchema + 'static> Command for T {}

/// A compiled schema with its source, which says the types of query parameters.
pub(crate) struct Contract {
    validator: Validator,
    schema: Value,
}

static CONTRACTS: LazyLock<RwLock<HashMap<TypeId, Arc<Contract>>>> = LazyLock::new(RwLock::default);

/// The contract of `C`, compiled at its first use: a cold start pays only for the action it serves.
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

/// Checks `arguments` and parses them.
///
/// # Errors
/// A validation failure naming every field that is missing, mistyped, out of range or unknown to its enumeration.
pub fn validate<C: Command>(arguments: &Value) -> Result<C, Failure> {
    validate_at("", arguments)
}

/// As [`validate`], for an object that is itself the field `at` of a request.
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
            let whole = whole.filter(|(number, whole)| *whole as f64 == *number && whole.abs() < 1 << 53);
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

/// Flattens an error: of alternatives, those of the one that was most likely meant.
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

/// What would be right, without repeating what was sent.
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

/// How plainly a branch is not what was meant: it names another type or another constant.
fn mismatches(branch: &[ValidationError<'_>], whole: &ValidationError<'_>) -> usize {
    let here = whole.instance_path().as_str();
    let is_mismatch = |error: &&ValidationError<'_>| match error.kind() {
        ValidationErrorKind::Constant { .. } | ValidationErrorKind::Enum { .. } => true,
        ValidationErrorKind::Type { .. } => error.instance_path().as_str() == here,
        _ => false,
    };
    branch.iter().filter(is_mismatch).count()
}

/// `/ports/0/maxPowerKw` as `ports[0].maxPowerKw`.
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
    /// A query parameter as the JSON that the command wants: text stays text unless a number or boolean is meant.
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
