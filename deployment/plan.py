"""The plan of a deployment. `make` checks everything that can be checked before the build."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from deployment import environments, graphql, parameters, stacks
from deployment.failure import Failure
from deployment.graphql import Graphql
from deployment.package import INFRASTRUCTURE, Package, missing_types, read_template, retained_buckets
from deployment.stacks import Stack, Step

# With a lower limit, a burst of telemetry can take all executions, and Lambda throttles billing.
ENOUGH_CONCURRENCY = 100
# Lambda refuses a reservation that leaves less to all other functions of the account.
UNRESERVED_CONCURRENCY = 100
TELEMETRY_CONCURRENCY = "TelemetryConcurrency"
# The IoT rule of an environment is ev_telemetry_ENV.
TELEMETRY_RULE = "ev_telemetry_"
SWAP_STATIONS = "SwapStations"


@dataclass(frozen=True)
class Plan:
    """What a deployment deploys, and where."""

    environment: str
    # The ARN of the user, and the number of the account.
    user: str
    account: str
    # The section of samconfig.toml.
    section: str
    # The parameters of the main stack.
    parameters: dict[str, str]
    # Parameters whose values are not shown (NoEcho).
    hidden: frozenset[str]
    package: Package
    session: boto3.Session
    stack: Stack
    step: Step
    graphql: Graphql
    # The values of all parameters after the deployment.
    effective: dict[str, str] = field(default_factory=dict)
    # The parameters of the command line.
    given: dict[str, str] = field(default_factory=dict)
    # The types of resources of the template that the region does not have.
    missing: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Returns the lines that describe the plan to the user."""
        graphql = self.graphql.stack
        shown = [
            f"account     {self.account} ({self.user})",
            f"region      {self.session.region_name}",
            f"stack       {self.stack.name} ({self.stack.status or 'does not exist'}): {self.step.value}",
            f"GraphQL     {graphql.name} ({graphql.status or 'does not exist'}): {self.graphql.step.value}",
            "parameters",
            *(f"  {name}={self.value(name)}" for name in (*self.parameters, *self.graphql.parameters)),
        ]
        if self.step is Step.UPDATE:
            shown.append("  All other parameters keep their values.")
        if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
            shown.append(f"AWS_ENDPOINT_URL is set: this is {endpoint}, not AWS.")
        return shown

    def takes_telemetry(self) -> bool:
        """Returns whether the environment will take the messages of battery-swap stations. By default, it does."""
        deployed = self.stack.parameters if self.step is Step.UPDATE else {}
        return self.parameters.get(SWAP_STATIONS, deployed.get(SWAP_STATIONS)) != "false"

    def command(self) -> str:
        """Returns the command that repeats the deployment. Values that nobody may read are left out."""
        words = " ".join(
            f"{name}={'…' if name in self.hidden else shlex.quote(value)}" for name, value in self.given.items()
        )
        repeated = f"make deploy ENV={self.environment} ARCH={self.package.architecture}"
        return f"{repeated} PARAMETERS={shlex.quote(words)}" if words else repeated

    def value(self, name: str) -> str:
        """Returns the new value of a parameter. If the deployed value differs, adds the deployed value."""
        if name in self.hidden:
            return "****"
        stack, step, values = self.stack, self.step, self.parameters
        if name not in values:
            stack, step, values = self.graphql.stack, self.graphql.step, self.graphql.parameters
        new = values[name]
        now = stack.parameters.get(name, new)
        return new if step is not Step.UPDATE or now == new else f"{new} (now {now})"


def make(environment: str, architecture: str, given: str) -> Plan:
    """Makes the plan. Raises a `Failure` if the deployment cannot work."""
    environments.check_name(environment)
    settings = environments.settings(INFRASTRUCTURE / "samconfig.toml", environment)
    parsed = parameters.parse(given)
    composed = parameters.compose(environment, architecture, settings.parameters, parsed)
    template = read_template(INFRASTRUCTURE / "template.yaml")
    graphql_template = read_template(INFRASTRUCTURE / "graphql" / "template.yaml")
    declared, graphql_declared = template["Parameters"], graphql.own(graphql_template["Parameters"])
    parameters.check_names(composed, declared | graphql_declared)
    of_graphql = {name: value for name, value in composed.items() if name in graphql_declared}
    composed = {name: value for name, value in composed.items() if name in declared}
    hidden = frozenset(name for name, declaration in declared.items() if declaration.get("NoEcho"))
    where = region(os.environ)
    session = boto3.Session(region_name=where)
    identity = session.client("sts").get_caller_identity()
    account = identity["Account"]
    cloudformation = session.client("cloudformation")
    stack = stacks.find(cloudformation, environments.stack_name(environment))
    step = stacks.next_step(stack, environment)
    graphql_stack = stacks.find(cloudformation, environments.graphql_stack_name(environment))
    graphql.check_order(graphql_stack, stack, step)
    graphql_step = stacks.next_step(graphql_stack, environment)
    deployed = stack.parameters if step is Step.UPDATE else {}
    effective = parameters.effective(composed, deployed, declared)
    parameters.check_values(effective, declared)
    parameters.check_values(of_graphql, graphql_declared)
    parameters.check_rules(effective, template.get("Rules", {}))
    check_reservation(session.client("lambda"), effective, deployed)
    if step is not Step.UPDATE:
        stacks.check_buckets(session.client("s3"), retained_buckets(template, environment, account, where))
    package = Package(architecture)
    return Plan(
        environment,
        identity["Arn"],
        account,
        settings.section,
        composed,
        hidden,
        package,
        session,
        stack,
        step,
        Graphql(graphql_stack, graphql_step, of_graphql),
        effective,
        parsed,
        tuple(sorted({*missing_types(template, where), *missing_types(graphql_template, where)})),
    )


