"""Deploys both stacks to the local cloud with `sam deploy`, if something has changed since the last time."""

import contextlib
import hashlib
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from local_cloud import completion, environment, outputs
from local_cloud.cloud import Cloud
from local_cloud.messages import Failure, say, short
from local_cloud.paths import EVOKE, FUNCTIONS, GRAPHQL, LAMBDA, ROOT, SAM_CONFIG, TEMPLATE, TOOLS, State
from local_cloud.stack import Stack

STACK = "evoke"
# The stack of the GraphQL API, to which the name of the environment is added.
GRAPHQL_STACK = "evoke-graphql-"
# The values that the stack of the GraphQL API takes from the main stack: its parameters and its outputs.
SAME_PARAMETERS = ("Environment", "Architecture", "LogRetentionDays")
GIVEN_OUTPUTS = ("UserPoolId", "UserPoolClientId")
# AppSync takes at most 365 days.
API_KEY_DAYS = 364
# The code of a function in a template.
CODE = re.compile(r"target/lambda/(\w+)/")
# Where the hosted sign-in pages return to: the development server of a web application. Without it, there are no pages.
CALLBACK = "http://localhost:5173/callback"
# The lines of a failed deployment's log that are shown.
SHOWN_LINES = 15


def require_built() -> None:
    """Checks that everything is built that the cloud needs."""
    functions = sorted(folder.name for folder in FUNCTIONS.iterdir() if folder.is_dir())
    built = [LAMBDA / function / "bootstrap" for function in functions]
    missing = [short(file) for file in (TEMPLATE, GRAPHQL / "template.yaml", EVOKE, *built) if not file.exists()]
    if missing:
        raise Failure(f"not built: {', '.join(missing)}: run `make build`")


def deploy(state: State, cloud: Cloud, more_parameters: str) -> None:
    """Brings both stacks up to date, and writes the files with their outputs."""
    require_built()
    began = time.monotonic()
    deployment = Deployment(state, cloud)
    changed = deployment.update(STACK, TEMPLATE, parameters_for(cloud, more_parameters), finish=completion.complete)
    main = Stack.read(cloud.endpoint, STACK)
    name, template = GRAPHQL_STACK + main.parameters["Environment"], GRAPHQL / "template.yaml"
    parameters = graphql_parameters_for(main, more_parameters)
    changed |= deployment.update(name, template, parameters, api_key_expires(), files=graphql_files())
    if changed or not state.outputs.exists():
        outputs.write(state, cloud, main, Stack.read(cloud.endpoint, name))
    outputs.write_env(state, cloud)
    say(f"deployed in {time.monotonic() - began:.0f} s" if changed else "up to date")


@dataclass(frozen=True)
class Deployment:
    """Deploys stacks to one cloud, and notes what was deployed."""

    state: State
    cloud: Cloud

    def update(
        self,
        stack: str,
        template: Path,
        parameters: str,
        new_each_time: str = "",
        files: Iterable[Path] = (),
        finish: Callable[[str, str], None] = lambda _endpoint, _stack: None,
    ) -> bool:
        """Deploys a stack, if its parameters, its template or its files have changed. Returns whether they have.

        A change of the parameters in `new_each_time` alone is none.
        """
        own = sorted(Path(__file__).parent.glob("*.py"))
        current = fingerprint(parameters, [template, *files, *binaries(template), SAM_CONFIG, *own])
        if self._known().get(stack) == current:
            return False
        self._note(stack, None)
        log = self.state.logs / f"deploy-{stack}.log"
        say(f"sam deploy of {stack} (log: {short(log)})")
        _sam_deploy(self.cloud, stack, template, f"{parameters} {new_each_time}".strip(), log)
        finish(self.cloud.endpoint, stack)
        self._note(stack, current)
        return True

    def _known(self) -> dict[str, str]:
        """Returns the fingerprints of what was deployed, by stack."""
        with contextlib.suppress(OSError, ValueError):
            known: dict[str, str] = json.loads(self.state.deployed.read_text())
            return known
        return {}

    def _note(self, stack: str, current: str | None) -> None:
        known = {name: value for name, value in self._known().items() if name != stack}
        self.state.deployed.write_text(json.dumps(known if current is None else known | {stack: current}))


def binaries(template: Path) -> list[Path]:
    """Returns the binaries of the functions that a template deploys."""
    return [LAMBDA / name / "bootstrap" for name in sorted(set(CODE.findall(template.read_text())))]


def parameters_for(cloud: Cloud, more: str) -> str:
    """Returns the parameters of the main template. If a name occurs several times, its last value counts."""
    own = f"Environment=dev Architecture={architecture()} SignInCallbackUrls={CALLBACK} LiveProgress=enabled"
    return f"{own} OcmEnabled=true OcmBaseUrl={cloud.ocm_url} {more}".strip()


def graphql_parameters_for(main: Stack, more: str) -> str:
    """Returns the parameters of the template of the GraphQL API. SAM drops those that only the other template has."""
    values = {name: main.parameters[name] for name in SAME_PARAMETERS}
    values |= {name: main.outputs[name] for name in GIVEN_OUTPUTS}
    return " ".join([*(f"{name}={value}" for name, value in values.items()), more]).strip()


def api_key_expires() -> str:
    """Returns the parameter with the time at which the API key expires."""
    return f"ApiKeyExpires={int(time.time()) + API_KEY_DAYS * 86400}"


def graphql_files() -> list[Path]:
    """Returns the files that the template of the GraphQL API refers to."""
    return [GRAPHQL / "schema.graphql", *sorted(GRAPHQL.glob("*.js"))]


def architecture() -> str:
    """Returns the architecture of this machine, for which `make build` builds."""
    return "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"


def fingerprint(parameters: str, files: Iterable[Path]) -> str:
    """Returns a fingerprint of everything that the deployment of a stack depends on."""
    digest = hashlib.sha256(parameters.encode())
    for file in files:
        content = hashlib.sha256(file.read_bytes())
        digest.update(content.digest())
    return digest.hexdigest()


def _sam_deploy(cloud: Cloud, stack: str, template: Path, parameters: str, log: Path) -> None:
    command: list[str | Path] = [
        TOOLS / "sam", "deploy",
        "--template-file", template,
        "--config-file", SAM_CONFIG,
        "--stack-name", stack,
        "--no-confirm-changeset",
        "--parameter-overrides", parameters,
    ]  # fmt: skip
    variables = environment.clean(os.environ) | environment.aws(cloud.endpoint)
    with log.open("wb") as output:
        done = subprocess.run(
            command, env=variables, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-SHOWN_LINES:])
        raise Failure(f"sam deploy of {stack} failed: see {short(log)}\n{tail}")
