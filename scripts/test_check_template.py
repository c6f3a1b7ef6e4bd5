"""Tests of check_template.py and wiring.py: python -m unittest discover scripts"""

import copy
import unittest

from assemble_template import expand, graphql_template, main_template, texts
from check_template import ALARMS, failures_of, polled_queues
from links import linked
from resources import of_type
from wiring import rows_of_a_file

TEMPLATE, UNKNOWN = linked(expand(main_template()), expand(graphql_template()))
ABSENT = object()


def arn(name):
    return {"Fn::GetAtt": [name, "Arn"]}


def changed(path, value):
    """Returns the template in which the value at a path is another, or absent."""
    template = copy.deepcopy(TEMPLATE)
    *way, last = path
    part = template["Resources"]
    for step in way:
        part = part[step]
    if value is ABSENT:
        del part[last]
    else:
        part[last] = value
    return template


def property_of(name, *path):
    return (name, "Properties", *path)


def statement(name, sid):
    """Returns the path of a statement of a role."""
    found = TEMPLATE["Resources"][name]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    index = next(index for index, each in enumerate(found) if each.get("Sid") == sid)
    return property_of(name, "Policies", 0, "PolicyDocument", "Statement", index)


BILLING_POLICY = property_of("BillingQueuePolicy", "PolicyDocument", "Statement", 0)
SCHEDULES_POLICY = property_of("ScheduleDeadLetterQueuesPolicy", "PolicyDocument", "Statement", 0)
SOURCE = "aws:SourceArn"
EVERY_FIVE_MINUTES = property_of("DlqReconcilerFunction", "Events", "EveryFiveMinutes", "Properties")
POIS_STREAM = property_of("EventRelayFunction", "Events", "PoisStream", "Properties")
THROTTLE = property_of("HttpApiStage", "RouteSettings", "GET /health")
OF_TOKENS = property_of("HttpApiStage", "RouteSettings", "POST /auth/token")
OF_MAILS = property_of("HttpApiStage", "RouteSettings", "POST /auth/password/forgot")
PAYLOAD = property_of("TelemetryRule", "TopicRulePayload")
LETTERS = property_of("DlqReconcilerFunction", "Environment", "Variables", "DEAD_LETTER_QUEUES", "Fn::Sub", 0)
BATCHED, DIRECT = (*PAYLOAD, "Actions", "Fn::If", 1), (*PAYLOAD, "Actions", "Fn::If", 2)
RULES = "arn:${AWS::Partition}:iot:${AWS::Region}:${AWS::AccountId}:rule/"
# What is changed, to what, and a part of the failure that must follow.
MUTATIONS = [
    # Queue policies.
    ((*BILLING_POLICY, "Condition", "ArnEquals", SOURCE), arn("NotificationRule"), "does not name the rule that sends"),
    ((*BILLING_POLICY, "Condition"), ABSENT, "does not name the rule that sends to BillingQueue"),
    ((*BILLING_POLICY, "Condition"), {"ArnLike": {SOURCE: "*"}}, "does not name the rule that sends to BillingQueue"),
    ((*BILLING_POLICY, "Resource", 0), arn("NotificationQueue"), "but names other queues"),
    ((*BILLING_POLICY, "Action"), "sqs:*", "must allow sqs:SendMessage alone"),
    ((*BILLING_POLICY, "Principal"), "*", "lets others send than the event bus"),
    (property_of("NotificationQueuePolicy", "Queues", 0), {"Ref": "BillingQueue"}, "BillingQueue: has two policies"),
    (property_of("BillingQueuePolicy", "Queues"), [{"Ref": "BillingQueue"}], "does not let the rule send"),
    (property_of("BillingQueuePolicy", "Queues", 1), {"Ref": "ShardQueue"}, "opens ShardQueue, to which no rule sends"),
    ((*SCHEDULES_POLICY, "Condition", "ArnLike", SOURCE), "*", "does not name the rule that sends to AuditDeadLetter"),
    ((*SCHEDULES_POLICY, "Condition", "ArnLike", SOURCE), arn("BillingRule"), "does not name the rule that sends to"),
    # Roles send to the own dead-letter queue of their function.
    ((*statement("TelemetryHandlerRole", "FailedMessages"), "Resource", 0), arn("RelayDeadLetterQueue"),
     "TelemetryHandlerFunction: its role may not send to TelemetryDeadLetterQueue"),
    ((*statement("TelemetryMonitorRole", "FailedLooks"), "Action"), "sqs:ReceiveMessage", "Function: its role may not"),
    ((*statement("DlqReconcilerRole", "FailedRuns"), "Effect"), "Deny", "DlqReconcilerFunction: its role may not send"),
    # What fails goes to the queue of the same row.
    (property_of("AuditInvokeConfig", "DestinationConfig", "OnFailure", "Destination"), arn("OcmSyncDeadLetterQueue"),
     "AuditInvokeConfig: sends failed invocations to OcmSync"),
    (property_of("BillingQueue", "RedrivePolicy", "deadLetterTargetArn"), arn("NotificationDeadLetterQueue"),
     "BillingQueue: its messages go to Notification"),
    (property_of("BillingRule", "Targets", 0, "DeadLetterConfig", "Arn"), arn("NotificationDeadLetterQueue"),
     "BillingRule: sends to BillingQueue, but what fails to Notification"),
    (property_of("BillingRule", "Targets", 0, "Arn"), arn("NotificationQueue"), "BillingRule: sends to"),
    (property_of("OcmSyncFunction", "Events", "Sweep", "Properties", "DeadLetterConfig", "Arn"),
     arn("AuditDeadLetterQueue"), "OcmSyncFunction.Sweep: sends what fails to Audit"),
    ((*POIS_STREAM, "DestinationConfig", "OnFailure", "Destination"), arn("AuditDeadLetterQueue"),
     "EventRelayFunction: its role may not send to Audit"),
    # The IoT rule.
    (property_of("TelemetryRulePermission", "SourceArn"), {"Fn::Sub": RULES + "*"}, "names this rule"),
    (property_of("TelemetryRulePermission", "SourceArn"), {"Fn::Sub": RULES + "ev_other"}, "names no IoT rule"),
    (property_of("TelemetryRulePermission", "SourceAccount"), ABSENT, "its SourceAccount is not this account"),
    (property_of("TelemetryRule", "RuleName"), {"Fn::Sub": "ev_other_${Environment}"}, "names this rule"),
    ((*statement("TelemetryRuleRole", "HandOver"), "Resource"), [arn("TelemetryDeadLetterQueue")],
     "TelemetryRule: its role TelemetryRuleRole may not send to TelemetryQueue"),
    ((*BATCHED, 0, "Sqs", "RoleArn"), arn("ProvisioningRole"), "its role ProvisioningRole may not send"),
    ((*BATCHED, 0, "Sqs", "QueueUrl"), {"Ref": "BillingQueue"}, "is not the dead-letter queue of BillingQueue"),
    ((*DIRECT, 0, "Lambda", "FunctionArn"), arn("TelemetryMonitorFunction"), "no permission for TelemetryMonitor"),
    ((*PAYLOAD, "ErrorAction", "Sqs", "QueueUrl"), {"Ref": "RelayDeadLetterQueue"}, "Queue is not where"),
    # Runs of dlq_reconciler.
    ((*EVERY_FIVE_MINUTES, "Schedule"), "rate(4 minutes)", "may still be in progress when the next begins"),
    (property_of("DlqReconcilerFunction", "Timeout"), 300, "may still be in progress when the next begins"),
    (property_of("BillingDeadLetterQueue", "VisibilityTimeout"), 280, "its visibility timeout is shorter than a run"),
    (property_of("BillingDeadLetterQueue", "VisibilityTimeout"), 300, "is not there for the next one"),
    (property_of("ReconcilerInvokeConfig", "MaximumRetryAttempts"), 1, "repeats a failed run"),
    # Functions of queues without mappings.
    (LETTERS, '"function": "ev-live-publisher"', "passes messages on to ev-live-publisher, which is no function"),
    ((*statement("DlqReconcilerRole", "PassMessagesOn"), "Resource"), [arn("TelemetryHandlerFunction")],
     "passes messages on to LivePublisherFunction, but may not invoke it"),
    ((*statement("DlqReconcilerRole", "PassMessagesOn"), "Resource", 0), arn("BillingFunction"),
     "may invoke BillingFunction, to which it passes nothing on"),
    # The rule and the function of the other stack.
    (property_of("LivePublisherInvokeConfig", "DestinationConfig", "OnFailure", "Destination"),
     arn("RelayDeadLetterQueue"), "LivePublisherInvokeConfig: sends failed invocations to RelayDeadLetterQueue"),
    (property_of("LivePublisherRule", "Targets", 0, "DeadLetterConfig", "Arn"), arn("RelayDeadLetterQueue"),
     "LivePublisherRule: RelayDeadLetterQueue does not let the rule send"),
    (property_of("LivePublisherRule", "Targets", 0, "RetryPolicy"), ABSENT, "has no retry policy"),
    (property_of("LivePublisherPermission", "SourceArn"), arn("DeletionRule"), "LivePublisherRule: may not invoke"),
    ((*property_of("LivePublisherDeadLetterQueuePolicy", "PolicyDocument", "Statement", 0), "Condition", "ArnEquals", SOURCE),
     arn("DeletionRule"), "its condition does not name the rule that sends to LivePublisherDeadLetterQueue"),
    ((*statement("LivePublisherRole", "FailedUpdates"), "Resource"), [arn("RelayDeadLetterQueue")],
     "LivePublisherFunction: its role may not send to LivePublisherDeadLetterQueue"),
    (property_of("LivePublisherLogGroup", "RetentionInDays"), ABSENT, "LivePublisherFunction: its log is kept forever"),
    # Limits of queues.
    (property_of("TelemetryHandlerFunction", "Events", "Messages", "Properties", "ScalingConfig"), ABSENT,
     "TelemetryHandlerFunction.Messages: would be throttled"),
    # Open routes.
    ((*THROTTLE, "ThrottlingRateLimit"), 1000, "its ThrottlingRateLimit must be a number of at most 20"),
    ((*THROTTLE, "ThrottlingRateLimit"), {"Ref": "ThrottleRate"}, "its ThrottlingRateLimit must be a number"),
    ((*THROTTLE, "ThrottlingBurstLimit"), ABSENT, "its ThrottlingBurstLimit must be a number of at most 40"),
    ((*OF_TOKENS, "ThrottlingRateLimit"), 101, "its ThrottlingRateLimit must be a number of at most 100"),
    ((*OF_TOKENS, "ThrottlingBurstLimit"), 201, "its ThrottlingBurstLimit must be a number of at most 200"),
    ((*OF_MAILS, "ThrottlingRateLimit"), 100, "its ThrottlingRateLimit must be a number of at most 20"),
    (property_of("HttpApiStage", "RouteSettings"), ABSENT, "its ThrottlingRateLimit must be a number"),
    # Signing in.
    (("Admin",), {"Type": "AWS::Cognito::UserPoolUser", "Properties": {}}, "Admin: a template must not create users"),
    (property_of("UserPoolClient", "ExplicitAuthFlows", 1),
     {"Fn::If": ["TakesPasswords", "ALLOW_ADMIN_USER_PASSWORD_AUTH", {"Ref": "AWS::NoValue"}]},
     "ALLOW_ADMIN_USER_PASSWORD_AUTH must be on in each environment"),
    (property_of("UserPoolClient", "ExplicitAuthFlows", 0), "ALLOW_USER_PASSWORD_AUTH",
     "must depend on PasswordSignIn"),
]
# Tables and users.
for TABLE in sorted(of_type(TEMPLATE["Resources"], "AWS::DynamoDB::Table")):
    MUTATIONS += [
        (property_of(TABLE, "PointInTimeRecoverySpecification"), ABSENT, f"{TABLE}: has no point-in-time recovery"),
        (property_of(TABLE, "PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled"), False, "has no"),
        (property_of(TABLE, "DeletionProtectionEnabled"), False, f"{TABLE}: is not protected"),
        ((TABLE, "DeletionPolicy"), ABSENT, f"{TABLE}: DeletionPolicy and UpdateReplacePolicy must be"),
        ((TABLE, "DeletionPolicy"), "Retain", f"{TABLE}: DeletionPolicy and UpdateReplacePolicy must be"),
        ((TABLE, "UpdateReplacePolicy"), "Delete", f"{TABLE}: DeletionPolicy and UpdateReplacePolicy must be"),
    ]
