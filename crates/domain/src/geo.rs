//! Places on the globe, and the cells by which they are indexed.
//!
//! Cells are H3 hexagons (Uber H3, `h3o`): they have no seams at the antimeridian or the poles.

use h3o::{CellIndex, LatLng, Resolution};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Checks, DomainError};

/// Mean radius of the Earth, km (IUGG R1).
const EARTH_RADIUS_KM: f64 = 6371.0088;
/// Cells of one size, by which places are indexed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    resolution: Resolution,
    /// No cell reaches farther from its centre than this, km.
    reach_km: f64,
    /// No two neighbouring cells have centres closer than this, km.
    spacing_km: f64,
}

impl Grid {
    /// For places of which there are few: hexagons with an edge of some 26 km.
    pub const WIDE: Self = Self { resolution: Resolution::Four, reach_km: 42.0, spacing_km: 25.0 };
    /// For places of which there are many: hexagons with an edge of some 10 km.
    pub const NARROW: Self = Self { resolution: Resolution::Five, reach_km: 16.0, spacing_km: 9.4 };
}

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
    pub fn cell(&self, grid: Grid) -> String {
        self.h3(grid).map(|cell| cell.to_string()).unwrap_or_default()
    }

    /// Every index cell that could hold a place within `radius_km` of this one, each with a distance, km, than which no
    /// place in it is nearer; nearest first.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn cells_within(&self, radius_km: f64, grid: Grid) -> Vec<(String, f64)> {
        let Some(home) = self.h3(grid) else {
            return Vec::new();
        };
        let rings = (radius_km / grid.spacing_km).ceil().max(0.0) as u32 + 2;
        let disk = home.grid_disk::<Vec<CellIndex>>(rings).into_iter();
        let nearest = |cell: CellIndex| (self.distance_km(&centre(cell)) - grid.reach_km).max(0.0);
        let mut cells: Vec<(String, f64)> = disk
            .map(|cell| (cell, nearest(cell)))
            .filter(|(_, km)| *km <= radius_km)
            .map(|(cell, km)| (cell.to_string(), km))
            .collect();
        cells.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        cells
    }

    fn h3(&self, grid: Grid) -> Option<CellIndex> {
        LatLng::new(self.latitude, self.longitude).ok().map(|at| at.to_cell(grid.resolution))
    }
}

fn centre(cell: CellIndex) -> Location {
    let at = LatLng::from(cell);
    Location { latitude: at.lat(), longitude: at.lng() }
}
