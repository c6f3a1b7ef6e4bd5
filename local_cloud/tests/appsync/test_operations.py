"""Queries and mutations by HTTP, against a real MiniStack."""

import json
import urllib.request
from typing import Any

import pytest
from botocore.credentials import Credentials

from local_cloud import environment
from local_cloud.tests.appsync.stack import Api

UNAUTHORIZED = {
    "errors": [{"errorType": "UnauthorizedException", "message": "You are not authorized to make this call."}]
}


def messages(answer: Any) -> list[str]:
    return [error["message"] for error in answer.get("errors", [])]


def test_the_directives_of_the_schema_decide_who_sees_a_field(api: Api) -> None:
    query = "{ onlyUsers onlyAdmins }"
    denied = [f"Not Authorized to access {name} on type Query" for name in ("onlyUsers", "onlyAdmins")]
    _, by_key = api.post(query, headers=api.key())
    assert (by_key["data"], messages(by_key)) == ({"onlyUsers": None, "onlyAdmins": None}, denied)
    _, by_user = api.post(query, headers=api.user("ada"))
    assert (by_user["data"], messages(by_user)) == ({"onlyUsers": "seen", "onlyAdmins": None}, denied[1:])
    _, by_admin = api.post(query, headers=api.user("root"))
    assert by_admin == {"data": {"onlyUsers": "seen", "onlyAdmins": "seen"}}


@pytest.mark.parametrize("headers", [{"x-api-key": "key"}, {"authorization": "ada"}, {}])
def test_a_caller_without_valid_credentials_is_refused(api: Api, headers: dict[str, str]) -> None:
    assert api.post("{ identity }", headers=headers) == (401, UNAUTHORIZED)


def test_a_key_that_has_expired_and_a_forged_token_are_refused(api: Api) -> None:
    assert api.post("{ identity }", headers={"x-api-key": api.outputs["ExpiredKey"]}) == (401, UNAUTHORIZED)
    head, _, signature = api.token("ada").split(".")
    forged = {"authorization": f"{head}.{api.token('root').split('.')[1]}.{signature}"}
    assert api.post("{ identity }", headers=forged) == (401, UNAUTHORIZED)
    # A valid key does not help a token that is not.
    assert api.post("{ identity }", headers=forged | api.key()) == (401, UNAUTHORIZED)


def test_resolvers_know_who_calls(api: Api) -> None:
    assert api.post("{ identity }", headers=api.key()) == (200, {"data": {"identity": None}})
    _, answer = api.post("{ identity }", headers=api.user("root"))
    identity = json.loads(answer["data"]["identity"])
    assert identity["sub"] == identity["claims"]["sub"] == api.subs["root"]
    assert identity["groups"] == ["ADMIN"]
    assert identity["claims"]["token_use"] == "access"
    # IAM lets the publisher query nothing, but the owner of the account everything.
    _, answer = api.signed("{ identity }", by=Credentials("test", "test"))
    identity = json.loads(answer["data"]["identity"])
    assert identity["accountId"] == "000000000000"
    assert identity["userArn"] == "arn:aws:iam::000000000000:root"


def test_iam_decides_on_signed_mutations(api: Api) -> None:
    mutation = 'mutation { publishStation(station: {stationId: "st-1", version: 1}) { version } }'
    assert api.signed(mutation, by=api.publisher) == (200, {"data": {"publishStation": {"version": 1}}})
    status, answer = api.signed(mutation, by=api.listener)
    assert (status, messages(answer)) == (401, ["Permission denied"])
    status, _ = api.signed(mutation, by=Credentials(api.publisher.access_key, "wrong"))
    assert status == 400


def test_a_role_publishes_with_its_temporary_credentials(api: Api) -> None:
    iam, sts = (environment.client(service, api.endpoint) for service in ("iam", "sts"))
    mutations = f"arn:aws:appsync:{environment.REGION}:000000000000:apis/{api.outputs['ApiId']}/types/Mutation/fields"
    trust = {"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "sts:AssumeRole"}
    policy = {"Effect": "Allow", "Action": "appsync:GraphQL", "Resource": f"{mutations}/publishStation"}
    role = iam.create_role(RoleName="live-publisher", AssumeRolePolicyDocument=document(trust))["Role"]["Arn"]
    iam.put_role_policy(RoleName="live-publisher", PolicyName="publish", PolicyDocument=document(policy))
    issued = sts.assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    by = Credentials(issued["AccessKeyId"], issued["SecretAccessKey"], issued["SessionToken"])
    station = 'mutation { publishStation(station: {stationId: "st-1", version: 1}) { version } }'
    assert api.signed(station, by=by) == (200, {"data": {"publishStation": {"version": 1}}})
    session = '{sessionId: "s-1", userId: "u-1", stationId: "st-1", version: 1}'
    status, answer = api.signed(f"mutation {{ publishSession(session: {session}) {{ version }} }}", by=by)
    assert (status, messages(answer)) == (401, ["Permission denied"])
    status, _ = api.signed(station, by=Credentials(by.access_key, by.secret_key))
    assert status == 403


def document(statement: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_an_error_of_a_resolver_has_all_that_the_resolver_gave(api: Api) -> None:
    _, answer = api.post("{ refused }", headers=api.key())
    (error,) = answer["errors"]
    del error["locations"]
    assert error == {
        "path": ["refused"],
        "message": "The port is taken.",
        "errorType": "ConflictError",
        "data": {"port": 1},
        "errorInfo": {"correlationId": "c-1"},
    }


def test_scalars_are_checked_and_resolvers_get_json_parsed(api: Api) -> None:
    query = "query($at: AWSDateTime, $json: AWSJSON) { echo(dateTime: $at, json: $json) { dateTime json jsonType } }"
    variables = {"at": "2026-01-02T03:04:05.678Z", "json": '{"a": 1}'}
    _, answer = api.post(query, variables, headers=api.key())
    assert answer["data"]["echo"] == {"dateTime": variables["at"], "json": '{"a": 1}', "jsonType": "object"}
    _, answer = api.post(query, {"at": "2026-01-02"}, headers=api.key())
    assert "Unable to parse `2026-01-02` as a valid AWSDateTime." in messages(answer)[0]
    _, answer = api.post("{ wrongTime }", headers=api.key())
    assert messages(answer) == ["Can't serialize value: Unable to serialize `yesterday` as a valid AWSDateTime."]


def test_a_query_has_no_subscription_to_filter(api: Api) -> None:
    _, answer = api.post("{ filter }", headers=api.key())
    (message,) = messages(answer)
    assert message.startswith("extensions.setSubscriptionFilter belongs into the response handler")


def test_browsers_may_send_authorization(api: Api) -> None:
    asked = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    request = urllib.request.Request(api.url, headers=asked, method="OPTIONS")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-allow-methods"] == "POST"
        allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "content-type", "x-api-key"} <= set(allowed)
    headers = api.key() | {"content-type": "application/json", "Origin": asked["Origin"]}
    request = urllib.request.Request(api.url, b'{"query": "{ identity }"}', headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["access-control-allow-origin"] == "*"
