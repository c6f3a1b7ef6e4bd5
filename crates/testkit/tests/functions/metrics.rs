//! Alarms and the dashboard read only metrics that the code writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::{resources, template};

/// A metric: its name, and the value of its dimension `Function` if it has one.
type Metric = (String, Option<String>);

/// The calls that write metrics.
const CALLS: [&str; 3] = ["metrics::counter!(", "metrics::gauge!(", "metrics::histogram!("];
/// What follows the name of a metric that has the dimension `Function`.
const BY_FUNCTION: &str = r#", "Function" => function"#;

fn crates() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the texts of all Rust files in a directory.
fn sources(directory: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(std::fs::read_to_string(path).unwrap());
        }
    }
    texts
}

/// Returns the names of the metrics that a text writes, and whether each has the dimension `Function`.
fn calls(text: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for call in CALLS {
        for (at, _) in text.match_indices(call) {
            let arguments = text[at + call.len()..].split(')').next().unwrap();
            let (name, rest) = arguments.strip_prefix('"').and_then(|text| text.split_once('"')).unwrap_or_default();
            assert!(["", BY_FUNCTION].contains(&rest) && !name.is_empty(), "{call}{arguments}) cannot be read here");
            found.push((name.to_owned(), rest == BY_FUNCTION));
        }
    }
    found
}

/// Returns all metrics that the functions write.
fn written() -> BTreeSet<Metric> {
    let mut metrics = BTreeSet::new();
    let mut of_consumers = BTreeSet::new();
    for text in ["lambda_kit/src", "store/src"].iter().flat_map(|shared| sources(&crates().join(shared))) {
        for (name, is_by_function) in calls(&text) {
            if is_by_function {
                of_consumers.insert(name);
            } else {
                metrics.insert((name, None));
            }
        }
    }
    for directory in std::fs::read_dir(crates().join("functions")).unwrap() {
        let directory = directory.unwrap();
        let function = directory.file_name().into_string().unwrap();
        for text in sources(&directory.path().join("src")) {
            for (name, is_by_function) in calls(&text) {
                assert!(!is_by_function, "{function}: {name}");
                metrics.insert((name, None));
            }
            // `drive_events` and `handle_event` write the metrics of consumers.
            if ["drive_events(Self::NAME", "handle_event(Self::NAME"].iter().any(|call| text.contains(call)) {
                metrics.extend(of_consumers.iter().map(|name| (name.clone(), Some(function.clone()))));
            }
        }
    }
    metrics
}

/// Returns the metrics in the namespace of the stack that alarms and the dashboard read, each with the readers.
fn read() -> BTreeMap<Metric, Vec<&'static str>> {
    let namespace = &template()["Globals"]["Function"]["Environment"]["Variables"]["METRICS_NAMESPACE"];
    let mut metrics: BTreeMap<Metric, Vec<&str>> = BTreeMap::new();
    for (id, alarm) in resources("AWS::CloudWatch::Alarm") {
        if alarm["Namespace"] != *namespace {
            let text = alarm["Namespace"].to_string();
            assert!(text.contains("AWS/") && !text.contains("Evoke"), "{id}: {text} is not the namespace of functions");
            continue;
        }
        let dimensions = alarm["Dimensions"].as_array().cloned().unwrap_or_default();
        let function = dimensions.first().map(|dimension| {
            assert_eq!((dimensions.len(), &dimension["Name"]), (1, &Value::from("Function")), "{id}");
            dimension["Value"].as_str().unwrap().to_owned()
        });
        let name = alarm["MetricName"].as_str().unwrap().to_owned();
        metrics.entry((name, function)).or_default().push(id);
    }
    let namespace = namespace["Fn::Sub"].as_str().unwrap();
    for (id, dashboard) in resources("AWS::CloudWatch::Dashboard") {
        let body: Value = serde_json::from_str(dashboard["DashboardBody"]["Fn::Sub"].as_str().unwrap()).unwrap();
        let widgets = body["widgets"].as_array().unwrap().iter();
        for metric in widgets.flat_map(|widget| widget["properties"]["metrics"].as_array().unwrap().clone()) {
            let texts: Vec<String> =
                metric.as_array().unwrap().iter().filter_map(|part| Some(part.as_str()?.to_owned())).collect();
            let (in_namespace, rest) = texts.split_first().unwrap();
            if in_namespace != namespace {
                assert!(in_namespace.starts_with("AWS/"), "{id}: {metric}");
                continue;
            }
            let metric = match rest {
                [name] => (name.clone(), None),
                [name, dimension, function] if dimension == "Function" => (name.clone(), Some(function.clone())),
                _ => panic!("{id}: {metric}"),
            };
            metrics.entry(metric).or_default().push(id);
        }
    }
    metrics
}

#[test]
fn alarms_and_the_dashboard_read_only_metrics_that_the_code_writes() {
    let written = written();
    for expected in
        [("InternalFailures", None), ("EventsLate", Some("billing")), ("EventsLate", Some("notification_service"))]
    {
        let expected = (expected.0.to_owned(), expected.1.map(str::to_owned));
        assert!(written.contains(&expected), "{expected:?} in {written:?}");
    }
    let read = read();
    let unknown: Vec<_> = read.iter().filter(|(metric, _)| !written.contains(metric)).collect();
    assert!(unknown.is_empty(), "nothing writes {unknown:?}");
    assert!(read.values().flatten().any(|id| *id == "Dashboard"));
    assert!(read.values().flatten().filter(|id| id.ends_with("Alarm")).count() > 4, "{read:?}");
}
