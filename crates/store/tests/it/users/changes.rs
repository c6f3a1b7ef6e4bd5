//! Changes of a user, and blocks that an operator writes by hand.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::accounts::{Language, User, UserStatus};
use domain::actor::Role;
use domain::event::Event;
use store::UserStore;
use testkit::{EmbeddedDynamoDb, Fault, registered, rfid, vehicle};

use super::{TABLE, admin, events, id, is_stale, item, load, new_user, set_blocked, with_users};
use crate::common::{context, faulty_db, now};

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
