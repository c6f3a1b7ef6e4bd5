//! Access to a deployed stack for the end-to-end tests: the local cloud by default, or real AWS.
//!
//! The environment variable `EVOKE_OUTPUTS` names the file with the outputs of a local stack (default
//! `.local/outputs.json`). With `EVOKE_STACK` the tests use the `CloudFormation` stack of that name instead, with the
//! usual AWS configuration (`AWS_PROFILE` …).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::missing_panics_doc, clippy::missing_errors_doc)]

mod cable;
mod graphql;
mod http;
mod person;
mod tap;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use appsync::AppSync;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_cognitoidentityprovider::Client as Cognito;
use aws_sdk_cognitoidentityprovider::types::{AuthFlowType, MessageActionType};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_lambda::config::Credentials;
use aws_sdk_lambda::primitives::Blob;
use domain::id::{InvoiceId, SessionId, StationId};
use fleet::Broker;
use futures::FutureExt;
use serde_json::{Value, json};
use uuid::Uuid;

pub use cable::Cable;
pub use graphql::{Follower, token};
pub use http::{Answer, FORM, form};
pub use person::{MAIL_DOMAIN, PASSWORD_PREFIX, Person, new_address, new_password};
pub use tap::Tap;

/// The outcome of a direct invocation: its JSON, or the type and message of the error.
pub type Outcome = Result<Value, (String, String)>;

/// The number of shards into which the tests divide the active sessions.
pub const SHARDS: u32 = 16;
/// The shard that is reserved for the test that ticks a whole shard.
pub const RESERVED_SHARD: u32 = 0;
/// The maximum time for asynchronous processing.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A deployed stack, with the stack of its GraphQL API.
#[derive(Clone, Debug)]
pub struct Stack {
    /// The outputs of both stacks by key.
    pub outputs: BTreeMap<String, String>,
    /// The AWS configuration for the stack.
    pub config: SdkConfig,
    /// Where the HTTP API answers this machine. On the local cloud, it is not the output `HttpApiUrl`, whose host name
    /// need not resolve.
    pub http_api_url: String,
    /// A client of the GraphQL API.
    pub appsync: AppSync,
    http: reqwest::Client,
    lambda: aws_sdk_lambda::Client,
}

/// A user of the stack's user pool, whom its administrator made.
#[derive(Clone, Debug)]
pub struct SignedUp {
    /// The user's name in the pool.
    pub name: String,
    /// The user's access token.
    pub token: String,
    /// The user's id token, which the HTTP API refuses.
    pub id_token: String,
}

