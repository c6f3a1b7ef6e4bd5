import json
from pathlib import Path

import pytest
from samcli.cli.types import CfnParameterOverridesType  # type: ignore[import-untyped]

from deployment import parameters
from deployment.failure import Failure


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


def test_sam_reads_the_values_as_they_are(tmp_path: Path) -> None:
    values = {"A": "1.10", "B": "rate(3 hours)", "C": "", "D": "a=b, c", "E": "true", "F": "/evoke/key", "G": "*"}
    file = tmp_path / "parameters.yaml"
    file.write_text(json.dumps(values))
    assert CfnParameterOverridesType().convert((f"file://{file}",), None, None) == values
