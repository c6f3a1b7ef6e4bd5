"""Which updates a subscription gets: those that equal its arguments, or those that pass the filter of its resolver.

Sources: AppSync's developer guide, "Using subscription arguments" and "Defining enhanced subscriptions filters"; the
limits of a filter come from AppSync's error messages. A filter of the resolver replaces the arguments: AppSync filters
by arguments only if the resolver sets no filter.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_GROUPS = 10
MAX_CONDITIONS = 5
MAX_DEPTH = 5
MAX_FIELD_LENGTH = 256
MAX_LIST = {"in": 5, "notIn": 5, "containsAny": 20, "between": 2}

Json = Any


class FilterError(ValueError):
    """A filter that AppSync refuses."""


def equals_arguments(update: Mapping[str, Json], arguments: Mapping[str, Json]) -> bool:
    """Returns whether the update has the value of each argument.

    An argument that is null matches only an update whose field is null. An argument that is left out matches every
    update. A field that the mutation did not select is null.
    """
    return all(_same(update.get(name), wanted) for name, wanted in arguments.items())


@dataclass(frozen=True)
class Condition:
    """A comparison of one field. It is not met if the types differ."""

    path: tuple[str, ...]
    operator: str
    value: Json

    def met_by(self, update: Mapping[str, Json]) -> bool:
        field: Json = update
        for name in self.path:
            field = field.get(name) if isinstance(field, Mapping) else None
        return OPERATORS[self.operator](field, self.value)


@dataclass(frozen=True)
class Filter:
    """Groups of conditions. An update passes if it meets all conditions of at least one group."""

    groups: tuple[tuple[Condition, ...], ...]

    @classmethod
    def parse(cls, document: Json) -> "Filter":
        """Reads `{"filterGroup": [{"filters": [{"fieldName", "operator", "value"}]}]}`."""
        groups = _list_of(document, "filterGroup")
        if len(groups) > MAX_GROUPS:
            raise FilterError(f"Filters combination exceed maximum limit {MAX_GROUPS} for subscription.")
        return cls(tuple(_group(group) for group in groups))

    def passes(self, update: Mapping[str, Json]) -> bool:
        return any(all(condition.met_by(update) for condition in group) for group in self.groups)


def _group(group: Json) -> tuple[Condition, ...]:
    conditions = tuple(_condition(condition) for condition in _list_of(group, "filters"))
    if len(conditions) > MAX_CONDITIONS:
        raise FilterError(f"Filters exceed maximum attributes limit {MAX_CONDITIONS} for subscription.")
    paths = [condition.path for condition in conditions]
    for path in paths:
        if paths.count(path) > 1:
            raise FilterError(f"The filter uses same fieldName multiple time: {'.'.join(path)}.")
    return conditions


def _list_of(document: Json, name: str) -> Sequence[Json]:
    items = document.get(name) if isinstance(document, Mapping) else None
    if not isinstance(items, list) or not items:
        # AppSync's behaviour with empty filters is not defined.
        raise FilterError(f"The filter needs a list `{name}` with at least one element.")
    return items


def _condition(condition: Json) -> Condition:
    if not isinstance(condition, Mapping):
        raise FilterError("Each filter needs fieldName, operator and value.")
    field, operator, value = (condition.get(name) for name in ("fieldName", "operator", "value"))
    if not isinstance(field, str) or not field or len(field) > MAX_FIELD_LENGTH:
        raise FilterError(f"A fieldName has 1 to {MAX_FIELD_LENGTH} characters: {field!r}.")
    path = tuple(field.split("."))
    if len(path) > MAX_DEPTH or not all(path):
        raise FilterError(f"A fieldName has at most {MAX_DEPTH} levels: {field}.")
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise FilterError(f"The operator {operator!r} is not one of {', '.join(OPERATORS)}.")
    _check_value(field, operator, value)
    return Condition(path, operator, value)


def _check_value(field: str, operator: str, value: Json) -> None:
    limit = MAX_LIST.get(operator)
    if limit is None:
        if not isinstance(value, (str, int, float)):
            raise FilterError(f"The operator `{operator}` of {field} needs a text, number or Boolean: {value!r}.")
        return
    if not isinstance(value, list) or not all(isinstance(item, (str, int, float)) for item in value):
        raise FilterError(f"The operator `{operator}` of {field} needs a list of texts or numbers: {value!r}.")
    if len(value) > limit:
        raise FilterError(f"The operator `{operator}` of {field} exceeds maximum value limit `{limit}`.")
    if operator == "between" and len(value) != limit:
        raise FilterError(f"The operator `between` of {field} needs two values.")


def _kind(value: Json) -> type:
    """Returns the kind of a value: text, number or Boolean. Only values of one kind may be compared.

    Without this, True would equal 1, as in Python.
    """
    return float if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value)


def _same(left: Json, right: Json) -> bool:
    return _kind(left) is _kind(right) and bool(left == right)


def _ordered(compare: Callable[[Json, Json], bool]) -> Callable[[Json, Json], bool]:
    def apply(field: Json, value: Json) -> bool:
        return _kind(field) is _kind(value) and _kind(field) in (str, float) and compare(field, value)

    return apply


def _contains(field: Json, value: Json) -> bool:
    """A text contains a text, a list contains an element."""
    if isinstance(field, str):
        return isinstance(value, str) and value in field
    return isinstance(field, list) and _in(value, field)


def _in(field: Json, values: Sequence[Json]) -> bool:
    return any(_same(field, value) for value in values)


_at_least = _ordered(lambda field, value: bool(field >= value))
_at_most = _ordered(lambda field, value: bool(field <= value))

OPERATORS: dict[str, Callable[[Json, Json], bool]] = {
    "eq": _same,
    "ne": lambda field, value: not _same(field, value),
    "lt": _ordered(lambda field, value: bool(field < value)),
    "le": _at_most,
    "gt": _ordered(lambda field, value: bool(field > value)),
    "ge": _at_least,
    "contains": _contains,
    "notContains": lambda field, value: not _contains(field, value),
    "containsAny": lambda field, values: any(_contains(field, value) for value in values),
    "beginsWith": lambda field, value: (
        isinstance(field, str) and isinstance(value, str) and field.startswith(value)
    ),
    "in": _in,
    "notIn": lambda field, values: not _in(field, values),
    "between": lambda field, values: _at_least(field, values[0]) and _at_most(field, values[1]),
}
