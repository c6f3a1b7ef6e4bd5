//! Vehicles and charging tokens: each belongs to one user, and a user has at most fifty of each.

use domain::accounts::{MAX_TOKENS, MAX_VEHICLES, TokenId, Vehicle};
use domain::id::VehicleId;
use futures::future::join_all;
use testkit::{EmbeddedDynamoDb, registered, rfid, vehicle};

use super::{admin, counts, delete, events, id, is_conflict, is_not_found, item, load, number, with_users};
use crate::common::{context, now};

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
