//! `evoke bench tick`: measures the simulator in this process, with the embedded DynamoDB in another process, and
//! compares it with bare `UpdateItem` calls and with a peer in Python. The other benchmarks are in submodules.

mod accounts;
mod billing;
mod cold;
mod live;
mod mirror;
mod process;
mod python;
mod telemetry;

pub use accounts::login;
pub use billing::{billing, invoice_latency};
pub use cold::{Options as ColdOptions, cold};
pub use live::live;
pub use mirror::mirror;
pub use python::Peers;
pub use telemetry::telemetry;

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use charging_simulator::{ChargingSimulator, Tick};
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use domain::battery::ModelConfig;
use domain::charging::connector::ConnectorType;
use domain::charging::session::{Limits, StartSession, Vehicle};
use domain::charging::site::{Site, Terms};
use domain::charging::station::{Port, PortStatus, Station, StationCreated, StationStatus};
use domain::charging::tariff::Tariff;
use domain::geo::Location;
use domain::id::{PortId, SessionId, StationId, UserId};
use futures::{StreamExt, TryStreamExt, stream};
use lambda_kit::Context as Invocation;
use process::Running;
use python::Python;
use serde_json::json;
use store::{ChargingStore, EventContext};
use testkit::{EmbeddedDynamoDb, EmbeddedS3};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::stack::{Stack, sample};

/// The number of concurrent writes, both of the simulator and of the bare updates.
const CONCURRENCY: usize = 64;
/// The number of ports of each station. Each has a session.
const PORTS: u32 = 4;
/// The maximum number of sessions that the peer in Python advances in each tick.
const SAMPLE: u32 = 1000;
/// The number of the clock ticks in which Linux counts CPU time, in a second.
const CLOCK_TICKS: f64 = 100.0;

struct Run {
    sessions: u32,
    ticked_per_second: f64,
    bare_per_second: f64,
    python_per_second: Option<f64>,
    cpu_us: f64,
    write_units: f64,
    read_units: f64,
    peak_mb: f64,
}

pub async fn tick(sizes: &[u32], ticks: u32, peers: &Peers) -> Result<()> {
    let python = Python::find(peers).await?;
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header([
        "active sessions",
        "sessions/s",
        "bare UpdateItems/s",
        "ratio",
        "Python sessions/s",
        "ratio",
        "CPU us",
        "write units",
        "read units",
        "peak MB",
    ]);
    for size in sizes {
        let run = measure(*size, ticks, python.as_ref()).await?;
        table.add_row([
            run.sessions.to_string(),
            format!("{:.0}", run.ticked_per_second),
            format!("{:.0}", run.bare_per_second),
            format!("{:.0} %", 100.0 * run.ticked_per_second / run.bare_per_second),
            run.python_per_second.map_or_else(String::new, |peer| format!("{peer:.0}")),
            run.python_per_second.map_or_else(String::new, |peer| format!("{:.1}", run.ticked_per_second / peer)),
            format!("{:.0}", run.cpu_us),
            format!("{:.2}", run.write_units),
            format!("{:.2}", run.read_units),
            format!("{:.0}", run.peak_mb),
        ]);
    }
    println!("{table}");
    println!(
        "Units are per session and tick. The bare updates change the same items. All alternate, {ticks} ticks each,\n\
         {CONCURRENCY} writes at a time. CPU us is the simulator's CPU time per session and tick, in microseconds.\n\
         CPU us and peak MB are of this process only: simulator, SDK and benchmark. The embedded DynamoDB is a\n\
         different process."
    );
    if let Some(python) = python {
        println!(
            "{} advances one session after the other (tick.py): three calls and two write units\n\
             each, in the same DynamoDB. Above {SAMPLE} sessions, it advances a sample of {SAMPLE}.",
            python.versions
        );
    }
    Ok(())
}

