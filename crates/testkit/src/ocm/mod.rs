//! A simulated OpenChargeMap API. It imitates the real one in how it treats parameters that it does not understand, in
//! what it leaves out, and in how it fails.

mod generate;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use futures::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use generate::{at, text};

/// The size of the pieces of a slow body, bytes.
const PIECE: usize = 16 * 1024;
/// The maximum number of results if the parameter is missing or invalid.
const MAX_RESULTS: usize = 100;

/// The fault of a request for POIs.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OcmFault {
    /// The answer has this status and a plain text.
    Status(u16),
    /// The answer is 429 and requests a pause of this many seconds.
    RetryAfter(u64),
    /// There is never an answer.
    Hang,
    /// The connection breaks in the middle of the body.
    Reset,
    /// The body ends too early, but the response looks complete.
    Truncated,
    /// The body is an empty array although there are records.
    Empty,
    /// The records have no ids.
    NoIds,
    /// Each piece of the body arrives after this many milliseconds.
    Slow(u64),
    /// The body is an HTML page of a proxy, with status 200.
    Html,
    /// The request succeeds.
    Nothing,
}

#[derive(Debug)]
struct Entry {
    compact: Value,
    text: String,
    modified: DateTime<Utc>,
    created: DateTime<Utc>,
}

#[derive(Debug)]
struct Data {
    pois: BTreeMap<u32, Entry>,
    twice: BTreeSet<u32>,
    raw: BTreeMap<u32, String>,
    reference: Value,
    faults: VecDeque<OcmFault>,
    requests: Vec<String>,
    key: String,
    now: DateTime<Utc>,
}

/// The simulated API on a port of this machine. It stops when this value is dropped.
#[derive(Debug)]
pub struct OcmServer {
    address: SocketAddr,
    data: Arc<Mutex<Data>>,
    server: JoinHandle<()>,
}

/// A change of the data.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct OcmChange {
    /// The number of POIs to edit.
    pub edit: u32,
    /// The number of POIs to add.
    pub add: u32,
    /// The number of POIs to remove.
    pub remove: u32,
}

impl Entry {
    fn new(compact: Value) -> Self {
        let time = |name: &str| compact[name].as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
        let (created, modified) = (time("DateCreated"), time("DateLastStatusUpdate"));
        Self {
            text: compact.to_string(),
            modified: if modified == DateTime::UNIX_EPOCH { created } else { modified },
            created,
            compact,
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.compact[name].as_u64()
    }
}

impl OcmServer {
    /// The API key that [`OcmServer::start`] accepts.
    pub const KEY: &str = "ocm-test-key";

    /// Starts the API on a free port with this number of POIs. The same seed gives the same POIs.
    pub async fn start(pois: u32, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::serve(listener, pois, seed, Self::KEY)
    }

    /// Starts the API on this listener with this API key.
    #[must_use]
    pub fn serve(listener: TcpListener, pois: u32, seed: u64, key: &str) -> Self {
        let address = listener.local_addr().expect("an address");
        // Ids have gaps, because some records were never published.
        let ids = (1..).filter(|id| id % 7 != 3).take(pois as usize);
        let data = Data {
            pois: ids.map(|id| (id, Entry::new(generate::poi(id, seed)))).collect(),
            twice: BTreeSet::new(),
            raw: BTreeMap::new(),
            reference: generate::reference_data(),
            faults: VecDeque::new(),
            requests: Vec::new(),
            key: key.to_owned(),
            now: at("2026-02-01T00:00:00Z"),
        };
        let data = Arc::new(Mutex::new(data));
        let app = Router::new()
            .route("/v3/poi", get(poi))
            .route("/v3/poi/", get(poi))
            .route("/v3/system/status", get(status))
            .route("/v3/referencedata", get(reference))
            .route("/v3/referencedata/", get(reference))
            .route("/_control/change", post(change))
            .route("/_control/faults", post(faults))
            .with_state(data.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("a running server") });
        Self { address, data, server }
    }

    /// Returns the URL of the API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the faults of the next requests for POIs.
    pub fn fail(&self, faults: impl IntoIterator<Item = OcmFault>) {
        self.data().faults.extend(faults);
    }