impl Stack {
    /// Opens the stack that the environment variables name.
    pub async fn open() -> Self {
        #[allow(clippy::disallowed_methods)] // selects the stack under test
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(stack) = variable("EVOKE_STACK") {
            let config = aws_config::load_defaults(BehaviorVersion::v2026_01_12()).await;
            let mut outputs = stack_outputs(&config, &stack).await;
            let environment = outputs["HealthCheckFunctionName"].strip_prefix("ev-health-check-").expect("a name");
            let graphql = format!("evoke-graphql-{environment}");
            outputs.extend(stack_outputs(&config, &graphql).await);
            let http_api_url = outputs["HttpApiUrl"].clone();
            return Self::new(outputs, http_api_url, config);
        }
        let file = variable("EVOKE_OUTPUTS").map_or_else(default_outputs, PathBuf::from);
        let text = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}: bring the stack up with `make up`", file.display()));
        let written: BTreeMap<String, Value> = serde_json::from_str(&text).expect("outputs as JSON");
        let http_api_url = written["urls"]["http"].as_str().expect("the address of the HTTP API").to_owned();
        let texts = written.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())));
        let outputs: BTreeMap<String, String> = texts.collect();
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .endpoint_url(&outputs["endpoint"])
            .region(Region::new(outputs["region"].clone()))
            .credentials_provider(Credentials::new("test", "test", None, None, "e2e"))
            .load()
            .await;
        Self::new(outputs, http_api_url, config)
    }

    fn new(outputs: BTreeMap<String, String>, http_api_url: String, config: SdkConfig) -> Self {
        let (http, lambda) = (reqwest::Client::new(), aws_sdk_lambda::Client::new(&config));
        let appsync = AppSync::new(&outputs["GraphqlUrl"], &outputs["RealtimeUrl"]).expect("URLs");
        Self { outputs, config, http_api_url, appsync, http, lambda }
    }

    /// Opens the local stack, for a test that works only there.
    ///
    /// Such a test is in a module `local_cloud_alone`. It is left out and counted as skipped if `EVOKE_STACK` names a
    /// stack.
    pub async fn local() -> Self {
        let stack = Self::open().await;
        assert!(stack.is_local(), "for the local cloud alone: leave it out with -E 'not test(/local_cloud_alone::/)'");
        stack
    }

    /// Returns whether the stack runs on the local cloud.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.outputs.contains_key("endpoint")
    }

    /// Returns an output of the stack.
    #[must_use]
    pub fn output(&self, key: &str) -> &str {
        self.outputs.get(key).unwrap_or_else(|| panic!("the stack has no output {key}"))
    }

    /// Creates a new user of these groups as the administrator of the user pool does, and signs the user in. Staff
    /// comes to its role in this way; customers register (see [`Person`]).
    pub async fn sign_up(&self, groups: &[&str]) -> SignedUp {
        let cognito = Cognito::new(&self.config);
        let (pool, client) = (self.output("UserPoolId"), self.output("UserPoolClientId"));
        let (name, password) = (new_address(), new_password());
        let create = cognito.admin_create_user().user_pool_id(pool).username(&name);
        create.message_action(MessageActionType::Suppress).send().await.unwrap();
        let set = cognito.admin_set_user_password().user_pool_id(pool).username(&name);
        set.password(&password).permanent(true).send().await.unwrap();
        for group in groups {
            let add = cognito.admin_add_user_to_group().user_pool_id(pool).username(&name);
            add.group_name(*group).send().await.unwrap();
        }
        let auth = cognito.initiate_auth().client_id(client).auth_flow(AuthFlowType::UserPasswordAuth);
        let auth = auth.auth_parameters("USERNAME", &name).auth_parameters("PASSWORD", &password).send().await.unwrap();
        let tokens = auth.authentication_result.unwrap();
        SignedUp { name, token: tokens.access_token.unwrap(), id_token: tokens.id_token.unwrap() }
    }

    /// Deletes a user that [`Stack::sign_up`] made.
    pub async fn delete_user(&self, name: &str) {
        let delete = Cognito::new(&self.config).admin_delete_user();
        delete.user_pool_id(self.output("UserPoolId")).username(name).send().await.unwrap();
    }

    /// Returns the MQTT broker of the stack's IoT Core.
    pub async fn broker(&self) -> Broker {
        if let Some(ca) = self.outputs.get("iotCaFile") {
            let roots = std::fs::read(ca).expect("the local cloud's root certificate");
            let port = self.output("iotPort").parse().expect("a port");
            return Broker::new(self.output("iotHost"), port, Some(&roots)).expect("a broker");
        }
        let iot = aws_sdk_iot::Client::new(&self.config);
        let endpoint = iot.describe_endpoint().endpoint_type("iot:Data-ATS").send().await.expect("an endpoint");
        Broker::new(endpoint.endpoint_address.expect("an address"), 8883, None).expect("a broker")
    }

    /// Invokes a function by its name in the outputs, e.g. `SessionService`.
    pub async fn invoke(&self, function: &str, payload: Value) -> Outcome {
        let name = self.output(&format!("{function}FunctionName"));
        let answer = self.lambda.invoke().function_name(name).payload(Blob::new(payload.to_string())).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let body: Value =
            serde_json::from_slice(answer.payload.as_ref().map_or(b"null", |p| p.as_ref())).expect("JSON");
        if answer.function_error.is_none() {
            return Ok(body);
        }
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        Err((text("errorType"), text("errorMessage")))
    }

    /// Creates an ACTIVE station of 100 kW with this number of ports, and returns its id.
    ///
    /// The station is never in the shard [`RESERVED_SHARD`], because another test ticks all sessions of that shard.
    pub async fn station(&self, ports: u32) -> String {
        self.station_where(ports, |shard| shard != RESERVED_SHARD).await
    }

    /// Works like [`Stack::station`] for a station in a shard that `suits` accepts.
    pub async fn station_where(&self, ports: u32, suits: impl Fn(u32) -> bool) -> String {
        let candidates = std::iter::repeat_with(|| format!("e2e-{}", Uuid::new_v4()));
        let shard = |id: &String| StationId::new(id.as_str()).expect("an id").shard(SHARDS);
        let id = candidates.into_iter().find(|id| suits(shard(id))).expect("an endless supply");
        let ports: Vec<Value> = (1..=ports)
            .map(|number| json!({ "portNumber": number, "connectorType": "CCS2", "maxPowerKw": 100 }))
            .collect();
        let create = json!({
            "action": "createStation", "actor": admin(), "stationId": id, "name": "E2E", "address": "Road 1",
            "latitude": 52.5, "longitude": 13.4, "timeZone": "Europe/Berlin", "powerKw": 100, "pricePerKwh": "0.49",
            "currency": "EUR", "ports": ports
        });
        self.invoke("StationService", create).await.expect("a created station");
        self.transition(&id, "ACTIVE").await.expect("a commissioned station");
        id
    }

    /// Brings a station to a status.
    pub async fn transition(&self, station: &str, to: &str) -> Outcome {
        let command = json!({ "action": "transitionStation", "actor": admin(), "stationId": station, "to": to });
        self.invoke("StationService", command).await
    }

    /// Starts a session; `more` is merged into the request.
    pub async fn start(&self, station: &str, port: u32, user: &str, more: Value) -> Outcome {
        let mut command = json!({
            "action": "startSession", "actor": { "userId": user, "role": "USER" }, "stationId": station,
            "portId": format!("port-{port}"), "vehicle": { "batteryCapacityKwh": 60 }, "chargePercent": 20
        });
        command.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.invoke("SessionService", command).await
    }

    /// Stops a session.
    pub async fn stop(&self, session: &str, user: &str) -> Outcome {
        let actor = json!({ "userId": user, "role": "USER" });
        self.invoke("SessionService", json!({ "action": "stopSession", "actor": actor, "sessionId": session })).await
    }

    /// Reads a session.
    pub async fn session(&self, id: &str) -> Value {
        let get = json!({ "action": "getSession", "actor": admin(), "sessionId": id });
        self.invoke("SessionService", get).await.expect("a session")
    }

    /// Tops up a user's wallet as the cash desk does.
    pub async fn top_up(&self, user: &str, amount: &str, key: &str) -> Outcome {
        let command = json!({
            "action": "topUpWallet", "actor": admin(), "userId": user, "amount": amount, "currency": "EUR",
            "idempotencyKey": key
        });
        self.invoke("Billing", command).await
    }

    /// Returns the invoice of a session, after the event bus has delivered its end to billing.
    pub async fn invoice(&self, session: &str) -> Value {
        let id = InvoiceId::of(&SessionId::new(session).expect("an id"));
        let get = json!({ "action": "getInvoice", "actor": admin(), "invoiceId": id });
        eventually("the invoice", || async { self.invoke("Billing", get.clone()).await.ok() }).await
    }

    /// Removes all items of a session's OPEN invoice, as if the end had never reached billing.
    pub async fn lose_invoice(&self, session: &str, user: &str) {
        let (dynamodb, table) = (aws_sdk_dynamodb::Client::new(&self.config), self.output("BillingTable"));
        let invoice = format!("INVOICE#{}", InvoiceId::of(&SessionId::new(session).expect("an id")));
        for pk in [invoice, format!("WALLET#{user}")] {
            let query = dynamodb.query().table_name(table).key_condition_expression("PK = :pk");
            let found = query.expression_attribute_values(":pk", AttributeValue::S(pk)).send().await.unwrap();
            for item in found.items() {
                let delete = dynamodb.delete_item().table_name(table).key("PK", item["PK"].clone());
                delete.key("SK", item["SK"].clone()).send().await.unwrap();
            }
        }
    }

    /// Processes the dead letters, as the schedule of `dlq_reconciler` does every five minutes.
    pub async fn reconcile(&self) {
        self.invoke("DlqReconciler", json!({})).await.expect("a run over the dead-letter queues");
    }

    /// Does `work` while an event source mapping reads a queue for a function, although the parameters of the stack
    /// have turned the mapping off. Both are named as in the outputs, e.g. `ChargingSimulator` and `Shard`.
    pub async fn while_read<T>(&self, function: &str, queue: &str, work: impl Future<Output = T>) -> T {
        let name = self.output(&format!("{queue}QueueUrl")).rsplit('/').next().expect("the name of a queue");
        let function = self.output(&format!("{function}FunctionName"));
        let mappings = self.lambda.list_event_source_mappings().function_name(function).send().await.unwrap();
        let suffix = format!(":{name}");
        let mut mappings = mappings.event_source_mappings().iter();
        let mapping = mappings.find(|mapping| mapping.event_source_arn().is_some_and(|arn| arn.ends_with(&suffix)));
        let mapping = mapping.unwrap_or_else(|| panic!("{function} does not read {name}"));
        let uuid = mapping.uuid().expect("an id");
        // Do not ask for its state before: the local cloud says Enabled of a mapping that was created turned off.
        self.lambda.update_event_source_mapping().uuid(uuid).enabled(true).send().await.unwrap();
        eventually("the mapping to be enabled", || async {
            let now = self.lambda.get_event_source_mapping().uuid(uuid).send().await.unwrap();
            (now.state() == Some("Enabled")).then_some(())
        })
        .await;
        let done = AssertUnwindSafe(work).catch_unwind().await;
        self.lambda.update_event_source_mapping().uuid(uuid).enabled(false).send().await.unwrap();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Ticks one station.
    pub async fn tick(&self, station: &str, at: chrono::DateTime<chrono::Utc>) -> Outcome {
        self.invoke("ChargingSimulator", json!({ "tickAt": at, "stationIds": [station] })).await
    }
}

