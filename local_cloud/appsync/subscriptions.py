"""The subscriptions of all clients, and publishing to them.

A subscription gets the results of the mutations that `@aws_subscribe` of its field names. The update has the fields
that the mutation selected. Other fields are null, and a required field that is null is an error. AppSync promises no
order of updates.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import DocumentNode, ExecutionResult, GraphQLResolveInfo, GraphQLSchema, execute_sync
from ministack.core import appsync_graphql  # type: ignore[import-untyped]
from ministack.services.appsync import _unauthorized_field  # type: ignore[import-untyped]

from local_cloud.appsync.authorization import Caller

# The quota "Subscription payload size" of AppSync, in bytes.
MAX_UPDATE_BYTES = 240 * 1024

Json = Any
logger = logging.getLogger("appsync")


@dataclass(frozen=True)
class Selection:
    """The fields that a subscription selects: a checked document with its variables."""

    schema: GraphQLSchema
    document: DocumentNode
    operation_name: str | None
    variables: Mapping[str, Json]
    field: str

    def of(self, update: Mapping[str, Json], caller: Caller) -> Mapping[str, Json]:
        """Returns the update as GraphQL's answer to a caller: `data`, and `errors` if there are any."""

        def resolve(source: Mapping[str, Json], info: GraphQLResolveInfo, **_: Json) -> Json:
            if not caller.may_access(info.parent_type, info.field_name):
                raise _unauthorized_field(info.parent_type.name, info.field_name)
            return source.get(info.field_name)

        result = execute_sync(
            self.schema,
            self.document,
            {self.field: update},
            variable_values=dict(self.variables),
            operation_name=self.operation_name,
            field_resolver=resolve,
        )
        assert isinstance(result, ExecutionResult)
        errors = appsync_graphql._as_appsync_errors(result.errors)
        return {"data": result.data, "errors": errors} if errors else {"data": result.data}


@dataclass(frozen=True, eq=False)
class Subscription:
    """A started subscription of a client."""

    api_id: str
    # What the client sent. Equal texts select the same.
    text: str
    selection: Selection
    mutations: frozenset[str]
    wants: Callable[[Mapping[str, Json]], bool]
    caller: Caller
    # Takes the answer as JSON, in any thread.
    deliver: Callable[[str], None]


class Hub:
    """All subscriptions. Clients come and go in the thread of the event loop, mutations run in others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._closers: dict[str, set[Callable[[], None]]] = {}

    def add(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.setdefault(subscription.api_id, set()).add(subscription)

    def remove(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.get(subscription.api_id, set()).discard(subscription)

    def has(self, api_id: str) -> bool:
        """Returns whether anybody has subscribed to something of the API."""
        return bool(self._subscriptions.get(api_id))

    def publish(self, api_id: str, mutation: str, update: Mapping[str, Json]) -> None:
        """Delivers the update to all subscriptions that it matches."""
        with self._lock:
            subscriptions = list(self._subscriptions.get(api_id, ()))
        # Many clients ask the same, so the answer is made once for them.
        answers: dict[Json, str] = {}
        for subscription in subscriptions:
            if mutation not in subscription.mutations or not subscription.wants(update):
                continue
            key = (subscription.text, subscription.caller.access)
            if key not in answers:
                answers[key] = json.dumps(subscription.selection.of(update, subscription.caller))
            if len(answers[key].encode()) <= MAX_UPDATE_BYTES:
                subscription.deliver(answers[key])
            else:
                logger.warning("an update by %s exceeds %d bytes, and is not delivered", mutation, MAX_UPDATE_BYTES)

    def connected(self, api_id: str, close: Callable[[], None]) -> None:
        """Notes how to close a client's connection, in any thread."""
        with self._lock:
            self._closers.setdefault(api_id, set()).add(close)

    def disconnected(self, api_id: str, close: Callable[[], None]) -> None:
        with self._lock:
            self._closers.get(api_id, set()).discard(close)

    def close(self, api_id: str | None = None) -> None:
        """Closes the connections to an API that is deleted, or to all APIs."""
        with self._lock:
            apis = list(self._closers) if api_id is None else [api_id]
            closers = [close for api in apis for close in self._closers.get(api, ())]
        for close in closers:
            close()


HUB = Hub()
