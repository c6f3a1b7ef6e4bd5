//! Compares the event contracts under `events/` (a JSON Schema and an example of each event) with the types.
//!
//! `make schema` rewrites them after a deliberate change; any other difference fails these tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use domain::accounts::{UserBlocked, UserDeleted, UserRegistered, UserUnblocked};
use domain::billing::{BillingFailed, CreditNoteIssued, InvoiceGenerated, PaymentCompleted, PaymentFailed};
use domain::billing::{InvoiceStatus, PaymentRefusal, WalletToppedUp};
use domain::charging::session::{EndReason, SessionStatus};
use domain::charging::session::{EventPeriod, SessionEnded, SessionStarted};
use domain::charging::station::{PortAdded, PortFailed, PortRemoved, PortReset};
use domain::charging::station::{PortCounts, PortStatus, StationStatus};
use domain::charging::station::{StationCreated, StationDeleted, StationStatusChanged, StationUpdated};
use domain::charging::tariff::{PeriodState, Tariff};
use domain::event::{Envelope, Event, seal};
use domain::id::{CreditNoteId, InvoiceId, PortId, SessionId, StationId, SwapStationId, UserId, derive};
use domain::live;
use domain::notifications::{ErrorLogged, Level};
use domain::poi::OcmSyncCompleted;
use domain::telemetry::Reading;
use domain::telemetry::{TelemetryRejected, TelemetryStale};
use serde_json::Value;

fn contracts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../events/contracts")
}

fn at(text: &str) -> domain::Instant {
    text.parse().unwrap()
}

fn session_id() -> SessionId {
    SessionId::new("01963c1e-0000-7000-8000-000000000001").unwrap()
}

fn user_id() -> UserId {
    UserId::new("5f0c5e1e-6f0b-4a57-9b5e-000000000001").unwrap()
}

fn station_id() -> StationId {
    StationId::new("station-01").unwrap()
}

fn swap_station_id() -> SwapStationId {
    SwapStationId::new("station-01").unwrap()
}

/// One example of every event, in the order of the enum.
pub fn examples() -> Vec<Envelope> {
    sessions()
        .into_iter()
        .chain(stations())
        .chain(ports())
        .chain(billing())
        .chain([logged()])
        .chain(telemetry())
        .chain([synchronised()])
        .chain(accounts())
        .flat_map(|event| seal("ITEM#1/METADATA", 1, at("2026-02-22T10:51:00Z"), "correlation-1", [event]))
        .collect()
}

fn port_id() -> PortId {
    PortId::new("port-1").unwrap()
}

/// Four ports, one of which failed.
fn counts() -> PortCounts {
    PortCounts { ports: 4, free_ports: 2, charging_ports: 1, failed_ports: 1 }
}

fn sessions() -> [Event; 2] {
    let (started_at, ended_at) = (at("2026-02-22T10:15:00Z"), at("2026-02-22T10:51:00Z"));
    let started = Event::SessionStarted(SessionStarted {
        session_id: session_id(),
        user_id: user_id(),
        station_id: station_id(),
        port_id: port_id(),
        charge_percent: 20.0,
        target_percent: 70.0,
        started_at,
        version: Some(1),
        station_version: Some(12),
    });
    let period = EventPeriod {
        start: started_at,
        end: ended_at,
        state: PeriodState::Charging,
        energy_kwh: "30".parse().unwrap(),
        power_kw: "50".parse().unwrap(),
    };
    let ended = Event::SessionEnded(Box::new(SessionEnded {
        session_id: session_id(),
        user_id: user_id(),
        station_id: station_id(),
        port_id: port_id(),
        status: SessionStatus::Completed,
        reason: EndReason::TargetReached,
        energy_kwh: "30".parse().unwrap(),
        duration_minutes: 36.0,
        started_at,
        ended_at,
        tariff: Tariff::per_kwh("0.49".parse().unwrap(), "EUR".parse().unwrap()),
        time_zone: "Europe/Berlin".to_owned(),
        charging_periods: vec![period],
        version: Some(38),
        station_version: Some(13),
        port_status: Some(PortStatus::Free),
    }));
    [started, ended]
}

