//! A `nextToken` that this service did not issue is a validation error, whatever it contains. It is never an error of
//! the platform.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use domain::accounts::UserStatus;
use domain::billing::{EntryKind, LedgerEntry, Wallet};
use domain::charging::session::SessionStatus;
use domain::charging::station::StationStatus;
use domain::error::DomainError;
use domain::geo::Location;
use domain::id::{StationId, SwapStationId, UserId};
use domain::notifications::{Level, LogStatus};
use domain::poi::PoiFilter;
use domain::telemetry::{Message, Reading, SwapStationStatus};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use store::{
    ErrorLogFilter, InvoiceFilter, Page, PageRequest, SessionFilter, StationFilter, StoreError, TopUp, UserFilter,
};
use testkit::{EmbeddedDynamoDb, machine_client, registered};

use crate::common::{context, insert_log, insert_station, list_logs, log, now, poi, put_session, station};

type Answer = Result<(usize, Option<String>), StoreError>;
type List<'a> = (&'static str, Box<dyn Fn(PageRequest) -> BoxFuture<'a, Answer> + 'a>);

fn page<T>(page: Page<T>) -> (usize, Option<String>) {
    (page.items.len(), page.next_token)
}

/// A database with three items of everything that can be listed.
async fn world() -> EmbeddedDynamoDb {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let charging = dynamodb.charging();
    let user = UserId::new("u-1").unwrap();
    let mut wallet = Wallet::open(user, "EUR".parse().unwrap(), now());
    for n in 1..=3_u32 {
        put_session(&charging, &format!("x-{n}"), "u-1", "s-1", n.into()).await;
        let at = (52.5, 13.4 + f64::from(n) / 100.0);
        let station = station(&format!("s-{n}"), at, StationStatus::Active);
        insert_station(&charging.stations, &station, &[]).await.unwrap();
        insert_log(&dynamodb.error_logs(), &log(n, Level::Error, "a", LogStatus::Open)).await.unwrap();
        dynamodb.pois().put(&poi(n, at, None, 1)).await.unwrap();
        let entry = wallet.top_up("5".parse().unwrap(), wallet.currency, "r".to_owned(), now()).unwrap();
        let LedgerEntry { sequence, kind: EntryKind::TopUp, .. } = entry else { panic!("{entry:?}") };
        let top_up = TopUp { id: uuid::Uuid::from_u128(n.into()), fingerprint: "f".to_owned(), sequence };
        dynamodb.billing().top_up(&wallet, &entry, &top_up, &context()).await.unwrap();
        let other = UserId::new(format!("u-{}", n + 1)).unwrap();
        let mut other = Wallet::open(other, "EUR".parse().unwrap(), now());
        let entry = other.top_up("5".parse().unwrap(), other.currency, "r".to_owned(), now()).unwrap();
        dynamodb.billing().top_up(&other, &entry, &TopUp { sequence: 1, ..top_up }, &context()).await.unwrap();
        let session = domain::id::SessionId::new(format!("x-{n}")).unwrap();
        let ended = testkit::ended(session.as_str(), "u-1", 1000);
        let invoice = domain::billing::Invoice::for_session(&ended, now() + TimeDelta::seconds(n.into())).unwrap();
        let nothing = Wallet::open(UserId::new(format!("poor-{n}")).unwrap(), "EUR".parse().unwrap(), now());
        dynamodb.billing().issue(&invoice.unwrap().issue(nothing, now()), &context()).await.unwrap();
        let reading = Reading {
            station_id: SwapStationId::new(format!("swap-{n}")).unwrap(),
            battery_available: 1,
            battery_charging: 1,
            temperature: 1.0,
            humidity: 1.0,
            status: SwapStationStatus::Operational,
            timestamp: now(),
        };
        dynamodb.telemetry().record(&Message::new(reading, &json!({ "n": n })), now()).await.unwrap();
        let second = now() + TimeDelta::seconds(n.into());
        for user in [registered(&format!("u-{n}"), second), machine_client(&format!("m-{n}"), second)] {
            dynamodb.users().insert(&user, None, &context()).await.unwrap();
        }
    }
    dynamodb
}

