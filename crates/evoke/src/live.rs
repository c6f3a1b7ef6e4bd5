//! The current state of sessions and stations: read by a query, and then kept up to date by updates.
//!
//! Updates may come late, twice and in any order. So each value has the version at which it was read or changed, and an
//! older version never replaces a newer one.

use std::collections::BTreeMap;

use appsync::{SessionProgress, SessionUpdate, StationProgress, StationUpdate};
use domain::Instant;
use domain::charging::session::SessionStatus;
use domain::charging::station::{PortStatus, StationStatus};
use domain::machine::State;

use crate::graphql::{Port, Session, Station};

/// The effect of an update on the known state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Something is different now.
    Changed,
    /// The update said nothing new.
    Nothing,
    /// The update is about an unknown part: the state must be read again.
    Unknown,
}

/// A session.
#[derive(Clone, Debug)]
pub struct LiveSession(Session);

impl LiveSession {
    /// Creates the state from the answer of a query.
    pub fn new(session: Session) -> Self {
        Self(session)
    }

    /// Returns the known state.
    pub fn known(&self) -> &Session {
        &self.0
    }

    /// Returns whether the session still runs.
    pub fn is_active(&self) -> bool {
        self.0.status.is_active()
    }

    /// Takes what a query read later, unless updates have brought something newer in the meantime.
    ///
    /// The progress of a session that a tick ended has the time of the tick, which is after the end. So an end counts
    /// whatever its time is.
    pub fn read(&mut self, session: Session) -> Effect {
        let is_behind = session.status.is_active() && session.metered_at < self.0.metered_at;
        if session.version < self.0.version || is_behind {
            return Effect::Nothing;
        }
        self.0 = session;
        Effect::Changed
    }

    /// Takes a start or an end.
    pub fn change(&mut self, update: &SessionUpdate) -> Effect {
        let known = &mut self.0;
        if update.session_id != known.session_id || update.version <= known.version {
            return Effect::Nothing;
        }
        known.version = update.version;
        known.status = update.status;
        known.end_reason.clone_from(&update.reason);
        known.metered_at = known.metered_at.max(update.ended_at.unwrap_or(update.occurred_at));
        known.charge_percent = update.percent.unwrap_or(known.charge_percent);
        known.energy_kwh = update.energy_kwh.unwrap_or(known.energy_kwh);
        if let Some(cost) = &update.cost {
            known.cost.clone_from(cost);
        }
        if !known.status.is_active() {
            known.power_kw = 0.0;
        }
        Effect::Changed
    }

    /// Takes the progress of the session, from the progress of its station.
    pub fn progress(&mut self, progress: &StationProgress) -> Effect {
        let known = &mut self.0;
        let mut sessions = progress.sessions.iter();
        let Some(reached) = sessions.find(|session| session.session_id == known.session_id) else {
            return Effect::Nothing;
        };
        if !known.status.is_active() || progress.at <= known.metered_at {
            return Effect::Nothing;
        }
        known.status = SessionStatus::InProgress;
        known.metered_at = progress.at;
        known.charge_percent = reached.percent;
        known.power_kw = reached.power_kw;
        known.energy_kwh = reached.energy_kwh;
        Effect::Changed
    }

    /// Describes the session in one line of constant width.
    pub fn line(&self) -> String {
        let Session { charge_percent, power_kw, energy_kwh, cost, currency, status, .. } = &self.0;
        let status = status.name();
        format!("{charge_percent:5.1} % {power_kw:6.1} kW {energy_kwh:7.3} kWh {cost:>6} {currency} {status}")
    }
}

/// A value, and the version at which it was read or changed.
#[derive(Clone, Debug)]
struct Versioned<T> {
    value: T,
    version: u64,
}

impl<T> Versioned<T> {
    fn change(&mut self, value: Option<T>, version: u64) -> Effect {
        match value {
            Some(value) if version >= self.version => {
                *self = Self { value, version };
                Effect::Changed
            }
            _ => Effect::Nothing,
        }
    }
}

