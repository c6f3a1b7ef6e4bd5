"""The template as it would be deployed: parameters and conditions evaluated, functions of the template resolved."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FUNCTION = "AWS::Serverless::Function"
REMOVED = object()
PSEUDO = {
    "AWS::Region": "region",
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "stack",
    "AWS::StackId": "stack",
}


class CostError(Exception):
    """The cost cannot be reckoned: something is unknown, or a figure is stale."""


@dataclass(frozen=True)
class Resource:
    """A resource that is deployed."""

    name: str
    type: str
    properties: dict[str, Any]


@dataclass(frozen=True)
class Trigger:
    """What starts a function."""

    name: str
    type: str
    properties: dict[str, Any]

    @property
    def enabled(self) -> bool:
        return is_true(self.properties.get("Enabled", True)) and self.properties.get("State") != "DISABLED"


@dataclass(frozen=True)
class Function:
    """A Lambda function."""

    name: str
    binary: str
    memory_mb: int
    architecture: str
    traced: bool
    properties: dict[str, Any]
    triggers: tuple[Trigger, ...]


def is_true(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).lower() == "true"


class Template:
    """A template without loops, with values for its parameters."""

    def __init__(self, document: Mapping[str, Any], parameters: Mapping[str, str] | None = None) -> None:
        self._document = document
        self._parameters = self._values(parameters or {})
        self._conditions: dict[str, bool] = {}
        self.resources = {
            name: Resource(name, resource["Type"], self._resolve(resource.get("Properties", {})))
            for name, resource in document["Resources"].items()
            if "Condition" not in resource or self.holds(resource["Condition"])
        }
        defaults = self._resolve(document.get("Globals", {}).get("Function", {}))
        self.functions = {
            resource.name: _function(resource.name, defaults | resource.properties)
            for resource in self.of_type(FUNCTION)
        }

    def of_type(self, kind: str) -> list[Resource]:
        return [resource for resource in self.resources.values() if resource.type == kind]

    def holds(self, condition: str) -> bool:
        """Returns the value of a condition."""
        if condition not in self._conditions:
            declared = self._document.get("Conditions", {})
            if condition not in declared:
                raise CostError(f"the template has no condition {condition}")
            self._conditions[condition] = self._test(declared[condition])
        return self._conditions[condition]

    def _values(self, given: Mapping[str, str]) -> dict[str, str]:
        declared = self._document.get("Parameters", {})
        if unknown := sorted(given.keys() - declared.keys()):
            raise CostError(f"the template has no parameter {', '.join(unknown)}")
        values = {}
        for name, parameter in declared.items():
            value = given.get(name, parameter.get("Default"))
            if value is None:
                raise CostError(f"the parameter {name} has no default: pass --parameters {name}=…")
            allowed = parameter.get("AllowedValues")
            if allowed and str(value) not in map(str, allowed):
                raise CostError(f"the parameter {name} is one of {', '.join(map(str, allowed))}")
            values[name] = value
        return values

    def _test(self, node: Any) -> bool:
        ((function, argument),) = node.items()
        if function == "Condition":
            return self.holds(argument)
        if function == "Fn::Equals":
            first, second = (self._resolve(value) for value in argument)
            return str(first) == str(second)
        if function == "Fn::Not":
            return not self._test(argument[0])
        if function == "Fn::And":
            return all(self._test(part) for part in argument)
        if function == "Fn::Or":
            return any(self._test(part) for part in argument)
        raise CostError(f"{function} in a condition is not understood")

    def _resolve(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for item in node if (value := self._resolve(item)) is not REMOVED]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((function, argument),) = node.items()
            if function == "Ref":
                return self._ref(argument)
            if function == "Fn::If":
                condition, yes, no = argument
                return self._resolve(yes if self.holds(condition) else no)
            if function == "Fn::GetAtt":
                return argument if isinstance(argument, str) else ".".join(map(str, self._resolve(argument)))
            if function == "Fn::Sub":
                return self._substitute(argument)
            if function == "Fn::Join":
                separator, parts = argument
                return separator.join(map(str, self._resolve(parts)))
            if function == "Fn::FindInMap":
                mapping, row, column = (self._resolve(key) for key in argument[:3])
                return self._document["Mappings"][mapping][row][column]
        resolved = {key: self._resolve(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not REMOVED}

    def _ref(self, name: str) -> Any:
        """Returns the value of a parameter, and for a resource its logical id."""
        if name == "AWS::NoValue":
            return REMOVED
        return self._parameters.get(name, PSEUDO.get(name, name))

    def _substitute(self, argument: Any) -> str:
        text, values = (argument, {}) if isinstance(argument, str) else argument
        given = {name: self._resolve(value) for name, value in values.items()}

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            return str(given.get(name, self._ref(name)))

        return re.sub(r"\$\{([^}]+)\}", value, text)


def _function(name: str, properties: dict[str, Any]) -> Function:
    triggers = (Trigger(event, t["Type"], t["Properties"]) for event, t in properties.get("Events", {}).items())
    code = properties.get("CodeUri", "")
    return Function(
        name=name,
        binary=code.rstrip("/").rsplit("/", 1)[-1] if isinstance(code, str) else "",
        memory_mb=int(properties.get("MemorySize", 128)),
        architecture=(properties.get("Architectures") or ["x86_64"])[0],
        traced=properties.get("Tracing") == "Active",
        properties=properties,
        triggers=tuple(triggers),
    )
