use serde_json::{Value, json};

/// The fields of [`SessionUpdate`](crate::SessionUpdate) in a document; the others likewise.
const SESSION: &str = "sessionId userId stationId portId status reason percent energyKwh cost currency startedAt \
                       endedAt occurredAt version";
const STATION: &str =
    "stationId status name ports freePorts chargingPorts portId portStatus deleted occurredAt version";
const PROGRESS: &str = "stationId at sessions { portId sessionId percent powerKw energyKwh }";
const WALLET: &str = "userId balance currency reason reference occurredAt version";
const SWAP_STATION: &str = "stationId status batteryAvailable batteryCharging occurredAt receivedAt";
const ALERT: &str = "logId kind level service message occurredAt";

/// A subscription: a document with one field of the type Subscription, and its variables.
///
/// Each subscription that has a constructor here asks for all fields, so that its updates can be read as
/// [`Update`](crate::Update)s.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub(crate) document: String,
    pub(crate) variables: Value,
}

impl Subscription {
    /// Creates a subscription from any document.
    #[must_use]
    pub fn new(document: impl Into<String>, variables: Value) -> Self {
        Self { document: document.into(), variables }
    }

    /// The starts and ends of all sessions that the subscriber may see.
    #[must_use]
    pub fn sessions() -> Self {
        Self::new(format!("subscription Watch {{ sessionChanged {{ {SESSION} }} }}"), json!({}))
    }

    /// The start and end of one session.
    #[must_use]
    pub fn session(session_id: &str) -> Self {
        Self::by("sessionChanged", "sessionId", session_id, SESSION)
    }

    /// The starts and ends of the sessions of a user.
    #[must_use]
    pub fn sessions_of(user_id: &str) -> Self {
        Self::by("sessionChanged", "userId", user_id, SESSION)
    }

    /// The starts and ends of the sessions at a station.
    #[must_use]
    pub fn sessions_at(station_id: &str) -> Self {
        Self::by("sessionChanged", "stationId", station_id, SESSION)
    }

    /// The changes of a station and its ports.
    #[must_use]
    pub fn station(station_id: &str) -> Self {
        Self::by("stationChanged", "stationId", station_id, STATION)
    }

    /// The progress of the sessions at a station, after each tick.
    #[must_use]
    pub fn progress_at(station_id: &str) -> Self {
        Self::by("stationProgress", "stationId", station_id, PROGRESS)
    }

    /// The changes of a user's wallet.
    #[must_use]
    pub fn wallet(user_id: &str) -> Self {
        Self::by("walletChanged", "userId", user_id, WALLET)
    }

    /// The changes of a battery-swap station.
    #[must_use]
    pub fn swap_station(station_id: &str) -> Self {
        Self::by("swapStationChanged", "stationId", station_id, SWAP_STATION)
    }

    /// The new entries of the error log that need the attention of operators.
    #[must_use]
    pub fn operator_alerts() -> Self {
        Self::new(format!("subscription Watch {{ operatorAlert {{ {ALERT} }} }}"), json!({}))
    }

    /// Creates a subscription with one argument. The other arguments are left out, and not null: `AppSync` compares
    /// null with the updates, too.
    fn by(field: &str, argument: &str, value: &str, selection: &str) -> Self {
        let document =
            format!("subscription Watch(${argument}: ID!) {{ {field}({argument}: ${argument}) {{ {selection} }} }}");
        Self::new(document, json!({ argument: value }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::Update;

    /// Returns the fields of the types in the live part of the schema: their names and types, by the type.
    fn types() -> BTreeMap<String, Vec<(String, String)>> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infrastructure/graphql/live.graphql");
        let schema = std::fs::read_to_string(file).unwrap();
        let (mut types, mut current) = (BTreeMap::new(), None);
        for line in schema.lines() {
            if let Some(rest) = line.strip_prefix("type ") {
                current = rest.split_whitespace().next().map(str::to_owned);
            } else if line.starts_with('}') {
                current = None;
            } else if let (Some(name), Some((field, kind))) = (&current, line.trim().split_once(": "))
                && !line.trim().starts_with('#')
            {
                types.entry(name.clone()).or_insert_with(Vec::new).push((field.to_owned(), kind.to_owned()));
            }
        }
        types
    }

    /// Returns a value of a type.
    fn example(kind: &str, types: &BTreeMap<String, Vec<(String, String)>>) -> Value {
        let kind = kind.trim_end_matches('!');
        if let Some(inner) = kind.strip_prefix('[') {
            return json!([example(inner.trim_end_matches(']'), types)]);
        }
        match kind {
            "Int" => json!(7),
            "Float" => json!(7.5),
            "Boolean" => json!(true),
            "AWSDateTime" => json!("2026-03-03T10:00:00Z"),
            "SessionStatus" => json!("IN_PROGRESS"),
            "StationStatus" => json!("ACTIVE"),
            "PortStatus" => json!("FREE"),
            "SwapStationStatus" => json!("operational"),
            name if types.contains_key(name) => {
                types[name].iter().map(|(field, kind)| (field.clone(), example(kind, types))).collect()
            }
            _ => json!("text"),
        }
    }

    /// Returns the names in a selection.
    fn names(selection: &str) -> Vec<&str> {
        selection.split_whitespace().filter(|name| !["{", "}"].contains(name)).collect()
    }

    #[test]
    fn a_subscription_asks_for_every_field_and_its_update_is_read() {
        let types = types();
        for (kind, field, selection) in [
            ("SessionUpdate", "sessionChanged", SESSION),
            ("StationUpdate", "stationChanged", STATION),
            ("StationProgress", "stationProgress", PROGRESS),
            ("WalletUpdate", "walletChanged", WALLET),
            ("SwapStationUpdate", "swapStationChanged", SWAP_STATION),
            ("OperatorAlert", "operatorAlert", ALERT),
        ] {
            let mut fields: Vec<&str> = types[kind].iter().map(|(name, _)| name.as_str()).collect();
            if kind == "StationProgress" {
                fields.extend(types["SessionProgress"].iter().map(|(name, _)| name.as_str()));
            }
            assert_eq!(names(selection), fields, "{kind}");
            let update = json!({ field: example(kind, &types) });
            serde_json::from_value::<Update>(update.clone()).unwrap_or_else(|error| panic!("{update}: {error}"));
        }
    }

    #[test]
    fn an_argument_is_a_variable() {
        let subscription = Subscription::sessions_of("u-1");
        let expected = "subscription Watch($userId: ID!) { sessionChanged(userId: $userId) { sessionId userId ";
        assert!(subscription.document.starts_with(expected), "{}", subscription.document);
        assert_eq!(subscription.variables, json!({ "userId": "u-1" }));
    }
}
