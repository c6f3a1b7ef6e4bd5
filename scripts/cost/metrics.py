"""The custom metrics that functions emit. CloudWatch charges for each hour in which a metric has data."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .template import Template

NAMESPACE = "Evoke"
# A metric, and whether it has labels, which become dimensions.
EMITTED = re.compile(r'metrics::(?:counter|gauge|histogram)!\(\s*"(\w+)"\s*(,\s*"\w+"\s*=>)?')
DIMENSION_OF_ALL = ".with_dimension("
TESTS = "#[cfg(test)]"
# A metric of a dashboard, with its namespace and dimensions.
Metric = tuple[str, ...]


class Series(NamedTuple):
    """A custom metric that is charged: one of the whole stack, or one of a function that is a dimension of it."""

    name: str
    function: str


class Sources:
    """The metrics that the sources of the functions name."""

    def __init__(self, crates: Path) -> None:
        self._crates = crates
        self._kit = crates / "lambda_kit" / "src"
        self._dimension_of_all = any(DIMENSION_OF_ALL in text for text in _texts(self._kit))

    def of(self, binary: str) -> set[Series]:
        """Returns the metrics of a function alone."""
        return self._series(self._crates / "functions" / binary / "src", binary)

    def of_all(self, binary: str) -> set[Series]:
        """Returns the metrics that every function may emit, as this function emits them."""
        return self._series(self._kit, binary)

    def _series(self, folder: Path, binary: str) -> set[Series]:
        found = {match for text in _texts(folder) for match in EMITTED.findall(text)}
        return {Series(name, binary if labels or self._dimension_of_all else "") for name, labels in found}


def _texts(folder: Path) -> Iterator[str]:
    """Yields the sources in a folder, without their tests."""
    for path in sorted(folder.rglob("*.rs")):
        yield path.read_text().split(TESTS)[0]


def unknown(template: Template, sources: Sources) -> Iterator[str]:
    """Yields the metrics that an alarm or a dashboard shows and that no source names."""
    functions = template.functions.values()
    known = {series.name for f in functions for series in sources.of(f.binary) | sources.of_all(f.binary)}
    shown = {(name, metric[:2]) for name, metrics in dashboards(template).items() for metric in metrics}
    for alarm in template.of_type("AWS::CloudWatch::Alarm"):
        for metric in alarm_metrics(alarm.properties):
            shown.add((alarm.name, (metric.get("Namespace", ""), metric.get("MetricName", ""))))
    for name, (namespace, metric_name) in sorted(shown):
        if namespace.startswith(NAMESPACE) and metric_name not in known:
            yield f"{name}: no function emits {metric_name} as scripts/cost can find it, so it cannot be counted"


def alarm_metrics(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the metrics that an alarm watches. Each is charged."""
    if "Metrics" not in alarm:
        return [alarm]
    return [query["MetricStat"]["Metric"] for query in alarm["Metrics"] if "MetricStat" in query]


def dashboards(template: Template) -> dict[str, set[Metric]]:
    """Returns the distinct metrics of each dashboard."""
    found = {}
    for dashboard in template.of_type("AWS::CloudWatch::Dashboard"):
        body = json.loads(dashboard.properties["DashboardBody"])
        widgets = (widget.get("properties", {}) for widget in body["widgets"])
        found[dashboard.name] = {metric for widget in widgets for metric in _series(widget.get("metrics", []))}
    return found


def _series(metrics: Iterable[list[Any]]) -> Iterator[Metric]:
    """Yields the metrics of a widget. In a row, "." repeats the field above, and "..." all fields but the last ones."""
    above: list[str] = []
    for row in metrics:
        fields = [field for field in row if isinstance(field, str)]
        if not fields:  # an expression over other metrics
            continue
        if fields[0] == "...":
            fields = above[: len(above) - len(fields) + 1] + fields[1:]
        fields = [above[number] if field == "." else field for number, field in enumerate(fields)]
        above = fields
        yield tuple(fields)
