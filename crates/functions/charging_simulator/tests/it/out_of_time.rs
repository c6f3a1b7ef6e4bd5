//! A tick with less time than work: it stops before Lambda aborts it, and no station is left out of every tick.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use charging_simulator::{ChargingSimulator, MonotonicClock, Tick, TickAnswer};
use chrono::TimeDelta;
use domain::Instant;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use store::ChargingStore;
use testkit::{Fault, FaultyHttp, sdk_config};

use crate::common::{World, context};

/// The duration of a `DynamoDB` call on the test's clock, ms.
const CALL: u64 = 100;
/// The timeout of the deployed function, s.
const TIMEOUT: i64 = 60;

/// A simulator whose clock advances only by the duration of its calls.
struct Slow {
    http: FaultyHttp,
    elapsed: Arc<AtomicU64>,
    simulator: ChargingSimulator,
    store: ChargingStore,
}

impl Slow {
    fn new(world: &World) -> Self {
        let (http, elapsed) = (FaultyHttp::default(), Arc::new(AtomicU64::new(0)));
        let sdk = sdk_config(&world.dynamodb.endpoint()).into_builder().http_client(http.clone()).build();
        let store = ChargingStore::new(store::Client::new(&sdk), "ev-stations", "ev-sessions");
        let (calls, clock) = (elapsed.clone(), elapsed.clone());
        http.before_each_call(move || {
            calls.fetch_add(CALL, Ordering::Relaxed);
        });
        let clock = MonotonicClock::new(move || Duration::from_millis(clock.load(Ordering::Relaxed)));
        let simulator = ChargingSimulator::new(store.clone(), None, 2_000).timed_by(clock);
        Self { http, elapsed, simulator, store }
    }

    async fn tick(&self, at: Instant, seconds: i64) -> TickAnswer {
        self.simulator.tick(&Tick { tick_at: Some(at), ..Tick::default() }, &context(at, seconds)).await.unwrap()
    }
}

/// A recorder of failures of the platform, which raise an alarm.
#[derive(Default)]
struct Failures(Arc<AtomicU64>);

impl Failures {
    /// Returns the number of failures since the last call.
    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

impl Recorder for Failures {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == "InternalFailures" { Counter::from_arc(self.0.clone()) } else { Counter::noop() }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Otherwise nobody would notice that sessions of a fleet that is too large are metered late.
#[tokio::test]
async fn a_tick_that_leaves_stations_out_counts_as_a_failure_of_the_platform() {
    let world = World::new().await;
    for number in 0..60 {
        world.station(&format!("station-{number}"), 1).await;
    }
    let slow = Slow::new(&world);
    let start = world.started().await;
    let failures = Failures::default();
    let _recorder = metrics::set_default_local_recorder(&failures);
    let answer = slow.tick(start + TimeDelta::minutes(1), 6).await;
    assert!(answer.skipped > 1, "{answer:?}");
    assert_eq!(failures.take(), 1, "one for the tick, however many sessions it skips");
    let answer = slow.tick(start + TimeDelta::minutes(2), TIMEOUT).await;
    assert_eq!((answer.skipped, failures.take()), (0, 0), "{answer:?}");
    // A session that is not due is skipped too. That is no failure.
    let answer = slow.tick(start + TimeDelta::minutes(2), TIMEOUT).await;
    assert_eq!((answer.skipped, failures.take()), (60, 0), "{answer:?}");
}

#[tokio::test]
async fn reads_use_up_time_like_writes() {
    let world = World::new().await;
    world.station("s-1", 1).await;
    let slow = Slow::new(&world);
    let start = world.started().await;
    // Sixteen queries of the index take 1.6 s. The rest of the time is less than the reserve of three seconds.
    let answer = slow.tick(start + TimeDelta::minutes(1), 4).await;
    assert_eq!((answer.sessions, answer.stations, answer.skipped), (1, 1, 1), "{answer:?}");
    assert!(world.metered().await.values().all(|(_, at, _)| *at == start), "nothing is written");
    assert!(slow.store.sessions.table().db().capacity().units().table_write < 1.0);
    // With the time that the deployed function has, everything is advanced.
    let answer = slow.tick(start + TimeDelta::minutes(2), TIMEOUT).await;
    assert_eq!((answer.sessions, answer.started, answer.skipped), (1, 1, 0), "{answer:?}");
}

#[tokio::test]
async fn no_station_is_left_out_of_every_tick() {
    const STATIONS: usize = 60;
    let world = World::new().await;
    for number in 0..STATIONS {
        world.station(&format!("station-{number:02}"), 1).await;
    }
    let slow = Slow::new(&world);
    let start = world.started().await;
    let (mut advanced, mut fewest) = (BTreeMap::<String, u32>::new(), STATIONS);
    let mut ticks = 0;
    let starts = world.metered().await;
    let mut before = starts.clone();
    // Tick until every station has had its turn, and at least as often as the guarantee for this requires.
    while ticks < 2 * STATIONS.div_ceil(fewest) {
        ticks += 1;
        let at = start + TimeDelta::minutes(ticks as i64);
        let answer = slow.tick(at, 6).await;
        assert_eq!(answer.sessions, STATIONS as u64, "sessions without a turn are counted too: {answer:?}");
        let now = world.metered().await;
        let moved: Vec<&String> =
            now.iter().filter(|(id, metered)| before[*id] != **metered).map(|(_, (station, ..))| station).collect();
        assert_eq!(moved.len() as u64, answer.sessions - answer.skipped, "{answer:?}");
        assert!((1..STATIONS).contains(&moved.len()), "each tick must do a part of the work: {answer:?}");
        fewest = fewest.min(moved.len());
        for station in moved {
            *advanced.entry(station.clone()).or_default() += 1;
        }
        before = now;
    }
    println!("{STATIONS} stations, at least {fewest} a tick, {ticks} ticks: turns {:?}", advanced.values());
    assert_eq!(advanced.len(), STATIONS, "stations without a turn in {ticks} ticks of at least {fewest} stations");

    // With enough time, all sessions are where they would be without the shortage: 100 kW since their start.
    let at = start + TimeDelta::minutes(ticks as i64 + 1);
    assert_eq!(slow.tick(at, TIMEOUT).await.skipped, 0);
    for (id, (station, metered_at, watt_hours)) in world.metered().await {
        let watt_milliseconds = 100_000 * (at - starts[&id].1).num_milliseconds();
        assert_eq!((metered_at, watt_hours), (at, (watt_milliseconds / 3_600_000) as u64), "{station}");
    }
}

/// A call that is never answered. The tick abandons it in time for its answer, and the next tick makes up for it.
#[tokio::test]
async fn a_hanging_call_is_abandoned_before_lambda_aborts_the_function() {
    let world = World::new().await;
    world.station("s-1", 1).await;
    let slow = Slow::new(&world);
    let start = world.started().await;
    // Hold the write, which follows sixteen queries and the read of the session.
    slow.http.plan(BTreeMap::from([(17, Fault::Hold)]));
    slow.elapsed.store(0, Ordering::Relaxed);
    // There is time for the calls on the test's clock, and for 0.2 s of real time.
    let answer = slow.tick(start + TimeDelta::minutes(1), 5).await;
    assert_eq!((answer.sessions, answer.skipped), (1, 1), "{answer:?}");
    slow.http.plan(BTreeMap::new());
    let answer = slow.tick(start + TimeDelta::minutes(2), TIMEOUT).await;
    assert_eq!((answer.sessions, answer.skipped), (1, 0), "{answer:?}");
    let (_, _, watt_hours) = world.metered().await.into_values().next().unwrap();
    assert_eq!(watt_hours, 3_333);
}
