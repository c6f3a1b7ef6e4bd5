//! Units that need a type of their own. Powers are `f64` kW and capacities `f64` kWh, named so.

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Smaller numbers than this are rounding errors, whatever they measure: 0.1 mm of a meridian, a millionth of a mW.
const NEGLIGIBLE: f64 = 1e-9;

/// The least energy that a request may name, kWh: 1 Wh, the resolution of the meter.
pub const LEAST_ENERGY_KWH: f64 = 0.001;

/// The least power that a request may name, kW: 1 W.
pub const LEAST_POWER_KW: f64 = 0.001;

/// `value`, or 0 where it is so small that it can only be a rounding error. Databases cannot store it.
#[must_use]
pub fn zero_if_negligible(value: f64) -> f64 {
    if value.abs() < NEGLIGIBLE { 0.0 } else { value }
}

/// Energy as the billable meter register counts it: whole watt-hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct WattHours(pub u64);

impl WattHours {
    /// The register reading after `kwh` were delivered: the whole watt-hours of it, never rounded up.
    ///
    /// A millionth of a watt-hour is forgiven, because binary floating point writes 48 kWh as 47.999 999 999 9.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn register(kwh: f64) -> Self {
        Self((kwh * 1000.0 + 1e-6).floor().max(0.0) as u64)
    }

    /// Exactly, in kWh with three decimals.
    #[must_use]
    pub fn kwh(self) -> Decimal {
        Decimal::from_i128_with_scale(i128::from(self.0), 3)
    }

    /// In kWh, for contracts that carry a JSON number with at most three decimals.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn kwh_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}
