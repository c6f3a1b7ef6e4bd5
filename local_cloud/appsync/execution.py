"""Operations: authorisation of each field, errors, and the `extensions` that resolvers set."""

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from graphql import GraphQLResolveInfo, OperationType, get_operation_ast, parse
from graphql.execution.collect_fields import collect_fields
from graphql.execution.values import get_variable_values
from graphql.language import FragmentDefinitionNode
from ministack.core import appsync_graphql, appsync_js  # type: ignore[import-untyped]
from ministack.core.appsync_js import AppSyncJsError  # type: ignore[import-untyped]
from ministack.services import appsync  # type: ignore[import-untyped]
from ministack.services.appsync import _unauthorized_field  # type: ignore[import-untyped]

from local_cloud.appsync import scalars
from local_cloud.appsync.authorization import LAMBDA, Caller, request_is_authenticated
from local_cloud.appsync.filters import Filter, FilterError
from local_cloud.appsync.hooks import replace_text, wrap
from local_cloud.appsync.subscriptions import HUB

# The JavaScript of `util.transform.toSubscriptionFilter`, which MiniStack lacks.
_TO_SUBSCRIPTION_FILTER = Path(__file__).with_name("subscription_filter.js")
# MiniStack ends the processes that a burst of evaluations started. To start one takes longer than an evaluation.
_IDLE_PROCESSES = 8

Json = Any

# The caller of the operation in this thread.
_caller: ContextVar[Caller | None] = ContextVar("appsync_caller", default=None)
# The filters that the resolver of a subscription has set, while a subscription is being started.
_filters: ContextVar[list[Filter] | None] = ContextVar("appsync_filters", default=None)


def install() -> None:
    wrap(appsync, "_request_is_authenticated", request_is_authenticated)
    wrap(appsync, "_execute_with_schema", _execute_with_schema)
    wrap(appsync, "_resolve_field", _resolve_field)
    wrap(appsync, "_delete_graphql_api", _delete_graphql_api)
    wrap(appsync, "reset", _reset)
    wrap(appsync_graphql, "execute", _execute)
    wrap(appsync_graphql, "_as_appsync_errors", _as_appsync_errors)
    wrap(appsync_graphql, "build_api_schema", _build_api_schema)
    wrap(appsync_js._pool, "call", _evaluate)
    replace_text(
        appsync_js,
        "_WORKER_SCRIPT",
        'toSubscriptionFilter: notImplemented("transform.toSubscriptionFilter"),',
        f"toSubscriptionFilter: ({_TO_SUBSCRIPTION_FILTER.read_text()})(),",
    )
    appsync_js._pool.script = appsync_js._WORKER_SCRIPT
    appsync_js._pool.max_idle = _IDLE_PROCESSES


@contextlib.contextmanager
def noting_filters() -> Iterator[list[Filter]]:
    """Lets resolvers set filters of a subscription, and yields the list of them."""
    filters: list[Filter] = []
    token = _filters.set(filters)
    try:
        yield filters
    finally:
        _filters.reset(token)


def _execute_with_schema(
    original: Any, api_id: str, sdl: str, query: str, variables: Json, name: str | None, headers: Json, *rest: Any
) -> Any:
    token = _caller.set(Caller.of(api_id, headers))
    try:
        return original(api_id, sdl, query, variables, name, headers, *rest)
    finally:
        _caller.reset(token)


def _resolve_field(original: Any, *arguments: Any, **named: Any) -> Any:
    caller = _caller.get()
    # MiniStack knows what a Lambda authorizer said.
    if caller is not None and caller.mode != LAMBDA:
        named["identity"] = caller.identity
    return original(*arguments, **named)


def _execute(
    original: Any,
    api_id: str,
    sdl: str,
    query: str,
    variables: Json,
    operation_name: str | None,
    resolver: Any,
    context: Any,
) -> tuple[Json, Json]:
    caller = _caller.get()

    def resolve(source: Json, info: GraphQLResolveInfo, **arguments: Json) -> Json:
        if caller is not None and not caller.may_access(info.parent_type, info.field_name):
            raise _unauthorized_field(info.parent_type.name, info.field_name)
        return resolver(source, info, **arguments)

    data, errors = original(api_id, sdl, query, variables, operation_name, resolve, context)
    if data and HUB.has(api_id):
        for mutation, update in _mutations(api_id, sdl, query, variables, operation_name, data):
            HUB.publish(api_id, mutation, update)
    return data, errors


def _mutations(
    api_id: str, sdl: str, query: str, variables: Json, operation_name: str | None, data: Mapping[str, Json]
) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """Yields each mutation of an executed operation, with the selected part of its result."""
    document = parse(query)
    operation = get_operation_ast(document, operation_name)
    if operation is None or operation.operation is not OperationType.MUTATION:
        return
    schema = appsync_graphql.build_api_schema(api_id, sdl)
    coerced = get_variable_values(schema, operation.variable_definitions, variables or {})
    fragments = {
        definition.name.value: definition
        for definition in document.definitions
        if isinstance(definition, FragmentDefinitionNode)
    }
    values = coerced if isinstance(coerced, dict) else {}
    fields = collect_fields(schema, fragments, values, schema.mutation_type, operation.selection_set)
    for key, nodes in fields.items():
        if isinstance(data.get(key), dict):
            yield nodes[0].name.value, data[key]


def _as_appsync_errors(original: Any, errors: Any) -> list[dict[str, Json]]:
    """Adds the data and the errorInfo that `util.error` got."""
    rendered: list[dict[str, Json]] = original(errors)
    for entry, error in zip(rendered, errors or [], strict=True):
        cause = getattr(error, "original_error", None)
        if hasattr(cause, "error_type"):
            entry["data"] = getattr(cause, "data", None)
            entry["errorInfo"] = getattr(cause, "error_info", None)
    return rendered


def _build_api_schema(original: Any, api_id: str, sdl: str) -> Any:
    schema = original(api_id, sdl)
    scalars.apply_to(schema)
    return schema


def _evaluate(original: Any, request: Mapping[str, Json], timeout: float | None = None) -> Mapping[str, Json]:
    """Evaluates the JavaScript of a resolver, and applies the `extensions` that it set."""
    answer: Mapping[str, Json] = original(request, timeout=timeout)
    for extension in answer.get("extensions") or []:
        operation = extension.get("op")
        if operation == "setSubscriptionFilter":
            _set_filter(request, extension.get("filter"))
        elif operation in ("setSubscriptionInvalidationFilter", "invalidateSubscriptions"):
            raise AppSyncJsError(f"extensions.{operation} is not modelled here.", "UnsupportedOperation")
    return answer


def _set_filter(request: Mapping[str, Json], document: Json) -> None:
    filters = _filters.get()
    if filters is None or request.get("fn") != "response":
        message = "extensions.setSubscriptionFilter belongs into the response handler of a subscription's resolver."
        raise AppSyncJsError(message, "UnsupportedOperation")
    try:
        filters.append(Filter.parse(document))
    except FilterError as error:
        raise AppSyncJsError(str(error), "BadRequestException") from error


def _delete_graphql_api(original: Any, api_id: str) -> Any:
    HUB.close(api_id)
    return original(api_id)


def _reset(original: Any) -> None:
    HUB.close()
    original()
