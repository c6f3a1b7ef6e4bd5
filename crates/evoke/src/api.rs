//! The HTTP API of the deployed stack, as the application of a driver uses it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use appsync::{Authorization, Credentials};
use aws_config::SdkConfig;
use aws_sdk_cognitoidentityprovider::types::AttributeType;
use futures::future::BoxFuture;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::stack::Stack;

/// The maximum time until the answer to a request. API Gateway waits for 30 s.
const PATIENCE: Duration = Duration::from_secs(35);
/// The time before the end of an access token from which a new one is fetched.
const EARLY: Duration = Duration::from_mins(1);

/// The HTTP API of a stack.
#[derive(Clone)]
pub struct Api {
    config: SdkConfig,
    user_pool_id: String,
    client: Client,
    url: String,
}

/// An account whose user has signed in.
#[derive(Clone)]
pub struct Account {
    /// The id of the user.
    pub user_id: String,
    /// The access token.
    token: String,
    /// The time from which a new access token is needed.
    until: Instant,
}

impl Account {
    /// Returns the authorization of the user for the GraphQL API.
    pub fn authorization(&self) -> Authorization {
        Authorization::Token(self.token.clone())
    }
}

/// A user who stays signed in: signs in again, with the same password, whenever a new access token is needed.
pub struct SignIn {
    api: Api,
    email: String,
    password: String,
    account: Mutex<Account>,
}

impl SignIn {
    /// Returns the account, with an access token that is still valid for a while.
    pub async fn account(&self) -> Result<Account> {
        self.renewed(None).await?.context("the user may no longer sign in")
    }

    /// Returns the account with a valid access token other than `refused`. `None` means that the user may no longer
    /// sign in.
    async fn renewed(&self, refused: Option<&Authorization>) -> Result<Option<Account>> {
        let mut account = self.account.lock().await;
        if Some(&account.authorization()) == refused || Instant::now() >= account.until {
            match self.api.try_log_in(&self.email, &self.password).await? {
                Ok(renewed) => *account = renewed,
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(account.clone()))
    }
}

impl Credentials for SignIn {
    fn authorization<'a>(&'a self, refused: Option<&'a Authorization>) -> BoxFuture<'a, Result<Option<Authorization>>> {
        Box::pin(async move { Ok(self.renewed(refused).await?.map(|account| account.authorization())) })
    }
}

impl Api {
    /// Creates a client of the stack's HTTP API.
    pub fn of(stack: &Stack) -> Result<Self> {
        let client = Client::builder().timeout(PATIENCE).build()?;
        let (config, user_pool_id) = (stack.config().clone(), stack.output("UserPoolId")?.to_owned());
        Ok(Self { config, user_pool_id, client, url: stack.http_api_url()?.to_owned() })
    }

    /// Sends a request, with the token of an account if there is one. Returns the answer, whatever its status is.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        account: Option<&Account>,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value)> {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(account) = account {
            request = request.bearer_auth(&account.token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| format!("{path} cannot be reached"))?;
        let status = answer.status();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Sends a request that must succeed, and returns the body of the answer.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        account: Option<&Account>,
        body: Option<&Value>,
    ) -> Result<Value> {
        let (status, answer) = self.send(method.clone(), path, account, body).await?;
        if status.is_success() {
            return Ok(answer);
        }
        bail!("{method} {path}: {status}: {}", reason(&answer))
    }

    /// Returns what is at a path, for the user of an account.
    pub async fn get(&self, account: &Account, path: &str) -> Result<Value> {
        self.call(Method::GET, path, Some(account), None).await
    }

    /// Registers a person. Returns whether the address had to be confirmed.
    ///
    /// Only the owner of the address has the code. In its place, the operator confirms the address here.
    pub async fn register(&self, person: &Value) -> Result<bool> {
        let registered = self.call(Method::POST, "/auth/register", None, Some(person)).await?;
        let is_unconfirmed = registered["status"] == "UNCONFIRMED";
        if is_unconfirmed {
            let cognito = aws_sdk_cognitoidentityprovider::Client::new(&self.config);
            let (pool, email) = (&self.user_pool_id, registered["email"].as_str().unwrap_or_default());
            cognito.admin_confirm_sign_up().user_pool_id(pool).username(email).send().await?;
            let verified = AttributeType::builder().name("email_verified").value("true").build()?;
            let verify = cognito.admin_update_user_attributes().user_pool_id(pool).username(email);
            verify.user_attributes(verified).send().await?;
        }
        Ok(is_unconfirmed)
    }

    /// Signs a person in.
    pub async fn log_in(&self, email: &str, password: &str) -> Result<Account> {
        self.try_log_in(email, password).await?.map_err(|reason| anyhow::anyhow!("no sign-in: {reason}"))
    }

    /// Signs a person in, who stays signed in.
    pub async fn sign_in(&self, email: &str, password: &str) -> Result<SignIn> {
        let account = Mutex::new(self.log_in(email, password).await?);
        Ok(SignIn { api: self.clone(), email: email.to_owned(), password: password.to_owned(), account })
    }

    /// Signs a person in, or returns the reason why the sign-in is refused.
    async fn try_log_in(&self, email: &str, password: &str) -> Result<Result<Account, String>> {
        let login = json!({ "email": email, "password": password });
        let (status, tokens) = self.send(Method::POST, "/auth/login", None, Some(&login)).await?;
        if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
            return Ok(Err(reason(&tokens).to_owned()));
        }
        anyhow::ensure!(status.is_success(), "no sign-in: {status}: {}", reason(&tokens));
        let text = |key: &str| tokens[key].as_str().with_context(|| format!("the sign-in has no {key}"));
        let lifetime = Duration::from_secs(tokens["expiresIn"].as_u64().unwrap_or_default());
        Ok(Ok(Account {
            user_id: text("userId")?.to_owned(),
            token: text("accessToken")?.to_owned(),
            until: Instant::now() + lifetime.saturating_sub(EARLY),
        }))
    }
}

/// Returns why a request was refused. A function says it in `detail`, API Gateway itself in `message`.
fn reason(answer: &Value) -> &str {
    answer["detail"].as_str().or_else(|| answer["message"].as_str()).unwrap_or_default()
}
