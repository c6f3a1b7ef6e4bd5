//! Data for the tests of the stores, and a function that walks through the pages of a list.

use chrono::{TimeDelta, TimeZone, Utc};
use domain::Instant;
use domain::actor::Role;
use domain::battery::ModelConfig;
use domain::charging::connector::ConnectorType;
use domain::charging::session::{Limits, Session, SessionTerms, StartSession, Vehicle};
use domain::charging::station::{Port, PortStatus, Station, StationCreated, StationStatus};
use domain::charging::tariff::Tariff;
use domain::geo::Location;
use domain::id::{PortId, SessionId, StationId, UserId};
use domain::notifications::{Level, LogEntry, LogStatus};
use domain::poi::{Poi, PoiDetails, PoiSummary};
use store::{
    ChargingStore, Db, ErrorLogFilter, ErrorLogStore, EventContext, Page, PageRequest, StationStore, StoreError,
    Transaction,
};
use testkit::{EmbeddedDynamoDb, FaultyHttp, sdk_config};

pub fn now() -> Instant {
    Utc.with_ymd_and_hms(2026, 3, 3, 12, 0, 0).unwrap()
}

pub fn context() -> EventContext {
    EventContext { correlation_id: "correlation-1".to_owned(), now: now() }
}

/// Returns a client of the database on which faults can happen, with the object that plans them.
pub fn faulty(dynamodb: &EmbeddedDynamoDb) -> (FaultyHttp, store::Client) {
    let http = FaultyHttp::default();
    let config = sdk_config(&dynamodb.endpoint()).into_builder().http_client(http.clone()).build();
    (http, store::Client::new(&config))
}

pub fn faulty_db(dynamodb: &EmbeddedDynamoDb) -> (FaultyHttp, Db) {
    let (http, client) = faulty(dynamodb);
    (http, Db::new(client))
}

/// Returns a log entry whose time is unique because it depends on its number.
pub fn log(number: u32, level: Level, service: &str, status: LogStatus) -> LogEntry {
    LogEntry {
        id: domain::id::derive(&["test", &number.to_string()]).into(),
        occurred_at: now() + TimeDelta::seconds(number.into()),
        level,
        service: service.to_owned(),
        message: "m".to_owned(),
        status,
        correlation_id: None,
        handled_by: None,
        handled_at: None,
        published: false,
        mailed: false,
        version: 1,
    }
}

/// Returns the error log of this client.
pub fn logs_by(db: Db) -> ErrorLogStore {
    ErrorLogStore::new(db, "ev-error-logs", TimeDelta::days(90))
}

pub async fn insert_log(logs: &ErrorLogStore, entry: &LogEntry) -> Result<(), StoreError> {
    logs.insert(entry, entry.alert("TEST"), now()).await
}

/// Creates a station with its ports.
pub async fn insert_station(stations: &StationStore, station: &Station, ports: &[Port]) -> Result<(), StoreError> {
    stations.insert(station, ports, StationCreated::new(station, ports), &context()).await
}

pub async fn list_logs(
    logs: &ErrorLogStore,
    filter: &ErrorLogFilter,
    page: &PageRequest,
) -> Result<Page<LogEntry>, StoreError> {
    logs.list(filter, page, now()).await
}

/// Returns the stations and sessions of this client.
pub fn charging_by(client: store::Client) -> ChargingStore {
    ChargingStore::new(client, "ev-stations", "ev-sessions")
}

pub fn station(id: &str, at: (f64, f64), status: StationStatus) -> Station {
    Station {
        id: StationId::new(id).unwrap(),
        name: "Test".to_owned(),
        address: "Road 1".to_owned(),
        location: Location::new(at.0, at.1).unwrap(),
        time_zone: "Europe/Berlin".parse().unwrap(),
        power_kw: 100.0,
        tariff: Some(tariff()),
        model: ModelConfig::StepTaper,
        status,
        charging_ports: 0,
        created_at: now(),
        updated_at: now(),
        version: 1,
    }
}

pub fn port(station: &str, number: u32) -> Port {
    Port {
        station_id: StationId::new(station).unwrap(),
        id: PortId::new(format!("port-{number}")).unwrap(),
        number,
        connector: ConnectorType::Iec62196T2Combo,
        max_power_kw: 100.0,
        status: PortStatus::Free,
        session_id: None,
        version: 1,
    }
}

fn tariff() -> Tariff {
    Tariff::per_kwh("0.49".parse().unwrap(), "EUR".parse().unwrap())
}

pub fn poi(ocm_id: u32, at: (f64, f64), power: Option<f64>, kind: u32) -> Poi {
    let summary = PoiSummary {
        ocm_id,
        title: None,
        address: None,
        town: None,
        postcode: None,
        country_id: Some(1),
        location: Some(Location::new(at.0, at.1).unwrap()),
        operator_id: Some(ocm_id % 3),
        usage_type_id: None,
        status_type_id: None,
        number_of_points: None,
        max_power_kw: power,
        connection_type_ids: vec![kind],
        data_provider_id: None,
    };
    Poi { summary, details: PoiDetails::default() }
}

/// Writes a session of this user at this station that started `second` seconds after noon.
pub async fn put_session(store: &ChargingStore, id: &str, user: &str, station_id: &str, second: i64) -> SessionId {
    let mut station = station(station_id, (52.5, 13.4), StationStatus::Active);
    let request = StartSession {
        id: SessionId::new(id).unwrap(),
        user_id: UserId::new(user).unwrap(),
        vehicle: Vehicle { battery_capacity_kwh: 60.0, max_power_kw: None },
        charge_percent: 20.0,
        target_percent: 80.0,
        limits: Limits::default(),
        request_fingerprint: "f".to_owned(),
        correlation_id: "correlation-1".to_owned(),
    };
    let terms = SessionTerms::of(&request, &station).unwrap();
    let at = now() + TimeDelta::seconds(second);
    let (session, event) = Session::start(request, &mut station, &mut port(station_id, 1), Role::User, at).unwrap();
    let mut transaction = Transaction::new();
    store.sessions.insert(&mut transaction, &session, &terms, [event], &context()).unwrap();
    transaction.commit(store.sessions.table().db()).await.unwrap();
    session.id
}

/// Returns all items of a list, page by page, and the number of pages.
pub async fn walk<T>(limit: usize, list: impl AsyncFn(PageRequest) -> Result<Page<T>, StoreError>) -> (Vec<T>, usize) {
    let (mut items, mut next_token) = (Vec::new(), None);
    for pages in 1.. {
        let page = list(PageRequest { limit, next_token }).await.unwrap();
        assert!(page.items.len() <= limit, "{} on a page of {limit}", page.items.len());
        items.extend(page.items);
        if page.next_token.is_none() {
            return (items, pages);
        }
        next_token = page.next_token;
    }
    unreachable!("a list ends")
}

pub fn first(limit: usize) -> PageRequest {
    PageRequest { limit, next_token: None }
}
