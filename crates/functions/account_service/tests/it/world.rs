//! The function, its table and its user pool, with fakes of the functions that it asks.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use account_service::{AccountService, SignInRules, UserPool};
use aws_sdk_dynamodb::types::AttributeValue;
use domain::Instant;
use lambda_kit::{Clock, Door, RemoteFunction};
use serde_json::{Value, json};
use store::{Client, Db, UserStore};
use testkit::{
    EmbeddedDynamoDb, FakeAws, FaultyHttp, LocalCognito, Outcome, RecordedCall, http_event, invoke, sdk_config,
};

pub const PASSWORD: &str = "Correct-Horse-9";
pub const CONFIRMING: SignInRules = SignInRules { auto_confirm: false };
pub const AT_ONCE: SignInRules = SignInRules { auto_confirm: true };

/// What `session_service` and `billing` say of every user.
#[derive(Default)]
pub struct Owed {
    pub sessions: Vec<Value>,
    pub invoices: Vec<Value>,
    pub ledger: Vec<Value>,
    /// Whether both functions fail.
    pub broken: bool,
}

pub struct World {
    pub dynamodb: EmbeddedDynamoDb,
    pub cognito: LocalCognito,
    pub accounts: Arc<Door<AccountService>>,
    pub owed: Arc<Mutex<Owed>>,
    /// Injects faults into the calls of `accounts` to the table and to the user pool.
    pub http: FaultyHttp,
    _functions: FakeAws,
}

impl World {
    pub async fn new(rules: SignInRules) -> Self {
        let (dynamodb, cognito) = (EmbeddedDynamoDb::start().await, LocalCognito::new().await);
        let http = FaultyHttp::default();
        let owed: Arc<Mutex<Owed>> = Arc::default();
        let functions = FakeAws::start({
            let owed = owed.clone();
            move |call, _| answered(call, &owed.lock().unwrap())
        })
        .await;
        let sdk = sdk_config(&dynamodb.endpoint()).into_builder().http_client(http.clone()).build();
        let users = UserStore::new(Db::new(Client::new(&sdk)), "ev-users");
        let pool = UserPool::new(cognito.client_with(&http), cognito.pool.clone(), cognito.app_client.clone());
        let function = |name: &str| RemoteFunction::new(&sdk_config(&functions.endpoint()), name.to_owned());
        let accounts = AccountService::new(users, pool, function("session_service"), function("billing"), rules);
        let accounts = Arc::new(Door::new(accounts, Clock::SYSTEM));
        Self { dynamodb, cognito, accounts, owed, http, _functions: functions }
    }

    /// Invokes an action directly.
    pub async fn act(&self, action: &str, actor: Value, more: Value) -> Outcome {
        let mut command = json!({ "action": action, "actor": actor });
        command.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        invoke(&self.accounts, command).await
    }

    /// Sends an HTTP request with the token of a user in these groups. Returns the status and the body.
    pub async fn http(&self, route: &str, path: &[(&str, &str)], token: (&str, &str), body: Value) -> (u64, Value) {
        let (sub, groups) = token;
        let event = http_event(route, path, &[], sub, groups, &body.to_string());
        let response = invoke(&self.accounts, event).await.unwrap();
        let body = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
        (response["statusCode"].as_u64().unwrap(), body)
    }

    /// Registers a person, and returns the id of the user.
    pub async fn register(&self, email: &str) -> String {
        let answer = self.act("register", Value::Null, sign_up(email)).await.unwrap();
        answer["userId"].as_str().unwrap().to_owned()
    }

    /// Registers a person who can sign in.
    pub async fn registered(&self, email: &str) -> String {
        let user = self.register(email).await;
        let code = json!({ "email": email, "code": LocalCognito::CONFIRMATION_CODE });
        self.act("confirm", Value::Null, code).await.unwrap();
        user
    }

    pub async fn login(&self, email: &str, password: &str) -> Outcome {
        self.act("login", Value::Null, json!({ "email": email, "password": password })).await
    }

    pub async fn refresh(&self, token: &Value) -> Outcome {
        let grant = json!({ "grant_type": "refresh_token", "refresh_token": token });
        self.act("token", Value::Null, grant).await
    }

