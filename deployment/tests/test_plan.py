import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from deployment import __main__ as command
from deployment import graphql, parameters, stacks
from deployment import plan as plans
from deployment.failure import Failure
from deployment.graphql import Graphql
from deployment.package import Package
from deployment.plan import Plan
from deployment.stacks import Stack, Step


def plan(step: Step, **deployed: str) -> Plan:
    return Plan(
        environment="prod",
        user="arn:aws:iam::123456789012:user/ada",
        account="123456789012",
        section="prod",
        parameters={"Environment": "prod", "ThrottleRate": "100", "PaymentKey": "secret"},
        hidden=frozenset({"PaymentKey"}),
        package=Package("arm64", Path("/project")),
        session=boto3.Session(region_name="eu-west-1"),
        stack=Stack("evoke-prod", None if step is Step.CREATE else "UPDATE_COMPLETE", deployed),
        step=step,
        graphql=Graphql(Stack("evoke-graphql-prod"), Step.CREATE, {"GraphqlLogs": "true"}),
        effective={"Environment": "prod", "Architecture": "arm64", "LogRetentionDays": "30"},
    )


def test_a_plan_shows_where_and_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert plan(Step.UPDATE, Environment="prod", ThrottleRate="200", PaymentKey="****").lines() == [
        "account     123456789012 (arn:aws:iam::123456789012:user/ada)",
        "region      eu-west-1",
        "stack       evoke-prod (UPDATE_COMPLETE): update",
        "GraphQL     evoke-graphql-prod (does not exist): create",
        "parameters",
        "  Environment=prod",
        "  ThrottleRate=100 (now 200)",
        "  PaymentKey=****",
        "  GraphqlLogs=true",
        "  All other parameters keep their values.",
    ]
    assert plan(Step.CREATE).lines()[2] == "stack       evoke-prod (does not exist): create"


def test_a_parameter_of_the_graphql_api_is_compared_with_its_own_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    deployed = Stack("evoke-graphql-prod", "UPDATE_COMPLETE", {"GraphqlLogs": "false"})
    changed = replace(plan(Step.CREATE), graphql=Graphql(deployed, Step.UPDATE, {"GraphqlLogs": "true"}))
    assert "  GraphqlLogs=true (now false)" in changed.lines()


def test_a_plan_says_if_it_is_not_for_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    assert plan(Step.CREATE).lines()[-1] == "AWS_ENDPOINT_URL is set: this is http://127.0.0.1:4566, not AWS."


def test_the_region_is_that_of_the_variables_or_of_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    config = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert plans.region({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}) == "eu-west-1"
    assert plans.region({"AWS_DEFAULT_REGION": "us-east-1"}) == "us-east-1"
    with pytest.raises(Failure, match="no region is set: set AWS_REGION, or AWS_PROFILE"):
        plans.region({})
    config.write_text("[default]\nregion = eu-north-1\n")
    assert plans.region({}) == "eu-north-1"


def test_an_account_that_runs_few_functions_at_once_is_warned_of() -> None:
    assert plans.concurrency_warnings(1000) == plans.concurrency_warnings(100) == []
    (warning,) = plans.concurrency_warnings(10)
    assert "at most 10 executions at once" in warning


def test_a_region_without_a_type_of_the_template_is_warned_of() -> None:
    assert plans.region_warnings((), "eu-west-1") == []
    (warning,) = plans.region_warnings(("AWS::Budgets::Budget",), "mx-central-1")
    assert "mx-central-1 has no AWS::Budgets::Budget" in warning


class Lambda:
    """Stands in for the client of boto3."""

    def __init__(self, **limits: int) -> None:
        self.limits = limits

    def get_account_settings(self) -> Any:
        if not self.limits:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "GetAccountSettings")
        return {"AccountLimit": self.limits}


