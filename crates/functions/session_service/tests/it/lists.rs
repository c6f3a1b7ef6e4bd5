//! Lists of sessions by status. The index is divided into shards, and the pages must contain each session once, newest
//! first.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)] // small numbers

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use domain::Instant;
use domain::charging::session::{Session, SessionStatus};
use serde_json::{Value, json};
use store::{Page, PageRequest, SessionFilter};
use testkit::invoke;

use crate::common::{self, World, error_type, id, minutes_after};

const STATIONS: usize = 40;

/// Creates forty stations with three sessions each, so that every shard has some. All sessions became `IN_PROGRESS` at
/// one of four ticks, thirty at each.
async fn fleet() -> (World, Instant) {
    let world = World::new().await;
    let mut sessions = Vec::new();
    for number in 0..STATIONS {
        let station = format!("station-{number}");
        world.station(&station, 3).await;
        for port in 1..=3 {
            sessions.push(world.start(&station, &format!("port-{port}"), "u-1", json!({})).await.unwrap());
        }
    }
    let start = minutes_after(sessions.last().unwrap(), 0);
    for tick in 0..4 {
        let stations: Vec<String> = (0..STATIONS).filter(|n| n % 4 == tick).map(|n| format!("station-{n}")).collect();
        let at = start + TimeDelta::minutes(1 + tick as i64);
        invoke(&world.simulator, json!({ "tickAt": at, "stationIds": stations })).await.unwrap();
    }
    (world, start)
}

async fn page(world: &World, filter: &SessionFilter, limit: usize, next_token: Option<String>) -> Page<Session> {
    world.session_store.sessions.list(filter, &PageRequest { limit, next_token }, |_| true).await.unwrap()
}

