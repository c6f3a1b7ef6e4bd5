//! The HTTP API of the deployed stack, as the application of a driver uses it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_cognitoidentityprovider::types::AttributeType;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::stack::Stack;

/// The maximum time until the answer to a request. API Gateway waits for 30 s.
const PATIENCE: Duration = Duration::from_secs(35);

/// The HTTP API of a stack.
pub struct Api<'a> {
    stack: &'a Stack,
    client: Client,
    url: String,
}

/// An account whose user has signed in.
pub struct Account {
    /// The id of the user.
    pub user_id: String,
    /// The access token, which is valid for 15 minutes.
    token: String,
}

impl<'a> Api<'a> {
    /// Creates a client of the stack's HTTP API.
    pub fn of(stack: &'a Stack) -> Result<Self> {
        let client = Client::builder().timeout(PATIENCE).build()?;
        Ok(Self { stack, client, url: stack.http_api_url()?.to_owned() })
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
        // A function says why in `detail`, API Gateway itself in `message`.
        let reason = answer["detail"].as_str().or_else(|| answer["message"].as_str()).unwrap_or_default();
        bail!("{method} {path}: {status}: {reason}")
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
            let cognito = aws_sdk_cognitoidentityprovider::Client::new(self.stack.config());
            let (pool, email) = (self.stack.output("UserPoolId")?, registered["email"].as_str().unwrap_or_default());
            cognito.admin_confirm_sign_up().user_pool_id(pool).username(email).send().await?;
            let verified = AttributeType::builder().name("email_verified").value("true").build()?;
            let verify = cognito.admin_update_user_attributes().user_pool_id(pool).username(email);
            verify.user_attributes(verified).send().await?;
        }
        Ok(is_unconfirmed)
    }

    /// Signs a person in.
    pub async fn log_in(&self, email: &str, password: &str) -> Result<Account> {
        let login = json!({ "email": email, "password": password });
        let tokens = self.call(Method::POST, "/auth/login", None, Some(&login)).await.context("no sign-in")?;
        let text = |key: &str| tokens[key].as_str().with_context(|| format!("the sign-in has no {key}"));
        Ok(Account { user_id: text("userId")?.to_owned(), token: text("accessToken")?.to_owned() })
    }
}
