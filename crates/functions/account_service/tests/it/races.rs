use std::sync::Arc;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::world::{AT_ONCE, World, admin, error_type, sign_up, user, vehicle};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_sign_ups_with_one_address_one_succeeds() {
    let world = Arc::new(World::new(AT_ONCE).await);
    let attempts = (0..50).map(|number| {
        let world = world.clone();
        tokio::spawn(async move {
            let mut command = sign_up("ada@example.com");
            command["vehicle"] = vehicle(&format!("B {number}"));
            world.act("register", Value::Null, command).await
        })
    });
    let outcomes: Vec<_> = join_all(attempts).await.into_iter().map(Result::unwrap).collect();
    let (registered, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((registered.len(), refused.len()), (1, 49));
    assert!(refused.iter().all(|outcome| error_type(outcome) == "ConflictError"), "{refused:?}");
    let id = registered[0].as_ref().unwrap()["userId"].as_str().unwrap();
    assert_eq!((world.cognito.users().await, world.written("USER_REGISTERED", id)), (1, 1));
    let vehicles = world.act("listVehicles", user(id), json!({})).await.unwrap();
    assert_eq!(vehicles["count"], 1, "{vehicles}");
}

/// Each of them may find the number free. The one that writes first keeps it, and of the others nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_sign_ups_with_one_registration_number_one_succeeds() {
    let world = Arc::new(World::new(AT_ONCE).await);
    let attempts = (0..50).map(|number| {
        let world = world.clone();
        tokio::spawn(async move {
            let mut command = sign_up(&format!("ada-{number}@example.com"));
            command["vehicle"] = vehicle("M-EV 42E");
            world.act("register", Value::Null, command).await
        })
    });
    let outcomes: Vec<_> = join_all(attempts).await.into_iter().map(Result::unwrap).collect();
    let (registered, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((registered.len(), refused.len()), (1, 49));
    assert!(refused.iter().all(|outcome| error_type(outcome) == "ConflictError"), "{refused:?}");
    let items = world.dynamodb.items("ev-users").await;
    let with_address = items.iter().filter(|item| item.contains_key("email")).count();
    assert_eq!((world.cognito.users().await, with_address), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_vehicles_with_one_registration_number_one_is_added() {
    let world = Arc::new(World::new(AT_ONCE).await);
    let attempts = (0..50).map(|number| {
        let world = world.clone();
        tokio::spawn(async move {
            let vehicle = json!({ "vehicle": vehicle("M-EV 42E") });
            world.act("addVehicle", user(&format!("u-{number}")), vehicle).await
        })
    });
    let outcomes: Vec<_> = join_all(attempts).await.into_iter().map(Result::unwrap).collect();
    let refused: Vec<_> = outcomes.iter().filter(|outcome| outcome.is_err()).collect();
    assert_eq!(refused.len(), 49);
    assert!(refused.iter().all(|outcome| error_type(outcome) == "ConflictError"), "{refused:?}");
}

/// Whichever role is given last, the row and the groups say the same in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn roles_that_are_given_at_once_end_as_one() {
    let world = Arc::new(World::new(AT_ONCE).await);
    let id = world.register("ada@example.com").await;
    let attempts = ["ADMIN", "TECH_SUPPORT", "USER", "ADMIN", "USER"].map(|role| {
        let (world, id) = (world.clone(), id.clone());
        tokio::spawn(async move { world.act("setRole", admin(), json!({ "userId": id, "role": role })).await })
    });
    for outcome in join_all(attempts).await {
        outcome.unwrap().unwrap();
    }
    let customer = world.act("getCustomer", admin(), json!({ "userId": id })).await.unwrap();
    assert_eq!(crate::customers::groups(&world, &id).await, [customer["role"].as_str().unwrap()]);
    assert!(!world.row(&id).await.unwrap().contains_key("rolePending"));
}
