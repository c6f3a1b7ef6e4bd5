use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

/// A setting that is missing or cannot be understood. The function does not start with it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not set.
    #[error("environment variable {0} is not set")]
    Missing(&'static str),
    /// It is set to something else than what it should be.
    #[error("environment variable {name} is wrong: {reason}")]
    Invalid {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// The environment, read once at the start. Nothing else in the workspace reads variables.
#[derive(Clone, Debug, Default)]
pub struct Env(HashMap<String, String>);

impl Env {
    /// The process's environment.
    #[must_use]
    pub fn of_process() -> Self {
        Self(std::env::vars().collect())
    }

    /// A variable that must be set and not be empty.
    ///
    /// # Errors
    /// When it is missing or empty.
    pub fn required(&self, name: &'static str) -> Result<String, ConfigError> {
        self.optional(name).ok_or(ConfigError::Missing(name))
    }

    /// A variable that may be missing; an empty one counts as missing.
    #[must_use]
    pub fn optional(&self, name: &'static str) -> Option<String> {
        self.0.get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// A variable of another type than text, with a default.
    ///
    /// # Errors
    /// When it is set to something that cannot be parsed.
    pub fn parsed<T>(&self, name: &'static str, default: T) -> Result<T, ConfigError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(text) = self.optional(name) else {
            return Ok(default);
        };
        text.parse().map_err(|error: T::Err| ConfigError::Invalid { name, reason: format!("{text:?}: {error}") })
    }

    /// A comma-separated list; empty when it is missing.
    #[must_use]
    pub fn list(&self, name: &'static str) -> Vec<String> {
        let text = self.optional(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Env {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}
