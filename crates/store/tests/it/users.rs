//! Users in the table: of many writers one wins, limits hold exactly, what an operator wrote by hand counts, and a
//! deletion leaves nothing behind, wherever it was interrupted.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::TimeDelta;
use domain::accounts::{
    Language, MAX_TOKENS, MAX_VEHICLES, NewUser, RegistrationNumber, TokenId, User, UserStatus, Vehicle,
};
use domain::actor::{Actor, Role};
use domain::error::DomainError;
use domain::event::{Envelope, Event};
use domain::id::{UserId, VehicleId};
use futures::future::join_all;
use store::{PageRequest, StoreError, UserFilter, UserStore};
use testkit::{EmbeddedDynamoDb, Fault, machine_client, registered, rfid, vehicle};

use crate::common::{context, faulty_db, first, now, walk};

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

#[tokio::test]
async fn of_fifty_registrations_of_one_user_one_wins() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let users = dynamodb.users();
    let inserts = (0..50).map(|attempt| {
        let user = User { name: Some(format!("Ada {attempt}")), ..registered("u-1", now()) };
        let (users, vehicle) = (users.clone(), vehicle(&format!("v-{attempt}"), Some(&format!("B-A {attempt}"))));
        async move { users.insert(&user, Some(&vehicle), &context()).await.map(|()| (user, vehicle)) }
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(inserts).await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(is_stale), "{lost:?}");
    let (user, vehicle) = won[0].as_ref().unwrap();
    assert_eq!(load(&users, "u-1").await, *user);
    assert_eq!(users.vehicles(&id("u-1")).await.unwrap(), std::slice::from_ref(vehicle));
    assert_eq!(dynamodb.items(TABLE).await.len(), 3, "the user, the vehicle and its number");
    let event = user.registered_event(true).unwrap();
    assert_eq!(events(&item(&dynamodb, "u-1").await), [Event::from(event)]);
}

#[tokio::test]
async fn of_fifty_users_one_gets_a_registration_number() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let users = dynamodb.users();
    let names: Vec<String> = (0..50).map(|user| format!("u-{user}")).collect();
    // Half of them register with the vehicle, and half add it.
    for user in names.iter().skip(25) {
        users.insert(&registered(user, now()), None, &context()).await.unwrap();
    }
    let adds = names.iter().enumerate().map(|(index, name)| {
        let written = ["B-AB 123", "b ab-123", "BAB123"][index % 3];
        let (users, vehicle) = (users.clone(), vehicle(&format!("v-{index}"), Some(written)));
        async move {
            if index < 25 {
                return users.insert(&registered(name, now()), Some(&vehicle), &context()).await;
            }
            users.add_vehicle(&id(name), &vehicle).await
        }
    });
    let answers = join_all(adds).await;
    let winner = answers.iter().position(Result::is_ok).unwrap();
    let refused = answers.iter().filter(|answer| is_conflict(answer)).count();
    assert_eq!(refused, 49, "{answers:?}");
    let owner = users.by_registration_number(&number("bab 123")).await.unwrap();
    assert_eq!(owner, Some((id(&names[winner]), VehicleId::new(format!("v-{winner}")).unwrap())));
    for (index, name) in names.iter().enumerate() {
        let vehicles = users.vehicles(&id(name)).await.unwrap().len();
        assert_eq!(vehicles, usize::from(index == winner), "{name}");
        assert_eq!(users.load(&id(name)).await.unwrap().is_some(), index >= 25 || index == winner, "{name}");
    }
}

