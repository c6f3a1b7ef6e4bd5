use super::{ChargingModel, Segment};

/// A vehicle's battery while it charges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Battery {
    /// Usable capacity, kWh (above 0).
    pub capacity_kwh: f64,
    /// State of charge, % (0 to 100).
    pub percent: f64,
    /// State of charge at which charging stops, % (to 100).
    pub stop_percent: f64,
}

/// What happened on one stretch of an advance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// How long it took, hours.
    pub hours: f64,
    /// State of charge at its end, %.
    pub percent: f64,
    /// Power at its end, kW.
    pub end_kw: f64,
}

impl Battery {
    /// Charges for `hours` at most while `offered_kw` is offered, and answers the stretches it went through.
    ///
    /// They add up to less than `hours` when the battery reached `stop_percent` or takes nothing any more.
    pub fn charge(&mut self, model: &impl ChargingModel, offered_kw: f64, hours: f64) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut left = hours;
        while left > 0.0 && self.percent < self.stop_percent {
            let Some(segment) = model.segment(self.percent, offered_kw) else {
                break;
            };
            let piece = self.step(segment, left);
            left -= piece.hours;
            self.percent = piece.percent;
            pieces.push(piece);
        }
        pieces
    }

    /// Hours until charging ends by itself while `offered_kw` is offered.
    #[must_use]
    pub fn hours_to_end(&self, model: &impl ChargingModel, offered_kw: f64) -> f64 {
        self.to_owned().charge(model, offered_kw, f64::INFINITY).iter().map(|piece| piece.hours).sum()
    }

    /// Whether nothing more will be taken.
    pub fn is_done(&self, model: &impl ChargingModel, offered_kw: f64) -> bool {
        self.percent >= self.stop_percent || model.segment(self.percent, offered_kw).is_none()
    }

    fn step(&self, segment: Segment, hours: f64) -> Piece {
        let until = segment.until_percent.min(self.stop_percent);
        let line = Line::new(self, segment);
        let needed = line.hours_to(until);
        if needed <= hours {
            return Piece { hours: needed, percent: until, end_kw: line.kw_at(until) };
        }
        let percent = line.percent_after(hours).clamp(self.percent, until);
        Piece { hours, percent, end_kw: line.kw_at(percent) }
    }
}

/// `p(s) = start_kw + slope * (s - start)`, the power on a segment.
struct Line {
    start: f64,
    start_kw: f64,
    /// kW per %.
    slope: f64,
    /// kWh per %.
    kwh_per_percent: f64,
}

impl Line {
    fn new(battery: &Battery, segment: Segment) -> Self {
        let slope = (segment.end_kw - segment.start_kw) / (segment.until_percent - battery.percent);
        Self {
            start: battery.percent,
            start_kw: segment.start_kw,
            slope,
            kwh_per_percent: battery.capacity_kwh / 100.0,
        }
    }

    fn kw_at(&self, percent: f64) -> f64 {
        (self.start_kw + self.slope * (percent - self.start)).max(0.0)
    }

    /// `t = C/b * ln(p(s) / p(s0))`, which is `C * (s - s0) / p` for constant power.
    fn hours_to(&self, percent: f64) -> f64 {
        let ratio = self.slope * (percent - self.start) / self.start_kw;
        if ratio.abs() < 1e-12 {
            return self.kwh_per_percent * (percent - self.start) / self.start_kw;
        }
        self.kwh_per_percent / self.slope * ratio.ln_1p()
    }

    /// `s = s0 + p0/b * (exp(b*t/C) - 1)`, the inverse of [`Line::hours_to`].
    fn percent_after(&self, hours: f64) -> f64 {
        let exponent = self.slope * hours / self.kwh_per_percent;
        if exponent.abs() < 1e-12 {
            return self.start + self.start_kw * hours / self.kwh_per_percent;
        }
        self.start + self.start_kw / self.slope * exponent.exp_m1()
    }
}
