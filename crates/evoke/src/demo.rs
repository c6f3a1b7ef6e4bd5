//! `evoke demo`: simulates an hour of charging on the deployed stack.
//!
//! The drivers register, sign in and use the HTTP API with their own tokens, as the application of a driver does. Their
//! bars follow the subscriptions of the GraphQL API. The staff (stations, the cash desk, repairs) invokes functions
//! directly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use appsync::{Error, Event, Live, Subscription, Update};
use chrono::{DateTime, Utc};
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use domain::id::{InvoiceId, SessionId};
use futures::future::try_join_all;
use futures::stream::SelectAll;
use futures::{FutureExt, StreamExt};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::api::{Account, Api};
use crate::graphql::GraphQl;
use crate::live::LiveSession;
use crate::stack::Stack;
use crate::story::{DRIVERS, Driver, FAILURE, LATE_PAYER, LATE_TOP_UP, SITES, STOP, STRANGER, Site};
use crate::view::View;

/// The length of the demo in simulated minutes.
const MINUTES: u32 = 60;
/// The sessions are read at this interval, in simulated minutes, because updates of progress have no costs.
const READ_EVERY: u32 = 5;
/// If the output is not a terminal, the view is printed at this interval, in simulated minutes.
const PRINT_EVERY: u32 = 15;
/// The maximum time to wait until all subscriptions are in effect.
const SUBSCRIPTIONS: Duration = Duration::from_secs(30);
/// The maximum time to wait for notifications, invoices and the ends of sessions.
const NOTIFICATIONS: Duration = Duration::from_secs(15);

struct Play<'a> {
    /// The stack, of which the staff invokes functions.
    stack: &'a Stack,
    /// The HTTP API, which the drivers use.
    api: Api,
    /// A suffix that distinguishes the stations and users of this run from those of earlier runs.
    run: String,
    /// The password of all drivers of this run.
    password: String,
    /// The accounts of the drivers by their names in the story.
    accounts: BTreeMap<&'static str, Account>,
    /// The session ids by user.
    sessions: BTreeMap<&'static str, String>,
    view: View,
}