fn stations() -> [Event; 4] {
    let name = || "Market square".to_owned();
    let (station_id, version) = (station_id(), 14);
    let created = StationCreated {
        station_id: station_id.clone(),
        name: name(),
        status: StationStatus::New,
        version: 1,
        station_version: 1,
        counts: PortCounts { ports: 4, free_ports: 4, charging_ports: 0, failed_ports: 0 },
    };
    let updated = StationUpdated {
        station_id: station_id.clone(),
        name: name(),
        status: StationStatus::Active,
        version,
        station_version: version,
        counts: counts(),
    };
    let deleted = StationDeleted {
        station_id: station_id.clone(),
        version,
        station_version: version,
        counts: PortCounts::default(),
    };
    let changed = StationStatusChanged {
        station_id,
        from: StationStatus::New,
        to: StationStatus::Active,
        version: Some(version),
        station_version: Some(version),
        counts: Some(counts()),
    };
    [created.into(), updated.into(), deleted.into(), changed.into()]
}

fn ports() -> [Event; 4] {
    let (station_id, port_id, station_version) = (station_id(), port_id(), 15);
    let added = PortAdded {
        station_id: station_id.clone(),
        port_id: port_id.clone(),
        version: 1,
        station_version,
        counts: counts(),
    };
    let removed = PortRemoved {
        station_id: station_id.clone(),
        port_id: port_id.clone(),
        version: 8,
        station_version,
        counts: counts(),
    };
    let failed = PortFailed {
        station_id: station_id.clone(),
        port_id: port_id.clone(),
        session_id: Some(session_id()),
        reason: "ground fault".to_owned(),
        version: Some(3),
        station_version: Some(station_version),
        counts: Some(counts()),
    };
    let reset = PortReset { station_id, port_id, version: 4, station_version, counts: counts() };
    [added.into(), removed.into(), failed.into(), reset.into()]
}

fn billing() -> [Event; 6] {
    let (currency, amount) = ("EUR".parse().unwrap(), "14.70".parse().unwrap());
    let invoice_id = InvoiceId::of(&session_id());
    let generated = Event::InvoiceGenerated(InvoiceGenerated {
        invoice_id: invoice_id.clone(),
        session_id: session_id(),
        user_id: user_id(),
        station_id: station_id(),
        status: InvoiceStatus::Paid,
        currency,
        total_excl_vat: amount,
        total_incl_vat: amount,
        issued_at: at("2026-02-22T10:51:00Z"),
    });
    let completed = Event::PaymentCompleted(PaymentCompleted {
        invoice_id: invoice_id.clone(),
        session_id: session_id(),
        user_id: user_id(),
        amount,
        currency,
        balance: Some("35.30".parse().unwrap()),
        wallet_version: Some(4),
    });
    let unpaid = Event::PaymentFailed(PaymentFailed {
        invoice_id: invoice_id.clone(),
        session_id: session_id(),
        user_id: user_id(),
        amount,
        currency,
        reason: PaymentRefusal::InsufficientFunds,
    });
    let credited = Event::CreditNoteIssued(CreditNoteIssued {
        credit_note_id: CreditNoteId::for_key(&invoice_id, "k"),
        invoice_id,
        session_id: session_id(),
        user_id: user_id(),
        amount,
        refunded: amount,
        currency,
        balance: Some("50.00".parse().unwrap()),
        wallet_version: Some(5),
    });
    let topped_up = Event::WalletToppedUp(WalletToppedUp {
        top_up_id: "0198e2f4-0000-5000-8000-000000000001".to_owned(),
        user_id: user_id(),
        amount: "50.00".parse().unwrap(),
        currency,
        balance: "50.00".parse().unwrap(),
        version: 3,
    });
    let unbilled = Event::BillingFailed(BillingFailed {
        session_id: session_id(),
        reason: "chargingPeriods: must add up to energyKwh (31), not to 30".to_owned(),
        quarantine_key: "dead-letters/ev-billing-dlq-dev/5fea7756-0ea4-451a-a703-a558b933e274.json".to_owned(),
    });
    [generated, completed, unpaid, credited, topped_up, unbilled]
}

fn logged() -> Event {
    Event::ErrorLogged(ErrorLogged {
        log_id: derive(&["notification", "1"]).into(),
        kind: "PORT_FAILED".to_owned(),
        level: Level::Error,
        service: "evoke.stations".to_owned(),
        message: "port port-1 of station station-01 failed: ground fault".to_owned(),
    })
}

