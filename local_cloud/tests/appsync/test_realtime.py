"""Connections and subscriptions, with a plain WebSocket client against a real MiniStack."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.credentials import Credentials
from websockets.exceptions import InvalidStatus

from local_cloud import environment
from local_cloud.appsync.protocol import MAX_SUBSCRIPTIONS
from local_cloud.tests.appsync.realtime import Client, connect_error, signed_handshake
from local_cloud.tests.appsync.stack import Api, sign_in

STATION = "stationId version status"
UNAUTHORIZED = {
    "errorType": "UnauthorizedException",
    "message": "You are not authorized to make this call.",
}

Json = Any


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with Client(api, api.key()) as connected:
        assert connected.initialise()["type"] == "connection_ack"
        yield connected


@pytest.fixture
def station() -> str:
    """A station that no other test uses."""
    return f"st-{uuid.uuid4()}"


def test_a_connection_is_acknowledged(api: Api) -> None:
    own_name = f"ws://{api.outputs['ApiId']}.appsync-realtime-api.{environment.REGION}.amazonaws.com/graphql"
    custom_domain = f"{api.url.replace('http://', 'ws://')}/realtime"
    for url, query in ((None, False), (None, True), (own_name, True), (custom_domain, False)):
        with Client(api, api.key(), url=url, query=query) as client:
            assert client.subprotocol == "graphql-ws"
            assert client.initialise() == {"type": "connection_ack", "payload": {"connectionTimeoutMs": 300_000}}


def test_users_and_signed_callers_connect_too(api: Api) -> None:
    for handshake in (api.user("ada"), {"authorization": f"Bearer {api.token('ada')}"}):
        with Client(api, handshake) as client:
            assert client.initialise()["type"] == "connection_ack"
    with Client(api, signed_handshake(api, api.listener)) as client:
        assert client.initialise()["type"] == "connection_ack"


def test_credentials_that_do_not_hold_are_refused(api: Api) -> None:
    cognito = environment.client("cognito-idp", api.endpoint)
    wrong_secret = Credentials(api.listener.access_key, "wrong")
    head, claims, signature = api.token("ada").split(".")
    other_client = sign_in(cognito, api.outputs["OtherClient"], "ada")["AccessToken"]
    handshakes = {
        "no credentials": {},
        "an unknown API key": {"x-api-key": "key"},
        "an API key that has expired": {"x-api-key": api.outputs["ExpiredKey"]},
        "a forged signature": {"authorization": f"{head}.{claims}.{signature[:-8]}AAAAAAAA"},
        "claims of another token": {"authorization": f"{head}.{api.token('root').split('.')[1]}.{signature}"},
        "a token for another app client": {"authorization": other_client},
        "no token": {"authorization": "ada"},
        "a wrong secret": signed_handshake(api, wrong_secret),
    }
    for reason, handshake in handshakes.items():
        with Client(api, handshake) as client:
            assert connect_error(client) == UNAUTHORIZED | {"errorCode": 401}, reason
            _, answer = client.start("subscription { stationChanged { version } }", api.key())
            assert answer["type"] == "connection_error", reason


def test_a_connection_without_the_subprotocol_is_refused(api: Api) -> None:
    with Client(api, api.key(), protocol=None, query=True) as client:
        assert client.subprotocol is None
        assert connect_error(client) == {"message": "NoProtocolError", "errorCode": 400}


def test_an_unknown_api_is_refused(api: Api) -> None:
    url = api.realtime_url.replace(api.outputs["ApiId"], "unknown")
    with pytest.raises(InvalidStatus):
        Client(api, api.key(), url=url)


def test_a_subscription_hears_mutations_until_it_is_stopped(api: Api, client: Client, station: str) -> None:
    query = f"subscription($id: ID) {{ stationChanged(stationId: $id) {{ {STATION} }} }}"
    first = client.subscribe(query, api.key(), {"id": station})
    second = client.subscribe(query, api.key(), {"id": station})
    api.publish_station(stationId=station, status="ACTIVE")
    expected = {"data": {"stationChanged": {"stationId": station, "version": 1, "status": "ACTIVE"}}}
    assert sorted([client.update(), client.update()]) == [(first, expected), (second, expected)]
    client.send({"type": "stop", "id": first})
    assert client.frame() == {"type": "complete", "id": first}
    api.publish_station(stationId=station, version=2)
    api.publish_station(stationId=station, version=3)
    assert [client.update()[0], client.update()[0]] == [second, second]


def test_initialising_is_optional(api: Api, station: str) -> None:
    with Client(api, api.key()) as client:
        client.subscribe(f'subscription {{ stationChanged(stationId: "{station}") {{ stationId }} }}', api.key())
        api.publish_station(stationId=station)
        assert client.update()[1] == {"data": {"stationChanged": {"stationId": station}}}


def versions(client: Client, count: int) -> list[int]:
    """Returns the versions of the next updates."""
    updates = [client.update()[1]["data"] for _ in range(count)]
    return [next(iter(update.values()))["version"] for update in updates]


def test_all_arguments_must_match_what_the_mutation_selected(api: Api, client: Client, station: str) -> None:
    query = "subscription($id: ID, $status: Status) { stationChanged(stationId: $id, status: $status) { version } }"
    client.subscribe(query, api.key(), {"id": station, "status": "ACTIVE"})
    api.publish_station(stationId="another", status="ACTIVE", version=2)
    api.publish_station(stationId=station, status="MAINTENANCE", version=3)
    api.publish_station(stationId=station, version=4)
    api.publish_station("stationId version", stationId=station, status="ACTIVE", version=5)
    api.publish_station(stationId=station, status="ACTIVE", version=6)
    assert versions(client, 1) == [6]


def test_an_argument_that_is_null_wants_null(api: Api, client: Client, station: str) -> None:
    query = f'subscription {{ stationChanged(stationId: "{station}", status: null) {{ version }} }}'
    client.subscribe(query, api.key())
    api.publish_station(stationId=station, status="ACTIVE", version=2)
    api.publish_station(stationId=station, version=3)
    assert versions(client, 1) == [3]


def test_a_filter_takes_the_place_of_the_arguments(api: Api, client: Client, station: str) -> None:
    query = "subscription($id: ID, $filter: AWSJSON) { filtered(stationId: $id, filter: $filter) { version } }"
    names = '{"fieldName": "name", "operator": "beginsWith", "value": "North"}'
    power = '{"fieldName": "powerKw", "operator": "ge", "value": 50}'
    tags = f'{{"fieldName": "tags", "operator": "contains", "value": "{station}"}}'
    document = f'{{"filterGroup": [{{"filters": [{names}, {tags}]}}, {{"filters": [{power}, {tags}]}}]}}'
    client.subscribe(query, api.key(), {"id": "not compared", "filter": document})
    api.publish_station(version=2, name="South", powerKw=49, tags=[station])
    api.publish_station(version=3, name="North 1", tags=["another"])
    api.publish_station(version=4, name="North 1", tags=["roof", station])
    api.publish_station(version=5, name="South", powerKw=50, tags=[station])
    assert versions(client, 2) == [4, 5]


def test_a_filter_that_appsync_refuses_refuses_the_subscription(api: Api, client: Client) -> None:
    query = "subscription($filter: AWSJSON) { filtered(filter: $filter) { version } }"
    error = client.refused(query, api.key(), {"filter": '{"filterGroup": []}'})
    assert error["message"] == "The filter needs a list `filterGroup` with at least one element."
    assert error["errorType"] == "BadRequestException"
    error = client.refused("subscription { filteredTooEarly { version } }", api.key())
    assert "belongs into the response handler of a subscription's resolver" in error["message"]
    error = client.refused("subscription { invalidated { version } }", api.key())
    assert error["message"] == "extensions.setSubscriptionInvalidationFilter is not modelled here."


def test_a_user_hears_of_its_own_sessions_and_admins_of_all(api: Api, client: Client) -> None:
    query = "subscription($session: ID) { sessionChanged(sessionId: $session) { version } }"
    ada, bob = api.subs["ada"], api.subs["bob"]
    session = f"s-{uuid.uuid4()}"
    of_ada = client.subscribe(query, api.user("ada"), {"session": session})
    of_root = client.subscribe(query, api.user("root"), {"session": session})
    api.publish_session(userId=bob, sessionId=session, version=2)
    api.publish_session(userId=ada, sessionId="another", version=3)
    api.publish_session(userId=ada, sessionId=session, version=4)
    updates = [client.update() for _ in range(3)]
    heard = [(identity, payload["data"]["sessionChanged"]["version"]) for identity, payload in updates]
    assert [version for identity, version in heard if identity == of_ada] == [4]
    assert [version for identity, version in heard if identity == of_root] == [2, 4]


def test_what_the_resolver_refuses_is_refused(api: Api, client: Client) -> None:
    query = "subscription($user: ID) { sessionChanged(userId: $user) { version } }"
    error = client.refused(query, api.user("ada"), {"user": api.subs["bob"]})
    assert (error["errorType"], error["message"]) == ("ForbiddenError", "Only your own sessions.")
    assert error["errorInfo"] == {"correlationId": "c-2"}


def test_a_mode_that_the_field_does_not_admit_is_refused(api: Api, client: Client) -> None:
    error = client.refused("subscription { sessionChanged { version } }", api.key())
    assert error["errorType"] == "Unauthorized"
    assert error["message"] == "Not Authorized to access sessionChanged on type Subscription"
    assert client.refused("subscription { stationChanged { version } }", {"x-api-key": "no"}) == UNAUTHORIZED


def test_iam_decides_on_a_signed_subscription(api: Api, client: Client) -> None:
    query = "subscription($session: ID) { sessionChanged(sessionId: $session) { version } }"
    session = f"s-{uuid.uuid4()}"
    identity, answer = client.start(query, variables={"session": session}, by=api.listener)
    assert answer == {"type": "start_ack", "id": identity}
    api.publish_session(sessionId=session, version=7)
    assert versions(client, 1) == [7]
    _, answer = client.start(query, by=api.publisher)
    assert answer["payload"]["errors"] == [{"errorType": "UnauthorizedException", "message": "Permission denied"}]
    _, answer = client.start(query, by=Credentials(api.listener.access_key, "wrong"))
    assert answer["payload"]["errors"] == [UNAUTHORIZED]


def test_what_the_mutation_did_not_select_is_null(api: Api, client: Client) -> None:
    session = f"s-{uuid.uuid4()}"
    query = f'subscription {{ sessionChanged(sessionId: "{session}") {{ stationId energyKwh }} }}'
    client.subscribe(query, api.user("root"))
    api.publish_session("sessionId stationId", sessionId=session, energyKwh=1.5)
    assert client.update()[1] == {"data": {"sessionChanged": {"stationId": "st-1", "energyKwh": None}}}
    # A required field that is null is an error.
    api.publish_session("sessionId energyKwh", sessionId=session, energyKwh=1.5)
    _, payload = client.update()
    assert payload["data"] == {"sessionChanged": None}
    (error,) = payload["errors"]
    assert error["path"] == ["sessionChanged", "stationId"]
    assert "Cannot return null for non-nullable field" in error["message"]


def test_the_types_inside_an_update_are_authorised_too(api: Api, client: Client) -> None:
    session = f"s-{uuid.uuid4()}"
    query = f'subscription {{ sessionChanged(sessionId: "{session}") {{ version cost {{ amount }} }} }}'
    client.subscribe(query, api.user("root"))
    cost = {"amount": "1.50", "currency": "EUR"}
    api.publish_session("sessionId version cost { amount currency }", sessionId=session, cost=cost)
    _, payload = client.update()
    assert payload["data"] == {"sessionChanged": {"version": 1, "cost": None}}
    (error,) = payload["errors"]
    assert error["message"] == "Not Authorized to access amount on type Money"
    # A signed caller with the same document sees it.
    _, answer = client.start(query, by=api.listener)
    assert answer["type"] == "start_ack"
    api.publish_session("sessionId version cost { amount currency }", sessionId=session, cost=cost)
    updates = dict([client.update(), client.update()])
    costs = [payload["data"]["sessionChanged"]["cost"] for _, payload in sorted(updates.items())]
    assert costs == [None, {"amount": "1.50"}]


def test_each_mutation_of_an_operation_is_published(api: Api, client: Client, station: str) -> None:
    query = """
        subscription($id: ID) { ...named }
        fragment named on Subscription { stationChanged(stationId: $id) { version } }
    """
    client.subscribe(query, api.key(), {"id": station})
    mutation = """
        mutation($first: StationInput!, $second: StationInput!, $skipped: Boolean!) {
          one: publishStation(station: $first) { ...all }
          ...rest
          publishStation(station: $first) @skip(if: $skipped) { ...all }
        }
        fragment rest on Mutation { two: publishStation(station: $second) { ...all } }
        fragment all on Station { stationId version }
    """
    first, second = ({"stationId": station, "version": version} for version in (1, 2))
    variables = {"first": first, "second": second, "skipped": True}
    status, answer = api.signed(mutation, variables, by=api.publisher)
    assert (status, answer) == (200, {"data": {"one": first, "two": second}})
    assert versions(client, 2) == [1, 2]


def test_only_the_mutations_that_the_schema_names_are_heard(api: Api, client: Client, station: str) -> None:
    client.subscribe(f'subscription {{ stationChanged(stationId: "{station}") {{ version }} }}', api.key())
    api.publish_session(stationId=station, version=2)
    api.publish_station(stationId=station, version=3)
    assert versions(client, 1) == [3]


def test_a_mutation_that_fails_is_not_published(api: Api, client: Client, station: str) -> None:
    client.subscribe(f'subscription {{ stationChanged(stationId: "{station}") {{ version }} }}', api.key())
    mutation = "mutation($value: StationInput!) { publishStation(station: $value) { stationId version } }"
    _, answer = api.post(mutation, {"value": {"stationId": station, "version": 1}}, headers=api.user("root"))
    assert answer["data"] == {"publishStation": None}
    api.publish_station(stationId=station, version=2)
    assert versions(client, 1) == [2]


def test_an_update_that_exceeds_the_quota_is_not_delivered(api: Api, client: Client, station: str) -> None:
    client.subscribe(f'subscription {{ stationChanged(stationId: "{station}") {{ version name }} }}', api.key())
    api.publish_station(stationId=station, version=1, name="x" * 240 * 1024)
    api.publish_station(stationId=station, version=2, name="x" * 239 * 1024)
    assert versions(client, 1) == [2]


def test_an_id_is_used_once_at_a_time(api: Api, client: Client) -> None:
    query = "subscription { stationChanged { version } }"
    assert client.start(query, api.key(), identity="a")[1] == {"type": "start_ack", "id": "a"}
    _, answer = client.start(query, api.key(), identity="a")
    assert answer["payload"]["errors"][0]["errorType"] == "DuplicatedOperationError"
    client.send({"type": "stop", "id": "a"})
    while (received := client.frame())["type"] == "data":
        pass  # other tests publish as well
    assert received == {"type": "complete", "id": "a"}
    assert client.start(query, api.key(), identity="a")[1]["type"] == "start_ack"


def test_the_subscriptions_of_a_connection_are_limited(api: Api, client: Client, station: str) -> None:
    query = f'subscription {{ stationChanged(stationId: "{station}") {{ version }} }}'
    for _ in range(MAX_SUBSCRIPTIONS):
        client.subscribe(query, api.key())
    error = client.refused(query, api.key())
    assert error == {
        "errorType": "MaxSubscriptionsReachedError",
        "message": f"Max number of {MAX_SUBSCRIPTIONS} subscriptions reached",
    }
    api.publish_station(stationId=station)
    assert len({client.update()[0] for _ in range(MAX_SUBSCRIPTIONS)}) == MAX_SUBSCRIPTIONS


def test_a_document_that_does_not_fit_the_schema_is_refused(api: Api, client: Client) -> None:
    error = client.refused("subscription { stationChanged { unknown } }", api.key())
    assert "Cannot query field 'unknown' on type 'Station'" in error["message"]
    error = client.refused("subscription($id: ID!) { stationChanged(stationId: $id) { version } }", api.key())
    assert "Variable '$id' of required type 'ID!' was not provided" in error["message"]