pub async fn run(stack: &Stack, step: u32) -> Result<()> {
    let began = Instant::now();
    let health = stack.invoke("health_check", &json!({ "source": "demo" })).await?;
    println!("\nEvoke {}: {}\n", text(&health["version"]), text(&health["status"]));
    let mut play = Play::new(stack)?;
    try_join_all(SITES.iter().map(|site| play.open(site))).await?;
    play.welcome().await?;
    try_join_all(DRIVERS.iter().map(|driver| play.top_up(driver.user, driver.wallet, "before"))).await?;
    let started = try_join_all(DRIVERS.iter().map(|driver| play.plug_in(driver))).await?;
    let start = started.iter().filter_map(|session| session["startedAt"].as_str()).max();
    let start: DateTime<Utc> = start.context("no session started")?.parse()?;
    for (driver, session) in DRIVERS.iter().zip(&started) {
        play.sessions.insert(driver.user, text(&session["sessionId"]).to_owned());
    }
    play.view.add(DRIVERS.iter().map(|driver| format!("{:5} {:9} {}", driver.user, driver.vehicle, driver.site)));
    let mut feed = play.follow().await?;
    let mut happened = vec![play.pry().await?];
    let mut minute = 0;
    while minute < MINUTES {
        minute = (minute + step).min(MINUTES);
        play.tick(start + chrono::Duration::minutes(minute.into())).await?;
        happened.extend(play.incidents(minute, step).await?);
        feed.take();
        if feed.is_outdated || minute.is_multiple_of(READ_EVERY) || minute == MINUTES {
            feed.read().await?;
        }
        play.show(minute, &feed);
    }
    let last = play.unplug_the_rest().await?;
    feed.wait_for_the_ends().await;
    play.view.finish();
    println!("{}", summary(&last));
    for incident in happened {
        println!("  {incident}");
    }
    feed.print();
    play.print_notifications(&last).await?;
    play.settle_up(&last).await?;
    neighbours(stack).await?;
    println!("\n  The drivers keep their accounts: sign in as {}, password {}", play.email(LATE_PAYER), play.password);
    println!(
        "  Watch a station: EVOKE_EMAIL={} EVOKE_PASSWORD={} target/evoke watch {}",
        play.email(LATE_PAYER),
        play.password,
        play.station_id(SITES[0].key)
    );
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

impl<'a> Play<'a> {
    fn new(stack: &'a Stack) -> Result<Self> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (run, rest) = id.split_at(6);
        Ok(Self {
            stack,
            api: Api::of(stack)?,
            run: run.to_owned(),
            // Cognito wants lower and upper case letters and digits.
            password: format!("Evoke-1-{rest}"),
            accounts: BTreeMap::new(),
            sessions: BTreeMap::new(),
            view: View::new(),
        })
    }
}

/// The accounts of the drivers, and what they have to themselves.
impl Play<'_> {
    /// Lets all drivers register with their vehicles and sign in.
    async fn welcome(&mut self) -> Result<()> {
        let confirmed = try_join_all(DRIVERS.iter().map(|driver| self.register(driver))).await?;
        let accounts = try_join_all(DRIVERS.iter().map(|driver| self.sign_in(driver.user))).await?;
        self.accounts = accounts.into_iter().collect();
        println!("{} drivers have registered, each with a vehicle, and signed in", self.accounts.len());
        if confirmed.contains(&true) {
            println!("  the operator confirmed their addresses: in this environment, a code is mailed to new users");
        }
        println!();
        Ok(())
    }

    async fn register(&self, driver: &Driver) -> Result<bool> {
        let vehicle = json!({
            "brand": driver.brand, "model": driver.vehicle, "batteryCapacity": driver.capacity_kwh,
            "maxPowerKw": driver.max_kw, "registrationNumber": format!("B {} {}", driver.user, self.run).to_uppercase()
        });
        let person = json!({
            "email": self.email(driver.user), "name": driver.user, "password": self.password, "vehicle": vehicle
        });
        self.api.register(&person).await
    }

    async fn sign_in(&self, user: &'static str) -> Result<(&'static str, Account)> {
        Ok((user, self.api.log_in(&self.email(user), &self.password).await?))
    }

    /// Returns the e-mail address of a driver. Accounts persist, so each run has its own drivers.
    fn email(&self, user: &str) -> String {
        format!("{user}-{}@example.com", self.run)
    }

    fn account(&self, user: &str) -> Result<&Account> {
        self.accounts.get(user).with_context(|| format!("{user} has not signed in"))
    }

    /// Returns the id of the vehicle with which a driver registered.
    async fn vehicle(&self, account: &Account) -> Result<Value> {
        let saved = self.api.get(account, &format!("/customers/{}/vehicles", account.user_id)).await?;
        Ok(saved["items"][0]["vehicleId"].clone())
    }

    /// Lets a driver ask for the session of another driver, which must be refused.
    async fn pry(&self) -> Result<String> {
        let (who, whose) = STRANGER;
        let path = self.session_path(whose);
        let (status, refusal) = self.api.send(Method::GET, &path, Some(self.account(who)?), None).await?;
        anyhow::ensure!(status == StatusCode::FORBIDDEN, "{who} may read the session of {whose}: {status}");
        Ok(format!("minute  0: {who} asked for {whose}'s session and was refused: {}", text(&refusal["code"])))
    }
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
            "userId": self.account(user)?.user_id, "amount": amount, "currency": "EUR", "idempotencyKey": key
        });
        self.stack.invoke("billing", &top_up).await.map(Some)
    }

    async fn plug_in(&self, driver: &Driver) -> Result<Value> {
        let account = self.account(driver.user)?;
        let vehicle = self.vehicle(account).await?;
        let start = json!({
            "stationId": self.station_id(driver.site), "portId": format!("port-{}", driver.port), "vehicleId": vehicle,
            "chargePercent": driver.percent, "targetPercent": driver.target, "limits": (driver.limits)(),
            "idempotencyKey": format!("demo-{}", self.run)
        });
        self.api.call(Method::POST, "/sessions", Some(account), Some(&start)).await
    }

    fn session_path(&self, user: &str) -> String {
        format!("/sessions/{}", self.sessions[user])
    }

    async fn unplug(&self, user: &str) -> Result<()> {
        let path = format!("{}/stop", self.session_path(user));
        self.api.call(Method::PATCH, &path, Some(self.account(user)?), None).await?;
        Ok(())
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
            self.unplug(STOP.1).await?;
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
            self.api.get(self.account(driver.user)?, &self.session_path(driver.user)).await
        }))
        .await
    }

    /// Lets the drivers subscribe to their sessions, each with a token of their own.
    async fn follow(&self) -> Result<Feed> {
        let (mut access, mut events) = (Vec::new(), SelectAll::new());
        for (index, driver) in DRIVERS.iter().enumerate() {
            let graphql = GraphQl::new(self.stack, Arc::new(self.account(driver.user)?.authorization()))?;
            let mut subscriptions = vec![Subscription::session(&self.sessions[driver.user])];
            // The progress of all sessions at a station is one update, so one driver of each station gets it.
            if DRIVERS.iter().position(|other| other.site == driver.site) == Some(index) {
                subscriptions.push(Subscription::progress_at(&self.station_id(driver.site)));
            }
            events.push(graphql.subscribe(subscriptions));
            access.push(graphql);
        }
        let started = timeout(SUBSCRIPTIONS, all_started(&mut events, DRIVERS.len())).await;
        started.context("the subscriptions are not in effect")??;
        // What was read before would lack the changes between its reading and the start of the subscriptions.
        let sessions = DRIVERS.iter().zip(&access).map(|(driver, access)| access.session(&self.sessions[driver.user]));
        let sessions = try_join_all(sessions).await?.into_iter().map(LiveSession::new).collect();
        Ok(Feed { access, events, sessions, ended: BTreeSet::new(), progress: 0, is_outdated: false })
    }

    fn show(&self, minute: u32, feed: &Feed) {
        self.view.headline(format!("minute {minute} of {MINUTES}"));
        for (row, session) in feed.sessions.iter().enumerate() {
            self.view.set(row, session.known().charge_percent, session.line());
        }
        if !self.view.is_drawn() && minute.is_multiple_of(PRINT_EVERY) {
            println!("minute {minute} of {MINUTES}");
            for (driver, session) in DRIVERS.iter().zip(&feed.sessions) {
                println!("  {:5} {:9} {:5} {}", driver.user, driver.vehicle, driver.site, session.line());
            }
        }
    }

    async fn unplug_the_rest(&self) -> Result<Vec<Value>> {
        let sessions = self.read().await?;
        for (driver, session) in DRIVERS.iter().zip(&sessions) {
            if text(&session["status"]) == "IN_PROGRESS" {
                self.unplug(driver.user).await?;
            }
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
        for message in open.filter_map(|entry| self.in_the_story(text(&entry["message"]))) {
            println!("  operators were notified: {message}");
        }
        Ok(())
    }

    /// Returns a message with the names of the drivers in place of their ids; `None` if it is about another run.
    fn in_the_story(&self, message: &str) -> Option<String> {
        let mut named = message.to_owned();
        for (name, account) in &self.accounts {
            named = named.replace(&account.user_id, name);
        }
        (named != message || message.contains(&self.run)).then_some(named)
    }
}