MUTATIONS += [
    (("UserPool", "UpdateReplacePolicy"), ABSENT, "UserPool: DeletionPolicy and UpdateReplacePolicy must be"),
    (property_of("UserPool", "DeletionProtection"), ABSENT, "UserPool: is not protected"),
    (("QuarantineBucketPolicy", "DeletionPolicy"), "Delete", "must be RetainExceptOnCreate and Retain"),
]
# Alarms.
for ALARM in sorted(of_type(TEMPLATE["Resources"], "AWS::CloudWatch::Alarm")):
    MUTATIONS += [
        (property_of(ALARM, setting), value, f"{ALARM}: is (")
        for setting, value in (
            ("Statistic", "SampleCount"), ("Period", 10), ("EvaluationPeriods", 30), ("DatapointsToAlarm", 2),
            ("Threshold", 7), ("ComparisonOperator", "LessThanOrEqualToThreshold"), ("TreatMissingData", "missing"),
            ("TreatMissingData", ABSENT),
        )
    ]
MUTATIONS += [
    (("BillingQueueAgeAlarm",), ABSENT, f"9 alarms, but ALARMS has {len(ALARMS)}"),
    (property_of("BillingQueueAgeAlarm", "AlarmActions"), ABSENT, "does not notify the operators"),
]