def test_a_reservation_leaves_a_hundred_executions() -> None:
    def check(functions: Lambda, wanted: str, reserved: str = "0") -> None:
        plans.check_reservation(
            functions, {"TelemetryConcurrency": wanted}, {"TelemetryConcurrency": reserved} if reserved != "0" else {}
        )

    account = Lambda(ConcurrentExecutions=1000, UnreservedConcurrentExecutions=150)
    check(account, "0")
    check(account, "50")
    with pytest.raises(Failure, match="TelemetryConcurrency=51 is more than the 50 executions that can be reserved"):
        check(account, "51")
    # What the stack has reserved already is free for its new reservation.
    check(account, "60", "10")
    with pytest.raises(Failure, match="more than the 60"):
        check(account, "61", "10")
    check(Lambda(ConcurrentExecutions=10, UnreservedConcurrentExecutions=10), "2", "2")
    with pytest.raises(Failure, match="more than the 0 executions"):
        check(Lambda(ConcurrentExecutions=10, UnreservedConcurrentExecutions=10), "2")
    with pytest.raises(Failure, match="more than the 900"):
        check(Lambda(ConcurrentExecutions=1000), "901")
    check(Lambda(), "900")


class Iot:
    """Stands in for the client of boto3. Each page has one rule."""

    def __init__(self, *rules: dict[str, Any], denied: bool = False) -> None:
        self.rules = rules
        self.denied = denied

    def get_paginator(self, name: str) -> Any:
        assert name == "list_topic_rules"
        return self

    def paginate(self) -> Any:
        if self.denied:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "ListTopicRules")
        return [{"rules": [rule]} for rule in self.rules]


def test_another_environment_with_battery_swap_stations_is_warned_of() -> None:
    own, other = {"ruleName": "ev_telemetry_prod"}, {"ruleName": "ev_telemetry_qa", "ruleDisabled": False}
    foreign, disabled = {"ruleName": "audit"}, {"ruleName": "ev_telemetry_dev", "ruleDisabled": True}
    assert plans.telemetry_warnings(Iot(own, foreign, disabled), "prod") == []
    (warning,) = plans.telemetry_warnings(Iot(own, other, foreign, disabled), "prod")
    assert "also go to other environments: qa." in warning
    assert "SwapStations=false" in warning
    (warning,) = plans.telemetry_warnings(Iot(denied=True), "prod")
    assert "the IoT rules of other environments cannot be read" in warning


def test_an_environment_takes_telemetry_unless_it_is_told_not_to() -> None:
    assert plan(Step.CREATE).takes_telemetry()
    assert plan(Step.UPDATE, SwapStations="true").takes_telemetry()
    assert not plan(Step.UPDATE, SwapStations="false").takes_telemetry()
    # A stack whose creation is repeated keeps no values.
    assert plan(Step.REPEAT_CREATION, SwapStations="false").takes_telemetry()
    told = plan(Step.UPDATE, SwapStations="true")
    told.parameters["SwapStations"] = "false"
    assert not told.takes_telemetry()


def test_a_prod_without_protection_is_warned_of_when_it_is_updated() -> None:
    def warned(step: Step, value: str, environment: str = "prod") -> bool:
        protected = replace(plan(step), environment=environment, effective={"DeletionProtection": value})
        return any("DeletionProtection=true" in warning for warning in plans.protection_warnings(protected))

    assert warned(Step.UPDATE, "false")
    assert not warned(Step.UPDATE, "auto")
    assert not warned(Step.UPDATE, "true")
    assert not warned(Step.UPDATE, "false", "qa")
    # A creation that fails can only be rolled back without protection.
    assert not warned(Step.CREATE, "false")
    assert not warned(Step.REPEAT_CREATION, "false")


@pytest.mark.parametrize(
    ("answer", "agreed"), [("y", True), (" Yes ", True), ("", False), ("n", False), ("prod", False)]
)
def test_only_a_yes_is_a_yes(answer: str, agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert command.agreed() is agreed


def test_without_a_terminal_nobody_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", closed)
    with pytest.raises(Failure, match="YES=1 agrees in advance"):
        command.agreed()


def test_the_command_that_repeats_a_deployment_has_everything_that_was_given() -> None:
    assert plan(Step.CREATE).command() == "make deploy ENV=prod ARCH=arm64"
    given = replace(plan(Step.CREATE), given={"OcmSchedule": "rate(3 hours)", "ThrottleRate": "5", "Mail": ""})
    text = given.command()
    assert text.startswith("make deploy ENV=prod ARCH=arm64 PARAMETERS=")
    _, _, _, _, words = shlex.split(text)
    assert parameters.parse(words.removeprefix("PARAMETERS=")) == given.given
    secret = replace(plan(Step.CREATE), given={"PaymentKey": "secret"})
    assert secret.command() == "make deploy ENV=prod ARCH=arm64 PARAMETERS='PaymentKey=…'"


def test_the_advice_after_a_failed_deployment_has_the_whole_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Package, "complete", lambda _: None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1))
    failed = replace(plan(Step.CREATE), given={"DeletionProtection": "false"})
    with pytest.raises(Failure, match="`make deploy ENV=prod ARCH=arm64 PARAMETERS=DeletionProtection=false`"):
        command.deploy(failed, ask=False)


