import json
import shutil
import socket
from pathlib import Path

import pytest

from local_cloud import cloud, processes
from local_cloud.cloud import Cloud
from local_cloud.messages import Failure
from local_cloud.paths import TOOLS, State
from local_cloud.tests.conftest import script


def test_a_running_cloud_is_found_again(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    first = cloud.ensure_running(state, 0)
    assert first.runs()
    assert processes.in_use(first.port)
    assert processes.in_use(first.ocm_port)
    assert cloud.ensure_running(state, 0) == first
    assert capsys.readouterr().out.splitlines()[-1] == f"local cloud: MiniStack runs at {first.endpoint}"


def test_stopping_stops_what_this_folder_started_and_nothing_else(state: State, tmp_path: Path) -> None:
    other = State(tmp_path / "other")
    try:
        ours, theirs = cloud.ensure_running(state, 0), cloud.ensure_running(other, 0)
        assert cloud.stop(state)
        assert not ours.runs()
        assert not processes.in_use(ours.ocm_port)
        assert theirs.runs()
        assert not cloud.stop(state)
    finally:
        cloud.stop(other)


def test_a_folder_without_a_cloud_has_nothing_to_stop(tmp_path: Path) -> None:
    assert not cloud.stop(State(tmp_path))


def test_a_cloud_that_has_ended_is_started_again(state: State) -> None:
    first = cloud.ensure_running(state, 0)
    state.outputs.write_text("{}")
    processes.stop(first.pid)
    second = cloud.ensure_running(state, first.port)
    assert second.runs()
    assert second.pid != first.pid
    assert not processes.runs(first.ocm_pid, "evoke")
    assert not state.outputs.exists()  # they described a stack that is gone


def test_the_simulated_openchargemap_is_started_again_at_its_port(state: State) -> None:
    first = cloud.ensure_running(state, 0)
    processes.stop(first.ocm_pid)
    second = cloud.ensure_running(state, 0)
    assert (second.pid, second.ocm_port) == (first.pid, first.ocm_port)
    assert processes.in_use(second.ocm_port)
    assert Cloud.read(state.processes) == second


def test_a_port_that_is_taken_is_refused(state: State) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Failure, match=f"port {port} is taken by another process: .* PORT="):
            cloud.ensure_running(state, port)
    assert not state.processes.exists()


def test_the_log_of_a_process_that_does_not_start_is_named(state: State, tmp_path: Path) -> None:
    script(tmp_path / "tools" / "ministack_server.py", "raise SystemExit('no database')")
    with pytest.raises(Failure, match=r"ministack stopped while starting: see .*ministack\.log"):
        cloud.ensure_running(state, 0)
    assert (state.logs / "ministack.log").read_text() == "no database\n"


def test_ministack_and_so_the_functions_get_no_variable_of_the_caller(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "prod")
    monkeypatch.setenv("STATIONS_TABLE", "forgotten-in-the-template")
    running = cloud.ensure_running(state, 0)
    given = json.loads((state.folder / "environment.json").read_text())
    assert not {"AWS_PROFILE", "STATIONS_TABLE"} & set(given)
    assert given["AWS_ENDPOINT_URL"] == running.endpoint
    assert given["AUTH"] == "true"


def test_temporary_files_of_ministack_go_with_it(real_state: State) -> None:
    running = cloud.ensure_running(real_state, 0)
    # MiniStack writes its id there, and unpacks functions.
    assert (real_state.temporary / f"ministack-{running.port}.pid").read_text() == str(running.pid)
    cloud.stop(real_state)
    assert not real_state.temporary.exists()


def test_resolvers_are_evaluated_by_the_node_of_the_project(state: State) -> None:
    cloud.ensure_running(state, 0)
    given = json.loads((state.folder / "environment.json").read_text())
    assert shutil.which("node", path=given["PATH"]) == str(TOOLS / "node")


def test_a_damaged_file_of_processes_counts_as_none(tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    for content in ("", "[]", '{"pid": 1}'):
        file.write_text(content)
        assert Cloud.read(file) is None
