from pathlib import Path
from types import SimpleNamespace

import pytest

from local_cloud import completion, deployment, outputs
from local_cloud.cloud import Cloud
from local_cloud.messages import Failure
from local_cloud.paths import State
from local_cloud.stack import Stack
from local_cloud.tests.conftest import script

CLOUD = Cloud(pid=2, port=4566, mqtt_port=8883, ocm_pid=3, ocm_port=4580)
MAIN = Stack(
    "evoke",
    {"Environment": "dev", "Architecture": "arm64", "LogRetentionDays": "0", "OcmEnabled": "true"},
    {"UserPoolId": "eu-central-1_a", "UserPoolClientId": "client", "HttpApiId": "api"},
)
# Counts its runs, and fails if the parameters say so.
SAM = """\
import sys
from pathlib import Path
calls = Path(sys.argv[0]).with_suffix(".calls")
calls.write_text((calls.read_text() if calls.exists() else "") + " ".join(sys.argv[1:]) + "\\n")
print("Error: the template is wrong")
sys.exit(1 if "Fail=yes" in sys.argv[-1] else 0)
"""


@pytest.fixture
def project(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a function in each stack, whose main stack needs no completion."""
    state.logs.mkdir()
    files = {name: tmp_path / name.lower() for name in ("TEMPLATE", "SAM_CONFIG", "EVOKE")}
    for name, file in files.items():
        file.write_text(f"{name} ../target/lambda/billing/")
        monkeypatch.setattr(deployment, name, file)
    (tmp_path / "graphql").mkdir()
    for name in ("template.yaml", "schema.graphql", "resolver.js", "notes.txt"):
        (tmp_path / "graphql" / name).write_text(f"{name} ../../target/lambda/live_publisher/")
    monkeypatch.setattr(deployment, "GRAPHQL", tmp_path / "graphql")
    monkeypatch.setattr(deployment, "FUNCTIONS", tmp_path / "functions")
    monkeypatch.setattr(deployment, "LAMBDA", tmp_path / "lambda")
    for function in ("billing", "live_publisher"):
        (tmp_path / "functions" / function).mkdir(parents=True)
        (tmp_path / "lambda" / function).mkdir(parents=True)
        (tmp_path / "lambda" / function / "bootstrap").write_text("binary")
    script(tmp_path / "tools" / "sam", SAM)
    monkeypatch.setattr(deployment, "TOOLS", tmp_path / "tools")
    monkeypatch.setattr(completion, "complete", lambda *_: None)
    monkeypatch.setattr(Stack, "read", lambda _endpoint, name: MAIN if name == "evoke" else Stack(name, {}, {}))
    monkeypatch.setattr(outputs, "write", lambda state, *_: state.outputs.write_text("{}"))
    return tmp_path


def runs_of_sam(project: Path) -> list[str]:
    calls = project / "tools" / "sam.calls"
    return calls.read_text().splitlines() if calls.exists() else []


def test_only_a_change_is_deployed(project: Path, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    deployment.deploy(state, CLOUD, "")
    deployment.deploy(state, CLOUD, "")
    assert len(runs_of_sam(project)) == 2
    assert capsys.readouterr().out.splitlines()[-1] == "local cloud: up to date"
    main, graphql = ["evoke"], ["evoke-graphql-dev"]
    for change, stacks in (
        ("sam_config", main + graphql),
        ("template", main),
        ("lambda/billing/bootstrap", main),
        ("graphql/template.yaml", graphql),
        ("graphql/schema.graphql", graphql),
        ("graphql/resolver.js", graphql),
        ("lambda/live_publisher/bootstrap", graphql),
        ("graphql/notes.txt", []),
    ):
        before = len(runs_of_sam(project))
        with (project / change).open("a") as file:
            file.write("changed")
        deployment.deploy(state, CLOUD, "")
        assert [call.split("--stack-name ")[1].split()[0] for call in runs_of_sam(project)[before:]] == stacks, change
    deployment.deploy(state, CLOUD, "ThrottleRate=1")
    assert runs_of_sam(project)[-2].endswith(" ThrottleRate=1")


def test_a_stack_that_was_deployed_stays_known_if_the_other_one_fails(project: Path, state: State) -> None:
    (project / "graphql" / "resolver.js").write_text("wrong")
    deployment.deploy(state, CLOUD, "")
    (project / "graphql" / "resolver.js").write_text("right")
    script(project / "tools" / "sam", SAM.replace('"Fail=yes" in sys.argv[-1]', "True"))
    with pytest.raises(Failure, match="sam deploy of evoke-graphql-dev failed"):
        deployment.deploy(state, CLOUD, "")
    script(project / "tools" / "sam", SAM)
    deployment.deploy(state, CLOUD, "")
    stacks = [call.split("--stack-name ")[1].split()[0] for call in runs_of_sam(project)]
    assert stacks == ["evoke", "evoke-graphql-dev", "evoke-graphql-dev", "evoke-graphql-dev"]


def test_nothing_asks_the_user_and_the_caller_may_override_a_parameter(project: Path, state: State) -> None:
    deployment.deploy(state, CLOUD, "OcmBaseUrl=https://other")
    calls = runs_of_sam(project)
    assert all("--no-confirm-changeset" in call for call in calls)
    assert calls[0].endswith(f"OcmBaseUrl={CLOUD.ocm_url} OcmBaseUrl=https://other")


def test_the_stack_of_the_graphql_api_comes_second_and_gets_what_the_main_stack_has(
    project: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "time", SimpleNamespace(time=lambda: 1_700_000_000.5, monotonic=lambda: 0.0))
    deployment.deploy(state, CLOUD, "GraphqlLogs=true")
    main, graphql = runs_of_sam(project)
    assert "--stack-name evoke " in main
    assert "--stack-name evoke-graphql-dev " in graphql
    assert f"--template-file {project}/graphql/template.yaml " in graphql
    values = dict(word.split("=", 1) for word in graphql.split(" --parameter-overrides ")[1].split())
    assert values == {
        "Environment": "dev",
        "Architecture": "arm64",
        "LogRetentionDays": "0",
        "UserPoolId": "eu-central-1_a",
        "UserPoolClientId": "client",
        "ApiKeyExpires": "1731449600",  # in 364 days
        "GraphqlLogs": "true",
    }


def test_a_failed_deployment_shows_the_end_of_its_log_and_is_repeated(project: Path, state: State) -> None:
    deployment.deploy(state, CLOUD, "")
    with pytest.raises(Failure, match=r"(?s)sam deploy of evoke failed: see .*deploy-evoke\.log.*the template is wrong"):
        deployment.deploy(state, CLOUD, "Fail=yes")
    deployment.deploy(state, CLOUD, "")
    assert len(runs_of_sam(project)) == 4


def test_what_is_not_built_is_named(project: Path) -> None:
    (project / "lambda" / "billing" / "bootstrap").unlink()
    (project / "evoke").unlink()
    (project / "graphql" / "template.yaml").unlink()
    with pytest.raises(Failure, match=r"not built: .*graphql/template.yaml, .*evoke, .*billing/bootstrap: run `make"):
        deployment.require_built()


def test_the_fingerprint_depends_on_where_one_file_ends(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("ab")
    second.write_text("c")
    before = deployment.fingerprint("", [first, second])
    first.write_text("a")
    second.write_text("bc")
    assert deployment.fingerprint("", [first, second]) != before
