use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::charging::tariff::{ChargingPeriod, PeriodState};
use crate::units::WattHours;

/// The maximum number of readings in a meter log. It bounds the size of an active session's item, which must stay under
/// 1 KB so that a tick costs one write unit.
pub const MAX_READINGS: usize = 8;

/// Powers that differ by no more than this belong to the same charging period, W.
const SAME_POWER_W: u32 = 2;

/// A meter reading. It marks the end of a period during which the power was constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Time since the start of the session, ms.
    pub offset_ms: i64,
    /// Register value at the reading.
    pub register: WattHours,
    /// Power since the previous reading, W. In a region where the power follows the charging curve, it is the mean
    /// power of the band of the curve.
    pub power_w: u32,
}

/// The reading at the start of a session.
const START: Reading = Reading { offset_ms: 0, register: WattHours(0), power_w: 0 };

/// The meter of a session: a register reading for every change of the power.
///
/// The last reading is open: it moves forward while the power stays the same, and it is always exact. The earlier
/// readings are fixed. When a session has more periods than the log can hold, the two adjacent fixed periods with the
/// smallest difference in power are merged. The log therefore stays the best description of the session in that many
/// periods. Neither the power of the open reading nor the choice of the merged periods depends on where the open
/// reading was before, so the log is the same no matter when it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterLog(Vec<Reading>);

impl MeterLog {
    /// Creates a log with the given readings, which must be in order of time.
    #[must_use]
    pub fn new(readings: Vec<Reading>) -> Self {
        Self(readings)
    }

    /// Returns the readings in order of time.
    #[must_use]
    pub fn readings(&self) -> &[Reading] {
        &self.0
    }

    /// Returns the current register value, Wh.
    #[must_use]
    pub fn register(&self) -> WattHours {
        self.0.last().map_or(WattHours(0), |reading| reading.register)
    }

    /// Returns the reading before the open one (zero at the start of the session) and the open reading.
    #[must_use]
    pub fn open(&self) -> Option<(Reading, Reading)> {
        let (last, standing) = self.0.split_last()?;
        Some((standing.last().copied().unwrap_or(START), *last))
    }

    /// Records a reading. If the power is the same as before, the open reading moves to the new one. Otherwise the open
    /// reading becomes fixed and the new reading is the open one. `stands` fixes the open reading even if the power is
    /// the same.
    ///
    /// Time moves forward and the register never falls. A reading that is not later than the last one can only raise
    /// the register of the last one, and a register value below the last one is replaced by the last one.
    pub fn record(&mut self, reading: Reading, stands: bool) {
        let last = self.0.last().copied().unwrap_or(START);
        let reading = Reading { register: reading.register.max(last.register), ..reading };
        let goes_on = last.power_w.abs_diff(reading.power_w) <= SAME_POWER_W && !stands;
        match self.0.last_mut() {
            Some(open) if reading.offset_ms <= open.offset_ms => open.register = reading.register,
            Some(open) if goes_on => (open.offset_ms, open.register) = (reading.offset_ms, reading.register),
            None if reading.offset_ms <= START.offset_ms => {}
            _ => {
                self.0.push(reading);
                if self.0.len() > MAX_READINGS {
                    self.merge_closest();
                }
            }
        }
    }

    fn merge_closest(&mut self) {
        // The last reading is open and is never merged.
        let closest = (1..self.0.len() - 1).min_by_key(|i| self.0[*i].power_w.abs_diff(self.0[*i - 1].power_w));
        let Some(index) = closest else { return };
        let from = index.checked_sub(2).map_or(0, |i| self.0[i].offset_ms);
        let (first, second) = (self.0[index - 1], self.0[index]);
        let energy = i128::from(first.power_w) * i128::from(first.offset_ms - from)
            + i128::from(second.power_w) * i128::from(second.offset_ms - first.offset_ms);
        let mean = energy / i128::from((second.offset_ms - from).max(1));
        self.0[index].power_w = u32::try_from(mean).unwrap_or(second.power_w);
        self.0.remove(index - 1);
    }

    /// Returns the charging periods between the readings of a session that started at `start`.
    #[must_use]
    pub fn periods(&self, start: Instant) -> Vec<ChargingPeriod> {
        let at = |offset_ms| start + chrono::Duration::milliseconds(offset_ms);
        let mut before = START;
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
