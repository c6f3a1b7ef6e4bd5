"""The cost of a month in which nobody charges and no station reports, line by line."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .inventory import Schedule, polled_queues, schedules, standing
from .metrics import Series, Sources
from .prices import Prices, Usage, total
from .schedule import runs_per_month
from .template import CostError, Template
from .units import Figure

SECONDS_PER_HOUR = 3600
DAYS = 30
GB = 1e9
MB_PER_GB = 1024
# The limits of the idle cost, USD a month.
LIMIT_WITH_FREE_TIERS = 1.00
LIMIT_WITHOUT = 3.00
# The most SQS mappings that may be enabled by default.
MOST_POLLED_QUEUES = 4


@dataclass(frozen=True)
class Line:
    """What is consumed of one thing that has a price, and by what."""

    what: str
    key: str
    quantity: float


@dataclass(frozen=True)
class Idle:
    """The lines of the idle cost."""

    lines: tuple[Line, ...]
    polled: tuple[str, ...]

    @property
    def usage(self) -> Usage:
        return total({line.key: line.quantity} for line in self.lines)

    def cost(self, line: Line, prices: Prices, *, free_tiers: bool) -> float:
        """Returns the share of a line in the cost of its thing, whose free tier all lines share."""
        everything = self.usage[line.key]
        return prices[line.key].cost(everything, free_tiers=free_tiers) * line.quantity / everything

    def failures(self, prices: Prices) -> Iterator[str]:
        """Yields the limits that the idle cost exceeds."""
        for free_tiers, limit in ((True, LIMIT_WITH_FREE_TIERS), (False, LIMIT_WITHOUT)):
            cost = prices.cost(self.usage, free_tiers=free_tiers)
            if cost > limit:
                how = "with" if free_tiers else "without"
                yield f"idle cost {how} free tiers: {cost:.2f} USD a month, more than {limit:.2f}"
        if len(self.polled) > MOST_POLLED_QUEUES:
            queues = ", ".join(self.polled)
            yield f"{len(self.polled)} SQS mappings are enabled by default, more than {MOST_POLLED_QUEUES}: {queues}"


def idle(template: Template, units: dict[str, Any], prices: Prices, sources: Sources) -> Idle:
    """Reckons a month of the template's resources."""
    polled = polled_queues(template)
    lines = [
        *(Line(prices[key].what, key, quantity) for key, quantity in sorted(standing(template).items())),
        *_metrics(template, units, prices, sources),
        *_polls(polled, units, prices),
        *_runs(template, units, prices),
        *_storage(template, units),
    ]
    return Idle(tuple(line for line in lines if line.quantity > 0), tuple(polled))


def units_of(schedule: Schedule, units: dict[str, Any]) -> dict[str, Any]:
    """Returns the units of a run: of this schedule, or of any of its function."""
    known = units["schedules"]
    found: dict[str, Any] | None = known.get(schedule.name) or known.get(schedule.function.binary)
    if found is None:
        raise CostError(f"units.yaml: schedules has no {schedule.name}: say what an idle run consumes")
    return found


def value(units: dict[str, Any], name: str) -> float:
    """Returns a figure, or 0 if there is none of this name."""
    figure = units.get(name)
    return figure.value if isinstance(figure, Figure) else 0.0


def _polls(polled: Iterable[str], units: dict[str, Any], prices: Prices) -> Iterator[Line]:
    general = units["general"]
    polls = prices.hours * SECONDS_PER_HOUR / value(general, "poll_seconds") * value(general, "pollers")
    for mapping in polled:
        yield Line(f"SQS polls of {mapping}", "sqs_requests", polls)


