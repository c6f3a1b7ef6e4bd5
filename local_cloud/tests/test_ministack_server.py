import asyncio
import io
import json
import socket
import ssl
import time
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from local_cloud import cloud, environment, ministack_server
from local_cloud.paths import State


def test_an_address_signs_up_once(real_state: State) -> None:
    cognito = environment.client("cognito-idp", cloud.ensure_running(real_state, 0).endpoint)
    pool = cognito.create_user_pool(PoolName="users", UsernameAttributes=["email"])["UserPool"]["Id"]
    app = cognito.create_user_pool_client(UserPoolId=pool, ClientName="app")["UserPoolClient"]["ClientId"]

    def sign_up(address: str) -> bool:
        try:
            cognito.sign_up(ClientId=app, Username=address, Password="Correct-horse-1")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "UsernameExistsException"
            return False
        return True

    with ThreadPoolExecutor(25) as threads:
        for address in [f"ada-{number}@example.com" for number in range(20)]:
            assert sum(threads.map(sign_up, [address] * 25)) == 1


@pytest.mark.parametrize(
    "error",
    [
        "PreTokenGeneration error: {'errorType': 'ForbiddenError', 'errorMessage': 'the user is blocked'}",
        'PreTokenGeneration error: {"errorType": "ForbiddenError", "errorMessage": "the user is blocked", "a": null}',
    ],
)
def test_a_refused_token_says_why(error: str) -> None:
    assert ministack_server.reason(error) == "the user is blocked"


def test_an_event_whose_function_fails_arrives_at_the_destination_for_failures(real_state: State) -> None:
    endpoint = cloud.ensure_running(real_state, 0).endpoint
    client = {name: environment.client(name, endpoint) for name in ("events", "iam", "lambda", "sqs")}
    queue = client["sqs"].create_queue(QueueName="failures")["QueueUrl"]
    attributes = client["sqs"].get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("index.py", "def handler(event, context): raise RuntimeError(event['detail']['of'])")
    service = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [service]})
    role = client["iam"].create_role(RoleName="failing", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    function = client["lambda"].create_function(
        FunctionName="failing",
        Runtime="python3.11",
        Handler="index.handler",
        Role=role,
        Code={"ZipFile": code.getvalue()},
    )["FunctionArn"]
    client["lambda"].put_function_event_invoke_config(
        FunctionName="failing",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": attributes["QueueArn"]}},
    )
    client["events"].put_rule(Name="rule", EventPattern=json.dumps({"source": ["test"]}))
    client["events"].put_targets(Rule="rule", Targets=[{"Id": "function", "Arn": function}])

    event = {"Source": "test", "DetailType": "test", "Detail": json.dumps({"of": "a test"})}
    client["events"].put_events(Entries=[event])

    deadline = time.monotonic() + 30
    letters: list[dict[str, str]] = []
    while not letters and time.monotonic() < deadline:
        letters = client["sqs"].receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages", [])
    letter = json.loads(letters[0]["Body"])
    assert letter["requestPayload"]["detail"] == {"of": "a test"}
    assert letter["responsePayload"]["errorMessage"] == "a test"


def test_the_first_devices_connect_at_once(real_state: State) -> None:
    running = cloud.ensure_running(real_state, 0)
    with urllib.request.urlopen(f"{running.endpoint}/_ministack/iot/ca.pem", timeout=10) as answer:
        context = ssl.create_default_context(cadata=answer.read().decode())

    def connect(_: int) -> str | None:
        address = ("127.0.0.1", running.mqtt_port)
        with socket.create_connection(address, timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as device:
                return device.version()

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(connect, range(8)))


def test_the_port_of_devices_opens_when_the_certificate_is_made() -> None:
    done: list[str] = []

    async def tls_context() -> None:
        await asyncio.sleep(0)
        done.append("certificate")

    async def listen() -> None:
        done.append("port")

    asyncio.run(ministack_server.when_ready_for_tls(listen, tls_context)())
    assert done == ["certificate", "port"]
