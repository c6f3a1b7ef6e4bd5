"""Applies settings of the template that MiniStack's CloudFormation ignores, although MiniStack's API supports them.

The module reads the resources and their settings from the deployed template, and has no list of them.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from local_cloud import environment
from local_cloud.messages import Failure

OCM_API_KEY = "ocm-test-key"
OCM_API_KEY_OUTPUT = "OcmApiKeyParameterName"

Json = Any


def complete(endpoint: str, stack: str) -> None:
    """Applies the ignored settings to a stack that has been deployed to the local cloud, and stores the API key."""
    cloudformation = environment.client("cloudformation", endpoint)
    template = deployed_template(cloudformation, stack)
    names = physical_ids(cloudformation, stack)
    dynamodb = environment.client("dynamodb", endpoint)
    for table, settings in tables(template):
        if table not in names:
            continue  # its condition is false
        if time_to_live := settings.get("TimeToLiveSpecification"):
            dynamodb.update_time_to_live(TableName=names[table], TimeToLiveSpecification=time_to_live)
        if recovery := settings.get("PointInTimeRecoverySpecification"):
            dynamodb.update_continuous_backups(TableName=names[table], PointInTimeRecoverySpecification=recovery)
    s3 = environment.client("s3", endpoint)
    for bucket in buckets_with_policy(template):
        if bucket in names:
            allow_http(s3, names[bucket])
    # CloudFormation cannot create SecureString parameters, so on AWS an operator stores the key.
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    for output in described.get("Outputs", []):
        if output["OutputKey"] == OCM_API_KEY_OUTPUT:
            environment.client("ssm", endpoint).put_parameter(
                Name=output["OutputValue"], Value=OCM_API_KEY, Type="SecureString", Overwrite=True
            )


def deployed_template(cloudformation: Any, stack: str) -> Json:
    """Returns the template after its transforms: with expanded loops, and with the resources that SAM makes."""
    body = cloudformation.get_template(StackName=stack, TemplateStage="Processed")["TemplateBody"]
    return json.loads(body) if isinstance(body, str) else body


def physical_ids(cloudformation: Any, stack: str) -> dict[str, str]:
    """Returns the names of the resources by their logical ids."""
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
    return {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for page in pages
        for resource in page["StackResourceSummaries"]
    }


def resources(template: Json, kind: str) -> Iterator[tuple[str, Json]]:
    """Yields the logical id and the properties of each resource of this type."""
    for name, resource in template["Resources"].items():
        if resource["Type"] == kind:
            yield name, resource.get("Properties", {})


def tables(template: Json) -> Iterator[tuple[str, dict[str, Json]]]:
    """Yields each table with those of its settings that CloudFormation ignores."""
    for name, properties in resources(template, "AWS::DynamoDB::Table"):
        ignored = ("TimeToLiveSpecification", "PointInTimeRecoverySpecification")
        settings = {key: properties[key] for key in ignored if key in properties}
        for key, value in settings.items():
            require_literal(f"{name}.{key}", value)
        yield name, settings


def buckets_with_policy(template: Json) -> Iterator[str]:
    """Yields the logical id of each bucket that has a bucket policy."""
    for name, properties in resources(template, "AWS::S3::BucketPolicy"):
        bucket = properties["Bucket"]
        if not (isinstance(bucket, dict) and list(bucket) == ["Ref"]):
            raise Failure(f"{name}.Bucket is {json.dumps(bucket)}: the local cloud understands only a Ref to a bucket")
        yield bucket["Ref"]


def require_literal(name: str, value: Json) -> None:
    """Refuses values that only CloudFormation can evaluate."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "Ref" or key.startswith("Fn::"):
                raise Failure(f"{name} contains {key}: the local cloud can only set literal values of this property")
            require_literal(name, inner)


def allow_http(s3: Any, bucket: str) -> None:
    """Removes the statements of the bucket's policy that deny HTTP, because the local cloud supports only HTTP."""
    try:
        policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "NoSuchBucketPolicy":
            return  # An earlier deployment was completed, and this one has not changed the policy.
        raise
    statements = [statement for statement in policy["Statement"] if not denies_http(statement)]
    if statements:
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy | {"Statement": statements}))
    else:
        s3.delete_bucket_policy(Bucket=bucket)


def denies_http(statement: Json) -> bool:
    """Returns whether a statement of a policy denies requests without TLS."""
    condition = statement.get("Condition", {}).get("Bool", {})
    secure = [value for key, value in condition.items() if key.lower() == "aws:securetransport"]
    return bool(statement["Effect"] == "Deny" and [str(value).lower() for value in secure] == ["false"])
