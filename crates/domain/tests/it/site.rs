//! Commands on a whole site: the initial state, the command, and the expected result. The tests need no database.

use std::collections::HashMap;

use chrono::Duration;
use domain::Instant;
use domain::actor::{Actor, Role};
use domain::battery::ModelConfig;
use domain::charging::session::{EndReason, Session, SessionStatus};
use domain::charging::site::{Changes, PortChange, Site, StationChange, tick};
use domain::charging::station::{
    Port, PortAdded, PortRemoved, PortReset, PortStatus, Station, StationStatus, StationUpdate,
};
use domain::error::DomainError;
use domain::event::Event;
use domain::id::{PortId, SessionId, UserId};
use proptest::prelude::*;

use crate::common::{Car, car, model, port, request, start, station, terms};
use crate::random::seeded;

pub fn actor(role: Role) -> Actor {
    Actor { user_id: UserId::new("u-1").unwrap(), role }
}

/// A car that charges at 50 kW for the whole duration of these tests, or until `energy_kwh` is reached.
pub fn steady(energy_kwh: Option<f64>) -> Car {
    Car {
        capacity_kwh: 1000.0,
        max_kw: 1000.0,
        percent: 0.0,
        target: 60.0,
        port_kw: 1000.0,
        arrives_minute: 0,
        max_energy_kwh: energy_kwh,
    }
}

/// The items of a site as the tables hold them. Changes are applied as the store writes them.
pub struct Tables {
    pub station: Station,
    pub ports: Vec<Port>,
    pub sessions: HashMap<SessionId, Session>,
}

impl Tables {
    pub fn new(power_kw: f64, model: ModelConfig, port_kw: &[f64]) -> Self {
        let ports = (1..).zip(port_kw).map(|(number, kw)| port(number, *kw)).collect();
        Self { station: station(power_kw, model), ports, sessions: HashMap::new() }
    }

    pub fn load(&self) -> Site {
        let running = self.ports.iter().filter_map(|port| self.sessions.get(port.session_id.as_ref()?)).cloned();
        Site::new(self.station.clone(), self.ports.clone(), running.collect(), HashMap::new())
    }

    fn session(&self, number: u32) -> &Session {
        &self.sessions[&SessionId::new(format!("session-{number}")).unwrap()]
    }

    pub fn running(&self) -> Vec<Session> {
        self.sessions.values().filter(|session| session.status.is_active()).cloned().collect()
    }

    /// Applies `changes`, and asserts the conditions under which the store writes them. Returns the events.
    pub fn commit(&mut self, changes: Changes) -> Vec<Event> {
        // The store reads the version of a station of which the tick read nothing.
        let version = match &changes.station {
            StationChange::Decided { station, .. } => Some(station.version),
            StationChange::CountedOut { .. } => Some(self.station.version + 1),
            StationChange::CountedIn(_) | StationChange::None => None,
        };
        let ends = changes.ended.iter().map(|session| changes.end_event(session, &terms(), version));
        let mut events: Vec<Event> = ends.map(Event::from).collect();
        for session in changes.advanced.into_iter().chain(changes.ended) {
            let old = self.sessions.insert(session.id.clone(), session.clone()).expect("it ran");
            assert_eq!(session.version, old.version + 1, "one write raises the version by one");
        }
        for change in changes.ports {
            match change {
                PortChange::Decided { port, failed } => {
                    let old = self.ports.iter_mut().find(|old| old.id == port.id).unwrap();
                    assert_eq!(port.version, old.version + 1);
                    *old = *port;
                    events.extend(failed.map(Event::from));
                }
                PortChange::Freed { port_id, session_id } => {
                    let old = self.ports.iter_mut().find(|old| old.id == port_id).unwrap();
                    assert_eq!((old.status, old.session_id.take()), (PortStatus::Charging, Some(session_id)));
                    (old.status, old.version) = (PortStatus::Free, old.version + 1);
                }
            }
        }
        match changes.station {
            StationChange::None => {}
            StationChange::CountedIn(_) => {
                self.station.charging_ports += 1;
                self.station.version += 1;
            }
            StationChange::CountedOut { running, left, .. } => {
                assert_eq!(usize::try_from(self.station.charging_ports).unwrap(), running);
                self.station.charging_ports = u32::try_from(left).unwrap();
                self.station.version += 1;
            }
            StationChange::Decided { station, event } => {
                assert_eq!(station.version, self.station.version + 1);
                self.station = *station;
                events.extend(event.map(Event::from));
            }
        }
        if let Some(started) = changes.started {
            assert!(self.sessions.insert(started.session.id.clone(), started.session).is_none());
            events.push(started.event.into());
        }
        self.fit_together();
        events
    }

