"""Prints the tables, writes them into docs/cost.md, or checks both the limits and the page."""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from . import __doc__ as usage
from .idle import Idle, idle, metrics_in_use
from .inventory import refusals
from .metrics import Sources, unknown
from .page import (
    Table,
    alternative_table,
    assumptions_table,
    breakdown_table,
    environments_table,
    fill,
    idle_table,
    month_table,
    planned_table,
    prices_table,
    uses_table,
)
from .prices import Prices
from .template import CostError, Template
from .units import figures, stale
from .use import Month, Uses, month

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "infrastructure" / "cost"
EXPANDED = ROOT / "infrastructure" / "template.expanded.json"
PAGE = ROOT / "docs" / "cost.md"
ENVIRONMENTS = ("dev", "prod")


class Cost:
    """All that is reckoned for the templates of both stacks with one set of parameters."""

    def __init__(self, document: dict[str, Any], parameters: dict[str, str]) -> None:
        self._document = document
        # The deployment gives those that have no default, and they cost nothing.
        declared = document.get("Parameters", {}).items()
        required = {name: "1" for name, parameter in declared if "Default" not in parameter}
        self._parameters = parameters = required | parameters
        self.prices = Prices(read("prices"))
        self.units = figures(read("units"))
        self.sizes = figures(read("sizes"))
        self._sources = Sources(ROOT / "crates")
        self.template = Template(document, parameters)
        self.idle = self.idle_with(parameters)
        self.uses = Uses(self.template, self.units, self.prices)

    def idle_with(self, parameters: dict[str, str]) -> Idle:
        return idle(Template(self._document, parameters), self.units, self.prices, self._sources)

    def limits(self) -> Iterator[str]:
        """Yields the limits that the idle cost of an environment exceeds: of the given one, or of all."""
        given = self._parameters.get("Environment")
        for name in (given,) if given else ENVIRONMENTS:
            for failure in self.idle_with(self._parameters | {"Environment": name}).failures(self.prices):
                yield f"{name}: {failure}"

    def month(self, size: dict[str, Any]) -> Month:
        parameters = self._parameters | size.get("parameters", {})
        template = Template(self._document, parameters)
        uses = Uses(template, self.units, self.prices)
        metrics = metrics_in_use(template, self.units, self._sources)
        return month(size, uses, self.idle_with(parameters), metrics, self.prices)

    def problems(self) -> list[str]:
        """Returns what makes the figures wrong."""
        return [
            *refusals(self.template, self.prices),
            *unknown(self.template, self._sources),
            *stale(self.units, ROOT),
        ]

    def parts(self) -> dict[str, list[Table]]:
        """Returns the tables, by their places in the page."""
        months = {name: self.month(size) for name, size in self.sizes["sizes"].items()}
        environments = {name: self.idle_with(self._parameters | {"Environment": name}) for name in ENVIRONMENTS}
        compared = {name: month.usage for name, month in months.items()} | {"idle": self.idle.usage}
        planned = self.sizes["planned"]
        alternatives = {
            f"alternative-{name}": [
                alternative_table(
                    other, compared[other["compared_with"]], planned.get(other.get("with_planned")), self.prices
                )
            ]
            for name, other in self.sizes["alternatives"].items()
        }
        return {
            "idle": [idle_table(self.idle, self.prices)],
            "environments": [environments_table(environments, self.prices)],
            "uses": [uses_table(self.uses, self.prices)],
            "session": [breakdown_table("session", self.uses, self.prices)],
            "live": [breakdown_table("live_hour", self.uses, self.prices)],
            **{f"month-{name}": [month_table(month, self.prices)] for name, month in months.items()},
            **alternatives,
            **{f"planned-{name}": [planned_table(lines, self.prices)] for name, lines in planned.items()},
            "assumptions": [assumptions_table(self.units, self.sizes)],
            "prices": [prices_table(self.prices)],
        }


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DATA / f"{name}.yaml").read_text())
    return document


def parse(text: str) -> dict[str, str]:
    """Parses `Name=value Other='two words'`. The last of the same name counts."""
    try:
        words = [word.partition("=") for word in shlex.split(text)]
    except ValueError as error:
        raise CostError(f"the parameters {text!r} cannot be read: {error}") from None
    for name, equals, _ in words:
        if not (name and equals):
            raise CostError(f"{name!r} is no parameter: write Name=value, and quote a value with spaces")
    return {name: value for name, _, value in words}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="cost", description=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="fail above the limits, or if docs/cost.md is stale")
    parser.add_argument("--parameters", default="", help="of the template: Name=value Name='two words'")
    parser.add_argument("--template", type=Path, default=EXPANDED, help="made by make template")
    args = parser.parse_args()
    try:
        if not args.template.exists():
            raise CostError(f"{args.template.name} is missing: run `make template`")
        parameters = parse(args.parameters)
        cost = Cost(json.loads(args.template.read_text()), parameters)
        failures = report(cost, check=args.check, page=None if parameters else PAGE)
    except CostError as error:
        failures = [str(error)]
    for failure in failures:
        print(f"cost: {failure}", file=sys.stderr)
    sys.exit(1 if failures else 0)


def report(cost: Cost, *, check: bool, page: Path | None) -> list[str]:
    """Prints the tables and writes the page, or checks the limits and the page. Returns what is wrong."""
    failures = cost.problems()
    parts = cost.parts()
    limits = list(cost.limits())
    filled = None
    if page is not None:
        text = page.read_text()
        filled = fill(text, {name: "\n".join(table.markdown() for table in part) for name, part in parts.items()})
    if check:
        if filled is not None and filled != text:
            failures.append("docs/cost.md is not what the template and the units say: run `make cost`")
        with_free, without = (cost.prices.cost(cost.idle.usage, free_tiers=free) for free in (True, False))
        print(f"cost: idle {with_free:.2f} USD a month with free tiers, {without:.2f} without")
        return failures + limits
    print("\n".join(table.text() for part in parts.values() for table in part))
    for limit in limits:
        print(f"cost: {limit}")
    if page is not None and filled is not None:
        page.write_text(filled)
    return failures


if __name__ == "__main__":
    main()
