//! A list returns the same items as an examination of every item, for any filter and any page length, and no page reads
//! more than a fixed number of items.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::accounts::UserStatus;
use domain::charging::station::StationStatus;
use domain::geo::Location;
use domain::id::{StationId, UserId};
use domain::notifications::{Level, LogEntry, LogStatus};
use domain::poi::PoiFilter;
use futures::{StreamExt, TryStreamExt, stream};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use store::{ErrorLogFilter, InvoiceFilter, PoiStore, SessionFilter, StationFilter, UserFilter, keys};
use testkit::{EmbeddedDynamoDb, machine_client, registered, seeded};

use crate::common::{
    self, charging_by, context, faulty, faulty_db, first, insert_log, insert_station, list_logs, log, now, poi,
    put_session, walk,
};

const ITEMS: u32 = 2500;

/// Log entries with levels, services and states of which some are rare and adjacent.
fn logs() -> Vec<LogEntry> {
    let entry = |number: u32| {
        let level = match number {
            1200..1210 => Level::Critical,
            _ if number.is_multiple_of(7) => Level::Error,
            _ => Level::Info,
        };
        let service = if number < 40 { "early" } else { ["a", "b", "c"][(number % 3) as usize] };
        let status = match number % 50 {
            0 => LogStatus::Acknowledged,
            1..10 => LogStatus::Open,
            _ => LogStatus::Resolved,
        };
        log(number, level, service, status)
    };
    (0..ITEMS).map(entry).collect()
}

async fn put_logs(dynamodb: &EmbeddedDynamoDb, entries: &[LogEntry]) {
    let store = dynamodb.error_logs();
    let puts = stream::iter(entries).map(|entry| insert_log(&store, entry));
    puts.buffer_unordered(32).try_collect::<()>().await.unwrap();
}

fn filter() -> impl Strategy<Value = (ErrorLogFilter, usize)> {
    let level = prop_oneof![Just(Level::Info), Just(Level::Warning), Just(Level::Error), Just(Level::Critical)];
    let service = prop_oneof![Just("a"), Just("b"), Just("early"), Just("nobody")];
    let status = prop_oneof![Just(LogStatus::Open), Just(LogStatus::Acknowledged), Just(LogStatus::Resolved)];
    let of = (prop::option::of(level), prop::option::of(service), prop::option::of(status), 1_usize..=100);
    of.prop_map(|(level, service, status, limit)| {
        (ErrorLogFilter { level, service: service.map(str::to_owned), status }, limit)
    })
}

fn accepts(filter: &ErrorLogFilter, entry: &LogEntry) -> bool {
    let status = match filter {
        ErrorLogFilter { level: None, service: None, status: None } => Some(LogStatus::Open),
        other => other.status,
    };
    filter.level.is_none_or(|level| level == entry.level)
        && filter.service.as_ref().is_none_or(|service| *service == entry.service)
        && status.is_none_or(|status| status == entry.status)
}