    fn fit_together(&self) {
        for port in &self.ports {
            let session = port.session_id.as_ref().map(|id| &self.sessions[id]);
            assert_eq!(port.status == PortStatus::Charging, session.is_some(), "{port:?}");
            assert!(session.is_none_or(|session| session.status.is_active() && session.port_id == port.id), "{port:?}");
        }
        let charging = self.ports.iter().filter(|port| port.status == PortStatus::Charging).count();
        assert_eq!(self.running().len(), charging, "every running session has a port");
        assert_eq!(usize::try_from(self.station.charging_ports).unwrap(), charging);
    }

    /// Adds a port as the store does: one write of the port, and one that raises the station's version.
    pub fn add_port(&mut self, number: u32) -> Event {
        let added = port(number, 50.0);
        self.ports.push(added.clone());
        let event = PortAdded::new(&self.station, &added, &self.ports);
        self.station.version += 1;
        event.into()
    }

    /// Removes a port as the store does, unless a session runs there.
    pub fn remove_port(&mut self, id: &PortId) -> Option<Event> {
        let index = self.ports.iter().position(|port| port.id == *id && port.status != PortStatus::Charging)?;
        let removed = self.ports.remove(index);
        let event = PortRemoved::new(&self.station, &removed, &self.ports);
        self.station.version += 1;
        Some(event.into())
    }

    /// Resets a port as the store does, if it has failed.
    pub fn reset_port(&mut self, id: &PortId) -> Option<Event> {
        let port = self.ports.iter_mut().find(|port| port.id == *id)?;
        port.reset(Role::Admin).ok()?;
        let port = port.clone();
        let event = PortReset::new(&self.station, &port, &self.ports);
        self.station.version += 1;
        Some(event.into())
    }

    fn start(&mut self, number: u32, car: &Car, at: Instant) -> Result<(), DomainError> {
        let port = PortId::new(format!("port-{number}")).unwrap();
        let changes = self.load().start(request(number, car), &port, Role::User, at)?;
        self.commit(changes);
        Ok(())
    }
}

fn after(seconds: i64) -> Instant {
    start() + Duration::seconds(seconds)
}

fn two_cars(first_kwh: Option<f64>) -> Tables {
    let mut tables = Tables::new(100.0, ModelConfig::StepTaper, &[1000.0, 1000.0]);
    tables.start(1, &steady(first_kwh), start()).unwrap();
    tables.start(2, &steady(None), start()).unwrap();
    tables
}

pub fn id(number: u32) -> SessionId {
    SessionId::new(format!("session-{number}")).unwrap()
}

pub fn port_id(number: u32) -> PortId {
    PortId::new(format!("port-{number}")).unwrap()
}

/// A command by an actor.
type Decide = fn(&mut Site, &Actor) -> Result<Changes, DomainError>;

#[test]
fn every_command_keeps_a_natural_end_before_its_instant() {
    let admin = actor(Role::Admin);
    let commands: [(&str, Decide, PortStatus, SessionStatus); 8] = [
        ("stop it", |site, by| site.stop(&id(1), by, after(60)), PortStatus::Free, SessionStatus::InProgress),
        ("stop the other", |site, by| site.stop(&id(2), by, after(60)), PortStatus::Free, SessionStatus::Interrupted),
        (
            "interrupt it",
            |site, by| site.interrupt(&id(1), EndReason::UserBlocked, by, after(60)),
            PortStatus::Free,
            SessionStatus::InProgress,
        ),
        (
            "fail it",
            |site, by| site.fail_session(&id(1), "test", by.role, after(60)),
            PortStatus::Free,
            SessionStatus::InProgress,
        ),
        (
            "fail its port",
            |site, by| site.fail_port(&port_id(1), "test", by.role, after(60)),
            PortStatus::Error,
            SessionStatus::InProgress,
        ),
        (
            "out of order",
            |site, by| site.transition(StationStatus::OutOfOrder, by, after(60)),
            PortStatus::Free,
            SessionStatus::Failed,
        ),
        ("tick", |site, _| Ok(site.tick(after(60))), PortStatus::Free, SessionStatus::InProgress),
        (
            "start at its port",
            |site, by| site.start(request(3, &steady(None)), &port_id(1), by.role, after(60)),
            PortStatus::Charging,
            SessionStatus::InProgress,
        ),
    ];
    for (what, decide, port, other) in commands {
        // 0.5 kWh at 50 kW take 36 s.
        let mut tables = two_cars(Some(0.5));
        let changes = decide(&mut tables.load(), &admin).unwrap_or_else(|error| panic!("{what}: {error}"));
        tables.commit(changes);
        let due = tables.session(1);
        assert_eq!((due.status, due.end_reason), (SessionStatus::Interrupted, Some(EndReason::EnergyLimit)), "{what}");
        assert_eq!((due.ended_at, due.register().0), (Some(after(36)), 500), "{what}");
        assert_eq!(tables.ports[0].status, port, "{what}");
        // 36 s at 50 kW, then 24 s at 100 kW.
        let neighbour = tables.session(2);
        assert_eq!((neighbour.status, neighbour.register().0), (other, 1166), "{what}");
    }
}

