use domain::id::StationId;

use crate::keys;

/// A part of the fleet: the stations whose hash falls to `number` when the fleet is divided into `count` parts.
///
/// A station is in exactly one part, whatever `count` is. `count` is not stored anywhere, so it may be different at
/// every tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetPart {
    number: u32,
    count: u32,
}

impl FleetPart {
    /// The whole fleet.
    pub const WHOLE: Self = Self { number: 0, count: 1 };

    /// Creates part `number` (from 0) of `count`, or returns `None` if there is no such part.
    #[must_use]
    pub fn new(number: u32, count: u32) -> Option<Self> {
        (number < count).then_some(Self { number, count })
    }

    /// Returns whether `station` is in the part.
    pub(crate) fn contains(self, station: &StationId) -> bool {
        station.shard(self.count) == self.number
    }

    /// Returns the shards of the active index that can contain the stations of the part. A hash that is `number` modulo
    /// `count` is determined modulo [`keys::SHARDS`] only up to the greatest common divisor of the two.
    pub(crate) fn shards(self) -> impl Iterator<Item = u32> {
        let divisor = greatest_common_divisor(self.count, keys::SHARDS);
        (0..keys::SHARDS).filter(move |shard| shard % divisor == self.number % divisor)
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