#[tokio::test]
async fn a_removed_vehicle_frees_its_registration_number() {
    let (dynamodb, users) = with_users(&["u-1", "u-2"]).await;
    let (first, second) = (id("u-1"), id("u-2"));
    let mine = vehicle("v-1", Some(" B-AB 123 "));
    users.add_vehicle(&first, &mine).await.unwrap();
    assert_eq!(users.vehicle(&first, &mine.id).await.unwrap(), Some(mine.clone()));
    assert_eq!(users.vehicle(&second, &mine.id).await.unwrap(), None);
    assert!(is_conflict(&users.add_vehicle(&first, &mine).await), "the same vehicle twice");
    assert!(is_conflict(&users.add_vehicle(&first, &vehicle("v-2", Some("BAB123"))).await), "the number twice");
    assert!(is_conflict(&users.add_vehicle(&second, &vehicle("v-2", Some("BAB123"))).await));
    assert!(is_not_found(&users.remove_vehicle(&second, &mine.id).await), "another user's");
    users.remove_vehicle(&first, &mine.id).await.unwrap();
    assert!(is_not_found(&users.remove_vehicle(&first, &mine.id).await), "removed before");
    assert_eq!(users.by_registration_number(&number("BAB123")).await.unwrap(), None);
    users.add_vehicle(&second, &vehicle("v-2", Some("BAB123"))).await.unwrap();
    users.add_vehicle(&second, &vehicle("v-3", None)).await.unwrap();
    assert_eq!(users.vehicles(&second).await.unwrap().len(), 2);
    assert!(events(&item(&dynamodb, "u-2").await).is_empty(), "an event is relayed with its own write only");
}

#[tokio::test]
async fn a_token_belongs_to_one_user_whatever_its_case() {
    let (_dynamodb, users) = with_users(&["u-1", "u-2"]).await;
    let (first, second) = (id("u-1"), id("u-2"));
    users.add_token(&first, &rfid("04a1")).await.unwrap();
    assert_eq!(users.token(&TokenId::new("04A1").unwrap()).await.unwrap(), Some((first.clone(), rfid("04a1"))));
    for user in [&first, &second] {
        assert!(is_conflict(&users.add_token(user, &rfid("04A1")).await), "{user}");
    }
    let spelt = TokenId::new("04A1").unwrap();
    assert!(is_not_found(&users.remove_token(&second, &spelt).await), "another user's");
    users.remove_token(&first, &spelt).await.unwrap();
    assert!(is_not_found(&users.remove_token(&first, &spelt).await), "removed before");
    users.add_token(&second, &rfid("04A1")).await.unwrap();
    assert_eq!(users.tokens(&second).await.unwrap(), [rfid("04A1")]);
    assert!(users.tokens(&first).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_user_has_fifty_vehicles_and_tokens_at_most_however_they_are_added() {
    let (_dynamodb, users) = with_users(&["u-1"]).await;
    let user = id("u-1");
    let vehicles: Vec<Vehicle> = (0..60).map(|index| vehicle(&format!("v-{index}"), None)).collect();
    let added = join_all(vehicles.iter().map(|vehicle| users.add_vehicle(&user, vehicle))).await;
    assert_eq!(added.iter().filter(|answer| answer.is_ok()).count(), MAX_VEHICLES as usize);
    assert_eq!(added.iter().filter(|answer| is_conflict(answer)).count(), 10, "{added:?}");
    let tokens: Vec<_> = (0..60).map(|index| rfid(&format!("t-{index}"))).collect();
    let added = join_all(tokens.iter().map(|token| users.add_token(&user, token))).await;
    assert_eq!(added.iter().filter(|answer| answer.is_ok()).count(), MAX_TOKENS as usize);
    assert_eq!(added.iter().filter(|answer| is_conflict(answer)).count(), 10, "{added:?}");

    let (had, tokens) = (users.vehicles(&user).await.unwrap(), users.tokens(&user).await.unwrap());
    assert_eq!((had.len(), tokens.len()), (50, 50));
    users.remove_vehicle(&user, &had[0].id).await.unwrap();
    users.add_vehicle(&user, &vehicle("one-more", None)).await.unwrap();
    assert!(is_conflict(&users.add_vehicle(&user, &vehicle("too-many", None)).await));
    users.remove_token(&user, &tokens[0].id).await.unwrap();
    users.add_token(&user, &rfid("one-more")).await.unwrap();
    assert!(is_conflict(&users.add_token(&user, &rfid("too-many")).await));

    delete(&users, "u-1").await;
    assert_eq!((users.vehicles(&user).await.unwrap().len(), users.tokens(&user).await.unwrap().len()), (0, 0));
}

#[tokio::test]
async fn a_user_without_a_row_has_vehicles_and_tokens_and_registers_later() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let (users, user) = (dynamodb.users(), id("u-1"));
    users.add_token(&user, &rfid("t-1")).await.unwrap();
    users.add_vehicle(&user, &vehicle("v-1", Some("BAB123"))).await.unwrap();
    let row = item(&dynamodb, "u-1").await;
    let attributes: BTreeSet<&str> = row.keys().map(String::as_str).collect();
    assert_eq!(attributes, BTreeSet::from(["PK", "SK", "tokenCount", "vehicleCount"]));
    assert_eq!(users.status(&user).await.unwrap(), UserStatus::Active);
    let bare = load(&users, "u-1").await;
    assert_eq!((bare.status, bare.registered_at, bare.version), (UserStatus::Active, None, 0));
    assert_eq!(users.token(&TokenId::new("t-1").unwrap()).await.unwrap(), Some((user.clone(), rfid("t-1"))));
    let active = UserFilter::Status(UserStatus::Active);
    assert!(users.list(&active, &first(10)).await.unwrap().items.is_empty(), "there is nothing to list yet");
    let taken = users.insert(&registered("u-1", now()), Some(&vehicle("v-2", Some("b-ab 123"))), &context()).await;
    assert!(is_conflict(&taken), "the number is taken, even by the same user: {taken:?}");

    let ada = registered("u-1", now());
    users.insert(&ada, Some(&vehicle("v-2", None)), &context()).await.unwrap();
    assert_eq!(load(&users, "u-1").await, ada);
    let row = item(&dynamodb, "u-1").await;
    assert_eq!(counts(&row), (Some(2), Some(1)));
    assert_eq!(events(&row), [Event::from(ada.registered_event(true).unwrap())]);
    assert!(is_stale(&users.insert(&ada, None, &context()).await), "registered once");
    assert_eq!(users.list(&active, &first(10)).await.unwrap().items, [ada]);
    assert_eq!((users.vehicles(&user).await.unwrap().len(), users.tokens(&user).await.unwrap().len()), (2, 1));
    delete(&users, "u-1").await;
    assert_tombstone(&dynamodb, "registered after the first token").await;
}

#[tokio::test]
async fn an_item_that_only_counts_can_be_completed_and_deleted_too() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let (users, user) = (dynamodb.users(), id("u-1"));
    users.add_token(&user, &rfid("t-1")).await.unwrap();
    let mut read = load(&users, "u-1").await;
    let event = read.complete(new_user("u-1"), now()).unwrap();
    users.save(&read, vec![event.clone().into()], &context()).await.unwrap();
    let row = item(&dynamodb, "u-1").await;
    assert_eq!((counts(&row), events(&row)), ((None, Some(1)), vec![Event::from(event)]));
    assert!(is_stale(&users.insert(&registered("u-1", now()), None, &context()).await), "registered once");
    assert_eq!(load(&users, "u-1").await, read);
    delete(&users, "u-1").await;
    assert_tombstone(&dynamodb, "completed").await;

    let dynamodb = EmbeddedDynamoDb::start().await;
    let users = dynamodb.users();
    users.add_token(&user, &rfid("t-1")).await.unwrap();
    delete(&users, "u-1").await;
    assert_tombstone(&dynamodb, "never registered").await;
    assert!(is_not_found(&users.add_token(&user, &rfid("t-1")).await), "a deleted user stays deleted");
}