class Mutations(unittest.TestCase):
    def test_the_templates_have_no_failure(self):
        self.assertEqual([*UNKNOWN, *failures_of(TEMPLATE)], [])

    def test_each_mutation_is_caught(self):
        for path, value, expected in MUTATIONS:
            with self.subTest(path=path, value="absent" if value is ABSENT else value):
                failures = failures_of(changed(path, value))
                self.assertTrue(any(expected in failure for failure in failures), failures)


class Rows(unittest.TestCase):
    def test_a_dead_letter_queue_in_another_file_is_a_failure(self):
        mappings = "Mappings:\n  {}: {{ A: {} }}\n".format
        letters = "Mappings: { DeadLetterQueues: { A: { Name: a } } }"
        for text in (mappings("Queues", "{ Name: a }"), mappings("Functions", "{ FailedInvocations: [A] }")):
            self.assertEqual(len(list(rows_of_a_file({"a.yaml": text, "b.yaml": letters}))), 1, text)
            both = f"{text}  DeadLetterQueues: {{ A: {{ Name: a }} }}\n"
            self.assertEqual(list(rows_of_a_file({"a.yaml": both})), [])

    def test_each_file_has_the_dead_letter_queues_of_its_rows(self):
        self.assertEqual(list(rows_of_a_file(texts())), [])


class PolledQueues(unittest.TestCase):
    def test_the_text_true_enables_a_mapping_too(self):
        def template(enabled):
            events = {
                f"Event{number}": {"Type": "SQS", "Properties": {"Queue": {"Ref": "Q"}, "Enabled": enabled}}
                for number in range(5)
            }
            function = {"Type": "AWS::Serverless::Function", "Properties": {"Events": events}}
            return {"Parameters": {"Polls": {"Default": "true"}}, "Conditions": {}, "Resources": {"F": function}}

        for enabled in (True, "true", {"Ref": "Polls"}):
            self.assertEqual(len(list(polled_queues(template(enabled)))), 1, enabled)
        for disabled in (False, "false"):
            self.assertEqual(list(polled_queues(template(disabled))), [], disabled)


if __name__ == "__main__":
    unittest.main()
