"""AppSync's resources in CloudFormation, against a real MiniStack."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import WaiterError
from websockets.exceptions import ConnectionClosed

from local_cloud import environment
from local_cloud.tests.appsync.realtime import Client
from local_cloud.tests.appsync.stack import EXPIRES, Api, resource, send, upload

CODE = "export const request = () => ({ payload: %s });\nexport const response = (ctx) => ctx.result;\n"
SCHEMA = "type Query { a: Int }"

Json = Any


class Stack:
    """A stack with a small API, deployed as often as a test likes."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._client = environment.client("cloudformation", endpoint)
        self._name = f"stack-{uuid.uuid4()}"

    def source(self, content: str) -> str:
        return upload(self._endpoint, f"{uuid.uuid4()}", content)

    def template(self, schema: Json, code: Json, field: str = "a", depends_on: str = "Schema") -> str:
        api = {"Fn::GetAtt": ["Api", "ApiId"]}
        resolver = resource(
            "AppSync::Resolver",
            ApiId=api,
            TypeName="Query",
            FieldName=field,
            DataSourceName={"Fn::GetAtt": ["None", "Name"]},
            Runtime={"Name": "APPSYNC_JS", "RuntimeVersion": "1.0.0"},
            **code,
        )
        resources = {
            "Api": resource("AppSync::GraphQLApi", Name=self._name, AuthenticationType="API_KEY"),
            "Schema": resource("AppSync::GraphQLSchema", ApiId=api, **schema),
            "Key": resource("AppSync::ApiKey", ApiId=api, Expires=EXPIRES),
            "None": resource("AppSync::DataSource", ApiId=api, Name="none", Type="NONE"),
            "Resolver": resolver | {"DependsOn": depends_on},
        }
        paths = {"ApiId": "Api.ApiId", "Url": "Api.GraphQLUrl", "RealtimeUrl": "Api.RealtimeUrl", "Key": "Key.ApiKey"}
        outputs = {name: {"Value": {"Fn::GetAtt": path.split(".")}} for name, path in paths.items()}
        return json.dumps({"Resources": resources, "Outputs": outputs})

    def deploy(self, template: str, *, update: bool = False) -> dict[str, str]:
        """Creates or updates the stack, and returns its outputs."""
        change = self._client.update_stack if update else self._client.create_stack
        change(StackName=self._name, TemplateBody=template)
        self._wait("stack_update_complete" if update else "stack_create_complete")
        described = self._client.describe_stacks(StackName=self._name)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}

    def failure(self, template: str) -> str:
        """Returns why the stack cannot be created."""
        self._client.create_stack(StackName=self._name, TemplateBody=template)
        with pytest.raises(WaiterError, match="ROLLBACK"):
            self._wait("stack_create_complete")
        events = self._client.describe_stack_events(StackName=self._name)["StackEvents"]
        failed = [event for event in events if event["ResourceStatus"] == "CREATE_FAILED"]
        return " ".join(event.get("ResourceStatusReason", "") for event in failed)

    def delete(self) -> None:
        self._client.delete_stack(StackName=self._name)
        self._wait("stack_delete_complete")

    def _wait(self, state: str) -> None:
        waiter = self._client.get_waiter(state)
        waiter.wait(StackName=self._name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300})


@pytest.fixture
def stack(endpoint: str) -> Iterator[Stack]:
    stack = Stack(endpoint)
    yield stack
    stack.delete()


def answer(outputs: dict[str, str], query: str) -> Json:
    body = json.dumps({"query": query}).encode()
    status, said = send(outputs["Url"], body, {"content-type": "application/json", "x-api-key": outputs["Key"]})
    assert status == 200
    return said


def test_schema_and_code_come_from_s3_and_change_with_them(stack: Stack) -> None:
    schema = {"DefinitionS3Location": stack.source(SCHEMA)}
    outputs = stack.deploy(stack.template(schema, {"CodeS3Location": stack.source(CODE % 1)}))
    assert answer(outputs, "{ a }") == {"data": {"a": 1}}
    schema = {"DefinitionS3Location": stack.source("type Query { a: Int b: Int }")}
    code = {"CodeS3Location": stack.source(CODE % 2)}
    assert stack.deploy(stack.template(schema, code), update=True) == outputs
    assert answer(outputs, "{ a b }") == {"data": {"a": 2, "b": None}}


def test_schema_and_code_may_be_in_the_template(stack: Stack) -> None:
    outputs = stack.deploy(stack.template({"Definition": SCHEMA}, {"Code": CODE % 3}))
    assert answer(outputs, "{ a }") == {"data": {"a": 3}}


def test_the_urls_work_without_dns(stack: Stack, endpoint: str) -> None:
    outputs = stack.deploy(stack.template({"Definition": SCHEMA}, {"Code": CODE % 1}))
    host, api = endpoint.removeprefix("http://"), outputs["ApiId"]
    urls = {
        "GRAPHQL": f"http://{host}/_aws/appsync-api/{api}/graphql",
        "REALTIME": f"ws://{host}/_aws/appsync-realtime-api/{api}/graphql",
    }
    assert {"GRAPHQL": outputs["Url"], "REALTIME": outputs["RealtimeUrl"]} == urls
    described = environment.client("appsync", endpoint).get_graphql_api(apiId=api)["graphqlApi"]
    assert described["uris"] == urls


@pytest.mark.parametrize(
    ("schema", "code", "field", "depends_on", "says"),
    [
        ("{", CODE % 1, "a", "Schema", "Schema: Schema could not be built: Syntax Error"),
        ("type Query { a: Missing }", CODE % 1, "a", "Schema", "Unknown type: 'Missing'"),
        ("type Query", CODE % 1, "a", "Schema", "Type Query must define one or more fields."),
        (SCHEMA, CODE % 1, "b", "Schema", "Resolver: No field named b found on type Query"),
        (SCHEMA, None, "a", "Schema", "CodeS3Location does not exist: s3://nowhere/code.js"),
    ],
)
def test_what_appsync_refuses_fails_the_deployment(
    stack: Stack, schema: str, code: str | None, field: str, depends_on: str, says: str
) -> None:
    content = {"Code": code} if code else {"CodeS3Location": "s3://nowhere/code.js"}
    assert says in stack.failure(stack.template({"Definition": schema}, content, field, depends_on))


def test_a_resolver_that_does_not_wait_for_the_schema_fails(stack: Stack) -> None:
    template = json.loads(stack.template({"Definition": SCHEMA}, {"Code": CODE % 1}, depends_on="None"))
    template["Resources"]["Schema"]["DependsOn"] = "Resolver"
    assert "Resolver: No schema found for this API." in stack.failure(json.dumps(template))


def test_the_deletion_of_an_api_closes_its_connections(stack: Stack, api: Api) -> None:
    outputs = stack.deploy(stack.template({"Definition": SCHEMA}, {"Code": CODE % 1}))
    headers = {"x-api-key": outputs["Key"]}
    with Client(api, headers, url=outputs["RealtimeUrl"]) as client, Client(api, api.key()) as other:
        assert client.initialise()["type"] == other.initialise()["type"] == "connection_ack"
        stack.delete()
        with pytest.raises(ConnectionClosed):
            client.frame()
        assert other.refused("subscription { unknown }", api.key())
