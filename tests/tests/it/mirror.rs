//! The OpenChargeMap mirror on the deployed stack, with the simulated API that `make up` starts.

use aws_sdk_eventbridge::types::Target;
use aws_sdk_sqs::types::QueueAttributeName;
use e2e::{Stack, eventually, text};
use serde_json::{Value, json};

/// These tests break the source, so they must not use the real OpenChargeMap.
mod local_cloud_alone {
    use super::*;

    /// All in one test, because the stack has only one mirror.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_mirror_follows_its_source() {
        let stack = Stack::local().await;
        // Complete what another run of this test or a schedule has begun.
        let sweep = eventually("a sweep", || async {
            let answer = stack.invoke("OcmSync", json!({ "full": true })).await.unwrap();
            (text(&answer, "outcome") != "BUSY").then_some(answer)
        })
        .await;
        assert!(sweep["processed"].as_u64().unwrap() >= 1900, "{sweep}");
        assert_eq!(sweep["failed"], 0);

        // Nothing is new: no records are requested and nothing is written.
        let unchanged = stack.invoke("OcmSync", json!({})).await.unwrap();
        assert_eq!((text(&unchanged, "outcome"), &unchanged["processed"]), ("UNCHANGED", &json!(0)));

        let name = format!("e2e-ocm-{}", uuid::Uuid::new_v4());
        let url = listen(&stack, &name).await;
        // Changes of the source are mirrored despite a broken page, and reported on the event bus.
        let http = reqwest::Client::new();
        let control = |path: &str| format!("{}/_control/{path}", stack.output("ocmUrl"));
        http.post(control("change?edit=20&add=5")).send().await.unwrap().error_for_status().unwrap();
        let faults = json!([{ "status": 502 }, "truncated"]);
        http.post(control("faults")).json(&faults).send().await.unwrap().error_for_status().unwrap();
        let changed = stack.invoke("OcmSync", json!({})).await.unwrap();
        assert_eq!((text(&changed, "outcome"), &changed["updated"]), ("COMPLETED", &json!(25)), "{changed}");
        let sqs = aws_sdk_sqs::Client::new(&stack.config);
        let event = eventually("OCM_SYNC_COMPLETED on the bus", || async {
            let received = sqs.receive_message().queue_url(&url).wait_time_seconds(1).send().await.unwrap();
            let bodies = received.messages.unwrap_or_default().into_iter().filter_map(|message| message.body);
            let mut details = bodies.map(|body| serde_json::from_str::<Value>(&body).unwrap()["detail"].clone());
            details.find(|detail| detail["updated"] == json!(25))
        })
        .await;
        assert_eq!((text(&event, "source"), text(&event, "eventType")), ("OpenChargeMap", "OCM_SYNC_COMPLETED"));
        forget(&stack, &name, &url).await;

        // Searches find the POIs, nearest first, with their attribution.
        let search = json!({ "action": "findPois", "latitude": 52.52, "longitude": 13.4, "radiusKm": 50, "limit": 20 });
        let found = stack.invoke("PoiService", search).await.unwrap();
        let distances: Vec<f64> =
            found["items"].as_array().unwrap().iter().map(|item| item["distanceKm"].as_f64().unwrap()).collect();
        assert!(distances.len() == 20 && distances.is_sorted(), "{distances:?}");
        assert_eq!(found["attribution"]["licence"], "CC BY-SA 4.0");
        let one = &found["items"][0]["ocmId"];
        let poi = stack.invoke("PoiService", json!({ "action": "getPoi", "ocmId": one })).await.unwrap();
        assert!(poi["attribution"]["dataProvider"]["license"].is_string(), "{poi}");
        let countries = json!({ "action": "getReferenceData", "kind": "Countries" });
        assert_eq!(stack.invoke("PoiService", countries).await.unwrap()["count"], 6);
    }
}

/// Creates a queue for the events of the mirror on the event bus.
async fn listen(stack: &Stack, name: &str) -> String {
    let sqs = aws_sdk_sqs::Client::new(&stack.config);
    let url = sqs.create_queue().queue_name(name).send().await.unwrap().queue_url.unwrap();
    let arn = sqs.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::QueueArn).send().await;
    let arn = arn.unwrap().attributes.unwrap().remove(&QueueAttributeName::QueueArn).unwrap();
    let events = aws_sdk_eventbridge::Client::new(&stack.config);
    let bus = stack.output("EventBusName");
    let pattern = json!({ "source": ["evoke.ocm"], "detail-type": ["OCM_SYNC_COMPLETED"] }).to_string();
    events.put_rule().name(name).event_bus_name(bus).event_pattern(pattern).send().await.unwrap();
    let target = Target::builder().id("queue").arn(arn).build().unwrap();
    events.put_targets().rule(name).event_bus_name(bus).targets(target).send().await.unwrap();
    url
}

async fn forget(stack: &Stack, name: &str, url: &str) {
    let events = aws_sdk_eventbridge::Client::new(&stack.config);
    let bus = stack.output("EventBusName");
    events.remove_targets().rule(name).event_bus_name(bus).ids("queue").send().await.unwrap();
    events.delete_rule().name(name).event_bus_name(bus).send().await.unwrap();
    aws_sdk_sqs::Client::new(&stack.config).delete_queue().queue_url(url).send().await.unwrap();
}
