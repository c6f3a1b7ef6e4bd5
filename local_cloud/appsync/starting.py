"""The start of a subscription: its caller, the decision of its resolver, and the updates that it gets."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from graphql import FieldNode, GraphQLError, OperationType, get_operation_ast, parse, value_from_ast_untyped
from graphql.execution.collect_fields import collect_fields
from graphql.execution.values import get_argument_values, get_variable_values
from graphql.language import DocumentNode, FragmentDefinitionNode, OperationDefinitionNode
from ministack.core import appsync_graphql  # type: ignore[import-untyped]
from ministack.services import appsync  # type: ignore[import-untyped]

from local_cloud.appsync.authorization import Caller, field_authorizer
from local_cloud.appsync.execution import noting_filters
from local_cloud.appsync.filters import Filter, equals_arguments
from local_cloud.appsync.subscriptions import Selection, Subscription

Json = Any


class Refused(Exception):
    """AppSync refuses a connection or a subscription, with these errors."""

    def __init__(self, errors: list[dict[str, Json]], code: int = 400) -> None:
        super().__init__(errors)
        self.errors = errors
        self.code = code

    @classmethod
    def because(cls, error_type: str, message: str, code: int = 400) -> "Refused":
        return cls([{"errorType": error_type, "message": message}], code)


def authenticate(caller: Caller, api_id: str) -> None:
    """Checks the headers of a connection."""
    _require_headers(caller)
    field_authorizer(api_id, caller, _paths(api_id, "/connect"), "{}")
    if not appsync._request_is_authenticated(api_id, caller.api, caller.headers):
        raise Refused.because("UnauthorizedException", "You are not authorized to make this call.", 401)


def start(api_id: str, payload: Json, deliver: Callable[[str], None]) -> Subscription:
    """Runs the resolver, which decides whether the caller may subscribe, and returns the subscription."""
    text, operation, headers = _request(payload)
    document, definition = _subscription(operation)
    caller = Caller.of(api_id, headers)
    _require_headers(caller)
    authorize = field_authorizer(api_id, caller, _paths(api_id, ""), text)
    if isinstance(authorize, tuple):
        raise Refused(json.loads(authorize[2])["errors"])
    # The answer of the resolver is not delivered.
    with noting_filters() as filters:
        _, _, body = appsync._execute_graphql(api_id, dict(operation), dict(caller.headers), authorize)
    if errors := json.loads(body).get("errors"):
        raise Refused(errors)
    return _prepared(api_id, text, operation, document, definition, caller, filters, deliver)


def _request(payload: Json) -> tuple[str, Mapping[str, Json], Mapping[str, Json]]:
    """Returns the operation as text and parsed, and the headers of the caller."""
    payload = payload if isinstance(payload, dict) else {}
    extensions = payload.get("extensions")
    headers = extensions.get("authorization") if isinstance(extensions, dict) else None
    text = payload.get("data")
    if not isinstance(text, str):
        raise Refused.because("UnsupportedOperation", "unknown not supported through the realtime channel")
    try:
        operation = json.loads(text)
    except ValueError:
        operation = None
    if not isinstance(operation, dict) or not isinstance(operation.get("query"), str):
        raise Refused.because("BadRequestException", "data is not JSON with a query.")
    if not isinstance(headers, dict):
        raise Refused.because("UnauthorizedException", "You are not authorized to make this call.", 401)
    return text, operation, headers


def _subscription(operation: Mapping[str, Json]) -> tuple[DocumentNode, OperationDefinitionNode]:
    try:
        document = parse(operation["query"])
    except GraphQLError as error:
        raise Refused.because("MalformedHttpRequestException", "Unable to parse GraphQL query.") from error
    definition = get_operation_ast(document, operation.get("operationName"))
    if definition is None or definition.operation is not OperationType.SUBSCRIPTION:
        kind = definition.operation.value if definition else "unknown"
        raise Refused.because("UnsupportedOperation", f"{kind} not supported through the realtime channel")
    return document, definition


def _prepared(
    api_id: str,
    text: str,
    operation: Mapping[str, Json],
    document: DocumentNode,
    definition: OperationDefinitionNode,
    caller: Caller,
    filters: list[Filter],
    deliver: Callable[[str], None],
) -> Subscription:
    schema = appsync_graphql.build_api_schema(api_id, appsync._schemas[api_id]["definition"])
    variables = operation.get("variables") or {}
    coerced = get_variable_values(schema, definition.variable_definitions, variables)
    # The execution of the operation has checked variables and document.
    values = coerced if isinstance(coerced, dict) else {}
    fragments = {
        fragment.name.value: fragment
        for fragment in document.definitions
        if isinstance(fragment, FragmentDefinitionNode)
    }
    collected = collect_fields(schema, fragments, values, schema.subscription_type, definition.selection_set)
    node: FieldNode = next(iter(collected.values()))[0]
    field = schema.subscription_type.fields[node.name.value]
    arguments = get_argument_values(field, node, values)
    return Subscription(
        api_id=api_id,
        text=text,
        selection=Selection(schema, document, operation.get("operationName"), variables, node.name.value),
        mutations=_mutations_of(field.ast_node),
        wants=filters[-1].passes if filters else lambda update: equals_arguments(update, arguments),
        caller=caller,
        deliver=deliver,
    )


def _mutations_of(field: Json) -> frozenset[str]:
    """Returns the mutations that `@aws_subscribe` names."""
    for directive in field.directives:
        if directive.name.value == "aws_subscribe":
            (argument,) = directive.arguments
            return frozenset(value_from_ast_untyped(argument.value))
    return frozenset()


def _require_headers(caller: Caller) -> None:
    if not caller.headers.get("host"):
        raise Refused.because("BadRequestException", "Required headers are missing.")


def _paths(api_id: str, suffix: str) -> tuple[str, ...]:
    """Returns the paths that clients sign: that of AppSync, and that of the local URL."""
    return f"/graphql{suffix}", f"/_aws/appsync-api/{api_id}/graphql{suffix}"
