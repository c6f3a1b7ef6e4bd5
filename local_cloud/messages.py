"""What the user is told."""

import contextlib
from pathlib import Path


class Failure(Exception):
    """Something that the user has to know or to change. Its text says what is wrong and what would be right."""


def say(message: str) -> None:
    print(f"local cloud: {message}", flush=True)


def short(path: Path) -> str:
    """Returns the path relative to the working directory, if it is below it."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
