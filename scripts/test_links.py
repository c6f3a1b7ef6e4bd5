"""Tests of links.py: python -m unittest discover scripts"""

import unittest

from links import linked

HERE = "arn:${AWS::Partition}:%s:${AWS::Region}:${AWS::AccountId}:%s"


def function(name):
    return {"Type": "AWS::Serverless::Function", "Properties": {"FunctionName": {"Fn::Sub": name}}}


def template(**resources):
    return {"Resources": resources}


def using(*arns):
    return {"Type": "T", "Properties": {"Uses": list(arns)}}


MAIN = template(
    BillingFunction=function("ev-billing-${Environment}"),
    Bus={"Type": "AWS::Events::EventBus", "Properties": {"Name": {"Fn::Sub": "ev-bus-${Environment}"}}},
    Queue={"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Fn::Join": ["-", ["ev-live", {"Ref": "Environment"}]]}}},
    Own=using({"Fn::Sub": HERE % ("lambda", "function:ev-billing-${Environment}")}),
)


class Links(unittest.TestCase):
    def used(self, *arns):
        rule = {
            "EventBusName": {"Fn::Sub": "ev-bus-${Environment}"}, "Name": {"Fn::Sub": "ev-rule-${Environment}"}, "Targets": [],
        }  # fmt: skip
        graphql = template(Rule={"Type": "AWS::Events::Rule", "Properties": rule}, Graphql=using(*arns))
        whole, failures = linked(MAIN, graphql)
        return whole["Resources"], failures

    def test_names_of_the_other_stack_become_references(self):
        parts = ["arn", {"Ref": "AWS::Partition"}, "lambda", {"Ref": "AWS::Region"}, {"Ref": "AWS::AccountId"}, "function"]
        billing = {"Fn::Join": [":", [*parts, {"Fn::Join": ["-", ["ev-billing", {"Ref": "Environment"}]]}]]}
        resources, failures = self.used(billing, {"Fn::Sub": HERE % ("sqs", "ev-live-${Environment}")})
        references = [{"Fn::GetAtt": ["BillingFunction", "Arn"]}, {"Fn::GetAtt": ["Queue", "Arn"]}]
        self.assertEqual((resources["Graphql"]["Properties"]["Uses"], failures), (references, []))

    def test_names_of_the_own_stack_stay(self):
        resources, _ = self.used()
        self.assertEqual(resources["Own"], MAIN["Resources"]["Own"])

    def test_a_rule_is_known_with_its_bus(self):
        arn = {"Fn::Sub": HERE % ("events", "rule/ev-bus-${Environment}/ev-rule-${Environment}")}
        _, failures = self.used(arn)
        self.assertEqual(failures, [])
        _, failures = self.used({"Fn::Sub": HERE % ("events", "rule/ev-rule-${Environment}")})
        self.assertEqual(len(failures), 1)

    def test_a_name_that_no_stack_declares_is_a_failure(self):
        for service, name in (("lambda", "function:ev-biling-${Environment}"), ("sqs", "ev-live")):
            arn = HERE % (service, name)
            self.assertEqual(self.used({"Fn::Sub": arn})[1], [f"{arn} names nothing that a stack declares"])

    def test_other_arns_are_nobodys_business(self):
        others = (HERE % ("dynamodb", "table/ev-x"), HERE % ("events", "rule/*"), "arn:aws:sqs:eu-central-1:1:ev-x")
        _, failures = self.used(*({"Fn::Sub": arn} for arn in others), {"Fn::Sub": ["${A}", {"A": "x"}]})
        self.assertEqual(failures, [])


if __name__ == "__main__":
    unittest.main()
