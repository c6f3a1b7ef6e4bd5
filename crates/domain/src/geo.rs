//! Positions on the globe, and the cells by which they are indexed.
//!
//! Cells are H3 hexagons (Uber H3, `h3o`): they have no seams at the antimeridian or at the poles.

use h3o::{CellIndex, LatLng, Resolution};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Checks, DomainError};
use crate::units::zero_if_negligible;

/// Mean radius of the Earth, km (IUGG R1).
const EARTH_RADIUS_KM: f64 = 6371.0088;
/// Size of the cells. The edge of a hexagon is about 10 km, so a search in a city reads few places that are too far
/// away, and a search of 100 km that finds nothing reads about 150 cells.
const RESOLUTION: Resolution = Resolution::Five;
/// Lower bound of the distance between the centres of neighbouring cells, km.
const SPACING_KM: f64 = 9.4;
/// Factor on the distance from a cell's centre to its corners, which are its farthest points. It allows for rounding.
const MARGIN: f64 = 1.02;

/// An index cell, with bounds of the distance from the search position to the places in the cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Id of the cell in the index.
    pub id: String,
    /// Lower bound of the distance to the places in the cell, km.
    pub nearest_km: f64,
    /// Upper bound of the distance to the places in the cell, km.
    pub farthest_km: f64,
}

/// The largest search radius, km.
pub const MAX_RADIUS_KM: f64 = 100.0;

/// A geographic position.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// Latitude, degrees north: -90 to 90.
    #[schemars(range(min = -90.0, max = 90.0))]
    pub latitude: f64,
    /// Longitude, degrees east: -180 to 180.
    #[schemars(range(min = -180.0, max = 180.0))]
    pub longitude: f64,
}

impl Location {
    /// Creates a position from valid coordinates.
    ///
    /// # Errors
    /// `Validation` for every coordinate out of range.
    pub fn new(latitude: f64, longitude: f64) -> Result<Self, DomainError> {
        let mut checks = Checks::new();
        checks.require((-90.0..=90.0).contains(&latitude), "latitude", "must be from -90 to 90").require(
            (-180.0..=180.0).contains(&longitude),
            "longitude",
            "must be from -180 to 180",
        );
        checks.finish()?;
        Ok(Self { latitude: zero_if_negligible(latitude), longitude: zero_if_negligible(longitude) })
    }

    /// Returns the great-circle distance, km (haversine formula).
    #[must_use]
    pub fn distance_km(&self, other: &Self) -> f64 {
        let (from, to) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_lat = ((to - from) / 2.0).sin();
        let half_lon = ((other.longitude - self.longitude).to_radians() / 2.0).sin();
        let h = half_lat * half_lat + from.cos() * to.cos() * half_lon * half_lon;
        2.0 * EARTH_RADIUS_KM * h.sqrt().min(1.0).asin()
    }

    /// Returns the id of the index cell that contains this position.
    #[must_use]
    pub fn cell(&self) -> String {
        self.h3().map(|cell| cell.to_string()).unwrap_or_default()
    }

    /// Returns every index cell that could contain a place within `radius_km` of this position, nearest first.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn cells_within(&self, radius_km: f64) -> Vec<Cell> {
        let Some(home) = self.h3() else {
            return Vec::new();
        };
        let rings = (radius_km / SPACING_KM).ceil().max(0.0) as u32 + 2;
        let disk = home.grid_disk::<Vec<CellIndex>>(rings).into_iter();
        let mut cells: Vec<Cell> =
            disk.map(|cell| self.towards(cell)).filter(|cell| cell.nearest_km <= radius_km).collect();
        cells.sort_by(|a, b| a.nearest_km.total_cmp(&b.nearest_km).then_with(|| a.id.cmp(&b.id)));
        cells
    }

    fn towards(&self, cell: CellIndex) -> Cell {
        let centre = Self::of(LatLng::from(cell));
        let corners = cell.boundary();
        let reach = corners.iter().map(|corner| centre.distance_km(&Self::of(*corner))).fold(0.0, f64::max) * MARGIN;
        let distance = self.distance_km(&centre);
        Cell { id: cell.to_string(), nearest_km: (distance - reach).max(0.0), farthest_km: distance + reach }
    }

    fn h3(&self) -> Option<CellIndex> {
        LatLng::new(self.latitude, self.longitude).ok().map(|at| at.to_cell(RESOLUTION))
    }

    fn of(at: LatLng) -> Self {
        Self { latitude: at.lat(), longitude: at.lng() }
    }
}
