//! The door for GraphQL requests: who may use which field, and the answers to a resolver.

use std::collections::BTreeSet;

use domain::accounts::{Area, Scope};
use domain::actor::Role;
use domain::charging::station::StationStatus;
use domain::machine::State;
use lambda_kit::{Action, Answer, Clock, Door, Failure, Function, Request, action};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::{EmbeddedDynamoDb, graphql_event, http_event, identity, invoke, tables};

use crate::{AnyFunction, functions};

const READ: Scope = Scope::read(Area::Stations);
const WRITE: Scope = Scope::write(Area::Stations);

/// Answers with the arguments and the actor of the request, or fails as `how` says.
struct Crossing;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Ask {
    #[serde(default)]
    #[schemars(length(max = 20))]
    how: Option<String>,
    /// Must not be null.
    #[serde(default)]
    #[schemars(range(min = 1))]
    count: u32,
}

impl Function for Crossing {
    const NAME: &'static str = "crossing";
    const ACTIONS: &'static [Action<Self>] = &[
        action!("getThing", Ask => Value, Self::ask).at("GET /things/{id}", READ).query("thing"),
        action!("listThings", Ask => Value, Self::ask)
            .at("GET /things", READ)
            .query("things")
            .with_api_key()
            .items_in("things"),
        action!("changeThing", Ask => Value, Self::ask).at("PATCH /things/{id}", WRITE).mutation(),
        action!("repairThing", Ask => Value, Self::ask).mutation().scope(WRITE),
        action!("enter", Ask => Value, Self::ask).open_at("POST /enter").mutation(),
        action!("forget", Ask => Value, Self::ask).mutation(),
        action!("inside", Ask => Value, Self::ask),
    ];
}

impl Crossing {
    #[allow(clippy::unused_async, clippy::unused_self)] // handlers are async methods
    async fn ask(&self, ask: Ask, request: &Request) -> Result<Answer, Failure> {
        match ask.how.as_deref() {
            Some("illegal") => StationStatus::New.transition(StationStatus::Maintenance, Role::Admin)?,
            Some("stale") => return Err(Failure::stale("secret-item")),
            Some("busy") => return Err(Failure::unavailable("secret-table is down")),
            Some("defect") => return Err(Failure::internal("secret-table")),
            Some("panic") => panic!("secret-panic"),
            _ => {}
        }
        Answer::ok(json!({
            "action": request.action, "actor": request.actor, "arguments": request.arguments, "things": [ask.count]
        }))
    }
}

/// Asks for a field, and returns the answer to the resolver. The function must not fail.
async fn ask(payload: Value) -> Value {
    invoke(&Door::new(Crossing, Clock::SYSTEM), payload).await.unwrap()
}

async fn data(field: &str, arguments: &Value, identity: &Value) -> Value {
    let answer = ask(graphql_event(field, arguments, identity)).await;
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    assert!(answer["data"].is_object(), "{answer}");
    answer["data"].clone()
}

async fn error(payload: Value) -> Value {
    let answer = ask(payload).await;
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    assert!(answer["error"]["message"].is_string(), "{answer}");
    answer["error"].clone()
}

async fn refused(field: &str, arguments: &Value, identity: &Value, kind: &str) -> Value {
    let error = error(graphql_event(field, arguments, identity)).await;
    assert_eq!(error["type"], kind, "{field}: {error}");
    assert_eq!(error["correlationId"], "correlation-1");
    error
}

/// A user without groups, who has these scopes.
fn user(scopes: &[Scope]) -> Value {
    in_groups(&[], scopes)
}

fn in_groups(groups: &[&str], scopes: &[Scope]) -> Value {
    let scopes: Vec<String> = scopes.iter().map(|scope| scope.in_token()).collect();
    identity("u-1", groups, &scopes)
}

