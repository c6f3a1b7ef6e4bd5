use domain::id::StationId;

use crate::keys;

/// A part of the fleet: the stations whose hash falls to `number` when it is dealt out to `count`.
///
/// A station is in exactly one part, whatever `count` is, and `count` is not stored anywhere: it may be another one at
/// every tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetPart {
    number: u32,
    count: u32,
}

impl FleetPart {
    /// All stations.
    pub const WHOLE: Self = Self { number: 0, count: 1 };

    /// Part `number`, from 0, of `count`; nothing if there is no such part.
    #[must_use]
    pub fn new(number: u32, count: u32) -> Option<Self> {
        (number < count).then_some(Self { number, count })
    }

    /// Whether `station` is in it.
    pub(crate) fn contains(self, station: &StationId) -> bool {
        station.shard(self.count) == self.number
    }

    /// The shards of the active index in which its stations are: the hash that is `number` modulo `count` is, modulo
    /// [`keys::SHARDS`], what both numbers' greatest common divisor leaves open.
    pub(crate) fn shards(self) -> impl Iterator<Item = u32> {
        let divisor = greatest_common_divisor(self.count, keys::SHARDS);
        (0..keys::SHARDS).filter(move |shard| shard % divisor == self.number % divisor)
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
