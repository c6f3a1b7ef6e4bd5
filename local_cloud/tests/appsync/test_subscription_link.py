"""The link of AWS for Apollo Client (npm: aws-appsync-subscription-link), against a real MiniStack."""

import json
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.credentials import Credentials

import pytest

from local_cloud import environment
from local_cloud.paths import TOOLS
from local_cloud.tests.appsync.stack import Api

FOLDER = Path(__file__).parent / "subscription_link"
SECONDS = 30
SESSION = "subscription($session: ID) { sessionChanged(sessionId: $session) { sessionId version } }"
STATION = "subscription($station: ID) { stationChanged(stationId: $station) { stationId version } }"

Json = Any


@contextmanager
def events(api: Api, auth: Json, query: str, variables: Json, count: int = 1) -> Iterator[Iterator[Json]]:
    """Runs the client, and yields what it prints. Ends with the client, after so many updates."""
    if not (FOLDER / "node_modules").is_dir():
        pytest.skip("the npm packages are missing: `make test-scripts` installs them if npm's registry can be reached")
    options = {"url": api.url, "region": environment.REGION, "auth": auth, "query": query}
    argument = json.dumps(options | {"variables": variables, "count": count})
    with subprocess.Popen([TOOLS / "node", FOLDER / "client.cjs", argument], stdout=subprocess.PIPE) as process:
        assert process.stdout
        ends = threading.Timer(SECONDS, process.kill)
        ends.start()
        try:
            yield (json.loads(line) for line in process.stdout)
            assert process.wait() == 0
        finally:
            ends.cancel()
            process.kill()


def credentials(of: Credentials) -> Json:
    return {"accessKeyId": of.access_key, "secretAccessKey": of.secret_key}


def test_users_keys_and_signed_callers_hear_updates(api: Api) -> None:
    session = f"s-{uuid.uuid4()}"
    for auth in (
        {"type": "AMAZON_COGNITO_USER_POOLS", "jwtToken": api.token("root")},
        {"type": "AWS_IAM", "credentials": credentials(api.listener)},
    ):
        with events(api, auth, SESSION, {"session": session}, count=2) as told:
            assert next(told) == {"started": True}
            for version in (1, 2):
                api.publish_session(sessionId="another", version=version)
                api.publish_session(sessionId=session, version=version)
                assert next(told) == {"data": {"sessionChanged": {"sessionId": session, "version": version}}}
            assert list(told) == []


def test_an_update_reaches_a_client_with_a_key(api: Api) -> None:
    station = f"st-{uuid.uuid4()}"
    auth = {"type": "API_KEY", "apiKey": api.outputs["Key"]}
    with events(api, auth, STATION, {"station": station}) as told:
        assert next(told) == {"started": True}
        api.publish_station(stationId=station)
        assert list(told) == [{"data": {"stationChanged": {"stationId": station, "version": 1}}}]


def test_a_refusal_reaches_the_client(api: Api) -> None:
    wrong = {"type": "API_KEY", "apiKey": "key"}
    with events(api, wrong, STATION, {}) as told:
        assert list(told) == [{"error": "Connection failed: UnauthorizedException"}]
    user = {"type": "AMAZON_COGNITO_USER_POOLS", "jwtToken": api.token("ada")}
    foreign = "subscription($user: ID) { sessionChanged(userId: $user) { version } }"
    with events(api, user, foreign, {"user": api.subs["bob"]}) as told:
        (refused,) = told
    assert "Only your own sessions." in refused["error"]
    assert "ForbiddenError" in refused["error"]