/// Measures each function with its sample payload, one invocation after the other.
pub async fn invoke(stack: &Stack, count: u32) -> Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["function", "first ms", "p50 ms", "p99 ms"]);
    for function in stack.functions() {
        let payload = std::fs::read_to_string(sample(&function))
            .with_context(|| format!("the sample payload of {function} cannot be read"))?;
        let payload: serde_json::Value = serde_json::from_str(&payload)?;
        let first = timed(stack, &function, &payload).await?;
        let mut rest = Vec::new();
        for _ in 0..count.max(1) {
            rest.push(timed(stack, &function, &payload).await?);
        }
        let [p50, p99] = percentiles(rest, [50, 99]);
        table.add_row([function, format!("{first:.0}"), format!("{p50:.1}"), format!("{p99:.1}")]);
    }
    println!("{table}");
    println!("{count} invocations each. Every figure includes the time of the stack's Lambda API.");
    Ok(())
}

/// Returns the requested percentiles of `values`.
fn percentiles<const N: usize>(mut values: Vec<f64>, shares: [usize; N]) -> [f64; N] {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    shares.map(|share| values.get((values.len() * share / 100).min(last)).copied().unwrap_or_default())
}

async fn timed(stack: &Stack, function: &str, payload: &serde_json::Value) -> Result<f64> {
    let watch = Instant::now();
    stack.invoke(function, payload).await?;
    Ok(watch.elapsed().as_secs_f64() * 1000.0)
}

