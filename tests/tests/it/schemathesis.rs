//! docs/openapi.json against the deployed HTTP API, by schemathesis: it makes requests that the document allows and
//! requests that it forbids, and checks each answer against the document.

use std::path::PathBuf;
use std::process::Stdio;

use e2e::Stack;
use tokio::process::Command;

/// Requests of each operation in the phases that make random ones.
const EXAMPLES: &str = "10";
/// The seed of the requests: the same in every run, so that a run fails only where something has changed.
const SEED: &str = "1";

/// Checks that are left out:
/// - `unsupported_method`, `allow_header_conformance`: API Gateway answers 404 to a method without a route, and lists no
///   others;
/// - `ignored_auth`: the local cloud does not check the signature of a token, which this check damages;
/// - `positive_data_acceptance`: the check of `schemathesis_hooks.py` is made in its place.
const LEFT_OUT: &str =
    "unsupported_method,allow_header_conformance,ignored_auth,positive_data_acceptance,negative_data_rejection";

/// The operation that is left out: it would delete the account whose token the requests carry.
const DELETION: &str = "deleteAccount";

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

mod local_cloud_alone {
    use super::*;

    /// It writes what nobody would want to have in a stack that is used.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_http_api_answers_as_the_openapi_document_says() {
        let stack = Stack::local().await;
        let user = stack.sign_up(&["ADMIN"]).await;
        let mut run = Command::new("schemathesis");
        // It keeps what it found in the folder that it is run in.
        let folder = tempfile::tempdir().unwrap();
        run.current_dir(folder.path()).env("PYTHONPATH", here()).env("SCHEMATHESIS_HOOKS", "schemathesis_hooks");
        run.arg("run").arg(here().join("../docs/openapi.json")).args(["--checks", "all", "--exclude-checks", LEFT_OUT]);
        run.args(["--max-examples", EXAMPLES, "--continue-on-failure", "--no-shrink", "--seed", SEED]);
        run.args(["--exclude-operation-id", DELETION]);
        run.args(["--header", &format!("Authorization: Bearer {}", user.token)]);
        run.args(["--url", &stack.http_api_url]);
        let output = run.stdin(Stdio::null()).output().await.expect("schemathesis is in .venv/bin: run this by make");
        stack.delete_user(&user.name).await;
        let printed = String::from_utf8_lossy(&output.stdout);
        println!("{printed}");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
