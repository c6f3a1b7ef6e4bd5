//! Events of the user pool as Cognito and MiniStack send them, and what the tokens get.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::collections::BTreeMap;
use std::time::Duration;

use account_service::NO_SIGN_IN;
use domain::Instant;
use domain::accounts::{Scope, User, UserStatus};
use domain::actor::{Actor, Role};
use domain::id::UserId;
use futures::future::join_all;
use lambda_kit::{Clock, Door};
use serde_json::{Value, json};
use store::{Client, Db, EventContext, UserStore};
use testkit::{EmbeddedDynamoDb, Fault, FaultyHttp, Outcome, invoke, machine_client, registered, sdk_config};
use token_scopes::TokenScopes;

/// How long Cognito waits for the answer of a trigger.
const PATIENCE_OF_COGNITO: Duration = Duration::from_secs(5);

const SUB: &str = "1f5a9f2e-6a7c-4b39-8f57-52a5e1d0c4b6";
const SELF_SERVICE: &str = "aws.cognito.signin.user.admin";
/// The sources that Cognito documents.
const SOURCES: [&str; 5] = [
    "TokenGeneration_Authentication",
    "TokenGeneration_RefreshTokens",
    "TokenGeneration_HostedAuth",
    "TokenGeneration_NewPasswordChallenge",
    "TokenGeneration_AuthenticateDevice",
];

/// The event of a sign-in, as MiniStack sends it.
fn event(sub: &str, groups: &[&str]) -> Value {
    json!({
        "version": "2", "triggerSource": "TokenGeneration_Authentication", "region": "eu-central-1",
        "userPoolId": "eu-central-1_example", "userName": sub,
        "callerContext": { "awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": "client" },
        "request": {
            "userAttributes": { "sub": sub, "email": "Ada@example.com", "email_verified": "true", "name": "Ada" },
            "groupConfiguration": { "groupsToOverride": groups, "iamRolesToOverride": [], "preferredRole": null },
            "scopes": [SELF_SERVICE]
        },
        "response": { "claimsAndScopeOverrideDetails": null }
    })
}

fn now() -> Instant {
    "2026-03-03T10:00:00Z".parse().unwrap()
}

fn context() -> EventContext {
    EventContext { correlation_id: "c".to_owned(), now: now() }
}

struct World {
    dynamodb: EmbeddedDynamoDb,
    users: UserStore,
    tokens: Door<TokenScopes>,
}

impl World {
    async fn new() -> Self {
        let dynamodb = EmbeddedDynamoDb::start().await;
        let users = dynamodb.users();
        let tokens = Door::new(TokenScopes::new(dynamodb.users()), Clock::SYSTEM);
        Self { dynamodb, users, tokens }
    }

    async fn issue(&self, event: &Value) -> Outcome {
        invoke(&self.tokens, event.clone()).await
    }

    /// Returns what the access token of a sign-in gets.
    async fn scopes(&self, event: &Value) -> Vec<String> {
        let answer = self.issue(event).await.unwrap();
        let generation = &answer["response"]["claimsAndScopeOverrideDetails"]["accessTokenGeneration"];
        assert_eq!(generation["scopesToSuppress"], json!([SELF_SERVICE]));
        serde_json::from_value(generation["scopesToAdd"].clone()).unwrap()
    }

    async fn user(&self, id: &str) -> User {
        self.users.load(&UserId::new(id).unwrap()).await.unwrap().unwrap()
    }

    async fn insert(&self, user: &User) {
        self.users.insert(user, None, &context()).await.unwrap();
    }

    /// Writes a change of a user.
    async fn save(&self, user: &User) {
        self.users.save(user, Vec::new(), &context()).await.unwrap();
    }

    async fn events(&self) -> Vec<String> {
        let items = self.dynamodb.items("ev-users").await;
        let outboxes = items.iter().filter_map(|item| item.get("outbox").and_then(|outbox| outbox.as_s().ok()));
        let events = outboxes.flat_map(|outbox| serde_json::from_str::<Vec<Value>>(outbox).unwrap());
        events.map(|event| event["eventType"].as_str().unwrap().to_owned()).collect()
    }
}

fn of(role: Role) -> Vec<String> {
    Scope::of(role).map(Scope::in_token).collect()
}

