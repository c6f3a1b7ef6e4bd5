//! `evoke fleet`: simulated battery-swap stations that report to the deployed stack over MQTT.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use aws_config::retry::RetryConfig;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use fleet::{Broker, Device, Faults, Identity, Progress, Registry, Report, Schedule};
use futures::future::try_join_all;
use indicatif::{ProgressBar, ProgressStyle};
use lambda_kit::Clock;

use crate::stack::Stack;

/// The prefix of the ids of simulated stations. `--clean` removes all stations with this prefix.
const PREFIX: &str = "sim-";
/// The port of AWS IoT for MQTT with certificates.
const MQTT_PORT: u16 = 8883;
/// The maximum number of attempts of a request to the registry. The delays between them double, up to 20 s.
const REGISTRY_ATTEMPTS: u32 = 8;
/// The interval at which the progress is refreshed.
const REFRESH: Duration = Duration::from_millis(250);
/// If the output is not a terminal, the progress is printed after this many refreshes.
const PRINT_EVERY: u32 = 40;

/// The size of the fleet, the duration of the run and the faults to make.
#[derive(Args)]
pub struct Options {
    /// The number of battery-swap stations.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    stations: u32,
    /// The interval between two messages of a station, seconds.
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    interval: f64,
    /// The duration of the run, seconds. Without it the run ends with Ctrl-C.
    #[arg(long, value_parser = positive)]
    duration: Option<f64>,
    /// The factor by which batteries are swapped and charged faster than in real time.
    #[arg(long, default_value_t = 60.0, value_parser = positive)]
    speed: f64,
    /// The seed for the stations and the faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The percentage of messages with a fault, for each kind of fault: late, duplicate, malformed, foreign topic.
    #[arg(long, default_value_t = 0.0, value_parser = percentage)]
    faults: f64,
    /// Leave the stations registered at the end. `--clean` removes them later.
    #[arg(long)]
    keep: bool,
    /// Only remove the stations that earlier runs left behind.
    #[arg(long)]
    clean: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err("must be above 0".to_owned()) }
}

fn percentage(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if (0.0..=100.0).contains(&value) { Ok(value) } else { Err("must be 0 to 100".to_owned()) }
}

/// A registered fleet.
pub struct Fleet {
    broker: Broker,
    registry: Registry,
    identities: Vec<Identity>,
}

pub async fn run(stack: &Stack, options: &Options) -> Result<()> {
    let (broker, registry) = open(stack).await?;
    if options.clean {
        return clean(&registry).await;
    }
    let fleet = Fleet::provision(broker, registry, options.stations).await?;
    let schedule = Schedule {
        interval: Duration::from_secs_f64(options.interval),
        duration: options.duration.map(Duration::from_secs_f64),
        speed: options.speed,
    };
    let share = options.faults / 100.0;
    let faults = Faults { late: share, duplicate: share, malformed: share, foreign: share };
    let reports = fleet.report(schedule, faults, options.seed).await;
    if !options.keep {
        fleet.remove().await?;
    }
    println!("{}", summary(&reports?));
    Ok(())
}

/// Returns the MQTT broker and the device registry of the stack.
async fn open(stack: &Stack) -> Result<(Broker, Registry)> {
    // The registry accepts about ten requests per second from an account, and a fleet must not leave certificates
    // behind. Therefore requests are retried more often than usual.
    let patient = RetryConfig::standard().with_max_attempts(REGISTRY_ATTEMPTS);
    let config = aws_sdk_iot::config::Builder::from(stack.config()).retry_config(patient);
    let client = aws_sdk_iot::Client::from_conf(config.build());
    let broker = if let Some(ca) = stack.outputs().get("iotCaFile") {
        let roots = std::fs::read(ca).with_context(|| format!("{ca} cannot be read"))?;
        Broker::new(stack.output("iotHost")?, stack.output("iotPort")?.parse()?, Some(&roots))?
    } else {
        let endpoint = client.describe_endpoint().endpoint_type("iot:Data-ATS").send().await?;
        let host = endpoint.endpoint_address.context("AWS IoT names no endpoint")?;
        Broker::new(host, MQTT_PORT, None)?
    };
    let registry = Registry::new(client, broker.clone(), stack.output("ProvisioningTemplateName")?);
    Ok((broker, registry))
}

