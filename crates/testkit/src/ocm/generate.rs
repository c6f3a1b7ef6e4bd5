//! Generated POIs and reference data with the variety of OpenChargeMap's.

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

/// Places with many POIs: latitude, longitude, extent in degrees, and the id of the country in OpenChargeMap.
const PLACES: [(f64, f64, f64, u32); 10] = [
    (52.52, 13.40, 0.4, 87),
    (48.14, 11.58, 0.6, 87),
    (51.0, 10.0, 3.5, 87),
    (51.51, -0.13, 0.5, 1),
    (53.0, -2.0, 2.5, 1),
    (52.3, 4.9, 1.0, 159),
    (48.86, 2.35, 2.0, 80),
    (59.9, 10.75, 3.0, 168),
    (-17.0, 179.9, 0.6, 76),
    (78.2, 15.6, 0.5, 168),
];
/// Plugs: connection type, power (kW), voltage (V), current (A), current type.
const PLUGS: [(u32, f64, u32, u32, u32); 7] = [
    (25, 22.0, 400, 32, 20),
    (25, 11.0, 400, 16, 20),
    (33, 50.0, 400, 125, 30),
    (33, 150.0, 1000, 300, 30),
    (33, 300.0, 1000, 500, 30),
    (2, 50.0, 400, 125, 30),
    (28, 3.7, 230, 16, 10),
];
const WORDS: [&str; 12] = [
    "Station",
    "Markt",
    "Zentrum",
    "Parkhaus",
    "Rue",
    "High Street",
    "Å-vei",
    "Straße",
    "Hotel",
    "Supermarkt",
    "P+R",
    "\"Nord\"",
];

/// Generates a POI in the compact form. The same `id` and `seed` give the same POI.
#[must_use]
pub fn poi(id: u32, seed: u64) -> Value {
    let mut rng = StdRng::seed_from_u64(seed ^ (u64::from(id) << 20));
    let (latitude, longitude, around, country) = *PLACES.choose(&mut rng).expect("places");
    let created = at("2012-01-01T00:00:00Z") + TimeDelta::minutes(rng.random_range(0..6_500_000));
    let modified = created + TimeDelta::seconds(rng.random_range(0..40_000_000));
    let longitude = (longitude + rng.random_range(-around..around) + 540.0_f64).rem_euclid(360.0) - 180.0;
    let mut address = json!({
        "ID": id + 700, "Title": title(&mut rng), "AddressLine1": format!("{} {} ", title(&mut rng), id % 300),
        "Town": title(&mut rng), "Postcode": format!("{:05} ", id % 99_999), "CountryID": country,
        "Latitude": latitude + rng.random_range(-around..around), "Longitude": longitude, "DistanceUnit": 0
    });
    match rng.random_range(0..200) {
        0 => (address["Latitude"], address["Longitude"]) = (json!(0), json!(0)),
        1 => address["Latitude"] = Value::Null,
        2 => (address["AddressLine2"], address["StateOrProvince"]) = (json!(title(&mut rng)), json!("")),
        3 => address["ContactTelephone1"] = json!("+49 30 1234567"),
        4 => address["AccessComments"] = json!("24/7\r\nopen, \u{1F50C} behind the barrier"),
        _ => {}
    }
    let mut poi = json!({
        "ID": id, "UUID": uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &id.to_be_bytes()), "DataProviderID": rng.random_range(1..4),
        "AddressInfo": address, "Connections": connections(id, &mut rng), "DateCreated": text(created),
        "DateLastStatusUpdate": text(modified), "SubmissionStatusTypeID": 200, "StatusTypeID": 50
    });
    extras(poi.as_object_mut().expect("an object"), id, &mut rng);
    poi
}