/// Serves the embedded DynamoDB until standard input ends.
pub async fn serve() -> Result<()> {
    let dynamodb = EmbeddedDynamoDb::start().await;
    println!("{}", dynamodb.endpoint());
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// Serves an S3 API until standard input ends.
pub async fn serve_s3() -> Result<()> {
    let s3 = EmbeddedS3::start(telemetry::BUCKET).await;
    println!("{}", s3.endpoint());
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

async fn measure(sessions: u32, ticks: u32, python: Option<&Python>) -> Result<Run> {
    let mut server = Server::start().await?;
    let charging = server.charging();
    let started: domain::Instant = "2026-03-03T10:00:00Z".parse()?;
    let ids = populate(&charging, sessions, started).await?;
    let simulator = ChargingSimulator::new(server.charging(), None, usize::MAX);
    // Not measured: only the first tick changes every session from STARTED to IN_PROGRESS.
    advance(&simulator, started, 1, sessions).await?;
    let mut peer = match python {
        Some(python) => Some(start_peer(python, &server.endpoint, sessions.min(SAMPLE)).await?),
        None => None,
    };
    if let Some(peer) = &mut peer {
        advance_peer(peer, started, 1, sessions.min(SAMPLE)).await?;
    }
    let capacity_store = server.charging();
    let simulator = ChargingSimulator::new(capacity_store.clone(), None, usize::MAX);
    let bare = server.client();
    let (mut ticked, mut updated, mut ticked_by_peer, mut cpu) = (0.0, 0.0, 0.0, 0.0);
    for tick in 0..ticks {
        let (watch, before) = (Instant::now(), cpu_seconds()?);
        advance(&simulator, started, 2 + tick, sessions).await?;
        ticked += watch.elapsed().as_secs_f64();
        cpu += cpu_seconds()? - before;
        let watch = Instant::now();
        update_all(&bare, &ids).await?;
        updated += watch.elapsed().as_secs_f64();
        if let Some(peer) = &mut peer {
            ticked_by_peer += advance_peer(peer, started, 2 + tick, sessions.min(SAMPLE)).await?;
        }
    }
    let units = capacity_store.sessions.table().db().capacity().units();
    let work = f64::from(sessions) * f64::from(ticks);
    let run = Run {
        sessions,
        ticked_per_second: work / ticked,
        bare_per_second: work / updated,
        python_per_second: peer.as_ref().map(|_| f64::from(sessions.min(SAMPLE)) * f64::from(ticks) / ticked_by_peer),
        cpu_us: 1e6 * cpu / work,
        write_units: (units.table_write + units.index_write) / work,
        read_units: units.read / work,
        peak_mb: peak_mb()?,
    };
    if let Some(peer) = peer {
        peer.stop().await?;
    }
    server.child.kill().await?;
    Ok(run)
}

/// Starts the peer in Python at this DynamoDB, with a number of active sessions in tables of its own.
async fn start_peer(python: &Python, dynamodb: &str, sessions: u32) -> Result<Running> {
    let mut environment = python::tables("peer");
    environment.push(("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.to_owned()));
    let request = json!({ "function": "tick", "count": sessions });
    python.prepare(&request, environment.clone()).await?;
    Running::start(&python.launch("tick", environment)).await
}

/// Lets the peer advance its sessions. Returns the seconds that it took.
async fn advance_peer(peer: &mut Running, started: domain::Instant, minute: u32, sessions: u32) -> Result<f64> {
    let at = started + chrono::Duration::minutes(minute.into());
    let (answer, ms) = peer.invoke(&json!({ "tickAt": at })).await?;
    anyhow::ensure!(answer["sessions"] == sessions && answer["skipped"] == 0, "sessions were skipped: {answer}");
    Ok(ms / 1000.0)
}

async fn advance(simulator: &ChargingSimulator, started: domain::Instant, minute: u32, sessions: u32) -> Result<()> {
    let at = started + chrono::Duration::minutes(minute.into());
    let tick = Tick { tick_at: Some(at), ..Tick::default() };
    let answer = simulator.tick(&tick, &invocation_at(at)).await?;
    anyhow::ensure!(answer.sessions == u64::from(sessions), "{} of {sessions} sessions were ticked", answer.sessions);
    anyhow::ensure!(answer.skipped == 0 && answer.completed == 0, "sessions were skipped or ended: {answer:?}");
    Ok(())
}

/// Returns the context of an invocation at `now` that has fifteen minutes.
fn invocation_at(now: domain::Instant) -> Invocation {
    Invocation {
        now,
        deadline: now + chrono::Duration::minutes(15),
        correlation_id: "bench".to_owned(),
        request_id: "bench".to_owned(),
    }
}

/// The embedded DynamoDB or S3 in a separate process.
struct Server {
    endpoint: String,
    child: Child,
}

impl Server {
    async fn start() -> Result<Self> {
        Self::start_as("embedded-dynamodb").await
    }

    async fn start_as(what: &str) -> Result<Self> {
        Self::start_with(&[what]).await
    }

    async fn start_with(arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let endpoint = BufReader::new(stdout).lines().next_line().await?.context("the server did not start")?;
        Ok(Self { endpoint, child })
    }

    fn client(&self) -> Client {
        EmbeddedDynamoDb::client_at(&self.endpoint)
    }

    fn charging(&self) -> ChargingStore {
        ChargingStore::new(self.client(), "ev-stations", "ev-sessions")
    }
}

/// Creates stations with [`PORTS`] ports and a session at each port. The batteries take all day to charge.
async fn populate(charging: &ChargingStore, sessions: u32, now: domain::Instant) -> Result<Vec<SessionId>> {
    let stations = sessions.div_ceil(PORTS);
    stream::iter(0..stations)
        .map(|number| {
            let ports = PORTS.min(sessions - number * PORTS);
            populate_station(charging, number, ports, now)
        })
        .buffer_unordered(CONCURRENCY)
        .try_concat()
        .await
}

/// Creates this number of stations with [`PORTS`] free ports each.
async fn insert_stations(charging: &ChargingStore, stations: u32, now: domain::Instant) -> Result<()> {
    stream::iter(0..stations)
        .map(|number| insert_station(charging, number, now))
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await
}

async fn insert_station(charging: &ChargingStore, number: u32, now: domain::Instant) -> Result<()> {
    let (station, ports) = station(number, PORTS, now)?;
    Ok(create(charging, &station, &ports, now).await?)
}

async fn create(
    charging: &ChargingStore,
    station: &Station,
    ports: &[Port],
    now: domain::Instant,
) -> Result<(), store::StoreError> {
    let context = EventContext { correlation_id: "bench".to_owned(), now };
    charging.stations.insert(station, ports, StationCreated::new(station, ports), &context).await
}

/// Returns a station with free ports.
fn station(number: u32, ports: u32, now: domain::Instant) -> Result<(Station, Vec<Port>)> {
    let tariff = Tariff::per_kwh("0.49".parse()?, "EUR".parse().map_err(anyhow::Error::msg)?);
    let station = Station {
        id: StationId::new(format!("station-{number}"))?,
        name: "Bench".to_owned(),
        address: "Bench".to_owned(),
        location: Location::new(52.5, 13.4)?,
        time_zone: "UTC".parse()?,
        power_kw: 100.0,
        tariff: Some(tariff),
        model: ModelConfig::StepTaper,
        status: StationStatus::Active,
        charging_ports: 0,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    let mut all: Vec<Port> = Vec::new();
    for number in 1..=ports {
        all.push(Port {
            station_id: station.id.clone(),
            id: PortId::new(format!("port-{number}"))?,
            number,
            connector: ConnectorType::Iec62196T2Combo,
            max_power_kw: 100.0,
            status: PortStatus::Free,
            session_id: None,
            version: 1,
        });
    }
    Ok((station, all))
}

async fn populate_station(
    charging: &ChargingStore,
    number: u32,
    ports: u32,
    now: domain::Instant,
) -> Result<Vec<SessionId>> {
    let mut ids = Vec::new();
    let (station, all) = station(number, ports, now)?;
    create(charging, &station, &all, now).await?;
    let context = EventContext { correlation_id: "bench".to_owned(), now };
    for port in all {
        let port_id = port.id.clone();
        let mut site = Site::new(station.clone(), vec![port], Vec::new(), Terms::default());
        let vehicle = Vehicle { battery_capacity_kwh: 1000.0, max_power_kw: None };
        let request = StartSession {
            id: SessionId::from(uuid::Uuid::now_v7()),
            user_id: UserId::new("bench")?,
            vehicle,
            charge_percent: 10.0,
            target_percent: 100.0,
            limits: Limits::default(),
            request_fingerprint: "bench".to_owned(),
            correlation_id: "bench".to_owned(),
        };
        ids.push(request.id.clone());
        let changes = site.start(request, &port_id, domain::actor::Role::User, now)?;
        charging.commit(&changes, &context).await?;
    }
    Ok(ids)
}

/// Runs one conditional update on each item, as simple as possible.
async fn update_all(client: &Client, ids: &[SessionId]) -> Result<()> {
    stream::iter(ids.to_vec())
        .map(|id| async move {
            client
                .update_item()
                .table_name("ev-sessions")
                .key("PK", AttributeValue::S(store::keys::session(&id)))
                .key("SK", AttributeValue::S(store::keys::METADATA.to_owned()))
                .update_expression("ADD #b :one")
                .condition_expression("attribute_exists(PK)")
                .expression_attribute_names("#b", "bare")
                .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
                .return_consumed_capacity(ReturnConsumedCapacity::Indexes)
                .send()
                .await
        })
        .buffer_unordered(CONCURRENCY)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(())
}

/// Returns the peak memory of this process, MB.
fn peak_mb() -> Result<f64> {
    peak_mb_of(std::process::id())
}

/// Returns the peak memory of a process, MB.
fn peak_mb_of(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.context("memory is read from /proc, on Linux")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kb: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kb / 1024.0)
}

/// Returns the CPU time of this process until now, s.
fn cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").context("CPU time is read from /proc, on Linux")?;
    // The name of the program comes before and may contain anything.
    let (_, rest) = text.rsplit_once(')').context("no name")?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / CLOCK_TICKS)
}
