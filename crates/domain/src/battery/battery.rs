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

/// A part of the way that a battery went through: on it the power is linear in the state of charge, and stays between
/// two whole kilowatts unless it is constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// How long it took, hours.
    pub hours: f64,
    /// State of charge at its end, %.
    pub percent: f64,
    /// Mean power of the band it lies in, kW: the constant power, or the mean over time between the two whole kilowatts.
    /// A piece that covers only a part of its band has the mean power of the whole band.
    pub band_kw: f64,
    line: Line,
}

impl Piece {
    /// State of charge after `hours` of the piece, %: exact, and its last one from its end on.
    #[must_use]
    pub fn percent_after(&self, hours: f64) -> f64 {
        if hours >= self.hours {
            return self.percent;
        }
        self.line.percent_after(hours).clamp(self.line.start, self.percent)
    }
}

impl Battery {
    /// Charges for `hours` at most while `offered_kw` is offered, and answers the pieces of the way.
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
        let mut battery = *self;
        let mut hours = 0.0;
        while battery.percent < battery.stop_percent {
            let Some(segment) = model.segment(battery.percent, offered_kw) else {
                break;
            };
            let until = segment.until_percent.min(battery.stop_percent);
            hours += Line::new(&battery, segment).hours_to(until);
            battery.percent = until;
        }
        hours
    }

    /// Whether nothing more will be taken.
    pub fn is_done(&self, model: &impl ChargingModel, offered_kw: f64) -> bool {
        self.percent >= self.stop_percent || model.segment(self.percent, offered_kw).is_none()
    }

    fn step(&self, segment: Segment, hours: f64) -> Piece {
        let line = Line::new(self, segment);
        let band = Band::of(segment);
        let band_end = band.end_kw.map_or(segment.until_percent, |kw| line.percent_at(kw));
        // On a curve so steep that a kilowatt is less than a float can tell, the band ends with the segment.
        let band_end = if band_end > self.percent { band_end } else { segment.until_percent };
        let until = band_end.min(segment.until_percent).min(self.stop_percent);
        let needed = line.hours_to(until);
        let (hours, percent) = if needed <= hours {
            (needed, until)
        } else {
            (hours, line.percent_after(hours).clamp(self.percent, until))
        };
        Piece { hours, percent, band_kw: band.mean_kw, line }
    }
}

/// The part of a segment between two whole kilowatts that contains its start.
struct Band {
    /// The whole kilowatt at which it ends, where that is not the segment's end.
    end_kw: Option<f64>,
    /// Mean power over time, kW.
    mean_kw: f64,
}

impl Band {
    /// Forgives the rounding of a power that is a whole number of kilowatts.
    const SNAP_KW: f64 = 1e-9;

    fn of(segment: Segment) -> Self {
        let Segment { start_kw, end_kw, from_kw, .. } = segment;
        if end_kw < from_kw {
            let low = (start_kw - Self::SNAP_KW).ceil() - 1.0;
            return Self::between(low.max(end_kw), (low + 1.0).min(from_kw), (low > end_kw).then_some(low));
        }
        if end_kw > from_kw {
            let high = (start_kw + Self::SNAP_KW).floor() + 1.0;
            return Self::between((high - 1.0).max(from_kw), high.min(end_kw), (high < end_kw).then_some(high));
        }
        Self { end_kw: None, mean_kw: start_kw }
    }

    /// The mean over time of a power that is linear in the energy is the logarithmic mean of its ends.
    fn between(low: f64, high: f64, end_kw: Option<f64>) -> Self {
        let growth = (high - low) / low;
        let mean_kw = if growth > 1e-9 { (high - low) / growth.ln_1p() } else { low };
        Self { end_kw, mean_kw }
    }
}

/// `p(s) = start_kw + slope * (s - start)`, the power on a segment.
#[derive(Clone, Copy, Debug, PartialEq)]
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

    /// Where the power is `kw`, on a line that is not level.
    fn percent_at(&self, kw: f64) -> f64 {
        self.start + (kw - self.start_kw) / self.slope
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
