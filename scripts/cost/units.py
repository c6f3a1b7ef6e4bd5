"""The figures of units.yaml and sizes.yaml, each with the place where it was measured or what it assumes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .template import CostError


@dataclass(frozen=True)
class Figure:
    """A figure that was measured, as a text in a file says, or that is assumed."""

    name: str
    value: float
    assumed: str | None = None
    measured: str | None = None
    says: str | None = None


def figures(node: Any, name: str = "") -> Any:
    """Returns the document with its figures, which are mappings with a value, as `Figure`."""
    if not isinstance(node, dict):
        return node
    if "value" not in node:
        return {key: figures(value, f"{name}.{key}" if name else str(key)) for key, value in node.items()}
    if unknown := sorted(node.keys() - {"value", "assumed", "measured", "says"}):
        raise CostError(f"{name}: a figure has no {', '.join(unknown)}")
    figure = Figure(name, **node)
    if (figure.assumed is None) == (figure.measured is None) or (figure.measured is None) != (figure.says is None):
        raise CostError(f"{name}: a figure is either assumed, or measured where a file says it")
    return figure


def all_figures(node: Any) -> Iterator[Figure]:
    """Yields all figures of a document."""
    if isinstance(node, Figure):
        yield node
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from all_figures(value)


def stale(document: Any, root: Path) -> Iterator[str]:
    """Yields each measured figure whose file does not say it any more."""
    texts: dict[str, str] = {}
    for figure in all_figures(document):
        if figure.measured is None or figure.says is None:
            continue
        if figure.measured not in texts:
            path = root / figure.measured
            texts[figure.measured] = _in_one_line(path.read_text()) if path.exists() else ""
        if _in_one_line(figure.says) not in texts[figure.measured]:
            yield f"{figure.name}: {figure.measured} does not say {figure.says!r} (any more): measure it again"


def _in_one_line(text: str) -> str:
    return " ".join(text.split())
