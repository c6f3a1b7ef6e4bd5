"""The addresses of APIs. In addition to the names of AWS, each API has URLs that work without DNS:

- `http://127.0.0.1:PORT/_aws/appsync-api/{id}/graphql`
- `ws://127.0.0.1:PORT/_aws/appsync-realtime-api/{id}/graphql`

Clients derive the second from the first in two ways: as for AWS's own names (`appsync-api` becomes
`appsync-realtime-api`), and as for custom domains (`/realtime` is appended). Both work.
"""

import re
from typing import Any

import ministack.app  # type: ignore[import-untyped]

from local_cloud.appsync import protocol
from local_cloud.appsync.hooks import MissingName
from local_cloud.appsync.protocol import Receive, Scope, Send

HOST = "127.0.0.1"
_HTTP_PATH = re.compile(r"/_aws/appsync-api/([a-z0-9]+)/graphql")
_REALTIME_PATH = re.compile(r"/_aws/appsync-(?:realtime-)?api/([a-z0-9]+)/graphql(?:/realtime)?")
_REALTIME_HOST = re.compile(r"([a-z0-9]+)\.appsync-realtime-api\.")
# The headers that browsers may send. MiniStack's * does not cover Authorization.
_ALLOWED = {
    "origin": "*",
    "methods": "POST",
    "headers": "authorization, content-type, x-amz-date, x-amz-security-token, x-amz-user-agent, x-api-key",
}


def install() -> None:
    if not hasattr(ministack.app, "app"):
        raise MissingName(ministack.app, "app")
    original = ministack.app.app

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # This must be a coroutine function: Hypercorn treats other functions as WSGI applications.
        await _serve(original, scope, receive, send)

    ministack.app.app = app


def urls(api_id: str) -> tuple[str, str]:
    """Returns the URLs of an API for requests and for subscriptions."""
    address = f"{HOST}:{ministack.app._resolve_port()}/_aws"
    return f"http://{address}/appsync-api/{api_id}/graphql", f"ws://{address}/appsync-realtime-api/{api_id}/graphql"


async def _serve(original: Any, scope: Scope, receive: Receive, send: Send) -> None:
    path = scope.get("path", "")
    if scope["type"] == "http" and (found := _HTTP_PATH.fullmatch(path)):
        if scope["method"] == "OPTIONS":
            await _allow(send)
        else:
            # raw_path stays, because the client has signed it.
            await original({**scope, "path": f"/v1/apis/{found[1]}/graphql"}, receive, send)
    elif scope["type"] == "websocket" and (api_id := _realtime_api(scope)):
        await protocol.serve(scope, receive, send, api_id)
    else:
        await original(scope, receive, send)


def _realtime_api(scope: Scope) -> str | None:
    if found := _REALTIME_PATH.fullmatch(scope.get("path", "")):
        return found[1]
    # The same host names serve AppSync Events, with another subprotocol.
    if protocol.SUBPROTOCOL in (scope.get("subprotocols") or ()):
        host = dict(scope.get("headers", ())).get(b"host", b"").decode("latin-1")
        found = _REALTIME_HOST.match(host)
        return found[1] if found else None
    return None


async def _allow(send: Send) -> None:
    headers = [(f"access-control-allow-{name}".encode(), value.encode()) for name, value in _ALLOWED.items()]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body"})
