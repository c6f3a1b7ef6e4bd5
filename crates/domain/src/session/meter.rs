use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::tariff::{ChargingPeriod, PeriodState};
use crate::units::WattHours;

/// The most readings a log keeps. It bounds the size of an active session's item, which must stay under 1 KB so that
/// a tick costs one write unit.
pub const MAX_READINGS: usize = 8;

/// Powers that differ by no more than this are one charging period, W.
const SAME_POWER_W: u32 = 2;

/// A reading of the meter: the end of a stretch during which energy flowed evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Milliseconds since the start of the session.
    pub offset_ms: i64,
    /// What the register showed.
    pub register: WattHours,
    /// Mean power since the reading before, W.
    pub power_w: u32,
}

/// The meter of a session: register readings where the power changed.
///
/// The last reading is exact, always. Where a session has more stretches than the log holds, the two neighbours that
/// differ least in power become one, so that the periods stay the best description of that size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterLog(Vec<Reading>);

impl MeterLog {
    /// A log with these readings, in order.
    #[must_use]
    pub fn new(readings: Vec<Reading>) -> Self {
        Self(readings)
    }

    /// The readings, in order.
    #[must_use]
    pub fn readings(&self) -> &[Reading] {
        &self.0
    }

    /// What the register shows, Wh.
    #[must_use]
    pub fn register(&self) -> WattHours {
        self.0.last().map_or(WattHours(0), |reading| reading.register)
    }

    /// Notes that the register shows `register` at `offset_ms` after `power_w` flowed since the last reading.
    ///
    /// The register never falls: a lower one is taken for the last.
    pub fn record(&mut self, offset_ms: i64, register: WattHours, power_w: u32) {
        let register = register.max(self.register());
        let before = self.0.last().map_or(0, |reading| reading.offset_ms);
        if offset_ms < before || (offset_ms == before && !self.0.is_empty() && register == self.register()) {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.power_w.abs_diff(power_w) <= SAME_POWER_W || offset_ms == before => {
                last.offset_ms = offset_ms;
                last.register = register;
            }
            _ => self.0.push(Reading { offset_ms, register, power_w }),
        }
        if self.0.len() > MAX_READINGS {
            self.merge_closest();
        }
    }

    fn merge_closest(&mut self) {
        let closest = (1..self.0.len()).min_by_key(|i| self.0[*i].power_w.abs_diff(self.0[*i - 1].power_w));
        let Some(index) = closest else { return };
        let from = index.checked_sub(2).map_or(0, |i| self.0[i].offset_ms);
        let (first, second) = (self.0[index - 1], self.0[index]);
        let energy = i128::from(first.power_w) * i128::from(first.offset_ms - from)
            + i128::from(second.power_w) * i128::from(second.offset_ms - first.offset_ms);
        let mean = energy / i128::from((second.offset_ms - from).max(1));
        self.0[index].power_w = u32::try_from(mean).unwrap_or(second.power_w);
        self.0.remove(index - 1);
    }

    /// The charging periods between the readings of a session that started at `start`.
    #[must_use]
    pub fn periods(&self, start: Instant) -> Vec<ChargingPeriod> {
        let at = |offset_ms| start + chrono::Duration::milliseconds(offset_ms);
        let mut before = Reading { offset_ms: 0, register: WattHours(0), power_w: 0 };
        let mut periods = Vec::with_capacity(self.0.len());
        for reading in &self.0 {
            periods.push(ChargingPeriod {
                start: at(before.offset_ms),
                end: at(reading.offset_ms),
                state: PeriodState::Charging,
                kwh: reading.register.since(before.register).kwh(),
                power_kw: Some(Decimal::new(i64::from(reading.power_w), 3)),
                current_a: None,
            });
            before = *reading;
        }
        periods
    }
}
