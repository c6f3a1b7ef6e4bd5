"""Starts and stops the local cloud.

python -m local_cloud up     start the cloud unless it is running, deploy changes, write outputs.json and env
python -m local_cloud down   stop the cloud

All its files are in one folder (`--state`, default .local): outputs.json, env, logs/, and the data of MiniStack.
"""

import argparse
import sys
from pathlib import Path

from local_cloud import cloud, deployment, environment
from local_cloud.messages import Failure, say
from local_cloud.paths import ROOT, State


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m local_cloud", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["up", "down"])
    parser.add_argument("--state", type=Path, default=ROOT / ".local", help="folder for all files of the cloud")
    parser.add_argument("--port", type=int, default=4566, help="port to listen on; 0 chooses a free one")
    parser.add_argument("--parameters", default="", help="further parameters of the template: Name=value Name=value")
    arguments = parser.parse_args()
    environment.isolate()
    state = State(arguments.state.resolve())
    try:
        if arguments.command == "up":
            up(state, arguments.port, arguments.parameters)
        else:
            down(state)
    except Failure as failure:
        sys.exit(f"local cloud: {failure}")


def up(state: State, port: int, parameters: str) -> None:
    deployment.require_built()
    deployment.deploy(state, cloud.ensure_running(state, port), parameters)


def down(state: State) -> None:
    say("stopped" if cloud.stop(state) else "was not running")
    cloud.forget(state)


if __name__ == "__main__":
    main()
