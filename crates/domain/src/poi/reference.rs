//! OpenChargeMap's reference data, which explains the ids in its POIs.

use serde_json::{Map, Value};

/// The kinds of reference data that are mirrored, with their names in the API.
pub const KINDS: [&str; 9] = [
    "ConnectionTypes",
    "CurrentTypes",
    "ChargerTypes",
    "Operators",
    "StatusTypes",
    "SubmissionStatusTypes",
    "UsageTypes",
    "DataProviders",
    "Countries",
];

/// Returns the mirrored entries of one kind, or `None` if the API's answer does not contain the kind. Of each entry
/// only text, numbers and booleans are kept, and no email addresses or phone numbers. Field names begin in lower case,
/// as in Evoke's own API.
#[must_use]
pub fn entries(answer: &Value, kind: &str) -> Option<Vec<Value>> {
    let list = answer.get(kind)?.as_array()?;
    Some(list.iter().filter_map(Value::as_object).map(|entry| Value::Object(kept(entry))).collect())
}

fn kept(entry: &Map<String, Value>) -> Map<String, Value> {
    let personal = |name: &str| name.contains("Email") || name.contains("Phone");
    let plain = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    let fields = entry.iter().filter(|(name, value)| plain(value) && !personal(name));
    fields.map(|(name, value)| (lower(name), value.clone())).collect()
}

/// Converts a field name: `ID` becomes `id`, `ISOCode` becomes `isoCode`, `WebsiteURL` becomes `websiteURL`.
fn lower(name: &str) -> String {
    let capitals = name.chars().take_while(char::is_ascii_uppercase).count();
    let all = capitals == name.chars().count();
    let lowered = if all { capitals } else { capitals.saturating_sub(1).max(1) };
    name.chars().enumerate().map(|(n, c)| if n < lowered { c.to_ascii_lowercase() } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn entries_keep_plain_fields_without_personal_data() {
        let answer = json!({ "Countries": [
            { "ID": 87, "ISOCode": "DE", "ContinentCode": "EU", "Title": "Germany", "Nested": { "ID": 1 }, "Nothing": null },
            { "ID": 1, "WebsiteURL": "https://example.com", "ContactEmail": "a@example.com", "PhonePrimaryContact": "1" },
            7,
        ]});
        let kept = entries(&answer, "Countries").unwrap_or_default();
        assert_eq!(kept[0], json!({ "id": 87, "isoCode": "DE", "continentCode": "EU", "title": "Germany" }));
        assert_eq!(kept[1], json!({ "id": 1, "websiteURL": "https://example.com" }));
        assert_eq!((kept.len(), entries(&answer, "Operators")), (2, None));
    }
}
