//! The index cells find every place within a radius: at the poles, across the antimeridian, and anywhere else.

use domain::geo::{Location, MAX_RADIUS_KM};
use proptest::prelude::*;

use crate::random::seeded;

/// Returns the place at a distance of `km` from `from` in direction `bearing` (radians).
fn travel(from: Location, km: f64, bearing: f64) -> Location {
    let (angle, lat, lon) = (km / 6371.0088, from.latitude.to_radians(), from.longitude.to_radians());
    let to_lat = (lat.sin() * angle.cos() + lat.cos() * angle.sin() * bearing.cos()).clamp(-1.0, 1.0).asin();
    let to_lon = lon + (bearing.sin() * angle.sin() * lat.cos()).atan2(angle.cos() - lat.sin() * to_lat.sin());
    let longitude = (to_lon.to_degrees() + 540.0).rem_euclid(360.0) - 180.0;
    Location::new(to_lat.to_degrees(), longitude).unwrap()
}

proptest! {
    #![proptest_config(seeded(4000))]

    #[test]
    fn no_place_within_the_radius_lies_outside_the_cells(
        latitude in prop_oneof![-90.0..=90.0_f64, 89.0..=90.0_f64, -90.0..=-89.0_f64],
        longitude in prop_oneof![-180.0..=180.0_f64, 179.0..=180.0_f64, -180.0..=-179.0_f64],
        radius in 0.0..=MAX_RADIUS_KM,
        share in 0.0..=1.0_f64,
        bearing in 0.0..std::f64::consts::TAU,
    ) {
        let here = Location::new(latitude, longitude).unwrap();
        let there = travel(here, radius * share, bearing);
        prop_assume!(here.distance_km(&there) <= radius);
        let cells = here.cells_within(radius);
        let cell = cells.iter().find(|cell| cell.id == there.cell());
        let distance = here.distance_km(&there);
        prop_assert!(
            cell.is_some_and(|cell| (cell.nearest_km..=cell.farthest_km).contains(&distance)),
            "{here:?} {there:?} {radius} {cell:?} {distance}"
        );
        prop_assert!(cells.is_sorted_by(|a, b| a.nearest_km <= b.nearest_km), "nearest first");
    }
}

#[test]
fn distances_follow_the_great_circle() {
    let berlin = Location::new(52.520_008, 13.404_954).unwrap();
    let paris = Location::new(48.856_613, 2.352_222).unwrap();
    assert!((berlin.distance_km(&paris) - 877.46).abs() < 0.5, "{}", berlin.distance_km(&paris));
    assert!(berlin.distance_km(&berlin).abs() < 1e-9);
}

#[test]
fn a_search_reads_few_cells() {
    let berlin = Location::new(52.52, 13.40).unwrap();
    let cells = |radius| berlin.cells_within(radius).len();
    assert!(cells(10.0) <= 9, "{}", cells(10.0));
    assert!(cells(MAX_RADIUS_KM) <= 170, "{}", cells(MAX_RADIUS_KM));
}