/// A station with its ports.
///
/// An update has only the values that changed. So the name and the status of the station and the status of each port
/// have separate versions.
#[derive(Clone, Debug)]
pub struct LiveStation {
    station: Station,
    name: Versioned<String>,
    status: Versioned<StationStatus>,
    ports: BTreeMap<u32, LivePort>,
    /// The version that a query read last. It tells which ports there are.
    read: u64,
    /// The latest version that is known.
    version: u64,
    deleted: bool,
    /// The time of the last progress.
    at: Option<Instant>,
}

/// A port of a station.
#[derive(Clone, Debug)]
struct LivePort {
    port: Port,
    status: Versioned<PortStatus>,
    /// The progress of the session at the port, if there is one.
    session: Option<SessionProgress>,
}

impl LivePort {
    fn new(port: Port, version: u64) -> Self {
        Self { status: Versioned { value: port.status, version }, port, session: None }
    }

    /// Takes a change of the port. `read` is the version of the station that a query read last.
    fn change(&mut self, status: PortStatus, version: u64, read: u64) -> Effect {
        // A port that fails ends its session. The two updates have the same version, and the failure counts.
        if version == self.status.version && self.status.value == PortStatus::Error {
            return Effect::Nothing;
        }
        // The version of a start is too low if something else changed the station at that moment. So the query may have
        // been answered before the start.
        let is_free = self.status.value == PortStatus::Free && self.status.version == read;
        if status == PortStatus::Charging && is_free && version < read {
            return Effect::Unknown;
        }
        let effect = self.status.change(Some(status), version);
        if self.status.value != PortStatus::Charging {
            self.session = None;
        }
        effect
    }

    /// Describes the port in one line of constant width.
    fn line(&self) -> String {
        let status = self.status.value.name();
        match &self.session {
            Some(SessionProgress { percent, power_kw, energy_kwh, session_id, .. }) => {
                format!("{percent:5.1} % {power_kw:6.1} kW {energy_kwh:7.3} kWh {status:8} {session_id}")
            }
            None => format!("{:30}{status}", ""),
        }
    }
}

impl LiveStation {
    /// Creates the state from the answer of a query.
    pub fn new(mut station: Station) -> Self {
        let version = station.version;
        let ports = std::mem::take(&mut station.ports).into_iter();
        let ports = ports.map(|port| (port.port_number, LivePort::new(port, version))).collect();
        let name = Versioned { value: std::mem::take(&mut station.name), version };
        let status = Versioned { value: station.status, version };
        Self { station, name, status, ports, read: version, version, deleted: false, at: None }
    }

    /// Returns the id of the station.
    pub fn id(&self) -> &str {
        &self.station.station_id
    }

    /// Returns whether the station was deleted.
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Takes what a query read later, unless updates have brought something newer in the meantime.
    pub fn read(&mut self, station: Station) -> Effect {
        if station.version < self.version {
            return Effect::Nothing;
        }
        let mut before = std::mem::replace(self, Self::new(station));
        self.at = before.at;
        for (number, port) in &mut self.ports {
            if port.status.value == PortStatus::Charging {
                port.session = before.ports.remove(number).and_then(|port| port.session);
            }
        }
        Effect::Changed
    }

    /// Takes a change.
    pub fn change(&mut self, update: &StationUpdate) -> Effect {
        if update.station_id != self.station.station_id {
            return Effect::Nothing;
        }
        let mut effects = vec![
            self.status.change(update.status, update.version),
            self.name.change(update.name.clone(), update.version),
        ];
        if let Some(id) = &update.port_id {
            let port = self.ports.values_mut().find(|port| port.port.port_id == *id);
            effects.push(match (port, update.port_status) {
                (Some(port), Some(status)) => port.change(status, update.version, self.read),
                // A port was added or removed, unless the query knew of it already.
                _ if update.version > self.read => Effect::Unknown,
                _ => Effect::Nothing,
            });
        }
        // A station that was deleted can be created again, with higher versions.
        if update.deleted && update.version > self.version {
            self.deleted = true;
            effects.push(Effect::Changed);
        }
        self.version = self.version.max(update.version);
        [Effect::Unknown, Effect::Changed]
            .into_iter()
            .find(|effect| effects.contains(effect))
            .unwrap_or(Effect::Nothing)
    }

