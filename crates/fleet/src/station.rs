use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Timelike, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// The number of batteries of a station.
const SLOTS: u32 = 16;
/// The state of charge from which a battery can be taken, 0 to 1.
const FULL: f64 = 0.95;
/// The capacity of a battery, kWh; typical for an electric scooter.
const CAPACITY_KWH: f64 = 1.8;
/// The power with which a battery is charged, kW.
const CHARGER_KW: f64 = 0.6;
/// The mean number of riders per hour over a day.
const SWAPS_PER_HOUR: f64 = 9.0;
/// The final temperature difference between a cabinet and its surroundings, K per kW of load.
const KELVIN_PER_KW: f64 = 1.5;
/// The thermal time constant, s: the time in which the difference to the final temperature falls by 63 %.
const THERMAL_TIME_CONSTANT: f64 = 900.0;

/// A simulated battery-swap station. Riders take full batteries and leave empty ones; charging these warms the cabinet.
///
/// The same seed gives the same station with the same readings.
#[derive(Debug)]
pub struct SwapStation {
    id: String,
    rng: StdRng,
    /// The state of charge of each battery, 0 to 1.
    batteries: Vec<f64>,
    /// The temperature difference between the cabinet and its surroundings, K.
    warming: f64,
    /// The time until the next rider, s.
    next_rider: f64,
    /// The mean temperature at the place, °C.
    climate: f64,
    /// The number of riders who found no full battery.
    turned_away: u64,
}

impl SwapStation {
    /// Creates the station `id` from a seed.
    #[must_use]
    pub fn new(id: impl Into<String>, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let batteries = (0..SLOTS).map(|_| rng.random_range(0.2..1.0)).collect();
        let climate = rng.random_range(8.0..24.0);
        let mut station =
            Self { id: id.into(), rng, batteries, warming: 0.0, next_rider: 0.0, climate, turned_away: 0 };
        station.warming = station.load_kw() * KELVIN_PER_KW;
        station
    }

    /// Returns the id of the station.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the number of batteries that can be taken.
    #[must_use]
    pub fn available(&self) -> u32 {
        SLOTS - self.charging()
    }

    /// Returns the number of batteries that are charging.
    #[must_use]
    pub fn charging(&self) -> u32 {
        self.batteries.iter().map(|charge| u32::from(*charge < FULL)).sum()
    }

    /// Returns the power that the station draws, kW.
    #[must_use]
    pub fn load_kw(&self) -> f64 {
        f64::from(self.charging()) * CHARGER_KW
    }

    /// The temperature difference between the cabinet and its surroundings, K.
    #[must_use]
    pub fn warming(&self) -> f64 {
        self.warming
    }

    /// Simulates `elapsed`. The time of day (`now`) determines the demand.
    pub fn advance(&mut self, elapsed: Duration, now: DateTime<Utc>) {
        let seconds = elapsed.as_secs_f64();
        self.charge(seconds);
        self.next_rider -= seconds;
        while self.next_rider <= 0.0 {
            self.swap();
            // Riders arrive as a Poisson process, so the times between them are exponentially distributed.
            let mean = 3600.0 / (SWAPS_PER_HOUR * demand(now));
            self.next_rider += -mean * (1.0 - self.rng.random::<f64>()).ln();
        }
        // Exact for a constant load over the interval.
        let settled = self.load_kw() * KELVIN_PER_KW;
        self.warming = settled + (self.warming - settled) * (-seconds / THERMAL_TIME_CONSTANT).exp();
    }

    fn charge(&mut self, seconds: f64) {
        let gain = CHARGER_KW * seconds / 3600.0 / CAPACITY_KWH;
        for charge in self.batteries.iter_mut().filter(|charge| **charge < FULL) {
            *charge = (*charge + gain).min(1.0);
        }
    }

