use std::collections::HashMap;
use std::str::FromStr;

use domain::error::BoxError;

/// The value of a variable that names an optional part, if the part is off.
const NONE: &str = "none";

/// The configuration of a function: a type with one field for each environment variable that the function reads.
///
/// [`run`](crate::run) reads the configuration once, when the function starts. There are no defaults: the template sets
/// every variable, except those that AWS sets itself.
///
/// ```
/// use lambda_kit::{ConfigError, Env, FromEnv};
///
/// struct Config {
///     table: String,
///     shards: u32,
/// }
///
/// impl FromEnv for Config {
///     const VARIABLES: &'static [&'static str] = &["TABLE", "SHARDS"];
///
///     fn from_env(env: &Env) -> Result<Self, ConfigError> {
///         Ok(Self { table: env.required("TABLE")?, shards: env.parsed("SHARDS")? })
///     }
/// }
///
/// let env: Env = [("TABLE", "ev-stations-dev"), ("SHARDS", "16")].into_iter().collect();
/// let config = Config::from_env(&env)?;
/// assert_eq!((config.table.as_str(), config.shards), ("ev-stations-dev", 16));
/// # Ok::<(), ConfigError>(())
/// ```
pub trait FromEnv: Sized {
    /// The names of all environment variables that [`from_env`](Self::from_env) reads. A test compares the names with
    /// the template.
    const VARIABLES: &'static [&'static str];

    /// Reads and parses the variables.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] when a variable is missing or empty. [`ConfigError::Invalid`] when a value cannot be
    /// parsed.
    fn from_env(env: &Env) -> Result<Self, ConfigError>;
}

/// An environment variable that is missing or invalid. The function does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The variable is not set, or it is empty.
    #[error("environment variable {0} is not set")]
    Missing(&'static str),
    /// The variable has a value that cannot be used.
    #[error("environment variable {name} is wrong{}", shown(.value.as_deref()))]
    Invalid {
        /// The name of the variable.
        name: &'static str,
        /// The value; `None` if it is JSON, which may be long and is not for the log.
        value: Option<String>,
        /// Why the value cannot be used.
        source: BoxError,
    },
}

fn shown(value: Option<&str>) -> String {
    value.map(|value| format!(": {value:?}")).unwrap_or_default()
}

/// The environment variables, read once at the start. No other code in the workspace reads environment variables.
#[derive(Clone, Debug, Default)]
pub struct Env(HashMap<String, String>);

impl Env {
    /// Reads the environment of the process.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars().collect()
    }

    /// Returns the value of a variable, without spaces around it.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] when the variable is missing or empty.
    pub fn required(&self, name: &'static str) -> Result<String, ConfigError> {
        self.optional(name).ok_or(ConfigError::Missing(name))
    }

    /// Returns the value of a variable that names an optional part, or `None` if it is `none`.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] when the variable is missing or empty.
    pub fn required_or_none(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        Ok(Some(self.required(name)?).filter(|value| value != NONE))
    }

    /// Returns the value of a variable that may be missing or empty.
    pub(crate) fn optional(&self, name: &str) -> Option<String> {
        let value = self.0.get(name).map(|value| value.trim().to_owned());
        value.filter(|value| !value.is_empty())
    }

    /// Parses the value of a variable.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] when the variable is missing or empty. [`ConfigError::Invalid`] when the value cannot
    /// be parsed.
    pub fn parsed<T>(&self, name: &'static str) -> Result<T, ConfigError>
    where
        T: FromStr,
        T::Err: Into<BoxError>,
    {
        let text = self.required(name)?;
        text.parse().map_err(|error: T::Err| ConfigError::Invalid { name, source: error.into(), value: Some(text) })
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Env {
    /// Creates an environment from names and values.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
