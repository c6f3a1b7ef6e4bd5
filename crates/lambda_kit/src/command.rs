//! Validation of requests.
//!
//! A request is checked against the JSON Schema of its command before it is parsed. A parser stops at the first error;
//! the schema reports every invalid field by its name.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use boon::{Compiler, ErrorKind, InstanceToken, SchemaIndex, Schemas, ValidationError};
use domain::error::FieldError;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Failure;

/// A type for the arguments of an action.
pub trait Command: DeserializeOwned + JsonSchema + 'static {}

impl<T: DeserializeOwned + JsonSchema + 'static> Command for T {}

/// A compiled JSON Schema together with its source, which gives the types of query parameters.
pub(crate) struct Contract {
    schemas: Schemas,
    index: SchemaIndex,
    schema: Value,
}

/// The address by which the compiler refers to the schema. Nothing is loaded from there.
const ADDRESS: &str = "https://evoke.invalid/command";

static CONTRACTS: LazyLock<RwLock<HashMap<TypeId, Arc<Contract>>>> = LazyLock::new(RwLock::default);

/// Returns the contract of `C`. It is compiled at its first use, so that a cold start pays only for the action it runs.
pub(crate) fn contract<C: Command>() -> Result<Arc<Contract>, Failure> {
    let id = TypeId::of::<C>();
    if let Some(known) = CONTRACTS.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
        return Ok(known.clone());
    }
    let schema = schemars::schema_for!(C).to_value();
    let contract = Arc::new(compile(schema).map_err(Failure::internal)?);
    CONTRACTS.write().unwrap_or_else(PoisonError::into_inner).insert(id, contract.clone());
    Ok(contract)
}

fn compile(schema: Value) -> Result<Contract, String> {
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    compiler.enable_format_assertions();
    compiler.add_resource(ADDRESS, schema.clone()).map_err(|error| error.to_string())?;
    let index = compiler.compile(ADDRESS, &mut schemas).map_err(|error| error.to_string())?;
    Ok(Contract { schemas, index, schema })
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
    if let Err(error) = contract.schemas.validate(arguments, contract.index) {
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
fn explain(error: &ValidationError<'_, '_>, into: &mut Vec<FieldError>) {
    let at = field(error);
    match &error.kind {
        ErrorKind::Group | ErrorKind::Schema { .. } | ErrorKind::Reference { .. } | ErrorKind::AllOf => {
            for cause in &error.causes {
                explain(cause, into);
            }
        }
        ErrorKind::Required { want } => {
            into.extend(want.iter().map(|property| FieldError::new(within(&at, property), "is required")));
        }
        ErrorKind::AnyOf if let Some(names) = alternatives(error) => {
            let message = format!("one of {} is required", names.join(" and "));
            into.push(FieldError::new(within(&at, names[0]), message));
        }
        ErrorKind::AnyOf | ErrorKind::OneOf(None) => {
            let meant = error.causes.iter().min_by_key(|branch| (mismatches(branch, error), leaves(branch).len()));
            match meant {
                Some(branch) => explain(branch, into),
                None => into.push(FieldError::new(at, "matches none of the alternatives")),
            }
        }
        _ => into.push(FieldError::new(at, right(error))),
    }
}

/// Returns the names of the fields of which one is required, if that is what is wrong.
fn alternatives<'s>(error: &ValidationError<'s, '_>) -> Option<Vec<&'s str>> {
    let name = |cause: &ValidationError<'s, '_>| match &cause.kind {
        ErrorKind::Required { want } if want.len() == 1 => want.first().copied(),
        _ => None,
    };
    error.causes.iter().map(name).collect::<Option<Vec<_>>>().filter(|names| !names.is_empty())
}

/// Returns the name of a field within the object `at`, which is empty for the whole value.
fn within(at: &str, field: &str) -> String {
    if at.is_empty() { field.to_owned() } else { format!("{at}.{field}") }
}

/// Describes the value that the schema requires, without repeating the value that was sent.
fn right(error: &ValidationError<'_, '_>) -> String {
    match &error.kind {
        ErrorKind::Type { want, .. } => {
            let kinds: Vec<String> = want.iter().map(|kind| kind.to_string()).collect();
            format!("must be of type {}", kinds.join(" or "))
        }
        ErrorKind::Enum { want } => {
            let names: Vec<&str> = want.iter().filter_map(Value::as_str).collect();
            format!("must be one of {}", names.join(", "))
        }
        ErrorKind::Const { want } => format!("must be {want}"),
        ErrorKind::Minimum { want, .. } => format!("must be {want} or more"),
        ErrorKind::Maximum { want, .. } => format!("must be {want} or less"),
        ErrorKind::ExclusiveMinimum { want, .. } => format!("must be above {want}"),
        ErrorKind::ExclusiveMaximum { want, .. } => format!("must be below {want}"),
        ErrorKind::MinLength { want, .. } => format!("must have at least {want} characters"),
        ErrorKind::MaxLength { want, .. } => format!("must have at most {want} characters"),
        ErrorKind::MinItems { want, .. } => format!("must have at least {want} entries"),
        ErrorKind::MaxItems { want, .. } => format!("must have at most {want} entries"),
        ErrorKind::Pattern { want, .. } => format!("must match {want}"),
        ErrorKind::Format { want, .. } => format!("must be a {want}"),
        ErrorKind::AdditionalProperties { got } => format!("has unknown fields: {}", got.join(", ")),
        ErrorKind::OneOf(Some(_)) => "matches more than one of the alternatives".to_owned(),
        _ => "is invalid".to_owned(),
    }
}

/// Returns the errors of single values within an error.
fn leaves<'a, 's, 'v>(error: &'a ValidationError<'s, 'v>) -> Vec<&'a ValidationError<'s, 'v>> {
    match error.kind {
        ErrorKind::Group | ErrorKind::Schema { .. } | ErrorKind::Reference { .. } | ErrorKind::AllOf => {
            error.causes.iter().flat_map(leaves).collect()
        }
        _ => vec![error],
    }
}

/// Counts the signs that the caller did not mean this alternative: errors about the type of the value itself or about
/// a constant.
fn mismatches(branch: &ValidationError<'_, '_>, whole: &ValidationError<'_, '_>) -> usize {
    let depth = whole.instance_location.tokens.len();
    let is_mismatch = |error: &&&ValidationError<'_, '_>| match error.kind {
        ErrorKind::Const { .. } | ErrorKind::Enum { .. } => true,
        ErrorKind::Type { .. } => error.instance_location.tokens.len() == depth,
        _ => false,
    };
    leaves(branch).iter().filter(is_mismatch).count()
}

/// Returns the name of the field that an error is about, such as `ports[0].maxPowerKw`; empty for the whole value.
fn field(error: &ValidationError<'_, '_>) -> String {
    let mut field = String::new();
    for token in &error.instance_location.tokens {
        match token {
            InstanceToken::Item(index) => {
                // Writing to a String cannot fail.
                let _ = write!(field, "[{index}]");
            }
            InstanceToken::Prop(name) if field.is_empty() => field.push_str(name),
            InstanceToken::Prop(name) => field.extend([".", name]),
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
