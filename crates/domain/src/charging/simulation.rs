use super::{Battery, ModelConfig};

/// A session as the simulation of its station sees it. Instants are hours from an origin that the caller chooses.
#[derive(Clone, Debug)]
pub struct Occupant<'a> {
    /// When it began to take its share, hours.
    pub present_from: f64,
    /// Up to when it has been advanced, hours (not before `present_from`).
    pub advanced_to: f64,
    /// When it is taken off the port whatever its state, hours (infinity: not known to be).
    pub leaves_at: f64,
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

/// A stretch of an advance, with its place in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// When it began, hours from the origin.
    pub from: f64,
    /// When it ended, hours from the origin.
    pub to: f64,
    /// State of charge at its end, %.
    pub percent: f64,
}

/// A station whose power is divided evenly among the ports that charge.
///
/// A share that a port cannot use is not given to the others; a session that ends inside the interval gives up its
/// share from that instant on.
#[derive(Clone, Debug)]
pub struct StationRun<'a> {
    station_power_kw: f64,
    occupants: Vec<Occupant<'a>>,
    advances: Vec<Advance>,
    now: f64,
}

impl<'a> StationRun<'a> {
    /// A run of the station that offers `station_power_kw` to `occupants`.
    #[must_use]
    pub fn new(station_power_kw: f64, occupants: Vec<Occupant<'a>>) -> Self {
        let advances = occupants.iter().map(|o| Advance { percent: o.battery.percent, ..Advance::default() }).collect();
        let now = occupants.iter().map(|o| o.advanced_to).fold(f64::INFINITY, f64::min);
        Self { station_power_kw, occupants, advances, now }
    }

    /// Advances every session to `until` (hours from the origin) and answers what became of each, in their order.
    #[must_use]
    pub fn advance(mut self, until: f64) -> Vec<Advance> {
        self.end_finished();
        while self.now < until {
            let next = self.next_event().min(until);
            self.charge_to(next);
            self.now = next;
            self.end_finished();
        }
        self.read_power();
        self.advances
    }

    fn is_present(&self, index: usize) -> bool {
        let occupant = &self.occupants[index];
        occupant.present_from <= self.now && self.now < occupant.leaves_at && self.advances[index].ended_at.is_none()
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

    /// The next instant at which shares change: somebody arrives, leaves, ends, or is due to be advanced.
    fn next_event(&self) -> f64 {
        let share = self.share_kw();
        let mut next = f64::INFINITY;
        for (index, occupant) in self.occupants.iter().enumerate() {
            if self.advances[index].ended_at.is_some() {
                continue;
            }
            for at in [occupant.present_from, occupant.advanced_to, occupant.leaves_at] {
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
            let model = occupant.model.for_vehicle(occupant.vehicle_max_kw);
            let pieces = occupant.battery.charge(&model, share.min(occupant.limit_kw), next - self.now);
            occupant.advanced_to = next;
            let advance = &mut self.advances[index];
            let mut from = self.now;
            for piece in pieces {
                let to = (from + piece.hours).min(next);
                advance.stretches.push(Stretch { from, to, percent: piece.percent });
                from = to;
            }
            advance.percent = occupant.battery.percent;
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
                self.advances[index].ended_at = Some(now);
                self.advances[index].percent = battery.percent;
            }
        }
    }

    fn read_power(&mut self) {
        use super::ChargingModel as _;
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
