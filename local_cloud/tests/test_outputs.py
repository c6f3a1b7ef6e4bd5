import json
import os
import subprocess
from pathlib import Path

import pytest

from local_cloud import outputs
from local_cloud.cloud import Cloud
from local_cloud.paths import TOOLS, State
from local_cloud.stack import Stack
from local_cloud.tests.conftest import script

CLOUD = Cloud(pid=2, port=4566, mqtt_port=8883, ocm_pid=3, ocm_port=4580)
GRAPHQL = Stack(
    "evoke-graphql-dev",
    {},
    {
        "ApiId": "abc",
        "ApiKey": "da2-key",
        "GraphqlUrl": "http://127.0.0.1:4566/_aws/appsync-api/abc/graphql",
        "RealtimeUrl": "ws://127.0.0.1:4566/_aws/appsync-realtime-api/abc/graphql",
    },
)
SHOW = "import json, os, sys; print(json.dumps({'arguments': sys.argv[1:], 'variables': dict(os.environ)}))"


def test_the_outputs_say_where_the_cloud_answers(tmp_path: Path) -> None:
    main = Stack("evoke", {}, {"HttpApiId": "0a1b2c3d", "HttpApiUrl": "https://aws"})
    content = outputs.compose(State(tmp_path), CLOUD, main, GRAPHQL)
    assert content == {
        "HttpApiId": "0a1b2c3d",
        "HttpApiUrl": "http://0a1b2c3d.execute-api.localhost:4566",
        **GRAPHQL.outputs,
        "GraphqlApiKey": "da2-key",
        "endpoint": "http://127.0.0.1:4566",
        "region": "eu-central-1",
        "stackName": "evoke",
        "graphqlStackName": "evoke-graphql-dev",
        "iotHost": "127.0.0.1",
        "iotPort": "8883",
        "iotCaFile": f"{tmp_path}/iot-ca.pem",
        "ocmUrl": "http://127.0.0.1:4580",
        "urls": {
            "http": "http://127.0.0.1:4566/_aws/execute-api/0a1b2c3d",
            "graphql": "http://127.0.0.1:4566/_aws/appsync-api/abc/graphql",
            "realtime": "ws://127.0.0.1:4566/_aws/appsync-realtime-api/abc/graphql",
        },
    }


def test_the_sign_in_pages_are_those_of_the_cloud_if_there_are_any(tmp_path: Path) -> None:
    pages = {"SignInUrl": "https://pages.auth.eu-central-1.amazoncognito.com"}
    main = Stack("evoke", {}, {"HttpApiId": "0a1b2c3d", **pages})
    assert outputs.compose(State(tmp_path), CLOUD, main, GRAPHQL)["SignInUrl"] == CLOUD.endpoint
    main = Stack("evoke", {}, {"HttpApiId": "0a1b2c3d"})
    assert "SignInUrl" not in outputs.compose(State(tmp_path), CLOUD, main, GRAPHQL)


@pytest.fixture
def folder(tmp_path: Path) -> State:
    """A folder whose name a shell must not split."""
    state = State(tmp_path / "it's a folder")
    state.folder.mkdir()
    outputs.write_env(state, CLOUD)
    return state


def sourced(state: State, command: str, **caller: str) -> str:
    """Returns the output of a command in a shell that has sourced env, twice."""
    done = subprocess.run(
        ["/bin/sh", "-euc", f'. "$ENV_FILE"; . "$ENV_FILE"; {command}'],
        env={"PATH": os.environ["PATH"], "ENV_FILE": str(state.env)} | caller,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_shell_that_has_sourced_env_uses_the_local_cloud(folder: State) -> None:
    caller = {"AWS_PROFILE": "prod", "AWS_REGION": "us-east-1", "AWS_SESSION_TOKEN": "secret", "EVOKE_STACK": "evoke"}
    lines = sourced(folder, "env", **caller).splitlines()
    variables = dict(line.split("=", 1) for line in lines)
    assert {name: value for name, value in variables.items() if name.startswith(("AWS", "EVOKE", "SAM"))} == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAM_CLI_TELEMETRY": "0",
        "EVOKE_OUTPUTS": str(folder.outputs),
    }
    path = variables["PATH"]
    assert path.startswith(f"{folder.tools}:{TOOLS}:")
    assert path.count(str(folder.tools)) == 1


def test_the_aws_cli_gets_the_endpoint_as_an_option(folder: State, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "aws", SHOW)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    # The tools of the project come first; they have no AWS CLI of their own here.
    shown = json.loads(sourced(folder, f'PATH="{folder.tools}:{path}"; aws sqs list-queues --query "a b"'))
    assert shown["arguments"] == ["--endpoint-url=http://127.0.0.1:4566", "sqs", "list-queues", "--query", "a b"]
    assert str(folder.tools) not in shown["variables"]["PATH"]
    shown = json.loads(sourced(folder, f'PATH="{folder.tools}:{path}"; unset AWS_ENDPOINT_URL; aws s3 ls'))
    assert shown["arguments"] == ["s3", "ls"]
