"""An API of AppSync in a real MiniStack, as CloudFormation deploys it, with its users."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local_cloud import environment

FOLDER = Path(__file__).parent / "api"
BUCKET = "appsync-sources"
PASSWORD = "Correct-horse-1"
EXPIRES = 4_000_000_000

Json = Any
FIELDS = {
    "publish.js": ["Mutation.publishSession", "Mutation.publishStation"],
    "query.js": [f"Query.{name}" for name in ("identity", "onlyUsers", "onlyAdmins", "refused", "echo", "wrongTime")]
    + ["Query.filter"],
    "guard.js": ["Subscription.sessionChanged"],
    "filter.js": ["Subscription.filtered", "Subscription.filteredTooEarly", "Subscription.invalidated"],
}


def upload(endpoint: str, name: str, content: str) -> str:
    """Stores a text in S3, and returns its location, as `sam deploy` does with local paths of a template."""
    s3 = environment.client("s3", endpoint)
    where = {"LocationConstraint": environment.REGION}
    if BUCKET not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where)
    s3.put_object(Bucket=BUCKET, Key=name, Body=content.encode())
    return f"s3://{BUCKET}/{name}"


def template(schema: str, code: Mapping[str, str]) -> Json:
    """Returns the template of the API, with the locations of its schema and of each file of code."""
    api = {"Fn::GetAtt": ["Api", "ApiId"]}
    resources: dict[str, Json] = {
        "Pool": resource("Cognito::UserPool", UserPoolName="pool"),
        "Client": resource(
            "Cognito::UserPoolClient",
            UserPoolId={"Ref": "Pool"},
            ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
        ),
        "OtherClient": resource(
            "Cognito::UserPoolClient", UserPoolId={"Ref": "Pool"}, ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"]
        ),
        "Admins": resource("Cognito::UserPoolGroup", UserPoolId={"Ref": "Pool"}, GroupName="ADMIN"),
        "Api": resource(
            "AppSync::GraphQLApi",
            Name="api",
            AuthenticationType="AMAZON_COGNITO_USER_POOLS",
            UserPoolConfig={
                "UserPoolId": {"Ref": "Pool"},
                "AwsRegion": environment.REGION,
                "DefaultAction": "ALLOW",
                "AppIdClientRegex": {"Ref": "Client"},
            },
            AdditionalAuthenticationProviders=[{"AuthenticationType": "API_KEY"}, {"AuthenticationType": "AWS_IAM"}],
        ),
        "Schema": resource("AppSync::GraphQLSchema", ApiId=api, DefinitionS3Location=schema),
        "Key": resource("AppSync::ApiKey", ApiId=api, Expires=EXPIRES),
        "ExpiredKey": resource("AppSync::ApiKey", ApiId=api, Expires=1),
        "None": resource("AppSync::DataSource", ApiId=api, Name="none", Type="NONE"),
    }
    for file, fields in FIELDS.items():
        for type_name, field in (name.split(".") for name in fields):
            resources[f"{type_name}{field}"] = resource(
                "AppSync::Resolver",
                ApiId=api,
                TypeName=type_name,
                FieldName=field,
                DataSourceName="none",
                Runtime={"Name": "APPSYNC_JS", "RuntimeVersion": "1.0.0"},
                CodeS3Location=code[file],
            ) | {"DependsOn": ["Schema", "None"]}
    publish = {"Fn::Sub": "${Api.Arn}/types/Mutation/fields/publish*"}
    hear = {"Fn::Sub": "${Api.Arn}/types/Subscription/fields/sessionChanged"}
    for name, allowed in (("Publisher", publish), ("Listener", hear)):
        statement = {"Effect": "Allow", "Action": "appsync:GraphQL", "Resource": allowed}
        document = {"Version": "2012-10-17", "Statement": [statement]}
        policy = {"PolicyName": "graphql", "PolicyDocument": document}
        resources[name] = resource("IAM::User", Policies=[policy])
    names = {name: {"Ref": name} for name in ("Pool", "Client", "OtherClient", "Publisher", "Listener")}
    attributes = {"ApiId": "Api.ApiId", "Url": "Api.GraphQLUrl", "RealtimeUrl": "Api.RealtimeUrl"}
    attributes |= {"Key": "Key.ApiKey", "ExpiredKey": "ExpiredKey.ApiKey"}
    outputs = names | {name: {"Fn::GetAtt": path.split(".")} for name, path in attributes.items()}
    return {"Resources": resources, "Outputs": {name: {"Value": value} for name, value in outputs.items()}}


def resource(kind: str, **properties: Json) -> dict[str, Json]:
    return {"Type": f"AWS::{kind}", "Properties": properties}


def sources(endpoint: str) -> tuple[str, dict[str, str]]:
    """Uploads schema and code, and returns their locations."""
    schema = upload(endpoint, "schema.graphql", (FOLDER / "schema.graphql").read_text())
    return schema, {name: upload(endpoint, name, (FOLDER / name).read_text()) for name in FIELDS}


@dataclass(frozen=True)
class Api:
    """The deployed API, and who may call it."""

    endpoint: str
    outputs: Mapping[str, str]
    tokens: Mapping[str, Mapping[str, str]]
    subs: Mapping[str, str]
    publisher: Credentials
    listener: Credentials

    @classmethod
    def deployed(cls, endpoint: str, stack: str) -> "Api":
        cloudformation = environment.client("cloudformation", endpoint)
        body = json.dumps(template(*sources(endpoint)))
        cloudformation.create_stack(StackName=stack, TemplateBody=body, Capabilities=["CAPABILITY_IAM"])
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=stack, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300}
        )
        described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in described}
        cognito = environment.client("cognito-idp", endpoint)
        tokens, subs = {}, {}
        for user, groups in (("ada", []), ("bob", []), ("root", ["ADMIN"])):
            created = cognito.admin_create_user(UserPoolId=outputs["Pool"], Username=user)["User"]
            subs[user] = {item["Name"]: item["Value"] for item in created["Attributes"]}["sub"]
            cognito.admin_set_user_password(
                UserPoolId=outputs["Pool"], Username=user, Password=PASSWORD, Permanent=True
            )
            for group in groups:
                cognito.admin_add_user_to_group(UserPoolId=outputs["Pool"], Username=user, GroupName=group)
            tokens[user] = sign_in(cognito, outputs["Client"], user)
        iam = environment.client("iam", endpoint)
        publisher, listener = (_credentials(iam, outputs[name]) for name in ("Publisher", "Listener"))
        return cls(endpoint, outputs, tokens, subs, publisher, listener)

    @property
    def url(self) -> str:
        return self.outputs["Url"]

    @property
    def realtime_url(self) -> str:
        return self.outputs["RealtimeUrl"]

    @property
    def host(self) -> str:
        return self.url.split("/")[2]

    def token(self, user: str) -> str:
        return self.tokens[user]["AccessToken"]

    def key(self) -> dict[str, str]:
        return {"x-api-key": self.outputs["Key"]}

    def user(self, name: str) -> dict[str, str]:
        return {"authorization": self.token(name)}

    def post(self, query: str, variables: Json = None, *, headers: Mapping[str, str]) -> tuple[int, Json]:
        """Returns the status and the answer."""
        body = json.dumps({"query": query, "variables": variables or {}}).encode()
        return send(self.url, body, {"content-type": "application/json"} | dict(headers))

    def signed(self, query: str, variables: Json = None, *, by: Credentials) -> tuple[int, Json]:
        body = json.dumps({"query": query, "variables": variables or {}})
        return send(self.url, body.encode(), sign(self.url, body, by, {"content-type": "application/json"}))

    def publish_session(self, selection: str = "sessionId userId stationId version energyKwh", **session: Json) -> None:
        whole = {"sessionId": "s-1", "userId": "u-1", "stationId": "st-1", "version": 1} | session
        self._publish("Session", selection, whole)

    def publish_station(
        self, selection: str = "stationId version status name powerKw tags", **station: Json
    ) -> None:
        self._publish("Station", selection, {"stationId": "st-1", "version": 1} | station)

    def _publish(self, kind: str, selection: str, value: Json) -> None:
        query = f"mutation($value: {kind}Input!) {{ publish{kind}({kind.lower()}: $value) {{ {selection} }} }}"
        status, answer = self.signed(query, {"value": value}, by=self.publisher)
        assert (status, answer.get("errors")) == (200, None), answer


def sign_in(cognito: Any, client: str, user: str) -> dict[str, str]:
    tokens: dict[str, str] = cognito.initiate_auth(
        ClientId=client,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": user, "PASSWORD": PASSWORD},
    )["AuthenticationResult"]
    return tokens


def sign(url: str, body: str, credentials: Credentials, headers: Mapping[str, str]) -> dict[str, str]:
    request = AWSRequest("POST", url, headers=dict(headers), data=body)
    SigV4Auth(credentials, "appsync", environment.REGION).add_auth(request)
    return dict(request.headers.items())


def send(url: str, body: bytes | None, headers: Mapping[str, str], method: str = "POST") -> tuple[int, Json]:
    request = urllib.request.Request(url, body, dict(headers), method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def _credentials(iam: Any, user: str) -> Credentials:
    key = iam.create_access_key(UserName=user)["AccessKey"]
    return Credentials(key["AccessKeyId"], key["SecretAccessKey"])