#[tokio::test]
async fn a_token_has_the_scopes_of_the_role_whatever_it_is_issued_for() {
    let world = World::new().await;
    for (groups, role) in [
        (vec![], Role::User),
        (vec!["USER"], Role::User),
        (vec!["USER", "TECH_SUPPORT"], Role::TechSupport),
        (vec!["TECH_SUPPORT", "ADMIN"], Role::Admin),
        (vec!["ADMIN-readonly", "drivers"], Role::User),
    ] {
        for source in SOURCES {
            let mut asked = event(SUB, &groups);
            asked["triggerSource"] = json!(source);
            assert_eq!(world.scopes(&asked).await, of(role), "{source} with {groups:?}");
            let answer = world.issue(&asked).await.unwrap();
            let details = &answer["response"]["claimsAndScopeOverrideDetails"];
            assert_eq!(details.get("groupOverrideDetails"), None, "an empty list would take all groups away");
            assert_eq!(world.user(SUB).await.role, role, "the row follows the groups");
            // Everything else goes back as it came.
            let mut rest = answer.clone();
            rest["response"] = asked["response"].clone();
            assert_eq!(rest, asked);
        }
    }
    let scopes = of(Role::User);
    assert!(!scopes.iter().any(|scope| scope.contains("operations") || scope == "evoke/stations:write"), "{scopes:?}");
}

