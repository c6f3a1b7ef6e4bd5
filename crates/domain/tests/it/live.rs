//! Which updates follow from which events, and the state of subscribers who get updates in any order and more than
//! once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{Duration, TimeDelta};
use domain::actor::Role;
use domain::billing::{EntryKind, InvoiceStatus, SettledInvoices, Wallet, WalletToppedUp};
use domain::charging::session::SessionStatus;
use domain::charging::site::tick;
use domain::charging::station::{PortStatus, StationStatus, StationUpdate as Changed};
use domain::event::{Envelope, Event, seal};
use domain::id::{PortId, SessionId, StationId, SwapStationId, UserId};
use domain::live::{
    Announcement, Batch, EVENT_TYPES, SessionProgress, StationProgress, StationUpdate, SwapStationUpdate, Update,
    WalletUpdate, updates,
};
use domain::telemetry::{Announced, Reading, SwapStationStatus};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::json;

use crate::common::{Car, car, model, request, start};
use crate::contracts::examples;
use crate::random::seeded;
use crate::site::{Tables, actor, id, port_id, steady};

fn envelope(event: impl Into<Event>) -> Envelope {
    seal("ITEM#1/METADATA", 1, start(), "correlation-1", [event.into()]).remove(0)
}

#[test]
fn updates_follow_from_the_events_that_the_rule_names_and_from_no_others() {
    for example in examples() {
        let event_type = example.event.event_type();
        assert_eq!(!updates(&example).is_empty(), EVENT_TYPES.contains(&event_type), "{event_type}");
    }
    let known: BTreeSet<&str> = examples().iter().map(|example| example.event.event_type()).collect();
    assert!(EVENT_TYPES.iter().all(|event_type| known.contains(event_type)));
}

/// Returns the updates of the example of an event, as subscribers get them.
fn told(event_type: &str) -> Vec<serde_json::Value> {
    let example = examples().into_iter().find(|example| example.event.event_type() == event_type).unwrap();
    updates(&example).into_iter().map(|update| serde_json::to_value(update).unwrap()).collect()
}