def test_sam_gets_everything_that_samconfig_does_not_say() -> None:
    prod = plan(Step.UPDATE)
    arguments = command.sam_command(prod, prod.stack, prod.package.template, Path("/tmp/parameters.yaml"), ask=True)
    assert arguments[1:] == [
        "deploy",
        "--template-file", "/project/target/package/arm64/infrastructure/template.yaml",
        "--config-file", "/project/target/package/arm64/infrastructure/samconfig.toml",
        "--config-env", "prod",
        "--stack-name", "evoke-prod",
        "--region", "eu-west-1",
        "--parameter-overrides", "file:///tmp/parameters.yaml",
        "--confirm-changeset",
    ]  # fmt: skip
    arguments = command.sam_command(prod, prod.graphql.stack, prod.package.graphql_template, Path("/"), ask=False)
    assert arguments[3] == "/project/target/package/arm64/infrastructure/graphql/template.yaml"
    assert arguments[9] == "evoke-graphql-prod"
    assert arguments[-1] == "--no-confirm-changeset"


class Sam:
    """Stands in for sam. Notes the parameters of each stack, and fails for one of them."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.deployed: dict[str, dict[str, str]] = {}

    def __call__(self, arguments: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        options = dict(zip(arguments[2::2], arguments[3::2], strict=False))
        stack = options["--stack-name"]
        self.deployed[stack] = json.loads(Path(options["--parameter-overrides"].removeprefix("file://")).read_text())
        return subprocess.CompletedProcess([], int(stack == self.failing))


def test_the_main_stack_comes_first_and_gives_the_other_one_its_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = {"UserPoolId": "eu-west-1_a", "UserPoolClientId": "client"}
    sam = Sam()
    monkeypatch.setattr(Package, "complete", lambda _: None)
    monkeypatch.setattr(subprocess, "run", sam)
    monkeypatch.setattr(graphql, "time", SimpleNamespace(time=lambda: 1_700_000_000.5))
    monkeypatch.setattr(stacks, "find", lambda _, name: Stack(name, "UPDATE_COMPLETE", {}, outputs))
    command.deploy(plan(Step.UPDATE), ask=False)
    assert list(sam.deployed) == ["evoke-prod", "evoke-graphql-prod"]
    assert sam.deployed["evoke-prod"] == plan(Step.UPDATE).parameters
    assert sam.deployed["evoke-graphql-prod"] == {
        "Environment": "prod",
        "Architecture": "arm64",
        "LogRetentionDays": "30",
        **outputs,
        "ApiKeyExpires": "1731449600",  # in 364 days
        "GraphqlLogs": "true",
    }


def test_without_the_main_stack_the_other_one_is_not_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    sam = Sam(failing="evoke-prod")
    monkeypatch.setattr(Package, "complete", lambda _: None)
    monkeypatch.setattr(subprocess, "run", sam)
    with pytest.raises(Failure, match="sam deploy of evoke-prod failed"):
        command.deploy(plan(Step.CREATE), ask=False)
    assert list(sam.deployed) == ["evoke-prod"]


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED"])
def test_what_is_left_of_a_failed_graphql_api_is_deleted_alone(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[str] = []
    outputs = {"UserPoolId": "eu-west-1_a", "UserPoolClientId": "client"}
    monkeypatch.setattr(Package, "complete", lambda _: None)
    monkeypatch.setattr(subprocess, "run", Sam())
    monkeypatch.setattr(stacks, "find", lambda _, name: Stack(name, "UPDATE_COMPLETE", {}, outputs))
    monkeypatch.setattr(stacks, "delete_failed_creation", lambda _, name: deleted.append(name))
    failed = Graphql(Stack("evoke-graphql-prod", status), Step.REPEAT_CREATION)
    command.deploy(replace(plan(Step.UPDATE), graphql=failed), ask=False)
    assert deleted == ["evoke-graphql-prod"]
