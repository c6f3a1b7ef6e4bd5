//! Random interleavings of commands on one site, call by call, with crashes before and after any call. For every
//! interleaving, the rows must be consistent afterwards, and every session must be metered at the power that the
//! station had for it.
#![allow(clippy::cast_precision_loss)] // milliseconds of a history and a handful of sessions

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::rc::Rc;

use aws_sdk_dynamodb::types::AttributeValue;
use charging_simulator::ChargingSimulator;
use chrono::TimeDelta;
use domain::Instant;
use domain::id::{SessionId, UserId};
use lambda_kit::{Door, RemoteFunction};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::{TestCaseError, TestRunner};
use serde_json::{Value, json};
use session_service::SessionService;
use station_service::StationService;
use store::{ChargingStore, Client, Db, UserStore};
use testkit::{EmbeddedDynamoDb, NOWHERE, Outcome, Turn, Turns, invoke, sdk_config, seeded};

use crate::common::{CLOCK, admin, no_inbox, set_now};

const CASES: u32 = 200;
const PORTS: u32 = 3;
const POWER_KW: f64 = 100.0;
/// The error of a session's energy that rounding to milliseconds and whole Wh can cause, Wh.
const TOLERANCE_WH: f64 = 3.0;

/// A command on the site, or a tick.
#[derive(Clone, Copy, Debug)]
enum Command {
    Start { port: u32, energy_wh: Option<u32> },
    Stop { session: Index },
    FailSession { session: Index },
    FailPort { port: u32 },
    ResetPort { port: u32 },
    Transition { to: &'static str },
    Update { power_kw: Option<u32> },
    AddPort,
    RemovePort { port: u32 },
    Delete,
    Tick,
}

/// Concurrent commands. Starts are at the first instant of a round. If the other commands are later, there is no start,
/// because a session that starts behind a tick cannot reduce the power at which its neighbours were already metered.
#[derive(Clone, Debug)]
struct Round {
    pause_seconds: u16,
    commands: Vec<(Command, u16)>,
    turns: Vec<(Index, u8)>,
}

fn command() -> impl Strategy<Value = Command> {
    let port = 1..=PORTS + 1;
    prop_oneof![
        8 => (port.clone(), prop::option::of(100..4_000_u32)).prop_map(|(port, energy_wh)| Command::Start { port, energy_wh }),
        4 => any::<Index>().prop_map(|session| Command::Stop { session }),
        2 => any::<Index>().prop_map(|session| Command::FailSession { session }),
        2 => port.clone().prop_map(|port| Command::FailPort { port }),
        2 => port.clone().prop_map(|port| Command::ResetPort { port }),
        4 => prop::sample::select(vec!["ACTIVE", "ACTIVE", "MAINTENANCE", "OUT_OF_ORDER"])
            .prop_map(|to| Command::Transition { to }),
        2 => prop::option::of(50..200_u32).prop_map(|power_kw| Command::Update { power_kw }),
        1 => Just(Command::AddPort),
        1 => port.prop_map(|port| Command::RemovePort { port }),
        1 => Just(Command::Delete),
        8 => Just(Command::Tick),
    ]
}

fn round() -> impl Strategy<Value = Round> {
    let commands = prop::collection::vec((command(), 0..60_u16), 1..4);
    let turn = (any::<Index>(), prop_oneof![30 => Just(0_u8), 1 => Just(1_u8), 1 => Just(2_u8)]);
    (1..90_u16, commands, prop::collection::vec(turn, 60), any::<bool>()).prop_map(
        |(pause_seconds, mut commands, turns, spread)| {
            if !spread || commands.iter().any(|(command, _)| matches!(command, Command::Start { .. })) {
                for (_, seconds) in &mut commands {
                    *seconds = 0;
                }
            }
            Round { pause_seconds, commands, turns }
        },
    )
}

/// One site in a database that cases share.
struct Site {
    dynamodb: Rc<EmbeddedDynamoDb>,
    id: String,
    now: Instant,
    /// All requested sessions, whether they started or not.
    sessions: Vec<String>,
}

impl Site {
    async fn new(dynamodb: &Rc<EmbeddedDynamoDb>) -> Self {
        let now = "2026-03-03T10:00:00Z".parse().unwrap();
        let id = format!("site-{}", uuid::Uuid::new_v4());
        let site = Self { dynamodb: dynamodb.clone(), id, now, sessions: Vec::new() };
        let ports: Vec<Value> = (1..=PORTS)
            .map(|number| json!({ "portNumber": number, "connectorType": "CCS2", "maxPowerKw": 1000 }))
            .collect();
        set_now(now);
        let stations = Door::new(StationService::new(dynamodb.charging()), CLOCK);
        let create = json!({
            "action": "createStation", "actor": admin(), "stationId": site.id, "name": "Test", "address": "Road 1",
            "latitude": 52.5, "longitude": 13.4, "powerKw": POWER_KW, "pricePerKwh": "0.49", "currency": "EUR",
            "ports": ports
        });
        invoke(&stations, create).await.unwrap();
        let commission =
            json!({ "action": "transitionStation", "actor": admin(), "stationId": site.id, "to": "ACTIVE" });
        invoke(&stations, commission).await.unwrap();
        site
    }

