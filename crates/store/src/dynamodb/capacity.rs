//! The capacity that calls consume.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_dynamodb::types::ConsumedCapacity;
use serde::Serialize;

/// Capacity consumed since the counter was created.
#[derive(Clone, Debug, Default)]
pub struct Capacity(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    read: AtomicU64,
    table_write: AtomicU64,
    index_write: AtomicU64,
}

/// Capacity in the units of `DynamoDB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Units {
    /// Read units of tables and indexes.
    pub read: f64,
    /// Write units of tables.
    pub table_write: f64,
    /// Write units of indexes.
    pub index_write: f64,
}

/// Factor of the counters, which count thousandths of a unit. The smallest step is half a read unit.
const MILLI: f64 = 1000.0;

impl Capacity {
    /// Returns the capacity consumed so far.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn units(&self) -> Units {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64 / MILLI;
        Units { read: get(&self.0.read), table_write: get(&self.0.table_write), index_write: get(&self.0.index_write) }
    }

    pub(crate) fn read(&self, consumed: &[ConsumedCapacity]) {
        for capacity in consumed {
            add(&self.0.read, capacity.capacity_units());
        }
    }

    pub(crate) fn wrote(&self, consumed: &[ConsumedCapacity]) {
        for capacity in consumed {
            let indexes: f64 = [capacity.global_secondary_indexes(), capacity.local_secondary_indexes()]
                .into_iter()
                .flatten()
                .flat_map(HashMap::values)
                .filter_map(aws_sdk_dynamodb::types::Capacity::capacity_units)
                .sum();
            add(&self.0.index_write, Some(indexes));
            add(&self.0.table_write, capacity.capacity_units().map(|total| total - indexes));
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn add(counter: &AtomicU64, units: Option<f64>) {
    counter.fetch_add((units.unwrap_or_default() * MILLI).round().max(0.0) as u64, Ordering::Relaxed);
}
