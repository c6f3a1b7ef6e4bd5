"""Replaces functions of MiniStack, which is pinned to one version and has no interface for extensions.

If MiniStack lacks a name, the local cloud fails at the start: here, or in an import.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any


class MissingName(Exception):
    """MiniStack lacks a function that is to be replaced."""

    def __init__(self, owner: Any, name: str) -> None:
        where = getattr(owner, "__name__", type(owner).__name__)
        super().__init__(f"MiniStack {version('ministack')} has no {name} in {where}: adapt local_cloud/appsync to it")


def wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Replaces a function, by an attribute of a module or object, or by a key of a dictionary.

    `wrapper` is called with the replaced function, and then with the arguments of the call.
    """
    if isinstance(owner, dict):
        if name not in owner:
            raise MissingName(owner, name)
        owner[name] = _bound(wrapper, owner[name])
    else:
        if not hasattr(owner, name):
            raise MissingName(owner, name)
        setattr(owner, name, _bound(wrapper, getattr(owner, name)))


def replace_text(owner: Any, name: str, old: str, new: str) -> None:
    """Replaces a part of a text of MiniStack. The part must occur once."""
    text = getattr(owner, name, None)
    if not isinstance(text, str) or text.count(old) != 1:
        raise MissingName(owner, f"{name} with {old!r}")
    setattr(owner, name, text.replace(old, new))


def _bound(wrapper: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        return wrapper(original, *arguments, **named)

    return call
