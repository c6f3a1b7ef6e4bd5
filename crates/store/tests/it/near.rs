//! Searches for stations near a place: they find the stations within the radius, nearest first, and a page reads only
//! the surroundings.

use domain::charging::station::{Station, StationStatus};
use domain::geo::Location;
use futures::{StreamExt, TryStreamExt, stream};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use store::StationFilter;
use testkit::{EmbeddedDynamoDb, places, places_around, seeded};

use crate::common::{charging_by, faulty, first, insert_station, station, walk};

async fn put(dynamodb: &EmbeddedDynamoDb, stations: &[Station]) {
    let store = dynamodb.charging().stations;
    let puts = stream::iter(stations).map(|station| insert_station(&store, station, &[]));
    puts.buffer_unordered(32).try_collect::<()>().await.unwrap();
}

/// Finds the expected stations by examining every station.
fn by_hand(stations: &[Station], at: Location, radius_km: f64, status: Option<StationStatus>) -> Vec<&Station> {
    let mut near: Vec<(f64, &Station)> = stations
        .iter()
        .filter(|station| status.is_none_or(|status| station.status == status))
        .map(|station| (at.distance_km(&station.location), station))
        .filter(|(km, _)| *km <= radius_km)
        .collect();
    near.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.id.cmp(&b.1.id)));
    near.into_iter().map(|(_, station)| station).collect()
}

#[derive(Clone, Debug)]
struct Case {
    stations: Vec<((f64, f64), bool)>,
    at: (f64, f64),
    radius_km: f64,
    active_only: bool,
    limit: usize,
}

fn case() -> impl Strategy<Value = Case> {
    places().prop_flat_map(|home| {
        let near = move |spread| places_around(home, spread);
        // Some stations are at exactly the same place.
        let place = prop_oneof![4 => near(1.0), 1 => Just(home)];
        let stations = prop::collection::vec((place, any::<bool>()), 0..60);
        (stations, near(0.3), 0.0..=100.0_f64, any::<bool>(), 1_usize..30).prop_map(
            |(stations, at, radius_km, active_only, limit)| Case { stations, at, radius_km, active_only, limit },
        )
    })
}

async fn search_equals_a_look_at_all(case: &Case) -> Result<(), TestCaseError> {
    let status = |active| if active { StationStatus::Active } else { StationStatus::New };
    let stations: Vec<Station> =
        (0..).zip(&case.stations).map(|(n, (at, active))| station(&format!("s-{n}"), *at, status(*active))).collect();
    let dynamodb = EmbeddedDynamoDb::start().await;
    put(&dynamodb, &stations).await;
    let at = Location::new(case.at.0, case.at.1).unwrap();
    let wanted = case.active_only.then_some(StationStatus::Active);
    let filter = StationFilter::Near(at, case.radius_km, wanted);
    let store = dynamodb.charging().stations;
    let (found, _) = walk(case.limit, async |page| store.list(&filter, &page).await).await;
    prop_assert_eq!(found.iter().collect::<Vec<_>>(), by_hand(&stations, at, case.radius_km, wanted));
    Ok(())
}

#[test]
fn a_search_finds_all_stations_within_the_radius_nearest_first() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(seeded(96));
    let result = runner.run(&case(), |case| runtime.block_on(search_equals_a_look_at_all(&case)));
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

/// 4,900 stations in a square of 150 km; one in a hundred is out of order.
fn country() -> Vec<Station> {
    let status = |n| if n % 100 == 0 { StationStatus::OutOfOrder } else { StationStatus::Active };
    let at = |n: u32| (51.8 + f64::from(n % 70) * 0.02, 12.3 + f64::from(n / 70) * 0.031);
    (0..4900).map(|n| station(&format!("s-{n}"), at(n), status(n))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_a_nearby_search_reads_only_the_surroundings() {
    let dynamodb = EmbeddedDynamoDb::start().await;
    let stations = country();
    put(&dynamodb, &stations).await;
    let at = Location::new(52.5, 13.4).unwrap();
    let wide = StationFilter::Near(at, 100.0, None);
    let store = dynamodb.charging().stations;
    let page = store.list(&wide, &first(25)).await.unwrap();
    assert_eq!(page.items.len(), 25);
    // Reading a station costs at least half a unit, so reading all stations would cost 2,450.
    let units = store.table().db().capacity().units().read;
    assert!(units < 400.0, "{units} read units for 25 of {} stations", stations.len());
    // A search with a rare match does not search everything in one request, and is complete at its end.
    let broken = StationFilter::Near(at, 100.0, Some(StationStatus::OutOfOrder));
    let (http, client) = faulty(&dynamodb);
    let store = charging_by(client).stations;
    let (found, pages) = walk(100, async |page| {
        http.plan([].into());
        let before = store.table().db().capacity().units().read;
        let page = store.list(&broken, &page).await;
        let units = store.table().db().capacity().units().read - before;
        assert!(units < 2000.0, "{units} read units for a page");
        page
    })
    .await;
    let expected = by_hand(&stations, at, 100.0, Some(StationStatus::OutOfOrder));
    assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    assert!((2..12).contains(&pages), "{pages} pages");
}
