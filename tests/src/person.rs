//! People who register and sign in over HTTP, as an application does it for them.

use aws_sdk_cognitoidentityprovider::Client as Cognito;
use aws_sdk_cognitoidentityprovider::types::AttributeType;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Answer, Stack, text};

/// The domain of all e-mail addresses of the tests. Nothing else contains this text, so logs can be searched for it.
pub const MAIL_DOMAIN: &str = "e2e.example.com";
/// The beginning of all passwords of the tests, which nothing else contains either.
pub const PASSWORD_PREFIX: &str = "Correct-Horse-7";

/// Returns an e-mail address that nobody has.
#[must_use]
pub fn new_address() -> String {
    format!("{}@{MAIL_DOMAIN}", Uuid::new_v4())
}

/// Returns a password that nobody has.
#[must_use]
pub fn new_password() -> String {
    format!("{PASSWORD_PREFIX}-{}", Uuid::new_v4().simple())
}

/// A person with an account, who has signed in.
#[derive(Clone, Debug)]
pub struct Person {
    /// The id of the user.
    pub user_id: String,
    /// The e-mail address.
    pub email: String,
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
    /// The access token of the last sign-in.
    pub token: String,
    /// The ID token of the last sign-in, which the HTTP API refuses.
    pub id_token: String,
    /// The refresh token of the last sign-in.
    pub refresh_token: String,
}

impl Person {
    /// Registers a new person and signs the person in.
    pub async fn register(stack: &Stack) -> Self {
        Self::register_with(stack, json!({})).await
    }

    /// Works like [`register`](Self::register); `more` is merged into the request.
    pub async fn register_with(stack: &Stack, more: Value) -> Self {
        let (email, name, password) = (new_address(), format!("Person {}", Uuid::new_v4().simple()), new_password());
        let mut request = json!({ "email": email, "name": name, "password": password });
        request.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let registered = stack.post("/auth/register", request).await.must_be(201);
        if text(&registered, "status") == "UNCONFIRMED" {
            stack.confirm(text(&registered, "email")).await;
        }
        let user_id = text(&registered, "userId").to_owned();
        let email = text(&registered, "email").to_owned();
        let (token, id_token, refresh_token) = (String::new(), String::new(), String::new());
        let mut person = Self { user_id, email, name, password, token, id_token, refresh_token };
        person.log_in(stack).await;
        person
    }

    /// Sends the address and the password.
    pub async fn try_log_in(&self, stack: &Stack) -> Answer {
        stack.post("/auth/login", json!({ "email": self.email, "password": self.password })).await
    }

    /// Signs the person in, and takes the tokens. Returns the answer.
    pub async fn log_in(&mut self, stack: &Stack) -> Value {
        let tokens = self.try_log_in(stack).await.must_be(200);
        assert_eq!(text(&tokens, "userId"), self.user_id);
        text(&tokens, "accessToken").clone_into(&mut self.token);
        text(&tokens, "idToken").clone_into(&mut self.id_token);
        text(&tokens, "refreshToken").clone_into(&mut self.refresh_token);
        tokens
    }

    /// Asks for a new access token by the refresh token.
    pub async fn refresh(&self, stack: &Stack) -> Answer {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", self.refresh_token.as_str())];
        stack.request_tokens(&fields, None).await
    }

    /// Sends a GET request with the access token.
    pub async fn get(&self, stack: &Stack, path: &str) -> Answer {
        stack.call(Method::GET, path, &self.token, None).await
    }

    /// Sends a POST request with the access token.
    pub async fn post(&self, stack: &Stack, path: &str, body: Value) -> Answer {
        stack.call(Method::POST, path, &self.token, Some(body)).await
    }

    /// Starts a session at the first port of a station.
    pub async fn start(&self, stack: &Stack, station: &str) -> Answer {
        let start = json!({
            "stationId": station, "portId": "port-1", "vehicle": { "batteryCapacityKwh": 60 }, "chargePercent": 20
        });
        self.post(stack, "/sessions", start).await
    }

    /// Stops a session.
    pub async fn stop(&self, stack: &Stack, session: &str) -> Answer {
        stack.call(Method::PATCH, &format!("/sessions/{session}/stop"), &self.token, None).await
    }

    /// Asks for the deletion of the account.
    pub async fn delete(&self, stack: &Stack) -> Answer {
        stack.call(Method::DELETE, "/account", &self.token, None).await
    }
}

impl Stack {
    /// Confirms the address of a new user without the code, which only the owner of the address has.
    pub async fn confirm(&self, email: &str) {
        let (cognito, pool) = (Cognito::new(&self.config), self.output("UserPoolId"));
        cognito.admin_confirm_sign_up().user_pool_id(pool).username(email).send().await.unwrap();
        let verified = AttributeType::builder().name("email_verified").value("true").build().unwrap();
        let verify = cognito.admin_update_user_attributes().user_pool_id(pool).username(email);
        verify.user_attributes(verified).send().await.unwrap();
    }

    /// Deletes the account of a person. An account that may not be deleted stays.
    pub async fn delete_account(&self, user: &str) {
        let actor = json!({ "userId": user, "role": "USER" });
        let outcome = self.invoke("AccountService", json!({ "action": "deleteAccount", "actor": actor })).await;
        assert!(outcome.is_ok() || outcome.as_ref().is_err_and(|(kind, _)| kind == "ConflictError"), "{outcome:?}");
    }
}