/// The end of the story: the invoices, the wallets, and a driver who pays late.
impl Play<'_> {
    async fn settle_up(&self, sessions: &[Value]) -> Result<()> {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        table.set_header(["user", "cost", "invoice", "status", "lines, net", "wallet"]);
        for (driver, session) in DRIVERS.iter().zip(sessions) {
            let account = self.account(driver.user)?;
            let invoice = self.invoice(account, session).await?;
            let wallet = self.api.get(account, "/wallet").await?;
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
    async fn invoice(&self, account: &Account, session: &Value) -> Result<Value> {
        if text(&session["status"]) == "FAILED" {
            return Ok(Value::Null);
        }
        let id = InvoiceId::of(&SessionId::new(text(&session["sessionId"]))?);
        let deadline = Instant::now() + NOTIFICATIONS;
        loop {
            match self.api.get(account, &format!("/invoices/{id}")).await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(100)).await,
                answer => return answer,
            }
        }
    }
}

/// What the drivers know of their sessions, in the order of [`DRIVERS`].
struct Feed {
    /// The access of each driver to the GraphQL API.
    access: Vec<GraphQl>,
    events: SelectAll<Live<Update>>,
    sessions: Vec<LiveSession>,
    /// The sessions whose end has arrived as an update.
    ended: BTreeSet<String>,
    /// The number of updates about the progress at a station.
    progress: u32,
    /// Whether updates may have been missed.
    is_outdated: bool,
}

impl Feed {
    /// Takes the updates that have arrived.
    fn take(&mut self) {
        while let Some(Some(event)) = self.events.next().now_or_never() {
            self.apply(&event);
        }
    }

    fn apply(&mut self, event: &Event<Update>) {
        match event {
            Event::Update(Update::SessionChanged(update)) => {
                for session in &mut self.sessions {
                    session.change(update);
                }
                if !update.status.is_active() {
                    self.ended.insert(update.session_id.clone());
                }
            }
            Event::Update(Update::StationProgress(progress)) => {
                for session in &mut self.sessions {
                    session.progress(progress);
                }
                self.progress += 1;
            }
            Event::Update(_) | Event::Interrupted(_) => {}
            Event::Started | Event::Unreadable(_) | Event::Refused(_) => self.is_outdated = true,
        }
    }

    /// Reads the sessions, each with the token of its driver.
    async fn read(&mut self) -> Result<()> {
        let reads = self.access.iter().zip(&self.sessions);
        let reads = reads.map(|(access, session)| access.session(&session.known().session_id));
        let read = try_join_all(reads).await?;
        for (live, session) in self.sessions.iter_mut().zip(read) {
            live.read(session);
        }
        self.is_outdated = false;
        Ok(())
    }

    /// Waits until the end of each session has arrived as an update.
    async fn wait_for_the_ends(&mut self) {
        let ends = async {
            while self.ended.len() < self.sessions.len() {
                let Some(event) = self.events.next().await else { break };
                self.apply(&event);
            }
        };
        // If an end does not arrive, the summary says so.
        let _ = timeout(NOTIFICATIONS, ends).await;
    }

    fn print(&self) {
        let (ended, all, progress) = (self.ended.len(), self.sessions.len(), self.progress);
        println!("  {ended} of {all} drivers saw the end of their session live, after {progress} updates of progress");
        if progress == 0 {
            println!("  there was no progress because the parameter LiveProgress is off");
        }
    }
}

/// Waits until this number of streams have started all their subscriptions.
async fn all_started(events: &mut SelectAll<Live<Update>>, count: usize) -> Result<()> {
    let mut started = 0;
    while started < count {
        match events.next().await.context("a subscription has ended")? {
            Event::Started => started += 1,
            Event::Refused(errors) => return Err(Error::Refused(errors).into()),
            Event::Update(_) | Event::Unreadable(_) | Event::Interrupted(_) => {}
        }
    }
    Ok(())
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
