use super::{Battery, ChargingModel as _, ModelConfig, Piece};

/// A session as the simulation of its station sees it. Instants are in hours from an origin that the caller chooses.
#[derive(Clone, Debug)]
pub struct Occupant<'a> {
    /// When the session began to take its share of the power, hours.
    pub present_from: f64,
    /// The instant up to which the session has been advanced, hours (not before `present_from`).
    pub advanced_to: f64,
    /// The battery at `advanced_to`.
    pub battery: Battery,
    /// The lower of the power limits of the port and the vehicle, kW.
    pub limit_kw: f64,
    /// Maximum power of the vehicle, kW.
    pub vehicle_max_kw: f64,
    /// The charging model of the battery.
    pub model: &'a ModelConfig,
}

/// The result of a run for one session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advance {
    /// State of charge at the end, %.
    pub percent: f64,
    /// Power at the end, kW. It is 0 if charging has ended.
    pub power_kw: f64,
    /// When charging ended by itself, hours from the origin.
    pub ended_at: Option<f64>,
    /// The stretches of the charge.
    pub stretches: Vec<Stretch>,
}

impl Advance {
    /// Returns the exact state of charge at `hours` from the origin, %. After the end of the run it stays at the last
    /// value. Returns `None` before the beginning of the run.
    #[must_use]
    pub fn percent_at(&self, hours: f64) -> Option<f64> {
        let index = self.stretches.partition_point(|stretch| stretch.from <= hours);
        Some(self.stretches[index.checked_sub(1)?].percent_at(hours))
    }
}

/// A piece of a charge with its place in time. Its power is constant or lies between two successive whole kilowatts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// When the stretch began, hours from the origin.
    pub from: f64,
    /// When the stretch ended, hours from the origin.
    pub to: f64,
    /// State of charge at the end of the stretch, %.
    pub percent: f64,
    /// Power of the stretch, kW: the constant power, or the mean power between the two whole kilowatts, even if the
    /// stretch covers only a part of the band.
    pub power_kw: f64,
    piece: Piece,
}

impl Stretch {
    /// Returns the exact state of charge at `hours` from the origin, %. After the end of the stretch it stays at the
    /// last value.
    #[must_use]
    pub fn percent_at(&self, hours: f64) -> f64 {
        if hours >= self.to { self.percent } else { self.piece.percent_after(hours - self.from).min(self.percent) }
    }
}

/// The simulation of a station whose power is divided evenly among the ports that charge.
///
/// The part of a share that a port cannot use is not given to the other ports. A session that ends within the interval
/// gives up its share from that instant on.
///
/// A run goes from event to event: a session arrives, ends, or reaches the instant up to which it was already advanced.
/// Between two events the shares are constant. A step can be shortened to an instant within it.
#[derive(Clone, Debug)]
pub struct StationRun<'a> {
    station_power_kw: f64,
    occupants: Vec<Occupant<'a>>,
    advances: Vec<Advance>,
    left: Vec<bool>,
    now: f64,
    step: Step,
}

/// The state at the beginning of the last step.
#[derive(Clone, Debug, Default)]
struct Step {
    from: f64,
    charging: Vec<Before>,
}

/// A session that charged in a step, as it was before the step.
#[derive(Clone, Copy, Debug)]
struct Before {
    index: usize,
    percent: f64,
    stretches: usize,
}

impl<'a> StationRun<'a> {
    /// Creates a run of a station that offers `station_power_kw` to `occupants`.
    #[must_use]
    pub fn new(station_power_kw: f64, occupants: Vec<Occupant<'a>>) -> Self {
        let advances = occupants.iter().map(|o| Advance { percent: o.battery.percent, ..Advance::default() }).collect();
        let now = occupants.iter().map(|o| o.advanced_to).fold(f64::INFINITY, f64::min);
        let left = vec![false; occupants.len()];
        let mut run = Self { station_power_kw, occupants, advances, left, now, step: Step::default() };
        run.end_finished();
        run
    }

    /// Advances every session to `until` (hours from the origin) and returns the result for each, in the order of the
    /// occupants.
    #[must_use]
    pub fn advance(mut self, until: f64) -> Vec<Advance> {
        while self.step(until) {}
        self.finish()
    }

    /// Advances every session to the next event, but not beyond `until`. Returns false if the run had already reached
    /// `until`.
    pub fn step(&mut self, until: f64) -> bool {
        self.step = Step { from: self.now, charging: Vec::new() };
        // A run without sessions begins at infinity.
        if self.now >= until {
            return false;
        }
        let next = self.next_event().min(until);
        self.charge_to(next);
        self.now = next;
        self.end_finished();
        true
    }

    /// Returns the instant that the run has reached, hours from the origin.
    #[must_use]
    pub fn now(&self) -> f64 {
        self.now
    }

    /// Returns the result so far for the session at `index`.
    #[must_use]
    pub fn so_far(&self, index: usize) -> &Advance {
        &self.advances[index]
    }

    /// Returns the stretches of the session at `index` in the last step. They are empty if the session did not charge
    /// in that step.
    #[must_use]
    pub fn last_stretches(&self, index: usize) -> &[Stretch] {
        let before = self.step.charging.iter().find(|before| before.index == index);
        before.map_or(&[], |before| &self.advances[index].stretches[before.stretches..])
    }