#[test]
fn an_update_has_the_values_of_its_event() {
    let (session, user) = ("01963c1e-0000-7000-8000-000000000001", "5f0c5e1e-6f0b-4a57-9b5e-000000000001");
    let at = "2026-02-22T10:51:00Z";
    let started = json!([
        {
            "sessionId": session, "userId": user, "stationId": "station-01", "portId": "port-1", "status": "STARTED",
            "percent": 20.0, "energyKwh": 0.0, "startedAt": "2026-02-22T10:15:00Z", "occurredAt": at, "version": 1
        },
        {
            "stationId": "station-01", "portId": "port-1", "portStatus": "CHARGING", "deleted": false,
            "occurredAt": at, "version": 12
        }
    ]);
    assert_eq!(json!(told("SESSION_STARTED")), started);
    let ended = json!([
        {
            "sessionId": session, "userId": user, "stationId": "station-01", "portId": "port-1", "status": "COMPLETED",
            "reason": "TARGET_REACHED", "energyKwh": 30.0, "cost": "14.70", "currency": "EUR",
            "startedAt": "2026-02-22T10:15:00Z", "endedAt": at, "occurredAt": at, "version": 38
        },
        {
            "stationId": "station-01", "portId": "port-1", "portStatus": "FREE", "deleted": false, "occurredAt": at,
            "version": 13
        }
    ]);
    assert_eq!(json!(told("SESSION_ENDED")), ended);
    let counts = json!({ "ports": 4, "freePorts": 2, "chargingPorts": 1 });
    let of_station = |version: u64, more: serde_json::Value| {
        let mut update = json!({ "stationId": "station-01", "deleted": false, "occurredAt": at, "version": version });
        update.as_object_mut().unwrap().extend(counts.as_object().unwrap().clone());
        update.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([update])
    };
    let created = json!({ "status": "NEW", "name": "Market square", "freePorts": 4, "chargingPorts": 0 });
    let deleted = json!({ "deleted": true, "ports": 0, "freePorts": 0, "chargingPorts": 0 });
    for (event_type, expected) in [
        ("STATION_CREATED", of_station(1, created)),
        ("STATION_UPDATED", of_station(14, json!({ "status": "ACTIVE", "name": "Market square" }))),
        ("STATION_DELETED", of_station(14, deleted)),
        ("STATION_STATUS_CHANGED", of_station(14, json!({ "status": "ACTIVE" }))),
        ("PORT_ADDED", of_station(15, json!({ "portId": "port-1", "portStatus": "FREE" }))),
        ("PORT_REMOVED", of_station(15, json!({ "portId": "port-1" }))),
        ("PORT_FAILED", of_station(15, json!({ "portId": "port-1", "portStatus": "ERROR" }))),
        ("PORT_RESET", of_station(15, json!({ "portId": "port-1", "portStatus": "FREE" }))),
    ] {
        assert_eq!(json!(told(event_type)), expected, "{event_type}");
    }
    let of_wallet = |reason: &str, balance: &str, version: u64| {
        let mut updates = told(match reason {
            "TOP_UP" => "WALLET_TOPPED_UP",
            "INVOICE" => "PAYMENT_COMPLETED",
            _ => "CREDIT_NOTE_ISSUED",
        });
        let reference = updates[0].as_object_mut().unwrap().remove("reference").unwrap();
        assert!(!reference.as_str().unwrap().is_empty(), "{reason}");
        let expected = json!({
            "userId": user, "balance": balance, "currency": "EUR", "reason": reason, "occurredAt": at,
            "version": version
        });
        assert_eq!(json!(updates), json!([expected]), "{reason}");
    };
    of_wallet("TOP_UP", "50.00", 3);
    of_wallet("INVOICE", "35.30", 4);
    of_wallet("CREDIT_NOTE", "50.00", 5);
    let alert = json!([{
        "logId": domain::id::derive(&["notification", "1"]), "kind": "PORT_FAILED", "level": "ERROR",
        "service": "evoke.stations", "message": "port port-1 of station station-01 failed: ground fault",
        "occurredAt": at
    }]);
    assert_eq!(json!(told("ERROR_LOGGED")), alert);
}

/// A failed session costs nothing. If a session cannot be billed, its cost is unknown.
#[test]
fn the_cost_of_a_session_is_the_total_of_its_invoice() {
    let example = examples().into_iter().find(|example| example.event.event_type() == "SESSION_ENDED").unwrap();
    let Event::SessionEnded(ended) = example.event else { panic!("another event") };
    let cost = |change: fn(&mut domain::charging::session::SessionEnded)| {
        let mut ended = ended.clone();
        change(&mut ended);
        let updates = updates(&envelope(*ended));
        let Update::Session(update) = &updates[0] else { panic!("{updates:?}") };
        update.cost.map(|cost| cost.to_string())
    };
    assert_eq!(cost(|_| {}).as_deref(), Some("14.70"));
    assert_eq!(cost(|ended| ended.status = SessionStatus::Failed).as_deref(), Some("0.00"));
    assert_eq!(cost(|ended| ended.time_zone = "Mars/Olympus".to_owned()), None);
}

/// A value with the version of the update that had it.
type Known<T> = Option<(u64, T)>;

/// The state of a subscriber of a station. The subscriber takes a field from an update, unless a newer update had it.
#[derive(Debug, Default, PartialEq)]
struct Subscriber {
    status: Known<StationStatus>,
    name: Known<String>,
    ports: BTreeMap<PortId, (u64, Option<PortStatus>)>,
    sessions: BTreeMap<SessionId, (u64, SessionStatus)>,
}

fn keep<T>(known: &mut Known<T>, version: u64, told: Option<T>) {
    let Some(told) = told else { return };
    if known.as_ref().is_none_or(|(newest, _)| *newest <= version) {
        *known = Some((version, told));
    }
}