async fn clean(registry: &Registry) -> Result<()> {
    let left = registry.registered(PREFIX).await?;
    registry.remove(&left, || {}).await?;
    println!("removed {} stations with their certificates", left.len());
    Ok(())
}

impl Fleet {
    /// Registers this number of stations under new ids.
    async fn provision(broker: Broker, registry: Registry, stations: u32) -> Result<Self> {
        let run = uuid::Uuid::new_v4().simple().to_string();
        let ids: Vec<String> = (1..=stations).map(|number| format!("{PREFIX}{}-{number:04}", &run[..6])).collect();
        let bar = bar(stations.into(), "registering stations");
        let provisioned = registry.provision(&ids, || bar.inc(1)).await;
        bar.finish_and_clear();
        match provisioned {
            Ok(identities) => Ok(Self { broker, registry, identities }),
            Err(error) => {
                let registered: BTreeSet<String> = registry.registered(PREFIX).await?.into_iter().collect();
                let ours: Vec<String> = ids.into_iter().filter(|id| registered.contains(id)).collect();
                registry.remove(&ours, || {}).await?;
                Err(error)
            }
        }
    }

    /// Lets all stations report until the schedule ends or Ctrl-C is pressed.
    async fn report(&self, schedule: Schedule, faults: Faults, seed: u64) -> Result<Vec<Report>> {
        let progress = Arc::new(Progress::default());
        let devices = (seed..).step_by(1).zip(&self.identities).map(|(seed, identity)| {
            let device = Device::new(identity.clone(), self.broker.clone(), faults, seed);
            let (progress, running) = (progress.clone(), device.run(schedule, progress.clone(), Clock::SYSTEM.0));
            async move {
                let report = running.await;
                // A station that cannot continue ends the run for all stations. Its error is returned.
                if report.is_err() {
                    progress.stop();
                }
                report
            }
        });
        let running = try_join_all(devices);
        tokio::pin!(running);
        let bar = bar(schedule.duration.map_or(0, |duration| duration.as_secs()), "reporting");
        let began = std::time::Instant::now();
        let mut refresh = tokio::time::interval(REFRESH);
        let mut looks = 0;
        loop {
            tokio::select! {
                reports = &mut running => {
                    bar.finish_and_clear();
                    return reports;
                }
                _ = tokio::signal::ctrl_c() => progress.stop(),
                _ = refresh.tick() => {
                    looks += 1;
                    bar.set_position(began.elapsed().as_secs());
                    show(&bar, &progress, self.identities.len(), began.elapsed(), looks);
                }
            }
        }
    }

    async fn remove(self) -> Result<()> {
        let things: Vec<String> = self.identities.into_iter().map(|identity| identity.thing).collect();
        let bar = bar(things.len() as u64, "removing stations");
        self.registry.remove(&things, || bar.inc(1)).await?;
        bar.finish_and_clear();
        Ok(())
    }
}

fn show(bar: &ProgressBar, progress: &Progress, stations: usize, elapsed: Duration, looks: u32) {
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let acknowledged = get(&progress.acknowledged);
    #[allow(clippy::cast_precision_loss)]
    let rate = acknowledged as f64 / elapsed.as_secs_f64().max(0.001);
    let text = format!(
        "{} of {stations} connected, {acknowledged} messages acknowledged ({rate:.1}/s), {} faults, {} reconnects",
        get(&progress.connected),
        get(&progress.faults),
        get(&progress.reconnects)
    );
    if std::io::stdout().is_terminal() {
        bar.set_message(text);
    } else if looks.is_multiple_of(PRINT_EVERY) {
        println!("{:>5.0} s: {text}", elapsed.as_secs_f64());
    }
}

fn bar(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {msg}");
    let bar = ProgressBar::new(length).with_prefix(what);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

/// Summarises the messages that were sent, and their faults.
pub fn summary(reports: &[Report]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header([
        "stations",
        "messages",
        "late",
        "duplicate",
        "malformed",
        "foreign topic",
        "foreign accepted",
        "lost",
    ]);
    let sum = |count: fn(&Report) -> usize| reports.iter().map(count).sum::<usize>().to_string();
    table.add_row([
        reports.len().to_string(),
        sum(|report| report.valid.len()),
        sum(|report| report.late),
        sum(|report| report.duplicates),
        sum(|report| report.malformed.len()),
        sum(|report| report.foreign),
        sum(|report| report.foreign_taken),
        sum(|report| report.lost),
    ]);
    table
}
