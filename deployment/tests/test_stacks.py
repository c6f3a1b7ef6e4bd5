from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from deployment import stacks
from deployment.failure import Failure
from deployment.stacks import Resource, Stack, Step


class CloudFormation:
    """Stands in for the client of boto3, with one stack."""

    def __init__(self, status: str | None, *, deletable: bool = True) -> None:
        self.status = status
        self.deletable = deletable

    def describe_stacks(self, *, StackName: str) -> Any:
        if self.status is None:
            message = f"Stack with id {StackName} does not exist"
            raise ClientError({"Error": {"Code": "ValidationError", "Message": message}}, "DescribeStacks")
        parameters = [{"ParameterKey": "Environment", "ParameterValue": "prod"}]
        outputs = [{"OutputKey": "UserPoolId", "OutputValue": "eu-west-1_a"}]
        return {"Stacks": [{"StackStatus": self.status, "Parameters": parameters, "Outputs": outputs}]}

    def delete_stack(self, *, StackName: str) -> None:
        self.status = "DELETE_COMPLETE" if self.deletable else "DELETE_FAILED"

    def get_waiter(self, _name: str) -> Any:
        return self

    def wait(self, *, StackName: str) -> None:
        if self.status == "DELETE_FAILED":
            raise WaiterError("StackDeleteComplete", "failed", {})

    def get_paginator(self, _name: str) -> Any:
        return self

    def paginate(self, *, StackName: str) -> Any:
        table = {
            "ResourceType": "AWS::DynamoDB::Table",
            "PhysicalResourceId": "ev-users-prod",
            "ResourceStatus": "DELETE_FAILED",
            "ResourceStatusReason": "Resource cannot be deleted as it is currently protected",
        }
        topic = {"ResourceType": "AWS::SNS::Topic", "ResourceStatus": "DELETE_COMPLETE"}
        return [{"StackResourceSummaries": [topic]}, {"StackResourceSummaries": [table]}]


class S3:
    def __init__(self, *names: str) -> None:
        self.names = names

    def head_bucket(self, *, Bucket: str) -> None:
        if Bucket not in self.names:
            raise ClientError({"Error": {"Code": "404"}}, "HeadBucket")


def step(status: str | None) -> Step:
    return stacks.next_step(stacks.find(CloudFormation(status), "evoke-prod"), "prod")


@pytest.mark.parametrize("status", [None, "REVIEW_IN_PROGRESS", "DELETE_COMPLETE"])
def test_a_stack_that_does_not_exist_is_created(status: str | None) -> None:
    assert step(status) is Step.CREATE


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_a_stack_that_exists_is_updated(status: str) -> None:
    assert step(status) is Step.UPDATE


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED"])
def test_what_is_left_of_a_failed_creation_is_deleted_first(status: str) -> None:
    assert step(status) is Step.REPEAT_CREATION


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("UPDATE_IN_PROGRESS", "wait until the change has ended"),
        ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "wait until the change has ended"),
        ("UPDATE_ROLLBACK_FAILED", "aws cloudformation continue-update-rollback --stack-name evoke-prod"),
        ("CREATE_FAILED", "aws cloudformation delete-stack --stack-name evoke-prod"),
        ("DELETE_FAILED", "(?s)must be finished.*update-table --table-name ev-users-prod --no-deletion-protection"),
        ("IMPORT_ROLLBACK_FAILED", "only a stack whose last change has ended"),
    ],
)
def test_no_other_stack_is_deployed_to(status: str, advice: str) -> None:
    with pytest.raises(Failure, match=advice) as failure:
        step(status)
    assert f"evoke-prod is in the state {status}" in str(failure.value)


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "ROLLBACK_COMPLETE", "UPDATE_IN_PROGRESS"])
def test_the_stack_of_another_environment_is_not_touched(status: str) -> None:
    with pytest.raises(Failure, match=r"has Environment=prod, not dev: .* Deploy with ENV=prod"):
        stacks.next_step(stacks.find(CloudFormation(status), "evoke"), "dev")


def test_an_error_of_aws_is_not_taken_for_a_missing_stack() -> None:
    class Denied(CloudFormation):
        def describe_stacks(self, *, StackName: str) -> Any:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DescribeStacks")

    with pytest.raises(ClientError):
        stacks.find(Denied(None), "evoke")


def test_a_failed_creation_is_deleted() -> None:
    cloudformation = CloudFormation("ROLLBACK_COMPLETE")
    stacks.delete_failed_creation(cloudformation, "evoke-prod")
    assert cloudformation.status == "DELETE_COMPLETE"


def test_what_cannot_be_deleted_is_named_with_its_remedy() -> None:
    with pytest.raises(Failure) as failure:
        stacks.delete_failed_creation(CloudFormation("ROLLBACK_FAILED", deletable=False), "evoke-prod")
    assert str(failure.value).splitlines() == [
        "what is left of the failed creation of evoke-prod cannot be deleted. Run the commands below and"
        " `aws cloudformation delete-stack --stack-name evoke-prod`, then repeat:",
        "  AWS::DynamoDB::Table ev-users-prod: Resource cannot be deleted as it is currently protected",
        "    aws dynamodb update-table --table-name ev-users-prod --no-deletion-protection-enabled",
    ]


def test_the_targets_of_a_policy_are_saved_before_they_are_detached() -> None:
    _, remedy = stacks.listed([Resource("AWS::IoT::Policy", "ev-swap-station-dev", "attached")]).splitlines()
    saved, detached = remedy.index("tr '\\t' '\\n' >> ev-swap-station-dev.targets"), remedy.index("iot detach-policy")
    assert saved < detached


def test_a_bus_is_in_the_way_as_long_as_the_other_stack_has_a_rule_on_it() -> None:
    _, remedy = stacks.listed([Resource("AWS::Events::EventBus", "ev-bus-qa", "has rules")]).splitlines()
    assert remedy.strip() == "aws cloudformation delete-stack --stack-name evoke-graphql-qa"


def test_a_resource_without_a_known_remedy_is_named_too() -> None:
    assert stacks.listed([Resource("AWS::SNS::Topic", "ev-users", "")]) == "  AWS::SNS::Topic ev-users"


def test_a_bucket_that_remained_from_an_earlier_stack_is_in_the_way() -> None:
    stacks.check_buckets(S3(), ["ev-telemetry-dev", "ev-quarantine-dev"])
    with pytest.raises(Failure, match=r"^ev-quarantine-dev remained when an earlier stack was deleted"):
        stacks.check_buckets(S3("ev-quarantine-dev", "another"), ["ev-telemetry-dev", "ev-quarantine-dev"])


def test_a_stack_has_its_parameters_and_outputs() -> None:
    found = stacks.find(CloudFormation("UPDATE_COMPLETE"), "evoke-prod")
    assert (found.parameters, found.outputs) == ({"Environment": "prod"}, {"UserPoolId": "eu-west-1_a"})


def test_a_stack_without_a_status_does_not_exist() -> None:
    assert stacks.find(CloudFormation(None), "evoke") == Stack("evoke")
