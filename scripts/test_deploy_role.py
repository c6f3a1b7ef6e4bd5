"""Tests of docs/deploy-role.yaml: python -m unittest discover scripts"""

import fnmatch
import unittest
from pathlib import Path

import cfnlint.decode
from assemble_template import assemble, expand, texts
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from resources import listed

ROLE = Path(__file__).resolve().parent.parent / "docs" / "deploy-role.yaml"
# What SAM makes of functions and their events.
MADE_BY_SAM = {
    "AWS::Lambda::Function", "AWS::Lambda::EventSourceMapping", "AWS::Lambda::Permission", "AWS::Events::Rule",
}  # fmt: skip
# The schema of this type does not name what CloudFormation calls.
WITHOUT_HANDLERS = {"AWS::Budgets::Budget": {"budgets:ModifyBudget", "budgets:ViewBudget"}}
# What CloudFormation calls only for properties that the template does not have.
NOT_NEEDED = (
    "kms:*", "kinesis:*", "firehose:*", "ec2:*", "elasticfilesystem:*", "s3files:*", "s3tables:*", "cloudfront:*",
    "apigateway:*tagresource", "cognito-idp:addcustomattributes",
    # Data of tables, which an import or a replica needs.
    "dynamodb:*item", "dynamodb:query", "dynamodb:scan", "dynamodb:importtable", "dynamodb:*replica",
    "dynamodb:*kinesisstreamingdestination", "dynamodb:updatecontributorinsights", "dynamodb:deleteresourcepolicy",
    "dynamodb:putresourcepolicy",
    "logs:*logstream*", "logs:putlogevents", "s3:getobjectmetadata",
    "ses:*archivingoptions", "ses:*vdmoptions",
    "events:*permission", "sns:putdataprotectionpolicy",
    # Managed policies, permissions boundaries, and policies of users and groups.
    "iam:attachrolepolicy", "iam:detachrolepolicy", "iam:*permissionsboundary", "iam:*userpolicy", "iam:*grouppolicy",
    "lambda:*codesigningconfig", "lambda:getlayerversion", "lambda:passcapacityprovider", "lambda:publishversion",
    "lambda:putfunctionscalingconfig", "lambda:putruntimemanagementconfig",
    "logs:*kmskey", "logs:*dataprotectionpolicy", "logs:*indexpolicy", "logs:deleteresourcepolicy",
    "logs:putbearertokenauthentication", "logs:putloggroupdeletionprotection", "s3:rest.put.object",
    "s3:*metadata*", "s3:*analyticsconfiguration", "s3:*cors", "s3:*metricsconfiguration", "s3:*bucketreplication",
    "s3:*website", "s3:deletebucketencryption", "s3:deletebucketlifecycle", "s3:deleteobject", "s3:putobjectacl",
    "s3:put*accelerateconfiguration", "s3:putbucketabac", "s3:putbucketacl", "s3:putbucketlogging",
    "s3:putbucketnotification", "s3:*objectlockconfiguration", "s3:put*tieringconfiguration",
    "s3:putinventoryconfiguration", "s3:putreplicationconfiguration",
)  # fmt: skip


def matches(action, patterns):
    return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def statements():
    role, problems = cfnlint.decode.decode(str(ROLE))
    assert not problems, problems
    policies = role["Resources"]["Role"]["Properties"]["Policies"]
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def needed(kind):
    """Returns what CloudFormation calls to create, read, update and delete a resource of a type."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("eu-central-1", kind).schema
    handlers = [schema.get("handlers", {}).get(name) or {} for name in ("create", "read", "update", "delete")]
    return {action for handler in handlers for action in handler.get("permissions", [])} or WITHOUT_HANDLERS[kind]


class DeployRole(unittest.TestCase):
    def test_the_role_may_deploy_each_type_of_the_template(self):
        allowed = [action for statement in statements() for action in listed(statement["Action"])]
        types = {resource["Type"] for resource in expand(assemble(texts()))["Resources"].values()}
        for kind in sorted({kind for kind in types if not kind.startswith("AWS::Serverless::")} | MADE_BY_SAM):
            missing = {action for action in needed(kind) if not matches(action, (*allowed, *NOT_NEEDED))}
            self.assertEqual(missing, set(), kind)

    def test_the_role_has_no_service_to_itself(self):
        for statement in statements():
            for action in listed(statement["Action"]):
                self.assertNotRegex(action, r"^(\*|[a-z0-9-]+:\*)$")

    def test_only_some_actions_are_for_every_resource(self):
        everywhere = {statement["Sid"] for statement in statements() if statement["Resource"] == "*"}
        self.assertEqual(everywhere, {"Checks", "UsersAndSubscriptions", "Mappings", "AccessLog"})


if __name__ == "__main__":
    unittest.main()
