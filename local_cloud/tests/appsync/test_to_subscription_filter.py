"""The examples of AppSync's documentation, evaluated by Node.js."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from local_cloud import appsync
from local_cloud.paths import TOOLS

SOURCE = Path(appsync.__file__).with_name("subscription_filter.js")
BOOKS = {
    "percentageUp": {"lte": 50, "gte": 20},
    "and": [{"title": {"ne": "Book1"}}, {"downvotes": {"gt": 2000}}],
    "or": [{"author": {"eq": "Admin"}}, {"isPublished": {"eq": False}}],
}


def evaluate(*arguments: Any) -> Any:
    program = f"const make = ({SOURCE.read_text()})();\nconsole.log(JSON.stringify(make(...{json.dumps(arguments)})));"
    done = subprocess.run([TOOLS / "node", "-e", program], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def groups(*arguments: Any) -> list[list[str]]:
    """Returns the conditions of each group in short."""
    return [
        [f"{item['fieldName']} {item['operator']} {item['value']}" for item in group["filters"]]
        for group in evaluate(*arguments)["filterGroup"]
    ]


def test_conditions_of_one_field_and_of_or_are_alternatives() -> None:
    joined = ["title ne Book1", "downvotes gt 2000"]
    assert groups(BOOKS) == [
        ["percentageUp lte 50", *joined, "author eq Admin"],
        ["percentageUp lte 50", *joined, "isPublished eq False"],
        ["percentageUp gte 20", *joined, "author eq Admin"],
        ["percentageUp gte 20", *joined, "isPublished eq False"],
    ]


def test_ignored_fields_are_left_out_and_one_rule_is_required() -> None:
    kept = ["title ne Book1", "downvotes gt 2000", "isPublished eq False"]
    assert groups(BOOKS, ["percentageUp", "author"]) == [kept]
    rules = {"upvotes": {"gte": 250}, "author": {"eq": "Person1"}}
    assert groups(BOOKS, ["percentageUp", "author"], rules) == [
        [*kept, "upvotes gte 250"],
        [*kept, "author eq Person1"],
    ]
    assert groups({}, [], rules) == [["upvotes gte 250"], ["author eq Person1"]]


def test_and_and_or_may_be_nested() -> None:
    nested = {"and": [{"a": {"eq": 1}}, {"or": [{"b": {"eq": 2}}, {"and": [{"c": {"eq": 3}}, {"d": {"eq": 4}}]}]}]}
    assert groups(nested) == [["a eq 1", "b eq 2"], ["a eq 1", "c eq 3", "d eq 4"]]


@pytest.mark.parametrize("empty", [{}, None, {"and": []}])
def test_a_filter_without_conditions_has_no_groups(empty: Any) -> None:
    assert evaluate(empty) == {"filterGroup": []}


def test_a_condition_without_an_operator_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        evaluate({"userId": "u-1"})
