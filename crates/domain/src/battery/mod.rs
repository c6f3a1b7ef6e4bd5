//! The charging model: the power that a vehicle draws at a state of charge, integrated in closed form.
//!
//! A [`ChargingModel`] returns, for a state of charge and an offered power, a range of the state of charge over which
//! the power is linear in the state of charge ([`Segment`]). Over such a range `ds/dt = p(s) / C` has an exact
//! solution, so [`Battery`] needs no time steps: cutting an interval in two changes nothing.
//!
//! Where the power is not constant, [`Battery::charge`] cuts the charge at whole kilowatts. These cuts are fixed points
//! of the curve. A meter that is read between them therefore shows the same readings no matter when the simulation was
//! advanced.

mod measured_curve;
mod pack;
mod simulation;
mod step_taper;
mod two_stage;

pub use measured_curve::{CurvePoint, MeasuredCurve};
pub use pack::{Battery, Piece};
pub use simulation::{Advance, Occupant, StationRun, Stretch};
pub use step_taper::StepTaper;
pub use two_stage::TwoStageLinear;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DomainError;

/// A range of the state of charge over which the charging power is linear in the state of charge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// State of charge at the end of the range, %. It is above the requested state of charge and at most 100.
    pub until_percent: f64,
    /// Power at the requested state of charge, kW (above 0).
    pub start_kw: f64,
    /// Power at `until_percent`, kW (0 or more). A power of 0 is approached but never reached.
    pub end_kw: f64,
    /// Power at the beginning of the linear range that contains the requested state of charge, kW. It is the same for
    /// every state of charge within the range.
    pub from_kw: f64,
}

impl Segment {
    /// Creates a segment of constant power up to `until_percent`.
    #[must_use]
    pub fn constant(until_percent: f64, kw: f64) -> Self {
        Self { until_percent, start_kw: kw, end_kw: kw, from_kw: kw }
    }
}

/// The way in which a vehicle's battery draws power.
pub trait ChargingModel {
    /// Returns the segment that begins at `percent` (0 to below 100) while `offered_kw` (above 0) is offered. The offer
    /// is the share of the station's power, within the limits of the port and the vehicle. Returns `None` if the
    /// battery accepts no more energy.
    fn segment(&self, percent: f64, offered_kw: f64) -> Option<Segment>;
}

/// Charging model of a station: how vehicles draw power there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ModelConfig {
    /// Multiplies the power that the port offers by a factor: 1.0 below 70 %, 0.6 below 90 %, 0.3 above.
    #[default]
    StepTaper,
    /// Caps the offered power as ACN-Sim's two-stage linear battery does.
    TwoStageLinear(TwoStageLinear),
    /// Caps the offered power by a measured charging curve.
    MeasuredCurve(MeasuredCurve),
}

impl ModelConfig {
    /// Checks the parameters. `field` is the path of the model in the request; the errors name the fields below it.
    ///
    /// # Errors
    /// `Validation` for every parameter that is out of range.
    pub fn validate(&self, field: &str) -> Result<(), DomainError> {
        match self {
            Self::StepTaper => Ok(()),
            Self::TwoStageLinear(model) => model.validate(field),
            Self::MeasuredCurve(curve) => curve.validate(field),
        }
    }

    /// Returns the model for a vehicle that draws at most `vehicle_max_kw`.
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
