"""The parameters of the template.

If the command line has parameters, SAM ignores all parameters in samconfig.toml. So this module merges both, and SAM
gets all of them.
"""

import re
import shlex
from collections.abc import Iterable, Mapping

from deployment.failure import Failure

ENVIRONMENT = "Environment"
ARCHITECTURE = "Architecture"
NAME = re.compile(r"[A-Za-z0-9]+")


def parse(text: str | Iterable[str]) -> dict[str, str]:
    """Parses `Name=value Other="value with spaces"`, or a list of such texts.

    If a name occurs several times, its last value counts.
    """
    found: dict[str, str] = {}
    for part in [text] if isinstance(text, str) else text:
        try:
            words = shlex.split(part)
        except ValueError as error:
            raise Failure(
                f"the parameters {part!r} cannot be read ({error}): write Name=value Name='two words'"
            ) from None
        for word in words:
            name, equals, value = word.partition("=")
            if not (equals and NAME.fullmatch(name)):
                raise Failure(f"{word!r} is no parameter: write Name=value, and quote a value with spaces")
            found[name] = value
    return found


def compose(environment: str, architecture: str, config: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Merges the parameters of samconfig.toml and of the command line. A value of the command line takes precedence."""
    fixed = {ENVIRONMENT: environment, ARCHITECTURE: architecture}
    sources = (("PARAMETERS", given), ("samconfig.toml", config))
    for name, value in fixed.items():
        for source, values in sources:
            if values.get(name, value) != value:
                variable = "ENV" if name == ENVIRONMENT else "ARCH"
                raise Failure(
                    f"{source} has {name}={values[name]}, but {variable} is {value}: leave {name} out of {source}"
                )
    return fixed | {**config, **given}


def check_names(names: Iterable[str], template: Mapping[str, object]) -> None:
    """Refuses parameters that the template does not have. SAM would drop them without a message."""
    unknown = sorted(set(names) - set(template))
    if unknown:
        raise Failure(f"the template has no parameter {', '.join(unknown)}: it has {', '.join(sorted(template))}")
