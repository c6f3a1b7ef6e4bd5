//! The templates of both stacks of the application as one, with their loops expanded.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::SystemTime;
use std::{fs, io};

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Returns the templates of both stacks as one, with their loops expanded, which `make template` writes. A template that
/// is older than the files of which it is made is refused.
#[must_use]
pub fn template() -> &'static Value {
    static EXPANDED: LazyLock<Value> = LazyLock::new(|| {
        let root = Path::new(ROOT);
        let template = root.join("infrastructure/template.expanded.json");
        let text = fs::read_to_string(&template);
        let text =
            text.unwrap_or_else(|error| panic!("run `make template`: {} cannot be read: {error}", template.display()));
        let inputs = inputs(root).expect("the files of the template");
        if let Some(input) = newer(&inputs, &template).expect("the files of the template") {
            panic!("run `make template`: {} is newer than {}", input.display(), template.display());
        }
        serde_json::from_str(&text).expect("a template")
    });
    &EXPANDED
}

/// Returns the files of which the template is made. A folder changes when a file in it is removed.
fn inputs(root: &Path) -> io::Result<Vec<PathBuf>> {
    let contexts = root.join("infrastructure/contexts");
    let mut inputs = [
        "infrastructure/root.yaml",
        "infrastructure/loops.yaml",
        "infrastructure/graphql/root.yaml",
        "scripts/assemble_template.py",
    ]
    .map(|name| root.join(name))
    .to_vec();
    for entry in fs::read_dir(&contexts)? {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "yaml") {
            inputs.push(path);
        }
    }
    inputs.push(contexts);
    Ok(inputs)
}

/// Returns an input that was modified after `output`.
fn newer<'a>(inputs: &'a [PathBuf], output: &Path) -> io::Result<Option<&'a Path>> {
    let modified = |path: &Path| -> io::Result<SystemTime> { fs::metadata(path)?.modified() };
    let made = modified(output)?;
    for input in inputs {
        if modified(input)? > made {
            return Ok(Some(input.as_path()));
        }
    }
    Ok(None)
}

/// Returns the resources of this type: the logical id and the properties of each.
#[must_use]
pub fn resources(kind: &str) -> Vec<(&'static str, &'static Value)> {
    let all = template()["Resources"].as_object().expect("resources").iter();
    let of_kind = all.filter(|(_, resource)| resource["Type"] == kind);
    of_kind.map(|(id, resource)| (id.as_str(), &resource["Properties"])).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn touch(path: &Path, seconds: u64) {
        let file = fs::File::options().create(true).append(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn an_input_that_is_newer_than_the_template_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second, template] = ["a.yaml", "b.yaml", "template.json"].map(|name| folder.path().join(name));
        for path in [&first, &second, &template] {
            touch(path, 1_000);
        }
        let inputs = [first, second];
        assert_eq!(newer(&inputs, &template).unwrap(), None);
        touch(&inputs[1], 1_001);
        assert_eq!(newer(&inputs, &template).unwrap(), Some(inputs[1].as_path()));
        touch(&template, 1_002);
        assert_eq!(newer(&inputs, &template).unwrap(), None);
    }

    #[test]
    fn the_inputs_are_the_parts_of_the_template_and_the_assembler() {
        let inputs = inputs(Path::new(ROOT)).unwrap();
        for name in [
            "root.yaml",
            "loops.yaml",
            "contexts/billing.yaml",
            "contexts",
            "graphql/root.yaml",
            "assemble_template.py",
        ] {
            assert!(inputs.iter().any(|path| path.ends_with(name)), "{name}: {inputs:?}");
        }
        assert!(inputs.iter().all(|path| path.exists()), "{inputs:?}");
    }
}
