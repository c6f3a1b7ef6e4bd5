import json
from pathlib import Path
from typing import Any

import pytest
from samcli.cli.types import CfnParameterOverridesType  # type: ignore[import-untyped]

from deployment import parameters
from deployment.failure import Failure
from deployment.package import INFRASTRUCTURE, read_template


def test_parameters_are_words_and_a_quoted_value_may_have_spaces() -> None:
    given = "  ThrottleRate=5 OcmSchedule='rate(3 hours)' Empty= Query=\"a=b c\" ThrottleRate=6 "
    expected = {"ThrottleRate": "6", "OcmSchedule": "rate(3 hours)", "Empty": "", "Query": "a=b c"}
    assert parameters.parse(given) == expected
    assert parameters.parse(["ThrottleRate=5", "OcmSchedule='rate(3 hours)'"]) == {
        "ThrottleRate": "5",
        "OcmSchedule": "rate(3 hours)",
    }
    assert parameters.parse("") == parameters.parse([]) == {}


@pytest.mark.parametrize(
    "text", ["ThrottleRate", "=5", "rate(3 hours)", "Throttle-Rate=5", "OcmSchedule=rate(3 hours)"]
)
def test_what_is_no_parameter_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="is no parameter: write Name=value"):
        parameters.parse(text)


def test_a_quote_that_does_not_end_is_refused() -> None:
    with pytest.raises(Failure, match="cannot be read"):
        parameters.parse("OcmSchedule='rate(3 hours)")


def test_no_parameter_is_lost_and_those_of_the_command_line_count() -> None:
    config = {"Environment": "prod", "CognitoDomain": "ours", "ThrottleRate": "1"}
    composed = parameters.compose("prod", "arm64", config, {"ThrottleRate": "2", "Currency": "CHF"})
    assert composed == {
        "Environment": "prod",
        "Architecture": "arm64",
        "CognitoDomain": "ours",
        "ThrottleRate": "2",
        "Currency": "CHF",
    }


@pytest.mark.parametrize(
    ("config", "given", "message"),
    [
        ({}, {"Environment": "dev"}, "PARAMETERS has Environment=dev, but ENV is prod"),
        ({"Environment": "dev"}, {}, r"samconfig\.toml has Environment=dev, but ENV is prod"),
        ({"Environment": "dev"}, {"Environment": "prod"}, r"samconfig\.toml has Environment=dev"),
        ({}, {"Architecture": "x86_64"}, "PARAMETERS has Architecture=x86_64, but ARCH is arm64"),
    ],
)
def test_another_environment_or_architecture_is_refused(
    config: dict[str, str], given: dict[str, str], message: str
) -> None:
    with pytest.raises(Failure, match=message):
        parameters.compose("prod", "arm64", config, given)


def test_a_parameter_that_the_template_does_not_have_is_refused() -> None:
    template: dict[str, object] = {"Environment": {}, "ThrottleRate": {}}
    parameters.check_names(["ThrottleRate"], template)
    with pytest.raises(Failure, match="no parameter ThrotleRate: it has Environment, ThrottleRate"):
        parameters.check_names(["ThrotleRate", "Environment"], template)


DECLARED: dict[str, dict[str, Any]] = {
    "Name": {"Type": "String", "AllowedPattern": "^[a-z]+$", "Default": "dev"},
    "Switch": {"Type": "String", "AllowedValues": ["true", "false"], "Default": "true"},
    "Days": {"Type": "Number", "AllowedValues": [0, 7, 90], "Default": 0},
    "Shards": {"Type": "Number", "MinValue": 0, "MaxValue": 1024, "Default": 16},
    "Mail": {"Type": "String", "Default": ""},
}
RULES: dict[str, dict[str, Any]] = {
    "MailIfDays": {
        "RuleCondition": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Days"}, "0"]}]},
        "Assertions": [
            {"Assert": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Mail"}, ""]}]}, "AssertDescription": "Days needs Mail"}
        ],
    },
    "NotOne": {"Assertions": [{"Assert": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Shards"}, "1"]}]}}]},
}


def test_a_parameter_has_the_given_value_or_the_deployed_one_or_its_default() -> None:
    values = parameters.effective({"Name": "prod"}, {"Name": "qa", "Shards": "4", "Gone": "x"}, DECLARED)
    assert values == {"Name": "prod", "Switch": "true", "Days": "0", "Shards": "4", "Mail": ""}


@pytest.mark.parametrize(
    "values", [{"Name": "a"}, {"Switch": "false"}, {"Days": "90"}, {"Shards": "0"}, {"Shards": "1024"}, {"Mail": "x"}]
)
def test_a_value_that_the_template_allows_is_taken(values: dict[str, str]) -> None:
    parameters.check_values(values, DECLARED)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"Name": "a1"}, r"Name='a1' does not match \^\[a-z\]\+\$"),
        ({"Name": "a\n"}, "does not match"),
        ({"Switch": "True"}, "Switch='True' is not one of true, false"),
        ({"Days": "8"}, "Days='8' is not one of 0, 7, 90"),
        ({"Shards": "many"}, "Shards='many' is no number"),
        ({"Shards": "-1"}, "Shards='-1' is less than 0"),
        ({"Shards": "1025"}, "Shards='1025' is more than 1024"),
        ({"Shards": "1025", "Switch": ""}, "Shards='1025' is more than 1024; Switch='' is not one of"),
    ],
)
def test_a_value_that_the_template_does_not_allow_is_refused(values: dict[str, str], message: str) -> None:
    with pytest.raises(Failure, match=message):
        parameters.check_values(values, DECLARED)


def test_a_value_that_nobody_may_read_is_not_shown() -> None:
    declared = {"Key": {"Type": "String", "AllowedPattern": "[a-z]+", "NoEcho": True}}
    with pytest.raises(Failure, match=r"^Key does not match"):
        parameters.check_values({"Key": "S3CRET"}, declared)
    # CloudFormation describes the value of a stack like this.
    parameters.check_values({"Key": "****"}, declared)


def test_values_that_break_a_rule_are_refused() -> None:
    defaults = parameters.effective({}, {}, DECLARED)
    parameters.check_rules(defaults, RULES)
    parameters.check_rules(defaults | {"Days": "7", "Mail": "a@b"}, RULES)
    with pytest.raises(Failure, match="^Days needs Mail$"):
        parameters.check_rules(defaults | {"Days": "7"}, RULES)
    with pytest.raises(Failure, match="^NotOne$"):
        parameters.check_rules(defaults | {"Shards": "1"}, RULES)


def test_the_defaults_and_rules_of_the_template_are_understood() -> None:
    template = read_template(INFRASTRUCTURE / "template.yaml")
    defaults = parameters.effective({}, {}, template["Parameters"])
    assert defaults.keys() == template["Parameters"].keys()
    parameters.check_values(defaults, template["Parameters"])
    parameters.check_rules(defaults, template["Rules"])
    for wrong in ({"MonthlyBudget": "50"}, {"TelemetryConcurrency": "1"}):
        with pytest.raises(Failure, match=next(iter(wrong))):
            parameters.check_rules(defaults | wrong, template["Rules"])


def test_sam_reads_the_values_as_they_are(tmp_path: Path) -> None:
    values = {"A": "1.10", "B": "rate(3 hours)", "C": "", "D": "a=b, c", "E": "true", "F": "/evoke/key", "G": "*"}
    file = tmp_path / "parameters.yaml"
    file.write_text(json.dumps(values))
    assert CfnParameterOverridesType().convert((f"file://{file}",), None, None) == values
