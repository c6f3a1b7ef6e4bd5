//! Deletions: they leave only a tombstone, wherever they were interrupted.

use domain::accounts::{User, UserStatus};
use store::UserStore;
use testkit::{EmbeddedDynamoDb, Fault, registered, rfid, vehicle};

use super::{TABLE, admin, assert_tombstone, delete, id, is_conflict, is_stale, load, text};
use crate::common::{context, faulty_db, now};

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