    /// Runs the concurrent commands, one call at a time.
    async fn play(&mut self, round: &Round) -> Result<(), TestCaseError> {
        self.now += TimeDelta::seconds(round.pause_seconds.into());
        let turns = Turns::default();
        let known = self.sessions.clone();
        let tasks: Vec<_> = round
            .commands
            .iter()
            .enumerate()
            .map(|(task, (command, later))| {
                let at = self.now + TimeDelta::seconds((*later).into());
                let http = turns.http(task);
                let work = self.work(*command, at, &known, http);
                turns.start(task, work)
            })
            .collect();
        let mut choices = round.turns.iter().cycle();
        let mut crashes_left = 1;
        let choose = |waiting: usize| {
            let (index, turn) = choices.next().unwrap();
            let turn = match turn {
                1 if crashes_left > 0 => Turn::CrashBefore,
                2 if crashes_left > 0 => Turn::CrashAfter,
                _ => Turn::Go,
            };
            crashes_left -= i32::from(turn != Turn::Go);
            (index.index(waiting), turn)
        };
        let (outcomes, ()) = futures::join!(futures::future::join_all(tasks), turns.run(choose));
        for outcome in outcomes.into_iter().flatten() {
            if let Err((kind, message)) = outcome {
                let refusals = ["ConflictError", "NotFoundError", "ValidationError"];
                prop_assert!(refusals.contains(&kind.as_str()), "{kind}: {message}");
            }
        }
        self.now = round
            .commands
            .iter()
            .fold(self.now, |now, (_, later)| now.max(self.now + TimeDelta::seconds((*later).into())));
        Ok(())
    }

    fn work(
        &mut self,
        command: Command,
        at: Instant,
        known: &[String],
        http: aws_smithy_runtime_api::client::http::SharedHttpClient,
    ) -> impl Future<Output = Outcome> + use<> {
        let sdk = sdk_config(&self.dynamodb.endpoint()).into_builder().http_client(http).build();
        let charging = ChargingStore::new(Client::new(&sdk), "ev-stations", "ev-sessions");
        let users = UserStore::new(Db::new(Client::new(&sdk)), "ev-users");
        let session = |index: Index| if known.is_empty() { "none".to_owned() } else { index.get(known).clone() };
        let on_station = |action: &str, more: Value| {
            let mut command = json!({ "action": action, "actor": admin(), "stationId": self.id });
            command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            command
        };
        let on_session =
            |action: &str, index: Index| json!({ "action": action, "actor": admin(), "sessionId": session(index) });
        let payload = match command {
            Command::Start { port, energy_wh } => {
                let user = UserId::new(format!("u-{}", self.sessions.len())).unwrap();
                self.sessions.push(SessionId::for_key(&user, &self.id).to_string());
                json!({
                    "action": "startSession", "actor": { "userId": user, "role": "USER" }, "stationId": self.id,
                    "portId": format!("port-{port}"), "vehicle": { "batteryCapacityKwh": 2000 }, "chargePercent": 0,
                    "limits": { "maxEnergyKwh": energy_wh.map(|wh| f64::from(wh) / 1000.0) },
                    "idempotencyKey": self.id
                })
            }
            Command::Stop { session } => on_session("stopSession", session),
            Command::FailSession { session } => on_session("failSession", session),
            Command::FailPort { port } => on_station("failPort", json!({ "portId": format!("port-{port}") })),
            Command::ResetPort { port } => on_station("resetPort", json!({ "portId": format!("port-{port}") })),
            Command::Transition { to } => on_station("transitionStation", json!({ "to": to })),
            Command::Update { power_kw: Some(kw) } => on_station("updateStation", json!({ "powerKw": kw })),
            Command::Update { power_kw: None } => on_station("updateStation", json!({ "name": "Renamed" })),
            Command::AddPort => {
                let port = json!({ "portNumber": PORTS + 1, "connectorType": "CCS2", "maxPowerKw": 1000 });
                on_station("addPort", port)
            }
            Command::RemovePort { port } => on_station("removePort", json!({ "portId": format!("port-{port}") })),
            Command::Delete => on_station("deleteStation", json!({})),
            Command::Tick => json!({ "tickAt": at, "stationIds": [self.id] }),
        };
        async move {
            // The door reads the clock when it is first polled, which happens here.
            set_now(at);
            let action = payload["action"].as_str().unwrap_or("tick").to_owned();
            match action.as_str() {
                "tick" => invoke(&Door::new(ChargingSimulator::new(charging, None, 100_000), CLOCK), payload).await,
                "startSession" | "stopSession" | "failSession" => {
                    let billing = RemoteFunction::new(&sdk_config(NOWHERE), "billing".to_owned());
                    let sessions = SessionService::new(charging, users, billing, no_inbox());
                    invoke(&Door::new(sessions, CLOCK), payload).await
                }
                _ => invoke(&Door::new(StationService::new(charging), CLOCK), payload).await,
            }
        }
    }