#[tokio::test]
async fn fifty_vehicles_are_the_limit_of_a_user_without_a_row_and_of_a_registration() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let (users, user) = (dynamodb.users(), id("u-1"));
    let vehicles: Vec<Vehicle> = (0..60).map(|index| vehicle(&format!("v-{index}"), None)).collect();
    let added = join_all(vehicles.iter().map(|vehicle| users.add_vehicle(&user, vehicle))).await;
    assert_eq!(added.iter().filter(|answer| answer.is_ok()).count(), MAX_VEHICLES as usize);
    assert_eq!(added.iter().filter(|answer| is_conflict(answer)).count(), 10, "{added:?}");
    let ada = registered("u-1", now());
    assert!(is_conflict(&users.insert(&ada, Some(&vehicle("one-more", None)), &context()).await));
    assert_eq!(load(&users, "u-1").await.registered_at, None);
    users.insert(&ada, None, &context()).await.unwrap();
    assert_eq!(counts(&item(&dynamodb, "u-1").await), (Some(MAX_VEHICLES), None));
}

/// Half of the fifty registrations bring a vehicle. The others are those that heal a user whose row is missing.
#[tokio::test]
async fn of_fifty_registrations_one_wins_while_fifty_tokens_are_added() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let (users, user) = (dynamodb.users(), id("u-1"));
    let inserts = (0..50).map(|attempt| {
        let ada = User { name: Some(format!("Ada {attempt}")), ..registered("u-1", now()) };
        let users = users.clone();
        async move {
            let zoe = (attempt % 2 == 0).then(|| vehicle(&format!("v-{attempt}"), Some(&format!("B-A {attempt}"))));
            users.insert(&ada, zoe.as_ref(), &context()).await.map(|()| (ada, zoe))
        }
    });
    let tokens = (0..50).map(|index| {
        let (users, user) = (users.clone(), user.clone());
        async move { users.add_token(&user, &rfid(&format!("t-{index}"))).await }
    });
    let (inserted, added) = futures::future::join(join_all(inserts), join_all(tokens)).await;
    assert!(added.iter().all(Result::is_ok), "{added:?}");
    let (won, lost): (Vec<_>, Vec<_>) = inserted.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(is_stale), "{lost:?}");
    let (ada, zoe) = won[0].as_ref().unwrap();
    assert_eq!(load(&users, "u-1").await, *ada);
    assert_eq!(counts(&item(&dynamodb, "u-1").await), (zoe.as_ref().map(|_| 1), Some(MAX_TOKENS)));
    assert_eq!(users.vehicles(&user).await.unwrap(), zoe.iter().cloned().collect::<Vec<_>>());
    assert_eq!(users.tokens(&user).await.unwrap().len(), MAX_TOKENS as usize);
}

