//! Tests of the architecture's invariants: which crate may depend on which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Returns the packages of the workspace as cargo describes them.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    serde_json::from_value(metadata["packages"].take()).unwrap()
}

/// Returns the workspace crates with their dependencies outside of tests, according to their manifests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    packages()
        .iter()
        .map(|package| {
            let all = package["dependencies"].as_array().unwrap().iter();
            (name(package), all.filter(|dependency| dependency["kind"].is_null()).map(name).collect())
        })
        .collect()
}

#[test]
fn the_domain_is_pure() {
    let domain = &dependencies()["domain"];
    for dependency in domain {
        let impure = ["aws", "lambda", "tokio", "futures", "reqwest", "tracing", "store"];
        assert!(!impure.iter().any(|prefix| dependency.starts_with(prefix)), "domain depends on {dependency}");
    }
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let clock = ["Utc::now", "SystemTime", "Instant::now", "std::env", "now_v7", "new_v4"];
    for path in files(Path::new(sources)) {
        let text = std::fs::read_to_string(&path).unwrap();
        for forbidden in clock {
            assert!(!text.contains(forbidden), "{} uses {forbidden}: time and chance are arguments", path.display());
        }
    }
}

/// Returns the Rust files under a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, others): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let rust = others.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.chain(folders.iter().flat_map(|folder| files(folder))).collect()
}

/// Returns the enabled features of the dependencies of the workspace, each as `name vX.Y.Z feature "name"`.
fn features(edges: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--prefix", "none", "--offline", "-e", edges, "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .filter(|line| line.contains(" feature \""))
        .collect()
}

/// Otherwise a build of the functions and a build of the tests would compile their dependencies twice.
#[test]
fn tests_enable_no_features_that_the_functions_do_not_have() {
    let (built, tested) = (features("normal,build,features"), features("normal,build,dev,features"));
    let package = |feature: &String| feature.split(" feature ").next().unwrap_or_default().to_owned();
    let shared: BTreeSet<String> = built.iter().map(package).collect();
    let more: Vec<&String> = tested.difference(&built).filter(|feature| shared.contains(&package(feature))).collect();
    let more: Vec<_> = more.into_iter().filter(|feature| !feature.contains("(command-line)")).collect();
    assert!(more.is_empty(), "these features come with tests alone: {more:?}");
}

/// Cargo skips the tests in a target that says `test = false`, and says nothing.
#[test]
fn targets_that_are_not_tested_contain_no_tests() {
    for package in packages() {
        for target in package["targets"].as_array().unwrap() {
            let source = Path::new(target["src_path"].as_str().unwrap());
            let is_tested = target["test"] == true;
            // A binary and a library share a folder, so only the file of a binary is read.
            let is_library = target["kind"].as_array().unwrap().iter().any(|kind| kind == "lib");
            let sources = if is_library { files(source.parent().unwrap()) } else { vec![source.to_owned()] };
            for file in if is_tested { Vec::new() } else { sources } {
                let text = std::fs::read_to_string(&file).unwrap();
                assert!(!text.contains("#[cfg(test)]"), "remove test = false: {} contains tests", file.display());
            }
        }
    }
}

/// A random test whose seed is not printed cannot be repeated.
#[test]
fn random_tests_print_their_seed() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (runner, macros) = (concat!("TestRunner", "::new("), concat!("proptest", "! {"));
    let others = [concat!("Proptest", "Config"), concat!("TestRunner", "::default"), concat!("new_with", "_rng")];
    let mut found = 0;
    for path in files(crates) {
        let text = std::fs::read_to_string(&path).unwrap();
        for other in others {
            assert!(!text.contains(other), "{} uses {other}: seeded() makes the configuration", path.display());
        }
        let blocks = text.matches(macros).count();
        let seeded = text.matches(concat!("#![proptest_config", "(seeded(")).count();
        assert_eq!(blocks, seeded, "{}: each block needs proptest_config(seeded(cases))", path.display());
        assert!(!text.contains(runner) || text.contains("seeded("), "{}: a runner needs seeded(cases)", path.display());
        found += blocks + text.matches(runner).count();
    }
    assert!(found > 8, "only {found} random tests were found");
}

#[test]
fn dependencies_point_inward() {
    let all = dependencies();
    let ours: BTreeSet<&String> = all.keys().collect();
    let allowed = |crate_name: &str| -> Vec<&str> {
        match crate_name {
            "domain" => vec![],
            "store" | "fleet" | "appsync" => vec!["domain"],
            "e2e" => vec!["domain", "fleet", "appsync"],
            "lambda_kit" => vec!["domain", "store"],
            // The benches run the simulator, billing, telemetry and the mirror in one process.
            "evoke" => vec![
                "domain",
                "store",
                "testkit",
                "charging_simulator",
                "billing",
                "ocm_sync",
                "telemetry_handler",
                "fleet",
                "appsync",
                "lambda_kit",
            ],
            _ => vec!["domain", "store", "lambda_kit"],
        }
    };
    for (name, dependencies) in &all {
        for dependency in dependencies.iter().filter(|dependency| ours.contains(dependency)) {
            assert!(allowed(name).contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}
