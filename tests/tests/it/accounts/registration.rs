//! Registrations: one account for an address, one vehicle for a registration number, one event for a user.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_cognitoidentityprovider::Client as Cognito;
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{Answer, MAIL_DOMAIN, Person, Stack, Tap, admin, eventually, new_address, new_password, text};
use reqwest::Method;
use serde_json::{Value, json};

use super::{new_number, vehicle};

/// How long an event that must not arrive is waited for.
const SILENCE: Duration = Duration::from_secs(2);

/// Makes 50 calls at once.
async fn fifty<T, F>(call: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..50).map(|n| tokio::spawn(call(n))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

/// Returns the number of rows that have this address.
async fn rows_with(stack: &Stack, email: &str) -> usize {
    let dynamodb = aws_sdk_dynamodb::Client::new(&stack.config);
    let query = dynamodb.query().table_name(stack.output("UsersTable")).index_name("email-index");
    let query = query.key_condition_expression("email = :email");
    let query = query.expression_attribute_values(":email", AttributeValue::S(email.to_owned()));
    query.send().await.unwrap().items().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_registrations_of_one_address_give_one_account() {
    let stack = Stack::open().await;
    let email = new_address();
    let request = json!({ "email": email, "name": "Fifty", "password": new_password() });
    let answers = fifty(|_| {
        let (stack, request) = (stack.clone(), request.clone());
        async move { stack.post("/auth/register", request).await }
    })
    .await;
    let (created, refused): (Vec<Answer>, Vec<Answer>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(created.len(), 1, "{refused:?}");
    for answer in refused {
        assert_eq!(text(&answer.must_be(409), "code"), "ConflictError");
    }
    // Upper and lower case are the same address.
    let mut again = request.clone();
    again["email"] = json!(email.to_uppercase());
    stack.post("/auth/register", again).await.must_be(409);

    let rows = eventually("the row in the index", || async {
        let rows = rows_with(&stack, &email).await;
        (rows > 0).then_some(rows)
    })
    .await;
    assert_eq!(rows, 1);
    let list = Cognito::new(&stack.config).list_users().user_pool_id(stack.output("UserPoolId"));
    let users = list.filter(format!("email = \"{email}\"")).send().await.unwrap();
    assert_eq!(users.users().len(), 1);
    stack.delete_account(text(&created[0].body, "userId")).await;
}

/// A user needs no row, so the fifty users are only named.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_users_who_add_one_registration_number_give_one_vehicle() {
    let stack = Stack::open().await;
    let (number, prefix) = (new_number(), uuid::Uuid::new_v4());
    let outcomes = fifty(|n| {
        let actor = json!({ "userId": format!("{prefix}-{n}"), "role": "USER" });
        let add = json!({ "action": "addVehicle", "actor": actor, "vehicle": vehicle(&number) });
        let stack = stack.clone();
        async move { stack.invoke("AccountService", add).await }
    })
    .await;
    let winners: Vec<usize> = (0..50).filter(|n| outcomes[*n].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    for (kind, message) in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(kind, "ConflictError", "{message}");
    }
    let list = json!({ "action": "listCustomers", "actor": admin(), "registrationNumber": number });
    let owners = stack.invoke("AccountService", list).await.unwrap();
    assert_eq!(owners["count"], 1, "{owners}");
    assert_eq!(text(&owners["items"][0], "userId"), format!("{prefix}-{}", winners[0]));
    // Neither case nor separators make it another number.
    let add = json!({
        "action": "addVehicle", "actor": { "userId": format!("{prefix}-50"), "role": "USER" },
        "vehicle": vehicle(&number.to_lowercase().replace(' ', "-"))
    });
    assert_eq!(stack.invoke("AccountService", add).await.unwrap_err().0, "ConflictError");
}

/// Of a person who registers, and of a user whom only the user pool knows before the first token.
#[tokio::test(flavor = "multi_thread")]
async fn the_bus_gets_one_event_for_each_new_user() {
    let stack = Stack::open().await;
    let pattern = json!({ "source": ["evoke.accounts"], "detail-type": ["USER_REGISTERED"] });
    let tap = Tap::open(&stack, &pattern).await;
    let mut person = Person::register_with(&stack, json!({ "vehicle": vehicle(&new_number()) })).await;
    person.log_in(&stack).await;
    person.refresh(&stack).await.must_be(200);
    person.get(&stack, "/account").await.must_be(200);
    let of_the_pool = stack.sign_up(&["USER"]).await;
    let account = stack.call(Method::GET, "/account", &of_the_pool.token, None).await.must_be(200);
    assert_eq!((text(&account, "email"), text(&account, "status")), (of_the_pool.name.as_str(), "ACTIVE"));

    let users = [person.user_id.as_str(), text(&account, "userId")];
    let of = |events: &[Value], user: &str| -> Vec<Value> {
        events.iter().filter(|event| event["userId"] == user).cloned().collect()
    };
    let mut events = tap.read(|events| users.iter().all(|user| !of(events, user).is_empty())).await;
    // Everything was written before the last answer.
    tokio::time::sleep(SILENCE).await;
    events.extend(tap.read(|_| true).await);
    tap.close().await;
    for (user, has_vehicle) in users.into_iter().zip([true, false]) {
        let events = of(&events, user);
        // The bus may deliver an event twice, under one id.
        let ids: BTreeSet<&str> = events.iter().map(|event| text(event, "eventId")).collect();
        assert_eq!(ids.len(), 1, "{events:?}");
        assert_eq!(events[0]["hasVehicle"], has_vehicle, "{events:?}");
        let event = events[0].to_string();
        assert!(!event.contains(MAIL_DOMAIN) && !event.contains(&person.name), "{event}");
    }
    stack.delete_account(&person.user_id).await;
    stack.delete_user(&of_the_pool.name).await;
}
