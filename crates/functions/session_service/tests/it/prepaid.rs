//! Prepaid sessions: the held money of a wallet is for one session at a time, whatever fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use lambda_kit::{Clock, Door, RemoteFunction};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use session_service::SessionService;
use store::{ChargingStore, Client, Db, UserStore};
use testkit::{FakeLambda, Fault, FaultyHttp, NOWHERE, Outcome, invoke, sdk_config, sqs_event};

use crate::common::{World, admin, error_type, id, minutes_after, no_inbox};

/// The number of calls of a prepaid start: read the session that its key may have started, the user and the station,
/// then the hold and the transaction.
const CALLS: u32 = 5;

impl World {
    /// Tops up a user's wallet as the cash desk does.
    async fn top_up(&self, user: &str, amount: &str) {
        let command = json!({
            "action": "topUpWallet", "actor": admin(), "userId": user, "amount": amount, "currency": "EUR",
            "idempotencyKey": uuid::Uuid::new_v4()
        });
        invoke(&self.billing, command).await.unwrap();
    }

    /// Returns the balance, and the part of it that is held.
    async fn wallet(&self, user: &str) -> (String, String) {
        let get = json!({ "action": "getWallet", "actor": { "userId": user, "role": "USER" } });
        let wallet = invoke(&self.billing, get).await.unwrap();
        let amount = |field: &str| wallet[field].as_str().unwrap_or("0.00").to_owned();
        (amount("balance"), amount("held"))
    }

    /// Delivers the ends of sessions to billing, as the relay, the bus and the queue do.
    async fn deliver_ends(&self) {
        let events = self.events("ev-sessions").await;
        let ends = events.iter().filter(|event| event["eventType"] == "SESSION_ENDED");
        let bodies: Vec<String> =
            ends.map(|event| json!({ "detail-type": "SESSION_ENDED", "detail": event }).to_string()).collect();
        let answer = invoke(&self.billing, sqs_event(&bodies)).await.unwrap();
        assert_eq!(answer["batchItemFailures"], json!([]));
    }
}

/// A session service whose calls to `DynamoDB` and to billing may fail.
struct Faulty {
    http: FaultyHttp,
    sessions: Door<SessionService>,
    _lambda: FakeLambda,
}

impl Faulty {
    async fn new(world: &World) -> Self {
        let http = FaultyHttp::default();
        let lambda = FakeLambda::start(world.billing.clone()).await;
        let sdk = |endpoint: &str| sdk_config(endpoint).to_builder().http_client(http.clone()).build();
        let client = Client::new(&sdk(&world.dynamodb.endpoint()));
        let charging = ChargingStore::new(client.clone(), "ev-stations", "ev-sessions");
        let users = UserStore::new(Db::new(client), "ev-users");
        let billing = RemoteFunction::new(&sdk(&lambda.endpoint()), "billing".to_owned());
        let sessions = Door::new(SessionService::new(charging, users, billing, no_inbox()), Clock::SYSTEM);
        Self { http, sessions, _lambda: lambda }
    }

    /// Returns the answer, or `None` if the process crashed.
    async fn start(&self, command: &Value, faults: BTreeMap<u32, Fault>) -> Option<Outcome> {
        self.http.plan(faults);
        self.http.survive(invoke(&self.sessions, command.clone())).await
    }
}

fn prepaid(more: &Value) -> Value {
    let mut limits = json!({ "prepaid": true });
    limits.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "limits": limits })
}

fn start(station: &str, user: &str, key: &str) -> Value {
    json!({
        "action": "startSession", "actor": { "userId": user, "role": "USER" }, "stationId": station, "portId": "port-1",
        "vehicle": { "batteryCapacityKwh": 60 }, "chargePercent": 20, "limits": { "prepaid": true }, "idempotencyKey": key
    })
}

