//! A tick that collides with transactions on its sessions advances all of them.

use charging_simulator::ChargingSimulator;
use lambda_kit::{Clock, Door};
use serde_json::{Value, json};
use store::ChargingStore;
use testkit::{Fault, FaultyHttp, invoke, sdk_config};

use crate::common::{World, id, minutes_after};

#[tokio::test]
async fn a_tick_that_collides_with_a_stop_advances_the_whole_station() {
    let world = World::new().await;
    world.station("s-1", 3).await;
    let mut sessions: Vec<Value> = Vec::new();
    for port in ["port-1", "port-2", "port-3"] {
        sessions.push(world.start("s-1", port, "u-1", json!({})).await.unwrap());
    }
    let http = FaultyHttp::default();
    let config = sdk_config(&world.dynamodb.endpoint()).into_builder().http_client(http.clone()).build();
    let charging = ChargingStore::new(store::Client::new(&config), "ev-stations", "ev-sessions");
    let simulator = Door::new(ChargingSimulator::new(charging, None, 100_000), Clock::SYSTEM);
    let tick = async |minutes| invoke(&simulator, json!({ "tickAt": minutes_after(&sessions[0], minutes) })).await;
    http.plan([].into());
    tick(1).await.unwrap();
    let calls = http.calls();
    assert!(calls > 3, "{calls}");
    for (call, minutes) in (0..calls).zip(2..) {
        http.plan([(call, Fault::Conflict)].into());
        let report = tick(minutes).await.unwrap_or_else(|error| panic!("call {call}: {error:?}"));
        assert_eq!((&report["sessions"], &report["skipped"]), (&json!(3), &json!(0)), "call {call}: {report}");
        for session in &sessions {
            let metered = world.get(id(session)).await;
            assert_eq!(metered["status"], "IN_PROGRESS", "{metered}");
        }
    }
}
