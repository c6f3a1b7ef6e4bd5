"""Deploys both stacks to the local cloud with `sam deploy`, if something has changed since the last time."""

import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Iterable
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
# Where the hosted sign-in pages return to: the development server of a web application. Without it, there are no pages.
CALLBACK = "http://localhost:5173/callback"
# The lines of a failed deployment's log that are shown.
SHOWN_LINES = 15


def require_built() -> list[Path]:
    """Checks that everything is built that the cloud needs, and returns the binaries of the functions."""
    functions = sorted(folder.name for folder in FUNCTIONS.iterdir() if folder.is_dir())
    binaries = [LAMBDA / function / "bootstrap" for function in functions]
    missing = [short(file) for file in (TEMPLATE, GRAPHQL / "template.yaml", EVOKE, *binaries) if not file.exists()]
    if missing:
        raise Failure(f"not built: {', '.join(missing)}: run `make build`")
    return binaries


def deploy(state: State, cloud: Cloud, more_parameters: str) -> None:
    """Brings both stacks up to date, and writes the files with their outputs."""
    parameters = parameters_for(cloud, more_parameters)
    own = Path(__file__).parent.glob("*.py")
    files = [TEMPLATE, *graphql_files(), SAM_CONFIG, *sorted(own), *require_built()]
    current = fingerprint(parameters, files)
    if state.deployed.exists() and state.deployed.read_text() == current and state.outputs.exists():
        outputs.write_env(state, cloud)
        say("up to date")
        return
    state.deployed.unlink(missing_ok=True)
    log = state.logs / "deploy.log"
    say(f"sam deploy (log: {short(log)})")
    began = time.monotonic()
    log.unlink(missing_ok=True)
    _sam_deploy(cloud, STACK, TEMPLATE, parameters, log)
    completion.complete(cloud.endpoint, STACK)
    main = Stack.read(cloud.endpoint, STACK)
    name = GRAPHQL_STACK + main.parameters["Environment"]
    _sam_deploy(cloud, name, GRAPHQL / "template.yaml", graphql_parameters_for(main, more_parameters), log)
    outputs.write(state, cloud, main, Stack.read(cloud.endpoint, name))
    outputs.write_env(state, cloud)
    state.deployed.write_text(current)
    say(f"deployed in {time.monotonic() - began:.0f} s")


def parameters_for(cloud: Cloud, more: str) -> str:
    """Returns the parameters of the main template. If a name occurs several times, its last value counts."""
    own = f"Environment=dev Architecture={architecture()} SignInCallbackUrls={CALLBACK} LiveProgress=enabled"
    return f"{own} OcmEnabled=true OcmBaseUrl={cloud.ocm_url} {more}".strip()


def graphql_parameters_for(main: Stack, more: str) -> str:
    """Returns the parameters of the template of the GraphQL API. SAM drops those that only the other template has."""
    values = {name: main.parameters[name] for name in SAME_PARAMETERS}
    values |= {name: main.outputs[name] for name in GIVEN_OUTPUTS}
    values["ApiKeyExpires"] = str(int(time.time()) + API_KEY_DAYS * 86400)
    return " ".join([*(f"{name}={value}" for name, value in values.items()), more]).strip()


def graphql_files() -> list[Path]:
    """Returns the files that the stack of the GraphQL API consists of."""
    return [GRAPHQL / "template.yaml", GRAPHQL / "schema.graphql", *sorted(GRAPHQL.glob("*.js"))]


def architecture() -> str:
    """Returns the architecture of this machine, for which `make build` builds."""
    return "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"


def fingerprint(parameters: str, files: Iterable[Path]) -> str:
    """Returns a fingerprint of everything that a deployment depends on."""
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
    with log.open("ab") as output:
        done = subprocess.run(
            command, env=variables, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-SHOWN_LINES:])
        raise Failure(f"sam deploy of {stack} failed: see {short(log)}\n{tail}")