/// A registration inserts the user, and at the same time another one completes the item that counts.
#[tokio::test]
async fn a_registration_and_a_completion_report_one_registration() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let users = dynamodb.users();
    for round in 0..20 {
        let name = format!("u-{round}");
        users.add_token(&id(&name), &rfid(&format!("t-{round}"))).await.unwrap();
        let ada = registered(&name, now());
        let context = context();
        let insert = users.insert(&ada, None, &context);
        let complete = async {
            let mut read = load(&users, &name).await;
            match read.complete(new_user(&name), now()) {
                Some(event) => users.save(&read, vec![event.into()], &context).await.map(|()| true),
                None => Ok(false),
            }
        };
        let (inserted, completed) = futures::future::join(insert, complete).await;
        let wins = usize::from(inserted.is_ok()) + usize::from(matches!(completed, Ok(true)));
        assert_eq!(wins, 1, "{inserted:?} {completed:?}");
        assert!(matches!(&events(&item(&dynamodb, &name).await)[..], [Event::UserRegistered(_)]));
    }
}

#[tokio::test]
async fn vehicles_and_tokens_need_a_user_who_stays() {
    let (_dynamodb, users) = with_users(&["u-1"]).await;
    let user = id("u-1");
    let mut leaving = load(&users, "u-1").await;
    leaving.start_deletion(&admin()).unwrap();
    users.save(&leaving, Vec::new(), &context()).await.unwrap();
    assert!(is_conflict(&users.add_vehicle(&user, &vehicle("v-1", None)).await));
    assert!(is_conflict(&users.add_token(&user, &rfid("t-1")).await));
    delete(&users, "u-1").await;
    assert!(is_not_found(&users.add_vehicle(&user, &vehicle("v-1", None)).await));
    assert!(is_not_found(&users.add_token(&user, &rfid("t-1")).await));
}

#[tokio::test]
async fn a_lost_response_adds_nothing_twice() {
    let (dynamodb, _) = with_users(&["u-1"]).await;
    let (http, db) = faulty_db(&dynamodb);
    let (users, user) = (UserStore::new(db, TABLE), id("u-1"));
    let lost = || http.plan([(0, Fault::LostAnswer)].into());
    lost();
    users.add_vehicle(&user, &vehicle("v-1", Some("BAB123"))).await.unwrap();
    lost();
    users.add_token(&user, &rfid("t-1")).await.unwrap();
    let mut changed = load(&users, "u-1").await;
    let blocked = changed.block(&admin(), true, "fraud", now()).unwrap();
    lost();
    users.save(&changed, vec![blocked.clone().into()], &context()).await.unwrap();
    let row = item(&dynamodb, "u-1").await;
    assert_eq!(
        (&row["vehicleCount"], &row["tokenCount"]),
        (&AttributeValue::N("1".into()), &AttributeValue::N("1".into()))
    );
    assert_eq!(events(&row), [Event::from(blocked)]);
    assert_eq!(load(&users, "u-1").await, changed);
}

