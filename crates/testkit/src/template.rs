//! The template of the application, with its loops expanded.

use std::sync::LazyLock;

use serde_json::Value;

const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infrastructure/template.expanded.json");

/// Returns the template with its loops expanded, which `make template` writes.
#[must_use]
pub fn template() -> &'static Value {
    static EXPANDED: LazyLock<Value> = LazyLock::new(|| {
        let text = std::fs::read_to_string(TEMPLATE);
        let text = text.unwrap_or_else(|error| panic!("run `make template`: {TEMPLATE} cannot be read: {error}"));
        serde_json::from_str(&text).expect("a template")
    });
    &EXPANDED
}

/// Returns the resources of this type: the logical id and the properties of each.
#[must_use]
pub fn resources(kind: &str) -> Vec<(&'static str, &'static Value)> {
    let all = template()["Resources"].as_object().expect("resources").iter();
    let of_kind = all.filter(|(_, resource)| resource["Type"] == kind);
    of_kind.map(|(id, resource)| (id.as_str(), &resource["Properties"])).collect()
}
