"""The price of a use, e.g. of a session, and of months of systems of a certain size."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .idle import GB, MB_PER_GB, Idle, value
from .prices import Prices, Usage, times, total
from .template import CostError, Function, Template
from .units import Figure

HOURS_PER_DAY = 24
# Quantities of a use that have a price of the same name.
PRICED = (
    "http_requests", "sqs_requests", "mails", "iot_messages", "iot_rules", "iot_minutes", "appsync_requests",
    "appsync_updates", "appsync_minutes",
)  # fmt: skip
# Each message of a queue is sent, received and deleted.
REQUESTS_PER_MESSAGE = 3
# What a line of the breakdown adds up.
GROUPS = {
    "Lambda": ("lambda_",),
    "DynamoDB": ("dynamodb_writes", "dynamodb_reads"),
    "API, bus, queues": ("http_", "bus_", "sqs_", "sns_"),
    "AppSync": ("appsync_",),
    "e-mail": ("mails",),
    "IoT Core": ("iot_",),
    "S3": ("s3_puts", "s3_gets"),
    "logs": ("logs_",),
    "storage": ("dynamodb_storage", "dynamodb_recovery", "s3_storage"),
}


class Uses:
    """The uses of units.yaml, by what a template's functions have."""

    def __init__(self, template: Template, units: dict[str, Any], prices: Prices) -> None:
        self._functions = {function.binary: function for function in template.functions.values()}
        self._units = units
        self._prices = prices

    def __iter__(self) -> Iterator[str]:
        """Yields the names of all uses, compositions first."""
        yield from self._units["together"]
        yield from self._units["uses"]

    def what(self, name: str) -> str:
        return str((self._units["uses"].get(name) or self._units["together"][name])["what"])

    def parts(self, name: str) -> dict[str, float]:
        """Returns the uses of which a composition consists, and how many of each."""
        return dict(self._units["together"].get(name, {}).get("of", {}))

    def usage(self, name: str) -> Usage:
        """Returns what one use consumes."""
        if parts := self.parts(name):
            return total(times(self.usage(part), count) for part, count in parts.items())
        if name not in self._units["uses"]:
            raise CostError(f"units.yaml has no use {name}")
        use, general = self._units["uses"][name], self._units["general"]
        usage = {
            "dynamodb_writes": value(use, "table_writes") + value(use, "index_writes"),
            "dynamodb_reads": value(use, "reads"),
            "bus_events": value(use, "events"),
            "sns_publications": value(use, "publications"),
            "s3_puts": value(use, "puts"),
            "s3_gets": value(use, "gets"),
            "dynamodb_storage": value(use, "stored_bytes") / GB,
            "dynamodb_recovery": value(use, "stored_bytes") / GB,
            "s3_storage": value(use, "archived_bytes") / GB,
            "logs_ingested": value(use, "http_requests") * value(general, "access_log_bytes") / GB,
        }
        usage |= {key: value(use, key) for key in PRICED}
        usage["sqs_requests"] += value(use, "queue_messages") * REQUESTS_PER_MESSAGE
        if "function" in use:
            usage = total([usage, self._invocation(use, self._function(use["function"]))])
        return {key: quantity for key, quantity in usage.items() if quantity}

    def cost(self, name: str) -> float:
        """Returns the list price of one use."""
        return self._prices.list_cost(self.usage(name))

    def _function(self, binary: str) -> Function:
        if binary not in self._functions:
            raise CostError(f"the template has no function {binary}")
        return self._functions[binary]

    def _invocation(self, use: dict[str, Any], function: Function) -> Usage:
        batch = use.get("batch", 1)
        seconds = value(use, "milliseconds") / 1000 / batch
        invocations = 0 if use.get("shares_invocation") else 1 / batch
        return {
            "lambda_requests": invocations,
            f"lambda_gb_seconds_{function.architecture}": seconds * function.memory_mb / MB_PER_GB,
            "logs_ingested": invocations * value(self._units["general"], "log_bytes") / GB,
        }


def by_group(usage: Usage, prices: Prices) -> dict[str, float]:
    """Returns the list cost of a usage by groups of things that have a price."""
    costs = dict.fromkeys(GROUPS, 0.0)
    for key, quantity in usage.items():
        group = next((name for name, keys in GROUPS.items() if key.startswith(keys)), None)
        if group is None:
            raise CostError(f"{key} is in no group of uses")
        costs[group] += prices[key].list_cost(quantity)
    return costs


@dataclass(frozen=True)
class Month:
    """A month of a system."""

    what: str
    parts: tuple[tuple[str, float, Usage], ...]

    @property
    def usage(self) -> Usage:
        return total(usage for _, _, usage in self.parts)


def month(size: dict[str, Any], uses: Uses, idle: Idle, metrics: float, prices: Prices) -> Month:
    """Reckons a month: the idle cost, with the metrics that a system in use has, and all uses."""
    days = prices.hours / HOURS_PER_DAY
    standing = {key: quantity for key, quantity in idle.usage.items() if key != "custom_metrics"}
    parts: list[tuple[str, float, Usage]] = [("idle, without metrics", 1, standing)]
    parts.append(("metrics", metrics, {"custom_metrics": metrics}))
    for name, per_day in size["per_day"].items():
        if not isinstance(per_day, Figure):
            raise CostError(f"sizes.yaml: {name} is no figure")
        count = size["stations"] * per_day.value * days
        parts.append((uses.what(name), count, times(uses.usage(name), count)))
    return Month(size["what"], tuple(parts))
