//! A stand-in for AppSync that takes mutations as AppSync does: with a signature, and with what they select.

use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use chrono::NaiveDateTime;
use lambda_kit::{Clock, Door};
use live_publisher::{Api, LivePublisher};
use serde_json::{Map, Value, json};
use testkit::{FakeAws, RecordedCall, sdk_config};

const REGION: &str = "eu-central-1";

/// The credentials of a role, which have a session token.
pub fn credentials() -> Credentials {
    Credentials::new("AKIDEXAMPLE", "secret", Some("session-token".to_owned()), None, "test")
}

/// A mutation that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutated {
    /// The mutation.
    pub field: String,
    /// The input.
    pub input: Value,
    /// What subscribers get: the selected fields.
    pub sent: Value,
}

/// What the API does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It answers with this status, and publishes nothing.
    Status(u16),
    /// It answers 200 with an error of GraphQL, and publishes nothing.
    Error,
    /// It answers 200 without data, and publishes nothing.
    NoData,
    /// It answers 200 with a page that is no JSON, and publishes nothing.
    Page,
    /// It publishes, and the answer is lost.
    LostAnswer,
}

/// The API.
pub struct AppSync {
    aws: FakeAws,
    taken: Arc<Mutex<Vec<Mutated>>>,
}

impl AppSync {
    /// Starts an API that takes every mutation.
    pub async fn start() -> Self {
        Self::faulty(|_, _| None).await
    }

    /// Starts an API. `decide` gets the mutation and the number of calls before it.
    pub async fn faulty(decide: impl Fn(&str, usize) -> Option<Fault> + Send + Sync + 'static) -> Self {
        let taken: Arc<Mutex<Vec<Mutated>>> = Arc::default();
        let published = taken.clone();
        let aws = FakeAws::start(move |call, before| {
            if let Err(reason) = verify(call) {
                return (403, json!({ "errors": [{ "errorType": reason }] }).to_string());
            }
            let mutated = mutated(&call.body);
            let field = mutated.field.clone();
            let data = json!({ "data": { field.as_str(): &mutated.sent } });
            let fault = decide(&field, before);
            if matches!(fault, None | Some(Fault::LostAnswer)) {
                published.lock().unwrap().push(mutated);
            }
            match fault {
                None => (200, data.to_string()),
                Some(Fault::LostAnswer) => (504, String::new()),
                Some(Fault::Status(status)) => (status, json!({ "message": "no" }).to_string()),
                Some(Fault::NoData) => (200, json!({ "data": { field.as_str(): null } }).to_string()),
                Some(Fault::Page) => (200, "<html>".to_owned()),
                Some(Fault::Error) => {
                    let error = json!({ "errorType": "Unauthorized", "message": "Not Authorized to access it" });
                    (200, json!({ "data": { field.as_str(): null }, "errors": [error] }).to_string())
                }
            }
        })
        .await;
        Self { aws, taken }
    }

    /// Creates the function behind its door. It has the credentials of the role.
    pub fn door(&self) -> Door<LivePublisher> {
        self.door_of(credentials())
    }

    /// Creates the function with these credentials, behind its door.
    pub fn door_of(&self, credentials: Credentials) -> Door<LivePublisher> {
        Door::new(self.publisher(credentials), Clock::SYSTEM)
    }

    /// Creates the function with these credentials.
    pub fn publisher(&self, credentials: Credentials) -> LivePublisher {
        let provider = SharedCredentialsProvider::new(credentials);
        let sdk = sdk_config(&self.aws.endpoint()).into_builder().credentials_provider(provider).build();
        let url = format!("{}/graphql", self.aws.endpoint()).parse().unwrap();
        LivePublisher::new(Api::new(url, &sdk).unwrap())
    }

    /// Returns the number of calls so far.
    pub fn calls(&self) -> usize {
        self.aws.calls().len()
    }

    /// Returns the mutations that were taken so far, sorted: they come in any order.
    pub fn taken(&self) -> Vec<Mutated> {
        let mut taken = self.taken.lock().unwrap().clone();
        taken.sort_by_key(|mutated| format!("{mutated:?}"));
        taken
    }
}

/// Compares the signature of a call with the one that its method, address, headers and body have if the caller has the
/// credentials.
fn verify(call: &RecordedCall) -> Result<(), String> {
    let header = |name: &str| -> Result<&str, String> {
        let value = call.headers.get(name).ok_or_else(|| format!("{name} is missing"))?;
        value.to_str().map_err(|error| error.to_string())
    };
    if header("x-amz-security-token")? != "session-token" {
        return Err("another session".to_owned());
    }
    let time = NaiveDateTime::parse_from_str(header("x-amz-date")?, "%Y%m%dT%H%M%SZ").map_err(|e| e.to_string())?;
    let identity = credentials().into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name("appsync")
        .time(time.and_utc().into())
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let url = format!("http://{}{}", header("host")?, call.path);
    let headers = [("content-type", header("content-type")?)].into_iter();
    let body = SignableBody::Bytes(call.body.as_bytes());
    let request = SignableRequest::new("POST", url, headers, body).map_err(|error| error.to_string())?;
    let signed = sign(request, &params).map_err(|error| error.to_string())?.into_parts().0;
    let expected = signed.headers().find_map(|(name, value)| (name == "authorization").then_some(value));
    let is_right = call.path == "/graphql" && expected == Some(header("authorization")?);
    is_right.then_some(()).ok_or_else(|| "UnrecognizedClientException".to_owned())
}

/// Reads a mutation from the body of a call: one field of Mutation, whose only argument is the variable `input`.
fn mutated(body: &str) -> Mutated {
    let body: Value = serde_json::from_str(body).unwrap();
    let input = body["variables"]["input"].clone();
    let document = body["query"].as_str().unwrap();
    assert!(document.starts_with("mutation ") && !document.contains("... "), "{document}");
    let (head, selection) = document.split_once('{').unwrap();
    assert!(head.contains("($input: "), "{document}");
    let spaced = selection.replace('{', " { ").replace('}', " } ");
    let (call, selection) = spaced.split_once(" { ").unwrap();
    let field = call.trim().strip_suffix("(input: $input)").unwrap().to_owned();
    let mut words = selection.split_whitespace();
    let sent = select(&mut words, &input);
    assert_eq!(words.collect::<Vec<_>>(), ["}"], "{document}");
    Mutated { field, input, sent }
}

/// Returns the fields of `value` that are selected up to the end of the selection. Fields that it lacks are null.
fn select<'a>(words: &mut impl Iterator<Item = &'a str>, value: &Value) -> Value {
    pick(&inner(words), value)
}

/// Returns the words up to the brace that ends the selection.
fn inner<'a>(words: &mut impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut depth = 0;
    let is_inside = |word: &&str| {
        match *word {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        depth >= 0
    };
    words.take_while(is_inside).collect()
}

fn pick(selection: &[&str], value: &Value) -> Value {
    if let Value::Array(items) = value {
        return items.iter().map(|item| pick(selection, item)).collect();
    }
    let mut picked = Map::new();
    let mut words = selection.iter().copied().peekable();
    while let Some(name) = words.next() {
        let field = &value[name];
        let field = if words.next_if_eq(&"{").is_some() { pick(&inner(&mut words), field) } else { field.clone() };
        picked.insert(name.to_owned(), field);
    }
    picked.into()
}
