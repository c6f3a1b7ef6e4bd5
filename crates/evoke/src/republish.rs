//! `evoke republish`: publishes the ends of sessions again, for consumers that missed them.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use domain::charging::session::SessionStatus;
use domain::error::DomainError;
use domain::id::SessionId;
use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::stack::Stack;

/// The number of concurrent requests.
const PARALLEL: usize = 16;
/// The maximum number of failures that are printed.
const SHOWN: usize = 20;
/// The statuses of ended sessions.
const ENDED: [SessionStatus; 3] = [SessionStatus::Completed, SessionStatus::Interrupted, SessionStatus::Failed];

/// The sessions to republish, and how.
#[derive(Args)]
pub struct Options {
    /// Only sessions that ended at this time or later, e.g. 2026-02-22T10:00:00Z.
    #[arg(long, required_unless_present = "sessions")]
    from: Option<DateTime<Utc>>,
    /// Only sessions that ended at this time or earlier. The default is now.
    #[arg(long, requires = "from")]
    to: Option<DateTime<Utc>>,
    /// Only sessions with this status: COMPLETED, INTERRUPTED or FAILED. May be repeated.
    #[arg(long = "status", value_parser = ended, requires = "from")]
    statuses: Vec<SessionStatus>,
    /// The session with this id, regardless of when it ended. May be repeated.
    #[arg(long = "session", value_parser = session_id)]
    sessions: Vec<SessionId>,
    /// Show what would be republished, and publish nothing.
    #[arg(long)]
    dry_run: bool,
    /// The maximum number of sessions to republish.
    #[arg(long)]
    max: Option<usize>,
    /// The number of sessions per second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// A file that records the republished sessions. A run skips the sessions that the file already contains, so that
    /// the same file continues a run that was interrupted or had failures.
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
    /// The name of the operator, for the log.
    #[arg(long, env = "USER")]
    by: Option<String>,
}

fn ended(text: &str) -> Result<SessionStatus, String> {
    let status: Option<SessionStatus> = serde_json::from_value(json!(text.to_ascii_uppercase())).ok();
    status.filter(|status| ENDED.contains(status)).ok_or_else(|| "must be COMPLETED, INTERRUPTED or FAILED".to_owned())
}

fn session_id(text: &str) -> Result<SessionId, DomainError> {
    SessionId::new(text)
}

/// Republishes the ends of the sessions that the options select.
///
/// # Errors
/// When the sessions cannot be listed, or when a session could not be republished. In the second case all others are
/// still tried first.
pub async fn run(stack: &Stack, options: &Options) -> Result<()> {
    let by = options.by.as_deref().context("name the operator: --by NAME")?;
    let actor = json!({ "userId": by, "role": "ADMIN" });
    let done = options.journal.as_deref().map(read_journal).transpose()?.unwrap_or_default();
    let mut wanted = find(stack, options, &actor).await?;
    let found = wanted.len();
    wanted.retain(|session| !done.contains(session));
    println!("{found} sessions, {} of them republished before", found - wanted.len());
    wanted.truncate(options.max.unwrap_or(usize::MAX));
    if options.dry_run {
        for session in &wanted {
            println!("{session}");
        }
    }
    if options.dry_run || wanted.is_empty() {
        println!("{} sessions, none republished", wanted.len());
        return Ok(());
    }
    if !options.yes && !confirmed(wanted.len())? {
        println!("none republished");
        return Ok(());
    }
    let failures = republish(stack, options, &actor, &wanted).await?;
    println!("{} republished, {} failed", wanted.len() - failures.len(), failures.len());
    for (session, error) in failures.iter().take(SHOWN) {
        println!("{session}: {error:#}");
    }
    if failures.is_empty() {
        return Ok(());
    }
    bail!("{} of {} sessions were not republished", failures.len(), wanted.len())
}

/// Returns the selected sessions, each once: first those that were named, then those that ended within the window,
/// newest first.
async fn find(stack: &Stack, options: &Options, actor: &Value) -> Result<Vec<SessionId>> {
    let mut found = options.sessions.clone();
    if let Some(from) = options.from {
        let statuses = if options.statuses.is_empty() { &ENDED[..] } else { &options.statuses };
        let progress = ProgressBar::new_spinner().with_message("sessions listed");
        progress.set_style(ProgressStyle::with_template("{spinner} {pos} {msg}")?);
        for status in statuses {
            let mut list = json!({
                "action": "listSessions", "actor": actor, "status": status, "changedFrom": from, "limit": 100
            });
            if let Some(to) = options.to {
                list["changedTo"] = json!(to);
            }
            loop {
                let page = stack.invoke("session_service", &list).await.context("the sessions cannot be listed")?;
                let items = page["items"].as_array().context("the answer has no items")?;
                for item in items {
                    found.push(serde_json::from_value(item["sessionId"].clone()).context("an item without an id")?);
                }
                progress.inc(items.len() as u64);
                list["nextToken"] = page["nextToken"].clone();
                if list["nextToken"].is_null() {
                    break;
                }
            }
        }
        progress.finish_and_clear();
    }
    let mut seen = BTreeSet::new();
    found.retain(|session| seen.insert(session.clone()));
    Ok(found)
}

