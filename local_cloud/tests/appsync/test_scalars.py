from typing import Any

import pytest
from graphql import build_schema, graphql_sync
from ministack.core.appsync_graphql import APPSYNC_PRELUDE  # type: ignore[import-untyped]

from local_cloud.appsync import scalars

VALID: dict[str, list[Any]] = {
    "AWSDate": ["1970-01-01", "1970-01-01Z", "1970-01-01-07:00", "2024-02-29+05:30:00"],
    "AWSTime": ["12:30", "12:30Z", "12:30:24-07:00", "12:30:24.500+05:30"],
    "AWSDateTime": ["1970-01-01T12:30Z", "1970-01-01T12:30:24-07:00", "2024-01-15T14:23:45.123456789Z"],
    "AWSTimestamp": [0, 1_700_000_000, 40_000_000_000],
    "AWSEmail": ["ada@example.com", "ada+ev@mail.example.com"],
    "AWSURL": ["https://example.com/a?b=c#d", "mailto:ada@example.com"],
    "AWSPhone": ["+49 228 1234567", "+1 (555) 123-4567", "555-123-4567"],
    "AWSIPAddress": ["10.0.0.1", "10.0.0.1/24", "::1", "2001:db8::/32"],
}
INVALID: dict[str, list[Any]] = {
    "AWSDate": ["1970-13-01", "2023-02-29", "70-01-01", "1970-01-01T00:00Z", 5],
    "AWSTime": ["24:00", "12:60", "12", "12:30:61", "noon"],
    "AWSDateTime": ["1970-01-01T12:30", "1970-01-01 12:30Z", "1970-01-01", "2023-02-29T00:00Z", "2024-01-01T25:00Z"],
    "AWSTimestamp": ["0", 1.5, True],
    "AWSEmail": ["ada", "ada@", "a b@example.com", "@example.com"],
    "AWSURL": ["example.com", "https://", "https://example.com//a", "/a"],
    "AWSPhone": ["call me", "12", "+49"],
    "AWSIPAddress": ["10.0.0.256", "localhost", "10.0.0.1/33"],
}


def echo(scalar: str, value: Any, *, answer: Any = None) -> tuple[Any, list[str]]:
    """Passes a value as an argument, and returns what the field answers: the argument, or another value."""
    schema = build_schema(f"{APPSYNC_PRELUDE} type Query {{ echo(value: {scalar}): {scalar} }}", assume_valid_sdl=True)
    for _ in range(2):
        scalars.apply_to(schema)

    def resolve(_source: Any, _info: Any, value: Any = None) -> Any:
        return answer if answer is not None else value

    result = graphql_sync(
        schema,
        f"query($value: {scalar}) {{ echo(value: $value) }}",
        variable_values={"value": value},
        field_resolver=resolve,
    )
    return (result.data or {}).get("echo"), [error.message for error in result.errors or []]


def of_each(values: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(scalar, value) for scalar, examples in values.items() for value in examples]


@pytest.mark.parametrize(("scalar", "value"), of_each(VALID))
def test_a_valid_value_is_an_argument_and_an_answer(scalar: str, value: Any) -> None:
    assert echo(scalar, value) == (value, [])


@pytest.mark.parametrize(("scalar", "value"), of_each(INVALID))
def test_an_invalid_value_is_neither(scalar: str, value: Any) -> None:
    _, (error,) = echo(scalar, value)
    assert f"Unable to parse `{value}` as a valid {scalar}." in error
    answered, errors = echo(scalar, None, answer=value)
    assert (answered, errors) == (
        None,
        [f"Can't serialize value: Unable to serialize `{value}` as a valid {scalar}."],
    )


def test_a_literal_in_the_query_is_checked_like_a_variable() -> None:
    schema = build_schema(f"{APPSYNC_PRELUDE} type Query {{ echo(at: AWSDate): String }}", assume_valid_sdl=True)
    scalars.apply_to(schema)
    assert graphql_sync(schema, '{ echo(at: "1970-01-01") }').errors is None
    (error,) = graphql_sync(schema, '{ echo(at: "1970") }').errors or []
    assert "Unable to parse `1970` as a valid AWSDate." in error.message


def test_json_is_parsed_for_resolvers_and_printed_for_clients() -> None:
    assert echo("AWSJSON", '{"a": [1, null]}') == ('{"a": [1, null]}', [])
    assert echo("AWSJSON", None, answer={"a": 1}) == ('{"a": 1}', [])
    _, (error,) = echo("AWSJSON", "{a: 1}")
    assert "as a valid AWSJSON" in error
