"""Tests of appsync.py: python -m unittest discover scripts"""

import copy
import unittest

import appsync
from assemble_template import expand, graphql_template, main_template
from graphql import parse
from links import linked

TEMPLATE, _ = linked(expand(main_template()), expand(graphql_template()))
DOCUMENT = appsync.schema()
ABSENT = object()
INVOKE = ("StationServiceDataSourceRole", "Properties", "Policies", 0, "PolicyDocument", "Statement", 0)
PUBLISH = ("LivePublisherRole", "Properties", "Policies", 0, "PolicyDocument", "Statement", 2, "Resource")
BILLING = {"Fn::GetAtt": ["BillingFunction", "Arn"]}


def api(*path):
    return ("Api", "Properties", *path)


def log(name):
    return api("LogConfig", "Fn::If", 1, name)


# What is changed, to what, and a part of the failure that must follow.
MUTATIONS = [
    # The API.
    (("Api",), ABSENT, "there must be one API, Api"),
    (api("AuthenticationType"), "API_KEY", "must demand a token of the user pool"),
    (api("UserPoolConfig", "DefaultAction"), "DENY", "must demand a token of the user pool"),
    (api("UserPoolConfig", "AppIdClientRegex"), ABSENT, "takes tokens of other app clients"),
    (api("UserPoolConfig", "AppIdClientRegex"), {"Ref": "UserPoolClientId"}, "takes tokens of other app clients"),
    (api("AdditionalAuthenticationProviders", 0), {"AuthenticationType": "AWS_LAMBDA"}, "API keys and signatures"),
    (api("AdditionalAuthenticationProviders"), ABSENT, "API keys and signatures of IAM alone, not []"),
    (api("IntrospectionConfig"), ABSENT, "introspection must be off in prod"),
    (api("IntrospectionConfig"), "ENABLED", "introspection must be off in prod"),
    (api("IntrospectionConfig", "Fn::If", 1), "ENABLED", "introspection must be off in prod"),
    (api("IntrospectionConfig", "Fn::If", 0), "HasGraphqlLogs", "introspection must be off in prod"),
    (api("QueryDepthLimit"), ABSENT, "QueryDepthLimit is None"),
    (api("QueryDepthLimit"), 0, "QueryDepthLimit is 0"),
    (api("QueryDepthLimit"), appsync.depth(DOCUMENT) - 1, "but the deepest request of the schema has"),
    (api("QueryDepthLimit"), 75, "QueryDepthLimit is 75"),
    (api("ResolverCountLimit"), ABSENT, "ResolverCountLimit must be 1 to 50"),
    (api("ResolverCountLimit"), 10000, "ResolverCountLimit must be 1 to 50"),
    (api("XrayEnabled"), True, "must be traced in prod alone"),
    # Its log.
    (api("LogConfig"), ABSENT, "must have a log only with GraphqlLogs"),
    (api("LogConfig", "Fn::If", 0), "IsProd", "must have a log only with GraphqlLogs"),
    (log("FieldLogLevel"), "ALL", "must log errors only"),
    (log("ExcludeVerboseContent"), False, "must log errors only"),
    (log("ExcludeVerboseContent"), ABSENT, "must log errors only"),
    # The key.
    (("ApiKey",), ABSENT, "there must be one API key"),
    (("ApiKey", "Properties", "Expires"), ABSENT, "ApiKey: must expire when ApiKeyExpires says"),
    (("ApiKey", "Properties", "Expires"), 1826000000, "ApiKey: must expire when ApiKeyExpires says"),
    # Fields and their resolvers.
    (("stationQuery",), ABSENT, "Query.station: has no resolver in the template"),
    (("stationQuery", "Properties", "FieldName"), "stattion", "Query.stattion: has a resolver, but schema.graphql"),
    (("stationQuery", "Properties", "FieldName"), "stations", "Query.stations: has several resolvers"),
    (("stationQuery", "Properties", "TypeName"), "Station", "Station.station: has a resolver, but schema.graphql"),
    (("stationQuery", "Properties", "ApiId"), {"Fn::GetAtt": ["Other", "ApiId"]}, "stationQuery: must be of Api"),
    (("stationQuery", "Properties", "Runtime"), ABSENT, "stationQuery: must be of Api, and run by"),
    (("stationQuery", "Properties", "CodeS3Location"), "publish.js", "stationQuery: must have the code resolver.js"),
    (("stationQuery", "Properties", "CodeS3Location"), ABSENT, "stationQuery: must have the code resolver.js"),
    (("stationQuery", "Properties", "Code"), "export …", "stationQuery: has Code, but its code must be a file"),
    (("stationQuery", "Properties", "Kind"), "PIPELINE", "stationQuery: has Kind"),
    (("stationQuery", "Properties", "DataSourceName"), {"Fn::GetAtt": ["NoDataSource", "Name"]}, "of the type NONE"),
    (("sessionChangedSubscription", "Properties", "CodeS3Location"), "publish.js", "the code subscription.js"),
    (("publishSessionMutation", "Properties", "CodeS3Location"), "resolver.js", "the code publish.js"),
    (("publishSessionMutation", "Properties", "DataSourceName"), {"Fn::GetAtt": ["BillingDataSource", "Name"]},
     "publishSessionMutation: must not have a data source of the type AWS_LAMBDA"),
    # Data sources.
    (("StationServiceDataSource", "Properties", "ApiId"), {"Fn::GetAtt": ["Other", "ApiId"]}, "must be of Api"),
    (("StationServiceDataSource", "Properties", "LambdaConfig", "LambdaFunctionArn"), BILLING,
     "its role must allow lambda:InvokeFunction of BillingFunction alone"),
    (("StationServiceDataSource", "Properties", "LambdaConfig", "LambdaFunctionArn"), {"Fn::Sub": "arn:of:nothing"},
     "is no function of a stack"),
    ((*INVOKE, "Resource"), ["*"], "its role must allow lambda:InvokeFunction of StationServiceFunction alone"),
    ((*INVOKE, "Action"), "lambda:*", "its role must allow lambda:InvokeFunction of StationServiceFunction alone"),
    ((*INVOKE, "Effect"), "Deny", "its role must allow lambda:InvokeFunction of StationServiceFunction alone"),
    (("StationServiceDataSourceRole", "Properties", "AssumeRolePolicyDocument", "Statement", 0, "Principal"),
     {"Service": "lambda.amazonaws.com"}, "AppSync cannot use its role"),
    # live_publisher.
    ((*PUBLISH, 0), {"Fn::Sub": "${Api.Arn}/types/Mutation/fields/startSession"},
     "may call ${Api.Arn}/types/Mutation/fields/startSession, which is no publishing mutation"),
    (PUBLISH, [{"Fn::Sub": "${Api.Arn}/*"}], "may not call ${Api.Arn}/types/Mutation/fields/publishWallet"),
    (("LivePublisherFunction", "Properties", "Environment", "Variables", "GRAPHQL_URL"), "https://example.org",
     "GRAPHQL_URL is https://example.org"),
]  # fmt: skip
# DependsOn of each resolver.
MUTATIONS += [
    ((name, "DependsOn"), ABSENT, f"{name}: must depend on Schema")
    for name, resource in TEMPLATE["Resources"].items()
    if resource["Type"] == "AWS::AppSync::Resolver"
]
# What is added to the schema, and a part of the failure that must follow.
ADDITIONS = [
    ("type Query { later: Int }", "Query.later: has no resolver in the template"),
    ("type Mutation { publishLater: Int @aws_iam }", "Mutation.publishLater: nothing subscribes to it"),
    ("type Mutation { publishLater: Int @aws_iam }", "LivePublisherFunction: may not call"),
    ('type Subscription { later: Int @aws_subscribe(mutations: ["login"]) }', "later: must hear publishing mutations"),
    ("type Subscription { later: Int }", "Subscription.later: must hear publishing mutations, not []"),
    ('type Subscription { later: Int @aws_subscribe(mutations: ["publishSession"]) }', "later: has another type"),
    ("type Query { a: A } type A { b: B } type B { c: C } type C { d: D } type D { e: E } type E { f: F }"
     " type F { g: G } type G { h: Int }", "but the deepest request of the schema has 8 levels"),
]  # fmt: skip