    /// Takes the progress of the sessions.
    pub fn progress(&mut self, progress: &StationProgress) -> Effect {
        if progress.station_id != self.station.station_id || self.at.is_some_and(|at| progress.at <= at) {
            return Effect::Nothing;
        }
        self.at = Some(progress.at);
        for session in &progress.sessions {
            let port = self.ports.values_mut().find(|port| port.port.port_id == session.port_id);
            if let Some(port) = port.filter(|port| port.status.value == PortStatus::Charging) {
                port.session = Some(session.clone());
            }
        }
        Effect::Changed
    }

    /// Describes the station in one line.
    pub fn headline(&self) -> String {
        let (Station { station_id, power_kw, .. }, name) = (&self.station, &self.name.value);
        let status = if self.deleted { "deleted" } else { self.status.value.name() };
        format!("{station_id} ({name}, {power_kw} kW): {status}")
    }

    /// Describes the ports: each by a name, a line of constant width and a state of charge, %.
    pub fn rows(&self) -> Vec<(String, String, f64)> {
        let row = |live: &LivePort| {
            let Port { port_id, connector_type, max_power_kw, .. } = &live.port;
            let percent = live.session.as_ref().map_or(0.0, |session| session.percent);
            (format!("{port_id} {connector_type} {max_power_kw} kW"), live.line(), percent)
        };
        self.ports.values().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Reads a value with some fields replaced.
    fn read<T: serde::de::DeserializeOwned>(mut value: Value, more: Value) -> T {
        let Value::Object(more) = more else { panic!("{more}") };
        value.as_object_mut().unwrap().extend(more);
        serde_json::from_value(value).unwrap()
    }

    fn session(more: Value) -> Session {
        let session = json!({
            "sessionId": "s", "stationId": "st", "portId": "p-1", "status": "STARTED", "chargePercent": 20.0,
            "targetPercent": 80.0, "powerKw": 50.0, "energyKwh": 0.0, "cost": "0.00", "currency": "EUR",
            "meteredAt": "2026-03-03T10:00:00Z", "version": 1
        });
        read(session, more)
    }

    fn session_update(more: Value) -> SessionUpdate {
        let update = json!({
            "sessionId": "s", "userId": "u", "stationId": "st", "portId": "p-1", "status": "INTERRUPTED",
            "reason": "STOPPED", "occurredAt": "2026-03-03T10:03:00Z", "version": 4
        });
        read(update, more)
    }

    fn progress(minute: u32, percent: f64) -> StationProgress {
        let session = json!({ "portId": "p-1", "sessionId": "s", "percent": percent, "powerKw": 40, "energyKwh": 1.5 });
        let at = format!("2026-03-03T10:{minute:02}:00Z");
        read(json!({ "stationId": "st", "at": at, "sessions": [session] }), json!({}))
    }

    #[test]
    fn a_session_never_goes_back() {
        let mut live = LiveSession::new(session(json!({})));
        assert_eq!(live.progress(&progress(2, 23.0)), Effect::Changed);
        assert_eq!(live.line(), " 23.0 %   40.0 kW   1.500 kWh   0.00 EUR IN_PROGRESS");
        assert_eq!(live.progress(&progress(1, 21.5)), Effect::Nothing);
        // A query that was answered before the tick, but arrives after it.
        assert_eq!(live.read(session(json!({ "chargePercent": 22.0 }))), Effect::Nothing);
        assert!((live.known().charge_percent - 23.0).abs() < 1e-9);
        let read =
            json!({ "version": 3, "meteredAt": "2026-03-03T10:02:00Z", "cost": "0.74", "status": "IN_PROGRESS" });
        assert_eq!(live.read(session(read)), Effect::Changed);
        assert_eq!(live.known().cost, "0.74");

        let end = session_update(json!({ "cost": "0.81", "percent": 24.0, "endedAt": "2026-03-03T10:03:00Z" }));
        assert_eq!((live.change(&end), live.is_active()), (Effect::Changed, false));
        assert_eq!(live.line(), " 24.0 %    0.0 kW   0.000 kWh   0.81 EUR INTERRUPTED");
        assert_eq!(live.change(&end), Effect::Nothing, "the same update again");
        let start = session_update(json!({ "version": 1, "status": "STARTED", "reason": null }));
        assert_eq!(live.change(&start), Effect::Nothing, "the start comes after the end");
        assert_eq!(live.progress(&progress(9, 30.0)), Effect::Nothing, "progress comes after the end");
        assert_eq!(live.known().end_reason.as_deref(), Some("STOPPED"));
    }

    #[test]
    fn an_end_is_read_although_the_progress_of_its_tick_has_a_later_time() {
        let mut live = LiveSession::new(session(json!({})));
        assert_eq!(live.progress(&progress(5, 80.0)), Effect::Changed);
        // The update of the end was missed. The session had ended before the time of the tick.
        let mut read = json!({ "version": 2, "meteredAt": "2026-03-03T10:04:30Z", "chargePercent": 80.0 });
        read["status"] = json!("IN_PROGRESS");
        assert_eq!(live.read(session(read.clone())), Effect::Nothing, "it still runs, so the query is the older one");
        read["status"] = json!("COMPLETED");
        assert_eq!((live.read(session(read)), live.is_active()), (Effect::Changed, false));
    }

    #[test]
    fn updates_of_other_sessions_change_nothing() {
        let mut live = LiveSession::new(session(json!({ "sessionId": "other" })));
        assert_eq!(live.change(&session_update(json!({}))), Effect::Nothing);
        assert_eq!(live.progress(&progress(2, 23.0)), Effect::Nothing);
        assert_eq!(live.known().status, SessionStatus::Started);
    }

    fn station(more: Value) -> Station {
        let port = |number: u32, status: &str| {
            json!({
                "portId": format!("p-{number}"), "portNumber": number, "connectorType": "CCS2", "maxPowerKw": 150,
                "status": status
            })
        };
        let ports = [port(1, "CHARGING"), port(2, "FREE")];
        let station = json!({
            "stationId": "st", "name": "Main Street", "status": "ACTIVE", "powerKw": 300, "ports": ports, "version": 5
        });
        read(station, more)
    }

    fn station_update(version: u64, more: Value) -> StationUpdate {
        let update = json!({
            "stationId": "st", "deleted": false, "occurredAt": "2026-03-03T10:00:00Z", "version": version
        });
        read(update, more)
    }

    fn port_update(version: u64, port: &str, status: &str) -> StationUpdate {
        station_update(version, json!({ "portId": port, "portStatus": status }))
    }

    fn statuses(live: &LiveStation) -> Vec<&'static str> {
        live.ports.values().map(|port| port.status.value.name()).collect()
    }

