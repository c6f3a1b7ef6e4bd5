//! The story of the demo: three stations, eight vehicles, one hour.

use serde_json::{Value, json};

/// A station of the story.
pub struct Site {
    pub key: &'static str,
    pub name: &'static str,
    pub power_kw: f64,
    /// The arguments of `createStation` apart from name, place and ports.
    pub settings: fn() -> Value,
    pub latitude: f64,
    pub longitude: f64,
    pub ports: &'static [(&'static str, f64)],
}

/// A vehicle of the story.
pub struct Driver {
    pub user: &'static str,
    pub brand: &'static str,
    pub vehicle: &'static str,
    pub site: &'static str,
    pub port: u32,
    pub capacity_kwh: f64,
    pub max_kw: f64,
    pub percent: f64,
    pub target: f64,
    pub limits: fn() -> Value,
    /// The amount that is paid into the wallet beforehand, EUR. If it is empty, nothing is paid in.
    pub wallet: &'static str,
}

fn no_limits() -> Value {
    json!({})
}

pub const SITES: [Site; 3] = [
    Site {
        key: "hbf",
        name: "Hauptbahnhof",
        power_kw: 300.0,
        settings: || json!({ "pricePerKwh": "0.59", "currency": "EUR" }),
        latitude: 52.5251,
        longitude: 13.3694,
        ports: &[("CCS2", 150.0), ("CCS2", 150.0), ("CHADEMO", 50.0)],
    },
    Site {
        key: "mall",
        name: "Shopping centre",
        power_kw: 44.0,
        // An OCPI tariff that also has prices per session and per hour, with VAT, and two-stage batteries.
        settings: || {
            json!({
                "tariff": { "currency": "EUR", "elements": [
                    { "price_components": [
                        { "type": "FLAT", "price": "0.50", "vat": "19", "step_size": 1 },
                        { "type": "ENERGY", "price": "0.39", "vat": "19", "step_size": 1 },
                        { "type": "TIME", "price": "1.20", "vat": "19", "step_size": 60 }
                    ] }
                ] },
                "chargingModel": { "type": "TWO_STAGE_LINEAR" }
            })
        },
        latitude: 52.5076,
        longitude: 13.3904,
        ports: &[("TYPE2", 22.0), ("TYPE2", 22.0), ("TYPE2", 11.0)],
    },
    Site {
        key: "a10",
        name: "Motorway A10",
        power_kw: 400.0,
        // A measured curve: Volkswagen ID.4, 77 kWh (open-ev-data, MIT).
        settings: || {
            json!({
                "tariff": {
                    "currency": "EUR",
                    "elements": [{ "price_components": [{ "type": "ENERGY", "price": "0.66", "vat": "19", "step_size": 1 }] }],
                    "min_price": { "excl_vat": "1.00", "incl_vat": "1.19" }
                },
                "chargingModel": { "type": "MEASURED_CURVE", "points": [
                    { "percent": 0, "powerKw": 125 }, { "percent": 30, "powerKw": 125 }, { "percent": 70, "powerKw": 65 },
                    { "percent": 80, "powerKw": 65 }, { "percent": 100, "powerKw": 22 }
                ] }
            })
        },
        latitude: 52.3906,
        longitude: 13.0645,
        ports: &[("CCS2", 200.0), ("CCS2", 200.0)],
    },
];

pub const DRIVERS: [Driver; 8] = [
    Driver {
        user: "ada",
        brand: "Volkswagen",
        vehicle: "ID.3",
        site: "hbf",
        port: 1,
        capacity_kwh: 58.0,
        max_kw: 120.0,
        percent: 18.0,
        target: 80.0,
        limits: no_limits,
        wallet: "50.00",
    },
    Driver {
        user: "bert",
        brand: "Tesla",
        vehicle: "Model 3",
        site: "hbf",
        port: 2,
        capacity_kwh: 75.0,
        max_kw: 150.0,
        percent: 9.0,
        target: 100.0,
        limits: no_limits,
        wallet: "50.00",
    },
    Driver {
        user: "chen",
        brand: "Nissan",
        vehicle: "Leaf",
        site: "hbf",
        port: 3,
        capacity_kwh: 39.0,
        max_kw: 46.0,
        percent: 40.0,
        target: 90.0,
        limits: no_limits,
        wallet: "20.00",
    },
    Driver {
        user: "dora",
        brand: "Renault",
        vehicle: "Zoe",
        site: "mall",
        port: 1,
        capacity_kwh: 52.0,
        max_kw: 22.0,
        percent: 55.0,
        target: 100.0,
        limits: || json!({ "maxCost": "5.00" }),
        wallet: "20.00",
    },
    Driver {
        user: "emre",
        brand: "Peugeot",
        vehicle: "e-208",
        site: "mall",
        port: 2,
        capacity_kwh: 46.0,
        max_kw: 11.0,
        percent: 70.0,
        target: 95.0,
        limits: no_limits,
        wallet: "20.00",
    },
    Driver {
        user: "fay",
        brand: "Renault",
        vehicle: "Twingo",
        site: "mall",
        port: 3,
        capacity_kwh: 21.0,
        max_kw: 11.0,
        percent: 30.0,
        target: 100.0,
        limits: no_limits,
        wallet: "",
    },
    Driver {
        user: "goro",
        brand: "Volkswagen",
        vehicle: "ID.4",
        site: "a10",
        port: 1,
        capacity_kwh: 77.0,
        max_kw: 135.0,
        percent: 12.0,
        target: 80.0,
        limits: no_limits,
        wallet: "60.00",
    },
    Driver {
        user: "hana",
        brand: "Volkswagen",
        vehicle: "ID.4",
        site: "a10",
        port: 2,
        capacity_kwh: 77.0,
        max_kw: 135.0,
        percent: 35.0,
        target: 100.0,
        limits: || json!({ "prepaid": true }),
        wallet: "12.00",
    },
];

/// A driver who asks for the session of another one.
pub const STRANGER: (&str, &str) = ("chen", "ada");
/// The minute at which a driver unplugs early, and the driver.
pub const STOP: (u32, &str) = (20, "bert");
/// The minute at which a port fails, and the driver who charges there.
pub const FAILURE: (u32, &str) = (30, "emre");
/// A driver who charges without money in the wallet and pays in `LATE_TOP_UP` (EUR) afterwards.
pub const LATE_PAYER: &str = "fay";
pub const LATE_TOP_UP: &str = "25.00";
