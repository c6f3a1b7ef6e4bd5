use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::charging::tariff::{ChargingPeriod, PeriodState};
use crate::units::WattHours;

/// The most readings a log keeps. It bounds the size of an active session's item, which must stay under 1 KB so that
/// a tick costs one write unit.
pub const MAX_READINGS: usize = 8;

/// Powers that differ by no more than this are one charging period, W.
const SAME_POWER_W: u32 = 2;

/// A reading of the meter: the end of a period during which energy flowed evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Milliseconds since the start of the session.
    pub offset_ms: i64,
    /// What the register showed.
    pub register: WattHours,
    /// Power since the reading before, W: the constant one, or the mean of the band of the curve that was gone through.
    pub power_w: u32,
}

/// What the meter shows at the start of a session.
const START: Reading = Reading { offset_ms: 0, register: WattHours(0), power_w: 0 };

/// The meter of a session: register readings where the power changed.
///
/// The last reading is open: it moves on while the power stays the same, and is exact, always. The others stand. Where
/// a session has more periods than the log holds, the two neighbours among the standing ones that differ least in
/// power become one, so that the periods stay the best description of that size. Since neither an open reading's power
/// nor what is merged depends on where the open reading was last moved to, the log is the same whenever it was written.
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

    /// The open reading, and the one before it (zero at the start of the session).
    #[must_use]
    pub fn open(&self) -> Option<(Reading, Reading)> {
        let (last, standing) = self.0.split_last()?;
        Some((standing.last().copied().unwrap_or(START), *last))
    }

    /// Notes a reading: at the same power as before the open reading moves there, otherwise it stands and the new one
    /// is open. `stands` says that it stands even at the same power.
    ///
    /// Time goes forward, and the register never falls: a reading that is not later than the last one can only raise
    /// its register, and a lower register is taken for the last.
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
        // The last one is open and stays alone.
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

    /// The charging periods between the readings of a session that started at `start`.
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
