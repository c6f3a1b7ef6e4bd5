"""One WebSocket of a client: AppSync's real-time protocol for GraphQL, with the subprotocol `graphql-ws`.

Source: AppSync's developer guide, "Building a real-time WebSocket client". The errors are those that clients report
of AppSync.

    client                                             AppSync
    connect: `header` by query string, by the
      subprotocol `header-…`, or as HTTP headers
    {"type": "connection_init"}                        {"type": "connection_ack", "payload": {"connectionTimeoutMs"}}
                                                       {"type": "ka"}, again and again
    {"type": "start", "id", "payload": {"data",        {"type": "start_ack", "id"}
      "extensions": {"authorization"}}}                {"type": "data", "id", "payload"} for each update
    {"type": "stop", "id"}                             {"type": "complete", "id"}

`connection_init` is optional. Errors are `{"type": "error", "id", "payload": {"errors"}}`. The server opens a
connection even if it refuses the client, and answers each frame with `connection_error`. The client closes the
connection: if the server did, a client that is still reading would lose the error.
"""

import asyncio
import base64
import binascii
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from graphql import GraphQLError

from local_cloud.appsync import authorization, starting
from local_cloud.appsync.authorization import Caller
from local_cloud.appsync.starting import Refused
from local_cloud.appsync.subscriptions import HUB, Subscription

SUBPROTOCOL = "graphql-ws"
KEEP_ALIVE_SECONDS = 60.0
CONNECTION_TIMEOUT_MS = 300_000
# The quota "Subscriptions per client connection" of AppSync.
MAX_SUBSCRIPTIONS = 200

Json = Any
Scope = Mapping[str, Json]
Receive = Callable[[], Awaitable[Mapping[str, Json]]]
Send = Callable[[Mapping[str, Json]], Awaitable[None]]


def frame(kind: str, subscription: str | None = None, payload: Json = None) -> str:
    identity = {} if subscription is None else {"id": subscription}
    content = {} if payload is None else {"payload": payload}
    return json.dumps({"type": kind} | identity | content)


async def serve(
    scope: Scope, receive: Receive, send: Send, api_id: str, keep_alive_seconds: float = KEEP_ALIVE_SECONDS
) -> None:
    """Serves a connection until either side closes it."""
    await receive()
    if not authorization.enter_scope(api_id):
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: HTTP status 403
        return
    agreed = SUBPROTOCOL if SUBPROTOCOL in (scope.get("subprotocols") or ()) else None
    await send({"type": "websocket.accept", "subprotocol": agreed})
    refusal = await asyncio.to_thread(refusal_of, scope, api_id)
    await Connection(api_id, receive, send, keep_alive_seconds).run(refusal)


def refusal_of(scope: Scope, api_id: str) -> Json:
    """Returns the error that refuses the connection, or None."""
    if SUBPROTOCOL not in (scope.get("subprotocols") or ()):
        return {"message": "NoProtocolError", "errorCode": 400}
    try:
        starting.authenticate(Caller.of(api_id, handshake_headers(scope)), api_id)
    except Refused as refused:
        return refused.errors[0] | {"errorCode": refused.code}
    except ValueError:
        return {"errorType": "BadRequestException", "message": "The header is not JSON in Base64.", "errorCode": 400}
    return None


def handshake_headers(scope: Scope) -> Mapping[str, Json]:
    """Returns the headers that the client has sent in one of three ways."""
    offered = scope.get("subprotocols") or ()
    encoded = next((name.removeprefix("header-") for name in offered if name.startswith("header-")), None)
    if encoded is None:
        encoded = parse_qs(scope.get("query_string", b"").decode()).get("header", [None])[0]
    if encoded is None:
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", ())}
    # A + in a query string is read as a space. Padding may be missing.
    plain = encoded.replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
    try:
        headers = json.loads(base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True))
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    if not isinstance(headers, dict):
        raise ValueError("not an object")
    return headers


