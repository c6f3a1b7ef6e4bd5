//! A client of the GraphQL API that signs its requests with the role of the function.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use domain::Instant;
use domain::error::BoxError;
use domain::live::Update;
use lambda_kit::Failure;
use reqwest::{Client, Request, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::mutation::Mutation;

/// The service in the signature.
const SERVICE: &str = "appsync";
const JSON: &str = "application/json";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The time within which the API must answer a mutation.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum length of the excerpt from an answer, characters.
const EXCERPT: usize = 300;

/// The GraphQL API, as the caller of the mutations that publish updates.
#[derive(Debug)]
pub struct Api {
    http: Client,
    url: Url,
    region: String,
    credentials: SharedCredentialsProvider,
}

/// The answer to a GraphQL request.
#[derive(Debug, Default, Deserialize)]
struct GraphqlAnswer {
    #[serde(default)]
    data: Option<Map<String, Value>>,
    #[serde(default)]
    errors: Option<Vec<GraphqlError>>,
}

#[derive(Debug, Deserialize)]
struct GraphqlError {
    #[serde(default, rename = "errorType")]
    kind: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// The reason why an update was not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The API is busy or cannot be reached.
    #[error("the GraphQL API cannot be reached or is busy")]
    Busy(#[source] BoxError),
    /// The API refuses the update, or its answer cannot be understood.
    #[error("the GraphQL API does not publish an update by {field}")]
    Refused {
        /// The mutation.
        field: &'static str,
        source: BoxError,
    },
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Busy(_) => Self::unavailable(error),
            ApiError::Refused { .. } => Self::internal(error),
        }
    }
}

impl Api {
    /// Creates a client of the API at `url`, with the region and the credentials of `sdk`.
    ///
    /// # Errors
    /// An error when there is no region, when there are no credentials, or when TLS is not available on this machine.
    pub fn new(url: Url, sdk: &SdkConfig) -> Result<Self, BoxError> {
        let region = sdk.region().ok_or("there is no region")?.to_string();
        let credentials = sdk.credentials_provider().ok_or("there are no credentials")?;
        let http = Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT).build()?;
        Ok(Self { http, url, region, credentials })
    }

    /// Publishes an update. `now` is the time in the signature.
    pub(crate) async fn publish(&self, update: &Update, now: Instant) -> Result<(), ApiError> {
        let mutation = Mutation::of(update);
        let refused = |source: BoxError| ApiError::Refused { field: mutation.field, source };
        let input = serde_json::to_value(update).map_err(|error| refused(error.into()))?;
        let body = json!({ "query": mutation.document, "variables": { "input": input } }).to_string();
        let credentials = self.credentials.provide_credentials().await;
        let credentials = credentials.map_err(|error| ApiError::Busy(error.into()))?;
        let request = self.signed(body.into_bytes(), credentials, now).map_err(refused)?;
        let answer = self.http.execute(request).await.map_err(|error| ApiError::Busy(error.into()))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| ApiError::Busy(error.into()))?;
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(ApiError::Busy(format!("{status}: {}", excerpt(&text)).into()));
        }
        published(mutation.field, status, &text).map_err(|reason| refused(reason.into()))
    }

    /// Returns the request with this body, signed with `credentials`.
    fn signed(&self, body: Vec<u8>, credentials: Credentials, now: Instant) -> Result<Request, BoxError> {
        let identity = credentials.into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(SystemTime::from(now))
            .settings(SigningSettings::default())
            .build()?
            .into();
        let (url, headers) = (self.url.as_str(), [("content-type", JSON)]);
        let signable = SignableRequest::new("POST", url, headers.into_iter(), SignableBody::Bytes(&body))?;
        let (instructions, _) = sign(signable, &params)?.into_parts();
        let mut request = http::Request::post(url).header("content-type", JSON).body(body)?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(Request::try_from(request)?)
    }
}

/// Checks that an answer confirms the publication of the update. An answer with errors has the status 200, too.
///
/// # Errors
/// The first error of the answer, or an excerpt of an answer without data.
fn published(field: &str, status: StatusCode, text: &str) -> Result<(), String> {
    let answer: GraphqlAnswer = serde_json::from_str(text).unwrap_or_default();
    if let Some(error) = answer.errors.unwrap_or_default().first() {
        let (kind, message) = (error.kind.as_deref().unwrap_or("error"), error.message.as_deref().unwrap_or_default());
        return Err(format!("{status}: {kind}: {}", excerpt(message)));
    }
    let is_published = answer.data.is_some_and(|data| data.get(field).is_some_and(|published| !published.is_null()));
    if status.is_success() && is_published {
        return Ok(());
    }
    Err(format!("{status}: {}", excerpt(text)))
}

fn excerpt(text: &str) -> String {
    text.trim().chars().take(EXCERPT).collect()
}