#[test]
fn an_interrupted_session_says_why() {
    let system = actor(Role::System);
    let stop: Decide = |site, by| site.stop(&id(1), by, after(60));
    let interrupt: Decide = |site, by| site.interrupt(&id(1), EndReason::UserBlocked, by, after(60));
    for (decide, reason) in [(stop, EndReason::StoppedByOperator), (interrupt, EndReason::UserBlocked)] {
        let mut tables = two_cars(None);
        let changes = decide(&mut tables.load(), &system).unwrap();
        tables.commit(changes);
        let session = tables.session(1);
        assert_eq!((session.status, session.end_reason), (SessionStatus::Interrupted, Some(reason)));
        assert_eq!(session.ended_at, Some(after(60)));
    }
}

#[test]
fn ending_a_session_meters_the_other_sessions_up_to_the_instant() {
    let admin = actor(Role::Admin);
    let commands: [(&str, Decide); 4] = [
        ("stop", |site, by| site.stop(&id(1), by, after(59))),
        ("interrupt", |site, by| site.interrupt(&id(1), EndReason::UserBlocked, by, after(59))),
        ("fail the session", |site, by| site.fail_session(&id(1), "test", by.role, after(59))),
        ("fail the port", |site, by| site.fail_port(&port_id(1), "test", by.role, after(59))),
    ];
    for (what, decide) in commands {
        let mut tables = two_cars(None);
        let changes = decide(&mut tables.load(), &admin).unwrap();
        tables.commit(changes);
        let changes = tick(&tables.station.id, tables.running(), HashMap::new(), after(60));
        tables.commit(changes);
        // 59 s at 50 kW, then 1 s at 100 kW.
        assert_eq!((tables.session(1).register().0, tables.session(2).register().0), (819, 847), "{what}");
    }
}

#[test]
fn commands_that_roles_or_states_forbid_are_refused() {
    let user = Actor { user_id: UserId::new("u-2").unwrap(), role: Role::User };
    let tables = two_cars(None);
    let forbidden = |result: Result<Changes, DomainError>| matches!(result, Err(DomainError::Forbidden(_)));
    let conflict = |result: Result<Changes, DomainError>| matches!(result, Err(DomainError::Conflict(_)));
    let missing = |result: Result<Changes, DomainError>| matches!(result, Err(DomainError::NotFound(_)));
    assert!(forbidden(tables.load().stop(&id(1), &user, after(1))), "a session of another user");
    assert!(forbidden(tables.load().interrupt(&id(1), EndReason::UserBlocked, &user, after(1))));
    assert!(forbidden(tables.load().fail_session(&id(1), "test", Role::User, after(1))));
    assert!(forbidden(tables.load().fail_port(&port_id(1), "test", Role::User, after(1))));
    assert!(forbidden(tables.load().transition(StationStatus::OutOfOrder, &user, after(1))));
    assert!(forbidden(tables.load().update(StationUpdate::default(), &user, after(1))));
    assert!(conflict(tables.load().stop(&id(9), &actor(Role::Admin), after(1))), "the session does not run here");
    assert!(missing(tables.load().fail_port(&port_id(9), "test", Role::Admin, after(1))));
    assert!(missing(tables.load().start(request(3, &steady(None)), &port_id(9), Role::User, after(1))));
    assert!(
        conflict(tables.load().start(request(3, &steady(None)), &port_id(1), Role::User, after(1))),
        "the port is not free"
    );
    let faster = StationUpdate { power_kw: Some(150.0), ..StationUpdate::default() };
    assert!(conflict(tables.load().update(faster.clone(), &actor(Role::Admin), after(1))), "sessions run");
    let mut free = Tables::new(100.0, ModelConfig::StepTaper, &[50.0]);
    assert!(
        conflict(free.load().fail_port(&port_id(1), "test", Role::Admin, after(1))),
        "no session is running at the port"
    );
    let changes = free.load().update(faster, &actor(Role::Admin), after(1)).unwrap();
    free.commit(changes);
    assert!((free.station.power_kw - 150.0).abs() < f64::EPSILON);
    let changes = free.load().transition(StationStatus::Maintenance, &actor(Role::Admin), after(2)).unwrap();
    free.commit(changes);
    assert!(matches!(free.start(1, &steady(None), after(3)), Err(DomainError::Conflict(_))), "the station drains");
}