class Connection:
    """An accepted connection, with its subscriptions by the client's ids."""

    def __init__(self, api_id: str, receive: Receive, send: Send, keep_alive_seconds: float) -> None:
        self._api_id = api_id
        self._receive = receive
        self._send = send
        self._keep_alive_seconds = keep_alive_seconds
        self._loop = asyncio.get_running_loop()
        # None closes the connection.
        self._outbox: asyncio.Queue[str | None] = asyncio.Queue()
        self._subscriptions: dict[str, Subscription] = {}
        self._keep_alive: asyncio.Task[None] | None = None

    async def run(self, refusal: Json) -> None:
        """Reads frames until the connection ends. Answers each with the refusal, if there is one."""
        sender = asyncio.create_task(self._send_all())
        reader = asyncio.create_task(self._read_all(refusal))
        HUB.connected(self._api_id, self.close)
        try:
            # The sender ends when the connection is to be closed, the reader when the client has closed it.
            await asyncio.wait({sender, reader}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            HUB.disconnected(self._api_id, self.close)
            for subscription in self._subscriptions.values():
                HUB.remove(subscription)
            tasks = [task for task in (sender, reader, self._keep_alive) if task]
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def post(self, text: str | None) -> None:
        """Sends a frame, or closes the connection after all frames before. May be called in any thread."""
        with contextlib.suppress(RuntimeError):  # the server has stopped
            self._loop.call_soon_threadsafe(self._outbox.put_nowait, text)

    def close(self) -> None:
        self.post(None)

    async def _send_all(self) -> None:
        while (text := await self._outbox.get()) is not None:
            await self._send({"type": "websocket.send", "text": text})
        await self._send({"type": "websocket.close", "code": 1000})

    async def _read_all(self, refusal: Json) -> None:
        while (event := await self._receive())["type"] == "websocket.receive":
            if refusal is not None:
                self.post(frame("connection_error", payload={"errors": [refusal]}))
                continue
            try:
                message = json.loads(event.get("text") or event.get("bytes") or "")
            except ValueError:
                message = None
            if isinstance(message, dict):
                await self._handle(message)
            else:
                self._refuse(None, "BadRequestException", "A message is a JSON object.")

    async def _handle(self, message: Mapping[str, Json]) -> None:
        kind, subscription = message.get("type"), message.get("id")
        if kind == "connection_init":
            self.post(frame("connection_ack", payload={"connectionTimeoutMs": CONNECTION_TIMEOUT_MS}))
            if self._keep_alive is None:
                self._keep_alive = asyncio.create_task(self._send_keep_alives())
        elif kind not in ("start", "stop"):
            self._refuse(subscription, "UnsupportedOperation", f"{kind} is not a type of messages.")
        elif not isinstance(subscription, str) or not subscription:
            self._refuse(None, "BadRequestException", f"{kind} needs an id.")
        elif kind == "start":
            await self._start(subscription, message.get("payload"))
        elif stopped := self._subscriptions.pop(subscription, None):
            HUB.remove(stopped)
            self.post(frame("complete", subscription))
        else:
            self._refuse(subscription, "UnknownOperationError", f"Unknown operation id {subscription}")

    async def _send_keep_alives(self) -> None:
        while True:
            self.post(frame("ka"))
            await asyncio.sleep(self._keep_alive_seconds)

    async def _start(self, identity: str, payload: Json) -> None:
        if identity in self._subscriptions:
            return self._refuse(identity, "DuplicatedOperationError", f"Duplicated operation id {identity}")
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            reached = f"Max number of {MAX_SUBSCRIPTIONS} subscriptions reached"
            return self._refuse(identity, "MaxSubscriptionsReachedError", reached)
        prefix = f'{{"type": "data", "id": {json.dumps(identity)}, "payload": '

        def deliver(answer: str) -> None:
            self.post(f"{prefix}{answer}}}")

        try:
            subscription = await asyncio.to_thread(starting.start, self._api_id, payload, deliver)
        except Refused as refused:
            return self.post(frame("error", identity, {"errors": refused.errors}))
        except GraphQLError as error:
            return self._refuse(identity, "BadRequestException", error.message)
        self._subscriptions[identity] = subscription
        # The client gets the acknowledgement before the first update.
        self.post(frame("start_ack", identity))
        HUB.add(subscription)

    def _refuse(self, subscription: str | None, error_type: str, message: str) -> None:
        self.post(frame("error", subscription, {"errors": [{"errorType": error_type, "message": message}]}))
