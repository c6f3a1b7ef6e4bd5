//! Units that need a type of their own. Powers are `f64` kW and capacities `f64` kWh, named so.

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
