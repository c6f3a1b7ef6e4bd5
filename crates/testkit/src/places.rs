use proptest::prelude::*;

/// A strategy for coordinates: places where a search can go wrong (a town, both sides of the antimeridian, both poles)
/// and any other place.
pub fn places() -> impl Strategy<Value = (f64, f64)> {
    prop_oneof![
        Just((52.5, 13.4)),
        Just((-17.0, 180.0)),
        Just((-17.0, -179.99)),
        Just((90.0, 0.0)),
        Just((-89.95, 77.0)),
        (-90.0..=90.0_f64, -180.0..=180.0_f64),
    ]
}

/// A strategy for places around `home`, up to `spread` degrees of latitude and three times as many of longitude away.
pub fn places_around(home: (f64, f64), spread: f64) -> impl Strategy<Value = (f64, f64)> {
    let (latitude, longitude) = home;
    (-spread..spread, -spread..spread).prop_map(move |(north, east)| {
        let lon = (longitude + east * 3.0 + 540.0_f64).rem_euclid(360.0) - 180.0;
        ((latitude + north).clamp(-90.0, 90.0), lon)
    })
}
