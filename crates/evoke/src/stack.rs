//! Access to a deployed stack through its outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use appsync::AppSync;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::Credentials;
use aws_sdk_lambda::primitives::Blob;
use serde_json::Value;

/// What the key of the output with the name of a function ends with.
const FUNCTION_NAME: &str = "FunctionName";

/// The output by which the environment of a stack is found: the name of a function, which ends with it.
const NAMED_AFTER_ENVIRONMENT: (&str, &str) = ("HealthCheckFunctionName", "ev-health-check-");

/// A deployed stack, with the stack of its GraphQL API.
pub struct Stack {
    outputs: BTreeMap<String, String>,
    /// Where the APIs answer this machine, if that is not what the outputs say: by `http`, `graphql` and `realtime`.
    urls: BTreeMap<String, String>,
    config: SdkConfig,
    lambda: Client,
}

impl Stack {
    /// Opens the stack whose outputs are in this file.
    ///
    /// If the outputs contain an `endpoint`, the stack is local and gets dummy credentials. Otherwise the usual AWS
    /// configuration applies.
    pub async fn open(outputs: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(outputs)
            .with_context(|| format!("{} cannot be read: is the stack running? (make up)", outputs.display()))?;
        let written: BTreeMap<String, Value> = serde_json::from_str(&text).context("the outputs cannot be parsed")?;
        let urls = written.get("urls").and_then(Value::as_object).into_iter().flatten();
        let urls = urls.filter_map(|(api, url)| Some((api.clone(), url.as_str()?.to_owned())));
        let urls: BTreeMap<String, String> = urls.collect();
        let texts = written.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())));
        let outputs: BTreeMap<String, String> = texts.collect();
        let mut config = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if let Some(endpoint) = outputs.get("endpoint") {
            config = config
                .endpoint_url(endpoint)
                .credentials_provider(Credentials::new("test", "test", None, None, "local"));
        }
        if let Some(region) = outputs.get("region") {
            config = config.region(Region::new(region.clone()));
        }
        let config = config.load().await;
        Ok(Self { outputs, urls, lambda: Client::new(&config), config })
    }

    /// Opens the stack of this name on AWS.
    pub async fn deployed(name: &str) -> Result<Self> {
        let config = aws_config::load_defaults(BehaviorVersion::v2026_01_12()).await;
        let mut outputs = outputs_of(&config, name).await?;
        let (output, prefix) = NAMED_AFTER_ENVIRONMENT;
        let environment = outputs.get(output).and_then(|name| name.strip_prefix(prefix)).map(str::to_owned);
        // Without the stack of the GraphQL API, what needs none works.
        if let Some(environment) = environment
            && let Ok(more) = outputs_of(&config, &format!("evoke-graphql-{environment}")).await
        {
            outputs.extend(more);
        }
        Ok(Self { outputs, urls: BTreeMap::new(), lambda: Client::new(&config), config })
    }

    /// Returns the AWS configuration for the stack.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Returns an output of the stack.
    pub fn output(&self, key: &str) -> Result<&str> {
        let value = self.outputs.get(key).with_context(|| format!("the stack has no output {key}"))?;
        Ok(value)
    }

    /// Returns the URL of the HTTP API, without a slash at its end.
    pub fn http_api_url(&self) -> Result<&str> {
        self.url("http", "HttpApiUrl")
    }

    /// Returns a client of the GraphQL API.
    pub fn appsync(&self) -> Result<AppSync> {
        AppSync::new(self.url("graphql", "GraphqlUrl")?, self.url("realtime", "RealtimeUrl")?)
    }

    /// Returns the URL of an API. The host name in the output of a local stack need not resolve.
    fn url(&self, api: &str, output: &str) -> Result<&str> {
        self.urls.get(api).map(String::as_str).map_or_else(|| self.output(output), Ok)
    }

    /// Returns all outputs by key.
    pub fn outputs(&self) -> &BTreeMap<String, String> {
        &self.outputs
    }

    /// Returns the names of all functions, which are the names of their binaries.
    pub fn functions(&self) -> Vec<String> {
        self.outputs.keys().filter_map(|key| key.strip_suffix(FUNCTION_NAME)).map(snake_case).collect()
    }

    /// Invokes a function, named by its binary, and returns its answer.
    pub async fn invoke(&self, function: &str, payload: &Value) -> Result<Value> {
        let output = format!("{}{FUNCTION_NAME}", pascal_case(function));
        let name = self.outputs.get(&output).with_context(|| format!("the stack has no function {function}"))?;
        let answer = self.lambda.invoke().function_name(name).payload(Blob::new(payload.to_string())).send().await;
        let answer = answer.with_context(|| format!("{name} cannot be invoked"))?;
        let body = answer.payload.map(Blob::into_inner).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).context("the answer is not JSON")?;
        if answer.function_error.is_some() {
            bail!("{function}: {}: {}", text(&body["errorType"]), text(&body["errorMessage"]));
        }
        Ok(body)
    }

    /// Invokes a function with the payload in a file and prints its answer.
    pub async fn invoke_file(&self, function: &str, file: &Path) -> Result<()> {
        let payload = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let payload: Value =
            serde_json::from_str(&payload).with_context(|| format!("{} is not JSON", file.display()))?;
        let answer = self.invoke(function, &payload).await?;
        println!("{}", serde_json::to_string_pretty(&answer)?);
        Ok(())
    }
}

/// Returns the outputs of a stack on AWS.
async fn outputs_of(config: &SdkConfig, name: &str) -> Result<BTreeMap<String, String>> {
    let answer = aws_sdk_cloudformation::Client::new(config).describe_stacks().stack_name(name).send().await;
    let answer = answer.with_context(|| format!("the stack {name} cannot be read"))?;
    let stack = answer.stacks().first().with_context(|| format!("there is no stack {name}"))?;
    let pairs = stack.outputs().iter();
    let outputs = pairs.filter_map(|output| Some((output.output_key()?.into(), output.output_value()?.into())));
    Ok(outputs.collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Converts a name such as `billing_audit` to `BillingAudit`, the form that names in the template have.
fn pascal_case(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
    };
    name.split('_').map(word).collect()
}

/// Undoes [`pascal_case`].
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// Returns the file with the sample payload of a function. The path is relative to the root of the repository.
pub fn sample(function: &str) -> PathBuf {
    Path::new("events").join(format!("{function}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_is_found_by_the_name_of_its_output_and_has_a_sample() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        for directory in std::fs::read_dir(root.join("crates/functions")).unwrap() {
            let name = directory.unwrap().file_name().into_string().unwrap();
            assert_eq!(snake_case(&pascal_case(&name)), name);
            let content = std::fs::read(root.join(sample(&name))).unwrap_or_else(|error| panic!("{name}: {error}"));
            let payload: Value = serde_json::from_slice(&content).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(payload.is_object(), "{name}: {payload}");
        }
    }
}