    /// Lets a rider take the fullest battery and leave an empty one.
    fn swap(&mut self) {
        let empty = self.rng.random_range(0.05..0.3);
        match self.batteries.iter_mut().max_by(|a, b| a.total_cmp(b)).filter(|charge| **charge >= FULL) {
            Some(fullest) => *fullest = empty,
            None => self.turned_away += 1,
        }
    }

    /// Returns the message that the station sends now.
    pub fn reading(&mut self, now: DateTime<Utc>) -> Value {
        let outside = self.climate + 5.0 * (day_angle(now) - 2.4).sin();
        let inside = outside + self.warming + self.rng.random_range(-0.1..0.1);
        // The air inside contains as much water as outside. Because it is warmer, its relative humidity is lower.
        let humidity = 65.0 * saturation(outside) / saturation(inside) + self.rng.random_range(-0.5..0.5);
        let status = if self.available() == 0 { "degraded" } else { "operational" };
        json!({
            "station_id": self.id,
            "battery_available": self.available(),
            "battery_charging": self.charging(),
            "temperature": tenth(inside),
            "humidity": tenth(humidity.clamp(0.0, 100.0)),
            "status": status,
            "timestamp": now.to_rfc3339_opts(SecondsFormat::Millis, true),
        })
    }
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Returns the time of day as an angle, radians.
fn day_angle(now: DateTime<Utc>) -> f64 {
    f64::from(now.num_seconds_from_midnight()) / 86_400.0 * std::f64::consts::TAU
}

/// Returns the number of riders per hour relative to the mean: few at night, most in the evening.
fn demand(now: DateTime<Utc>) -> f64 {
    1.0 - 0.8 * (day_angle(now) - 1.3).cos()
}

/// Returns the saturation vapour pressure of water, hPa, at a temperature in °C (Magnus formula, WMO-No. 8).
fn saturation(celsius: f64) -> f64 {
    6.112 * (17.62 * celsius / (243.12 + celsius)).exp()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use testkit::seeded;

    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_772_500_000 + 60 * minutes, 0).unwrap_or_default()
    }

    proptest! {
        #![proptest_config(seeded(256))]

        #[test]
        fn batteries_are_available_or_charging_and_readings_are_valid(seed: u64, minutes in prop::collection::vec(0..600i64, 1..60)) {
            let mut station = SwapStation::new("s", seed);
            let mut now = 0;
            for elapsed in minutes {
                now += elapsed;
                station.advance(Duration::from_secs(60 * elapsed.unsigned_abs()), at(now));
                prop_assert_eq!(station.available() + station.charging(), SLOTS);
                let sent = station.reading(at(now));
                let reading: domain::telemetry::Reading = serde_json::from_value(sent.clone()).map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert!((-60.0..=150.0).contains(&reading.temperature) && (0.0..=100.0).contains(&reading.humidity), "{}", sent);
                prop_assert!(station.warming() >= -1e-9 && station.warming() <= f64::from(SLOTS) * CHARGER_KW * KELVIN_PER_KW + 1e-9);
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_readings() {
        let run = |seed| {
            let mut station = SwapStation::new("s", seed);
            let step = |minute| {
                station.advance(Duration::from_mins(1), at(minute));
                station.reading(at(minute)).to_string()
            };
            (0..200).map(step).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn temperature_follows_load() {
        let mut station = SwapStation::new("s", 1);
        station.batteries.fill(0.0);
        station.next_rider = f64::INFINITY;
        station.warming = 0.0;
        let mut before = 0.0;
        for minute in 0..60 {
            station.advance(Duration::from_mins(1), at(minute));
            assert!(station.warming() > before, "the cabinet warms while all batteries charge");
            before = station.warming();
        }
        station.batteries.fill(1.0);
        for minute in 0..60 {
            station.advance(Duration::from_mins(1), at(minute));
            assert!(station.warming() < before, "the cabinet cools when no battery charges");
            before = station.warming();
        }
        assert!(before < 0.5, "{before}");
    }
}
