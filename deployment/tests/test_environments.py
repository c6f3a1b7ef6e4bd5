import re
from pathlib import Path

import pytest
import tomlkit

from deployment import environments
from deployment.environments import Settings
from deployment.failure import Failure
from deployment.package import INFRASTRUCTURE, read_template

CONFIG = """
version = 0.1

[default.deploy.parameters]
stack_name = "evoke"
parameter_overrides = "Environment=dev Currency=EUR"

[prod.deploy.parameters]
stack_name = "evoke-prod"
parameter_overrides = ["Environment=prod", "CognitoDomain=ours"]

[wrong.deploy.parameters]
stack_name = "evoke"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "samconfig.toml"
    file.write_text(CONFIG)
    return file


@pytest.mark.parametrize("name", ["dev", "prod", "qa", "team2", "a123456789"])
def test_a_short_name_is_an_environment(name: str) -> None:
    environments.check_name(name)


@pytest.mark.parametrize("name", ["aws", "myawsenv", "amazon1", "cognito2"])
def test_a_name_that_cognito_refuses_is_refused(name: str) -> None:
    with pytest.raises(Failure, match=f"ENV={name}: Cognito refuses host names that contain aws, amazon or cognito"):
        environments.check_name(name)


def test_the_template_takes_the_same_names() -> None:
    pattern = read_template(INFRASTRUCTURE / "template.yaml")["Parameters"]["Environment"]["AllowedPattern"]
    for name in ("dev", "a123456789", "a", "2nd", "a1234567890", "myawsenv", "amazon1", "cognito2"):
        try:
            environments.check_name(name)
            allowed = True
        except Failure:
            allowed = False
        assert (re.fullmatch(pattern, name) is not None) == allowed, name


@pytest.mark.parametrize("name", ["", "a", "Dev", "2nd", "my-team", "a1234567890", "dev\n", "/etc/ksh.kshrc"])
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(Failure, match="is no environment: ENV=dev and ENV=prod are"):
        environments.check_name(name)


def test_each_environment_has_a_stack_of_its_own() -> None:
    assert [environments.stack_name(name) for name in ("dev", "prod", "qa")] == ["evoke", "evoke-prod", "evoke-qa"]


def test_an_environment_has_its_own_section(config: Path) -> None:
    settings = environments.settings(config, "prod")
    assert settings == Settings("prod", {"Environment": "prod", "CognitoDomain": "ours"})


def test_an_environment_without_a_section_has_the_default_values_but_its_own_name(config: Path) -> None:
    assert environments.settings(config, "qa") == Settings("default", {"Currency": "EUR"})


def test_a_value_of_samconfig_is_no_section(config: Path) -> None:
    assert environments.settings(config, "version") == Settings("default", {"Currency": "EUR"})


def test_a_stack_that_does_not_fit_the_environment_is_refused(config: Path) -> None:
    with pytest.raises(Failure, match=r"names the stack evoke in the section wrong: .* is evoke-wrong"):
        environments.settings(config, "wrong")


def test_samconfig_asks_before_it_deploys_and_leaves_the_region_to_the_caller() -> None:
    file = INFRASTRUCTURE / "samconfig.toml"
    sections = {name: value for name, value in tomlkit.parse(file.read_text()).unwrap().items() if name != "version"}
    assert {"default", "dev", "prod"} <= set(sections)
    for section in sections.values():
        parameters = section["deploy"]["parameters"]
        assert parameters["confirm_changeset"] is True
        assert "region" not in parameters
    for environment in sections.keys() - {"default"}:
        assert environments.settings(file, environment).parameters["Environment"] == environment
