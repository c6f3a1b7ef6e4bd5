//! `evoke demo`: simulates an hour of charging on the deployed stack.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use domain::id::{InvoiceId, SessionId};
use futures::future::try_join_all;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::stack::Stack;
use crate::story::{DRIVERS, Driver, FAILURE, LATE_PAYER, LATE_TOP_UP, SITES, STOP, Site};

/// The length of the demo in simulated minutes.
const MINUTES: u32 = 60;
/// If the output is not a terminal, the view is printed at this interval, in simulated minutes.
const PRINT_EVERY: u32 = 15;
/// The maximum time to wait for notifications and invoices.
const NOTIFICATIONS: Duration = Duration::from_secs(15);

struct Play<'a> {
    stack: &'a Stack,
    /// A suffix that distinguishes the stations and users of this run from those of earlier runs.
    run: String,
    /// The session ids by user.
    sessions: BTreeMap<&'static str, String>,
    view: View,
}

pub async fn run(stack: &Stack, step: u32) -> Result<()> {
    let began = Instant::now();
    let health = stack.invoke("health_check", &json!({ "source": "demo" })).await?;
    println!("\nEvoke {}: {}\n", text(&health["version"]), text(&health["status"]));
    let run = uuid::Uuid::new_v4().simple().to_string()[..6].to_owned();
    let mut play = Play { stack, run, sessions: BTreeMap::new(), view: View::new() };
    try_join_all(SITES.iter().map(|site| play.open(site))).await?;
    try_join_all(DRIVERS.iter().map(|driver| play.top_up(driver.user, driver.wallet, "before"))).await?;
    let started = try_join_all(DRIVERS.iter().map(|driver| play.plug_in(driver))).await?;
    let start = started.iter().filter_map(|session| session["startedAt"].as_str()).max();
    let start: DateTime<Utc> = start.context("no session started")?.parse()?;
    for (driver, session) in DRIVERS.iter().zip(&started) {
        play.sessions.insert(driver.user, text(&session["sessionId"]).to_owned());
        play.view.add(driver);
    }
    let mut happened = Vec::new();
    let mut minute = 0;
    while minute < MINUTES {
        minute = (minute + step).min(MINUTES);
        play.tick(start + chrono::Duration::minutes(minute.into())).await?;
        happened.extend(play.incidents(minute, step).await?);
        play.show(minute).await?;
    }
    let last = play.unplug_the_rest().await?;
    play.view.finish();
    println!("{}", summary(&last));
    for incident in happened {
        println!("  {incident}");
    }
    play.print_notifications(&last).await?;
    play.settle_up(&last).await?;
    neighbours(stack).await?;
    println!(
        "\n{MINUTES} simulated minutes in {:.0} s. The stack stays up: make invoke F=session_service, make down.",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Runs the OpenChargeMap mirror twice and searches it. The local stack has a simulated API in place of OpenChargeMap.
async fn neighbours(stack: &Stack) -> Result<()> {
    if !stack.outputs().contains_key("ocmUrl") {
        return Ok(());
    }
    let first = stack.invoke("ocm_sync", &json!({})).await?;
    println!(
        "\n  OpenChargeMap mirror: {} records read, {} written ({})",
        first["processed"],
        first["updated"],
        text(&first["outcome"])
    );
    let search = json!({ "action": "findPois", "latitude": 52.52, "longitude": 13.40, "minPowerKw": 100, "limit": 3 });
    let found = stack.invoke("poi_service", &search).await?;
    for poi in found["items"].as_array().into_iter().flatten() {
        println!("    {:6} km: {}, {} kW", poi["distanceKm"], text(&poi["title"]), poi["maxPowerKw"]);
    }
    let again = stack.invoke("ocm_sync", &json!({ "full": true })).await?;
    println!(
        "    all {} records read again: {} written ({})",
        again["processed"],
        again["updated"],
        text(&again["outcome"])
    );
    Ok(())
}

impl Play<'_> {
    fn station_id(&self, site: &str) -> String {
        format!("demo-{}-{site}", self.run)
    }

    async fn open(&self, site: &Site) -> Result<()> {
        let ports: Vec<Value> = (1..)
            .zip(site.ports)
            .map(|(number, (connector, kw))| json!({ "portNumber": number, "connectorType": connector, "maxPowerKw": kw }))
            .collect();
        let mut create = json!({
            "action": "createStation", "actor": admin(), "stationId": self.station_id(site.key), "name": site.name,
            "address": "Berlin", "latitude": site.latitude, "longitude": site.longitude, "timeZone": "Europe/Berlin",
            "powerKw": site.power_kw, "ports": ports
        });
        merge(&mut create, (site.settings)());
        self.stack.invoke("station_service", &create).await?;
        let commission = json!({ "action": "transitionStation", "actor": admin(), "stationId": self.station_id(site.key), "to": "ACTIVE" });
        self.stack.invoke("station_service", &commission).await?;
        Ok(())
    }

    /// Tops up a driver's wallet as the cash desk, and returns the wallet.
    async fn top_up(&self, user: &str, amount: &str, key: &str) -> Result<Option<Value>> {
        if amount.is_empty() {
            return Ok(None);
        }
        let top_up = json!({
            "action": "topUpWallet", "actor": { "userId": "desk-1", "role": "TECH_SUPPORT" },
            "userId": self.driver(user)["userId"], "amount": amount, "currency": "EUR", "idempotencyKey": key
        });
        self.stack.invoke("billing", &top_up).await.map(Some)
    }

    /// Returns the actor for a driver. Wallets persist, so each run has its own users.
    fn driver(&self, name: &str) -> Value {
        json!({ "userId": format!("{name}-{}", self.run), "role": "USER" })
    }

    async fn plug_in(&self, driver: &Driver) -> Result<Value> {
        let start = json!({
            "action": "startSession", "actor": self.driver(driver.user), "stationId": self.station_id(driver.site),
            "portId": format!("port-{}", driver.port),
            "vehicle": { "batteryCapacityKwh": driver.capacity_kwh, "maxPowerKw": driver.max_kw },
            "chargePercent": driver.percent, "targetPercent": driver.target, "limits": (driver.limits)(),
            "idempotencyKey": format!("demo-{}", self.run)
        });
        self.stack.invoke("session_service", &start).await
    }

    async fn tick(&self, at: DateTime<Utc>) -> Result<()> {
        let stations: Vec<String> = SITES.iter().map(|site| self.station_id(site.key)).collect();
        self.stack.invoke("charging_simulator", &json!({ "tickAt": at, "stationIds": stations })).await?;
        Ok(())
    }

    /// Carries out the incidents of the story that are due between the last tick and this one.
    async fn incidents(&self, minute: u32, step: u32) -> Result<Vec<String>> {
        let due = |at: u32| at <= minute && at + step > minute;
        let mut happened = Vec::new();
        if due(STOP.0) {
            let unplug =
                json!({ "action": "stopSession", "actor": self.driver(STOP.1), "sessionId": self.sessions[STOP.1] });
            self.stack.invoke("session_service", &unplug).await?;
            happened.push(format!("minute {minute:>2}: {} unplugged early", STOP.1));
        }
        if due(FAILURE.0)
            && let Some(driver) = DRIVERS.iter().find(|driver| driver.user == FAILURE.1)
        {
            let fail = json!({
                "action": "failPort", "actor": { "userId": "tech-1", "role": "TECH_SUPPORT" }, "reason": "ground fault",
                "stationId": self.station_id(driver.site), "portId": format!("port-{}", driver.port)
            });
            self.stack.invoke("station_service", &fail).await?;
            happened.push(format!("minute {minute:>2}: a port failed, and so did {}'s session", driver.user));
        }
        Ok(happened)
    }

    async fn read(&self) -> Result<Vec<Value>> {
        try_join_all(DRIVERS.iter().map(|driver| async move {
            let get =
                json!({ "action": "getSession", "actor": self.driver(driver.user), "sessionId": self.sessions[driver.user] });
            self.stack.invoke("session_service", &get).await
        }))
        .await
    }

    async fn show(&self, minute: u32) -> Result<()> {
        self.view.update(minute, &self.read().await?);
        Ok(())
    }

    async fn unplug_the_rest(&self) -> Result<Vec<Value>> {
        let running = self.read().await?;
        for session in running.iter().filter(|session| text(&session["status"]) == "IN_PROGRESS") {
            let actor = json!({ "userId": session["userId"], "role": "USER" });
            let stop = json!({ "action": "stopSession", "actor": actor, "sessionId": session["sessionId"] });
            self.stack.invoke("session_service", &stop).await?;
        }
        self.read().await
    }

    /// Prints the notifications about the events, after the stream, the relay, the bus and the queue have delivered
    /// them.
    async fn print_notifications(&self, sessions: &[Value]) -> Result<()> {
        let ids: Vec<&str> = sessions.iter().map(|session| text(&session["sessionId"])).collect();
        let deadline = Instant::now() + NOTIFICATIONS;
        loop {
            let list = json!({ "action": "listLogs", "actor": admin(), "service": "evoke.sessions", "limit": 100 });
            let told = self.stack.invoke("notification_service", &list).await?;
            let told: Vec<&str> =
                told["items"].as_array().into_iter().flatten().map(|item| text(&item["message"])).collect();
            let ours = ids.iter().filter(|id| told.iter().any(|message| message.contains(**id))).count();
            if ours == ids.len() || Instant::now() > deadline {
                println!(
                    "  {ours} of {} users were notified of the end of their sessions through the event bus",
                    ids.len()
                );
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let list = json!({ "action": "listLogs", "actor": admin(), "status": "OPEN" });
        let open = self.stack.invoke("notification_service", &list).await?;
        let open = open["items"].as_array().into_iter().flatten();
        for entry in open.filter(|entry| text(&entry["message"]).contains(&self.run)) {
            println!("  operators were notified: {}", text(&entry["message"]));
        }
        Ok(())
    }
}

/// The end of the story: the invoices, the wallets, and a driver who pays late.
impl Play<'_> {
    async fn settle_up(&self, sessions: &[Value]) -> Result<()> {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        table.set_header(["user", "cost", "invoice", "status", "lines, net", "wallet"]);
        for (driver, session) in DRIVERS.iter().zip(sessions) {
            let invoice = self.invoice(session).await?;
            let wallet = self.wallet(driver.user).await?;
            let lines = invoice["lines"].as_array().into_iter().flatten();
            let lines: Vec<String> =
                lines.map(|line| format!("{} {}", text(&line["dimension"]), text(&line["netAmount"]))).collect();
            table.add_row([
                driver.user.to_owned(),
                text(&session["cost"]).to_owned(),
                text(&invoice["totalInclVat"]).to_owned(),
                if invoice.is_null() { "none: FAILED" } else { text(&invoice["status"]) }.to_owned(),
                lines.join(", "),
                format!("{} {}", text(&wallet["balance"]), text(&wallet["currency"])),
            ]);
        }
        println!("\n{table}");
        let wallet = self.top_up(LATE_PAYER, LATE_TOP_UP, "after").await?.unwrap_or_default();
        println!(
            "  {LATE_PAYER} tops up {LATE_TOP_UP} EUR at the cash desk: the open invoice is paid, {} EUR are left",
            text(&wallet["balance"])
        );
        Ok(())
    }

    /// Returns the invoice of a session, after the event bus has delivered its end to billing; null for a FAILED
    /// session.
    async fn invoice(&self, session: &Value) -> Result<Value> {
        if text(&session["status"]) == "FAILED" {
            return Ok(Value::Null);
        }
        let id = InvoiceId::of(&SessionId::new(text(&session["sessionId"]))?);
        let get = json!({ "action": "getInvoice", "actor": admin(), "invoiceId": id });
        let deadline = Instant::now() + NOTIFICATIONS;
        loop {
            match self.stack.invoke("billing", &get).await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(100)).await,
                answer => return answer,
            }
        }
    }

    async fn wallet(&self, user: &str) -> Result<Value> {
        self.stack.invoke("billing", &json!({ "action": "getWallet", "actor": self.driver(user) })).await
    }
}

