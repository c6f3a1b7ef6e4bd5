use super::{ChargingModel, Segment};

/// A vehicle's battery while it charges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Battery {
    /// Usable capacity, kWh (above 0).
    pub capacity_kwh: f64,
    /// State of charge, % (0 to 100).
    pub percent: f64,
    /// State of charge at which charging stops, % (at most 100).
    pub stop_percent: f64,
}

/// A piece of a charge over which the power is linear in the state of charge. The power is constant or stays between
/// two successive whole kilowatts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    /// Duration of the piece, hours.
    pub hours: f64,
    /// State of charge at the end of the piece, %.
    pub percent: f64,
    /// Mean power of the band that contains the piece, kW: the constant power, or the mean over time between the two
    /// whole kilowatts. A piece that covers only a part of its band has the mean power of the whole band.
    pub band_kw: f64,
    line: Line,
}

impl Piece {
    /// Returns the exact state of charge after `hours` of the piece, %. After the end of the piece it stays at the last
    /// value.
    #[must_use]
    pub fn percent_after(&self, hours: f64) -> f64 {
        if hours >= self.hours {
            return self.percent;
        }
        self.line.percent_after(hours).clamp(self.line.start, self.percent)
    }
}

impl Battery {
    /// Charges for at most `hours` while `offered_kw` is offered, and returns the pieces of the charge.
    ///
    /// The pieces add up to less than `hours` if the battery reached `stop_percent` or accepts no more energy.
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

    /// Returns the hours until charging ends by itself while `offered_kw` is offered.
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

    /// Returns whether the battery takes no more energy.
    pub fn is_done(&self, model: &impl ChargingModel, offered_kw: f64) -> bool {
        self.percent >= self.stop_percent || model.segment(self.percent, offered_kw).is_none()
    }

    fn step(&self, segment: Segment, hours: f64) -> Piece {
        let line = Line::new(self, segment);
        let band = Band::of(segment);
        let band_end = band.end_kw.map_or(segment.until_percent, |kw| line.percent_at(kw));
        // On a very steep curve a kilowatt can be less than floating point can resolve. The band then ends with the
        // segment.
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

/// The part of a segment between two whole kilowatts that contains the start of the segment.
struct Band {
    /// The whole kilowatt at which the band ends; `None` if the band ends with the segment.
    end_kw: Option<f64>,
    /// Mean power over time, kW.
    mean_kw: f64,
}

impl Band {
    /// Tolerance for the rounding error of a power that is a whole number of kilowatts, kW.
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

    /// Creates a band between two powers. The mean over time of a power that is linear in the energy is the logarithmic
    /// mean of the two powers.
    fn between(low: f64, high: f64, end_kw: Option<f64>) -> Self {
        let growth = (high - low) / low;
        let mean_kw = if growth > 1e-9 { (high - low) / growth.ln_1p() } else { low };
        Self { end_kw, mean_kw }
    }
}

/// The power on a segment: `p(s) = start_kw + slope * (s - start)`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    start: f64,
    start_kw: f64,
    /// Slope of the power, kW per %.
    slope: f64,
    /// Energy per state of charge, kWh per %.
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

    /// Returns the state of charge at which the power is `kw`, %. The line must not be level.
    fn percent_at(&self, kw: f64) -> f64 {
        self.start + (kw - self.start_kw) / self.slope
    }

    /// Returns the hours until `percent` is reached: `t = C/b * ln(p(s) / p(s0))`, which is `C * (s - s0) / p` for
    /// constant power.
    fn hours_to(&self, percent: f64) -> f64 {
        let ratio = self.slope * (percent - self.start) / self.start_kw;
        if ratio.abs() < 1e-12 {
            return self.kwh_per_percent * (percent - self.start) / self.start_kw;
        }
        self.kwh_per_percent / self.slope * ratio.ln_1p()
    }

    /// Returns the state of charge after `hours`, %: `s = s0 + p0/b * (exp(b*t/C) - 1)`, the inverse of
    /// [`Line::hours_to`].
    fn percent_after(&self, hours: f64) -> f64 {
        let exponent = self.slope * hours / self.kwh_per_percent;
        if exponent.abs() < 1e-12 {
            return self.start + self.start_kw * hours / self.kwh_per_percent;
        }
        self.start + self.start_kw / self.slope * exponent.exp_m1()
    }
}
