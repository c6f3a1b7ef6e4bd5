//! The charging model: how much power a vehicle takes at a state of charge, integrated in closed form.
//!
//! A [`ChargingModel`] says, for a state of charge and an offered power, over which stretch of the battery the power is
//! a linear function of the state of charge ([`Segment`]). On such a stretch `ds/dt = p(s) / C` has an exact solution,
//! so [`Battery`] never steps: cutting an interval in two changes nothing.
//!
//! Where the power is not constant, [`Battery::charge`] cuts it at whole kilowatts. Those cuts are fixed points of the
//! curve, so whoever reads a meter between them sees the same readings whenever the simulation was asked.

mod battery;
mod measured_curve;
mod simulation;
mod step_taper;
mod two_stage;

pub use battery::{Battery, Piece};
pub use measured_curve::{CurvePoint, MeasuredCurve};
pub use simulation::{Advance, Occupant, StationRun, Stretch};
pub use step_taper::StepTaper;
pub use two_stage::TwoStageLinear;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DomainError;

/// A stretch of the battery on which the charging power is linear in the state of charge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Where the stretch ends, % (above the state of charge asked for, at most 100).
    pub until_percent: f64,
    /// Power at the state of charge asked for, kW (above 0).
    pub start_kw: f64,
    /// Power at `until_percent`, kW (0 or more; 0 is approached, never reached).
    pub end_kw: f64,
    /// Power where the linear stretch that contains the state of charge began, kW. It is the same wherever on the
    /// stretch the model is asked.
    pub from_kw: f64,
}

impl Segment {
    /// Constant power up to `until_percent`.
    #[must_use]
    pub fn constant(until_percent: f64, kw: f64) -> Self {
        Self { until_percent, start_kw: kw, end_kw: kw, from_kw: kw }
    }
}

/// How a vehicle's battery takes power.
pub trait ChargingModel {
    /// The stretch that begins at `percent` (0 to below 100) while `offered_kw` (above 0) is offered: the share of
    /// the station's power, within the limits of port and vehicle. `None` when the battery takes nothing any more.
    fn segment(&self, percent: f64, offered_kw: f64) -> Option<Segment>;
}

/// A charging model as a station is configured with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ModelConfig {
    /// Multiplies what the port offers: 1.0 below 70 %, 0.6 below 90 %, 0.3 above.
    #[default]
    StepTaper,
    /// Caps it as ACN-Sim's two-stage linear battery does.
    TwoStageLinear(TwoStageLinear),
    /// Caps it by a measured curve.
    MeasuredCurve(MeasuredCurve),
}

impl ModelConfig {
    /// Whether the parameters make sense, named below `field`.
    ///
    /// # Errors
    /// Validation errors for every parameter out of range.
    pub fn validate(&self, field: &str) -> Result<(), DomainError> {
        match self {
            Self::StepTaper => Ok(()),
            Self::TwoStageLinear(model) => model.validate(field),
            Self::MeasuredCurve(curve) => curve.validate(field),
        }
    }

    /// The model for a vehicle that takes `vehicle_max_kw` at most.
    #[must_use]
    pub fn for_vehicle(&self, vehicle_max_kw: f64) -> VehicleModel<'_> {
        VehicleModel { config: self, vehicle_max_kw }
    }
}

/// A [`ModelConfig`] applied to one vehicle.
#[derive(Clone, Copy, Debug)]
pub struct VehicleModel<'a> {
    config: &'a ModelConfig,
    vehicle_max_kw: f64,
}

impl ChargingModel for VehicleModel<'_> {
    fn segment(&self, percent: f64, offered_kw: f64) -> Option<Segment> {
        match self.config {
            ModelConfig::StepTaper => StepTaper.segment(percent, offered_kw),
            ModelConfig::TwoStageLinear(model) => model.segment_for(percent, offered_kw, self.vehicle_max_kw),
            ModelConfig::MeasuredCurve(curve) => curve.segment(percent, offered_kw),
        }
    }
}
