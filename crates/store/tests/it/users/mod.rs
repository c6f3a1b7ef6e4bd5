//! Users in the table: of many writers one wins, limits hold exactly, what an operator wrote by hand counts, and a
//! deletion leaves nothing behind, wherever it was interrupted.

mod changes;
mod deletion;
mod lists;
mod possessions;
mod registration;

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use domain::accounts::{Language, NewUser, RegistrationNumber, User, UserStatus};
use domain::actor::{Actor, Role};
use domain::error::DomainError;
use domain::event::{Envelope, Event};
use domain::id::UserId;
use store::{StoreError, UserStore};
use testkit::{EmbeddedDynamoDb, registered};

use crate::common::{context, now};

const TABLE: &str = "ev-users";

type Item = HashMap<String, AttributeValue>;

fn id(user: &str) -> UserId {
    UserId::new(user).unwrap()
}

fn admin() -> Actor {
    Actor { user_id: id("admin"), role: Role::Admin }
}

fn number(text: &str) -> RegistrationNumber {
    RegistrationNumber::new(text).unwrap()
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn is_conflict<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Domain(DomainError::Conflict(_))))
}

fn is_not_found<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Domain(DomainError::NotFound(_))))
}

fn is_stale<T>(answer: &Result<T, StoreError>) -> bool {
    answer.as_ref().is_err_and(StoreError::is_stale)
}

/// Starts a database with these users.
async fn with_users(ids: &[&str]) -> (EmbeddedDynamoDb, UserStore) {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let users = dynamodb.users();
    for id in ids {
        users.insert(&registered(id, now()), None, &context()).await.unwrap();
    }
    (dynamodb, users)
}

/// Returns what is known of a user at the registration.
fn new_user(user: &str) -> NewUser {
    NewUser {
        id: id(user),
        email: Some(format!("{user}@example.com")),
        name: None,
        role: Role::User,
        language: Language::De,
        confirmed: true,
        client: None,
    }
}

async fn load(users: &UserStore, user: &str) -> User {
    users.load(&id(user)).await.unwrap().unwrap()
}

/// Returns the item of a user.
async fn item(dynamodb: &EmbeddedDynamoDb, user: &str) -> Item {
    let pk = text(&format!("USER#{user}"));
    let items = dynamodb.items(TABLE).await;
    items.into_iter().find(|item| item["PK"] == pk && item["SK"] == text("METADATA")).unwrap()
}

/// Returns the numbers of vehicles and tokens in the item of a user.
fn counts(item: &Item) -> (Option<u32>, Option<u32>) {
    let count = |name: &str| item.get(name).map(|count| count.as_n().unwrap().parse::<u32>().unwrap());
    (count("vehicleCount"), count("tokenCount"))
}

/// Returns the events in the outbox of an item.
fn events(item: &Item) -> Vec<Event> {
    let Some(outbox) = item.get("outbox") else { return Vec::new() };
    let envelopes: Vec<Envelope> = serde_json::from_str(outbox.as_s().unwrap()).unwrap();
    envelopes.into_iter().map(|envelope| envelope.event).collect()
}

/// Sets `blocked` as an operator does by hand.
async fn set_blocked(dynamodb: &EmbeddedDynamoDb, user: &str, blocked: bool) {
    let update = dynamodb.client().update_item().table_name(TABLE).key("PK", text(&format!("USER#{user}")));
    let update = update.key("SK", text("METADATA")).update_expression("SET blocked = :b");
    update.expression_attribute_values(":b", AttributeValue::Bool(blocked)).send().await.unwrap();
}

async fn delete(users: &UserStore, user: &str) {
    let mut user = load(users, user).await;
    if user.status == UserStatus::Deleted {
        return;
    }
    user.start_deletion(&admin()).unwrap();
    users.save(&user, Vec::new(), &context()).await.unwrap();
    user.delete(now()).unwrap();
    users.erase(&user, &context()).await.unwrap();
}

/// Checks that only the tombstone of the user is left in the table.
async fn assert_tombstone(dynamodb: &EmbeddedDynamoDb, what: &str) {
    let items = dynamodb.items(TABLE).await;
    assert_eq!(items.len(), 1, "{what}: {items:?}");
    let attributes: BTreeSet<&str> = items[0].keys().map(String::as_str).collect();
    assert_eq!(attributes, BTreeSet::from(["PK", "SK", "status", "deletedAt", "version", "outbox"]), "{what}");
    let deleted = events(&items[0]);
    assert!(matches!(&deleted[..], [Event::UserDeleted(of)] if of.user_id == id("u-1")), "{what}: {deleted:?}");
    let text = format!("{items:?}");
    for personal in ["Ada", "example.com", "BAB123", "fraud", "+49"] {
        assert!(!text.contains(personal), "{what}: {personal} in {text}");
    }
}
