import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_cloud import completion, environment
from local_cloud.messages import Failure

DENY_HTTP = {
    "Effect": "Deny",
    "Principal": "*",
    "Action": "s3:*",
    "Resource": "*",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}
LET_CLOUDFRONT_READ = {
    "Effect": "Allow",
    "Principal": {"Service": "cloudfront.amazonaws.com"},
    "Action": "s3:GetObject",
}
TEMPLATE = {
    "Resources": {
        "Logs": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "TableName": {"Fn::Sub": "ev-logs-${Environment}"},
                "TimeToLiveSpecification": {"AttributeName": "expiresAt", "Enabled": True},
                "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
            },
        },
        "Plain": {"Type": "AWS::DynamoDB::Table"},
        "OnlyInProd": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {"TimeToLiveSpecification": {"AttributeName": "end", "Enabled": True}},
        },
        "Bucket": {"Type": "AWS::S3::Bucket"},
        "BucketPolicy": {"Type": "AWS::S3::BucketPolicy", "Properties": {"Bucket": {"Ref": "Bucket"}}},
    }
}
NAMES = {"Logs": "ev-logs-dev", "Plain": "ev-plain-dev", "Bucket": "ev-bucket"}


class Service:
    """Stands in for a client of boto3: notes the calls, and answers with what it was given."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.calls.append((operation, arguments))
            answer = self.answers.get(operation, {})
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def get_paginator(self, _operation: str) -> "Service":
        return self

    def changes(self) -> list[tuple[str, dict[str, Any]]]:
        return [(operation, arguments) for operation, arguments in self.calls if not operation.startswith("get")]


def bucket(*statements: dict[str, Any]) -> Service:
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    return Service(get_bucket_policy={"Policy": policy})


def test_what_the_template_declares_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = [{"LogicalResourceId": logical, "PhysicalResourceId": name} for logical, name in NAMES.items()]
    outputs = [{"OutputKey": "OcmApiKeyParameterName", "OutputValue": "/evoke/key"}]
    services = {
        "cloudformation": Service(
            get_template={"TemplateBody": TEMPLATE},
            paginate=[{"StackResourceSummaries": resources[:1]}, {"StackResourceSummaries": resources[1:]}],
            describe_stacks={"Stacks": [{"Outputs": outputs}]},
        ),
        "dynamodb": Service(),
        "s3": bucket(DENY_HTTP),
        "ssm": Service(),
    }
    monkeypatch.setattr(environment, "client", lambda service, _endpoint: services[service])
    completion.complete("http://127.0.0.1:1", "evoke")
    time_to_live = {"AttributeName": "expiresAt", "Enabled": True}
    recovery = {"PointInTimeRecoveryEnabled": True}
    assert services["dynamodb"].calls == [
        ("update_time_to_live", {"TableName": "ev-logs-dev", "TimeToLiveSpecification": time_to_live}),
        ("update_continuous_backups", {"TableName": "ev-logs-dev", "PointInTimeRecoverySpecification": recovery}),
    ]
    assert services["s3"].changes() == [("delete_bucket_policy", {"Bucket": "ev-bucket"})]
    key = {"Name": "/evoke/key", "Value": "ocm-test-key", "Type": "SecureString", "Overwrite": True}
    assert services["ssm"].calls == [("put_parameter", key)]


def test_a_template_that_is_given_as_text_is_read() -> None:
    service = Service(get_template={"TemplateBody": json.dumps(TEMPLATE)})
    assert completion.deployed_template(service, "evoke") == TEMPLATE


def test_only_the_statement_that_denies_http_is_removed() -> None:
    s3 = bucket(DENY_HTTP, LET_CLOUDFRONT_READ)
    completion.allow_http(s3, "ev-bucket")
    ((operation, arguments),) = s3.changes()
    assert operation == "put_bucket_policy"
    assert json.loads(arguments["Policy"]) == {"Version": "2012-10-17", "Statement": [LET_CLOUDFRONT_READ]}


def test_a_policy_that_is_gone_already_is_no_failure() -> None:
    error = ClientError({"Error": {"Code": "NoSuchBucketPolicy"}}, "GetBucketPolicy")
    s3 = Service(get_bucket_policy=error)
    completion.allow_http(s3, "ev-bucket")
    assert s3.changes() == []
    with pytest.raises(ClientError):
        completion.allow_http(Service(get_bucket_policy=ClientError({}, "GetBucketPolicy")), "ev-bucket")


def test_a_value_that_only_cloudformation_can_evaluate_is_refused() -> None:
    enabled = {"AttributeName": "expiresAt", "Enabled": {"Fn::If": ["IsProd", True, False]}}
    table = {"Type": "AWS::DynamoDB::Table", "Properties": {"TimeToLiveSpecification": enabled}}
    with pytest.raises(Failure, match=r"Logs\.TimeToLiveSpecification contains Fn::If: .* only set literal values"):
        list(completion.tables({"Resources": {"Logs": table}}))
    policy = {"Type": "AWS::S3::BucketPolicy", "Properties": {"Bucket": {"Fn::Sub": "ev-${Environment}"}}}
    with pytest.raises(Failure, match=r"Policy\.Bucket is .*: the local cloud understands only a Ref"):
        list(completion.buckets_with_policy({"Resources": {"Policy": policy}}))
