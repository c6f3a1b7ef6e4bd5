use super::{Battery, ChargingModel as _, ModelConfig, Piece};

/// A session as the simulation of its station sees it. Instants are hours from an origin that the caller chooses.
#[derive(Clone, Debug)]
pub struct Occupant<'a> {
    /// When it began to take its share, hours.
    pub present_from: f64,
    /// Up to when it has been advanced, hours (not before `present_from`).
    pub advanced_to: f64,
    /// Its battery at `advanced_to`.
    pub battery: Battery,
    /// The lower of the port's and the vehicle's limit, kW.
    pub limit_kw: f64,
    /// The most the vehicle takes, kW.
    pub vehicle_max_kw: f64,
    /// How its battery takes power.
    pub model: &'a ModelConfig,
}

/// What a run made of one session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advance {
    /// State of charge at the end, %.
    pub percent: f64,
    /// Power at the end, kW; 0 when it ended.
    pub power_kw: f64,
    /// When charging ended by itself, hours from the origin.
    pub ended_at: Option<f64>,
    /// The stretches it went through.
    pub stretches: Vec<Stretch>,
}

impl Advance {
    /// State of charge at an instant of the run, hours from the origin: exact, and the last one from its end on.
    /// None before the run began.
    #[must_use]
    pub fn percent_at(&self, hours: f64) -> Option<f64> {
        let index = self.stretches.partition_point(|stretch| stretch.from <= hours);
        Some(self.stretches[index.checked_sub(1)?].percent_at(hours))
    }
}

/// A stretch of an advance, with its place in time. Its power is constant, or lies between two whole kilowatts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// When it began, hours from the origin.
    pub from: f64,
    /// When it ended, hours from the origin.
    pub to: f64,
    /// State of charge at its end, %.
    pub percent: f64,
    /// Its power, kW: the constant one, or the mean between the two whole kilowatts, however much of the way between
    /// them the stretch covers.
    pub power_kw: f64,
    piece: Piece,
}

impl Stretch {
    /// State of charge at an instant of the stretch, hours from the origin: exact, and the last one from its end on.
    #[must_use]
    pub fn percent_at(&self, hours: f64) -> f64 {
        if hours >= self.to { self.percent } else { self.piece.percent_after(hours - self.from).min(self.percent) }
    }
}

/// A station whose power is divided evenly among the ports that charge.
///
/// A share that a port cannot use is not given to the others; a session that ends inside the interval gives up its
/// share from that instant on.
///
/// A run goes from event to event: somebody arrives, ends, or has been advanced up to there. Between two events the
/// shares are constant, and a step can be shortened to an instant inside it.
#[derive(Clone, Debug)]
pub struct StationRun<'a> {
    station_power_kw: f64,
    occupants: Vec<Occupant<'a>>,
    advances: Vec<Advance>,
    left: Vec<bool>,
    now: f64,
    step: Step,
}

/// What the last step began with.
#[derive(Clone, Debug, Default)]
struct Step {
    from: f64,
    charging: Vec<Before>,
}

/// A session that charged in a step, as it was before.
#[derive(Clone, Copy, Debug)]
struct Before {
    index: usize,
    percent: f64,
    stretches: usize,
}

impl<'a> StationRun<'a> {
    /// A run of the station that offers `station_power_kw` to `occupants`.
    #[must_use]
    pub fn new(station_power_kw: f64, occupants: Vec<Occupant<'a>>) -> Self {
        let advances = occupants.iter().map(|o| Advance { percent: o.battery.percent, ..Advance::default() }).collect();
        let now = occupants.iter().map(|o| o.advanced_to).fold(f64::INFINITY, f64::min);
        let left = vec![false; occupants.len()];
        let mut run = Self { station_power_kw, occupants, advances, left, now, step: Step::default() };
        run.end_finished();
        run
    }

    /// Advances every session to `until` (hours from the origin) and answers what became of each, in their order.
    #[must_use]
    pub fn advance(mut self, until: f64) -> Vec<Advance> {
        while self.step(until) {}
        self.finish()
    }

    /// Advances every session to the next event, at most to `until`, and answers whether there was any way to go.
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

    /// How far the run has come, hours from the origin.
    #[must_use]
    pub fn now(&self) -> f64 {
        self.now
    }

    /// What became of the session at `index` so far.
    #[must_use]
    pub fn so_far(&self, index: usize) -> &Advance {
        &self.advances[index]
    }

    /// The stretches of the session at `index` in the last step: none when it did not charge in it.
    #[must_use]
    pub fn last_stretches(&self, index: usize) -> &[Stretch] {
        let before = self.step.charging.iter().find(|before| before.index == index);
        before.map_or(&[], |before| &self.advances[index].stretches[before.stretches..])
    }

    /// Shortens the last step to `at` (hours from the origin): to nothing where `at` is not after its beginning.
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

    /// Takes the session at `index` off its port now.
    pub fn leave(&mut self, index: usize) {
        self.left[index] = true;
    }

    /// What became of each session, in their order.
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

    /// What each charging port is offered now, before its own limit, kW.
    #[allow(clippy::cast_precision_loss)]
    fn share_kw(&self) -> f64 {
        let present = (0..self.occupants.len()).filter(|index| self.is_present(*index)).count();
        self.station_power_kw / present.max(1) as f64
    }

    /// The next instant at which shares change: somebody arrives, ends, or is due to be advanced.
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

    /// Ends those that are done at this instant. The snap forgives the rounding of an event's instant.
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