    #[test]
    fn a_late_update_of_one_port_still_counts_after_a_newer_one_of_another() {
        let mut live = LiveStation::new(station(json!({})));
        assert_eq!(live.change(&port_update(7, "p-1", "FREE")), Effect::Changed);
        assert_eq!(live.change(&port_update(6, "p-2", "CHARGING")), Effect::Changed);
        assert_eq!(statuses(&live), ["FREE", "CHARGING"]);
        assert_eq!(live.change(&port_update(4, "p-2", "FREE")), Effect::Nothing, "older than what was read");
        assert_eq!(live.change(&station_update(6, json!({ "status": "MAINTENANCE" }))), Effect::Changed);
        assert_eq!(live.headline(), "st (Main Street, 300 kW): MAINTENANCE");
        assert_eq!(live.read(station(json!({ "version": 6 }))), Effect::Nothing);
        assert_eq!(live.read(station(json!({ "version": 7, "name": "Broad Street" }))), Effect::Changed);
        assert_eq!(live.headline(), "st (Broad Street, 300 kW): ACTIVE");
    }

    #[test]
    fn a_failed_port_stays_failed_whatever_the_order_of_the_updates() {
        for updates in [["FREE", "ERROR"], ["ERROR", "FREE"]] {
            let mut live = LiveStation::new(station(json!({})));
            for status in updates {
                live.change(&port_update(6, "p-1", status));
            }
            assert_eq!(statuses(&live), ["ERROR", "FREE"], "{updates:?}");
            live.change(&port_update(7, "p-1", "FREE"));
            assert_eq!(statuses(&live), ["FREE", "FREE"], "{updates:?}");
        }
    }

