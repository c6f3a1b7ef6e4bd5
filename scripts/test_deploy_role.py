"""Tests of docs/deploy-role.yaml: python -m unittest discover scripts"""

import fnmatch
import json
import re
import unittest
from pathlib import Path

import cfnlint.decode
from assemble_template import expand, graphql_template, main_template, together
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from check_template import LONGEST_VALUES
from resources import listed, of_type

ROLE = Path(__file__).resolve().parent.parent / "docs" / "deploy-role.yaml"
LONGEST = LONGEST_VALUES | {"AWS::Partition": "aws-us-gov", "StackName": "evoke-" + "e" * 10}
# What SAM makes of functions and their events.
MADE_BY_SAM = {
    "AWS::Lambda::Function", "AWS::Lambda::EventSourceMapping", "AWS::Lambda::Permission", "AWS::Events::Rule",
}  # fmt: skip
# The schemas of these types do not name what CloudFormation calls.
WITHOUT_HANDLERS = {
    "AWS::Budgets::Budget": {"budgets:ModifyBudget", "budgets:ViewBudget"},
    "AWS::AppSync::ApiKey": {
        "appsync:CreateApiKey", "appsync:DeleteApiKey", "appsync:ListApiKeys", "appsync:UpdateApiKey",
    },
    "AWS::AppSync::GraphQLSchema": {"appsync:GetSchemaCreationStatus", "appsync:StartSchemaCreation", "s3:GetObject"},
}  # fmt: skip
# What CloudFormation calls only for properties that the template does not have.
NOT_NEEDED = (
    "appsync:putgraphqlapienvironmentvariables",
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


def policies():
    """Returns the policies in the role, and those that are attached to it."""
    template, problems = cfnlint.decode.decode(str(ROLE))
    assert not problems, problems
    inside = template["Resources"]["Role"]["Properties"]["Policies"]
    attached = of_type(template["Resources"], "AWS::IAM::ManagedPolicy").values()
    return [[policy["PolicyDocument"] for policy in each] for each in (inside, attached)]


def statements():
    return [statement for each in policies() for policy in each for statement in policy["Statement"]]


def longest(part):
    """Returns a part of a template with the longest values in its texts, without spaces in its JSON."""
    if isinstance(part, dict) and list(part) == ["Fn::Sub"]:
        return re.sub(r"\$\{([^}]+)\}", lambda match: LONGEST[match[1]], part["Fn::Sub"])
    if isinstance(part, dict):
        return {key: longest(value) for key, value in part.items()}
    return [longest(value) for value in part] if isinstance(part, list) else part


def size(policy):
    return len(json.dumps(longest(policy), separators=(",", ":")))


def needed(kind):
    """Returns what CloudFormation calls to create, read, update and delete a resource of a type."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("eu-central-1", kind).schema
    handlers = [schema.get("handlers", {}).get(name) or {} for name in ("create", "read", "update", "delete")]
    return {action for handler in handlers for action in handler.get("permissions", [])} or WITHOUT_HANDLERS[kind]


class DeployRole(unittest.TestCase):
    def test_the_role_may_deploy_each_type_of_the_templates(self):
        allowed = [action for statement in statements() for action in listed(statement["Action"])]
        both = together(expand(main_template()), expand(graphql_template()))
        types = {resource["Type"] for resource in both["Resources"].values()}
        for kind in sorted({kind for kind in types if not kind.startswith("AWS::Serverless::")} | MADE_BY_SAM):
            missing = {action for action in needed(kind) if not matches(action, (*allowed, *NOT_NEEDED))}
            self.assertEqual(missing, set(), kind)

    def test_the_role_has_no_service_to_itself(self):
        for statement in statements():
            for action in listed(statement["Action"]):
                self.assertNotRegex(action, r"^(\*|[a-z0-9-]+:\*)$")

    def test_only_some_actions_are_for_every_resource(self):
        everywhere = {statement["Sid"] for statement in statements() if statement["Resource"] == "*"}
        self.assertEqual(everywhere, {"Checks", "UsersAndSubscriptions", "Mappings", "GraphqlApis", "AccessLog"})

    def test_the_policies_are_not_too_long(self):
        inside, attached = policies()
        self.assertLessEqual(sum(map(size, inside)), 10240)
        self.assertLessEqual(max(map(size, attached)), 6144)

    def test_the_role_is_for_both_stacks_and_their_roles(self):
        by_sid = {statement["Sid"]: str(statement["Resource"]) for statement in statements()}
        for sid, kind in (("Stack", "stack/"), ("Roles", "role/"), ("RolesOfFunctionsIotAndAppSync", "role/")):
            for stack in ("${StackName}", "evoke-graphql-${Environment}"):
                self.assertRegex(by_sid[sid], re.escape(kind + stack) + "[-/]")


if __name__ == "__main__":
    unittest.main()