#[test]
fn a_filtered_list_returns_every_matching_item() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let entries = logs();
    let dynamodb = runtime.block_on(async {
        let dynamodb = EmbeddedDynamoDb::start().await;
        put_logs(&dynamodb, &entries).await;
        dynamodb
    });
    let mut runner = TestRunner::new(seeded(64));
    let result = runner.run(&filter(), |(filter, limit)| {
        let store = dynamodb.error_logs();
        let (found, _) = runtime.block_on(walk(limit, async |page| list_logs(&store, &filter, &page).await));
        let expected: Vec<LogEntry> = entries.iter().rev().filter(|entry| accepts(&filter, entry)).cloned().collect();
        prop_assert_eq!(found, expected);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Returns the station of each session of one user, in order of the session starts. Some stations are rare and
/// adjacent.
fn station_of(number: u32) -> &'static str {
    if number < 40 { "early" } else { ["a", "b", "c"][(number % 3) as usize] }
}

async fn put_sessions(dynamodb: &EmbeddedDynamoDb) {
    let charging = dynamodb.charging();
    let puts = stream::iter(0..ITEMS).map(|number| {
        let charging = charging.clone();
        async move { put_session(&charging, &format!("x-{number}"), "u-1", station_of(number), number.into()).await }
    });
    puts.buffer_unordered(32).collect::<Vec<_>>().await;
}

#[test]
fn a_filtered_list_of_sessions_returns_every_matching_session_in_few_calls() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dynamodb = runtime.block_on(async {
        let dynamodb = EmbeddedDynamoDb::start().await;
        put_sessions(&dynamodb).await;
        dynamodb
    });
    let (http, client) = runtime.block_on(async { faulty(&dynamodb) });
    let sessions = charging_by(client).sessions;
    let of_user = SessionFilter::User(UserId::new("u-1").unwrap());
    let mut runner = TestRunner::new(seeded(32));
    // Pages of one item where few items match: each page examines up to a thousand sessions.
    let few = (prop_oneof![Just("early"), Just("nobody")], 1_usize..=100);
    let many = (prop_oneof![Just("a"), Just("b")], 20_usize..=100);
    let cases = prop_oneof![few, many];
    let result = runner.run(&cases, |(station, limit)| {
        let (found, pages) = runtime.block_on(walk(limit, async |page| {
            http.plan([].into());
            let page = sessions.list(&of_user, &page, |session| session.station_id.as_str() == station).await;
            assert!(http.calls() <= 20, "{} calls for a page of {limit}", http.calls());
            page
        }));
        let found: Vec<String> = found.into_iter().map(|session| session.id.to_string()).collect();
        let expected = (0..ITEMS).rev().filter(|number| station_of(*number) == station);
        let expected: Vec<String> = expected.map(|number| format!("x-{number}")).collect();
        prop_assert_eq!(&found, &expected);
        prop_assert!(pages <= expected.len() / limit + 4, "{} pages of {} for {}", pages, limit, expected.len());
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_a_filtered_country_makes_few_calls_and_is_complete() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let put = dynamodb.pois();
    let pois: Vec<_> = (1..=ITEMS).map(|id| poi(id, (52.5, 13.4), (id % 400 == 7).then_some(350.0), 1)).collect();
    let puts = stream::iter(&pois).map(|poi| async { put.put(poi).await.map(|_| ()) });
    puts.buffer_unordered(32).try_collect::<()>().await.unwrap();
    let (http, db) = faulty_db(&dynamodb);
    let store = PoiStore::new(db, "ev-ocm-pois");
    let strong = PoiFilter { min_power_kw: Some(300.0), ..PoiFilter::default() };
    for limit in [1, 3, 100] {
        let (found, _) = walk(limit, async |page| {
            http.plan([].into());
            let page = store.of_country(1, &strong, &page).await;
            assert!(http.calls() <= 12, "{} calls for a page of {limit}", http.calls());
            page
        })
        .await;
        let mut found: Vec<u32> = found.iter().map(|poi| poi.ocm_id).collect();
        found.sort_unstable();
        assert_eq!(found, [7, 407, 807, 1207, 1607, 2007, 2407]);
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_decoded_is_left_out_of_its_list() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let at = Location::new(52.5, 13.4).unwrap();
    let put = async |table: &str, item: &[(&str, &str)]| {
        let item: HashMap<_, _> =
            item.iter().map(|(name, value)| ((*name).to_owned(), AttributeValue::S((*value).to_owned()))).collect();
        dynamodb.client().put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
    };
    put_session(&dynamodb.charging(), "good", "u-1", "s-1", 1).await;
    put_logs(&dynamodb, &[log(1, Level::Error, "a", LogStatus::Open)]).await;
    let good = common::station("good", (52.5, 13.4), StationStatus::Active);
    insert_station(&dynamodb.charging().stations, &good, &[]).await.unwrap();
    dynamodb.pois().put(&poi(7, (52.5, 13.4), None, 1)).await.unwrap();
    let session =
        [("userId", "u-1"), ("stationId", "s-1"), ("status", "STARTED"), ("createdAt", "2026-03-03T12:00:00.000Z")];
    let session =
        [&session[..], &[("PK", "SESSION#bad"), ("SK", "METADATA"), ("statusChangedAt", "2026-03-03")]].concat();
    put("ev-sessions", &session).await;
    put("ev-error-logs", &[("PK", "ERROR#bad"), ("SK", "2026-03-03"), ("level", "ERROR"), ("service", "a")]).await;
    {
        let cell = at.cell();
        let station = [("PK", "STATION#bad"), ("SK", cell.as_str()), ("stationId", "bad"), ("status", "ACTIVE")];
        put("ev-stations", &[&station[..], &[("cell", cell.as_str())]].concat()).await;
        let poi =
            [("PK", "POI#8"), ("SK", cell.as_str()), ("country", "1"), ("cell", cell.as_str()), ("summary", "{}")];
        put("ev-ocm-pois", &poi).await;
    }
    let metadata = [("SK", "METADATA"), ("userId", "u-1"), ("status", "OPEN"), ("createdAt", "2026-03-03")];
    put("ev-billing", &[&metadata[..], &[("PK", "INVOICE#bad")]].concat()).await;
    put("ev-billing", &[("PK", "WALLET#u-1"), ("SK", "BALANCE"), ("status", "WALLET"), ("createdAt", "2026-03-03")])
        .await;
    put("ev-billing", &[("PK", "WALLET#u-1"), ("SK", "ENTRY#000000000001")]).await;
    put("ev-telemetry", &[("station_id", "bad"), ("fleet", "FLEET")]).await;
    for user in [registered("u-1", now()), machine_client("u-2", now())] {
        dynamodb.users().insert(&user, None, &context()).await.unwrap();
    }
    let shard = keys::sharded("ACTIVE", UserId::new("bad").unwrap().shard(keys::SHARDS));
    let user = [("PK", "USER#bad"), ("SK", "METADATA"), ("statusShard", shard.as_str()), ("clientShard", "CLIENT")];
    put("ev-users", &[&user[..], &[("registeredAt", "2026-03-03"), ("role", "NOBODY")]].concat()).await;

    let (charging, user) = (dynamodb.charging(), UserId::new("u-1").unwrap());
    for filter in [SessionFilter::User(user.clone()), SessionFilter::Station(StationId::new("s-1").unwrap())] {
        assert_eq!(charging.sessions.list(&filter, &first(10), |_| true).await.unwrap().items.len(), 1, "{filter:?}");
    }
    let near = StationFilter::Near(at, 10.0, None);
    for filter in [StationFilter::Status(StationStatus::Active), near] {
        assert_eq!(charging.stations.list(&filter, &first(10)).await.unwrap().items.len(), 1, "{filter:?}");
    }
    let of_level = ErrorLogFilter { level: Some(Level::Error), ..ErrorLogFilter::default() };
    assert_eq!(list_logs(&dynamodb.error_logs(), &of_level, &first(10)).await.unwrap().items.len(), 1);
    let pois = dynamodb.pois();
    assert_eq!(pois.of_country(1, &PoiFilter::default(), &first(10)).await.unwrap().items.len(), 1);
    assert_eq!(pois.near(at, 10.0, &PoiFilter::default(), &first(10)).await.unwrap().items.len(), 1);
    let billing = dynamodb.billing();
    for filter in [InvoiceFilter::User(user.clone()), InvoiceFilter::OpenOf(user.clone())] {
        let invoices = billing.invoices(&filter, &first(10), |_| true).await.unwrap();
        assert_eq!(invoices.items.len(), 0, "{filter:?}");
    }
    assert_eq!(billing.wallets(&first(10)).await.unwrap().items.len(), 0);
    assert_eq!(billing.ledger(&user, &first(10)).await.unwrap().items.len(), 0);
    assert_eq!(dynamodb.telemetry().list(&first(10)).await.unwrap().items.len(), 0);
    let users = dynamodb.users();
    assert_eq!(users.list(&UserFilter::Status(UserStatus::Active), &first(10)).await.unwrap().items.len(), 1);
    assert_eq!(users.clients(&first(10)).await.unwrap().items.len(), 1);
}
