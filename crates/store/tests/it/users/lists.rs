//! Lists of users and of machine clients, and searches for one user.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use domain::accounts::{User, UserStatus};
use domain::error::DomainError;
use domain::id::UserId;
use store::{PageRequest, StoreError, UserFilter};
use testkit::{EmbeddedDynamoDb, machine_client, registered, vehicle};

use super::{admin, delete, id, number, set_blocked, with_users};
use crate::common::{context, first, now, walk};

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