#[tokio::test]
async fn the_first_token_registers_the_user_once() {
    let world = World::new().await;
    let asked = event(SUB, &[]);
    let outcomes = join_all((0..20).map(|_| world.issue(&asked))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let user = world.user(SUB).await;
    assert_eq!((user.email.as_deref(), user.name.as_deref()), (Some("ada@example.com"), Some("Ada")));
    assert_eq!((user.status, user.version), (UserStatus::Active, 1));
    assert_eq!(world.events().await, ["USER_REGISTERED"]);
}

/// Anybody can sign up at Cognito itself, with any text as a name.
#[tokio::test]
async fn a_name_of_the_user_pool_is_tidied() {
    let world = World::new().await;
    let mut asked = event(SUB, &[]);
    asked["request"]["userAttributes"]["name"] = json!(format!(" Ada\r\n{} ", "x".repeat(300)));
    world.issue(&asked).await.unwrap();
    assert_eq!(world.user(SUB).await.name, Some(format!("Ada{}", "x".repeat(97))));
    let mut asked = event("0d3f7a11-0000-4000-8000-000000000001", &[]);
    asked["request"]["userAttributes"]["name"] = json!("\u{1b}\n");
    world.issue(&asked).await.unwrap();
    assert_eq!(world.user("0d3f7a11-0000-4000-8000-000000000001").await.name, None);
}

#[tokio::test]
async fn the_first_sign_in_confirms_the_user_and_later_ones_write_nothing() {
    let world = World::new().await;
    world.insert(&User { status: UserStatus::Unconfirmed, ..registered(SUB, now()) }).await;
    for version in [2, 2] {
        world.scopes(&event(SUB, &[])).await;
        let user = world.user(SUB).await;
        assert_eq!((user.status, user.version), (UserStatus::Active, version));
    }
}

#[tokio::test]
async fn blocked_and_deleted_users_get_no_token() {
    let world = World::new().await;
    let refused = async |id: &str| {
        for source in SOURCES {
            let mut asked = event(id, &["ADMIN"]);
            asked["triggerSource"] = json!(source);
            let (kind, message) = world.issue(&asked).await.unwrap_err();
            assert!(kind == "ForbiddenError" && message.contains(NO_SIGN_IN), "{kind}: {message}");
        }
    };
    let admin = Actor { user_id: UserId::new("admin").unwrap(), role: Role::Admin };
    world.insert(&registered("blocked", now())).await;
    let mut user = world.user("blocked").await;
    let event_of_block = user.block(&admin, false, "r", now()).unwrap();
    world.users.save(&user, vec![event_of_block.into()], &context()).await.unwrap();
    refused("blocked").await;
    world.dynamodb.block_user("by-hand").await;
    refused("by-hand").await;

    world.insert(&registered("deleted", now())).await;
    let mut user = world.user("deleted").await;
    user.start_deletion(&admin).unwrap();
    world.save(&user).await;
    // A deletion may still be refused, and until then the user goes on.
    assert_eq!(world.scopes(&event("deleted", &[])).await, of(Role::User));
    let mut user = world.user("deleted").await;
    user.delete(now()).unwrap();
    world.users.erase(&user, &context()).await.unwrap();
    refused("deleted").await;
    assert_eq!(world.user("deleted").await.email, None);
}

/// While the groups may be those of an earlier role, the role of the row counts, in the token as well.
#[tokio::test]
async fn a_role_that_is_not_in_the_groups_yet_counts() {
    let world = World::new().await;
    world.insert(&registered(SUB, now())).await;
    let admin = Actor { user_id: UserId::new("admin").unwrap(), role: Role::Admin };
    for (role, group, groups) in [
        (Role::TechSupport, "TECH_SUPPORT", vec![]),
        (Role::User, "USER", vec!["ADMIN"]),
        (Role::Admin, "ADMIN", vec!["USER"]),
    ] {
        let mut user = world.user(SUB).await;
        user.set_role(role, &admin).unwrap();
        world.save(&user).await;
        let asked = event(SUB, &groups);
        assert_eq!(world.scopes(&asked).await, of(role));
        let answer = world.issue(&asked).await.unwrap();
        let overridden = &answer["response"]["claimsAndScopeOverrideDetails"]["groupOverrideDetails"];
        assert_eq!(*overridden, json!({ "groupsToOverride": [group] }));
        assert_eq!(world.user(SUB).await.role, role);
    }
}

/// Cognito may have read the groups before `setRole` wrote them. A minute later, they count again.
#[tokio::test]
async fn groups_that_may_be_older_than_the_role_do_not_count() {
    let world = World::new().await;
    world.insert(&registered(SUB, now())).await;
    let admin = Actor { user_id: UserId::new("admin").unwrap(), role: Role::Admin };
    let of_admin = event(SUB, &["ADMIN"]);
    assert_eq!(world.scopes(&of_admin).await, of(Role::Admin), "Cognito alone can make an administrator");
    let mut user = world.user(SUB).await;
    user.set_role(Role::User, &admin).unwrap();
    world.save(&user).await;
    let mut user = world.user(SUB).await;
    user.role_written((Clock::SYSTEM.0)());
    world.save(&user).await;
    for _ in 0..2 {
        assert_eq!(world.scopes(&of_admin).await, of(Role::User));
        assert_eq!(world.user(SUB).await.role, Role::User);
    }
    let answer = world.issue(&of_admin).await.unwrap();
    let overridden = &answer["response"]["claimsAndScopeOverrideDetails"]["groupOverrideDetails"];
    assert_eq!(*overridden, json!({ "groupsToOverride": ["USER"] }));

    let mut user = world.user(SUB).await;
    user.role_written("2020-01-01T00:00:00Z".parse().unwrap());
    world.save(&user).await;
    assert_eq!(world.scopes(&of_admin).await, of(Role::Admin));
    assert_eq!(world.user(SUB).await.role, Role::Admin);
}

#[tokio::test]
async fn a_machine_client_gets_its_scopes_and_no_more() {
    let world = World::new().await;
    let client = machine_client(SUB, now());
    let address = client.client.as_ref().unwrap().id.address();
    let of_client = |groups: &[&str]| {
        let mut asked = event(SUB, groups);
        asked["request"]["userAttributes"] = json!({ "sub": SUB, "email": address, "email_verified": "true" });
        asked
    };
    // The request that created it died before it wrote the row.
    let (kind, message) = world.issue(&of_client(&[])).await.unwrap_err();
    assert!(kind == "ForbiddenError" && message.contains(NO_SIGN_IN), "{kind}: {message}");
    assert_eq!(world.dynamodb.items("ev-users").await.len(), 0);
    world.insert(&client).await;
    for groups in [vec![], vec!["ADMIN"]] {
        assert_eq!(world.scopes(&of_client(&groups)).await, ["evoke/stations:read"]);
        assert_eq!(world.user(SUB).await.version, 1, "a client has the role of its row");
    }
    // A row of a person under the address of a client, or the other way round, is no client.
    let person = world.issue(&event(SUB, &[])).await;
    assert_eq!(person.unwrap_err().0, "ForbiddenError");
}

/// Cognito's documentation has other forms of the fields that are not needed, and MiniStack leaves attributes and
/// groups out when the hosted pages refresh tokens.
#[tokio::test]
async fn events_in_other_forms_are_taken() {
    let world = World::new().await;
    let mut documented = event(SUB, &["ADMIN"]);
    documented["request"]["groupConfiguration"]["preferredRole"] = json!(["arn:aws:iam::123456789012:role/r"]);
    documented["request"]["scopes"] = json!("openid");
    documented["request"]["userAttributes"]["cognito:user_status"] = json!("CONFIRMED");
    documented["response"] = json!({ "claimsAndScopeOverrideDetails": [] });
    assert_eq!(world.scopes(&documented).await, of(Role::Admin));

    let mut bare = event(SUB, &[]);
    bare["triggerSource"] = json!("TokenGeneration_RefreshTokens");
    bare["request"] = json!({ "userAttributes": {}, "groupConfiguration": { "groupsToOverride": null } });
    assert_eq!(world.scopes(&bare).await, of(Role::Admin), "the role of the row");
    bare["request"] = json!({});
    assert_eq!(world.scopes(&bare).await, of(Role::Admin));
    assert_eq!(world.user(SUB).await.role, Role::Admin);

    // An identity provider's user has a name of its own, and the id in an attribute.
    let mut federated = event("0d3f7a11-0000-4000-8000-000000000001", &[]);
    federated["userName"] = json!("google_1234567890");
    world.scopes(&federated).await;
    assert_eq!(world.user("0d3f7a11-0000-4000-8000-000000000001").await.email.as_deref(), Some("ada@example.com"));
}

/// A row that an operator wrote by hand is completed.
#[tokio::test]
async fn a_row_by_hand_is_completed_at_the_first_sign_in() {
    let world = World::new().await;
    world.dynamodb.block_user(SUB).await;
    let admin = Actor { user_id: UserId::new("admin").unwrap(), role: Role::Admin };
    let mut user = world.user(SUB).await;
    let unblocked = user.unblock(&admin, now()).unwrap();
    world.users.save(&user, vec![unblocked.into()], &context()).await.unwrap();
    assert_eq!(world.scopes(&event(SUB, &["TECH_SUPPORT"])).await, of(Role::TechSupport));
    let user = world.user(SUB).await;
    assert_eq!((user.email.as_deref(), user.role, user.version), (Some("ada@example.com"), Role::TechSupport, 2));
    assert_eq!(world.events().await, ["USER_REGISTERED"]);
}

/// Without the table there is no token: the sign-in is tried again.
#[tokio::test]
async fn without_the_table_there_is_no_token() {
    let users = UserStore::new(Db::new(EmbeddedDynamoDb::client_at(testkit::NOWHERE)), "ev-users");
    let tokens = Door::new(TokenScopes::new(users), Clock::SYSTEM);
    let (kind, message) = invoke(&tokens, event(SUB, &[])).await.unwrap_err();
    assert_eq!(kind, "UnavailableError");
    assert!([NO_SIGN_IN, "ada@", "ev-users"].iter().all(|text| !message.contains(text)), "{message}");
}

/// Cognito gives up after 5 s. A table that does not answer is a failure before that, which the log has.
#[tokio::test]
async fn a_table_that_does_not_answer_is_a_failure_in_time() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let http = FaultyHttp::default();
    let sdk = sdk_config(&dynamodb.endpoint()).into_builder().http_client(http.clone()).build();
    let users = UserStore::new(Db::new(Client::new(&sdk)), "ev-users");
    let tokens = Door::new(TokenScopes::new(users), Clock::SYSTEM);
    for call in 0..2 {
        http.plan(BTreeMap::from([(call, Fault::Hold)]));
        // Without a limit of its own, the function would wait for ever.
        let answer = tokio::time::timeout(PATIENCE_OF_COGNITO, invoke(&tokens, event(SUB, &[]))).await;
        let (kind, message) = answer.unwrap().unwrap_err();
        assert_eq!(kind, "UnavailableError", "{message}");
    }
    http.plan(BTreeMap::new());
    invoke(&tokens, event(SUB, &[])).await.unwrap();
}