    /// Checks what must be true of all rows.
    async fn audit(&self) -> Result<(), TestCaseError> {
        let stations = self.dynamodb.items("ev-stations").await;
        let pk = format!("STATION#{}", self.id);
        let (mut station, mut ports) = (None, Vec::new());
        for row in stations.iter().filter(|row| text(row, "PK") == pk) {
            if text(row, "SK") == "METADATA" { station = Some(row) } else { ports.push(row) }
        }
        let all = self.dynamodb.items("ev-sessions").await;
        let rows: Vec<&Row> =
            all.iter().filter(|row| row.get("stationId").is_some_and(|_| text(row, "stationId") == self.id)).collect();
        let active: Vec<&Row> = rows.iter().copied().filter(|row| is_active(row)).collect();
        let occupied: BTreeMap<&str, &str> = ports
            .iter()
            .filter(|port| text(port, "portStatus") == "CHARGING")
            .map(|port| (text(port, "sessionId"), text(port, "portId")))
            .collect();
        let running: BTreeMap<&str, &str> =
            active.iter().map(|row| (text(row, "PK").strip_prefix("SESSION#").unwrap(), text(row, "portId"))).collect();
        same(&occupied, &running, "sessions run where ports charge")?;
        let Some(station) = station else {
            prop_assert!(ports.is_empty(), "ports without a station: {ports:?}");
            return Ok(());
        };
        same(
            &number(station, "chargingPorts"),
            &f64::from(u32::try_from(running.len()).unwrap()),
            "the count of ports",
        )?;
        let may_run = ["ACTIVE", "MAINTENANCE"].contains(&text(station, "status"));
        prop_assert!(active.is_empty() || may_run, "sessions run at a station that is {}", text(station, "status"));
        for row in &active {
            same(&number(row, "stationPowerKw"), &number(station, "powerKw"), "the power under a running session")?;
        }
        let mut ends = BTreeSet::new();
        for row in rows.iter().filter(|row| !is_active(row)) {
            let events: Vec<Value> = serde_json::from_str(text(row, "outbox")).unwrap();
            same(&events.len(), &1, "events of an end")?;
            same(&events[0]["status"], &json!(text(row, "status")), "the event's status")?;
            same(&events[0]["version"].as_f64(), &Some(number(row, "version")), "the event's version")?;
            // Versions tell subscribers which of two events about a port is the newer one.
            let version = events[0]["stationVersion"].as_u64().unwrap_or_default();
            let is_possible = version > 1 && version as f64 <= number(station, "version");
            prop_assert!(is_possible, "the version of the station is {version} in {}", events[0]);
            prop_assert!(ends.insert((text(row, "portId"), version)), "two ends at a port have one version: {version}");
        }
        Ok(())
    }

