use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

/// An environment variable that is missing or invalid. The function does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The variable is not set, or it is empty.
    #[error("environment variable {0} is not set")]
    Missing(&'static str),
    /// The variable has a value that cannot be used.
    #[error("environment variable {name} is wrong: {reason}")]
    Invalid {
        /// The name of the variable.
        name: &'static str,
        /// The reason why the value cannot be used.
        reason: String,
    },
}

/// The environment variables, read once at the start. No other code in the workspace reads environment variables.
#[derive(Clone, Debug, Default)]
pub struct Env(HashMap<String, String>);

impl Env {
    /// Reads the environment of the process.
    #[must_use]
    pub fn of_process() -> Self {
        Self(std::env::vars().collect())
    }

    /// Returns the value of a variable that must be set and must not be empty.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] when the variable is missing or empty.
    pub fn required(&self, name: &'static str) -> Result<String, ConfigError> {
        self.optional(name).ok_or(ConfigError::Missing(name))
    }

    /// Returns the value of a variable, or `None` if it is missing or empty.
    #[must_use]
    pub fn optional(&self, name: &'static str) -> Option<String> {
        self.0.get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Parses the value of a variable, or returns `default` if the variable is missing or empty.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when the value cannot be parsed.
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

    /// Returns the entries of a comma-separated list. The list is empty if the variable is missing.
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
