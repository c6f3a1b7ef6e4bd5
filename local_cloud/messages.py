"""Messages to the user."""

import contextlib
from pathlib import Path


class Failure(Exception):
    """An error that the user has to know of or to fix. Its text says what is wrong and what would be right."""


def say(message: str) -> None:
    print(f"local cloud: {message}", flush=True)


def short(path: Path) -> str:
    """Returns the path relative to the working directory, if it is below it."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
