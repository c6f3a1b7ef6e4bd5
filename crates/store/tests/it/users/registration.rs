//! Registrations: of many writers one wins, and a user who had no row registers once.

use std::collections::BTreeSet;

use domain::accounts::{MAX_TOKENS, TokenId, User, UserStatus};
use domain::event::Event;
use futures::future::join_all;
use store::UserFilter;
use testkit::{EmbeddedDynamoDb, registered, rfid, vehicle};

use super::{
    TABLE, assert_tombstone, counts, delete, events, id, is_conflict, is_not_found, is_stale, item, load, new_user,
};
use crate::common::{context, first, now};

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