fn telemetry() -> [Event; 2] {
    let silent = Event::TelemetryStale(TelemetryStale {
        station_id: swap_station_id(),
        stale: true,
        last_seen_at: at("2026-02-22T10:50:00Z"),
        silent_seconds: 60,
    });
    let rejected = Event::TelemetryRejected(TelemetryRejected {
        station_id: swap_station_id(),
        count: 11,
        window_seconds: 300,
        reason: "humidity: must be 100 or less".to_owned(),
        rejected_key: "rejected/year=2026/month=02/day=22/station-01_5fea7756-0ea4-551a-a703-a558b933e274.json"
            .to_owned(),
    });
    [silent, rejected]
}

fn synchronised() -> Event {
    Event::OcmSyncCompleted(OcmSyncCompleted {
        source: "OpenChargeMap".to_owned(),
        started_at: at("2026-02-22T06:00:00Z"),
        finished_at: at("2026-02-22T06:00:04Z"),
        processed: 312,
        updated: 310,
        removed: 0,
        failed: 2,
    })
}

fn accounts() -> [Event; 4] {
    let at = at("2026-02-22T10:51:00Z");
    [
        UserRegistered { user_id: user_id(), registered_at: at, has_vehicle: true }.into(),
        UserBlocked { user_id: user_id(), blocked_at: at, end_sessions: false }.into(),
        UserUnblocked { user_id: user_id(), unblocked_at: at }.into(),
        UserDeleted { user_id: user_id(), deleted_at: at }.into(),
    ]
}

fn assert_file(name: &str, content: &Value) {
    let path = contracts().join(name);
    let text = serde_json::to_string_pretty(content).unwrap() + "\n";
    #[allow(clippy::disallowed_methods)] // the switch that lets `make schema` write the files
    if std::env::var_os("EVOKE_WRITE_CONTRACTS").is_some() {
        fs::create_dir_all(contracts()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let on_disk = fs::read_to_string(&path).unwrap_or_default();
    assert!(on_disk == text, "{} has drifted from the types: run `make schema` and review the change", path.display());
}

/// Returns the schema of one event: the envelope, with only the payload alternative that has this type.
fn schema(event_type: &str) -> Value {
    let mut schema = schemars::schema_for!(Envelope).to_value();
    let alternatives = schema["oneOf"].as_array().unwrap().clone();
    let own = alternatives.into_iter().find(|one| one["properties"]["eventType"]["const"] == event_type).unwrap();
    schema["oneOf"] = Value::Array(vec![own]);
    schema["title"] = Value::String(event_type.to_owned());
    keep_what_is_referred_to(&mut schema);
    schema
}

/// Drops the definitions that only other events need, so that a new event does not change any other contract.
fn keep_what_is_referred_to(schema: &mut Value) {
    loop {
        let text = schema.to_string();
        let definitions = schema["$defs"].as_object_mut().unwrap();
        let before = definitions.len();
        definitions.retain(|name, _| text.contains(&format!("\"#/$defs/{name}\"")));
        if definitions.len() == before {
            return;
        }
    }
}

#[test]
fn schemas_and_examples_match_the_types() {
    for example in examples() {
        let name = example.event.event_type();
        assert_file(&format!("{name}.v{}.schema.json", example.schema_version), &schema(name));
        assert_file(
            &format!("{name}.v{}.example.json", example.schema_version),
            &serde_json::to_value(&example).unwrap(),
        );
    }
}

fn satisfies(instance: &Value, schema: Value) -> bool {
    let (mut compiler, mut schemas) = (boon::Compiler::new(), boon::Schemas::new());
    compiler.add_resource("https://evoke.invalid/event", schema).unwrap();
    let index = compiler.compile("https://evoke.invalid/event", &mut schemas).unwrap();
    schemas.validate(instance, index).is_ok()
}

#[test]
fn each_example_satisfies_only_its_own_schema() {
    for example in examples() {
        let instance = serde_json::to_value(&example).unwrap();
        for other in examples() {
            let expected = other.event.event_type() == example.event.event_type();
            let satisfies = satisfies(&instance, schema(other.event.event_type()));
            assert_eq!(satisfies, expected, "{instance} by {}", other.event.event_type());
        }
    }
}

#[test]
fn details_are_flat_and_unknown_fields_are_ignored() {
    for example in examples() {
        let mut json = serde_json::to_value(&example).unwrap();
        assert_eq!(json["eventType"], example.event.event_type());
        json["addedInALaterVersion"] = Value::Bool(true);
        let read: Envelope = serde_json::from_value(json).unwrap();
        assert_eq!(read, example);
    }
}

/// The fields that were added to events within version 1.
const ADDED: [(&str, &[&str]); 6] = [
    ("SESSION_STARTED", &["version", "stationVersion"]),
    ("SESSION_ENDED", &["version", "stationVersion", "portStatus"]),
    ("STATION_STATUS_CHANGED", &["version", "stationVersion", "ports", "freePorts", "chargingPorts", "failedPorts"]),
    ("PORT_FAILED", &["version", "stationVersion", "ports", "freePorts", "chargingPorts", "failedPorts"]),
    ("PAYMENT_COMPLETED", &["balance", "walletVersion"]),
    ("CREDIT_NOTE_ISSUED", &["balance", "walletVersion"]),
];

/// Events that were written before a field existed are still on items and in queues.
#[test]
fn events_that_were_written_before_a_field_existed_are_still_read() {
    let mut tried = 0;
    for (event_type, added) in ADDED {
        let example = examples().into_iter().find(|example| example.event.event_type() == event_type).unwrap();
        let mut old = serde_json::to_value(&example).unwrap();
        for field in added {
            assert!(old.as_object_mut().unwrap().remove(*field).is_some(), "{event_type} has no {field}");
        }
        assert!(satisfies(&old, schema(event_type)), "{old}");
        let read: Envelope = serde_json::from_value(old.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), old, "what was absent stays absent");
        assert!(live::updates(&read).is_empty(), "nobody could tell whether {event_type} is newer than what is known");
        tried += added.len();
    }
    assert_eq!(tried, 21);
}

#[test]
fn events_of_users_have_no_personal_data() {
    let envelope = ["eventId", "eventType", "schemaVersion", "occurredAt", "correlationId"];
    let harmless = ["userId", "registeredAt", "hasVehicle", "blockedAt", "endSessions", "unblockedAt", "deletedAt"];
    let of_users = examples().into_iter().filter(|example| example.event.source() == "evoke.accounts");
    let mut found = 0;
    for example in of_users {
        let json = serde_json::to_value(&example).unwrap();
        for field in json.as_object().unwrap().keys() {
            assert!(envelope.contains(&field.as_str()) || harmless.contains(&field.as_str()), "{field} in {json}");
        }
        found += 1;
    }
    assert_eq!(found, 4);
}

#[test]
fn event_ids_are_derived_from_item_version_and_index() {
    let event = || examples().remove(0).event;
    let ids = |item: &str, version: u64| -> Vec<_> {
        seal(item, version, at("2026-02-22T10:51:00Z"), "c", [event(), event()]).iter().map(|e| e.event_id).collect()
    };
    assert_eq!(ids("A", 1), ids("A", 1));
    let mut all = [ids("A", 1), ids("A", 2), ids("B", 1)].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 6);
}