    /// Returns the requests since the last call: path and query.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.data().requests)
    }

    /// Changes POIs. Each change is one second later than the one before.
    pub fn change(&self, change: OcmChange) {
        self.data().change(change);
    }

    /// Adds a POI, or replaces the one with the same id. Its content is not checked.
    pub fn put(&self, compact: Value) {
        let id = compact["ID"].as_u64().and_then(|id| u32::try_from(id).ok()).expect("an id");
        self.data().pois.insert(id, Entry::new(compact));
    }

    /// Removes a POI.
    pub fn remove(&self, id: u32) {
        self.data().pois.remove(&id);
    }

    /// Inserts this text, which need not be valid, into answers before the POI with this id.
    pub fn put_raw(&self, before: u32, text: &str) {
        self.data().raw.insert(before, text.to_owned());
    }

    /// Removes all texts that [`OcmServer::put_raw`] inserted.
    pub fn clear_raw(&self) {
        self.data().raw.clear();
    }

    /// Lets answers contain a POI twice.
    pub fn duplicate(&self, id: u32) {
        self.data().twice.insert(id);
    }

    /// Replaces the reference data.
    pub fn set_reference(&self, reference: Value) {
        self.data().reference = reference;
    }

    /// Replaces the API key.
    pub fn set_key(&self, key: &str) {
        key.clone_into(&mut self.data().key);
    }

    /// Returns the simulated time, which is the time of the next change.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.data().now
    }

    /// Returns the published POIs by id, in the compact form.
    #[must_use]
    pub fn published(&self) -> BTreeMap<u32, Value> {
        let data = self.data();
        let visible = data.pois.iter().filter(|(_, entry)| is_published(entry));
        visible.map(|(id, entry)| (*id, entry.compact.clone())).collect()
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        lock(&self.data)
    }
}

impl Drop for OcmServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Data {
    fn change(&mut self, OcmChange { edit, add, remove }: OcmChange) {
        let ids: Vec<u32> = self.pois.keys().copied().collect();
        // Spread the changes over all POIs, at different ones each time.
        let shift = usize::try_from(self.now.timestamp()).unwrap_or_default();
        let pick = |n: usize| ids.get((n * 7919 + shift) % ids.len().max(1)).copied();
        for id in (0..remove as usize).filter_map(pick) {
            self.pois.remove(&id);
        }
        for id in (0..edit as usize).filter_map(|n| pick(n + 13)) {
            let Some(entry) = self.pois.get(&id) else { continue };
            self.now += TimeDelta::seconds(1);
            let mut edited = entry.compact.clone();
            edited["UsageCost"] = json!(format!("edited at {}", text(self.now)));
            edited["DateLastStatusUpdate"] = json!(text(self.now));
            self.pois.insert(id, Entry::new(edited));
        }
        for _ in 0..add {
            let id = self.pois.keys().next_back().map_or(1, |last| last + 1);
            self.now += TimeDelta::seconds(1);
            let mut added = generate::poi(id, 77);
            (added["DateCreated"], added["DateLastStatusUpdate"]) = (json!(text(self.now)), json!(text(self.now)));
            self.pois.insert(id, Entry::new(added));
        }
    }

    fn authorised(&self, headers: &HeaderMap, query: &HashMap<String, String>) -> bool {
        let header = headers.get("x-api-key").and_then(|value| value.to_str().ok());
        header.or_else(|| query.get("key").map(String::as_str)) == Some(&self.key)
    }
}

fn is_published(entry: &Entry) -> bool {
    matches!(entry.number("SubmissionStatusTypeID"), Some(100 | 200))
}

fn lock(data: &Mutex<Data>) -> MutexGuard<'_, Data> {
    data.lock().unwrap_or_else(PoisonError::into_inner)
}

type Shared = State<Arc<Mutex<Data>>>;
type Parameters = Query<HashMap<String, String>>;

fn forbidden() -> Response {
    (
        StatusCode::FORBIDDEN,
        "You must specify an API key, either in an X-API-Key header or key= query string parameter.",
    )
        .into_response()
}

/// Converts the names of parameters to lower case, because the API ignores their case.
fn lower(query: HashMap<String, String>) -> HashMap<String, String> {
    query.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}

