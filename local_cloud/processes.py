"""Processes that continue to run after the command that started them, and the ports that they listen on."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_SECONDS = 15.0
# Linux has it, macOS does not.
_PROC = Path("/proc/self")


def start(command: Sequence[str | Path], *, log: Path, folder: Path, environment: Mapping[str, str]) -> int:
    """Starts a process that leads its own process group, appends its output to a log, and returns its id."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    # For an instant, a program that has just been started has no command line, by which `runs` knows it.
    while _PROC.exists() and process.poll() is None and not _command_line(process.pid):
        time.sleep(0.001)
    return process.pid


def runs(pid: int, name: str) -> bool:
    """Returns whether the process still runs.

    `name` is a part of its command line. On Linux, it tells whether the id now belongs to another program.
    """
    _reap(pid)
    if _PROC.exists():
        return name.encode() in _command_line(pid)
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def stop(pid: int, seconds: float = STOP_SECONDS) -> None:
    """Stops the process and all processes of its group, e.g. the functions that MiniStack started.

    Kills the processes that still run after some seconds.
    """
    if pid <= 1:
        raise ValueError(f"{pid} is the id of no process that was started here")
    deadline = time.monotonic() + seconds
    if not _signal(pid, signal.SIGTERM):
        return
    while time.monotonic() < deadline:
        _reap(pid)
        if not _signal(pid, 0):
            return
        time.sleep(0.05)
    _signal(pid, signal.SIGKILL)
    _reap(pid)


def in_use(port: int) -> bool:
    """Returns whether a process of this machine listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Returns a port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _command_line(pid: int) -> bytes:
    """Returns the command line of a process; it is empty if the process has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _signal(group: int, number: int) -> bool:
    """Sends a signal to a process group. Returns whether the group exists and belongs to this user."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _reap(pid: int) -> None:
    """Reaps the process if it is an ended child of this one. Before that, its group would seem to exist."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