def check_reservation(functions: Any, effective: Mapping[str, str], deployed: Mapping[str, str]) -> None:
    """Refuses a reservation of executions that Lambda would refuse: it leaves too few to all other functions."""
    wanted, reserved = (int(float(values.get(TELEMETRY_CONCURRENCY, "0"))) for values in (effective, deployed))
    if wanted <= reserved:
        return
    try:
        limits = functions.get_account_settings()["AccountLimit"]
    except ClientError:
        return  # The warnings say that the limit cannot be read.
    unreserved = limits.get("UnreservedConcurrentExecutions", limits.get("ConcurrentExecutions"))
    if unreserved is None:
        return
    most = max(0, unreserved + reserved - UNRESERVED_CONCURRENCY)
    if wanted > most:
        raise Failure(
            f"{TELEMETRY_CONCURRENCY}={wanted} is more than the {most} executions that can be reserved:"
            f" {unreserved + reserved} of the account are not reserved otherwise, and Lambda keeps"
            f" {UNRESERVED_CONCURRENCY} of them unreserved"
        )


def show(plan: Plan) -> None:
    print("\n".join(plan.lines()), flush=True)
    for warning in warnings(plan):
        print(f"warning: {warning}", file=sys.stderr)


def region(variables: Mapping[str, str]) -> str:
    """Returns the region that AWS tools use: from the environment variables, or from the profile."""
    found = variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or boto3.Session().region_name
    if not found:
        raise Failure("no region is set: set AWS_REGION, or AWS_PROFILE to a profile with a region")
    return found


def warnings(plan: Plan) -> list[str]:
    found = region_warnings(plan.missing, str(plan.session.region_name))
    try:
        limits = plan.session.client("lambda").get_account_settings()["AccountLimit"]
        found += concurrency_warnings(limits.get("ConcurrentExecutions"))
    except ClientError as error:
        found.append(f"the limit of concurrent executions of Lambda cannot be read: {error}")
    found += protection_warnings(plan)
    if plan.takes_telemetry():
        found += telemetry_warnings(plan.session.client("iot"), plan.environment)
    return found


def region_warnings(missing: Sequence[str], where: str) -> list[str]:
    """Warns of a region in which CloudFormation refuses the template, even if no such resource is made."""
    if not missing:
        return []
    return [
        f"as far as cfn-lint knows, {where} has no {', '.join(missing)}. CloudFormation then refuses the template, and"
        ' nothing is changed: see "Regions" in docs/operations.md'
    ]


def protection_warnings(plan: Plan) -> list[str]:
    """Warns of tables that anybody can delete in prod. Only the creation of prod needs them unprotected."""
    unprotected = plan.effective.get("DeletionProtection") == "false"
    if not (plan.environment == "prod" and plan.step is Step.UPDATE and unprotected):
        return []
    return [
        "tables and users of prod will not be protected from deletion. After the first deployment, deploy with"
        " DeletionProtection=true"
    ]


def concurrency_warnings(limit: Any) -> list[str]:
    if limit is None or limit >= ENOUGH_CONCURRENCY:
        return []
    return [
        f"in this account and region, Lambda runs at most {limit} executions at once. A busy network needs"
        f" {ENOUGH_CONCURRENCY}. Request more with `aws service-quotas request-service-quota-increase --service-code"
        " lambda --quota-code L-B99A9384 --desired-value 1000`"
    ]


def telemetry_warnings(iot: Any, environment: str) -> list[str]:
    """Warns of other environments that get the same messages: all stations of a region publish to the same topics."""
    try:
        pages = iot.get_paginator("list_topic_rules").paginate()
        rules = [rule for page in pages for rule in page.get("rules", [])]
    except (BotoCoreError, ClientError) as error:
        return [f"the IoT rules of other environments cannot be read: {error}"]
    enabled = [rule["ruleName"] for rule in rules if not rule.get("ruleDisabled")]
    found = sorted(name.removeprefix(TELEMETRY_RULE) for name in enabled if name.startswith(TELEMETRY_RULE))
    if not (others := [name for name in found if name != environment]):
        return []
    return [
        "the messages of battery-swap stations of this account and region also go to other environments:"
        f" {', '.join(others)}. Each environment gets every message. Deploy all of them but one with"
        f" {SWAP_STATIONS}=false"
    ]