    #[test]
    fn progress_is_shown_at_its_port_until_the_session_ends() {
        let mut live = LiveStation::new(station(json!({})));
        assert_eq!(live.progress(&progress(2, 23.0)), Effect::Changed);
        assert_eq!(live.progress(&progress(1, 21.5)), Effect::Nothing);
        let rows = live.rows();
        assert_eq!(rows[0].0, "p-1 CCS2 150 kW");
        assert_eq!(rows[0].1, " 23.0 %   40.0 kW   1.500 kWh CHARGING s");
        assert_eq!(rows[1].1.trim(), "FREE");
        assert_eq!(rows[0].1.find("CHARGING"), rows[1].1.find("FREE"), "the statuses are in one column");
        assert_eq!(live.read(station(json!({ "version": 6 }))), Effect::Changed);
        assert!((live.rows()[0].2 - 23.0).abs() < 1e-9, "a query does not know the progress");
        live.change(&port_update(7, "p-1", "FREE"));
        assert_eq!(live.progress(&progress(3, 24.0)), Effect::Changed);
        assert_eq!(live.rows()[0].1.trim(), "FREE", "a session that has ended");
    }

    #[test]
    fn a_new_or_removed_port_is_read() {
        let mut live = LiveStation::new(station(json!({})));
        assert_eq!(live.change(&port_update(6, "p-3", "FREE")), Effect::Unknown);
        assert_eq!(live.change(&station_update(7, json!({ "portId": "p-2" }))), Effect::Unknown);
        assert_eq!(live.read(station(json!({ "version": 7 }))), Effect::Changed);
        for old in [port_update(6, "p-3", "FREE"), station_update(7, json!({ "portId": "p-2" }))] {
            assert_eq!(live.change(&old), Effect::Nothing, "the query knew of it");
        }
        // The addition comes late, after a newer change of another port.
        assert_eq!(live.change(&port_update(9, "p-1", "FREE")), Effect::Changed);
        assert_eq!(live.change(&port_update(8, "p-4", "FREE")), Effect::Unknown);
    }

    #[test]
    fn a_late_name_still_counts_after_a_newer_change_of_a_port() {
        let mut live = LiveStation::new(station(json!({})));
        assert_eq!(live.change(&port_update(8, "p-2", "CHARGING")), Effect::Changed);
        assert_eq!(live.change(&station_update(7, json!({ "name": "Broad Street" }))), Effect::Changed);
        assert_eq!(live.change(&station_update(6, json!({ "name": "High Street" }))), Effect::Nothing);
        assert_eq!(live.headline(), "st (Broad Street, 300 kW): ACTIVE");
    }

    #[test]
    fn a_deletion_counts_unless_the_station_was_created_again() {
        let mut live = LiveStation::new(station(json!({})));
        live.change(&station_update(4, json!({ "deleted": true })));
        assert!(!live.is_deleted(), "the deletion of an earlier station with this id");
        live.change(&station_update(7, json!({ "status": "NEW", "name": "Again" })));
        live.change(&station_update(6, json!({ "deleted": true })));
        assert!(!live.is_deleted(), "the deletion comes after the new station");
        assert_eq!(live.change(&station_update(8, json!({ "deleted": true }))), Effect::Changed);
        assert!(live.is_deleted());
    }

    #[test]
    fn a_start_that_contradicts_the_query_is_read() {
        let mut live = LiveStation::new(station(json!({})));
        // The start at p-2 read version 3 while two other changes were written. The query was answered before it.
        assert_eq!(live.change(&port_update(4, "p-2", "CHARGING")), Effect::Unknown);
        assert_eq!(statuses(&live), ["CHARGING", "FREE"], "the query decides");
        assert_eq!(live.change(&port_update(4, "p-1", "CHARGING")), Effect::Nothing, "the query knew of it");
        live.change(&port_update(7, "p-2", "CHARGING"));
        live.change(&port_update(8, "p-2", "FREE"));
        assert_eq!(live.change(&port_update(7, "p-2", "CHARGING")), Effect::Nothing, "an update has overtaken it");
    }
}