async fn status(State(data): Shared, headers: HeaderMap, Query(query): Parameters) -> Response {
    let mut data = lock(&data);
    data.requests.push("/v3/system/status".to_owned());
    if !data.authorised(&headers, &lower(query)) {
        return forbidden();
    }
    let published = || data.pois.iter().filter(|(_, entry)| is_published(entry));
    let mut hash = DefaultHasher::new();
    published().for_each(|(id, entry)| (id, entry.modified).hash(&mut hash));
    Json(json!({
        "SystemVersion": "3", "POIDataLastModified": published().map(|(_, entry)| entry.modified).max().map(text),
        "POIDataLastCreated": published().map(|(_, entry)| entry.created).max().map(text),
        "MaxPOIId": published().map(|(id, _)| *id).max(), "DataHash": format!("{:016x}", hash.finish())
    }))
    .into_response()
}

async fn reference(State(data): Shared, headers: HeaderMap, Query(query): Parameters) -> Response {
    let mut data = lock(&data);
    data.requests.push("/v3/referencedata".to_owned());
    if !data.authorised(&headers, &lower(query)) {
        return forbidden();
    }
    Json(data.reference.clone()).into_response()
}

async fn change(State(data): Shared, Query(change): Query<OcmChange>) -> Json<Value> {
    let mut data = lock(&data);
    data.change(change);
    Json(json!({ "pois": data.pois.len(), "now": text(data.now) }))
}

async fn faults(State(data): Shared, Json(faults): Json<Vec<OcmFault>>) -> StatusCode {
    lock(&data).faults.extend(faults);
    StatusCode::NO_CONTENT
}

async fn poi(State(data): Shared, headers: HeaderMap, Query(query): Parameters) -> Response {
    let query = lower(query);
    let (body, fault) = {
        let mut data = lock(&data);
        let mut said: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        said.sort_unstable();
        data.requests.push(format!("/v3/poi?{}", said.join("&")));
        if !data.authorised(&headers, &query) {
            return forbidden();
        }
        let fault = data.faults.pop_front().unwrap_or(OcmFault::Nothing);
        (body(&data, &query), fault)
    };
    answer(body, fault).await
}

async fn answer(body: String, fault: OcmFault) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    match fault {
        OcmFault::Nothing => (json, body).into_response(),
        OcmFault::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            (status, "Something is wrong with the server.").into_response()
        }
        OcmFault::RetryAfter(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())], "Slow down.").into_response()
        }
        OcmFault::Hang => std::future::pending().await,
        OcmFault::Html => "<html><body>502 Bad Gateway</body></html>".into_response(),
        OcmFault::Empty => (json, "[]").into_response(),
        OcmFault::NoIds => (json, r#"[{"AddressInfo": {}}, {}]"#).into_response(),
        OcmFault::Truncated => (json, body[..floor(&body, body.len() / 2)].to_owned()).into_response(),
        OcmFault::Reset => {
            let half = Bytes::from(body[..floor(&body, body.len() / 2)].to_owned());
            let reset = Err(std::io::Error::other("reset"));
            (json, Body::from_stream(stream::iter([Ok(half), reset]))).into_response()
        }
        OcmFault::Slow(millis) => {
            let pieces = stream::unfold(Bytes::from(body), move |mut rest| async move {
                if rest.is_empty() {
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(millis)).await;
                let piece = rest.split_to(PIECE.min(rest.len()));
                Some((Ok::<_, std::io::Error>(piece), rest))
            });
            (json, Body::from_stream(pieces)).into_response()
        }
    }
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

