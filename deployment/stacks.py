"""The present state of a stack on AWS, and whether a deployment can change it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from botocore.exceptions import ClientError, WaiterError

from deployment import parameters
from deployment.failure import Failure

# The first creation failed, and CloudFormation can only delete the rest of it.
FAILED_CREATIONS = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED")
# The stack has no resources: it has only a change set that nobody has executed, or it was deleted.
NOT_CREATED = ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE")
UPDATABLE = (
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
)


class Step(Enum):
    """What a deployment does to the stack."""

    CREATE = "create"
    UPDATE = "update"
    REPEAT_CREATION = "delete what is left of the failed creation, and create"


@dataclass(frozen=True)
class Resource:
    """A resource of a stack that CloudFormation failed to delete."""

    kind: str
    name: str
    reason: str


@dataclass(frozen=True)
class Stack:
    """A stack on AWS. If the stack does not exist, it has no status."""

    name: str
    status: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    # What could not be deleted, if the status is DELETE_FAILED.
    in_the_way: tuple[Resource, ...] = ()


def find(cloudformation: Any, name: str) -> Stack:
    """Returns the stack of this name, even if it does not exist."""
    try:
        described = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return Stack(name)
        raise
    values = {each["ParameterKey"]: each.get("ParameterValue", "") for each in described.get("Parameters", [])}
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described.get("Outputs", [])}
    status = described["StackStatus"]
    left = not_deleted(cloudformation, name) if status == "DELETE_FAILED" else ()
    return Stack(name, status, values, outputs, left)


def next_step(stack: Stack, environment: str) -> Step:
    """Returns what a deployment does to the stack. Raises a `Failure` if no deployment is possible."""
    status = stack.status
    if status is None or status in NOT_CREATED:
        return Step.CREATE
    deployed = stack.parameters.get(parameters.ENVIRONMENT, environment)
    if deployed != environment:
        raise Failure(
            f"the stack {stack.name} has {parameters.ENVIRONMENT}={deployed}, not {environment}: with another"
            " environment, CloudFormation would replace all tables by empty ones. Deploy with"
            f" ENV={deployed}, or delete the stack first"
        )
    if status in FAILED_CREATIONS:
        return Step.REPEAT_CREATION
    if status in UPDATABLE:
        return Step.UPDATE
    raise Failure(f"the stack {stack.name} is in the state {status}: {advice(stack)}")


def advice(stack: Stack) -> str:
    """Returns what the user can do about a stack to which nothing can be deployed in its present state."""
    status = stack.status or ""
    if status.endswith("_IN_PROGRESS"):
        return f"wait until the change has ended. `{command('describe-stack-events', stack.name)}` shows it"
    if status == "UPDATE_ROLLBACK_FAILED":
        return f"run `{command('continue-update-rollback', stack.name)}`, then repeat"
    if status == "DELETE_FAILED":
        return f"its deletion has begun and must be finished. {finish_deletion(stack.name, stack.in_the_way)}"
    if status == "CREATE_FAILED":
        return f"run `{command('delete-stack', stack.name)}`, then repeat"
    return "only a stack whose last change has ended can be deployed to"


def finish_deletion(name: str, in_the_way: Iterable[Resource]) -> str:
    return f"Run the commands below and `{command('delete-stack', name)}`, then repeat:\n{listed(in_the_way)}"


def command(action: str, name: str) -> str:
    return f"aws cloudformation {action} --stack-name {name}"


def check_buckets(s3: Any, names: Iterable[str]) -> None:
    """Refuses a creation if its buckets exist. Their names are fixed, and they remain when a stack is deleted."""
    if existing := [name for name in names if exists(s3, name)]:
        raise Failure(
            f"{' and '.join(existing)} remained when an earlier stack was deleted, so the new stack cannot create"
            ' them. Save what you need of them and delete them: see "Delete, and deploy again" in docs/operations.md'
        )


def exists(s3: Any, bucket: str) -> bool:
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError:
        return False  # If it exists but may not be read, CloudFormation finds it.
    return True


def not_deleted(cloudformation: Any, name: str) -> tuple[Resource, ...]:
    """Returns the resources that CloudFormation failed to delete."""
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    return tuple(
        Resource(each["ResourceType"], each.get("PhysicalResourceId", ""), each.get("ResourceStatusReason", ""))
        for page in pages
        for each in page["StackResourceSummaries"]
        if each["ResourceStatus"] == "DELETE_FAILED"
    )


def remedy(resource: Resource) -> str:
    """Returns the command after which CloudFormation can delete the resource."""
    name = resource.name
    return {
        "AWS::DynamoDB::Table": f"aws dynamodb update-table --table-name {name} --no-deletion-protection-enabled",
        "AWS::Cognito::UserPool": (
            f"aws cognito-idp update-user-pool --user-pool-id {name} --deletion-protection INACTIVE"
        ),
        # The stack of the GraphQL API has a rule on the bus.
        "AWS::Events::EventBus": command("delete-stack", f"evoke-graphql-{name.removeprefix('ev-bus-')}"),
        # The policy is attached to the certificates of stations, which need the policy of the next stack.
        "AWS::IoT::Policy": (
            f"aws iot list-targets-for-policy --policy-name {name} --query 'targets[]' --output text"
            f" | tr '\\t' '\\n' >> {name}.targets; for target in $(sort -u {name}.targets);"
            f" do aws iot detach-policy --policy-name {name} --target $target; done"
            '  # keep the file: see "Delete, and deploy again" in docs/operations.md'
        ),
    }.get(resource.kind, "")


def listed(resources: Iterable[Resource]) -> str:
    """Returns a line for each resource, followed by the command of `remedy`, if there is one."""
    lines = []
    for each in resources:
        lines.append(f"  {each.kind} {each.name}{': ' if each.reason else ''}{each.reason}")
        if known := remedy(each):
            lines.append(f"    {known}")
    return "\n".join(lines)


def delete_failed_creation(cloudformation: Any, name: str) -> None:
    """Deletes a stack whose first creation failed. Its rollback has already deleted the resources that it could."""
    cloudformation.delete_stack(StackName=name)
    try:
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=name)
    except WaiterError:
        left = not_deleted(cloudformation, name)
        raise Failure(
            f"what is left of the failed creation of {name} cannot be deleted. {finish_deletion(name, left)}"
        ) from None
