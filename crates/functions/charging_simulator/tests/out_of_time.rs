//! A tick that has less time than work: it stops before it is cut off, and nobody is always left over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)] // small numbers

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use charging_simulator::{ChargingSimulator, MonotonicClock, Tick, TickAnswer};
use chrono::TimeDelta;
use common::{World, context};
use domain::Instant;
use store::ChargingStore;
use testkit::{Fault, FaultyHttp, sdk_config};

/// What a call of `DynamoDB` takes here, on the test's own clock, ms.
const CALL: u64 = 100;
/// The timeout of the deployed function, s.
const TIMEOUT: i64 = 60;

/// A simulator whose clock goes on by what its calls take, and by nothing else.
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

#[tokio::test]
async fn reads_use_up_the_time_as_writes_do() {
    let world = World::new().await;
    world.station("s-1", 1).await;
    let slow = Slow::new(&world);
    let start = world.started().await;
    // Sixteen queries of the index take 1.6 s, which leaves less than the three seconds kept back.
    let answer = slow.tick(start + TimeDelta::minutes(1), 4).await;
    assert_eq!((answer.sessions, answer.stations, answer.skipped), (1, 1, 1), "{answer:?}");
    assert!(world.metered().await.values().all(|(_, at, _)| *at == start), "something was written");
    assert!(slow.store.sessions.table().db().capacity().units().table_write < 1.0);
    // With the time that the function has, everything is advanced.
    let answer = slow.tick(start + TimeDelta::minutes(2), TIMEOUT).await;
    assert_eq!((answer.sessions, answer.started, answer.skipped), (1, 1, 0), "{answer:?}");
}

#[tokio::test]
async fn no_station_is_always_left_over() {
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
    // Until every station has had its turn, and in any case for the ticks after which each must have had it.
    while ticks < 2 * STATIONS.div_ceil(fewest) {
        ticks += 1;
        let at = start + TimeDelta::minutes(ticks as i64);
        let answer = slow.tick(at, 6).await;
        assert_eq!(answer.sessions, STATIONS as u64, "those that had no turn are counted: {answer:?}");
        let now = world.metered().await;
        let moved: Vec<&String> =
            now.iter().filter(|(id, metered)| before[*id] != **metered).map(|(_, (station, ..))| station).collect();
        assert_eq!(moved.len() as u64, answer.sessions - answer.skipped, "{answer:?}");
        assert!((1..STATIONS).contains(&moved.len()), "this is about ticks that do some of the work: {answer:?}");
        fewest = fewest.min(moved.len());
        for station in moved {
            *advanced.entry(station.clone()).or_default() += 1;
        }
        before = now;
    }
    println!("{STATIONS} stations, at least {fewest} a tick, {ticks} ticks: turns {:?}", advanced.values());
    assert_eq!(advanced.len(), STATIONS, "stations without a turn in {ticks} ticks of at least {fewest} stations");

    // With time for all, everybody is where they would be without the shortage: 100 kW since their start.
    let at = start + TimeDelta::minutes(ticks as i64 + 1);
    assert_eq!(slow.tick(at, TIMEOUT).await.skipped, 0);
    for (id, (station, metered_at, watt_hours)) in world.metered().await {
        let watt_milliseconds = 100_000 * (at - starts[&id].1).num_milliseconds();
        assert_eq!((metered_at, watt_hours), (at, (watt_milliseconds / 3_600_000) as u64), "{station}");
    }
}

/// A call that is never answered: the tick gives it up in time for its answer, and the next one makes up for it.
#[tokio::test]
async fn what_hangs_is_given_up_before_the_function_is_cut_off() {
    let world = World::new().await;
    world.station("s-1", 1).await;
    let slow = Slow::new(&world);
    let start = world.started().await;
    // After the sixteen queries and the read of the session: its write.
    slow.http.plan(BTreeMap::from([(17, Fault::Hold)]));
    slow.elapsed.store(0, Ordering::Relaxed);
    // Time for the calls on the test's clock, of which the machine's then passes 0.2 s.
    let answer = slow.tick(start + TimeDelta::minutes(1), 5).await;
    assert_eq!((answer.sessions, answer.skipped), (1, 1), "{answer:?}");
    slow.http.plan(BTreeMap::new());
    let answer = slow.tick(start + TimeDelta::minutes(2), TIMEOUT).await;
    assert_eq!((answer.sessions, answer.skipped), (1, 0), "{answer:?}");
    let (_, _, watt_hours) = world.metered().await.into_values().next().unwrap();
    assert_eq!(watt_hours, 3_333);
}
