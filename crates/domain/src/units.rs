//! Units that need a type of their own. Powers are `f64` values in kW and capacities are `f64` values in kWh; their
//! names end in `_kw` and `_kwh`.

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Values smaller than this are rounding errors, whatever they measure: 0.1 mm along a meridian, or a millionth of a
/// mW.
const NEGLIGIBLE: f64 = 1e-9;

/// The least energy that a request may name, kWh. It is 1 Wh, the resolution of the meter.
pub const LEAST_ENERGY_KWH: f64 = 0.001;

/// The least power that a request may name, kW. It is 1 W.
pub const LEAST_POWER_KW: f64 = 0.001;

/// Returns `value`, or 0 if `value` is so small that it can only be a rounding error. Databases cannot store such small
/// numbers.
#[must_use]
pub fn zero_if_negligible(value: f64) -> f64 {
    if value.abs() < NEGLIGIBLE { 0.0 } else { value }
}

/// Energy in whole watt-hours, as the billable meter register counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct WattHours(pub u64);

impl WattHours {
    /// Returns the register reading after `kwh` were delivered: the number of whole watt-hours, never rounded up.
    ///
    /// A shortfall of up to a millionth of a watt-hour is ignored, because binary floating point can represent 48 kWh
    /// as 47.999 999 999 9.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn register(kwh: f64) -> Self {
        Self((kwh * 1000.0 + 1e-6).floor().max(0.0) as u64)
    }

    /// Returns the exact energy in kWh, with three decimals.
    #[must_use]
    pub fn kwh(self) -> Decimal {
        Decimal::from_i128_with_scale(i128::from(self.0), 3)
    }

    /// Returns the energy in kWh, for contracts that carry a JSON number with at most three decimals.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn kwh_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Returns the energy counted since `earlier`, or 0 if `earlier` is the larger reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}
