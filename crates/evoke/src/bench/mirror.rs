//! `evoke bench mirror`: measures `ocm_sync` and searches in this process, with the embedded DynamoDB and the simulated
//! OpenChargeMap API in other processes.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use domain::geo::Location;
use domain::poi::{PoiFilter, Record};
use ocm_sync::{ApiKey, Elements, OcmSync, Source, SyncAnswer, Synchronise};
use serde_json::{Value, json};
use store::{Db, PageRequest, PoiStore, Units};
use testkit::{EmbeddedDynamoDb, FakeAws, OcmServer, RuntimeApi, sdk_config};

use super::{Server, invocation_at, peak_mb_of};

const TABLE: &str = "ev-ocm-pois";
/// The number of records on a page, the same as in the template.
const PAGE_SIZE: u32 = 5000;
/// The size of the pieces in which a body arrives, bytes.
const PIECE: usize = 64 * 1024;
/// The number of searches to measure at each place.
const SEARCHES: u32 = 300;
/// The binary of the function that `make build` produces.
const BINARY: &str = "target/lambda/ocm_sync/bootstrap";

struct World {
    dynamodb: Server,
    ocm: Server,
    ssm: FakeAws,
}

impl World {
    async fn start(pois: u32) -> Result<Self> {
        let answer = json!({ "Parameter": { "Name": "/key", "Value": OcmServer::KEY } }).to_string();
        let ocm = Server::start_with(&["ocm-server", "--pois", &pois.to_string(), "--port", "0"]).await?;
        Ok(Self { dynamodb: Server::start().await?, ocm, ssm: FakeAws::start(move |_, _| (200, answer.clone())).await })
    }

    async fn sync(&self, full: bool) -> Result<(SyncAnswer, f64, Units)> {
        synchronise(&self.dynamodb.endpoint, &self.ocm.endpoint, &self.ssm.endpoint(), full).await
    }
}

/// Runs one synchronisation as a new execution environment would, with the services at these endpoints. Returns the
/// answer, the seconds and the units.
pub(super) async fn synchronise(dynamodb: &str, ocm: &str, ssm: &str, full: bool) -> Result<(SyncAnswer, f64, Units)> {
    let db = Db::new(EmbeddedDynamoDb::client_at(dynamodb));
    let source = Source::new(ocm, ApiKey::parameter(&sdk_config(ssm), "/key"), PAGE_SIZE)?;
    let function = OcmSync::new(PoiStore::new(db.clone(), TABLE), source);
    let context = invocation_at("2026-03-03T12:00:00Z".parse()?);
    let watch = Instant::now();
    let answer = function.synchronise(&Synchronise { full, allow_removals: false }, &context).await?;
    Ok((answer, watch.elapsed().as_secs_f64(), db.capacity().units()))
}

pub async fn mirror(pois: u32) -> Result<()> {
    let world = World::start(pois).await?;
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["run", "seconds", "records", "written", "read units", "table write units", "index write units"]);
    for (what, full) in
        [("first", false), ("sweep, unchanged", true), ("sweep, unchanged", true), ("probe, unchanged", false)]
    {
        let (answer, seconds, units) = world.sync(full).await?;
        table.add_row([
            what.to_owned(),
            format!("{seconds:.2}"),
            answer.event.processed.to_string(),
            answer.event.updated.to_string(),
            format!("{:.1}", units.read),
            format!("{:.0}", units.table_write),
            format!("{:.0}", units.index_write),
        ]);
    }
    println!("{table}");
    searches(&world).await?;
    print_memory(&world).await?;
    parsing(pois).await
}

/// Measures searches for the ten nearest charge points of 50 kW within 25 km, at places with many, few and none.
async fn searches(world: &World) -> Result<()> {
    let filter = PoiFilter { min_power_kw: Some(50.0), ..PoiFilter::default() };
    let page = PageRequest { limit: 10, next_token: None };
    for (what, latitude, longitude) in [("a city", 52.52, 13.40), ("the country", 50.5, 10.5), ("the sea", 30.0, -40.0)]
    {
        let db = Db::new(EmbeddedDynamoDb::client_at(&world.dynamodb.endpoint));
        let store = PoiStore::new(db.clone(), TABLE);
        let mut times = Vec::new();
        for number in 0..SEARCHES {
            let at = Location::new(latitude + f64::from(number % 17) * 0.002, longitude)?;
            let watch = Instant::now();
            store.near(at, 25.0, &filter, &page).await?;
            times.push(watch.elapsed().as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        let of = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        let units = db.capacity().units().read / f64::from(SEARCHES);
        println!("search in {what}: p50 {:.1} ms, p99 {:.1} ms, {units:.1} read units", of(50), of(99));
    }
    Ok(())
}

/// Prints the peak memory of the function's process after an unchanged sweep.
async fn print_memory(world: &World) -> Result<()> {
    let binary = Path::new(BINARY);
    if !binary.exists() {
        println!("memory of a sweep: not measured, {BINARY} is not built (make build)");
        return Ok(());
    }
    let (runtime, ssm) = (RuntimeApi::start().await, world.ssm.endpoint());
    let page = PAGE_SIZE.to_string();
    let environment = [
        ("POIS_TABLE", TABLE),
        ("OCM_BASE_URL", world.ocm.endpoint.as_str()),
        ("OCM_API_KEY_PARAMETER", "/key"),
        ("OCM_PAGE_SIZE", page.as_str()),
        ("AWS_ENDPOINT_URL_DYNAMODB", world.dynamodb.endpoint.as_str()),
        ("AWS_ENDPOINT_URL_SSM", ssm.as_str()),
    ];
    let mut child = runtime.spawn(binary, &environment);
    runtime.push(json!({ "full": true }).to_string());
    let answer = runtime.answer(0).await;
    let peak = peak_mb_of(child.id());
    child.kill().and(child.wait())?;
    let answer = answer.map_err(|error| anyhow::anyhow!("{error}"))?;
    println!("peak memory of the function: {:.1} MB after a sweep of {} records", peak?, answer["processed"]);
    Ok(())
}

/// Measures only the splitting, parsing and hashing of a body in memory.
async fn parsing(pois: u32) -> Result<()> {
    let server = OcmServer::start(pois, 1).await;
    let body = server.published().into_values().collect::<Value>().to_string();
    let (mut fastest, mut records) = (f64::INFINITY, 0_u32);
    for _ in 0..5 {
        let (mut elements, mut scratch, mut hashes) = (Elements::default(), Vec::new(), 0_u64);
        records = 0;
        let watch = Instant::now();
        for piece in body.as_bytes().chunks(PIECE) {
            elements.feed(piece, |element| {
                records += 1;
                hashes ^= Record::parse(element).map_or(0, |record| record.hash(&mut scratch));
            })?;
        }
        elements.end()?;
        anyhow::ensure!(hashes != 0, "nothing was parsed");
        fastest = fastest.min(watch.elapsed().as_secs_f64());
    }
    #[allow(clippy::cast_precision_loss)]
    let megabytes = body.len() as f64 / 1e6;
    println!(
        "parsing and hashing: {:.0} MB/s ({records} records, {megabytes:.1} MB, the fastest of five)",
        megabytes / fastest
    );
    Ok(())
}