#[tokio::test]
async fn of_two_changes_of_one_user_one_wins() {
    let (_dynamodb, users) = with_users(&["u-1"]).await;
    let mut changed = load(&users, "u-1").await;
    let mut other = changed.clone();
    changed.set_role(Role::TechSupport, &admin()).unwrap();
    users.save(&changed, Vec::new(), &context()).await.unwrap();
    other.update(Some("Grace".to_owned()), Some(Language::En)).unwrap();
    assert!(is_stale(&users.save(&other, Vec::new(), &context()).await));
    changed.role_written(now());
    changed.update(None, Some(Language::En)).unwrap();
    assert!(is_stale(&users.save(&changed, Vec::new(), &context()).await), "two changes are two writes");
    let mut read = load(&users, "u-1").await;
    assert_eq!((read.role, read.role_pending, read.version), (Role::TechSupport, true, 2));
    read.role_written(now());
    users.save(&read, Vec::new(), &context()).await.unwrap();
    assert_eq!(load(&users, "u-1").await, read);
    let mut nobody = User { id: id("nobody"), version: 0, ..read };
    nobody.update(None, None).unwrap();
    assert!(is_stale(&users.save(&nobody, Vec::new(), &context()).await), "a change makes no row");
}

#[tokio::test]
async fn a_row_that_only_says_blocked_is_a_blocked_user() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let (users, user) = (dynamodb.users(), id("u-1"));
    assert_eq!(users.status(&user).await.unwrap(), UserStatus::Active, "no row");
    dynamodb.block_user("u-1").await;
    assert_eq!(users.status(&user).await.unwrap(), UserStatus::Blocked);
    let mut read = load(&users, "u-1").await;
    let bare =
        User { email: None, name: None, language: Language::En, registered_at: None, ..registered("u-1", now()) };
    assert_eq!(read, User { status: UserStatus::Blocked, version: 0, ..bare });
    // A token does not change this.
    users.add_token(&user, &rfid("t-1")).await.unwrap();
    assert!(is_stale(&users.insert(&registered("u-1", now()), None, &context()).await), "the block stays");
    let first_vehicle = vehicle("v-1", None);
    assert!(is_stale(&users.insert(&registered("u-1", now()), Some(&first_vehicle), &context()).await));

    let event = read.complete(new_user("u-1"), now()).unwrap();
    users.save(&read, vec![event.clone().into()], &context()).await.unwrap();
    assert_eq!(events(&item(&dynamodb, "u-1").await), [Event::from(event)]);
    assert_eq!(users.status(&user).await.unwrap(), UserStatus::Blocked);
    let event = read.unblock(&admin(), now()).unwrap();
    users.save(&read, vec![event.into()], &context()).await.unwrap();
    assert_eq!(users.status(&user).await.unwrap(), UserStatus::Active);
    assert_eq!(load(&users, "u-1").await, read);
    assert_eq!(users.by_email("U-1@example.com").await.unwrap(), Some(read));

    dynamodb.block_user("u-2").await;
    set_blocked(&dynamodb, "u-2", false).await;
    assert_eq!(users.status(&id("u-2")).await.unwrap(), UserStatus::Active, "neither status nor a block");
}

