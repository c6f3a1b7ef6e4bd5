"""The protocol without MiniStack's server: a connection whose client is the test."""

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from local_cloud.appsync import protocol
from local_cloud.appsync.protocol import Connection, handshake_headers
from local_cloud.appsync.subscriptions import HUB

SECONDS = 10
# In Base64, it has both characters that differ between the alphabets.
HEADERS = {"host": "api", "x-api-key": "~~~~???>>>"}

Json = Any


def start(data: str | None, **extensions: Json) -> Json:
    return {"type": "start", "id": "7", "payload": {"data": data, "extensions": extensions}}


class Client:
    """The client's end of a connection."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Mapping[str, Json]] = asyncio.Queue()
        self.received: asyncio.Queue[Mapping[str, Json]] = asyncio.Queue()

    async def run(self, talk: Callable[[], Coroutine[Any, Any, None]], refusal: Json = None) -> None:
        """Has the conversation, and ends the connection afterwards."""
        connection = Connection("api", self.sent.get, self.received.put, keep_alive_seconds=0.01)
        serving = asyncio.create_task(connection.run(refusal))
        await asyncio.wait_for(talk(), SECONDS)
        self.sent.put_nowait({"type": "websocket.disconnect"})
        await asyncio.wait_for(serving, SECONDS)

    def send(self, message: Json) -> None:
        self.sent.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    async def frame(self) -> Json:
        event = await self.received.get()
        assert event["type"] == "websocket.send"
        return json.loads(event["text"])


def test_the_connection_is_kept_alive_after_its_acknowledgement() -> None:
    client = Client()

    async def talk() -> None:
        client.send({"type": "connection_init"})
        assert await client.frame() == {"type": "connection_ack", "payload": {"connectionTimeoutMs": 300_000}}
        for _ in range(3):
            assert await client.frame() == {"type": "ka"}

    asyncio.run(client.run(talk))


def test_each_frame_of_a_refused_connection_is_answered_by_the_error() -> None:
    client = Client()
    refusal = {"errorType": "UnauthorizedException", "message": "No.", "errorCode": 401}

    async def talk() -> None:
        for message in ({"type": "connection_init"}, start('{"query": "subscription { a }"}')):
            client.send(message)
            assert await client.frame() == {"type": "connection_error", "payload": {"errors": [refusal]}}

    asyncio.run(client.run(talk, refusal))


def test_connections_to_a_deleted_api_are_closed() -> None:
    client = Client()

    async def talk() -> None:
        client.send({"type": "stop", "id": "1"})  # so that the connection is known to be open
        await client.frame()
        HUB.close("other")
        await asyncio.to_thread(HUB.close, "api")
        assert await client.received.get() == {"type": "websocket.close", "code": 1000}

    asyncio.run(client.run(talk))


@pytest.mark.parametrize(
    ("message", "error_type", "says"),
    [
        ([], "BadRequestException", "A message is a JSON object."),
        ({"type": "start"}, "BadRequestException", "start needs an id."),
        ({"type": "stop", "id": 7}, "BadRequestException", "stop needs an id."),
        ({"type": "stop", "id": "7"}, "UnknownOperationError", "Unknown operation id 7"),
        ({"type": "subscribe", "id": "7"}, "UnsupportedOperation", "subscribe is not a type of messages."),
        (
            {"type": "start", "id": "7", "payload": {"query": "subscription { a }"}},
            "UnsupportedOperation",
            "unknown not supported through the realtime channel",
        ),
        (
            start('{"query": "subscription { a }"}'),
            "UnauthorizedException",
            "You are not authorized to make this call.",
        ),
        (
            start("{}", authorization=HEADERS),
            "BadRequestException",
            "data is not JSON with a query.",
        ),
        (
            start('{"query": "query { a }"}', authorization=HEADERS),
            "UnsupportedOperation",
            "query not supported through the realtime channel",
        ),
        (
            start('{"query": "subscription {"}', authorization=HEADERS),
            "MalformedHttpRequestException",
            "Unable to parse GraphQL query.",
        ),
        (
            start('{"query": "subscription { a }"}', authorization={"x-api-key": "key"}),
            "BadRequestException",
            "Required headers are missing.",
        ),
    ],
)
def test_a_wrong_message_is_answered_by_an_error(message: Json, error_type: str, says: str) -> None:
    client = Client()

    async def talk() -> None:
        client.send(message)
        answer = await client.frame()
        assert answer["type"] == "error"
        assert answer["payload"] == {"errors": [{"errorType": error_type, "message": says}]}
        named = isinstance(message, dict) and isinstance(message.get("id"), str)
        assert answer.get("id") == (message["id"] if named else None)

    asyncio.run(client.run(talk))


def test_what_is_no_json_is_answered_by_an_error_too() -> None:
    client = Client()

    async def talk() -> None:
        client.sent.put_nowait({"type": "websocket.receive", "text": "{"})
        client.sent.put_nowait({"type": "websocket.receive", "text": None, "bytes": b"\xff"})
        for _ in range(2):
            assert (await client.frame())["payload"]["errors"][0]["errorType"] == "BadRequestException"

    asyncio.run(client.run(talk))


def encoded(headers: Json, *, url_safe: bool, padding: bool) -> str:
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    text = encode(json.dumps(headers).encode()).decode()
    return text if padding else text.rstrip("=")


@pytest.mark.parametrize("url_safe", [True, False])
@pytest.mark.parametrize("padding", [True, False])
def test_the_header_comes_in_the_query_string_or_as_a_subprotocol(url_safe: bool, padding: bool) -> None:
    text = encoded(HEADERS, url_safe=url_safe, padding=padding)
    assert set("-_" if url_safe else "+/") <= set(text)
    query = f"header={text}&payload=e30=".encode()
    assert handshake_headers({"subprotocols": ["graphql-ws"], "query_string": query}) == HEADERS
    assert handshake_headers({"subprotocols": ["graphql-ws", f"header-{text}"], "query_string": b""}) == HEADERS


def test_without_a_header_those_of_the_request_count() -> None:
    headers = [(b"host", b"api"), (b"x-api-key", b"key")]
    assert handshake_headers({"query_string": b"", "headers": headers}) == {"host": "api", "x-api-key": "key"}


@pytest.mark.parametrize("text", ["W10", "Ww", "!", "e"])
def test_a_header_that_is_no_json_object_in_base64_is_refused(text: str) -> None:
    scope = {"subprotocols": ["graphql-ws", f"header-{text}"]}
    with pytest.raises(ValueError, match=r".+"):
        handshake_headers(scope)
    refusal = protocol.refusal_of(scope, "api")
    assert (refusal["errorType"], refusal["errorCode"]) == ("BadRequestException", 400)
