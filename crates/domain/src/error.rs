//! The errors of commands, in the vocabulary that all entry points (HTTP, direct invocation, events) share, and how the
//! log displays any error.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A wrong field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// Path of the field as the caller wrote it, e.g. `vehicle.batteryCapacityKwh` or `ports[1].maxPowerKw`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl FieldError {
    /// Creates an error about `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// The refusal of a command by the business rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// The request itself is wrong. The error lists every failing field.
    #[error("{}", list(.0))]
    Validation(Vec<FieldError>),
    /// The actor's role or identity does not allow the command.
    #[error("{0}")]
    Forbidden(String),
    /// The requested item does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The command conflicts with the current state.
    #[error("{0}")]
    Conflict(Conflict),
}

impl DomainError {
    /// Creates a validation error about one field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Validation(vec![FieldError::new(field, message)])
    }

    /// Creates a conflict that is not an illegal transition.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict(Conflict { message: message.into(), transition: None })
    }

    /// Creates the error for a `what` with id `id` that does not exist.
    pub fn not_found(what: &str, id: impl fmt::Display) -> Self {
        Self::NotFound(format!("there is no {what} {id}"))
    }
}

fn list(errors: &[FieldError]) -> String {
    let parts: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
    parts.join("; ")
}

/// Why a command conflicts with the current state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Conflict {
    /// Description of the conflict.
    pub message: String,
    /// The refused transition, if the conflict is an illegal transition.
    pub transition: Option<IllegalTransition>,
}

/// A transition that the state machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IllegalTransition {
    /// The current state.
    pub from: &'static str,
    /// The requested state.
    pub to: &'static str,
    /// The states that can be reached from `from`.
    pub allowed: Vec<&'static str>,
}

/// Collects the failing fields of a request so that all of them are reported, not only the first.
#[derive(Debug, Default)]
pub struct Checks(Vec<FieldError>);

impl Checks {
    /// Creates an empty collection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records `message` about `field` unless `ok` is true.
    pub fn require(&mut self, ok: bool, field: impl Into<String>, message: impl Into<String>) -> &mut Self {
        if !ok {
            self.0.push(FieldError::new(field, message));
        }
        self
    }

    /// Records the field errors of a failed result, or returns the value of a successful one.
    ///
    /// # Errors
    /// Any error other than `Validation`. Validation errors are recorded for [`Checks::finish`] instead, and the result
    /// is `None`.
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

    /// Returns `Ok` if no check failed.
    ///
    /// # Errors
    /// [`DomainError::Validation`] with every recorded field.
    pub fn finish(self) -> Result<(), DomainError> {
        if self.0.is_empty() { Ok(()) } else { Err(DomainError::Validation(self.0)) }
    }
}

/// An error of any type, as the source of another error.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Displays an error and its sources, outermost first, separated by `: `. It is for the log: the message of an error
/// does not contain its source.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut next = self.0.source();
        while let Some(source) = next {
            let text = source.to_string();
            // Some errors, such as those of the AWS SDK, display the text of their source.
            if text != last {
                write!(f, ": {text}")?;
            }
            last = text;
            next = source.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] BoxError);

    #[test]
    fn a_chain_displays_every_source_once() {
        let chain = Link("a", Link("b", Link("b", "c".into()).into()).into());
        assert_eq!(Chain(&chain).to_string(), "a: b: c");
        assert_eq!(Chain(&DomainError::conflict("alone")).to_string(), "alone");
    }
}
