//! Places on the globe, and the cells by which they are indexed.
//!
//! Cells are H3 hexagons (Uber H3, `h3o`): they have no seams at the antimeridian or the poles.

use std::collections::BTreeSet;

use h3o::{CellIndex, LatLng, Resolution};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Checks, DomainError};

/// Mean radius of the Earth, km (IUGG R1).
const EARTH_RADIUS_KM: f64 = 6371.0088;
/// H3 resolution of the index cells: hexagons with an edge of some 26 km.
const RESOLUTION: Resolution = Resolution::Four;
/// No cell of that resolution reaches farther from its centre than this, km.
const CELL_REACH_KM: f64 = 42.0;
/// No two neighbouring cells have centres closer than this, km.
const CELL_SPACING_KM: f64 = 25.0;
/// The largest radius that can be searched, km.
pub const MAX_RADIUS_KM: f64 = 100.0;

/// A place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// Degrees north, -90 to 90.
    #[schemars(range(min = -90.0, max = 90.0))]
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    #[schemars(range(min = -180.0, max = 180.0))]
    pub longitude: f64,
}

impl Location {
    /// Checks and takes a place.
    ///
    /// # Errors
    /// Validation errors for coordinates out of range.
    pub fn new(latitude: f64, longitude: f64) -> Result<Self, DomainError> {
        let mut checks = Checks::new();
        checks.require((-90.0..=90.0).contains(&latitude), "latitude", "must be from -90 to 90").require(
            (-180.0..=180.0).contains(&longitude),
            "longitude",
            "must be from -180 to 180",
        );
        checks.finish()?;
        Ok(Self { latitude, longitude })
    }

    /// Great-circle distance, km (haversine).
    #[must_use]
    pub fn distance_km(&self, other: &Self) -> f64 {
        let (from, to) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_lat = ((to - from) / 2.0).sin();
        let half_lon = ((other.longitude - self.longitude).to_radians() / 2.0).sin();
        let h = half_lat * half_lat + from.cos() * to.cos() * half_lon * half_lon;
        2.0 * EARTH_RADIUS_KM * h.sqrt().min(1.0).asin()
    }

    /// The index cell this place lies in.
    #[must_use]
    pub fn cell(&self) -> String {
        self.h3().map(|cell| cell.to_string()).unwrap_or_default()
    }

    /// Every index cell that could hold a place within `radius_km` of this one.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn cells_within(&self, radius_km: f64) -> BTreeSet<String> {
        let Some(home) = self.h3() else {
            return BTreeSet::new();
        };
        let rings = (radius_km / CELL_SPACING_KM).ceil().max(0.0) as u32 + 2;
        home.grid_disk::<Vec<CellIndex>>(rings)
            .into_iter()
            .filter(|cell| self.distance_km(&centre(*cell)) <= radius_km + CELL_REACH_KM)
            .map(|cell| cell.to_string())
            .collect()
    }

    fn h3(&self) -> Option<CellIndex> {
        LatLng::new(self.latitude, self.longitude).ok().map(|at| at.to_cell(RESOLUTION))
    }
}

fn centre(cell: CellIndex) -> Location {
    let at = LatLng::from(cell);
    Location { latitude: at.lat(), longitude: at.lng() }
}