/// Republishes these sessions. Returns those that failed, with the reasons.
async fn republish(
    stack: &Stack,
    options: &Options,
    actor: &Value,
    sessions: &[SessionId],
) -> Result<Vec<(SessionId, anyhow::Error)>> {
    let journal = options.journal.as_deref();
    let journal = journal.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose();
    let mut journal = journal.context("the journal cannot be written")?;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / options.rate);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let paced = stream::unfold((pace, sessions.iter()), |(mut pace, mut left)| async move {
        let next = left.next()?;
        pace.tick().await;
        Some((next, (pace, left)))
    });
    let sent = paced.map(|session| async move {
        let command = json!({ "action": "republishEnd", "actor": actor, "sessionId": session });
        (session, stack.invoke("session_service", &command).await)
    });
    let mut sent = Box::pin(sent.buffer_unordered(PARALLEL));
    let progress = ProgressBar::new(sessions.len() as u64);
    let mut failures = Vec::new();
    while let Some((session, outcome)) = sent.next().await {
        match outcome {
            Ok(_) => {
                if let Some(journal) = &mut journal {
                    let line = format!("{session}\n"); // written in one call, so that no line is ever incomplete
                    journal.write_all(line.as_bytes()).context("the journal cannot be written")?;
                }
            }
            Err(error) => failures.push((session.clone(), error)),
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(failures)
}

/// Reads the sessions in a journal. A missing journal is empty.
fn read_journal(path: &Path) -> Result<BTreeSet<SessionId>> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let ids = text.lines().map(|line| {
                SessionId::new(line).with_context(|| format!("{}: {line:?} is not a session id", path.display()))
            });
            ids.collect()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

fn confirmed(sessions: usize) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask for confirmation: use --yes, or --dry-run to see what would be republished");
    }
    print!("republish the ends of {sessions} sessions? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

    use std::sync::Arc;

    use charging_simulator::ChargingSimulator;
    use clap::Parser;
    use lambda_kit::{Clock, Door, RemoteFunction};
    use session_service::{Inbox, SessionService};
    use station_service::StationService;
    use tempfile::TempDir;
    use testkit::{EmbeddedDynamoDb, FakeLambda, NOWHERE, invoke, sdk_config};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Options {
        let words = ["republish", "--by", "ada", "--yes", "--rate", "1000"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap().options
    }

    /// More sessions than a page of the list.
    const SESSIONS: usize = 120;

    struct World {
        dynamodb: EmbeddedDynamoDb,
        stack: Stack,
        folder: TempDir,
        sessions: Vec<String>,
        _lambda: FakeLambda,
    }

    impl World {
        /// Creates sessions that have ended, and one that is still charging.
        async fn new() -> Self {
            let dynamodb = EmbeddedDynamoDb::start().await;
            let stations = Door::new(StationService::new(dynamodb.charging()), Clock::SYSTEM);
            let simulator = Door::new(ChargingSimulator::new(dynamodb.charging(), None, 1000), Clock::SYSTEM);
            let nobody = RemoteFunction::new(&sdk_config(NOWHERE), "nobody".to_owned());
            let inbox = Inbox::new(&sdk_config(NOWHERE), "inbox".to_owned());
            let service = SessionService::new(dynamodb.charging(), dynamodb.users(), nobody, inbox);
            let service = Arc::new(Door::new(service, Clock::SYSTEM));
            let mut sessions = Vec::new();
            for number in 0..=SESSIONS {
                let admin = json!({ "userId": "admin", "role": "ADMIN" });
                let id = format!("s-{number}");
                let create = json!({
                    "action": "createStation", "actor": admin, "stationId": id, "name": "N", "address": "A",
                    "latitude": 1, "longitude": 1, "powerKw": 100, "pricePerKwh": "0.50", "currency": "EUR",
                    "ports": [{ "portNumber": 1, "connectorType": "CCS2", "maxPowerKw": 100 }]
                });
                invoke(&stations, create).await.unwrap();
                let commission =
                    json!({ "action": "transitionStation", "actor": admin, "stationId": id, "to": "ACTIVE" });
                invoke(&stations, commission).await.unwrap();
                let start = json!({
                    "action": "startSession", "actor": { "userId": "u", "role": "USER" }, "stationId": id,
                    "portId": "port-1", "vehicle": { "batteryCapacityKwh": 100 }, "chargePercent": 20,
                    "targetPercent": if number == SESSIONS { 100 } else { 21 }
                });
                let started = invoke(&service, start).await.unwrap();
                sessions.push(started["sessionId"].as_str().unwrap().to_owned());
            }
            let later = (Clock::SYSTEM.0)() + chrono::Duration::minutes(10);
            invoke(&simulator, json!({ "tickAt": later })).await.unwrap();

            let lambda = FakeLambda::start(service).await;
            let folder = tempfile::tempdir().unwrap();
            let outputs = folder.path().join("outputs.json");
            let content = json!({
                "endpoint": lambda.endpoint(), "region": "eu-central-1", "SessionServiceFunctionName": "session-service"
            });
            std::fs::write(&outputs, content.to_string()).unwrap();
            let stack = Stack::open(&outputs).await.unwrap();
            Self { dynamodb, stack, folder, sessions, _lambda: lambda }
        }

        /// Returns the sessions whose ends were republished.
        async fn republished(&self) -> BTreeSet<String> {
            let items = self.dynamodb.items("ev-sessions").await;
            let again = items.iter().filter(|item| item.contains_key("relayedAgainAt"));
            again.map(|item| item["PK"].as_s().unwrap()["SESSION#".len()..].to_owned()).collect()
        }

        fn ended(&self) -> BTreeSet<String> {
            self.sessions[..SESSIONS].iter().cloned().collect()
        }

        fn journal(&self) -> String {
            self.folder.path().join("journal").display().to_string()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_ended_sessions_of_a_window_are_republished_from_all_pages() {
        let world = World::new().await;
        let from = (Clock::SYSTEM.0)() - chrono::Duration::hours(1);
        let to = (Clock::SYSTEM.0)() + chrono::Duration::hours(1);
        let window = format!("--from {} --to {}", from.to_rfc3339(), to.to_rfc3339());
        run(&world.stack, &options(&format!("{window} --dry-run"))).await.unwrap();
        assert!(world.republished().await.is_empty(), "a dry run republishes nothing");
        run(&world.stack, &options(&format!("{window} --status FAILED"))).await.unwrap();
        assert!(world.republished().await.is_empty(), "none has failed");
        let before = format!("--from {} --to {}", (from - chrono::Duration::hours(1)).to_rfc3339(), from.to_rfc3339());
        run(&world.stack, &options(&before)).await.unwrap();
        assert!(world.republished().await.is_empty(), "none ended before");
        run(&world.stack, &options(&window)).await.unwrap();
        assert_eq!(world.republished().await, world.ended());
    }

    /// A run with the journal of an interrupted or failed run continues it, and each session is republished once.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_continues_by_its_journal_and_reports_failures() {
        let world = World::new().await;
        let from = (Clock::SYSTEM.0)() - chrono::Duration::hours(1);
        let running = &world.sessions[SESSIONS];
        let window =
            format!("--from {} --session {running} --session none --journal {}", from.to_rfc3339(), world.journal());
        // The two sessions that cannot be republished come first, because they are named.
        let error = run(&world.stack, &options(&format!("{window} --max 50"))).await.unwrap_err();
        assert!(error.to_string().contains("2 of 50"), "{error}");
        let first = world.republished().await;
        assert_eq!(first.len(), 48);
        let error = run(&world.stack, &options(&window)).await.unwrap_err();
        assert!(error.to_string().contains("2 of 74"), "{error}");
        assert_eq!(world.republished().await, world.ended());
        let journal = std::fs::read_to_string(world.journal()).unwrap();
        let mut lines: Vec<&str> = journal.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, world.ended().iter().map(String::as_str).collect::<Vec<_>>(), "each once");
        let rest = format!("--from {} --journal {}", from.to_rfc3339(), world.journal());
        run(&world.stack, &options(&rest)).await.unwrap();
    }

    #[test]
    fn invalid_and_contradictory_arguments_are_refused() {
        for line in [
            "",
            "--to 2026-02-22T10:00:00Z",
            "--from yesterday",
            "--from 2026-02-22T10:00:00Z --status STARTED",
            "--session a#b",
            "--session s --rate 0",
            "--session s --status COMPLETED",
        ] {
            let words = std::iter::once("republish").chain(line.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{line}");
        }
    }
}