/// Adds optional fields, of which each POI has some.
fn extras(poi: &mut Map<String, Value>, id: u32, rng: &mut StdRng) {
    let chance = |rng: &mut StdRng, percent: u32| rng.random_range(0..100) < percent;
    if chance(rng, 75) {
        poi.insert("OperatorID".to_owned(), json!(rng.random_range(1..80)));
    }
    if chance(rng, 90) {
        poi.insert("UsageTypeID".to_owned(), json!(rng.random_range(0..8)));
    }
    if chance(rng, 60) {
        poi.insert("UsageCost".to_owned(), json!(format!("0,{}€/kWh  ", rng.random_range(29..89))));
    }
    if chance(rng, 90) {
        poi.insert("NumberOfPoints".to_owned(), json!(rng.random_range(0..12)));
    }
    if chance(rng, 50) {
        let comments = (0..rng.random_range(5..60)).map(|_| title(rng)).collect::<Vec<_>>().join(", ");
        poi.insert("GeneralComments".to_owned(), json!(format!("{comments}\n\t\\o/")));
    }
    if chance(rng, 30) {
        poi.insert("DateLastVerified".to_owned(), poi["DateLastStatusUpdate"].clone());
        poi.insert("IsRecentlyVerified".to_owned(), json!(false));
    }
    if chance(rng, 10) {
        poi.insert("MediaItems".to_owned(), Value::Null);
        poi.insert("UserComments".to_owned(), json!([{ "ID": id, "UserName": "somebody", "Comment": "works ] } [" }]));
    }
    if chance(rng, 3) {
        poi.remove("DateLastStatusUpdate");
    }
    if chance(rng, 2) {
        poi.remove("Connections");
    }
}

fn connections(id: u32, rng: &mut StdRng) -> Value {
    let connection = |number: u32, rng: &mut StdRng| {
        let (kind, power, voltage, amps, current) = *PLUGS.choose(rng).expect("plugs");
        match rng.random_range(0..12) {
            0 => json!({ "ID": id * 4 + number, "ConnectionTypeID": 0, "Quantity": 1 }),
            1 => {
                json!({ "ID": id * 4 + number, "ConnectionTypeID": kind, "PowerKW": null, "LevelID": 2, "Reference": "" })
            }
            2 => json!({ "ID": id * 4 + number, "ConnectionTypeID": kind, "PowerKW": 0, "Amps": 0, "StatusTypeID": 0 }),
            _ => json!({
                "ID": id * 4 + number, "ConnectionTypeID": kind, "StatusTypeID": 50, "LevelID": 2, "Amps": amps,
                "Voltage": voltage, "PowerKW": power, "CurrentTypeID": current, "Quantity": rng.random_range(1..9)
            }),
        }
    };
    (0..rng.random_range(0..4)).map(|number| connection(number, rng)).collect::<Vec<_>>().into()
}

fn title(rng: &mut StdRng) -> String {
    let words: Vec<&str> = (0..rng.random_range(1..4)).map(|_| *WORDS.choose(rng).expect("words")).collect();
    words.join(" ")
}

/// Returns a few entries for each kind of reference data of the API.
#[must_use]
pub fn reference_data() -> Value {
    let list = |titles: &[(u32, &str)]| -> Value {
        titles.iter().map(|(id, title)| json!({ "ID": id, "Title": title })).collect::<Vec<_>>().into()
    };
    let operators: Vec<Value> = (1..80)
        .map(|id| json!({ "ID": id, "Title": format!("Operator {id}"), "WebsiteURL": null, "ContactEmail": "o@example.com" }))
        .collect();
    let provider = |id: u32, title: &str, licence: &str| json!({ "ID": id, "Title": title, "License": licence, "IsOpenDataLicensed": true, "WebsiteURL": "https://example.com" });
    json!({
        "ConnectionTypes": list(&[(0, "Unknown"), (2, "CHAdeMO"), (25, "Type 2"), (28, "Schuko"), (33, "CCS (Type 2)")]),
        "CurrentTypes": list(&[(10, "AC (Single-Phase)"), (20, "AC (Three-Phase)"), (30, "DC")]),
        "ChargerTypes": list(&[(1, "Level 1"), (2, "Level 2"), (3, "Level 3")]),
        "StatusTypes": list(&[(0, "Unknown"), (50, "Operational"), (100, "Not Operational")]),
        "SubmissionStatusTypes": list(&[(1, "Under Review"), (100, "Imported"), (200, "Published")]),
        "UsageTypes": list(&[(0, "Unknown"), (1, "Public"), (5, "Public - Pay At Location")]),
        "Countries": [
            { "ID": 1, "ISOCode": "GB", "Title": "United Kingdom" }, { "ID": 76, "ISOCode": "FJ", "Title": "Fiji" },
            { "ID": 80, "ISOCode": "FR", "Title": "France" }, { "ID": 87, "ISOCode": "DE", "Title": "Germany" },
            { "ID": 159, "ISOCode": "NL", "Title": "Netherlands" }, { "ID": 168, "ISOCode": "NO", "Title": "Norway" },
        ],
        "DataProviders": [
            provider(1, "Contributors", "CC BY-SA 4.0"), provider(2, "A city", "CC BY 4.0"), provider(3, "A network", "CC0"),
        ],
        "Operators": operators,
    })
}

pub(super) fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// Formats a time as the API does.
pub(super) fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