    /// Returns the row of a user.
    pub async fn row(&self, user: &str) -> Option<HashMap<String, AttributeValue>> {
        let items = self.dynamodb.items("ev-users").await;
        items.into_iter().find(|item| text(item, "PK") == format!("USER#{user}") && text(item, "SK") == "METADATA")
    }

    /// Returns the status of a user as the table has it.
    pub async fn status(&self, user: &str) -> String {
        self.row(user).await.map(|row| text(&row, "status").to_owned()).unwrap_or_default()
    }

    /// Returns the types of the events in the outbox of a user.
    pub async fn outbox(&self, user: &str) -> Vec<String> {
        let row = self.row(user).await.unwrap_or_default();
        let events: Vec<Value> = serde_json::from_str(text(&row, "outbox")).unwrap_or_default();
        events.iter().map(|event| event["eventType"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns how many events of this type about a user were written since the last call, in transactions.
    pub fn written(&self, event: &str, user: &str) -> usize {
        // A transaction whose answer was lost is sent again as it was, and counts once.
        let transactions: BTreeSet<Vec<u8>> = self.http.transactions().into_iter().collect();
        let texts = transactions.iter().map(|body| String::from_utf8_lossy(body));
        texts.filter(|body| body.contains(event) && body.contains(user)).count()
    }
}

fn answered(call: &RecordedCall, owed: &Owed) -> (u16, String) {
    if owed.broken {
        return (500, "{}".to_owned());
    }
    let asked: Value = serde_json::from_str(&call.body).unwrap();
    assert_eq!(asked["actor"]["role"], "SYSTEM", "{asked}");
    if asked["action"] == "getInvoice" {
        let missing = json!({ "errorType": "NotFoundError", "errorMessage": "there is no such invoice" });
        let found = owed.invoices.iter().find(|invoice| invoice["invoiceId"] == asked["invoiceId"]);
        return (200, found.unwrap_or(&missing).to_string());
    }
    assert!(asked["userId"].is_string(), "{asked}");
    let all = match asked["action"].as_str().unwrap() {
        "listSessions" => &owed.sessions,
        "listInvoices" => &owed.invoices,
        "listLedger" => &owed.ledger,
        other => panic!("{other} was asked"),
    };
    let status = asked["status"].as_str();
    let all = all.iter().filter(|item| status.is_none_or(|status| item["status"] == status));
    let since: Option<Instant> = asked["changedFrom"].as_str().map(|since| since.parse().unwrap());
    let ended = |item: &Value| item["endedAt"].as_str().map(|at| at.parse::<Instant>().unwrap());
    let all: Vec<&Value> = all.filter(|item| since.is_none_or(|since| ended(item) >= Some(since))).collect();
    let from: usize = asked["nextToken"].as_str().map_or(0, |token| token.parse().unwrap());
    let limit = usize::try_from(asked["limit"].as_u64().unwrap()).unwrap();
    let to = all.len().min(from + limit);
    let next = (to < all.len()).then(|| to.to_string());
    (200, json!({ "items": all[from..to], "count": to - from, "nextToken": next }).to_string())
}

/// Returns an attribute of an item, which is empty if the item does not have it.
pub fn text<'a>(item: &'a HashMap<String, AttributeValue>, name: &str) -> &'a str {
    item.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
}

pub fn sign_up(email: &str) -> Value {
    json!({ "email": email, "name": "Ada", "password": PASSWORD })
}

pub fn vehicle(number: &str) -> Value {
    json!({ "brand": "Renault", "model": "Zoe", "batteryCapacity": 52.0, "registrationNumber": number })
}

pub fn user(id: &str) -> Value {
    json!({ "userId": id, "role": "USER" })
}

pub fn support() -> Value {
    json!({ "userId": "support", "role": "TECH_SUPPORT" })
}

pub fn admin() -> Value {
    json!({ "userId": "admin", "role": "ADMIN" })
}

/// Returns the type of an error. Panics if the outcome is not an error.
pub fn error_type(outcome: &Outcome) -> &str {
    match outcome {
        Err((kind, _)) => kind,
        Ok(answer) => panic!("not refused: {answer}"),
    }
}
