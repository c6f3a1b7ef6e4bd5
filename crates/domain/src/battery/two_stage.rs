use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Segment;
use crate::error::{Checks, DomainError};

/// ACN-Sim's two-stage linear battery: the vehicle's maximum power up to a transition, then a linear decrease to zero
/// at 100 %.
///
/// Source: caltech-netlab/acnportal, `acnsim/models/battery.py`, `Linear2StageBattery` (without its noise term). The
/// second stage approaches 100 % without reaching it, so a cut-off power ends it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TwoStageLinear {
    /// State of charge at which the second stage begins, % (0 to 99).
    #[serde(default = "default_transition")]
    #[schemars(range(min = 0.0, max = 99.0))]
    pub transition_percent: f64,
    /// Cut-off power, kW. Charging ends when the vehicle draws no more than this.
    #[serde(default = "default_cutoff")]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub cutoff_kw: f64,
}

/// The lowest cut-off power, kW. Without it a session would approach 100 % for ever.
const LEAST_CUTOFF_KW: f64 = 1e-7;

fn default_transition() -> f64 {
    80.0
}

fn default_cutoff() -> f64 {
    0.1
}

impl Default for TwoStageLinear {
    fn default() -> Self {
        Self { transition_percent: default_transition(), cutoff_kw: default_cutoff() }
    }
}

impl TwoStageLinear {
    pub(super) fn validate(&self, field: &str) -> Result<(), DomainError> {
        let mut checks = Checks::new();
        checks
            .require(
                (0.0..=99.0).contains(&self.transition_percent),
                format!("{field}.transitionPercent"),
                "must be from 0 to 99",
            )
            .require((0.0..=1000.0).contains(&self.cutoff_kw), format!("{field}.cutoffKw"), "must be from 0 to 1000");
        checks.finish()
    }

    /// Returns the segment from `percent` for a vehicle that draws `vehicle_max_kw` below the transition.
    pub(super) fn segment_for(&self, percent: f64, offered_kw: f64, vehicle_max_kw: f64) -> Option<Segment> {
        let span = 100.0 - self.transition_percent;
        let cap = |at: f64| vehicle_max_kw * ((100.0 - at) / span).min(1.0);
        let full = 100.0 - span * (self.cutoff_kw.max(LEAST_CUTOFF_KW) / vehicle_max_kw).min(1.0);
        if percent >= full {
            return None;
        }
        let falling = || Segment {
            until_percent: full,
            start_kw: cap(percent),
            end_kw: cap(full),
            from_kw: vehicle_max_kw.min(offered_kw),
        };
        if cap(percent) <= offered_kw && percent >= self.transition_percent {
            return Some(falling());
        }
        // The cap meets the offered power where 100 - s = span * offered / maximum.
        let meets = 100.0 - span * (offered_kw / vehicle_max_kw).min(1.0);
        if percent < meets {
            return Some(Segment::constant(meets.min(full), offered_kw.min(vehicle_max_kw)));
        }
        Some(falling())
    }
}