/// Every list that issues tokens.
fn lists(dynamodb: &EmbeddedDynamoDb) -> Vec<List<'_>> {
    let (charging, billing) = (dynamodb.charging(), dynamodb.billing());
    let (user, at) = (UserId::new("u-1").unwrap(), Location::new(52.5, 13.4).unwrap());
    let mut lists: Vec<List<'_>> = Vec::new();
    let changed = SessionFilter::Changed(SessionStatus::Started, now(), now() + TimeDelta::minutes(1));
    for (name, filter) in [
        ("sessions of a user", SessionFilter::User(user.clone())),
        ("sessions of a station", SessionFilter::Station(StationId::new("s-1").unwrap())),
        ("sessions in a state", SessionFilter::Status(SessionStatus::Started)),
        ("sessions that changed", changed),
    ] {
        let sessions = charging.sessions.clone();
        let list = move |request| {
            let (sessions, filter) = (sessions.clone(), filter.clone());
            async move { sessions.list(&filter, &request, |_| true).await.map(page) }.boxed()
        };
        lists.push((name, Box::new(list)));
    }
    for (name, filter) in [
        ("stations in a state", StationFilter::Status(StationStatus::Active)),
        ("stations near", StationFilter::Near(at, 50.0, None)),
    ] {
        let stations = charging.stations.clone();
        let list = move |request| {
            let (stations, filter) = (stations.clone(), filter.clone());
            async move { stations.list(&filter, &request).await.map(page) }.boxed()
        };
        lists.push((name, Box::new(list)));
    }
    for (name, filter) in [
        ("logs of a level", ErrorLogFilter { level: Some(Level::Error), ..ErrorLogFilter::default() }),
        ("logs of a service", ErrorLogFilter { service: Some("a".to_owned()), ..ErrorLogFilter::default() }),
        ("open logs", ErrorLogFilter::default()),
    ] {
        let list = move |request| {
            let (logs, filter) = (dynamodb.error_logs(), filter.clone());
            async move { list_logs(&logs, &filter, &request).await.map(page) }.boxed()
        };
        lists.push((name, Box::new(list)));
    }
    let issued = domain::billing::InvoiceStatus::Open;
    for (name, filter) in [
        ("invoices of a user", InvoiceFilter::User(user.clone())),
        ("open invoices of a user", InvoiceFilter::OpenOf(user.clone())),
        ("invoices in a state", InvoiceFilter::Status(issued)),
        ("invoices of a time", InvoiceFilter::Issued(issued, now(), now() + TimeDelta::minutes(1))),
    ] {
        let billing = billing.clone();
        let list = move |request| {
            let (billing, filter) = (billing.clone(), filter.clone());
            async move { billing.invoices(&filter, &request, |_| true).await.map(page) }.boxed()
        };
        lists.push((name, Box::new(list)));
    }
    let ledger = {
        let billing = billing.clone();
        move |request| {
            let (billing, user) = (billing.clone(), user.clone());
            async move { billing.ledger(&user, &request).await.map(page) }.boxed()
        }
    };
    lists.push(("ledger", Box::new(ledger)));
    let wallets = move |request| {
        let billing = billing.clone();
        async move { billing.wallets(&request).await.map(page) }.boxed()
    };
    lists.push(("wallets", Box::new(wallets)));
    let near = move |request: PageRequest| {
        async move { dynamodb.pois().near(at, 50.0, &PoiFilter::default(), &request).await.map(page) }.boxed()
    };
    lists.push(("pois near", Box::new(near)));
    let country = move |request: PageRequest| {
        async move { dynamodb.pois().of_country(1, &PoiFilter::default(), &request).await.map(page) }.boxed()
    };
    lists.push(("pois of a country", Box::new(country)));
    let fleet = move |request: PageRequest| async move { dynamodb.telemetry().list(&request).await.map(page) }.boxed();
    lists.push(("battery-swap stations", Box::new(fleet)));
    lists
}

/// The lists of users.
fn lists_of_users(dynamodb: &EmbeddedDynamoDb) -> Vec<List<'_>> {
    let active = move |request: PageRequest| {
        async move { dynamodb.users().list(&UserFilter::Status(UserStatus::Active), &request).await.map(page) }.boxed()
    };
    let clients = move |request: PageRequest| async move { dynamodb.users().clients(&request).await.map(page) }.boxed();
    let active: List<'_> = ("users in a state", Box::new(active));
    let clients: List<'_> = ("machine clients", Box::new(clients));
    vec![active, clients]
}

/// Every value to which a part of a token could be changed.
fn wrong_values() -> Vec<Value> {
    vec![
        json!(null),
        json!(""),
        json!("x"),
        json!("x".repeat(1100)),
        json!("\u{0}"),
        json!("SESSION#x-1"),
        json!(-1),
        json!(1e300),
        json!(18_446_744_073_709_551_615_u64),
        json!([]),
        json!({}),
        json!({ "PK": "SESSION#x-1", "SK": "METADATA" }),
    ]
}

/// Returns copies of `value`, each with one of its parts changed, removed or added.
fn forgeries(value: &Value) -> Vec<Value> {
    let mut all = wrong_values();
    match value {
        Value::Object(fields) => {
            for name in fields.keys() {
                let mut without = fields.clone();
                without.remove(name);
                all.push(Value::Object(without.clone()));
                without.insert("other".to_owned(), fields[name].clone());
                all.push(Value::Object(without));
                for forged in forgeries(&fields[name]) {
                    let mut fields = fields.clone();
                    fields.insert(name.clone(), forged);
                    all.push(Value::Object(fields));
                }
            }
        }
        Value::Array(parts) => {
            for index in 0..parts.len() {
                let mut without = parts.clone();
                without.remove(index);
                all.push(Value::Array(without));
                for forged in forgeries(&parts[index]) {
                    let mut parts = parts.clone();
                    parts[index] = forged;
                    all.push(Value::Array(parts));
                }
            }
        }
        _ => {}
    }
    all
}

#[tokio::test]
async fn a_forged_token_is_a_validation_error_of_every_list() {
    let dynamodb = world().await;
    let mut tried = 0;
    for (name, list) in lists(&dynamodb).into_iter().chain(lists_of_users(&dynamodb)) {
        let (found, token) = list(PageRequest { limit: 1, next_token: None }).await.unwrap();
        let token = token.unwrap_or_else(|| panic!("{name} has {found} items"));
        let next = list(PageRequest { limit: 1, next_token: Some(token.clone()) }).await.unwrap();
        assert_eq!(next.0, 1, "{name}: an issued token is accepted");
        let real: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&token).unwrap()).unwrap();
        let mut refused = 0;
        for from in forgeries(&real["from"]) {
            let mut forged = real.clone();
            forged["from"] = from.clone();
            let token = URL_SAFE_NO_PAD.encode(forged.to_string());
            match list(PageRequest { limit: 1, next_token: Some(token) }).await {
                // The forged token is a position in the same list, which the caller may see anyway.
                Ok(_) => {}
                Err(StoreError::Domain(DomainError::Validation(fields))) if fields[0].field == "nextToken" => {
                    refused += 1;
                }
                Err(error) => panic!("{name} from {from}: {error:?}"),
            }
            tried += 1;
        }
        assert!(refused >= 9, "{name}: {refused} refused");
    }
    assert!(tried > 400, "{tried}");
}