#[tokio::test]
async fn a_block_by_hand_survives_a_change_of_the_user() {
    let (dynamodb, users) = with_users(&["u-1"]).await;
    let mut read = load(&users, "u-1").await;
    set_blocked(&dynamodb, "u-1", true).await;
    read.update(Some("Grace".to_owned()), None).unwrap();
    assert!(is_stale(&users.save(&read, Vec::new(), &context()).await));
    let mut read = load(&users, "u-1").await;
    assert_eq!(read.status, UserStatus::Blocked);
    read.update(Some("Grace".to_owned()), None).unwrap();
    users.save(&read, Vec::new(), &context()).await.unwrap();
    assert_eq!(load(&users, "u-1").await.status, UserStatus::Blocked);

    read.start_deletion(&admin()).unwrap();
    users.save(&read, Vec::new(), &context()).await.unwrap();
    assert_eq!(users.status(&id("u-1")).await.unwrap(), UserStatus::Deleting);
    let mut read = load(&users, "u-1").await;
    read.refuse_deletion().unwrap();
    users.save(&read, Vec::new(), &context()).await.unwrap();
    assert_eq!(users.status(&id("u-1")).await.unwrap(), UserStatus::Blocked);

    set_blocked(&dynamodb, "u-1", false).await;
    assert_eq!(users.status(&id("u-1")).await.unwrap(), UserStatus::Active);
    let mut read = load(&users, "u-1").await;
    read.update(None, None).unwrap();
    users.save(&read, Vec::new(), &context()).await.unwrap();
    assert_eq!(load(&users, "u-1").await.status, UserStatus::Active);
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

/// Writes a user with vehicles, tokens, a block and an attribute that this software does not know.
async fn put_user(dynamodb: &EmbeddedDynamoDb) {
    let (users, user) = (dynamodb.users(), id("u-1"));
    users.insert(&registered("u-1", now()), Some(&vehicle("v-1", Some("B-AB 123"))), &context()).await.unwrap();
    users.add_vehicle(&user, &vehicle("v-2", None)).await.unwrap();
    for token in ["t-1", "t-2"] {
        users.add_token(&user, &rfid(token)).await.unwrap();
    }
    let mut blocked = load(&users, "u-1").await;
    let event = blocked.block(&admin(), false, "fraud", now()).unwrap();
    users.save(&blocked, vec![event.into()], &context()).await.unwrap();
    let update = dynamodb.client().update_item().table_name(TABLE).key("PK", text("USER#u-1"));
    let update = update.key("SK", text("METADATA")).update_expression("SET phone = :p");
    update.expression_attribute_values(":p", text("+49 30 1")).send().await.unwrap();
}

#[tokio::test]
async fn a_deletion_that_crashes_anywhere_is_completed_by_the_next() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for call in 0.. {
            let dynamodb = EmbeddedDynamoDb::start().await;
            put_user(&dynamodb).await;
            let (http, db) = faulty_db(&dynamodb);
            let users = UserStore::new(db, TABLE);
            http.plan([(call, fault)].into());
            let crashed = http.survive(delete(&users, "u-1")).await.is_none();
            if !crashed {
                assert!(call >= 7, "{fault:?}: only {call} calls");
                assert_tombstone(&dynamodb, "no crash").await;
                break;
            }
            http.plan([].into());
            delete(&users, "u-1").await;
            assert_tombstone(&dynamodb, &format!("{fault:?} at call {call}")).await;
        }
    }
}

#[tokio::test]
async fn a_deleted_user_stays_deleted() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    put_user(&dynamodb).await;
    let (users, user) = (dynamodb.users(), id("u-1"));
    let before = load(&users, "u-1").await;
    delete(&users, "u-1").await;
    let deleted = load(&users, "u-1").await;
    assert_eq!(
        (deleted.status, deleted.email.as_ref(), deleted.version),
        (UserStatus::Deleted, None, before.version + 2)
    );
    assert!(users.status(&user).await.unwrap().may_charge(&user).is_err());
    let again = vehicle("v-1", Some("BAB123"));
    assert!(is_stale(&users.insert(&registered("u-1", now()), Some(&again), &context()).await), "a late token");
    let late = User { version: before.version + 1, ..before };
    assert!(is_stale(&users.save(&late, Vec::new(), &context()).await), "a late change");
    assert!(is_conflict(&users.erase(&registered("u-1", now()), &context()).await), "nobody asked for it");
    assert_eq!(users.by_email("u-1@example.com").await.unwrap(), None);
    assert_tombstone(&dynamodb, "after late writes").await;

    // Nobody else is kept from the number, the token and the address.
    users.insert(&registered("u-2", now()), Some(&again), &context()).await.unwrap();
    users.add_token(&id("u-2"), &rfid("t-1")).await.unwrap();
}