/// The live view: a bar for each vehicle, or text lines if the output is not a terminal.
struct View {
    bars: Option<MultiProgress>,
    clock: Option<ProgressBar>,
    rows: Vec<ProgressBar>,
}

impl View {
    fn new() -> Self {
        let bars = std::io::stdout().is_terminal().then(MultiProgress::new);
        let clock = bars.as_ref().map(|bars| bars.add(ProgressBar::new_spinner()));
        Self { bars, clock, rows: Vec::new() }
    }

    fn add(&mut self, driver: &Driver) {
        let Some(bars) = &self.bars else { return };
        let style = ProgressStyle::with_template("{prefix:22} {bar:30.green/dim} {msg}");
        let bar = bars
            .add(ProgressBar::new(100))
            .with_prefix(format!("{:5} {:9} {}", driver.user, driver.vehicle, driver.site));
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.rows.push(bar);
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a percentage
    fn update(&self, minute: u32, sessions: &[Value]) {
        let lines: Vec<String> = sessions.iter().map(line).collect();
        if let Some(clock) = &self.clock {
            clock.set_message(format!("minute {minute} of {MINUTES}"));
            for ((bar, session), line) in self.rows.iter().zip(sessions).zip(lines) {
                bar.set_position(session["chargePercent"].as_f64().unwrap_or_default() as u64);
                bar.set_message(line);
            }
            return;
        }
        if minute.is_multiple_of(PRINT_EVERY) {
            println!("minute {minute} of {MINUTES}");
            for (driver, line) in DRIVERS.iter().zip(lines) {
                println!("  {:5} {:9} {:5} {line}", driver.user, driver.vehicle, driver.site);
            }
        }
    }

    fn finish(&self) {
        if let Some(clock) = &self.clock {
            clock.finish_and_clear();
        }
        self.rows.iter().for_each(ProgressBar::abandon);
        println!();
    }
}

fn line(session: &Value) -> String {
    format!(
        "{:5.1} % {:6.1} kW {:7.3} kWh {:>6} {} {}",
        session["chargePercent"].as_f64().unwrap_or_default(),
        session["powerKw"].as_f64().unwrap_or_default(),
        session["energyKwh"].as_f64().unwrap_or_default(),
        text(&session["cost"]),
        text(&session["currency"]),
        text(&session["status"]),
    )
}

fn summary(sessions: &[Value]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["user", "vehicle", "site", "from", "to %", "kWh", "minutes", "cost", "status", "because"]);
    for (driver, session) in DRIVERS.iter().zip(sessions) {
        let number = |key: &str, digits: usize| format!("{:.digits$}", session[key].as_f64().unwrap_or_default());
        table.add_row([
            driver.user.to_owned(),
            driver.vehicle.to_owned(),
            driver.site.to_owned(),
            number("startPercent", 0),
            number("chargePercent", 1),
            number("energyKwh", 3),
            number("durationMinutes", 1),
            format!("{} {}", text(&session["cost"]), text(&session["currency"])),
            text(&session["status"]).to_owned(),
            text(&session["endReason"]).to_owned(),
        ]);
    }
    for column in 3..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn admin() -> Value {
    json!({ "userId": "demo-admin", "role": "ADMIN" })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}
