"""The parameters of the template.

If the command line has parameters, SAM ignores all parameters in samconfig.toml. So this module merges both, and SAM
gets all of them.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from deployment.failure import Failure

ENVIRONMENT = "Environment"
ARCHITECTURE = "Architecture"
NAME = re.compile(r"[A-Za-z0-9]+")


def parse(text: str | Iterable[str]) -> dict[str, str]:
    """Parses `Name=value Other="value with spaces"`, or a list of such texts.

    If a name occurs several times, its last value counts.
    """
    found: dict[str, str] = {}
    for part in [text] if isinstance(text, str) else text:
        try:
            words = shlex.split(part)
        except ValueError as error:
            raise Failure(
                f"the parameters {part!r} cannot be read ({error}): write Name=value Name='two words'"
            ) from None
        for word in words:
            name, equals, value = word.partition("=")
            if not (equals and NAME.fullmatch(name)):
                raise Failure(f"{word!r} is no parameter: write Name=value, and quote a value with spaces")
            found[name] = value
    return found


def compose(environment: str, architecture: str, config: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Merges the parameters of samconfig.toml and of the command line. A value of the command line takes precedence."""
    fixed = {ENVIRONMENT: environment, ARCHITECTURE: architecture}
    sources = (("PARAMETERS", given), ("samconfig.toml", config))
    for name, value in fixed.items():
        for source, values in sources:
            if values.get(name, value) != value:
                variable = "ENV" if name == ENVIRONMENT else "ARCH"
                raise Failure(
                    f"{source} has {name}={values[name]}, but {variable} is {value}: leave {name} out of {source}"
                )
    return fixed | {**config, **given}


def check_names(names: Iterable[str], template: Mapping[str, object]) -> None:
    """Refuses parameters that the template does not have. SAM would drop them without a message."""
    unknown = sorted(set(names) - set(template))
    if unknown:
        raise Failure(f"the template has no parameter {', '.join(unknown)}: it has {', '.join(sorted(template))}")


def effective(
    given: Mapping[str, str], deployed: Mapping[str, str], declared: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Returns the values that the stack will have: given ones, else deployed ones, else defaults."""
    defaults = {name: str(each["Default"]) for name, each in declared.items() if "Default" in each}
    values = defaults | dict(deployed) | dict(given)
    return {name: values[name] for name in declared if name in values}


def check_values(values: Mapping[str, str], declared: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses values that CloudFormation would refuse after the build, by the declarations of the parameters."""
    wrong = []
    for name, value in values.items():
        is_hidden = declared[name].get("NoEcho", False)
        if is_hidden and value == "****":
            continue  # the value of the stack, as CloudFormation describes it
        if fault := fault_of(value, declared[name]):
            wrong.append(f"{name if is_hidden else f'{name}={value!r}'} {fault}")
    if wrong:
        raise Failure("; ".join(wrong))


def fault_of(value: str, declaration: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with a value, or None."""
    allowed = [str(each) for each in declaration.get("AllowedValues", [])]
    if allowed and value not in allowed:
        return f"is not one of {', '.join(allowed)}"
    pattern = declaration.get("AllowedPattern")
    if pattern is not None and not re.fullmatch(pattern, value):
        return f"does not match {pattern}"
    if declaration.get("Type") != "Number":
        return None
    try:
        number = float(value)
    except ValueError:
        return "is no number"
    if "MinValue" in declaration and number < float(declaration["MinValue"]):
        return f"is less than {declaration['MinValue']}"
    if "MaxValue" in declaration and number > float(declaration["MaxValue"]):
        return f"is more than {declaration['MaxValue']}"
    return None


def check_rules(values: Mapping[str, str], rules: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses values that break a rule of the template. CloudFormation would refuse them after the build."""
    broken = [
        assertion.get("AssertDescription", name)
        for name, rule in rules.items()
        if "RuleCondition" not in rule or holds(rule["RuleCondition"], values)
        for assertion in rule["Assertions"]
        if not holds(assertion["Assert"], values)
    ]
    if broken:
        raise Failure("; ".join(broken))


def holds(condition: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    """Returns the value of a condition of a rule."""
    ((function, arguments),) = condition.items()
    if function == "Fn::Equals":
        one, other = (operand(each, values) for each in arguments)
        return one == other
    if function not in ("Fn::Not", "Fn::And", "Fn::Or"):
        raise Failure(f"{function} in a rule of the template is not known here")
    parts = [holds(each, values) for each in arguments]
    return {"Fn::Not": not parts[0], "Fn::And": all(parts), "Fn::Or": any(parts)}[function]


def operand(value: Any, values: Mapping[str, str]) -> str:
    """Returns a value that a rule compares: a text, or that of a parameter."""
    return values[value["Ref"]] if isinstance(value, Mapping) else str(value)
