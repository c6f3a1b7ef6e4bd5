"""The names of environments and their stacks, and the sections of samconfig.toml."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from deployment import parameters
from deployment.failure import Failure

NAME = re.compile(r"[a-z][a-z0-9]{1,9}")
# The name is part of the host name of the hosted sign-in pages. Cognito refuses host names that contain these words.
REFUSED_BY_COGNITO = ("aws", "amazon", "cognito")
DEFAULT_SECTION = "default"


@dataclass(frozen=True)
class Settings:
    """The section of samconfig.toml that an environment uses, and the parameters in it."""

    section: str
    parameters: dict[str, str]


def check_name(environment: str) -> None:
    if not NAME.fullmatch(environment):
        raise Failure(
            f"ENV={environment!r} is no environment: ENV=dev and ENV=prod are. Any other has a name of 2 to 10"
            " lowercase letters and digits that begins with a letter"
        )
    if any(word in environment for word in REFUSED_BY_COGNITO):
        raise Failure(
            f"ENV={environment}: Cognito refuses host names that contain aws, amazon or cognito, and the name of the"
            " environment is part of that of the hosted sign-in pages. Choose another name"
        )


def stack_name(environment: str) -> str:
    """Returns the name of the environment's main stack."""
    return "evoke" if environment == "dev" else f"evoke-{environment}"


def graphql_stack_name(environment: str) -> str:
    """Returns the name of the stack of the environment's GraphQL API."""
    return f"evoke-graphql-{environment}"


def settings(config: Path, environment: str) -> Settings:
    """Reads the section of the environment, or the default section if the environment has none."""
    document: dict[str, Any] = tomlkit.parse(config.read_text()).unwrap()
    # Only tables are sections; `version = 0.1`, for example, is not.
    sections = {name: value for name, value in document.items() if isinstance(value, dict)}
    own = environment in sections
    section = environment if own else DEFAULT_SECTION
    values: dict[str, Any] = sections.get(section, {}).get("deploy", {}).get("parameters", {})
    name = values.get("stack_name", stack_name(environment))
    if own and name != stack_name(environment):
        raise Failure(
            f"{config.name} names the stack {name} in the section {section}: the stack of the environment {environment}"
            f" is {stack_name(environment)}"
        )
    given = parameters.parse(values.get("parameter_overrides", ""))
    if not own:
        given.pop(parameters.ENVIRONMENT, None)  # the default section has the name of another environment
    return Settings(section, given)
