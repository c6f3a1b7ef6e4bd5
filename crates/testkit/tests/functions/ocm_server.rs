//! The simulated OpenChargeMap API behaves like the real one.

use std::time::Duration;

use reqwest::{Client, Response};
use serde_json::{Value, json};
use testkit::{OcmChange, OcmFault, OcmServer};

async fn ask(server: &OcmServer, path: &str) -> Response {
    Client::new().get(format!("{}{path}", server.url())).header("X-API-Key", OcmServer::KEY).send().await.unwrap()
}

async fn pois(server: &OcmServer, query: &str) -> Vec<Value> {
    ask(server, &format!("/v3/poi?{query}")).await.json().await.unwrap()
}

async fn ids(server: &OcmServer, query: &str) -> Vec<u64> {
    pois(server, query).await.iter().map(|poi| poi["ID"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_missing_or_wrong_key_is_answered_with_403_in_plain_text() {
    let server = OcmServer::start(3, 1).await;
    let (client, url) = (Client::new(), server.url());
    for path in ["/v3/poi", "/v3/system/status", "/v3/referencedata/"] {
        let refused = client.get(format!("{url}{path}?key=wrong")).send().await.unwrap();
        assert_eq!(refused.status(), 403, "{path}");
        assert!(refused.headers()["content-type"].to_str().unwrap().starts_with("text/plain"), "{path}");
        let taken = client.get(format!("{url}{path}?key={}", OcmServer::KEY)).send().await.unwrap();
        assert_eq!((taken.status().as_u16(), ask(&server, path).await.status().as_u16()), (200, 200), "{path}");
    }
}

#[tokio::test]
async fn invalid_order_and_number_are_replaced_by_defaults() {
    let server = OcmServer::start(150, 1).await;
    let default = ids(&server, "").await;
    assert!(default.len() == 100 && default.is_sorted_by(|a, b| a > b), "100 records, the largest ids first");
    assert_eq!(ids(&server, "maxresults=many").await, default);
    assert_eq!(ids(&server, "maxresults=7&sortby=nonsense").await, default[..7]);
    let ascending = ids(&server, "maxresults=1000&sortby=id_asc").await;
    assert!(ascending.len() == 150 && ascending.is_sorted());
    assert_eq!(ids(&server, "maxresults=5&sortby=id_asc&greaterthanid=50").await, ascending[43..48]);
    let time =
        |poi: &Value, name: &str| poi[name].as_str().unwrap_or_else(|| poi["DateCreated"].as_str().unwrap()).to_owned();
    for (order, name) in [("modified_asc", "DateLastStatusUpdate"), ("created_asc", "DateCreated")] {
        let times: Vec<String> = pois(&server, &format!("maxresults=1000&compact=true&sortby={order}"))
            .await
            .iter()
            .map(|poi| time(poi, name))
            .collect();
        assert!(times.is_sorted(), "{order}");
    }
}

#[tokio::test]
async fn filters_select_records() {
    let server = OcmServer::start(100, 1).await;
    server.change(OcmChange { edit: 3, ..OcmChange::default() });
    let last = server.now().format("%Y-%m-%dT%H:%M:%S");
    assert_eq!(ids(&server, &format!("modifiedsince={last}")).await.len(), 1, "inclusive");
    assert_eq!(ids(&server, "modifiedsince=2026-02-01T00:00:00").await.len(), 3);
    let german = pois(&server, "countrycode=DE&maxresults=1000").await;
    assert!(!german.is_empty() && german.iter().all(|poi| poi["AddressInfo"]["CountryID"] == 87));
    assert_eq!(ids(&server, "countrycode=XX&maxresults=1000").await.len(), 100, "an unknown country is no filter");
    server.put(json!({ "ID": 500, "AddressInfo": {}, "SubmissionStatusTypeID": 1 }));
    server.put(json!({ "ID": 501, "AddressInfo": {}, "SubmissionStatusTypeID": 100 }));
    let some = |list: Vec<u64>| list.into_iter().filter(|id| *id >= 500).collect::<Vec<_>>();
    assert_eq!(some(ids(&server, "").await), [501]);
    assert_eq!(some(ids(&server, "submissionstatustypeid=1,100").await), [501, 500]);
    server.remove(501);
    server.duplicate(1);
    assert_eq!(some(ids(&server, "").await), [0; 0], "removed records are absent");
    assert_eq!(ids(&server, "sortby=id_asc&maxresults=2").await, [1, 1, 2], "duplicated records appear twice");
}

#[tokio::test]
async fn records_have_a_compact_and_a_full_form() {
    let server = OcmServer::start(20, 1).await;
    let verbose = pois(&server, "").await.remove(0);
    assert!(
        verbose["StatusType"]["Title"].is_string()
            && verbose["MediaItems"].is_null()
            && verbose.get("MediaItems").is_some()
    );
    let short = pois(&server, "verbose=false").await.remove(0);
    assert!(short.get("StatusType").is_none() && short.get("DatePlanned").is_some());
    let compact = pois(&server, "compact=true").await.remove(0);
    assert!(compact.get("StatusType").is_none() && compact.get("DatePlanned").is_none());
    let camel = pois(&server, "compact=true&camelcase=true").await.remove(0);
    assert_eq!(
        (&camel["id"], &camel["addressInfo"]["countryID"]),
        (&compact["ID"], &compact["AddressInfo"]["CountryID"])
    );
}

#[tokio::test]
async fn the_status_changes_with_the_data() {
    let server = OcmServer::start(20, 1).await;
    let status = async || -> Value { ask(&server, "/v3/system/status").await.json().await.unwrap() };
    let before = status().await;
    assert_eq!(before, status().await);
    assert!(before["MaxPOIId"].as_u64().unwrap() >= 20 && before["POIDataLastCreated"].is_string());
    server.change(OcmChange { edit: 1, ..OcmChange::default() });
    let edited = status().await;
    assert!(edited["POIDataLastModified"] != before["POIDataLastModified"] && edited["DataHash"] != before["DataHash"]);
    server.remove(1);
    assert_ne!(status().await["DataHash"], edited["DataHash"]);
}

#[tokio::test]
async fn requested_faults_occur() {
    let server = OcmServer::start(50, 1).await;
    server.fail([OcmFault::Status(502), OcmFault::Status(503), OcmFault::RetryAfter(7), OcmFault::Truncated]);
    server.fail([OcmFault::Reset, OcmFault::Hang, OcmFault::Slow(1), OcmFault::Nothing]);
    assert_eq!(ask(&server, "/v3/poi").await.status(), 502);
    assert_eq!(ask(&server, "/v3/poi").await.status(), 503);
    let throttled = ask(&server, "/v3/poi").await;
    assert_eq!((throttled.status().as_u16(), &throttled.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    assert!(
        ask(&server, "/v3/poi").await.json::<Value>().await.unwrap_err().is_decode(),
        "the body ends in the middle"
    );
    let cut = Client::new().get(format!("{}/v3/poi?key={}", server.url(), OcmServer::KEY)).send().await;
    let whole = match cut {
        Ok(answer) => answer.bytes().await.is_ok(),
        Err(_) => false,
    };
    assert!(!whole, "the connection is cut off");
    let waited = tokio::time::timeout(Duration::from_millis(200), ask(&server, "/v3/poi")).await;
    assert!(waited.is_err(), "hangs");
    assert_eq!(ask(&server, "/v3/poi").await.json::<Vec<Value>>().await.unwrap().len(), 50, "slow, but whole");
    assert_eq!(pois(&server, "").await.len(), 50);
}