#[tokio::test]
async fn a_field_runs_its_action_with_the_actor_of_the_token() {
    let answer = data("thing", &json!({ "count": 3 }), &user(&[READ])).await;
    let expected = json!({
        "action": "getThing", "actor": { "userId": "u-1", "role": "USER" }, "arguments": { "count": 3 }, "things": [3]
    });
    assert_eq!(answer, expected);
    // The names of the arguments are no actor and no action.
    let arguments = json!({ "count": 1, "actor": { "userId": "boss", "role": "ADMIN" }, "action": "inside" });
    let answer = data("changeThing", &arguments, &user(&[WRITE])).await;
    assert_eq!((&answer["action"], &answer["actor"]["role"]), (&json!("changeThing"), &json!("USER")));
    // No arguments, and none at all.
    for arguments in [json!({}), Value::Null] {
        assert_eq!(data("thing", &arguments, &user(&[READ])).await["arguments"], json!({}));
    }
    let mut short = graphql_event("thing", &Value::Null, &user(&[READ]));
    short.as_object_mut().unwrap().retain(|name, _| name == "field" || name == "identity");
    assert!(ask(short).await["data"].is_object());
}

/// The role of a user in these groups.
async fn role(groups: &[&str]) -> String {
    let answer = data("thing", &Value::Null, &in_groups(groups, &[READ])).await;
    answer["actor"]["role"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_role_requires_a_group_of_exactly_that_name() {
    assert_eq!(role(&["ADMIN"]).await, "ADMIN");
    assert_eq!(role(&["TECH_SUPPORT"]).await, "TECH_SUPPORT");
    assert_eq!(role(&["TECH_SUPPORT", "drivers", "ADMIN"]).await, "ADMIN");
    assert_eq!(role(&["drivers", "TECH_SUPPORT"]).await, "TECH_SUPPORT");
    let others = ["ADMIN-readonly", "admin", "[ADMIN]", "ADMIN TECH_SUPPORT", " ADMIN", "regional.ADMIN", "SYSTEM", ""];
    assert_eq!(role(&others).await, "USER");
    // The claims decide, and they have a list: text is no group, and `groups` beside the claims is not read.
    for wrong in [json!("ADMIN"), json!("[ADMIN]"), json!({ "ADMIN": true }), json!([["ADMIN"]]), Value::Null] {
        let mut identity = in_groups(&["ADMIN"], &[READ]);
        identity["claims"]["cognito:groups"] = wrong.clone();
        assert_eq!(data("thing", &Value::Null, &identity).await["actor"]["role"], "USER", "{wrong}");
    }
}

#[tokio::test]
async fn a_token_must_be_an_access_token_with_the_scope_of_the_field() {
    let (read, write) = (READ.in_token(), WRITE.in_token());
    for (field, needed, other) in [
        ("thing", &read, &write),
        ("things", &read, &write),
        ("changeThing", &write, &read),
        ("repairThing", &write, &read),
    ] {
        let with = |scope: &str| {
            let mut identity = user(&[]);
            identity["claims"]["scope"] = json!(scope);
            identity
        };
        data(field, &Value::Null, &with(needed)).await;
        data(field, &Value::Null, &with(&format!("aws.cognito.signin.user.admin {other} {needed}"))).await;
        let near = [
            String::new(),
            other.clone(),
            needed.to_uppercase(),
            needed.replace("evoke/", ""),
            needed.replace("evoke/", "revoke/"),
            format!("{needed}s"),
            needed.replace(':', " :"),
            format!("{needed},{other}"),
        ];
        for scope in near {
            let error = refused(field, &Value::Null, &with(&scope), "ForbiddenError").await;
            assert!(error["message"].as_str().unwrap().contains(needed), "{error}");
        }
        let mut without = user(&[READ, WRITE]);
        without["claims"].as_object_mut().unwrap().remove("scope");
        refused(field, &Value::Null, &without, "ForbiddenError").await;
    }
    for kind in [json!("id"), json!("refresh"), json!(""), json!(["access"]), Value::Null] {
        for field in ["thing", "things", "enter"] {
            let mut identity = in_groups(&["ADMIN"], &[READ, WRITE]);
            identity["claims"]["token_use"] = kind.clone();
            refused(field, &Value::Null, &identity, "ForbiddenError").await;
        }
    }
    // A signature of IAM is no token.
    let iam = json!({ "accountId": "123456789012", "userArn": "arn:aws:iam::123456789012:user/u", "username": "u" });
    refused("thing", &Value::Null, &iam, "ForbiddenError").await;
    let mut nobody = user(&[READ]);
    nobody["claims"].as_object_mut().unwrap().remove("sub");
    refused("thing", &Value::Null, &nobody, "ValidationError").await;
}

/// A field without a scope must not be open to every token.
#[tokio::test]
async fn a_field_without_a_scope_is_a_defect_and_not_open() {
    refused("forget", &Value::Null, &in_groups(&["ADMIN"], &Scope::ALL), "InternalError").await;
    refused("forget", &Value::Null, &Value::Null, "ForbiddenError").await;
}

#[tokio::test]
async fn the_api_key_is_enough_for_open_fields_alone() {
    for field in ["things", "enter"] {
        let answer = data(field, &json!({ "count": 2 }), &Value::Null).await;
        assert_eq!((&answer["actor"], &answer["arguments"]), (&Value::Null, &json!({ "count": 2 })));
    }
    for field in ["thing", "changeThing", "repairThing"] {
        refused(field, &Value::Null, &Value::Null, "ForbiddenError").await;
    }
    // An open action takes any access token, whatever its scopes.
    data("enter", &Value::Null, &user(&[])).await;
}

#[tokio::test]
async fn a_null_argument_counts_as_left_out() {
    let arguments = json!({ "how": null, "count": null, "nested": { "a": null, "b": [{ "c": null, "d": 1 }, null] } });
    let answer = data("thing", &arguments, &user(&[READ])).await;
    assert_eq!(answer["arguments"], json!({ "nested": { "b": [{ "d": 1 }, null] } }));
    // Directly, null is a value, and this argument does not have it.
    let direct = json!({ "action": "getThing", "count": null });
    let (kind, message) = invoke(&Door::new(Crossing, Clock::SYSTEM), direct).await.unwrap_err();
    assert!(kind == "ValidationError" && message.contains("count"), "{message}");
}

#[tokio::test]
async fn a_list_has_the_name_items() {
    let answer = data("things", &json!({ "count": 7 }), &Value::Null).await;
    assert_eq!((&answer["items"], answer.get("things")), (&json!([7]), None));
    assert_eq!(data("enter", &json!({ "count": 7 }), &Value::Null).await["things"], json!([7]));
}

#[tokio::test]
async fn unknown_fields_and_arguments_that_are_no_object_are_refused() {
    // Neither the name of an action whose field has another name, nor that of one without a field.
    for field in ["getThing", "inside", "", "Thing", &"x".repeat(100_000)] {
        let error = refused(field, &Value::Null, &user(&[READ]), "ValidationError").await;
        assert_eq!(error["errors"][0]["field"], "field");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("thing, things, changeThing, repairThing, enter"), "{message}");
        assert!(message.len() < 1000, "{} characters", message.len());
    }
    for arguments in [json!([]), json!("count"), json!(1), json!(true)] {
        let error = refused("thing", &arguments, &user(&[READ]), "ValidationError").await;
        assert_eq!(error["errors"], json!([{ "field": "arguments", "message": "must be a JSON object" }]));
    }
}

#[tokio::test]
async fn an_error_has_the_members_of_a_problem_document_and_no_internals() {
    let invalid = json!({ "how": "x".repeat(21), "count": 0 });
    let error = refused("thing", &invalid, &user(&[READ]), "ValidationError").await;
    let errors = error["errors"].as_array().unwrap();
    let fields: BTreeSet<&str> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(fields, BTreeSet::from(["count", "how"]), "{error}");

    let how = |how: &str| json!({ "how": how });
    let error = refused("thing", &how("illegal"), &user(&[READ]), "ConflictError").await;
    assert_eq!((&error["from"], &error["to"]), (&json!("NEW"), &json!("MAINTENANCE")));
    assert_eq!(error["allowed"], json!(["ACTIVE"]));

    for (failure, kind) in [
        ("stale", "ConflictError"),
        ("busy", "UnavailableError"),
        ("defect", "InternalError"),
        ("panic", "InternalError"),
    ] {
        let error = refused("thing", &how(failure), &user(&[READ]), kind).await;
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(error.as_object().unwrap().len(), 3, "{error}");
    }
}

#[tokio::test]
async fn a_correlation_id_is_taken_over_or_created() {
    let with = |id: Value| {
        let mut payload = graphql_event("thing", &json!({ "count": 0 }), &user(&[READ]));
        payload["correlationId"] = id;
        payload
    };
    for valid in ["a".repeat(128), "0198e2f4-0000-7000-8000-000000000000".to_owned(), "!".to_owned()] {
        assert_eq!(error(with(json!(valid))).await["correlationId"], valid);
    }
    for wrong in [json!("a b"), json!(""), json!("ß"), json!("a".repeat(129)), json!("a\n"), json!(1), Value::Null] {
        let made = error(with(wrong)).await["correlationId"].as_str().unwrap().to_owned();
        assert!(uuid::Uuid::parse_str(&made).is_ok(), "{made}");
    }
}

/// A payload with `action`, or whose `field` is no text, is no GraphQL request.
#[tokio::test]
async fn other_ways_in_are_not_affected() {
    let door = Door::new(Crossing, Clock::SYSTEM);
    let direct = json!({ "action": "inside", "field": "thing", "count": 1 });
    assert_eq!(invoke(&door, direct).await.unwrap()["action"], "inside");
    let (kind, _) = invoke(&door, json!({ "action": null, "field": "thing" })).await.unwrap_err();
    assert_eq!(kind, "ValidationError");
    let (kind, _) = invoke(&door, json!({ "field": 1, "identity": user(&[READ]) })).await.unwrap_err();
    assert_eq!(kind, "ValidationError");
    let mut http = http_event("GET /things/{id}", &[("id", "1")], &[], "u-1", "", "");
    http["field"] = json!("changeThing");
    assert_eq!(invoke(&door, http).await.unwrap()["statusCode"], 200);
    let (kind, message) = invoke(&door, json!({ "requestContext": {}, "field": "enter" })).await.unwrap_err();
    assert!(kind == "ValidationError" && message.contains("action"), "{message}");
    // A device puts what it likes into its message.
    let message = json!({ "topic_station_id": "s-1", "field": "enter", "identity": null });
    let (kind, message) = invoke(&door, message).await.unwrap_err();
    assert!(kind == "ValidationError" && message.contains("payload"), "{message}");
}

/// Requests every field of every function. The arguments are no object, which is refused only after the caller was
/// accepted.
#[tokio::test]
async fn every_field_is_open_to_the_callers_that_its_action_allows() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let mut tried = 0;
    for AnyFunction { name: function, open, operations, .. } in functions() {
        let invoke = open(&dynamodb);
        let ask = async |field: &str, identity: &Value| {
            let payload = graphql_event(field, &json!([]), identity).to_string().into_bytes();
            let answer = invoke(payload).await.unwrap_or_else(|error| panic!("{function} {field}: {error:?}"));
            let error = answer["error"].clone();
            (error["type"].as_str().unwrap().to_owned(), error["errors"][0]["field"].as_str().map(str::to_owned))
        };
        let let_in = ("ValidationError".to_owned(), Some("arguments".to_owned()));
        let forbidden = ("ForbiddenError".to_owned(), None);
        let unknown = ("ValidationError".to_owned(), Some("field".to_owned()));
        assert_eq!(ask("dropTables", &in_groups(&["ADMIN"], &Scope::ALL)).await, unknown, "{function}");
        for operation in operations {
            let Some(field) = operation.graphql else {
                let answer = ask(operation.name, &in_groups(&["ADMIN"], &Scope::ALL)).await;
                assert_eq!(answer, unknown, "{function} {}", operation.name);
                continue;
            };
            let what = format!("{function} {}", field.name);
            let scopes: Vec<Scope> = operation.scope().into_iter().collect();
            let others: Vec<Scope> = Scope::ALL.into_iter().filter(|scope| !scopes.contains(scope)).collect();
            assert_eq!(ask(field.name, &user(&scopes)).await, let_in, "{what} with its scope");
            let expected = if scopes.is_empty() { &let_in } else { &forbidden };
            let answer = ask(field.name, &in_groups(&["ADMIN"], &others)).await;
            assert_eq!(answer, *expected, "{what} with all other scopes");
            let expected = if operation.takes_api_key() { &let_in } else { &forbidden };
            assert_eq!(ask(field.name, &Value::Null).await, *expected, "{what} with the API key");
            let mut id_token = in_groups(&["ADMIN"], &Scope::ALL);
            id_token["claims"]["token_use"] = json!("id");
            assert_eq!(ask(field.name, &id_token).await, forbidden, "{what} with an id token");
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
    for table in tables() {
        assert_eq!(dynamodb.items(&table.name).await.len(), 0, "{} was written to", table.name);
    }
}
