#!/usr/bin/env python3
"""Checks what neither cfn-lint nor the local cloud checks, e.g. permissions and dead-letter queues of every trigger.

The local cloud enforces the roles of the functions, but not Lambda permissions, queue policies and event-source
rights, and it produces no alarm data. Therefore these are checked in the templates themselves, with their loops
expanded. The checks see both stacks as one.
"""

import json
import re
import sys

import appsync
from assemble_template import GRAPHQL, INFRASTRUCTURE, TemplateError, expand, graphql_template, main_template, parts, texts
from links import linked
from resources import actions, branches, functions, listed, of_type, statements, target, text
from wiring import iot_wiring, own_dead_letters, queue_policies, rows_of_a_file

RECONCILER = "DlqReconcilerFunction"
# The dead-letter queue for messages that the reconciler itself failed to process, and for its failed runs.
END_OF_THE_LINE = "ReconcilerDeadLetterQueue"
# What CloudWatch has for free in each account. A second environment in the same account pays for its alarms. Both
# stacks share these.
MOST_ALARMS = 10
MOST_METRICS = 50  # of a dashboard
# Each event source mapping of a queue polls for ever, with up to five pollers.
MOST_POLLED_QUEUES = 4
# The maximum attempts (-1: no limit) and the maximum age of records, s. DynamoDB streams keep records for a day.
AS_LONG_AS_THE_STREAM = (-1, 86400)
AUTHORIZER = "HttpApiAuthorizer"
LONGEST_ACCESS_TOKEN = 15  # minutes: API Gateway takes a token until it expires
# The flows of account_service: the routes for signing in work in each environment.
ALWAYS_ON = ("ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH")
# The flow by which anybody sends passwords to Cognito itself.
OPEN_PASSWORDS = "ALLOW_USER_PASSWORD_AUTH"
ASYNCHRONOUS = {"SQS", "DynamoDB", "Schedule"}
EVENT_SOURCE_RIGHTS = {
    "SQS": {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"},
    "DynamoDB": {"dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:DescribeStream", "dynamodb:ListStreams"},
}
# The longest names that AWS allows, and the properties that have them.
LONGEST_NAMES = {
    "AWS::Serverless::Function": ("FunctionName", 64),
    "AWS::Events::Rule": ("Name", 64),
    "AWS::Events::EventBus": ("Name", 256),
    "AWS::DynamoDB::Table": ("TableName", 255),
    "AWS::S3::Bucket": ("BucketName", 63),
    "AWS::SQS::Queue": ("QueueName", 80),
    "AWS::SES::ConfigurationSet": ("Name", 64),
    "AWS::SNS::Topic": ("TopicName", 256),
    "AWS::CloudWatch::Alarm": ("AlarmName", 255),
    "AWS::CloudWatch::Dashboard": ("DashboardName", 255),
    "AWS::Logs::LogGroup": ("LogGroupName", 512),
    "AWS::ApiGatewayV2::Api": ("Name", 128),
    "AWS::Cognito::UserPool": ("UserPoolName", 128),
    "AWS::Cognito::UserPoolClient": ("ClientName", 128),
    "AWS::Cognito::UserPoolDomain": ("Domain", 63),
    "AWS::Cognito::UserPoolResourceServer": ("Name", 256),
    "AWS::IoT::Policy": ("PolicyName", 128),
    "AWS::IoT::TopicRule": ("RuleName", 128),
    "AWS::IoT::ProvisioningTemplate": ("TemplateName", 36),
}
# The longest values of what names are made of. Environment and CognitoDomain are as long as their patterns allow.
LONGEST_VALUES = {
    "Environment": "e" * 10,
    "CognitoDomain": "d" * 39,
    "AWS::AccountId": "1" * 12,
    "AWS::Region": "ap-southeast-1",
    "Api.ApiId": "a" * 26,
}
# The throttles of routes without a token.
MOST_OPEN_REQUESTS = {"ThrottlingRateLimit": 20, "ThrottlingBurstLimit": 40}
# Applications and machine clients renew their tokens there, all of them within 15 minutes.
MOST_REQUESTS_OF = {"POST /auth/token": {"ThrottlingRateLimit": 100, "ThrottlingBurstLimit": 200}}
# What SAM makes of an event of a function: a mapping, or a rule and a permission.
RESOURCES_OF_AN_EVENT = {"SQS": 1, "DynamoDB": 1, "Schedule": 2}
MANY_RESOURCES = 450
MOST_RESOURCES = 500  # CloudFormation's limit of a stack
MOST_LINES = 600


# Of each alarm: the statistic, the period in seconds, the number M of breaching periods among the last N, the comparison
# with the threshold, and what missing data means. A failure that ends by itself must not raise one, and one that lasts must (docs/adr/0042-ten-alarms.md).
ABOVE, BELOW = "GreaterThanThreshold", "LessThanThreshold"
ALARMS = {
    "http-5xx": ("Sum", 60, 3, 15, ABOVE, 0, "notBreaching"),
    "internal-failures": ("Sum", 60, 3, 15, ABOVE, 0, "notBreaching"),
    "dead-letters": ("Sum", 300, 1, 1, ABOVE, 0, "notBreaching"),
    "quarantine": ("Sum", 300, 1, 1, ABOVE, 0, "notBreaching"),
    "reconciler-dlq-depth": ("Maximum", 60, 1, 1, ABOVE, 0, "notBreaching"),
    "event-relay-age": ("Maximum", 60, 3, 10, ABOVE, 120_000, "notBreaching"),
    "billing-age": ("Maximum", 60, 3, 5, ABOVE, 120, "notBreaching"),
    "telemetry-age": ("Average", 60, 3, 5, ABOVE, {"Fn::If": ["BatchedIngestion", 60, 60_000]}, "notBreaching"),
    "audit-defects": ("Sum", 300, 1, 1, ABOVE, 0, "notBreaching"),
    # No data means that no run has completed.
    "ocm-sync-missing": ("Sum", 86400, 1, 1, BELOW, 1, "breaching"),
}


def main():
    try:
        stacks = {"main": expand(main_template()), "graphql": expand(graphql_template())}
        template, failures = linked(*stacks.values())
    except TemplateError as error:
        sys.exit(f"infrastructure/{error}")
    failures += [*failures_of(template), *appsync.failures_of(template["Resources"], appsync.schema())]
    failures += [*rows_of_a_file(texts()), *lengths([*parts(), GRAPHQL / "root.yaml"])]
    for failure in failures:
        print(f"infrastructure: {failure}", file=sys.stderr)
    counts = {stack: deployed(expanded["Resources"]) for stack, expanded in stacks.items()}
    for stack, count in counts.items():
        if count > MANY_RESOURCES:
            warning = f"{count} resources in the stack {stack}, of {MOST_RESOURCES} that a stack may have"
            print(f"infrastructure: warning: {warning}", file=sys.stderr)
    shown = ", ".join(f"{count} resources in the stack {stack}" for stack, count in counts.items())
    print(f"templates: {shown}, {len(failures)} failures")
    sys.exit(1 if failures else 0)


def failures_of(template):
    """Returns what is wrong with a template whose loops are expanded."""
    resources = template["Resources"]
    checks = (
        triggers, iot_rules, routes, throttles, dead_letters, queues, deliveries, buckets, logs, alarms, dashboards, loops,
    )
    checks += (tables, retained, trusts, indexes, names, names_of_the_account, tokens, pool_triggers, no_users)
    checks += (queue_policies, own_dead_letters, iot_wiring)
    return [failure for check in checks for failure in check(resources)] + list(polled_queues(template))


def deployed(resources):
    """Returns the number of resources of the stack, with those that SAM makes of events."""
    events = [event for function in functions(resources).values() for event in function.get("Events", {}).values()]
    return len(resources) + sum(RESOURCES_OF_AN_EVENT.get(event["Type"], 1) for event in events)


def lengths(paths):
    """No file is too long to be read."""
    for path in paths:
        if (lines := len(path.read_text().splitlines())) > MOST_LINES:
            yield f"{path.relative_to(INFRASTRUCTURE)}: has {lines} lines, more than {MOST_LINES}: divide it"


def triggers(resources):
    """Each asynchronous trigger of a function has the rights it needs, bounded attempts and a dead-letter queue.

    There are 3 to 5 attempts. A stream is retried as long as it keeps its records, because its events exist nowhere
    else.
    """
    for name, function in functions(resources).items():
        for event, trigger in function.get("Events", {}).items():
            kind, properties = trigger["Type"], trigger["Properties"]
            missing = EVENT_SOURCE_RIGHTS.get(kind, set()) - actions(resources, target(function["Role"]))
            if missing:
                yield f"{name}.{event}: its role lacks {sorted(missing)}"
            if kind == "SQS":
                redrive = resources[target(properties["Queue"])]["Properties"].get("RedrivePolicy", {})
                if not 3 <= redrive.get("maxReceiveCount", 0) <= 5:
                    yield f"{name}.{event}: its queue has no dead-letter queue after 3 to 5 receives"
                if "ReportBatchItemFailures" not in properties.get("FunctionResponseTypes", []):
                    yield f"{name}.{event}: failed messages would be deleted"
                if "ReservedConcurrentExecutions" in function and "ScalingConfig" not in properties:
                    yield f"{name}.{event}: would be throttled, and each throttle is a receive"
            elif kind == "DynamoDB":
                if not properties.get("DestinationConfig", {}).get("OnFailure"):
                    yield f"{name}.{event}: no destination for failed batches"
                bounds = (properties.get("MaximumRetryAttempts"), properties.get("MaximumRecordAgeInSeconds"))
                if bounds != AS_LONG_AS_THE_STREAM:
                    yield f"{name}.{event}: is not retried as long as the stream keeps its records"
                if not properties.get("BisectBatchOnFunctionError"):
                    yield f"{name}.{event}: one bad record would fail its whole batch"
                if "ReportBatchItemFailures" not in properties.get("FunctionResponseTypes", []):
                    yield f"{name}.{event}: what was published would be published again"
                if not properties.get("FilterCriteria"):
                    yield f"{name}.{event}: every write would invoke it"
            elif kind == "Schedule":
                if not (properties.get("DeadLetterConfig") and properties.get("RetryPolicy")):
                    yield f"{name}.{event}: no retry policy with a dead-letter queue"
                configs = of_type(resources, "AWS::Lambda::EventInvokeConfig").values()
                if not any(target(c["FunctionName"]) == name and c["DestinationConfig"] for c in configs):
                    yield f"{name}.{event}: no destination for failed invocations"
            if kind not in ASYNCHRONOUS:
                yield f"{name}.{event}: {kind} is not checked here"
    for name, rule in of_type(resources, "AWS::Events::Rule").items():
        for rule_target in rule["Targets"]:
            if not (rule_target.get("DeadLetterConfig") and rule_target.get("RetryPolicy")):
                yield f"{name}: target {rule_target['Id']} has no retry policy with a dead-letter queue"


def consumers(resources, actions):
    """Returns the functions that get the messages of an IoT rule: directly, or from a queue."""
    found = set()
    for action in (action for branch in branches(actions) for action in branch):
        if "Lambda" in action:
            found.add(target(action["Lambda"]["FunctionArn"]))
        if "Sqs" in action:
            queue = target(action["Sqs"]["QueueUrl"])
            for name, function in functions(resources).items():
                triggers = function.get("Events", {}).values()
                if any(t["Type"] == "SQS" and target(t["Properties"]["Queue"]) == queue for t in triggers):
                    found.add(name)
    return found


def iot_rules(resources):
    """Each IoT rule may run its actions, and failures are kept: by its error action, and after an invocation.

    The functions that get its messages are updated before it, whatever the parameters are: in a branch of its actions
    that is not taken, a reference is no dependency.
    """
    permissions = of_type(resources, "AWS::Lambda::Permission").values()
    destinations = {
        target(config["FunctionName"])
        for config in of_type(resources, "AWS::Lambda::EventInvokeConfig").values()
        if config.get("DestinationConfig", {}).get("OnFailure")
    }
    for name, rule in of_type(resources, "AWS::IoT::TopicRule").items():
        payload = rule["TopicRulePayload"]
        kept = payload.get("ErrorAction", {}).get("Sqs")
        if not kept or not target(kept["QueueUrl"]).endswith("DeadLetterQueue"):
            yield f"{name}: its error action is not a dead-letter queue"
        after = listed(resources[name].get("DependsOn", []))
        for consumer in sorted(consumers(resources, payload["Actions"]) - set(after)):
            yield f"{name}: must depend on {consumer}, so that a changed rule meets the code that understands it"
        for action in [action for branch in branches(payload["Actions"]) for action in branch] + [payload["ErrorAction"]]:
            if "Sqs" in action and "sqs:SendMessage" not in actions(resources, target(action["Sqs"]["RoleArn"])):
                yield f"{name}: its role may not send"
            if "Lambda" in action:
                function = target(action["Lambda"]["FunctionArn"])
                if function not in destinations:
                    yield f"{name}: no destination for failed invocations of {function}"
                allowed = (p for p in permissions if p["Principal"] == "iot.amazonaws.com" and "SourceArn" in p)
                if not any(target(permission["FunctionName"]) == function for permission in allowed):
                    yield f"{name}: IoT Core may not invoke {function}"


def routes(resources):
    """Each route leads to a function that API Gateway may invoke, and needs a token with one scope, or no token at all.

    The actions of the functions say which routes are open: a test compares them with the template.
    """
    integrations = of_type(resources, "AWS::ApiGatewayV2::Integration")
    permitted = {
        target(permission["FunctionName"])
        for permission in of_type(resources, "AWS::Lambda::Permission").values()
        if permission["Principal"] == "apigateway.amazonaws.com" and "SourceArn" in permission
    }
    declared = set(scopes(resources))
    for name, route in of_type(resources, "AWS::ApiGatewayV2::Route").items():
        integration = re.search(r"(\w+Integration)", json.dumps(route["Target"]))[1]
        function = target(integrations[integration]["IntegrationUri"])
        if function not in permitted:
            yield f"{name}: API Gateway may not invoke {function}"
        kind = route.get("AuthorizationType")
        required = [text(scope) for scope in route.get("AuthorizationScopes", [])]
        if kind not in ("JWT", "NONE"):
            yield f"{name}: has the AuthorizationType {kind}, but must have JWT or NONE"
        if kind == "JWT" and (len(required) != 1 or not declared.issuperset(required)):
            yield f"{name}: requires {required}, but must require one scope of the resource server"
        if kind == "JWT" and target(route.get("AuthorizerId")) != AUTHORIZER:
            yield f"{name}: its tokens are not checked by {AUTHORIZER}"
        if kind == "NONE" and (required or "AuthorizerId" in route):
            yield f"{name}: needs no token, but names an authorizer or scopes"


def scopes(resources):
    """Returns the scopes that the resource servers declare, as a token has them."""
    return [
        f"{server['Identifier']}/{scope['ScopeName']}"
        for server in of_type(resources, "AWS::Cognito::UserPoolResourceServer").values()
        for scope in server["Scopes"]
    ]


def tokens(resources):
    """Access tokens live for at most 15 minutes, can be revoked, and have only scopes that the pool's trigger adds.

    If an app client allowed a scope of the API, Cognito would give it to each user whose application asks for it.
    """
    for name, client in of_type(resources, "AWS::Cognito::UserPoolClient").items():
        life = client.get("AccessTokenValidity", 60), client.get("TokenValidityUnits", {}).get("AccessToken", "hours")
        if life[1] != "minutes" or life[0] > LONGEST_ACCESS_TOKEN:
            yield f"{name}: access tokens live for {life[0]} {life[1]}, longer than {LONGEST_ACCESS_TOKEN} minutes"
        if client.get("EnableTokenRevocation") is not True:
            yield f"{name}: its refresh tokens cannot be revoked"
        for flow in ALWAYS_ON:
            if flow not in client.get("ExplicitAuthFlows", []):
                yield f"{name}: {flow} must be on in each environment"
        if OPEN_PASSWORDS in client.get("ExplicitAuthFlows", []):
            yield f"{name}: {OPEN_PASSWORDS} must depend on PasswordSignIn"
        allowed = json.dumps(client.get("AllowedOAuthScopes", []))
        if given := [scope for scope in scopes(resources) if f'"{scope}"' in allowed]:
            yield f"{name}: gives {', '.join(given)} to whoever asks"


def pool_triggers(resources):
    """Each trigger of a user pool may be invoked by this pool alone, and the one for tokens can add scopes."""
    permissions = of_type(resources, "AWS::Lambda::Permission").values()
    for name, pool in of_type(resources, "AWS::Cognito::UserPool").items():
        triggers = pool.get("LambdaConfig", {})
        tokens = triggers.get("PreTokenGenerationConfig", {})
        if tokens.get("LambdaVersion") != "V2_0" or pool.get("UserPoolTier") not in ("ESSENTIALS", "PLUS"):
            yield f"{name}: has no trigger that can add scopes: it needs the version V2_0 and the plan ESSENTIALS"
        for trigger in triggers.values():
            function = target(trigger.get("LambdaArn", trigger))
            sources = [
                target(permission.get("SourceArn"))
                for permission in permissions
                if permission["Principal"] == "cognito-idp.amazonaws.com" and target(permission["FunctionName"]) == function
            ]
            if sources != [name]:
                yield f"{name}: {function} must be invocable by this pool alone"


def no_users(resources):
    """A new stack has no user: nobody knows a password of one."""
    for name, resource in resources.items():
        if resource["Type"] in ("AWS::Cognito::UserPoolUser", "AWS::Cognito::UserPoolUserToGroupAttachment"):
            yield f"{name}: a template must not create users"


def throttles(resources):
    """Each route without a token has its own small throttle, on a stage that is created after the route."""
    open_routes = {
        name: route["RouteKey"]
        for name, route in of_type(resources, "AWS::ApiGatewayV2::Route").items()
        if route.get("AuthorizationType", "NONE") == "NONE"
    }
    for stage in of_type(resources, "AWS::ApiGatewayV2::Stage"):
        settings = resources[stage]["Properties"].get("RouteSettings", {})
        after = listed(resources[stage].get("DependsOn", []))
        for name, key in open_routes.items():
            for limit, most in MOST_REQUESTS_OF.get(key, MOST_OPEN_REQUESTS).items():
                value = settings.get(key, {}).get(limit)
                if not isinstance(value, int) or not 0 < value <= most:
                    yield f"{stage}: {key} needs no token, so its {limit} must be a number of at most {most}"
            if name not in after:
                yield f"{stage}: must depend on {name}, because it contains settings for that route"


def dead_letters(resources):
    """dlq_reconciler reads each dead-letter queue on a schedule, and what it cannot process goes to the last queue.

    For this dlq_reconciler is told of the queue, and has a right to it. A letter in process stays invisible for longer
    than a run lasts. The last queue has an alarm on its depth, because no function reads it.
    """
    reconciler = resources[RECONCILER]["Properties"]
    kinds = {event["Type"] for event in reconciler["Events"].values()}
    if kinds != {"Schedule"}:
        yield f"{RECONCILER}: runs by {sorted(kinds)}, but must run on a schedule alone: mappings poll for ever"
    for name, event in reconciler["Events"].items():
        if seconds_of(event["Properties"]["Schedule"]) <= reconciler["Timeout"]:
            yield f"{RECONCILER}.{name}: a run may still be in progress when the next begins"
    for name, config in of_type(resources, "AWS::Lambda::EventInvokeConfig").items():
        if target(config["FunctionName"]) == RECONCILER and config["MaximumRetryAttempts"] != 0:
            yield f"{name}: repeats a failed run, beside the next one"
    told = json.dumps(reconciler["Environment"]["Variables"]["DEAD_LETTER_QUEUES"]["Fn::Sub"])
    yield from passed_on(resources, told)
    permitted = {
        target(resource)
        for statement in statements(resources, target(reconciler["Role"]))
        if "sqs:ReceiveMessage" in statement["Action"] and "sqs:DeleteMessage" in statement["Action"]
        for resource in statement["Resource"]
    }
    letters = {
        name: queue for name, queue in of_type(resources, "AWS::SQS::Queue").items() if name.endswith("DeadLetterQueue")
    }
    del letters[END_OF_THE_LINE]
    for name, queue in sorted(letters.items()):
        if f"${{{name}.Arn}}" not in told:
            yield f"{name}: DEAD_LETTER_QUEUES of {RECONCILER} does not have it"
        if name not in permitted:
            yield f"{name}: {RECONCILER} may not receive and delete its messages"
        redrive = queue.get("RedrivePolicy", {})
        # SQS counts receives across queues: a dead letter has already been received five times by its consumer.
        if target(redrive.get("deadLetterTargetArn")) != END_OF_THE_LINE or not 8 <= redrive["maxReceiveCount"] <= 10:
            yield f"{name}: its messages do not go to {END_OF_THE_LINE} after 3 to 5 receives by {RECONCILER}"
        if queue["VisibilityTimeout"] <= reconciler["Timeout"]:
            yield f"{name}: its visibility timeout is shorter than a run of {RECONCILER}"
        for event in reconciler["Events"].values():
            if queue["VisibilityTimeout"] >= seconds_of(event["Properties"]["Schedule"]):
                yield f"{name}: a letter that a run of {RECONCILER} gets first is not there for the next one"
    watched = {
        target(dimension["Value"])
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
        if alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
        for dimension in alarm["Dimensions"]
    }
    if END_OF_THE_LINE not in watched:
        yield f"{END_OF_THE_LINE}: no alarm on its depth"


def passed_on(resources, told):
    """Each function to which dlq_reconciler passes messages exists, and dlq_reconciler may invoke it."""
    by_name = {text(function["FunctionName"]): name for name, function in functions(resources).items()}
    invoked = {
        target(resource)
        for statement in statements(resources, target(resources[RECONCILER]["Properties"]["Role"]))
        if "lambda:InvokeFunction" in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }
    wanted = re.findall(r'"function": "([^"]+)"', told.replace('\\"', '"'))
    for function in wanted:
        name = re.sub(r"^\$\{(\w+)\}$", r"\1", by_name.get(function, function))
        if name not in functions(resources):
            yield f"{RECONCILER}: passes messages on to {function}, which is no function"
        elif name not in invoked:
            yield f"{RECONCILER}: passes messages on to {name}, but may not invoke it"
    for name in sorted(invoked - {by_name.get(each, each.strip("${}")) for each in wanted}):
        yield f"{RECONCILER}: may invoke {name}, to which it passes nothing on"


def seconds_of(schedule):
    """Returns the time between two runs of a schedule `rate(5 minutes)`."""
    number, unit = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", schedule).groups()
    return int(number) * {"minute": 60, "hour": 3600, "day": 86400}[unit]


def queues(resources):
    """The policy of a queue allows the rules and schedules that send to it. A function lets its rule invoke it.

    The visibility timeout of a queue is at least six times the timeout of its consumer.
    """
    opened = {
        target(queue)
        for policy in of_type(resources, "AWS::SQS::QueuePolicy").values()
        for queue in policy["Queues"]
    }
    for name, rule in of_type(resources, "AWS::Events::Rule").items():
        for rule_target in rule["Targets"]:
            sent = [rule_target["DeadLetterConfig"]["Arn"]]
            if target(rule_target["Arn"]) in functions(resources):
                yield from invocations(resources, name, target(rule_target["Arn"]))
            else:
                sent.append(rule_target["Arn"])
            for queue in sent:
                if target(queue) not in opened:
                    yield f"{name}: {target(queue)} does not let the rule send"
    for name, function in functions(resources).items():
        for trigger in function.get("Events", {}).values():
            properties = trigger["Properties"]
            if trigger["Type"] == "SQS":
                queue = resources[target(properties["Queue"])]["Properties"]
                if queue["VisibilityTimeout"] < 6 * function["Timeout"]:
                    yield f"{name}: its queue's visibility timeout is below six times its own"
            if trigger["Type"] == "Schedule" and target(properties["DeadLetterConfig"]["Arn"]) not in opened:
                yield f"{name}: its schedule may not send to its dead-letter queue"


def invocations(resources, rule, function):
    """A rule may invoke a function, and an invocation that fails for good goes to a dead-letter queue."""
    permissions = of_type(resources, "AWS::Lambda::Permission").values()
    if not any(
        permission["Principal"] == "events.amazonaws.com"
        and target(permission["FunctionName"]) == function
        and target(permission.get("SourceArn")) == rule
        for permission in permissions
    ):
        yield f"{rule}: may not invoke {function}"
    configs = of_type(resources, "AWS::Lambda::EventInvokeConfig").values()
    if not any(target(config["FunctionName"]) == function and config.get("DestinationConfig") for config in configs):
        yield f"{rule}: no destination for failed invocations of {function}"


def deliveries(resources):
    """Each queue that a rule fills gets chosen events and has one reader."""
    filled = of_type(resources, "AWS::SQS::Queue")
    for name, rule in of_type(resources, "AWS::Events::Rule").items():
        for queue in filled.keys() & {target(rule_target["Arn"]) for rule_target in rule["Targets"]}:
            pattern = rule.get("EventPattern", {})
            if not (pattern.get("source") and pattern.get("detail-type")):
                yield f"{name}: takes events of any source or type"
            readers = [
                function["CodeUri"].rstrip("/").rsplit("/", 1)[1]
                for function in functions(resources).values()
                for trigger in function.get("Events", {}).values()
                if trigger["Type"] == "SQS" and target(trigger["Properties"]["Queue"]) == queue
            ]
            if len(readers) != 1:
                yield f"{name}: {queue} is read by {', '.join(readers) or 'nobody'}, not by one function"


def buckets(resources):
    """Each bucket is private, encrypted, versioned and cleaned up, and refuses requests without TLS."""
    tls_only = {
        target(policy["Bucket"])
        for policy in of_type(resources, "AWS::S3::BucketPolicy").values()
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny"
        and statement["Principal"] == "*"
        and statement["Action"] == "s3:*"
        and len(statement["Resource"]) == 2
        and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    }
    for name, bucket in of_type(resources, "AWS::S3::Bucket").items():
        blocks = bucket.get("PublicAccessBlockConfiguration", {})
        if len(blocks) != 4 or not all(blocks.values()):
            yield f"{name}: does not block public access"
        if bucket.get("VersioningConfiguration", {}).get("Status") != "Enabled":
            yield f"{name}: is not versioned"
        if not bucket.get("BucketEncryption"):
            yield f"{name}: specifies no encryption"
        rules = bucket.get("LifecycleConfiguration", {}).get("Rules", [])
        if not any("AbortIncompleteMultipartUpload" in rule for rule in rules):
            yield f"{name}: keeps unfinished uploads forever"
        if not any("NoncurrentVersionExpiration" in rule for rule in rules):
            yield f"{name}: keeps replaced versions forever"
        if name not in tls_only:
            yield f"{name}: accepts requests without TLS"


def logs(resources):
    """Each function has its own log group with a bounded retention, and its own role."""
    roles = [target(function["Role"]) for function in functions(resources).values()]
    if len(set(roles)) != len(roles):
        yield "two functions share a role"
    for name, function in functions(resources).items():
        group = resources[target(function["LoggingConfig"]["LogGroup"])]["Properties"]
        if "RetentionInDays" not in group:
            yield f"{name}: its log is kept forever"


def alarms(resources):
    """There are at most ten alarms, whatever the parameters are. Each is that of ALARMS, and notifies the operators."""
    found = of_type(resources, "AWS::CloudWatch::Alarm")
    if len(found) > MOST_ALARMS:
        yield f"{len(found)} alarms, more than {MOST_ALARMS}: {sorted(found)}"
    for name, alarm in found.items():
        if [target(action) for action in alarm.get("AlarmActions", [])] != ["OperatorsTopic"]:
            yield f"{name}: does not notify the operators"
        periods = alarm.get("EvaluationPeriods")
        settings = (
            alarm.get("Statistic"), alarm.get("Period"), alarm.get("DatapointsToAlarm", periods), periods,
            alarm.get("ComparisonOperator"), alarm.get("Threshold"), alarm.get("TreatMissingData"),
        )
        short = text(alarm["AlarmName"]).removeprefix("ev-").removesuffix("-${Environment}")
        if settings != ALARMS.get(short):
            yield f"{name}: is {settings}, but ALARMS has {ALARMS.get(short)}"
    if len(found) != len(ALARMS):
        yield f"{len(found)} alarms, but ALARMS has {len(ALARMS)}"


def dashboards(resources):
    """The dashboard has a metric of each function and each queue, of no others, and at most 50 metrics."""
    metrics = []
    for dashboard in of_type(resources, "AWS::CloudWatch::Dashboard").values():
        for widget in json.loads(dashboard["DashboardBody"]["Fn::Sub"])["widgets"]:
            metrics.extend(widget["properties"].get("metrics", []))
    if len(metrics) > MOST_METRICS:
        yield f"the dashboard has {len(metrics)} metrics, more than {MOST_METRICS}"
    shown = {value for metric in metrics for value in metric if isinstance(value, str)}
    names = {key: function["FunctionName"] for key, function in functions(resources).items()}
    names |= {key: queue["QueueName"] for key, queue in of_type(resources, "AWS::SQS::Queue").items()}
    for key, name in names.items():
        if text(name) not in shown:
            yield f"{key}: the dashboard has no metric of {text(name)}"
    known = {text(name) for name in names.values()}
    for metric in metrics:
        for dimension, value in zip(metric[2::2], metric[3::2]):
            if dimension in ("FunctionName", "QueueName") and value not in known:
                yield f"the dashboard has a metric of {value}, which does not exist"


def polled_queues(template):
    """At most four queues are polled by event source mappings, with every parameter at its default."""
    polled = [
        f"{name}.{event}"
        for name, function in functions(template["Resources"]).items()
        for event, trigger in function.get("Events", {}).items()
        if trigger["Type"] == "SQS" and is_true(chosen(template, trigger["Properties"].get("Enabled", True)))
    ]
    if len(polled) > MOST_POLLED_QUEUES:
        yield f"{len(polled)} queues are polled, more than {MOST_POLLED_QUEUES}: {sorted(polled)}"


def chosen(template, value):
    """Returns the value of a property, with every parameter at its default."""
    if isinstance(value, dict) and "Fn::If" in value:
        condition, then, otherwise = value["Fn::If"]
        return chosen(template, then if holds(template, template["Conditions"][condition]) else otherwise)
    if isinstance(value, dict) and value.get("Ref") in template["Parameters"]:
        return template["Parameters"][value["Ref"]]["Default"]
    return value


def is_true(value):
    """Returns whether CloudFormation takes a value for true. It does not tell the text "true" from the truth value."""
    return str(value).lower() == "true"


def holds(template, condition):
    """Returns whether a condition holds, with every parameter at its default."""
    (function, arguments), = condition.items()
    if function == "Condition":
        return holds(template, template["Conditions"][arguments])
    if function == "Fn::Equals":
        one, other = (str(chosen(template, argument)) for argument in arguments)
        return one == other
    parts = [holds(template, argument) for argument in arguments]
    return {"Fn::Not": lambda: not parts[0], "Fn::And": lambda: all(parts), "Fn::Or": lambda: any(parts)}[function]()


def loops(resources):
    """A function that may invoke itself sets RecursiveLoop; Lambda stops other recursive loops after 16 rounds."""
    for name, function in functions(resources).items():
        own = function["FunctionName"]["Fn::Sub"]
        invokes_itself = any(
            isinstance(resource, dict) and str(resource.get("Fn::Sub", "")).endswith(f":function:{own}")
            for statement in statements(resources, target(function["Role"]))
            if statement["Action"] == "lambda:InvokeFunction"
            for resource in statement["Resource"]
        )
        if invokes_itself != (function.get("RecursiveLoop") == "Allow"):
            yield f"{name}: {'may invoke' if invokes_itself else 'does not invoke'} itself, but RecursiveLoop says otherwise"


def tables(resources):
    """Each table can be restored to any second, and is protected in prod.

    It is encrypted with the key that DynamoDB owns, which costs nothing: an SSESpecification would take the account's
    AWS managed key, whose use KMS charges. Tables go with their stack, as the users do, but a table that CloudFormation
    replaces remains: docs/adr/0039-rollbacks-and-deletions.md.
    """
    for name, table in of_type(resources, "AWS::DynamoDB::Table").items():
        if "SSESpecification" in table:
            yield f"{name}: has an SSESpecification"
        if table.get("PointInTimeRecoverySpecification") != {"PointInTimeRecoveryEnabled": True}:
            yield f"{name}: has no point-in-time recovery"
        if table.get("DeletionProtectionEnabled") != {"Fn::If": ["IsProtected", True, False]}:
            yield f"{name}: is not protected from deletion in prod"
    for name, pool in of_type(resources, "AWS::Cognito::UserPool").items():
        if pool.get("DeletionProtection") != {"Fn::If": ["IsProtected", "ACTIVE", "INACTIVE"]}:
            yield f"{name}: is not protected from deletion in prod"


def retained(resources):
    """What remains when the stack is deleted does not remain when its first creation is rolled back.

    Otherwise its fixed name would be in the way of the next attempt. Buckets remain, and with them their policies.
    """
    for name, resource in resources.items():
        policies = (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
        remains = resource["Type"] in ("AWS::S3::Bucket", "AWS::S3::BucketPolicy")
        if remains and policies != ("RetainExceptOnCreate", "Retain"):
            yield f"{name}: DeletionPolicy and UpdateReplacePolicy must be RetainExceptOnCreate and Retain"
        if resource["Type"] in ("AWS::DynamoDB::Table", "AWS::Cognito::UserPool") and policies != ("Delete", "Retain"):
            yield f"{name}: DeletionPolicy and UpdateReplacePolicy must be Delete and Retain"
        if policies[0] == "Retain":
            yield f"{name}: would remain after a failed creation: its DeletionPolicy must be RetainExceptOnCreate"


def trusts(resources):
    """IoT Core takes a role for this account alone. Otherwise another account could have it used by its name."""
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        for statement in role["AssumeRolePolicyDocument"]["Statement"]:
            account = statement.get("Condition", {}).get("StringEquals", {}).get("aws:SourceAccount")
            if statement["Principal"] == {"Service": "iot.amazonaws.com"} and account != {"Ref": "AWS::AccountId"}:
                yield f"{name}: its trust policy has no condition on aws:SourceAccount"


def indexes(resources):
    """What a role may do to an index is Query alone: all other actions are for tables."""
    for name in of_type(resources, "AWS::IAM::Role"):
        for statement in statements(resources, name):
            if statement["Action"] != "dynamodb:Query" and "/index/" in json.dumps(statement["Resource"]):
                yield f"{name}: {statement['Sid']} has other actions than dynamodb:Query for an index"


def names(resources):
    """Each name is short enough in each environment, account and region."""
    for kind, (key, longest) in LONGEST_NAMES.items():
        for resource, properties in of_type(resources, kind).items():
            if (length := len(written_out(properties[key]))) > longest:
                yield f"{resource}: a name of {length} characters is possible, {longest} are allowed"


def names_of_the_account(resources):
    """What belongs to the whole account can be there once for each environment and region.

    CloudFormation replaces a budget if an address of its notifications changes, so a budget has no fixed name.
    """
    for name, budget in of_type(resources, "AWS::Budgets::Budget").items():
        if "BudgetName" in budget["Budget"]:
            yield f"{name}: has a BudgetName, so CloudFormation could not replace it"
    for name, dashboard in of_type(resources, "AWS::CloudWatch::Dashboard").items():
        shown = text(dashboard["DashboardName"])
        for part in ("${Environment}", "${AWS::Region}"):
            if part not in shown:
                yield f"{name}: its name {shown} does not contain {part}"


def written_out(name):
    """Returns the longest form of a name, which is a text with parameters or a list of joined parts."""
    if isinstance(name, str):
        return name
    function, argument = next(iter(name.items()))
    if function == "Ref":
        return LONGEST_VALUES[argument]
    if function == "Fn::Sub":
        return re.sub(r"\$\{([^}]+)\}", lambda match: LONGEST_VALUES[match[1]], argument)
    separator, parts = name["Fn::Join"]
    return separator.join(written_out(part) for part in parts)


if __name__ == "__main__":
    main()
