"""Prices, and what is consumed of what has a price."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from .template import CostError

# A quantity of each thing that has a price.
Usage = dict[str, float]


@dataclass(frozen=True)
class Price:
    """A list price. `free` units a month are free for every account."""

    what: str
    price: float
    unit: str
    page: str
    per: float = 1
    free: float = 0
    free_for_all_environments: bool = False
    first_year: str | None = None
    as_of: str | None = None
    sure: bool = True

    def cost(self, quantity: float, *, free_tiers: bool) -> float:
        """Returns the cost of a quantity in a month, with free tiers or after others have used them up."""
        free = self.free if free_tiers or self.free_for_all_environments else 0
        return max(0.0, quantity - free) * self.price / self.per

    def list_cost(self, quantity: float) -> float:
        """Returns the cost of a quantity without any free tier."""
        return quantity * self.price / self.per


class Prices:
    """All prices of a region, and which resources are free while idle."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.region: str = document["region"]
        self.as_of = str(document["as_of"])
        self.hours: float = document["hours"]
        self.prices = {key: Price(**price) for key, price in document["prices"].items()}
        self._free: list[str] = list(document["free_while_idle"])

    def __getitem__(self, key: str) -> Price:
        if key not in self.prices:
            raise CostError(f"prices.yaml has no {key}")
        return self.prices[key]

    def is_free_while_idle(self, kind: str) -> bool:
        return any(fnmatchcase(kind, free) for free in self._free)

    def cost(self, usage: Usage, *, free_tiers: bool) -> float:
        """Returns the cost of a month."""
        return sum(self[key].cost(quantity, free_tiers=free_tiers) for key, quantity in usage.items())

    def list_cost(self, usage: Usage) -> float:
        """Returns the cost without any free tier, e.g. of a single use."""
        return sum(self[key].list_cost(quantity) for key, quantity in usage.items())


def total(usages: Iterable[Usage]) -> Usage:
    """Returns the sum of what is consumed."""
    everything: Usage = {}
    for usage in usages:
        for key, quantity in usage.items():
            everything[key] = everything.get(key, 0.0) + quantity
    return everything


def times(usage: Usage, factor: float) -> Usage:
    """Returns what is consumed by so many times the same."""
    return {key: quantity * factor for key, quantity in usage.items()}
