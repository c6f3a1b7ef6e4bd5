import json
from typing import Any

import pytest

from local_cloud.appsync.filters import Filter, FilterError, equals_arguments

STATION = {
    "stationId": "st-1",
    "status": "ACTIVE",
    "powerKw": 22.5,
    "ports": 2,
    "free": True,
    "tags": ["roof", "fast"],
    "name": None,
    "address": {"city": {"name": "Bonn"}},
}


def passes(field: str, operator: str, value: Any) -> bool:
    condition = {"fieldName": field, "operator": operator, "value": value}
    return Filter.parse({"filterGroup": [{"filters": [condition]}]}).passes(STATION)


@pytest.mark.parametrize(
    ("field", "operator", "met", "unmet"),
    [
        ("stationId", "eq", ["st-1"], ["st-2", 1]),
        ("ports", "eq", [2, 2.0], ["2", 3]),
        ("free", "eq", [True], [False, 1, "true"]),
        ("address.city.name", "eq", ["Bonn"], ["Berlin"]),
        ("status", "ne", ["MAINTENANCE"], ["ACTIVE"]),
        ("name", "ne", ["A"], []),
        ("powerKw", "lt", [23], [22.5, 22, "23"]),
        ("powerKw", "le", [22.5], [22]),
        ("powerKw", "gt", [22], [22.5]),
        ("powerKw", "ge", [22.5], [22.6]),
        ("status", "ge", ["ACT"], ["B"]),
        ("free", "ge", [], [True]),
        ("status", "contains", ["CTI"], ["cti"]),
        ("tags", "contains", ["roof"], ["roo"]),
        ("name", "contains", [], ["A"]),
        ("status", "notContains", ["X"], ["ACT"]),
        ("tags", "notContains", ["slow"], ["fast"]),
        ("tags", "containsAny", [["slow", "fast"]], [["slow"]]),
        ("status", "containsAny", [["X", "ACT"]], [["X"]]),
        ("status", "beginsWith", ["ACT"], ["CTI"]),
        ("ports", "beginsWith", [], ["2"]),
        ("status", "in", [["ACTIVE", "NEW"]], [["NEW"]]),
        ("ports", "in", [[1, 2]], [["2"]]),
        ("status", "notIn", [["NEW"]], [["ACTIVE"]]),
        ("powerKw", "between", [[22.5, 30], [20, 22.5]], [[23, 30], ["a", "z"]]),
        ("missing", "eq", [], ["", 0, False]),
        ("stationId.nested", "eq", [], ["st-1"]),
    ],
)
def test_an_operator_compares_values_of_one_type(field: str, operator: str, met: list[Any], unmet: list[Any]) -> None:
    assert [value for value in met if not passes(field, operator, value)] == []
    assert [value for value in unmet if passes(field, operator, value)] == []


def group(**conditions: Any) -> dict[str, Any]:
    return {"filters": [{"fieldName": name, "operator": "eq", "value": value} for name, value in conditions.items()]}


def test_one_group_whose_conditions_are_all_met_suffices() -> None:
    fits, misses = group(status="ACTIVE", ports=2), group(status="ACTIVE", ports=3)
    assert Filter.parse({"filterGroup": [misses, fits]}).passes(STATION)
    assert not Filter.parse({"filterGroup": [misses]}).passes(STATION)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (None, "list `filterGroup`"),
        ({"filterGroup": []}, "list `filterGroup`"),
        ({"filterGroup": [{"filters": []}]}, "list `filters`"),
        ({"filterGroup": [group(**{f"f{n}": 1}) for n in range(11)]}, "combination exceed maximum limit 10"),
        ({"filterGroup": [group(**{f"f{n}": 1 for n in range(6)})]}, "exceed maximum attributes limit 5"),
        ({"filterGroup": [{"filters": group(a=1)["filters"] * 2}]}, "same fieldName multiple time: a"),
    ],
)
def test_a_filter_that_appsync_refuses_is_refused(document: Any, says: str) -> None:
    with pytest.raises(FilterError, match=says):
        Filter.parse(document)


@pytest.mark.parametrize(
    ("field", "operator", "value", "says"),
    [
        ("a.b.c.d.e.f", "eq", 1, "at most 5 levels"),
        ("a..b", "eq", 1, "at most 5 levels"),
        ("a" * 257, "eq", 1, "1 to 256 characters"),
        ("", "eq", 1, "1 to 256 characters"),
        ("a", "lte", 1, "'lte' is not one of eq, ne"),
        ("a", "eq", None, "needs a text, number or Boolean: None"),
        ("a", "eq", {"b": 1}, "needs a text, number or Boolean"),
        ("a", "in", "b", "needs a list"),
        ("a", "in", [None], "needs a list"),
        ("a", "in", list(range(6)), "`in` of a exceeds maximum value limit `5`"),
        ("a", "notIn", list(range(6)), "exceeds maximum value limit `5`"),
        ("a", "containsAny", list(range(21)), "exceeds maximum value limit `20`"),
        ("a", "between", [1], "needs two values"),
        ("a", "between", [1, 2, 3], "exceeds maximum value limit `2`"),
    ],
)
def test_a_condition_that_appsync_refuses_is_refused(field: str, operator: str, value: Any, says: str) -> None:
    with pytest.raises(FilterError, match=says):
        passes(field, operator, value)


def test_the_longest_and_deepest_conditions_are_accepted() -> None:
    assert not passes("a.b.c.d.e", "eq", 1)
    assert not passes("a" * 256, "in", list(range(5)))
    assert not passes("a", "containsAny", list(range(20)))


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({}, True),
        ({"stationId": "st-1"}, True),
        ({"stationId": "st-1", "status": "NEW"}, False),
        ({"ports": "2"}, False),
        ({"name": None}, True),
        ({"notSelected": None}, True),
        ({"status": None}, False),
        ({"notSelected": "x"}, False),
    ],
)
def test_all_arguments_must_be_equal(arguments: dict[str, Any], wanted: bool) -> None:
    assert equals_arguments(json.loads(json.dumps(STATION)), arguments) is wanted
