"""A plain client of AppSync's real-time protocol."""

import base64
import itertools
import json
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from botocore.credentials import Credentials
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from local_cloud.tests.appsync.stack import Api, sign

SECONDS = 20
# What the clients of AWS sign.
SIGNED = {
    "accept": "application/json, text/javascript",
    "content-encoding": "amz-1.0",
    "content-type": "application/json; charset=UTF-8",
}

Json = Any


def encode(headers: Mapping[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(headers).encode()).decode().rstrip("=")


class Client:
    """An open WebSocket. Frames that only keep it alive are skipped."""

    def __init__(
        self,
        api: Api,
        handshake: Mapping[str, str],
        *,
        url: str | None = None,
        protocol: str | None = "graphql-ws",
        query: bool = False,
    ) -> None:
        self._api = api
        self._ids = itertools.count(1)
        header = encode({"host": api.host, **handshake})
        names = ([protocol] if protocol else []) + ([] if query else [f"header-{header}"])
        address = urlsplit(api.realtime_url)
        self._socket = connect(
            (url or api.realtime_url) + (f"?header={header}&payload=e30=" if query else ""),
            subprotocols=[Subprotocol(name) for name in names],
            # The names of AWS do not resolve.
            sock=socket.create_connection((address.hostname, address.port)),
            proxy=None,
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def subprotocol(self) -> str | None:
        return self._socket.subprotocol

    def send(self, message: Json) -> None:
        self._socket.send(json.dumps(message))

    def frame(self) -> Json:
        """Returns the next frame. Fails if none comes."""
        while True:
            received: Json = json.loads(self._socket.recv(timeout=SECONDS))
            if received["type"] != "ka":
                return received

    def initialise(self) -> Json:
        self.send({"type": "connection_init"})
        return self.frame()

    def start(
        self,
        query: str,
        headers: Mapping[str, str] | None = None,
        variables: Json = None,
        *,
        by: Credentials | None = None,
        identity: str | None = None,
    ) -> tuple[str, Json]:
        """Sends a subscription, and returns its id and the answer."""
        identity = identity or str(next(self._ids))
        data = json.dumps({"query": query, "variables": variables or {}})
        given = {"host": self._api.host, **(headers or {})}
        if by is not None:
            given |= sign(self._api.url, data, by, SIGNED)
        payload = {"data": data, "extensions": {"authorization": given}}
        self.send({"id": identity, "type": "start", "payload": payload})
        return identity, self.frame()

    def subscribe(self, query: str, headers: Mapping[str, str], variables: Json = None) -> str:
        """Starts a subscription that is accepted, and returns its id."""
        identity, answer = self.start(query, headers, variables)
        assert answer == {"type": "start_ack", "id": identity}
        return identity

    def refused(self, query: str, headers: Mapping[str, str], variables: Json = None) -> Json:
        """Starts a subscription that is refused, and returns its error."""
        identity, answer = self.start(query, headers, variables)
        assert (answer["type"], answer["id"]) == ("error", identity)
        (error,) = answer["payload"]["errors"]
        return error

    def update(self) -> tuple[str, Json]:
        """Returns the next update: the subscription's id, and GraphQL's answer."""
        received = self.frame()
        assert received["type"] == "data"
        return received["id"], received["payload"]


def connect_error(client: Client) -> Json:
    """Returns the error by which a connection is refused."""
    answer = client.initialise()
    assert answer["type"] == "connection_error"
    (error,) = answer["payload"]["errors"]
    return error


def signed_handshake(api: Api, by: Credentials) -> dict[str, str]:
    return sign(f"{api.url}/connect", "{}", by, SIGNED)