def _runs(template: Template, units: dict[str, Any], prices: Prices) -> Iterator[Line]:
    """Yields what the schedules consume: reads and requests by schedule, Lambda and logs of all together."""
    general = units["general"]
    encrypted_by_kms = any(
        table.properties.get("SSESpecification", {}).get("SSEEnabled")
        for table in template.of_type("AWS::DynamoDB::Table")
    )
    together: list[Usage] = []
    for schedule in schedules(template):
        function, unit = schedule.function, units_of(schedule, units)
        runs = runs_per_month(schedule.expression, prices.hours)
        yield Line(f"DynamoDB reads of {schedule.name}", "dynamodb_reads", runs * value(unit, "reads"))
        receives = value(unit, "receives_per_queue") * queues_read(function.properties)
        yield Line(f"SQS receives of {schedule.name}", "sqs_requests", runs * receives)
        if encrypted_by_kms:
            yield Line(f"KMS requests of {schedule.name}", "kms_requests", runs * value(unit, "connections"))
        logged = runs * value(general, "log_bytes") / GB
        together.append(
            {
                "lambda_requests": runs,
                f"lambda_gb_seconds_{function.architecture}": runs
                * value(unit, "milliseconds")
                / 1000
                * function.memory_mb
                / MB_PER_GB,
                "logs_ingested": logged,
                "logs_kept": logged * retention(template, function.properties) / DAYS,
                "xray_traces": runs if function.traced else 0,
                "scheduler_invocations": runs if schedule.by_scheduler else 0,
            }
        )
    for key, quantity in total(together).items():
        yield Line(f"{prices[key].what} of the schedules", key, quantity)


def queues_read(properties: dict[str, Any]) -> int:
    """Returns the number of queues from which a function receives by itself.

    These are the dead-letter queues that it is told of. If an entry names a function, no mapping reads the source of
    that dead-letter queue, and dlq_reconciler reads it, too.
    """
    told = properties.get("Environment", {}).get("Variables", {}).get("DEAD_LETTER_QUEUES", "{}")
    entries = json.loads(told).values()
    return sum(2 if "function" in entry else 1 for entry in entries)


def retention(template: Template, properties: dict[str, Any]) -> float:
    """Returns the days for which a function's log is kept."""
    group = template.resources.get(str(properties.get("LoggingConfig", {}).get("LogGroup")))
    if group is None or "RetentionInDays" not in group.properties:
        raise CostError(f"{properties.get('FunctionName')}: its log is kept for ever")
    return float(group.properties["RetentionInDays"])


def _metrics(template: Template, units: dict[str, Any], prices: Prices, sources: Sources) -> Iterator[Line]:
    """Yields the metrics of each function that runs by a schedule, by the share of hours in which they have data."""
    shares: dict[Series, float] = {}
    emitters: dict[Series, str] = {}
    for schedule in schedules(template):
        unit, binary = units_of(schedule, units), schedule.function.binary
        quiet = {*unit.get("quiet", []), *units["quiet_everywhere"]}
        share = min(1.0, runs_per_month(schedule.expression, prices.hours) / prices.hours)
        for series in sources.of(binary) | sources.of_all(binary):
            if series.name not in quiet:
                shares[series] = min(1.0, shares.get(series, 0.0) + share)
                emitters.setdefault(series, binary)
    for binary in sorted(set(emitters.values())):
        mine = {series.name: share for series, share in shares.items() if emitters[series] == binary}
        yield Line(f"Metrics of {binary}: {', '.join(sorted(mine))}", "custom_metrics", sum(mine.values()))


def metrics_in_use(template: Template, units: dict[str, Any], sources: Sources) -> float:
    """Returns the number of metrics of a system in which every function is used and every metric has data."""
    batches = set(units["batch_metrics"])
    emitted: set[Series] = set()
    for function in template.functions.values():
        consumes = any(trigger.type == "SQS" and trigger.enabled for trigger in function.triggers)
        everywhere = {s for s in sources.of_all(function.binary) if consumes or s.name not in batches}
        emitted |= sources.of(function.binary) | everywhere
    return len(emitted)


def _storage(template: Template, units: dict[str, Any]) -> Iterator[Line]:
    known, general = units["tables"], units["general"]
    recovered = 0.0
    stored = 0.0
    for table in template.of_type("AWS::DynamoDB::Table"):
        size = value(known, table.name) or value(known, "others")
        stored += size
        recovery = table.properties.get("PointInTimeRecoverySpecification", {})
        recovered += size if recovery.get("PointInTimeRecoveryEnabled") else 0
    yield Line("DynamoDB storage of the tables", "dynamodb_storage", stored)
    yield Line("Point-in-time recovery of the tables", "dynamodb_recovery", recovered)
    packages = value(general, "package_gb") * value(general, "deployments_kept")
    yield Line("S3 storage of deployed packages", "s3_storage", packages)
