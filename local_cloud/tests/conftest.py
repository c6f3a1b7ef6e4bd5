"""A local cloud in a temporary folder, whose MiniStack and OpenChargeMap are small scripts."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cloud import cloud
from local_cloud.paths import State

# Answers like MiniStack that it is ready, and writes its environment to a file.
MINISTACK = """\
import http.server, json, os
from pathlib import Path

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/_ministack/ready" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass

Path("environment.json").write_text(json.dumps(dict(os.environ)))
http.server.HTTPServer(("127.0.0.1", int(os.environ["GATEWAY_PORT"])), Ready).serve_forever()
"""
# Listens like `evoke ocm-server --port PORT`.
EVOKE = """\
import http.server, sys
http.server.HTTPServer(("127.0.0.1", int(sys.argv[3])), http.server.BaseHTTPRequestHandler).serve_forever()
"""


def script(path: Path, content: str) -> Path:
    """Writes a Python script that can be executed."""
    path.write_text(f"#!{sys.executable}\n{content}")
    path.chmod(0o755)
    return path


@pytest.fixture
def real_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    """The folder of a cloud with the real MiniStack."""
    monkeypatch.setattr(cloud, "EVOKE", script(tmp_path / "evoke", EVOKE))
    state = State(tmp_path / "state")
    state.folder.mkdir()
    yield state
    cloud.stop(state)


@pytest.fixture
def state(real_state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setattr(cloud, "MINISTACK_SERVER", script(tools / "ministack_server.py", MINISTACK))
    return real_state