#[test]
fn out_of_order_fails_every_charging_port_even_without_its_session() {
    let mut tables = two_cars(None);
    tables.sessions.remove(&id(2));
    let changes = tables.load().transition(StationStatus::OutOfOrder, &actor(Role::Admin), after(1)).unwrap();
    let events = tables.commit(changes);
    assert!(tables.ports.iter().all(|port| port.status == PortStatus::Error));
    assert_eq!(events.iter().filter(|event| matches!(event, Event::PortFailed(_))).count(), 2);
}

#[test]
fn updates_at_one_instant_get_different_updated_at_values() {
    let mut tables = Tables::new(100.0, ModelConfig::StepTaper, &[50.0]);
    let mut seen = vec![tables.station.updated_at];
    for _ in 0..3 {
        let changes = tables.load().update(StationUpdate::default(), &actor(Role::Admin), start()).unwrap();
        tables.commit(changes);
        assert!(!seen.contains(&tables.station.updated_at));
        seen.push(tables.station.updated_at);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start(u32),
    Stop(u32),
    FailSession(u32),
    FailPort(u32),
    OutOfOrder,
    Tick,
    TickAlone,
}

fn step() -> impl Strategy<Value = Step> {
    let number = 1..=3_u32;
    prop_oneof![
        4 => number.clone().prop_map(Step::Start),
        2 => number.clone().prop_map(Step::Stop),
        1 => number.clone().prop_map(Step::FailSession),
        1 => number.prop_map(Step::FailPort),
        1 => Just(Step::OutOfOrder),
        3 => Just(Step::Tick),
        3 => Just(Step::TickAlone),
    ]
}

proptest! {
    #![proptest_config(seeded(500))]

    /// For any history of commands, the rows stay consistent, every change raises an item's version by one, and no more
    /// energy is metered than the station could deliver.
    #[test]
    fn random_histories_keep_station_ports_and_sessions_consistent(
        power_kw in 20.0..300.0_f64, model in model(), cars in prop::collection::vec(car(), 12),
        steps in prop::collection::vec((step(), 1..600_i64), 1..25),
    ) {
        let port_kw: Vec<f64> = cars.iter().take(3).map(|car| car.port_kw).collect();
        let mut tables = Tables::new(power_kw, model, &port_kw);
        let (mut cars, mut at, mut started) = (cars.iter().cycle(), start(), 3);
        for (step, seconds) in steps {
            at += Duration::seconds(seconds);
            let admin = actor(Role::Admin);
            let number = |n: u32| tables.ports[usize::try_from(n - 1).unwrap()].session_id.clone();
            let running = |n: u32| number(n).unwrap_or_else(|| id(0));
            let mut site = tables.load();
            let changes = match step {
                Step::Start(n) => {
                    started += 1;
                    site.start(request(started, cars.next().unwrap()), &port_id(n), Role::User, at)
                }
                Step::Stop(n) => site.stop(&running(n), &admin, at),
                Step::FailSession(n) => site.fail_session(&running(n), "test", Role::Admin, at),
                Step::FailPort(n) => site.fail_port(&port_id(n), "test", Role::Admin, at),
                Step::OutOfOrder => site.transition(StationStatus::OutOfOrder, &admin, at),
                Step::Tick => Ok(site.tick(at)),
                Step::TickAlone => Ok(tick(&tables.station.id, tables.running(), HashMap::new(), at)),
            };
            match changes {
                Ok(changes) => { tables.commit(changes); }
                Err(error) => prop_assert!(!matches!(error, DomainError::Validation(_)), "{error}"),
            }
            #[allow(clippy::cast_precision_loss)]
            let metered: f64 = tables.sessions.values().map(|session| session.register().0 as f64).sum();
            #[allow(clippy::cast_precision_loss)]
            let offered = power_kw * (at - start()).num_seconds() as f64 / 3.6;
            prop_assert!(metered <= offered + 1.0, "{metered} Wh metered, {offered} Wh offered");
        }
    }
}
