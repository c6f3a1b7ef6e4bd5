from types import SimpleNamespace
from typing import Any

import pytest

from local_cloud.appsync import hooks
from local_cloud.appsync.hooks import MissingName


def louder(original: Any, text: str, *, end: str = "!") -> str:
    return f"{original(text)}{end}"


def test_a_function_is_replaced_by_one_that_can_call_it() -> None:
    module = SimpleNamespace(say=str.upper)
    hooks.wrap(module, "say", louder)
    assert module.say("yes") == "YES!"
    assert module.say("yes", end="?") == "YES?"
    table = {"say": str.upper}
    hooks.wrap(table, "say", louder)
    assert table["say"]("yes") == "YES!"


def test_a_missing_name_is_an_error() -> None:
    with pytest.raises(MissingName, match=r"MiniStack \d.* has no say in SimpleNamespace: adapt"):
        hooks.wrap(SimpleNamespace(), "say", louder)
    with pytest.raises(MissingName, match="has no say in dict"):
        hooks.wrap({}, "say", louder)


def test_a_part_of_a_text_is_replaced_if_it_occurs_once() -> None:
    module = SimpleNamespace(script="a b c", number=1)
    hooks.replace_text(module, "script", "b", "x")
    assert module.script == "a x c"
    module.script = "b b"
    for name in ("script", "number", "missing"):
        with pytest.raises(MissingName, match=f"has no {name} with 'b'"):
            hooks.replace_text(module, name, "b", "x")
