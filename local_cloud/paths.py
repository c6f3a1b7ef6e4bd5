"""The paths of the files of the project, and of the files of one local cloud."""

import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "infrastructure" / "template.yaml"
GRAPHQL = ROOT / "infrastructure" / "graphql"
SAM_CONFIG = ROOT / "infrastructure" / "samconfig.toml"
FUNCTIONS = ROOT / "crates" / "functions"
LAMBDA = ROOT / "target" / "lambda"
EVOKE = ROOT / "target" / "evoke"
MINISTACK_SERVER = ROOT / "local_cloud" / "ministack_server.py"
# The tools that requirements.txt installs are beside the interpreter.
TOOLS = Path(sys.executable).parent


@dataclass(frozen=True)
class State:
    """The folder with all files of one local cloud."""

    folder: Path

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def temporary(self) -> Path:
        """The temporary files of MiniStack, e.g. the unpacked code of functions. They go when it is stopped."""
        return self.folder / "tmp"

    @property
    def processes(self) -> Path:
        """The ids of the processes of the cloud, and their ports."""
        return self.folder / "process.json"

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs.json"

    @property
    def env(self) -> Path:
        """The file with the variables, which a shell sources."""
        return self.folder / "env"

    @property
    def tools(self) -> Path:
        """The folder that `env` puts first in PATH."""
        return self.folder / "bin"

    @property
    def deployed(self) -> Path:
        """The fingerprints of the last deployments of the stacks."""
        return self.folder / "deployed"

    @property
    def certificate(self) -> Path:
        """The root certificate of the local IoT Core."""
        return self.folder / "iot-ca.pem"