fn most(outcome: &Outcome) -> Decimal {
    outcome.as_ref().map_or(Decimal::ZERO, |session| session["limits"]["maxCost"].as_str().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_concurrent_prepaid_starts_share_one_balance() {
    for round in 0..10 {
        let world = Arc::new(World::new().await);
        world.station("s-1", 4).await;
        world.top_up("u-1", "10.00").await;
        let starts: Vec<_> = [None, Some("7.00"), Some("4.00"), Some("2.50")]
            .into_iter()
            .zip(1..)
            .map(|(limit, port)| {
                let (world, limits) = (world.clone(), limit.map_or(json!({}), |limit| json!({ "maxCost": limit })));
                tokio::spawn(async move { world.start("s-1", &format!("port-{port}"), "u-1", prepaid(&limits)).await })
            })
            .collect();
        let mut given = Decimal::ZERO;
        for start in starts {
            let outcome = start.await.unwrap();
            given += most(&outcome);
            if outcome.is_err() {
                assert_eq!(error_type(&outcome), "ConflictError", "{outcome:?}");
            }
        }
        assert_eq!(given, Decimal::TEN, "round {round}: in any order, all of it is held and nothing twice");
        assert_eq!(world.wallet("u-1").await, ("10.00".to_owned(), "10.00".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_prepaid_starts_with_one_key_give_one_session_with_one_hold() {
    let world = Arc::new(World::new().await);
    world.station("s-1", 1).await;
    world.top_up("u-1", "10.00").await;
    let command = start("s-1", "u-1", "key-1");
    let starts: Vec<_> = (0..50)
        .map(|_| {
            let (world, command) = (world.clone(), command.clone());
            tokio::spawn(async move { invoke(&world.sessions, command).await })
        })
        .collect();
    let mut sessions = Vec::new();
    for start in starts {
        sessions.push(start.await.unwrap().unwrap());
    }
    assert!(sessions.iter().all(|session| id(session) == id(&sessions[0])));
    assert_eq!(sessions[0]["limits"]["maxCost"], "10.00");
    assert_eq!(world.wallet("u-1").await, ("10.00".to_owned(), "10.00".to_owned()));
    world.tick(minutes_after(&sessions[0], 6)).await.unwrap();
    world.stop(id(&sessions[0]), "u-1").await.unwrap();
    world.deliver_ends().await;
    // 10 kWh cost 4.90 at 0.49 per kWh.
    assert_eq!(world.wallet("u-1").await, ("5.10".to_owned(), "0.00".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refused_start_releases_its_hold() {
    let world = Arc::new(World::new().await);
    world.station("s-1", 1).await;
    for round in 0..10 {
        let users: Vec<String> = (0..4).map(|n| format!("u-{round}-{n}")).collect();
        for user in &users {
            world.top_up(user, "10.00").await;
        }
        let starts: Vec<_> = users
            .iter()
            .map(|user| {
                let (world, user) = (world.clone(), user.clone());
                tokio::spawn(async move { world.start("s-1", "port-1", &user, prepaid(&json!({}))).await })
            })
            .collect();
        let mut started = 0;
        for (user, start) in users.iter().zip(starts) {
            let outcome = start.await.unwrap();
            let held = world.wallet(user).await.1;
            match &outcome {
                Ok(session) => {
                    started += 1;
                    assert_eq!(held, "10.00");
                    let fail = json!({ "action": "failSession", "actor": admin(), "sessionId": id(session) });
                    invoke(&world.sessions, fail).await.unwrap();
                }
                Err((kind, _)) => assert_eq!((kind.as_str(), held.as_str()), ("ConflictError", "0.00"), "{outcome:?}"),
            }
        }
        assert_eq!(started, 1, "round {round}");
        // A failed session costs nothing, and its hold ends.
        world.deliver_ends().await;
        for user in &users {
            assert_eq!(world.wallet(user).await, ("10.00".to_owned(), "0.00".to_owned()));
        }
        let reset = json!({ "action": "resetPort", "actor": admin(), "stationId": "s-1", "portId": "port-1" });
        invoke(&world.stations, reset).await.unwrap();
    }
    // If the station or the request is refused, no money is held before.
    world.top_up("u-1", "10.00").await;
    world.transition("s-1", "MAINTENANCE").await.unwrap();
    let items = world.dynamodb.items("ev-billing").await.len();
    for more in [prepaid(&json!({})), prepaid(&json!({ "maxCost": 0 }))] {
        assert!(world.start("s-1", "port-1", "u-1", more).await.is_err());
    }
    assert_eq!(world.dynamodb.items("ev-billing").await.len(), items);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_billing_only_prepaid_starts_are_refused() {
    let world = World::new().await;
    world.station("s-1", 2).await;
    let billing = RemoteFunction::new(&sdk_config(NOWHERE), "billing".to_owned());
    let sessions = SessionService::new(world.dynamodb.charging(), world.dynamodb.users(), billing, no_inbox());
    let sessions = Door::new(sessions, Clock::SYSTEM);
    let refused = invoke(&sessions, start("s-1", "u-1", "key-1")).await;
    assert_eq!(error_type(&refused), "UnavailableError");
    assert!(world.dynamodb.items("ev-sessions").await.is_empty());
    let mut unpaid = start("s-1", "u-1", "key-1");
    unpaid["limits"] = json!({});
    assert_eq!(invoke(&sessions, unpaid).await.unwrap()["status"], "STARTED");
}

/// The answer of billing is lost, so the start is refused and the hold is released.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_whose_answer_is_lost_is_released() {
    let world = World::new().await;
    world.station("s-1", 1).await;
    world.top_up("u-1", "10.00").await;
    let faulty = Faulty::new(&world).await;
    // Before the hold are three calls: the session that the key may have started, the user, the station.
    let lost = BTreeMap::from([(3, Fault::LostAnswer)]);
    let refused = faulty.start(&start("s-1", "u-1", "key-1"), lost).await.unwrap();
    assert_eq!(error_type(&refused), "UnavailableError");
    assert!(world.dynamodb.items("ev-sessions").await.is_empty());
    assert!(world.dynamodb.items("ev-billing").await.iter().any(|item| item.contains_key("expiresAt")), "it was held");
    assert_eq!(world.wallet("u-1").await, ("10.00".to_owned(), "0.00".to_owned()));
}

/// A transaction that is not answered may be written later, when billing no longer holds money for its session.
/// Therefore its port is changed first, and the transaction no longer finds the port as it was read.
#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_start_cannot_be_written_after_its_hold_was_released() {
    let world = World::new().await;
    world.station("s-1", 1).await;
    world.top_up("u-1", "10.00").await;
    let port_version = async || {
        let items = world.dynamodb.items("ev-stations").await;
        let port = items.into_iter().find(|item| item["SK"].as_s().unwrap() == "PORT#port-1").unwrap();
        port["version"].as_n().unwrap().clone()
    };
    let faulty = Faulty::new(&world).await;
    // The transaction is the last call. It is attempted up to nine times.
    let busy = (CALLS - 1..CALLS + 8).map(|call| (call, Fault::Throttle)).collect();
    let before = port_version().await;
    let refused = faulty.start(&start("s-1", "u-1", "key-1"), busy).await.unwrap();
    assert_eq!(error_type(&refused), "UnavailableError");
    assert_ne!(port_version().await, before, "the transaction requires the version before");
    assert_eq!(world.wallet("u-1").await, ("10.00".to_owned(), "0.00".to_owned()));
    let started = faulty.start(&start("s-1", "u-1", "key-1"), BTreeMap::new()).await.unwrap().unwrap();
    assert_eq!((&started["status"], &started["limits"]["maxCost"]), (&json!("STARTED"), &json!("10.00")));
}

/// A start that crashes or fails at any call. Repeating the request starts the session with all money of the wallet,
/// and after the end of the session nothing is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_prepaid_start_that_crashes_anywhere_can_be_repeated_and_leaves_no_hold() {
    let world = World::new().await;
    let faulty = Faulty::new(&world).await;
    let mut died = 0;
    for call in 0..CALLS {
        for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::Throttle, Fault::LostAnswer] {
            let name = format!("{call}-{fault:?}");
            let user = format!("u-{name}");
            world.station(&format!("s-{name}"), 1).await;
            world.top_up(&user, "10.00").await;
            let command = start(&format!("s-{name}"), &user, "key-1");
            let first = faulty.start(&command, BTreeMap::from([(call, fault)])).await;
            died += u32::from(first.is_none());
            let session = match first {
                Some(Ok(session)) => session,
                _ => faulty.start(&command, BTreeMap::new()).await.unwrap().unwrap(),
            };
            assert_eq!(session["limits"]["maxCost"], "10.00", "{name}");
            assert_eq!(world.wallet(&user).await, ("10.00".to_owned(), "10.00".to_owned()), "{name}");
            let stopped = world.stop(id(&session), &user).await.unwrap();
            world.deliver_ends().await;
            let cost: Decimal = stopped["cost"].as_str().unwrap().parse().unwrap();
            let left = (Decimal::new(1000, 2) - cost).to_string();
            assert_eq!(world.wallet(&user).await, (left, "0.00".to_owned()), "{name}");
        }
    }
    assert_eq!(died, 2 * CALLS, "it crashed before and after every call");
}
