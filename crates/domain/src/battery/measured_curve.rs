use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ChargingModel, Segment};
use crate::error::{Checks, DomainError};
use crate::units::LEAST_POWER_KW;

/// One point of a measured charging curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CurvePoint {
    /// State of charge, %.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub percent: f64,
    /// Power that the vehicle draws at this state of charge, kW.
    #[schemars(range(min = LEAST_POWER_KW, max = 5000.0))]
    pub power_kw: f64,
}

/// A measured charging curve. It is linear between its points, constant beyond the first and the last point, and caps
/// the offered power.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeasuredCurve {
    /// Points in rising order of the state of charge, at most 16. The limit keeps the stored session small.
    #[schemars(length(min = 1, max = 16))]
    pub points: Vec<CurvePoint>,
}

/// The maximum number of points of a curve.
const MAX_POINTS: usize = 16;

impl MeasuredCurve {
    pub(super) fn validate(&self, field: &str) -> Result<(), DomainError> {
        let mut checks = Checks::new();
        let rising = self.points.windows(2).all(|pair| pair[0].percent < pair[1].percent);
        checks
            .require(
                (1..=MAX_POINTS).contains(&self.points.len()),
                format!("{field}.points"),
                format!("must have 1 to {MAX_POINTS} points"),
            )
            .require(rising, format!("{field}.points"), "must rise strictly in percent");
        for (index, point) in self.points.iter().enumerate() {
            checks
                .require(
                    (0.0..=100.0).contains(&point.percent),
                    format!("{field}.points[{index}].percent"),
                    "must be from 0 to 100",
                )
                .require(
                    (LEAST_POWER_KW..=5000.0).contains(&point.power_kw),
                    format!("{field}.points[{index}].powerKw"),
                    format!("must be from {LEAST_POWER_KW} to 5000"),
                );
        }
        checks.finish()
    }
}

impl ChargingModel for MeasuredCurve {
    fn segment(&self, percent: f64, offered_kw: f64) -> Option<Segment> {
        if percent >= 100.0 {
            return None;
        }
        let next = self.points.partition_point(|point| point.percent <= percent);
        let (from, to) = match (next.checked_sub(1).map(|i| self.points[i]), self.points.get(next)) {
            (Some(from), Some(to)) => (from, *to),
            (None, Some(first)) => {
                return Some(capped_constant(first.percent, first.power_kw, offered_kw));
            }
            (Some(last), None) => return Some(capped_constant(100.0, last.power_kw, offered_kw)),
            (None, None) => return None,
        };
        let slope = (to.power_kw - from.power_kw) / (to.percent - from.percent);
        let curve = |at: f64| from.power_kw + slope * (at - from.percent);
        let (start_kw, end_kw) = (curve(percent), to.power_kw);
        let from_kw = from.power_kw.min(offered_kw);
        if start_kw <= offered_kw && end_kw <= offered_kw {
            return Some(Segment { until_percent: to.percent, start_kw, end_kw, from_kw });
        }
        if start_kw >= offered_kw && end_kw >= offered_kw {
            return Some(Segment::constant(to.percent, offered_kw));
        }
        // The curve crosses the offered power within the range: the segment ends at the crossing.
        let crossing = from.percent + (offered_kw - from.power_kw) / slope;
        if crossing <= percent {
            // Rounding puts the crossing at or before `percent`, so the segment begins on the far side of the crossing.
            let until_percent = to.percent;
            return Some(if end_kw > offered_kw {
                Segment::constant(until_percent, offered_kw)
            } else {
                Segment { until_percent, start_kw: start_kw.min(offered_kw), end_kw, from_kw }
            });
        }
        let until_percent = crossing.min(to.percent);
        Some(if start_kw > offered_kw {
            Segment::constant(until_percent, offered_kw)
        } else {
            Segment { until_percent, start_kw, end_kw: offered_kw, from_kw }
        })
    }
}

fn capped_constant(until_percent: f64, curve_kw: f64, offered_kw: f64) -> Segment {
    Segment::constant(until_percent, curve_kw.min(offered_kw))
}