impl Subscriber {
    fn take(&mut self, update: &Update) {
        match update {
            Update::Session(update) => {
                let known = self.sessions.entry(update.session_id.clone()).or_insert((0, update.status));
                if known.0 <= update.version {
                    *known = (update.version, update.status);
                }
            }
            Update::Station(StationUpdate { version, status, name, port_id, port_status, .. }) => {
                keep(&mut self.status, *version, *status);
                keep(&mut self.name, *version, name.clone());
                let Some(port) = port_id else { return };
                let known = self.ports.entry(port.clone()).or_insert((0, None));
                if known.0 <= *version {
                    *known = (*version, *port_status);
                }
            }
            other => panic!("no update of a station: {other:?}"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start(u32),
    /// Two starts at different ports that read the station before either of them is written.
    StartTwo(u32, u32),
    Stop(u32),
    FailSession(u32),
    FailPort(u32),
    Transition(StationStatus),
    Rename,
    TickAlone,
    AddPort(u32),
    RemovePort(u32),
    ResetPort(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let port = || 1..=4_u32;
    let status = prop::sample::select(vec![
        StationStatus::Active,
        StationStatus::Active,
        StationStatus::Maintenance,
        StationStatus::OutOfOrder,
    ]);
    prop_oneof![
        4 => port().prop_map(Step::Start),
        2 => (port(), port()).prop_map(|(one, other)| Step::StartTwo(one, other)),
        2 => port().prop_map(Step::Stop),
        1 => port().prop_map(Step::FailSession),
        1 => port().prop_map(Step::FailPort),
        2 => status.prop_map(Step::Transition),
        1 => Just(Step::Rename),
        4 => Just(Step::TickAlone),
        1 => port().prop_map(Step::AddPort),
        1 => port().prop_map(Step::RemovePort),
        2 => port().prop_map(Step::ResetPort),
    ]
}

/// A station whose tables change, with the events of its changes.
struct History {
    tables: Tables,
    cars: Vec<Car>,
    started: u32,
    names: u32,
    /// The events of each write.
    events: Vec<Vec<Event>>,
}

impl History {
    fn at(&mut self, at: domain::Instant, step: Step) {
        let admin = actor(Role::Admin);
        let running = |tables: &Tables, number: u32| {
            let port = tables.ports.iter().find(|port| port.id == port_id(number));
            port.and_then(|port| port.session_id.clone()).unwrap_or_else(|| id(0))
        };
        let mut site = self.tables.load();
        let changes = match step {
            Step::Start(port) => {
                let request = self.request();
                site.start(request, &port_id(port), Role::User, at)
            }
            Step::StartTwo(one, other) => {
                let mut second = self.tables.load();
                let is_free = |port: u32| {
                    let known = self.tables.ports.iter().find(|known| known.id == port_id(port));
                    known.is_some_and(|known| known.status == PortStatus::Free)
                };
                if one == other || !is_free(one) || !is_free(other) {
                    return;
                }
                let requests = [self.request(), self.request()];
                let [first_request, second_request] = requests;
                let second = second.start(second_request, &port_id(other), Role::User, at);
                let first = site.start(first_request, &port_id(one), Role::User, at);
                let (Ok(first), Ok(second)) = (first, second) else { return };
                let written = self.tables.commit(second);
                self.events.push(written);
                Ok(first)
            }
            Step::Stop(port) => site.stop(&running(&self.tables, port), &admin, at),
            Step::FailSession(port) => site.fail_session(&running(&self.tables, port), "test", Role::Admin, at),
            Step::FailPort(port) => site.fail_port(&port_id(port), "test", Role::Admin, at),
            Step::Transition(to) => site.transition(to, &admin, at),
            Step::Rename => {
                self.names += 1;
                let name = Some(format!("Name {}", self.names));
                site.update(Changed { name, ..Changed::default() }, &admin, at)
            }
            Step::TickAlone => {
                let running = self.tables.running();
                // Each session stops by its energy within minutes, so many ticks end one.
                Ok(tick(&self.tables.station.id, running, HashMap::new(), at))
            }
            Step::AddPort(port) => {
                if self.tables.ports.iter().all(|known| known.id != port_id(port)) {
                    let event = self.tables.add_port(port);
                    self.events.push(vec![event]);
                }
                return;
            }
            Step::RemovePort(port) => {
                let event = self.tables.remove_port(&port_id(port));
                self.events.extend(event.map(|event| vec![event]));
                return;
            }
            Step::ResetPort(port) => {
                let event = self.tables.reset_port(&port_id(port));
                self.events.extend(event.map(|event| vec![event]));
                return;
            }
        };
        if let Ok(changes) = changes {
            let written = self.tables.commit(changes);
            self.events.push(written);
        }
    }

    fn request(&mut self) -> domain::charging::session::StartSession {
        self.started += 1;
        let car = &self.cars[usize::try_from(self.started).unwrap() % self.cars.len()];
        request(self.started, car)
    }
}

proptest! {
    #![proptest_config(seeded(500))]

    /// Updates come in any order, and each at least once. A subscriber who compares versions ends with the values of
    /// the tables.
    #[test]
    fn subscribers_of_a_station_end_with_the_values_of_the_tables(
        power_kw in 20.0..300.0_f64, model in model(), cars in prop::collection::vec(car(), 6),
        steps in prop::collection::vec((step(), 1..600_i64), 1..40),
        order in prop::collection::vec(any::<u32>(), 200),
    ) {
        let mut cars = cars;
        cars.push(steady(Some(1.0)));
        let tables = Tables::new(power_kw, model, &[50.0, 50.0, 50.0]);
        let mut history = History { tables, cars, started: 0, names: 0, events: Vec::new() };
        let mut at = start();
        for (step, seconds) in steps {
            at += Duration::seconds(seconds);
            history.at(at, step);
        }

        // The versions of what is told of a port, or of the station itself, rise from write to write.
        let mut newest: BTreeMap<Option<PortId>, u64> = BTreeMap::new();
        for written in &history.events {
            let mut of_write: BTreeMap<Option<PortId>, u64> = BTreeMap::new();
            for event in written {
                for update in updates(&envelope(event.clone())) {
                    let Update::Station(update) = update else { continue };
                    let known = of_write.entry(update.port_id.clone()).or_insert(update.version);
                    prop_assert_eq!(*known, update.version, "the events of one write: {:?}", written);
                }
            }
            for (what, version) in of_write {
                let before = newest.insert(what.clone(), version);
                prop_assert!(before.is_none_or(|before| before < version), "{:?}: {:?} then {}", what, before, version);
            }
        }

        let all: Vec<Update> =
            history.events.iter().flatten().flat_map(|event| updates(&envelope(event.clone()))).collect();
        // Each update comes once or twice.
        let mut delivered: Vec<(u32, &Update)> = Vec::new();
        for (number, update) in all.iter().chain(all.iter().step_by(2)).enumerate() {
            delivered.push((order[number % order.len()], update));
        }
        delivered.sort_by_key(|(turn, _)| *turn);
        let mut subscriber = Subscriber::default();
        for (_, update) in delivered {
            subscriber.take(update);
        }
        let station = &history.tables.station;
        if let Some((_, status)) = subscriber.status {
            prop_assert_eq!(status, station.status);
        }
        if let Some((_, name)) = &subscriber.name {
            prop_assert_eq!(name, &station.name);
        }
        for (id, (_, status)) in &subscriber.ports {
            let port = history.tables.ports.iter().find(|port| port.id == *id);
            prop_assert_eq!(*status, port.map(|port| port.status), "{} after {:#?}", id, history.events);
        }
        for (id, (_, status)) in &subscriber.sessions {
            // A tick changes STARTED to IN_PROGRESS without an event.
            let stored = history.tables.sessions[id].status;
            prop_assert!(*status == stored || (*status == SessionStatus::Started && stored.is_active()), "{}", id);
        }
    }

    /// The versions of a wallet rise with each change of its balance, whatever else happens to it.
    #[test]
    fn subscribers_of_a_wallet_end_with_its_balance(
        steps in prop::collection::vec((0..4_u8, 1..3_000_u32), 1..30),
        order in prop::collection::vec(any::<u32>(), 64),
    ) {
        let (euro, now) = ("EUR".parse().unwrap(), start());
        let mut wallet = Wallet::open(UserId::new("u-1").unwrap(), euro, now);
        let mut waiting = Vec::new();
        let mut events: Vec<Event> = Vec::new();
        for (number, (step, cents)) in (0_u32..).zip(steps) {
            let amount = Decimal::new(cents.into(), 2);
            match step {
                0 => {
                    let entry = wallet.top_up(amount, euro, number.to_string(), now).unwrap();
                    events.push(WalletToppedUp::new(&wallet, &entry).into());
                }
                1 => wallet.touch(),
                2 => {
                    let ended = invoiced(number, cents);
                    let issued = ended.issue(wallet.clone(), now);
                    events.push(issued.payment.into());
                    wallet = issued.wallet.unwrap_or(wallet);
                    waiting.extend((issued.invoice.status == InvoiceStatus::Open).then_some(issued.invoice));
                }
                _ => {
                    // One transaction pays several invoices. The version of the item rises once.
                    let settled = SettledInvoices::settle(waiting.clone(), &mut wallet, now);
                    for (invoice, entry) in &settled.paid {
                        events.push(invoice.payment_event(Ok(Some(entry))).into());
                        waiting.retain(|open: &domain::billing::Invoice| open.id != invoice.id);
                    }
                }
            }
        }
        let told: Vec<WalletUpdate> = events
            .into_iter()
            .flat_map(|event| updates(&envelope(event)))
            .map(|update| match update {
                Update::Wallet(update) => update,
                other => panic!("{other:?}"),
            })
            .collect();
        prop_assert!(told.windows(2).all(|pair| pair[0].version < pair[1].version), "{:?}", told);
        prop_assert_eq!(told.len() as u64, wallet.entries, "each change of the balance is told");
        let mut shuffled: Vec<(u32, &WalletUpdate)> = Vec::new();
        for (number, update) in told.iter().chain(&told).enumerate() {
            shuffled.push((order[number % order.len()], update));
        }
        shuffled.sort_by_key(|(turn, _)| *turn);
        let mut known: Known<Decimal> = None;
        for (_, update) in shuffled {
            keep(&mut known, update.version, Some(update.balance));
        }
        prop_assert_eq!(known.map_or(Decimal::ZERO, |(_, balance)| balance), wallet.balance);
        let kinds = [EntryKind::TopUp, EntryKind::Invoice];
        prop_assert!(told.iter().all(|update| kinds.contains(&update.reason)));
    }

    /// Whatever the sizes are, each batch fits into a payload, and nothing is lost, doubled or out of order.
    #[test]
    fn batches_of_announcements_fit_into_an_invocation(stations in prop::collection::vec(0..100_usize, 0..80)) {
        let mut batch = Batch::default();
        let mut batches = Vec::new();
        for (number, sessions) in stations.iter().enumerate() {
            batches.extend(batch.add(progress(number, *sessions)));
        }
        let rest = batch.take();
        batches.extend((!rest.is_empty()).then_some(rest));
        prop_assert!(batch.take().is_empty());
        for batch in &batches {
            prop_assert!(!batch.is_empty());
            let payload = json!({ "action": "publish", "updates": batch }).to_string();
            prop_assert!(payload.len() <= Batch::MOST_BYTES + 1000, "{} bytes", payload.len());
        }
        let expected: Vec<Announcement> =
            stations.iter().enumerate().map(|(number, sessions)| progress(number, *sessions)).collect();
        prop_assert_eq!(batches.concat(), expected);
    }
}

/// Returns the invoice of a session that cost this amount.
fn invoiced(number: u32, cents: u32) -> domain::billing::Invoice {
    let example = examples().into_iter().find(|example| example.event.event_type() == "SESSION_ENDED").unwrap();
    let Event::SessionEnded(mut ended) = example.event else { panic!("another event") };
    ended.session_id = SessionId::new(format!("session-{number}")).unwrap();
    ended.tariff = serde_json::from_value(json!({
        "currency": "EUR",
        "elements": [{ "price_components": [{ "type": "FLAT", "price": Decimal::new(cents.into(), 2), "step_size": 1 }] }]
    }))
    .unwrap();
    domain::billing::Invoice::for_session(&ended, start()).unwrap().unwrap()
}

/// Returns the progress of a station with this number of sessions, whose ids are as long as ids may be.
fn progress(number: usize, sessions: usize) -> Announcement {
    let long = |text: String| format!("{text}{}", "x".repeat(48 - text.len()));
    let sessions = (0..sessions).map(|session| SessionProgress {
        port_id: PortId::new(long(format!("port-{session}-"))).unwrap(),
        session_id: SessionId::new(long(format!("session-{number}-{session}-"))).unwrap(),
        percent: 23.45,
        power_kw: 123.456,
        energy_kwh: 1234.567,
    });
    Announcement::StationProgress(StationProgress {
        station_id: StationId::new(long(format!("station-{number}-"))).unwrap(),
        at: start(),
        sessions: sessions.collect(),
    })
}

#[test]
fn an_announcement_keeps_its_form() {
    let update = SwapStationUpdate {
        station_id: SwapStationId::new("swap-1").unwrap(),
        status: SwapStationStatus::Operational,
        battery_available: 12,
        battery_charging: 4,
        occurred_at: start(),
        received_at: start(),
    };
    let expected = json!([
        { "kind": "swapStation", "stationId": "swap-1", "status": "operational", "batteryAvailable": 12,
          "batteryCharging": 4, "occurredAt": "2026-03-03T10:00:00Z", "receivedAt": "2026-03-03T10:00:00Z" },
        { "kind": "stationProgress", "stationId": "s-1", "at": "2026-03-03T10:00:00Z",
          "sessions": [{ "portId": "p", "sessionId": "x", "percent": 1.5, "powerKw": 50.0, "energyKwh": 0.001 }] }
    ]);
    let session = SessionProgress {
        port_id: PortId::new("p").unwrap(),
        session_id: SessionId::new("x").unwrap(),
        percent: 1.5,
        power_kw: 50.0,
        energy_kwh: 0.001,
    };
    let station = StationProgress { station_id: StationId::new("s-1").unwrap(), at: start(), sessions: vec![session] };
    let announcements = [Announcement::SwapStation(update), Announcement::StationProgress(station)];
    assert_eq!(json!(announcements), expected);
    assert_eq!(serde_json::from_value::<Vec<Announcement>>(expected).unwrap(), announcements);
}

#[test]
fn a_battery_swap_station_is_announced_when_it_changed_and_once_a_minute_at_most() {
    let reading = |available: u32, status: SwapStationStatus| Reading {
        station_id: SwapStationId::new("swap-1").unwrap(),
        battery_available: available,
        battery_charging: 4,
        temperature: 20.0,
        humidity: 40.0,
        status,
        timestamp: start(),
    };
    let (well, degraded) = (SwapStationStatus::Operational, SwapStationStatus::Degraded);
    let after = |seconds: i64| start() + TimeDelta::seconds(seconds);
    let last = Announced::of(&reading(12, well), after(0));
    for (reading, seconds, is_due) in [
        (reading(12, well), 3600, false),
        (reading(11, well), 59, false),
        (reading(11, well), 60, true),
        (reading(12, degraded), 60, true),
        (Reading { battery_charging: 5, ..reading(12, well) }, 61, true),
        (Reading { temperature: 50.0, humidity: 90.0, ..reading(12, well) }, 3600, false),
        (reading(11, well), -3600, false),
    ] {
        let expected = is_due.then(|| Announced::of(&reading, after(seconds)));
        assert_eq!(Announced::due(Some(&last), &reading, after(seconds)), expected, "{reading:?} after {seconds} s");
    }
    let first = Announced::due(None, &reading(12, well), after(0));
    assert_eq!(first, Some(last), "nobody was told anything yet");
}
