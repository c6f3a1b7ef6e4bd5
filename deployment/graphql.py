"""The stack of the GraphQL API. It is deployed after the main stack, from which it gets most of its parameters."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deployment import parameters
from deployment.failure import Failure
from deployment.stacks import NOT_CREATED, Stack, Step, command

# Parameters that both stacks have with the same values.
SHARED = (parameters.ENVIRONMENT, parameters.ARCHITECTURE, "LogRetentionDays")
# Outputs of the main stack that are parameters of this one.
OUTPUTS = ("UserPoolId", "UserPoolClientId")
API_KEY_EXPIRES = "ApiKeyExpires"
# AppSync takes at most 365 days.
API_KEY_DAYS = 364
DAY = 86400


@dataclass(frozen=True)
class Graphql:
    """What a deployment does to the stack of the GraphQL API."""

    stack: Stack
    step: Step
    # The parameters that the user has set and that only this stack has.
    parameters: dict[str, str] = field(default_factory=dict)


def own(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those parameters of the template that a user can set and that only this stack has."""
    return {name: value for name, value in declared.items() if name not in (*SHARED, *OUTPUTS, API_KEY_EXPIRES)}


def check_order(graphql: Stack, main: Stack, step: Step) -> None:
    """Refuses to create a main stack while the stack of the GraphQL API exists: its rule would be on no event bus."""
    exists = graphql.status is not None and graphql.status not in NOT_CREATED
    if exists and step is not Step.UPDATE:
        raise Failure(
            f"the stack {graphql.name} exists, but it was for a stack {main.name} that is gone. Run"
            f" `{command('delete-stack', graphql.name)}`, then repeat"
        )


def compose(effective: Mapping[str, str], main: Stack, given: Mapping[str, str]) -> dict[str, str]:
    """Returns the parameters of the stack. Each deployment sets the expiry of the API key to 364 days ahead."""
    missing = [name for name in OUTPUTS if name not in main.outputs]
    if missing:
        raise Failure(f"the stack {main.name} has no output {', '.join(missing)}")
    values = {name: effective[name] for name in SHARED} | {name: main.outputs[name] for name in OUTPUTS}
    return values | {API_KEY_EXPIRES: str(int(time.time()) + API_KEY_DAYS * DAY)} | dict(given)
