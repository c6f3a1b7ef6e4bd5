"""The tables of docs/cost.md, as text for a terminal and as Markdown for the page."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .idle import LIMIT_WITH_FREE_TIERS, LIMIT_WITHOUT, Idle
from .prices import Price, Prices, Usage, times, total
from .template import CostError
from .units import all_figures
from .use import GROUPS, Month, Uses, by_group

PART = re.compile(r"(<!-- make cost: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
# Uses are priced by this many, as AWS does.
MANY = 1_000_000
NUMBER = re.compile(r"\**[-\d.,]*\**")


@dataclass
class Table:
    """A table with a title. Columns of numbers are right-aligned."""

    title: str
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)

    def text(self) -> str:
        widths = [max(len(row[column]) for row in [self.header, *self.rows]) for column in range(len(self.header))]
        formats = [
            f"{'>' if is_number else '<'}{width}" for is_number, width in zip(self._numbers(), widths, strict=True)
        ]
        lines = [self.title, ""]
        for row in [self.header, ["-" * width for width in widths], *self.rows]:
            lines.append("  ".join(f"{cell:{how}}" for cell, how in zip(row, formats, strict=True)).rstrip())
        return "\n".join(lines) + "\n"

    def markdown(self) -> str:
        rule = f"|{'|'.join('---:' if is_number else '---' for is_number in self._numbers())}|"
        return "\n".join([_row(self.header), rule, *map(_row, self.rows)]) + "\n"

    def _numbers(self) -> list[bool]:
        """Tells which columns hold nothing but numbers."""
        return [all(NUMBER.fullmatch(row[column]) for row in self.rows) for column in range(len(self.header))]


def _row(cells: list[str]) -> str:
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|"


def cents(amount: float) -> str:
    return f"{amount:,.2f}"


def number(quantity: float) -> str:
    if quantity >= 100:
        return f"{quantity:,.0f}"
    return f"{quantity:.2f}".rstrip("0").rstrip(".") if quantity >= 1 else f"{quantity:.3g}"


def count_of(quantity: float, unit: str) -> str:
    return f"{number(quantity)} {singular(unit) if quantity == 1 else unit}"


def singular(unit: str) -> str:
    return unit.removesuffix("s")


def price_of(price: Price) -> str:
    amount = f"{price.price:.10f}".rstrip("0") if price.price < 0.01 else f"{price.price:.4f}".rstrip("0")
    amount += "0" * (2 - len(amount.partition(".")[2]))
    if price.per == 1:
        return f"{amount} per {singular(price.unit)}"
    return f"{amount} per {'million' if price.per == 1_000_000 else f'{price.per:,.0f}'} {price.unit}"


def idle_table(idle: Idle, prices: Prices) -> Table:
    table = Table("Idle cost, USD a month", ["item", "quantity", "price", "without free tiers", "with free tiers"])
    for line in idle.lines:
        price = prices[line.key]
        costs = (idle.cost(line, prices, free_tiers=free) for free in (False, True))
        table.rows.append([line.what, count_of(line.quantity, price.unit), price_of(price), *map(cents, costs)])
    sums = [prices.cost(idle.usage, free_tiers=free) for free in (False, True)]
    table.rows.append(["**sum**", "", "", *(f"**{cents(amount)}**" for amount in sums)])
    table.rows.append(["limit", "", "", cents(LIMIT_WITHOUT), cents(LIMIT_WITH_FREE_TIERS)])
    return table


def environments_table(environments: dict[str, Idle], prices: Prices) -> Table:
    header = ["environment", "without free tiers", "with free tiers", "at list prices"]
    table = Table("Idle cost of the environments, USD a month", header)
    for name, idle in environments.items():
        without, with_free = (prices.cost(idle.usage, free_tiers=free) for free in (False, True))
        table.rows.append([name, cents(without), cents(with_free), cents(prices.list_cost(idle.usage))])
    return table


def uses_table(uses: Uses, prices: Prices) -> Table:
    rows = ((uses.what(name), uses.usage(name)) for name in uses)
    return _breakdown("Prices of a million uses, USD at list prices", "use", rows, prices)


def breakdown_table(name: str, uses: Uses, prices: Prices) -> Table:
    """Returns the cost of many of a composition, by its parts and by what they pay for."""
    rows = [
        (f"{number(count)} × {uses.what(part)}", times(uses.usage(part), count))
        for part, count in uses.parts(name).items()
    ]
    title = f"A million times: {uses.what(name)}, USD at list prices"
    return _breakdown(title, "part", [*rows, ("**sum**", uses.usage(name))], prices)


def _breakdown(title: str, first: str, rows: Iterable[tuple[str, Usage]], prices: Prices) -> Table:
    costs = [(what, by_group(times(usage, MANY), prices)) for what, usage in rows]
    groups = [group for group in GROUPS if any(cost[group] for _, cost in costs)]
    table = Table(title, [first, *groups, "sum"])
    for what, cost in costs:
        cells = [cents(cost[group]) if cost[group] else "" for group in groups]
        table.rows.append([what, *cells, cents(sum(cost.values()))])
    return table


def month_table(month: Month, prices: Prices) -> Table:
    header = ["part", "number", "USD without free tiers"]
    table = Table(f"A month: {month.what}", header)
    for what, count, usage in month.parts:
        table.rows.append([what, number(count), cents(prices.cost(usage, free_tiers=False))])
    usage = month.usage
    table.rows.append(["**sum**", "", f"**{cents(prices.cost(usage, free_tiers=False))}**"])
    table.rows.append(["sum with free tiers", "", cents(prices.cost(usage, free_tiers=True))])
    return table


def alternative_table(
    alternative: dict[str, Any], evoke: Usage, planned: dict[str, Any] | None, prices: Prices
) -> Table:
    """Returns the reconstructed lines of another system beside what Evoke has instead."""
    header = ["line", "Evoke has instead", "USD a month"]
    table = Table(f"{alternative['what']}: {alternative['total']} USD a month", header)
    explained = 0.0
    for line in alternative["lines"]:
        cost = prices.list_cost(line["use"])
        explained += cost
        table.rows.append([line["what"], line["evoke"], cents(cost)])
    table.rows.append(["not explained by these lines", "", cents(alternative["total"] - explained)])
    table.rows.append(["**stated total**", "", f"**{cents(alternative['total'])}**"])
    for how, free in (("without", False), ("with", True)):
        table.rows.append([f"**Evoke**, {how} free tiers", "", f"**{cents(prices.cost(evoke, free_tiers=free))}**"])
    if planned is not None:
        everything = total([evoke, *(line["use"] for line in planned["lines"])])
        cost = prices.cost(everything, free_tiers=False)
        table.rows.append(["**Evoke** with the planned part below, without free tiers", "", cents(cost)])
    return table


def planned_table(planned: dict[str, Any], prices: Prices) -> Table:
    table = Table(f"Planned, in no total: {planned['what']}", ["line", "assumed", "USD a month"])
    costs = [prices.list_cost(line["use"]) for line in planned["lines"]]
    for line, cost in zip(planned["lines"], costs, strict=True):
        table.rows.append([line["what"], line["assumed"], cents(cost)])
    table.rows.append(["**sum**", "", f"**{cents(sum(costs))}**"])
    return table


def assumptions(*documents: Any) -> Iterator[tuple[str, str, str]]:
    """Yields each assumed figure with its name, its value and what it assumes."""
    for document in documents:
        for figure in all_figures(document):
            if figure.assumed is not None and figure.assumed != "by definition":
                yield figure.name, number(figure.value), figure.assumed


def assumptions_table(*documents: Any) -> Table:
    table = Table("Assumed figures", ["figure", "value", "assumed"])
    table.rows.extend([f"`{name}`", value, assumed] for name, value, assumed in assumptions(*documents))
    return table


def prices_table(prices: Prices) -> Table:
    header = ["price", "USD", "free each month", "page", "known in"]
    table = Table(f"List prices of {prices.region}", header)
    for price in prices.prices.values():
        free = number(price.free) if price.free else ""
        known = price.as_of or prices.as_of
        sure = "" if price.sure else ", not sure"
        table.rows.append([price.what, price_of(price), free, price.page, f"{known}{sure}"])
    return table


def fill(page: str, parts: dict[str, str]) -> str:
    """Returns the page with each part between its markers."""
    marked = [name for _, name, _ in PART.findall(page)]
    if sorted(marked) != sorted(parts):
        raise CostError(f"docs/cost.md has the parts {', '.join(marked)}, not {', '.join(parts)}")
    return PART.sub(lambda match: f"{match[1]}\n{parts[match[2]]}\n{match[3]}", page)