fn default_outputs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.local/outputs.json")
}

async fn stack_outputs(config: &SdkConfig, stack: &str) -> BTreeMap<String, String> {
    let client = aws_sdk_cloudformation::Client::new(config);
    let answer = client.describe_stacks().stack_name(stack).send().await.expect("a readable stack");
    let outputs = answer.stacks().first().expect("a stack").outputs();
    outputs
        .iter()
        .filter_map(|output| Some((output.output_key()?.to_owned(), output.output_value()?.to_owned())))
        .collect()
}

/// Returns an actor with the role ADMIN.
#[must_use]
pub fn admin() -> Value {
    json!({ "userId": "e2e-admin", "role": "ADMIN" })
}

/// Returns the text of a field.
#[must_use]
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// Returns the current time of devices and users, which are outside of the system.
#[must_use]
#[allow(clippy::disallowed_methods)] // the clock of a caller, not of the system
pub fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::Utc::now()
}

/// Returns the time `minutes` minutes after the start of a session.
#[must_use]
pub fn minutes_after(session: &Value, minutes: i64) -> chrono::DateTime<chrono::Utc> {
    let started: chrono::DateTime<chrono::Utc> = text(session, "startedAt").parse().expect("a time");
    started + chrono::Duration::minutes(minutes)
}

/// Polls `check` until it returns a value. Panics after [`PATIENCE`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut check: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
