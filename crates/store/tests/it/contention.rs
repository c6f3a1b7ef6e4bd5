//! Busy tables and lost responses: a call that the table refused temporarily is retried, and a write whose response was
//! lost is neither made twice nor mistaken for the write of another writer.

use domain::actor::{Actor, Role};
use domain::charging::station::StationStatus;
use domain::id::{SessionId, StationId, UserId};
use domain::notifications::{Level, LogEntry, LogStatus};
use domain::poi::PoiFilter;
use store::{ErrorLogFilter, PoiStore, StoreError, UserStore};
use testkit::{EmbeddedDynamoDb, Fault, FaultyHttp};

use crate::common::{
    charging_by, faulty, faulty_db, first, insert_log, insert_station, list_logs, log, logs_by, now, poi, port,
    put_session, station,
};

fn staff() -> Actor {
    Actor { user_id: UserId::new("t-1").unwrap(), role: Role::TechSupport }
}

/// Makes `fault` happen to the first three calls of `work`.
async fn thrice<T>(http: &FaultyHttp, fault: Fault, work: impl Future<Output = Result<T, StoreError>>) -> T {
    http.plan((0..3).map(|call| (call, fault)).collect());
    let answer = work.await.unwrap_or_else(|error| panic!("{fault:?}: {error:?}"));
    assert!(http.calls() >= 4, "{fault:?}: {} calls", http.calls());
    answer
}

#[tokio::test]
async fn every_kind_of_call_is_retried_after_contention() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let (http, client) = faulty(&dynamodb);
    let db = store::Db::new(client.clone());
    let logs = logs_by(db.clone());
    let pois = PoiStore::new(db.clone(), "ev-ocm-pois");
    let users = UserStore::new(db, "ev-users");
    let charging = charging_by(client);
    for (n, fault) in [(1, Fault::Throttle), (2, Fault::Conflict)] {
        let mut entry = log(n, Level::Error, "a", LogStatus::Open);
        thrice(&http, fault, insert_log(&logs, &entry)).await;
        assert_eq!(thrice(&http, fault, logs.load(&entry.id)).await.as_ref(), Some(&entry));
        entry.transition(LogStatus::Acknowledged, &staff(), now()).unwrap();
        thrice(&http, fault, logs.save(&entry)).await;
        let listed = ErrorLogFilter { status: Some(LogStatus::Acknowledged), ..ErrorLogFilter::default() };
        assert_eq!(thrice(&http, fault, list_logs(&logs, &listed, &first(1))).await.items, [entry]);
        thrice(&http, fault, users.status(&UserId::new("u-1").unwrap())).await;
        assert!(thrice(&http, fault, pois.put(&poi(n, (52.5, 13.4), None, 1))).await);
        thrice(&http, fault, pois.remove(n)).await;
        let station = station(&format!("s-{n}"), (52.5, 13.4), StationStatus::New);
        thrice(&http, fault, insert_station(&charging.stations, &station, &[])).await;
    }
    assert!(dynamodb.pois().of_country(1, &PoiFilter::default(), &first(1)).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_write_whose_response_was_lost_succeeds_without_a_conflict() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let (http, client) = faulty(&dynamodb);
    let logs = logs_by(store::Db::new(client.clone()));
    let stations = charging_by(client).stations;
    let lost = || http.plan([(0, Fault::LostAnswer)].into());
    let mut entry = log(1, Level::Error, "a", LogStatus::Open);
    lost();
    insert_log(&logs, &entry).await.unwrap();
    entry.transition(LogStatus::Resolved, &staff(), now()).unwrap();
    lost();
    logs.save(&entry).await.unwrap();
    assert_eq!(logs.load(&entry.id).await.unwrap(), Some(entry));
    let (station, mut port) = (station("s-1", (52.5, 13.4), StationStatus::New), port("s-1", 1));
    lost();
    insert_station(&stations, &station, std::slice::from_ref(&port)).await.unwrap();
    port.occupy(SessionId::new("x-1").unwrap(), Role::User).unwrap();
    lost();
    stations.save_port(&port).await.unwrap();
    let id = StationId::new("s-1").unwrap();
    assert_eq!(stations.load(&id).await.unwrap().map(|loaded| loaded.ports), Some(vec![port]));
}

#[tokio::test]
async fn a_write_by_another_writer_is_still_a_conflict() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let (http, db) = faulty_db(&dynamodb);
    let logs = logs_by(db);
    let entry = log(1, Level::Error, "a", LogStatus::Open);
    insert_log(&logs, &entry).await.unwrap();
    let by = |user: &str| -> LogEntry {
        let mut entry = entry.clone();
        let actor = Actor { user_id: UserId::new(user).unwrap(), role: Role::TechSupport };
        entry.transition(LogStatus::Acknowledged, &actor, now()).unwrap();
        entry
    };
    logs.save(&by("t-1")).await.unwrap();
    let same = logs.save(&by("t-1")).await;
    assert!(same.as_ref().is_err_and(StoreError::is_stale), "an equal write a moment later is a conflict");
    for fault in [None, Some(Fault::LostAnswer), Some(Fault::Conflict), Some(Fault::Throttle)] {
        http.plan(fault.map(|fault| (0, fault)).into_iter().collect());
        let second = logs.save(&by("t-2")).await;
        assert!(second.as_ref().is_err_and(StoreError::is_stale), "{fault:?}: {second:?}");
        http.plan(fault.map(|fault| (0, fault)).into_iter().collect());
        let again = LogEntry { message: "another".to_owned(), ..entry.clone() };
        let again = insert_log(&logs, &again).await;
        assert!(again.as_ref().is_err_and(StoreError::is_stale), "{fault:?}: {again:?}");
    }
    assert_eq!(logs.load(&entry.id).await.unwrap(), Some(by("t-1")));
}

#[tokio::test]
async fn terms_missed_by_an_eventually_consistent_read_are_read_again() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let id = put_session(&dynamodb.charging(), "x-1", "u-1", "s-1", 0).await;
    let (http, client) = faulty(&dynamodb);
    let sessions = charging_by(client).sessions;
    http.plan((0..9).map(|call| (call, Fault::NotYet)).collect());
    assert_eq!(sessions.load_terms(&id).await.unwrap().correlation_id, "correlation-1");
    let nobody = sessions.load_terms(&domain::id::SessionId::new("gone").unwrap()).await;
    assert!(matches!(nobody, Err(StoreError::Corrupt { .. })), "{nobody:?}");
}
