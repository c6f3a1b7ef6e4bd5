import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local_cloud import processes

SLEEP = "import time; time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); {SLEEP}"
WITH_CHILD = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "{SLEEP}"])
print(child.pid, flush=True)
child.wait()
"""


def start(folder: Path, program: str) -> int:
    return processes.start([sys.executable, "-c", program], log=folder / "log", folder=folder, environment=os.environ)


def eventually(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_runs_until_it_is_stopped(tmp_path: Path) -> None:
    pid = start(tmp_path, SLEEP)
    assert processes.runs(pid, "time.sleep(60)")
    processes.stop(pid)
    assert not processes.runs(pid, "time.sleep(60)")


def test_a_process_that_has_ended_does_not_run(tmp_path: Path) -> None:
    pid = start(tmp_path, "print('done')")
    eventually(lambda: not processes.runs(pid, "print"))
    assert (tmp_path / "log").read_text() == "done\n"
    processes.stop(pid)  # does nothing


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system does not tell the command line of a process")
def test_another_program_with_the_same_id_is_not_the_process(tmp_path: Path) -> None:
    pid = start(tmp_path, SLEEP)
    assert not processes.runs(pid, "ministack")
    processes.stop(pid)


def test_the_children_of_a_process_stop_with_it(tmp_path: Path) -> None:
    pid = start(tmp_path, WITH_CHILD)
    eventually(lambda: (tmp_path / "log").read_text().endswith("\n"))
    child = int((tmp_path / "log").read_text())
    assert processes.runs(child, "time.sleep(60)")
    processes.stop(pid)
    eventually(lambda: not processes.runs(child, "time.sleep(60)"))


def test_a_process_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    pid = start(tmp_path, STUBBORN)
    eventually(lambda: "ready" in (tmp_path / "log").read_text())
    os.kill(pid, signal.SIGTERM)
    assert processes.runs(pid, "SIG_IGN")
    processes.stop(pid, seconds=0.2)
    eventually(lambda: not processes.runs(pid, "SIG_IGN"))


@pytest.mark.parametrize("pid", [0, 1, -1])
def test_no_other_process_group_is_stopped(pid: int) -> None:
    with pytest.raises(ValueError, match="no process that was started here"):
        processes.stop(pid)


def test_a_port_is_free_until_a_process_listens_on_it() -> None:
    port = processes.free_port()
    assert not processes.in_use(port)
    with socket.create_server(("127.0.0.1", port)):
        assert processes.in_use(port)