/// Battery-swap stations send these messages, so the names of the fields must not change.
#[test]
fn schema_and_example_of_a_reading_match_the_type() {
    let mut schema = schemars::schema_for!(Reading).to_value();
    schema["title"] = Value::String("TELEMETRY_READING".to_owned());
    assert_file("TELEMETRY_READING.v1.schema.json", &schema);
    let example = serde_json::json!({
        "station_id": "station-01", "battery_available": 12, "battery_charging": 4, "temperature": 28.5, "humidity": 42.0,
        "status": "operational", "timestamp": "2024-01-15T14:23:45Z"
    });
    let reading: Reading = serde_json::from_value(example.clone()).unwrap();
    assert_eq!(serde_json::to_value(reading).unwrap(), example);
    assert!(satisfies(&example, schema));
    assert_file("TELEMETRY_READING.v1.example.json", &example);
}

/// The Athena table in docs/telemetry.md must have exactly the fields of a reading.
#[test]
fn athena_reads_every_field_of_a_reading() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/telemetry.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, table) = page.split_once("CREATE EXTERNAL TABLE telemetry (").unwrap();
    let (columns, _) = table.split_once("\n)").unwrap();
    let columns: BTreeMap<String, String> = columns
        .lines()
        .filter_map(|line| line.trim().trim_end_matches(',').split_once(' '))
        .map(|(name, kind)| (name.trim_matches('`').to_owned(), kind.trim().to_owned()))
        .collect();
    let schema = schemars::schema_for!(Reading).to_value();
    let fields = schema["properties"].as_object().unwrap();
    let kind = |field: &Value| match field["type"].as_str() {
        Some("integer") => "int",
        Some("number") => "double",
        _ => "string",
    };
    let expected: BTreeMap<String, String> =
        fields.iter().map(|(name, field)| (name.clone(), kind(field).to_owned())).collect();
    assert_eq!(columns, expected);
}
