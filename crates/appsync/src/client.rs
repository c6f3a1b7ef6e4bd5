use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::live::{self, Live};
use crate::{Authorization, Credentials, Error, GraphQlError, Subscription};

/// The maximum time until the answer to a request. The API waits for a function for 30 s.
const PATIENCE: Duration = Duration::from_secs(35);

/// A client of the GraphQL API. Clones share their connections.
#[derive(Clone, Debug)]
pub struct AppSync {
    http: Client,
    endpoint: Endpoint,
}

/// The addresses of the API.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The URL for queries and mutations.
    pub url: String,
    /// The URL for subscriptions.
    pub realtime_url: String,
    /// The host of `url`, which WebSocket clients repeat in each authorization.
    pub host: String,
}

/// The answer to a query or a mutation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// The results by field. A field that failed is null.
    pub data: Value,
    /// The errors; empty if everything succeeded.
    pub errors: Vec<GraphQlError>,
}

impl Answer {
    /// Returns the result of a field.
    ///
    /// # Errors
    /// [`Error::Refused`] if the answer has errors, [`Error::Unexpected`] if the result is no `T`.
    pub fn field<T: DeserializeOwned>(mut self, field: &str) -> Result<T, Error> {
        if !self.errors.is_empty() {
            return Err(Error::Refused(self.errors));
        }
        Ok(serde_json::from_value(self.data.get_mut(field).map(Value::take).unwrap_or_default())?)
    }
}

impl AppSync {
    /// Creates a client of the API with these addresses, on AWS `https://…/graphql` and `wss://…/graphql`: the outputs
    /// `GraphqlUrl` and `RealtimeUrl` of the stack.
    ///
    /// # Errors
    /// When `url` is no URL with a host.
    pub fn new(url: &str, realtime_url: &str) -> anyhow::Result<Self> {
        let parsed = Url::parse(url)?;
        let host = parsed.host_str().ok_or_else(|| anyhow::anyhow!("{url} has no host"))?;
        let host = parsed.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let http = Client::builder().timeout(PATIENCE).build()?;
        let endpoint = Endpoint { url: url.to_owned(), realtime_url: realtime_url.to_owned(), host };
        Ok(Self { http, endpoint })
    }

    /// Executes a document, and returns the answer, which may have errors.
    ///
    /// # Errors
    /// When the API cannot be reached, or the answer is not one of a GraphQL API.
    pub async fn execute(
        &self,
        authorization: &Authorization,
        document: &str,
        variables: &Value,
    ) -> Result<Answer, Error> {
        let (name, value) = authorization.header();
        let request = self.http.post(&self.endpoint.url).header(name, value);
        let answer = request.json(&json!({ "query": document, "variables": variables })).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        let answer: Answer = serde_json::from_str(&text).unwrap_or_default();
        if answer.data.is_null() && answer.errors.is_empty() {
            return Err(Error::Unintelligible(format!("{status}: {text}")));
        }
        Ok(answer)
    }

    /// Executes a document, and returns the result of one of its fields.
    ///
    /// # Errors
    /// When there is no answer, or the answer has errors, or the result is no `T`.
    pub async fn call<T: DeserializeOwned>(
        &self,
        authorization: &Authorization,
        field: &str,
        document: &str,
        variables: &Value,
    ) -> Result<T, Error> {
        self.execute(authorization, document, variables).await?.field(field)
    }

    /// Starts subscriptions. They share one WebSocket, which the client opens again whenever the WebSocket breaks.
    ///
    /// `T` is the type of an update: [`Update`](crate::Update), or a [`Value`] with the field of the subscription.
    #[must_use]
    pub fn subscribe<T>(&self, credentials: Arc<dyn Credentials>, subscriptions: Vec<Subscription>) -> Live<T>
    where
        T: DeserializeOwned + Send + 'static,
    {
        live::start(self.endpoint.clone(), credentials, subscriptions)
    }
}