#[tokio::test]
async fn a_deletion_that_begins_again_stops_the_one_before() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    put_user(&dynamodb).await;
    let users = dynamodb.users();
    let mut attempts = Vec::new();
    for _ in 0..2 {
        let mut user = load(&users, "u-1").await;
        user.start_deletion(&admin()).unwrap();
        users.save(&user, Vec::new(), &context()).await.unwrap();
        attempts.push(user);
    }
    let mut second = attempts.pop().unwrap();
    let mut earlier = attempts.pop().unwrap();
    earlier.delete(now()).unwrap();
    assert!(is_stale(&users.erase(&earlier, &context()).await));
    second.refuse_deletion().unwrap();
    users.save(&second, Vec::new(), &context()).await.unwrap();
    assert!(is_stale(&users.erase(&earlier, &context()).await));
    assert_eq!(load(&users, "u-1").await.status, UserStatus::Blocked);
    assert_eq!(users.vehicles(&id("u-1")).await.unwrap().len(), 2, "nothing was deleted");
    assert_eq!(users.tokens(&id("u-1")).await.unwrap().len(), 2, "nothing was deleted");
}

#[tokio::test]
async fn every_list_pages_to_the_end() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let users = dynamodb.users();
    for index in 0..40 {
        // Always two at the same instant.
        let at = now() + TimeDelta::seconds(index / 2);
        let mut user = registered(&format!("u-{index}"), at);
        users.insert(&user, None, &context()).await.unwrap();
        users.insert(&machine_client(&format!("m-{index}"), at), None, &context()).await.unwrap();
        if index % 4 == 0 {
            let event = user.block(&admin(), false, "fraud", now()).unwrap();
            users.save(&user, vec![event.into()], &context()).await.unwrap();
        }
    }
    delete(&users, "u-39").await;
    delete(&users, "m-39").await;
    set_blocked(&dynamodb, "u-38", true).await;
    let expect = |prefix: &str, keep: &dyn Fn(u32) -> bool| -> BTreeSet<UserId> {
        (0..40).filter(|index| keep(*index)).map(|index| id(&format!("{prefix}-{index}"))).collect()
    };
    for (status, expected) in [
        (UserStatus::Active, expect("u", &|index| !index.is_multiple_of(4) && index < 38)),
        (UserStatus::Blocked, expect("u", &|index| index.is_multiple_of(4))),
        (UserStatus::Unconfirmed, BTreeSet::new()),
        (UserStatus::Deleted, BTreeSet::new()),
    ] {
        for limit in [1, 7, 100] {
            let filter = UserFilter::Status(status);
            let (found, _) = walk(limit, async |page| users.list(&filter, &page).await).await;
            assert_newest_first(&found, &expected);
        }
    }
    for limit in [1, 7, 100] {
        let (found, _) = walk(limit, async |page| users.clients(&page).await).await;
        assert_newest_first(&found, &expect("m", &|index| index < 39));
    }
}

/// Checks that these are the expected users, each once, newest first.
fn assert_newest_first(found: &[User], expected: &BTreeSet<UserId>) {
    let ids: BTreeSet<UserId> = found.iter().map(|user| user.id.clone()).collect();
    assert_eq!((&ids, found.len()), (expected, expected.len()));
    assert!(found.is_sorted_by(|a, b| a.registered_at >= b.registered_at), "{found:?}");
}

#[tokio::test]
async fn a_user_is_found_by_address_and_by_registration_number() {
    let (_dynamodb, users) = with_users(&["u-1", "u-2"]).await;
    users.add_vehicle(&id("u-2"), &vehicle("v-1", Some("B-AB 123"))).await.unwrap();
    for (filter, expected) in [
        (UserFilter::Email(" U-1@Example.com ".to_owned()), Some("u-1")),
        (UserFilter::Email("u-3@example.com".to_owned()), None),
        (UserFilter::Email(String::new()), None),
        (UserFilter::RegistrationNumber(number("bab123")), Some("u-2")),
        (UserFilter::RegistrationNumber(number("bab124")), None),
    ] {
        let page = users.list(&filter, &first(10)).await.unwrap();
        let found: Vec<&str> = page.items.iter().map(|user| user.id.as_str()).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{filter:?}");
        assert_eq!(page.next_token, None);
        let forged = PageRequest { limit: 10, next_token: Some("x".to_owned()) };
        let refused = users.list(&filter, &forged).await;
        assert!(matches!(refused, Err(StoreError::Domain(DomainError::Validation(_)))), "{refused:?}");
    }
}