    /// Computes again what every session drew, only from the times at which sessions started and ended. Between two
    /// such times the power of the station is divided evenly.
    ///
    /// A tick runs first, because a stop that crashed may have metered the neighbours of a session whose end it did not
    /// write.
    async fn recount(&self) -> Result<(), TestCaseError> {
        let simulator = Door::new(ChargingSimulator::new(self.dynamodb.charging(), None, 100_000), CLOCK);
        let tick = json!({ "tickAt": self.now + TimeDelta::seconds(1), "stationIds": [self.id] });
        invoke(&simulator, tick).await.unwrap();
        let rows = self.dynamodb.items("ev-sessions").await;
        let rows: Vec<&Row> = rows.iter().filter(|row| text(row, "SK") == "METADATA").collect();
        let at = |row: &Row, attribute: &str| text(row, attribute).parse::<Instant>().unwrap();
        let left = |row: &Row| if is_active(row) { Instant::MAX_UTC } else { at(row, "endedAt") };
        let mut times: Vec<Instant> = Vec::new();
        for row in &rows {
            times.extend([at(row, "createdAt"), at(row, "meteredAt"), left(row)]);
        }
        times.sort_unstable();
        times.dedup();
        for row in &rows {
            let mut expected = 0.0;
            for pair in times.windows(2) {
                if pair[0] >= at(row, "createdAt") && pair[1] <= at(row, "meteredAt") {
                    let present =
                        rows.iter().filter(|other| at(other, "createdAt") <= pair[0] && pair[1] <= left(other)).count();
                    let hours = (pair[1] - pair[0]).num_milliseconds() as f64 / 3_600_000.0;
                    expected += number(row, "stationPowerKw") * hours * 1000.0 / present as f64;
                }
            }
            let register: f64 = text(row, "meter")
                .split(' ')
                .next_back()
                .map_or(0.0, |reading| reading.split(':').nth(1).map_or(0.0, |wh| wh.parse().unwrap()));
            prop_assert!(
                (register - expected).abs() <= TOLERANCE_WH,
                "{} was metered {register} Wh and drew {expected} Wh: {rows:#?}",
                text(row, "PK")
            );
        }
        Ok(())
    }
}

type Row = HashMap<String, AttributeValue>;

fn text<'a>(row: &'a Row, attribute: &str) -> &'a str {
    row.get(attribute).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
}

fn number(row: &Row, attribute: &str) -> f64 {
    row[attribute].as_n().unwrap().parse().unwrap()
}

fn is_active(row: &Row) -> bool {
    ["STARTED", "IN_PROGRESS"].contains(&text(row, "status"))
}

fn same<T: PartialEq + Debug>(found: &T, expected: &T, what: &str) -> Result<(), TestCaseError> {
    prop_assert_eq!(found, expected, "{}", what);
    Ok(())
}

/// A stop makes some of its calls, a tick reads the site, the stop makes its other calls, and the tick writes.
#[test]
fn a_tick_concurrent_with_a_stop_meters_the_neighbour_at_the_power_it_had() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let any_index = any::<Index>().new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let (most_calls_of_a_stop, reads_of_a_tick) = (8, 2);
    for calls_before in 0..most_calls_of_a_stop {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let dynamodb = Rc::new(EmbeddedDynamoDb::start().await);
            let mut site = Site::new(&dynamodb).await;
            let starts = [1, 2].map(|port| (Command::Start { port, energy_wh: None }, 0));
            let turns = vec![(any_index, 0)];
            site.play(&Round { pause_seconds: 1, commands: starts.to_vec(), turns }).await.unwrap();
            let stop_at = site.now + TimeDelta::seconds(30);
            let (turns, first) = (Turns::default(), site.sessions[..1].to_vec());
            let stop = site.work(Command::Stop { session: any_index }, stop_at, &first, turns.http(0));
            let tick = site.work(Command::Tick, stop_at + TimeDelta::seconds(30), &first, turns.http(1));
            let (stop, tick) = (turns.start(0, stop), turns.start(1, tick));
            let mut call = 0;
            let choose = |waiting: usize| {
                call += 1;
                let of_the_tick = (calls_before + 1..=calls_before + reads_of_a_tick).contains(&call);
                (if of_the_tick { waiting - 1 } else { 0 }, Turn::Go)
            };
            let (stopped, ticked, ()) = futures::join!(stop, tick, turns.run(choose));
            assert!(stopped.unwrap().is_ok() && ticked.unwrap().is_ok());
            site.now = stop_at + TimeDelta::seconds(30);
            site.recount().await.unwrap_or_else(|failure| panic!("after {calls_before} calls: {failure}"));
            site.audit().await.unwrap();
        });
    }
}

#[test]
fn concurrent_commands_leave_consistent_rows() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let mut runner = TestRunner::new(seeded(CASES));
    let rounds = prop::collection::vec(round(), 2..8);
    let outcome = runner.run(&rounds, |rounds| {
        local.block_on(&runtime, async {
            // Each case has its own database, because the audit reads all of it.
            let dynamodb = Rc::new(EmbeddedDynamoDb::start().await);
            let mut site = Site::new(&dynamodb).await;
            for round in rounds {
                site.play(&round).await?;
                site.audit().await?;
            }
            site.recount().await?;
            site.audit().await
        })
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
