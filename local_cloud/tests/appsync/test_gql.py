"""The client `gql`, which is not ours, against a real MiniStack."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from botocore.credentials import Credentials
from gql import Client, gql
from gql.client import AsyncClientSession
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.appsync_auth import (
    AppSyncApiKeyAuthentication,
    AppSyncAuthentication,
    AppSyncIAMAuthentication,
    AppSyncJWTAuthentication,
)
from gql.transport.appsync_websockets import AppSyncWebsocketsTransport
from gql.transport.exceptions import TransportQueryError, TransportServerError

from local_cloud import environment
from local_cloud.tests.appsync.stack import Api

SECONDS = 20
SESSION = "subscription($session: ID) { sessionChanged(sessionId: $session) { sessionId version } }"
STATION = "subscription($station: ID) { stationChanged(stationId: $station) { stationId version } }"

Json = Any


def iam(api: Api, credentials: Credentials) -> AppSyncIAMAuthentication:
    return AppSyncIAMAuthentication(host=api.host, region_name=environment.REGION, credentials=credentials)


def jwt(api: Api, user: str) -> AppSyncJWTAuthentication:
    return AppSyncJWTAuthentication(host=api.host, jwt=api.token(user))


def key(api: Api, value: str | None = None) -> AppSyncApiKeyAuthentication:
    return AppSyncApiKeyAuthentication(host=api.host, api_key=value or api.outputs["Key"])


@asynccontextmanager
async def connected(api: Api, auth: AppSyncAuthentication) -> AsyncIterator[AsyncClientSession]:
    transport = AppSyncWebsocketsTransport(url=api.realtime_url, auth=auth, connect_args={"proxy": None})
    async with Client(transport=transport) as session:
        yield session


async def publish_until(done: asyncio.Event, publish: Any) -> None:
    """Publishes again and again, because gql does not tell when a subscription has started."""
    while not done.is_set():
        await asyncio.to_thread(publish)
        await asyncio.sleep(0)


async def first_update(api: Api, auth: AppSyncAuthentication, query: str, variables: Json, publish: Any) -> Json:
    done = asyncio.Event()
    publishing = asyncio.create_task(publish_until(done, publish))
    try:
        async with connected(api, auth) as session:
            request = gql(query)
            request.variable_values = variables
            async for update in session.subscribe(request):
                return update
    finally:
        done.set()
        await publishing


def received(api: Api, auth: AppSyncAuthentication, query: str, variables: Json, publish: Any) -> Json:
    async def run() -> Json:
        return await asyncio.wait_for(first_update(api, auth, query, variables, publish), SECONDS)

    return asyncio.run(run())


def test_users_keys_and_signed_callers_hear_updates(api: Api) -> None:
    name = f"s-{uuid.uuid4()}"
    expected = {"sessionChanged": {"sessionId": name, "version": 1}}
    for auth in (jwt(api, "root"), iam(api, api.listener)):
        assert received(
            api, auth, SESSION, {"session": name}, lambda: api.publish_session(sessionId=name)
        ) == expected
    expected = {"stationChanged": {"stationId": name, "version": 1}}
    assert received(
        api, key(api), STATION, {"station": name}, lambda: api.publish_station(stationId=name)
    ) == expected


async def refusal(api: Api, auth: AppSyncAuthentication, query: str) -> str:
    try:
        async with connected(api, auth) as session:
            async for update in session.subscribe(gql(query)):
                raise AssertionError(update)
    except (TransportQueryError, TransportServerError) as error:
        return str(error)
    raise AssertionError("the subscription ended")


@pytest.mark.parametrize(
    ("auth", "query", "says"),
    [
        (lambda api: key(api, "unknown"), "{ stationChanged { version } }", "UnauthorizedException"),
        (
            lambda api: iam(api, Credentials(api.listener.access_key, "no")),
            "{ sessionChanged { version } }",
            "UnauthorizedException",
        ),
        (lambda api: iam(api, api.publisher), "{ sessionChanged { version } }", "Permission denied"),
        (lambda api: key(api), "{ sessionChanged { version } }", "Not Authorized to access sessionChanged"),
        (lambda api: jwt(api, "ada"), '{ sessionChanged(userId: "bob") { version } }', "Only your own sessions."),
        (lambda api: jwt(api, "ada"), "{ sessionChanged { unknown } }", "Cannot query field 'unknown'"),
    ],
)
def test_a_refusal_reaches_the_client(api: Api, auth: Any, query: str, says: str) -> None:
    assert says in asyncio.run(asyncio.wait_for(refusal(api, auth(api), f"subscription {query}"), SECONDS))


def test_its_headers_also_serve_queries_by_http(api: Api) -> None:
    async def run() -> Json:
        transport = AIOHTTPTransport(url=api.url, headers=jwt(api, "ada").get_headers())
        async with Client(transport=transport) as session:
            return await session.execute(gql("{ onlyUsers }"))

    assert asyncio.run(run()) == {"onlyUsers": "seen"}


def test_many_clients_hear_one_update(api: Api) -> None:
    station = f"st-{uuid.uuid4()}"
    count = 30

    async def run() -> list[Json]:
        done = asyncio.Event()
        hearing = [
            asyncio.create_task(
                first_update_only(api, STATION, {"station": station if number % 2 else "another"}, done)
            )
            for number in range(count)
        ]
        publishing = asyncio.create_task(publish_until(done, lambda: api.publish_station(stationId=station)))
        half = [task for number, task in enumerate(hearing) if number % 2]
        updates = await asyncio.wait_for(asyncio.gather(*half), SECONDS)
        done.set()
        await publishing
        assert await asyncio.gather(*hearing[::2]) == [None] * (count // 2)
        return updates

    assert asyncio.run(run()) == [{"stationChanged": {"stationId": station, "version": 1}}] * (count // 2)


async def first_update_only(api: Api, query: str, variables: Json, done: asyncio.Event) -> Json:
    """Returns the first update, or None if others have ended the test before."""
    async with connected(api, key(api)) as session:
        request = gql(query)
        request.variable_values = variables

        async def hear() -> Json:
            async for update in session.subscribe(request):
                return update

        hearing, ending = asyncio.create_task(hear()), asyncio.create_task(done.wait())
        await asyncio.wait({hearing, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if hearing.done():
            return hearing.result()
        hearing.cancel()
        return None
