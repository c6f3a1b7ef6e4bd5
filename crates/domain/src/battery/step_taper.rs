use super::{ChargingModel, Segment};

/// The default model: the power factor falls in steps with the state of charge.
///
/// The factor is 1.0 below 70 %, 0.6 from 70 % to below 90 %, and 0.3 from 90 %. It multiplies the power that the port
/// offers.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepTaper;

/// Steps: (upper end in %, factor).
const STEPS: [(f64, f64); 3] = [(70.0, 1.0), (90.0, 0.6), (100.0, 0.3)];

impl ChargingModel for StepTaper {
    fn segment(&self, percent: f64, offered_kw: f64) -> Option<Segment> {
        let (until, factor) = STEPS.into_iter().find(|(until, _)| percent < *until)?;
        Some(Segment::constant(until, offered_kw * factor))
    }
}