async fn all(world: &World, filter: &SessionFilter, limit: usize) -> Vec<Session> {
    let (mut all, mut token) = (Vec::new(), None);
    loop {
        let page = page(world, filter, limit, token).await;
        assert!(page.items.len() <= limit);
        assert!(page.items.len() == limit || page.next_token.is_none(), "only the last page is short");
        all.extend(page.items);
        token = page.next_token;
        if token.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn a_list_by_status_has_each_session_once_and_newest_first_for_any_page_size() {
    let (world, start) = fleet().await;
    let running = SessionFilter::Status(SessionStatus::InProgress);
    let whole = all(&world, &running, 100).await;
    let ids: BTreeSet<&str> = whole.iter().map(|session| session.id.as_str()).collect();
    assert_eq!((whole.len(), ids.len()), (3 * STATIONS, 3 * STATIONS));
    assert!(whole.is_sorted_by(|a, b| a.status_changed_at >= b.status_changed_at));
    let shards: BTreeSet<u32> = whole.iter().map(|session| session.station_id.shard(store::keys::SHARDS)).collect();
    assert!(shards.len() > 10, "the sessions must be in many shards: {shards:?}");
    for limit in [5, 29, 30, 31, 120, 121] {
        assert_eq!(all(&world, &running, limit).await, whole, "pages of {limit}");
    }
    assert!(all(&world, &SessionFilter::Status(SessionStatus::Started), 10).await.is_empty());
    assert!(all(&world, &SessionFilter::Status(SessionStatus::Completed), 10).await.is_empty());

    // Both bounds are inclusive, to the millisecond.
    let minute = |minutes: i64| start + TimeDelta::minutes(minutes);
    let tiny = TimeDelta::milliseconds(1);
    for (from, to, expected) in [
        (minute(1), minute(4), 120),
        (minute(2), minute(3), 60),
        (minute(2) + tiny, minute(4) - tiny, 30),
        (minute(2) + tiny, minute(3) - tiny, 0),
        (minute(4), minute(4), 30),
        (minute(5), minute(9), 0),
    ] {
        let filter = SessionFilter::Changed(SessionStatus::InProgress, from, to);
        for limit in [13, 100] {
            let found = all(&world, &filter, limit).await;
            let within = whole.iter().filter(|session| (from..=to).contains(&session.status_changed_at));
            assert!(found.iter().eq(within), "{from} to {to} by {limit}");
            assert_eq!(found.len(), expected);
        }
    }
}

/// Sessions start, end and change their status while the list is read. Sessions that do not change appear once.
#[tokio::test]
async fn a_list_continues_where_it_stopped_although_newer_sessions_arrive() {
    let (world, start) = fleet().await;
    let running = SessionFilter::Status(SessionStatus::InProgress);
    let whole = all(&world, &running, 100).await;
    let first = page(&world, &running, 50, None).await;
    world.station("late", 1).await;
    world.start("late", "port-1", "u-1", json!({})).await.unwrap();
    let tick = json!({ "tickAt": start + TimeDelta::minutes(9), "stationIds": ["late"] });
    assert_eq!(invoke(&world.simulator, tick).await.unwrap()["started"], 1);
    // The session at which the first page ended leaves the list.
    let last = first.items.last().unwrap().clone();
    world.stop(last.id.as_str(), "u-1").await.unwrap();
    let mut rest = Vec::new();
    let mut token = first.next_token;
    while token.is_some() {
        let page = page(&world, &running, 50, token).await;
        rest.extend(page.items.into_iter().map(|session| session.id));
        token = page.next_token;
    }
    assert!(rest.iter().eq(whole[50..].iter().map(|session| &session.id)));
    let now = all(&world, &running, 100).await;
    assert_eq!(now.first().unwrap().station_id.as_str(), "late");
    assert_eq!(now.len(), whole.len(), "one session was added and one removed");
    let ended: Vec<Session> = all(&world, &SessionFilter::Status(SessionStatus::Interrupted), 10).await;
    assert_eq!(ended.iter().map(|session| &session.id).collect::<Vec<_>>(), [&last.id]);
}

/// A filter that matches little returns short pages, and never reads the whole list for one page.
#[tokio::test]
async fn a_filter_that_matches_little_reads_a_bounded_number_of_items() {
    let (world, _) = fleet().await;
    let running = SessionFilter::Status(SessionStatus::InProgress);
    let store = world.dynamodb.charging().sessions;
    let wanted = all(&world, &running, 100).await.pop().unwrap();
    let (mut found, mut token, mut pages) = (Vec::new(), None, 0);
    loop {
        let before = store.table().db().capacity().units().read;
        let page = PageRequest { limit: 1, next_token: token };
        let page = store.list(&running, &page, |session| session.id == wanted.id).await.unwrap();
        assert!(store.table().db().capacity().units().read - before < 1_000.0);
        found.extend(page.items);
        pages += 1;
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(found, [wanted]);
    assert!(pages <= 2, "{pages} pages for 120 sessions");
}

/// Only the server creates tokens. A changed token is an error of the caller.
#[tokio::test]
async fn a_forged_token_is_a_validation_error() {
    let (world, _) = fleet().await;
    let list = async |token: &str| {
        let list = json!({ "action": "listSessions", "actor": common::admin(), "status": "IN_PROGRESS", "limit": 5, "nextToken": token });
        invoke(&world.sessions, list).await
    };
    let first = json!({ "action": "listSessions", "actor": common::admin(), "status": "IN_PROGRESS", "limit": 5 });
    let first = invoke(&world.sessions, first).await.unwrap();
    let token = first["nextToken"].as_str().unwrap();
    let second = list(token).await.unwrap();
    assert_ne!(id(&first["items"][0]), id(&second["items"][0]));
    let honest: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut forged = honest.clone();
        change(&mut forged["from"]);
        URL_SAFE_NO_PAD.encode(forged.to_string())
    };
    let mut forgeries: BTreeMap<String, String> = BTreeMap::new();
    forgeries.insert("shard".to_owned(), changed(&|from| from["shard"] = json!(99)));
    forgeries.insert("negative".to_owned(), changed(&|from| from["shard"] = json!(-1)));
    forgeries.insert("no key".to_owned(), changed(&|from| from["at"]["primary"] = json!([])));
    forgeries.insert("half a key".to_owned(), changed(&|from| from["at"]["primary"] = json!(["SESSION#1"])));
    forgeries
        .insert("more".to_owned(), changed(&|from| from["at"]["primary"].as_array_mut().unwrap().push(json!("u-1"))));
    forgeries.insert("empty key".to_owned(), changed(&|from| from["at"]["primary"][0] = json!("")));
    for time in ["", "yesterday", "2026-03-03", "9999", "2026-03-03T10:00:00Z"] {
        forgeries.insert(format!("time {time:?}"), changed(&|from| from["at"]["sort"] = json!(time)));
    }
    for (what, token) in forgeries {
        let outcome = list(&token).await;
        assert_eq!(error_type(&outcome), "ValidationError", "{what}");
        assert!(outcome.unwrap_err().1.contains("nextToken"), "{what}");
    }
}
