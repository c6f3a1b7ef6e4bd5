"""Starts, finds and stops MiniStack and the simulated API of OpenChargeMap."""

import contextlib
import json
import os
import shutil
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from local_cloud import environment, processes
from local_cloud.messages import Failure, say, short
from local_cloud.paths import EVOKE, MINISTACK_SERVER, TOOLS, State

START_SECONDS = 60
MINISTACK = "ministack"
OCM_SERVER = "ocm-server"


@dataclass(frozen=True)
class Cloud:
    """The processes of a local cloud, and the ports that they listen on."""

    pid: int
    port: int
    mqtt_port: int
    ocm_pid: int
    ocm_port: int

    @property
    def endpoint(self) -> str:
        # An IP address makes S3 clients put the bucket into the path; names below localhost may not resolve.
        return f"http://127.0.0.1:{self.port}"

    @property
    def ocm_url(self) -> str:
        """The URL of the simulated API. The local cloud never calls the real one."""
        return f"http://127.0.0.1:{self.ocm_port}"

    def runs(self) -> bool:
        """Returns whether MiniStack runs. MiniStack holds all data of the cloud."""
        return processes.runs(self.pid, MINISTACK)

    def write(self, file: Path) -> None:
        file.write_text(
            json.dumps(
                {
                    "pid": self.pid,
                    "port": self.port,
                    "mqttPort": self.mqtt_port,
                    "ocmPid": self.ocm_pid,
                    "ocmPort": self.ocm_port,
                }
            )
        )

    @classmethod
    def read(cls, file: Path) -> "Cloud | None":
        """Returns the cloud that was last started from this folder, even if it no longer runs."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(file.read_text())
            return cls(known["pid"], known["port"], known["mqttPort"], known["ocmPid"], known["ocmPort"])
        return None


def ensure_running(state: State, port: int) -> Cloud:
    """Returns the running cloud of the folder. Starts the processes that do not run, and waits until they are ready."""
    state.logs.mkdir(parents=True, exist_ok=True)
    cloud = Cloud.read(state.processes)
    if cloud and cloud.runs():
        say(f"MiniStack runs at {cloud.endpoint}")
        if not processes.runs(cloud.ocm_pid, OCM_SERVER):
            cloud = _with_ocm_server(state, cloud)
    else:
        stop(state)
        cloud = _start(state, port)
        say(f"MiniStack at {cloud.endpoint} (log: {short(_log(state, MINISTACK))})")
    _wait_until_ready(state, cloud)
    return cloud


def stop(state: State) -> bool:
    """Stops only the processes that were started from this folder. Returns whether any of them was running."""
    cloud = Cloud.read(state.processes)
    if not cloud:
        return False
    started = ((cloud.pid, MINISTACK), (cloud.ocm_pid, OCM_SERVER))
    running = [pid for pid, name in started if pid and processes.runs(pid, name)]
    for pid in running:
        processes.stop(pid)
    shutil.rmtree(state.temporary, ignore_errors=True)
    return bool(running)


def forget(state: State) -> None:
    """Deletes the files that describe a running cloud. The logs stay."""
    for file in (state.processes, state.outputs, state.env, state.deployed):
        file.unlink(missing_ok=True)
    for folder in (state.tools, state.temporary):
        shutil.rmtree(folder, ignore_errors=True)


def _start(state: State, port: int) -> Cloud:
    forget(state)
    if port == 0:
        port = processes.free_port()
    elif processes.in_use(port):
        raise Failure(f"port {port} is taken by another process: stop it, or choose another with PORT=…")
    cloud = Cloud(0, port, processes.free_port(), 0, processes.free_port())
    state.temporary.mkdir()
    variables = environment.aws(cloud.endpoint) | {
        "AUTH": "true",  # enforce IAM, so that the policies in the template are tested
        "LAMBDA_EXECUTOR": "local",
        "MINISTACK_COGNITO_PRETOKEN_STRICT": "1",  # no token if token_scopes refuses it, as on AWS
        "GATEWAY_PORT": str(cloud.port),
        "BIND_HOST": "127.0.0.1",
        "IOT_MTLS_PORT": str(cloud.mqtt_port),
        "S3_DATA_DIR": str(state.folder / "s3"),
        "TMPDIR": str(state.temporary),  # MiniStack leaves the code of functions there
        "PATH": f"{TOOLS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # Node.js evaluates resolvers of AppSync
    }
    pid = processes.start(
        # -I keeps the modules of this package apart from those that MiniStack imports.
        [sys.executable, "-I", MINISTACK_SERVER],
        log=_log(state, MINISTACK),
        folder=state.folder,
        environment=environment.clean(os.environ) | variables,
    )
    cloud = Cloud(pid, cloud.port, cloud.mqtt_port, 0, cloud.ocm_port)
    cloud.write(state.processes)
    return _with_ocm_server(state, cloud)


def _with_ocm_server(state: State, cloud: Cloud) -> Cloud:
    """Starts the simulated API at the port that the deployed functions call."""
    pid = processes.start(
        [EVOKE, OCM_SERVER, "--port", str(cloud.ocm_port)],
        log=_log(state, OCM_SERVER),
        folder=state.folder,
        environment=environment.clean(os.environ),
    )
    cloud = Cloud(cloud.pid, cloud.port, cloud.mqtt_port, pid, cloud.ocm_port)
    cloud.write(state.processes)
    return cloud


def _wait_until_ready(state: State, cloud: Cloud) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not (_answers(cloud) and processes.in_use(cloud.ocm_port)):
        for pid, name in ((cloud.pid, MINISTACK), (cloud.ocm_pid, OCM_SERVER)):
            if not processes.runs(pid, name):
                raise Failure(f"{name} stopped while starting: see {short(_log(state, name))}")
        if time.monotonic() > deadline:
            raise Failure(f"the cloud was not ready within {START_SECONDS} s: see {short(state.logs)}")
        time.sleep(0.05)


def _answers(cloud: Cloud) -> bool:
    try:
        with urllib.request.urlopen(f"{cloud.endpoint}/_ministack/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _log(state: State, name: str) -> Path:
    return state.logs / f"{name}.log"
