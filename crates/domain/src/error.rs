//! What can be wrong with a command, in the vocabulary every door speaks.

use serde::{Deserialize, Serialize};

/// One field of a request that is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// Path of the field as the caller wrote it, e.g. `vehicle.batteryCapacityKwh` or `ports[1].maxPowerKw`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl FieldError {
    /// An error about `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A command refused by the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// The request itself is wrong; every failing field is listed.
    #[error("{}", list(.0))]
    Validation(Vec<FieldError>),
    /// The actor's role or identity does not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It contradicts the present state.
    #[error("{0}")]
    Conflict(Conflict),
}

impl DomainError {
    /// A validation error about one field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Validation(vec![FieldError::new(field, message)])
    }

    /// A conflict that is no illegal transition.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict(Conflict { message: message.into(), transition: None })
    }

    /// `what` named `id` does not exist.
    pub fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        Self::NotFound(format!("there is no {what} {id}"))
    }
}

fn list(errors: &[FieldError]) -> String {
    let parts: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
    parts.join("; ")
}

/// Why a command contradicts the present state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Conflict {
    /// What contradicts what.
    pub message: String,
    /// The transition that was refused, where it was one.
    pub transition: Option<IllegalTransition>,
}

/// A transition that the state machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IllegalTransition {
    /// The present state.
    pub from: &'static str,
    /// The state asked for.
    pub to: &'static str,
    /// The states that can be reached from `from`.
    pub allowed: Vec<&'static str>,
}

/// Collects the failing fields of a request so that all of them are reported, not just the first.
#[derive(Debug, Default)]
pub struct Checks(Vec<FieldError>);

impl Checks {
    /// Nothing checked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records `message` about `field` unless `ok`.
    pub fn require(&mut self, ok: bool, field: impl Into<String>, message: impl Into<String>) -> &mut Self {
        if !ok {
            self.0.push(FieldError::new(field, message));
        }
        self
    }

    /// Records the field errors of a failed part, and hands out what a successful one made.
    ///
    /// # Errors
    /// Never for validation errors, which are kept for [`Checks::finish`]; any other error is passed on.
    pub fn take<T>(&mut self, result: Result<T, DomainError>) -> Result<Option<T>, DomainError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(DomainError::Validation(errors)) => {
                self.0.extend(errors);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// All checks passed, or every failing field.
    ///
    /// # Errors
    /// [`DomainError::Validation`] with every recorded field.
    pub fn finish(self) -> Result<(), DomainError> {
        if self.0.is_empty() { Ok(()) } else { Err(DomainError::Validation(self.0)) }
    }
}
