//! A client of OpenChargeMap's API.

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use domain::Instant;
use domain::error::{BoxError, Chain};
use domain::poi::mirror::SourceStatus;
use domain::poi::time_of;
use lambda_kit::{AwsError, Failure};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

/// The user agent. OpenChargeMap's policy asks every client to identify itself.
const USER_AGENT: &str = concat!("evoke-ocm-sync/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time without a byte after which an answer counts as hanging.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// The maximum length of the excerpt from an error answer, characters.
const EXCERPT: usize = 200;

/// The source of the mirror: OpenChargeMap's API.
#[derive(Debug)]
pub struct Source {
    http: Client,
    base_url: String,
    key: ApiKey,
    page_size: u32,
}

/// The API key, a parameter of the AWS Systems Manager. It is read when it is first needed.
#[derive(Debug)]
pub struct ApiKey {
    client: aws_sdk_ssm::Client,
    name: String,
    known: Mutex<Option<String>>,
}

/// The reason why a request to the source failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source refuses the API key.
    #[error("OpenChargeMap refuses the API key of the parameter {parameter} (403): {message}")]
    Refused {
        /// The name of the parameter that contains the key.
        parameter: String,
        /// The message of the source.
        message: String,
    },
    /// The API key cannot be read.
    #[error("the API key cannot be read from the parameter {parameter}")]
    NoKey {
        /// The name of the parameter.
        parameter: String,
        /// Why it cannot be read.
        source: BoxError,
    },
    /// The source is overloaded, temporarily broken or unreachable.
    #[error("OpenChargeMap cannot be reached or is busy")]
    Busy {
        /// The error or the unexpected answer.
        source: BoxError,
        /// The pause that the source requests by `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The source gives an answer that its API does not define.
    #[error("OpenChargeMap does not answer as its API should")]
    Unexpected(#[source] BoxError),
}

/// An answer that is not the JSON that its path should have.
#[derive(Debug, thiserror::Error)]
#[error("the answer of {path} cannot be parsed")]
struct Unparsable {
    path: String,
    source: serde_json::Error,
}

impl SourceError {
    pub(crate) fn busy(source: impl Into<BoxError>) -> Self {
        Self::Busy { source: source.into(), retry_after: None }
    }

    pub(crate) fn unexpected(source: impl Into<BoxError>) -> Self {
        Self::Unexpected(source.into())
    }

    /// Returns how long to wait before the next attempt: `delay`, or longer if the source requests it. Returns `None`
    /// if another attempt cannot help.
    pub(crate) fn retry_in(&self, delay: Duration) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => Some(retry_after.unwrap_or_default().max(delay)),
            _ => None,
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        // The callers of this function operate the platform, so they may see what is wrong with the source. Of an SDK
        // error they see the kind alone: the rest can name roles and accounts.
        let message = match &error {
            SourceError::NoKey { source, .. } => format!("{error}: {}", source.source().unwrap_or(&**source)),
            _ => Chain(&error).to_string(),
        };
        Self::Unavailable { message, source: Arc::new(error) }
    }
}

impl ApiKey {
    /// Creates a key that is stored in the parameter `name`.
    #[must_use]
    pub fn parameter(sdk: &SdkConfig, name: impl Into<String>) -> Self {
        Self { client: aws_sdk_ssm::Client::new(sdk), name: name.into(), known: Mutex::default() }
    }

    async fn get(&self) -> Result<String, SourceError> {
        let mut known = self.known.lock().await;
        if let Some(key) = &*known {
            return Ok(key.clone());
        }
        let no_key = |source: BoxError| SourceError::NoKey { parameter: self.name.clone(), source };
        let answer = self.client.get_parameter().name(&self.name).with_decryption(true).send().await;
        let answer = answer.map_err(|error| no_key(AwsError::from(error).into()))?;
        let value = answer.parameter.and_then(|parameter| parameter.value).unwrap_or_default().trim().to_owned();
        if value.is_empty() {
            return Err(no_key("it is empty".into()));
        }
        Ok(known.insert(value).clone())
    }

    /// Discards the cached key, so that the next call reads it again. The key may have been replaced.
    async fn forget(&self) {
        *self.known.lock().await = None;
    }
}

#[derive(Deserialize)]
struct StatusAnswer {
    #[serde(rename = "POIDataLastModified")]
    last_modified: Option<String>,
    #[serde(rename = "POIDataLastCreated")]
    last_created: Option<String>,
    #[serde(rename = "MaxPOIId")]
    max_id: Option<u32>,
    #[serde(rename = "DataHash")]
    data_hash: Option<String>,
}

impl Source {
    /// Creates a client for the API at `base_url` (e.g. `https://api.openchargemap.io`) that requests `page_size`
    /// records at a time.
    ///
    /// # Errors
    /// Returns a [`reqwest::Error`] when TLS is not available on this machine.
    pub fn new(base_url: impl Into<String>, key: ApiKey, page_size: u32) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(IDLE_TIMEOUT)
            .redirect(Policy::custom(stay))
            .build()?;
        Ok(Self { http, base_url: base_url.into().trim_end_matches('/').to_owned(), key, page_size })
    }

    /// Requests the status of the source.
    pub(crate) async fn status(&self) -> Result<SourceStatus, SourceError> {
        let answer: StatusAnswer = self.get_json("/v3/system/status").await?;
        let time = |text: Option<String>| text.as_deref().and_then(time_of);
        Ok(SourceStatus {
            last_modified: time(answer.last_modified),
            last_created: time(answer.last_created),
            max_id: answer.max_id,
            data_hash: answer.data_hash,
        })
    }

    /// Requests the reference data.
    pub(crate) async fn reference_data(&self) -> Result<Value, SourceError> {
        self.get_json("/v3/referencedata/").await
    }

    /// Requests one page of the records with ids greater than `above`, in the order of their ids. With `since` it
    /// contains only records changed at that time or later.
    pub(crate) async fn page(&self, above: u32, since: Option<Instant>) -> Result<Response, SourceError> {
        let mut query = vec![
            ("output", "json".to_owned()),
            ("compact", "true".to_owned()),
            ("verbose", "false".to_owned()),
            ("camelcase", "false".to_owned()),
            ("sortby", "id_asc".to_owned()),
            ("maxresults", self.page_size.to_string()),
            ("greaterthanid", above.to_string()),
        ];
        // The time is UTC and has no zone designator, because with one the API interprets it as a different time.
        query.extend(since.map(|since| ("modifiedsince", since.format("%Y-%m-%dT%H:%M:%S").to_string())));
        self.get("/v3/poi", &query).await
    }

    async fn get_json<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, SourceError> {
        let answer = self.get(path, &[]).await?;
        let body = answer.bytes().await.map_err(SourceError::busy)?;
        // A parse error counts as busy, because such a body is usually truncated.
        let parsed = serde_json::from_slice(&body);
        parsed.map_err(|source| SourceError::busy(Unparsable { path: path.to_owned(), source }))
    }

    async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Response, SourceError> {
        let request = self.http.get(format!("{}{path}", self.base_url)).query(query);
        let answer = request.header("X-API-Key", self.key.get().await?).send().await;
        let answer = answer.map_err(SourceError::busy)?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                self.key.forget().await;
                let message = excerpt(answer).await;
                Err(SourceError::Refused { parameter: self.key.name.clone(), message })
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
                let retry_after = retry_after.and_then(|text| text.parse().ok()).map(Duration::from_secs);
                Err(SourceError::Busy { source: format!("{path}: {status}").into(), retry_after })
            }
            status => Err(SourceError::unexpected(format!("{path}: {status}: {}", excerpt(answer).await))),
        }
    }
}

/// Follows redirects only within the origin of the source, so that the API key is never sent to another server.
fn stay(attempt: Attempt) -> Action {
    let origin = attempt.previous().first().map(reqwest::Url::origin);
    if attempt.previous().len() < 5 && origin == Some(attempt.url().origin()) {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

async fn excerpt(answer: Response) -> String {
    answer.text().await.unwrap_or_default().trim().chars().take(EXCERPT).collect()
}