def changed(path, value):
    """Returns the resources in which the value at a path is another, or absent."""
    resources = copy.deepcopy(TEMPLATE["Resources"])
    *way, last = path
    part = resources
    for step in way:
        part = part[step]
    if value is ABSENT:
        del part[last]
    else:
        part[last] = value
    return resources


def extended(addition):
    """Returns the schema with the types of another one. The fields of types that it has already are added to these."""
    document, more = copy.deepcopy(DOCUMENT), parse(addition)
    known = {d.name.value: d for d in document.definitions if d.kind == "object_type_definition"}
    for definition in more.definitions:
        if (name := definition.name.value) in known:
            known[name].fields = (*known[name].fields, *definition.fields)
        else:
            document.definitions = (*document.definitions, definition)
    return document


class Mutations(unittest.TestCase):
    def test_the_template_has_no_failure(self):
        self.assertEqual(appsync.failures_of(TEMPLATE["Resources"], DOCUMENT), [])

    def test_each_mutation_of_the_template_is_caught(self):
        for path, value, expected in MUTATIONS:
            with self.subTest(path=path, value="absent" if value is ABSENT else value):
                failures = appsync.failures_of(changed(path, value), DOCUMENT)
                self.assertTrue(any(expected in failure for failure in failures), failures)

    def test_each_addition_to_the_schema_is_caught(self):
        for addition, expected in ADDITIONS:
            with self.subTest(addition=addition):
                failures = appsync.failures_of(TEMPLATE["Resources"], extended(addition))
                self.assertTrue(any(expected in failure for failure in failures), failures)

    def test_a_type_that_contains_itself_has_no_depth(self):
        with self.assertRaisesRegex(ValueError, "A contains itself"):
            appsync.depth(extended("type Query { a: [A!]! } type A { b: B } type B { a: A }"))


if __name__ == "__main__":
    unittest.main()