fn body(data: &Data, query: &HashMap<String, String>) -> String {
    let value = |name: &str| query.get(name).map(String::as_str);
    let numbers = |name: &str| -> Option<Vec<u64>> {
        value(name).map(|list| list.split(',').filter_map(|number| number.trim().parse().ok()).collect())
    };
    let statuses = numbers("submissionstatustypeid").filter(|list| !list.is_empty()).unwrap_or(vec![100, 200]);
    let above: u32 = value("greaterthanid").and_then(|id| id.parse().ok()).unwrap_or_default();
    // The API ignores the zone designator and interprets the time without it.
    let since = value("modifiedsince").map(|text| text.trim_end_matches('Z').to_owned());
    let since = since.and_then(|text| text.parse::<NaiveDateTime>().ok()).map(|at| at.and_utc());
    let countries = data.reference["Countries"].as_array().cloned().unwrap_or_default();
    // The API ignores an unknown country code.
    let country = value("countrycode").and_then(|code| {
        let known = countries.iter().find(|country| country["ISOCode"].as_str() == Some(code));
        known.and_then(|country| country["ID"].as_u64())
    });
    let mut found: Vec<(&u32, &Entry)> = data
        .pois
        .range(above.saturating_add(1)..)
        .filter(|(_, entry)| entry.number("SubmissionStatusTypeID").is_some_and(|status| statuses.contains(&status)))
        .filter(|(_, entry)| since.is_none_or(|since| entry.modified >= since))
        .filter(|(_, entry)| country.is_none_or(|id| entry.compact["AddressInfo"]["CountryID"].as_u64() == Some(id)))
        .collect();
    match value("sortby") {
        Some("id_asc") => {}
        Some("modified_asc") => found.sort_by_key(|(id, entry)| (entry.modified, **id)),
        Some("created_asc") => found.sort_by_key(|(id, entry)| (entry.created, **id)),
        _ => found.reverse(),
    }
    let most = value("maxresults").and_then(|number| number.parse().ok()).filter(|most| *most > 0);
    found.truncate(most.unwrap_or(MAX_RESULTS));
    let says = |name: &str, default: bool| value(name).map_or(default, |text| text.eq_ignore_ascii_case("true"));
    let (compact, verbose, camel) = (says("compact", false), says("verbose", true), says("camelcase", false));
    let mut records: Vec<String> = Vec::with_capacity(found.len());
    for (id, entry) in found {
        records.extend(data.raw.get(id).cloned());
        let record = if compact && !camel {
            entry.text.clone()
        } else {
            let form = if compact { entry.compact.clone() } else { expanded(&entry.compact, &data.reference, verbose) };
            if camel { camelcase(form).to_string() } else { form.to_string() }
        };
        if data.twice.contains(id) {
            records.push(record.clone());
        }
        records.push(record);
    }
    format!("[{}]", records.join(","))
}

/// Converts a POI to the full form, with nested reference data and null for missing values.
fn expanded(compact: &Value, reference: &Value, verbose: bool) -> Value {
    const NESTED: [(&str, &str, &str); 5] = [
        ("DataProviderID", "DataProvider", "DataProviders"),
        ("OperatorID", "OperatorInfo", "Operators"),
        ("UsageTypeID", "UsageType", "UsageTypes"),
        ("StatusTypeID", "StatusType", "StatusTypes"),
        ("SubmissionStatusTypeID", "SubmissionStatus", "SubmissionStatusTypes"),
    ];
    const OF_CONNECTIONS: [(&str, &str, &str); 4] = [
        ("ConnectionTypeID", "ConnectionType", "ConnectionTypes"),
        ("StatusTypeID", "StatusType", "StatusTypes"),
        ("LevelID", "Level", "ChargerTypes"),
        ("CurrentTypeID", "CurrentType", "CurrentTypes"),
    ];
    let nest = |object: &mut Map<String, Value>, nested: &[(&str, &str, &str)]| {
        for (id, name, kind) in nested {
            let found = reference[*kind]
                .as_array()
                .and_then(|list| list.iter().find(|entry| object.get(*id) == Some(&entry["ID"])));
            object.insert((*name).to_owned(), found.cloned().unwrap_or_default());
        }
    };
    let mut full = compact.as_object().cloned().unwrap_or_default();
    for name in
        ["OperatorID", "UsageTypeID", "UsageCost", "GeneralComments", "DatePlanned", "MediaItems", "DateLastConfirmed"]
    {
        full.entry(name).or_insert(Value::Null);
    }
    if verbose {
        nest(&mut full, &NESTED);
        for connection in full.get_mut("Connections").and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::Object(connection) = connection else { continue };
            for name in ["LevelID", "Amps", "Voltage", "PowerKW", "CurrentTypeID", "StatusTypeID", "Comments"] {
                connection.entry(name).or_insert(Value::Null);
            }
            nest(connection, &OF_CONNECTIONS);
        }
    }
    Value::Object(full)
}

fn camelcase(value: Value) -> Value {
    match value {
        Value::Object(object) => object.into_iter().map(|(name, value)| (camel(&name), camelcase(value))).collect(),
        Value::Array(list) => list.into_iter().map(camelcase).collect(),
        plain => plain,
    }
}

fn camel(name: &str) -> String {
    let capitals = name.chars().take_while(char::is_ascii_uppercase).count();
    let lowered = if capitals == name.len() { capitals } else { capitals.saturating_sub(1).max(1) };
    name.chars().enumerate().map(|(n, c)| if n < lowered { c.to_ascii_lowercase() } else { c }).collect()
}
