"""AppSync's scalars. AppSync checks them in arguments and in answers.

Source: AppSync's developer guide, "Scalar types in GraphQL". Resolvers get AWSJSON parsed.
"""

import ipaddress
import json
import re
from collections.abc import Callable
from datetime import date, time
from typing import Any
from urllib.parse import urlsplit

from graphql import GraphQLSchema, ValueNode, value_from_ast_untyped

_OFFSET = r"(?:Z|[+-]\d\d:\d\d(?::\d\d)?)"
_TIME = r"\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?"
_DATE = re.compile(rf"(\d{{4}}-\d\d-\d\d){_OFFSET}?")
_TIME_OF_DAY = re.compile(rf"({_TIME}){_OFFSET}?")
_DATE_TIME = re.compile(rf"(\d{{4}}-\d\d-\d\d)T({_TIME}){_OFFSET}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
# With a country code as in E.164, otherwise a number of the USA.
_PHONE = re.compile(r"(?:\+\d{1,3}[ -]?)?\(?\d(?:[ ()-]{0,2}\d){5,13}")


def apply_to(schema: GraphQLSchema) -> None:
    """Lets the schema check AppSync's scalars. Does so once for each schema."""
    if schema.extensions.get("appsync_scalars"):
        return
    for name, check in _CHECKS.items():
        if name in schema.type_map:
            _define(schema, name, parse=check, serialize=check)
    if "AWSJSON" in schema.type_map:
        _define(schema, "AWSJSON", parse=_parsed, serialize=_printed)
    schema.extensions["appsync_scalars"] = True


def _define(
    schema: GraphQLSchema, name: str, *, parse: Callable[[Any], Any], serialize: Callable[[Any], Any]
) -> None:
    def parse_value(value: Any) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            raise ValueError(f"Unable to parse `{value}` as a valid {name}.") from error

    def parse_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> Any:
        return parse_value(value_from_ast_untyped(node, variables))

    def serialize_value(value: Any) -> Any:
        try:
            return serialize(value)
        except ValueError as error:
            raise ValueError(f"Can't serialize value: Unable to serialize `{value}` as a valid {name}.") from error

    scalar = schema.type_map[name]
    for attribute, function in (
        ("parse_value", parse_value),
        ("parse_literal", parse_literal),
        ("serialize", serialize_value),
    ):
        setattr(scalar, attribute, function)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def _matching(pattern: re.Pattern[str], value: Any) -> re.Match[str]:
    found = pattern.fullmatch(_text(value))
    if not found:
        raise ValueError("another format")
    return found


def _date(value: Any) -> str:
    date.fromisoformat(_matching(_DATE, value)[1])
    return _text(value)


def _time(value: Any) -> str:
    _check_time(_matching(_TIME_OF_DAY, value)[1])
    return _text(value)


def _date_time(value: Any) -> str:
    found = _matching(_DATE_TIME, value)
    date.fromisoformat(found[1])
    _check_time(found[2])
    return _text(value)


def _check_time(value: str) -> None:
    hour, minute, second = (f"{value}:00" if value.count(":") == 1 else value).split(":")
    time(int(hour), int(minute), int(second.partition(".")[0]))


def _timestamp(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("not seconds since 1970")
    return value


def _email(value: Any) -> str:
    return _matching(_EMAIL, value)[0]


def _url(value: Any) -> str:
    parts = urlsplit(_text(value))
    if not parts.scheme or not (parts.netloc or parts.path) or "//" in parts.path:
        raise ValueError("not a URL")
    return _text(value)


def _phone(value: Any) -> str:
    return _matching(_PHONE, value)[0]


def _ip_address(value: Any) -> str:
    ipaddress.ip_interface(_text(value))
    return _text(value)


def _parsed(value: Any) -> Any:
    return json.loads(_text(value))


def _printed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "AWSDate": _date,
    "AWSTime": _time,
    "AWSDateTime": _date_time,
    "AWSTimestamp": _timestamp,
    "AWSEmail": _email,
    "AWSURL": _url,
    "AWSPhone": _phone,
    "AWSIPAddress": _ip_address,
}