    /// Shortens the last step so that it ends at `at` (hours from the origin). If `at` is not after the beginning of
    /// the step, nothing is left of the step.
    pub fn shorten(&mut self, at: f64) {
        let at = at.max(self.step.from);
        if at >= self.now {
            return;
        }
        self.now = at;
        for Before { index, percent, stretches } in &self.step.charging {
            let advance = &mut self.advances[*index];
            let inside = advance.stretches[*stretches..].partition_point(|stretch| stretch.from < at);
            advance.stretches.truncate(stretches + inside);
            if let Some(last) = advance.stretches[*stretches..].last_mut() {
                last.percent = last.percent_at(at);
                last.to = last.to.min(at);
            }
            advance.percent = advance.stretches[*stretches..].last().map_or(*percent, |last| last.percent);
            advance.ended_at = advance.ended_at.filter(|ended| *ended <= at);
            self.occupants[*index].battery.percent = advance.percent;
            self.occupants[*index].advanced_to = at;
        }
    }

    /// Removes the session at `index` from its port at the current instant.
    pub fn leave(&mut self, index: usize) {
        self.left[index] = true;
    }

    /// Returns the result for each session, in the order of the occupants.
    #[must_use]
    pub fn finish(mut self) -> Vec<Advance> {
        self.read_power();
        self.advances
    }

    fn is_present(&self, index: usize) -> bool {
        self.occupants[index].present_from <= self.now && !self.left[index] && self.advances[index].ended_at.is_none()
    }

    fn is_charging(&self, index: usize) -> bool {
        self.is_present(index) && self.occupants[index].advanced_to <= self.now
    }

    /// Returns the power that each charging port is offered at the current instant, before the port's own limit, kW.
    #[allow(clippy::cast_precision_loss)]
    fn share_kw(&self) -> f64 {
        let present = (0..self.occupants.len()).filter(|index| self.is_present(*index)).count();
        self.station_power_kw / present.max(1) as f64
    }

    /// Returns the next instant at which the shares change: a session arrives, ends, or has to be advanced from then
    /// on.
    fn next_event(&self) -> f64 {
        let share = self.share_kw();
        let mut next = f64::INFINITY;
        for (index, occupant) in self.occupants.iter().enumerate() {
            if self.left[index] || self.advances[index].ended_at.is_some() {
                continue;
            }
            for at in [occupant.present_from, occupant.advanced_to] {
                if at > self.now {
                    next = next.min(at);
                }
            }
            if self.is_charging(index) {
                let model = occupant.model.for_vehicle(occupant.vehicle_max_kw);
                let offered = share.min(occupant.limit_kw);
                next = next.min(self.now + occupant.battery.hours_to_end(&model, offered));
            }
        }
        next
    }

    fn charge_to(&mut self, next: f64) {
        let share = self.share_kw();
        let charging: Vec<usize> = (0..self.occupants.len()).filter(|index| self.is_charging(*index)).collect();
        for index in charging {
            let occupant = &mut self.occupants[index];
            let advance = &mut self.advances[index];
            let before = Before { index, percent: occupant.battery.percent, stretches: advance.stretches.len() };
            let model = occupant.model.for_vehicle(occupant.vehicle_max_kw);
            let pieces = occupant.battery.charge(&model, share.min(occupant.limit_kw), next - self.now);
            occupant.advanced_to = next;
            let mut from = self.now;
            for piece in pieces {
                let to = (from + piece.hours).min(next);
                advance.stretches.push(Stretch { from, to, percent: piece.percent, power_kw: piece.band_kw, piece });
                from = to;
            }
            advance.percent = occupant.battery.percent;
            self.step.charging.push(before);
        }
    }

    /// Ends the sessions that are done at this instant. The tolerance allows for the rounding error of an event's
    /// instant.
    fn end_finished(&mut self) {
        const SNAP_PERCENT: f64 = 1e-10;
        let share = self.share_kw();
        for index in 0..self.occupants.len() {
            if !self.is_charging(index) {
                continue;
            }
            let now = self.now;
            let occupant = &mut self.occupants[index];
            let battery = &mut occupant.battery;
            if battery.stop_percent - battery.percent < SNAP_PERCENT {
                battery.percent = battery.percent.max(battery.stop_percent);
            }
            let model = occupant.model.for_vehicle(occupant.vehicle_max_kw);
            let offered = share.min(occupant.limit_kw);
            let remaining = battery.hours_to_end(&model, offered);
            if battery.is_done(&model, offered) || now + remaining <= now {
                let advance = &mut self.advances[index];
                advance.ended_at = Some(now);
                advance.percent = battery.percent;
                if let Some(last) = advance.stretches.last_mut() {
                    last.percent = battery.percent;
                }
            }
        }
    }

    fn read_power(&mut self) {
        let share = self.share_kw();
        for index in 0..self.occupants.len() {
            let occupant = &self.occupants[index];
            let power = if self.is_present(index) {
                let model = occupant.model.for_vehicle(occupant.vehicle_max_kw);
                model.segment(occupant.battery.percent, share.min(occupant.limit_kw)).map_or(0.0, |s| s.start_kw)
            } else {
                0.0
            };
            self.advances[index].power_kw = power;
        }
    }
}
