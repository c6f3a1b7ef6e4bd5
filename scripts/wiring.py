"""Checks that resources name the resources that they belong to: their own queue, rule or function, and not another."""

from assemble_template import read
from resources import branches, functions, listed, of_type, statements, target, text

SUFFIX = "DeadLetterQueue"
# The schedules of functions become rules whose names CloudFormation chooses.
ANY_RULE = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/*"


def queue_policies(resources):
    """Each queue has at most one policy, which allows its own rules to send to it, and nobody else.

    A second policy for a queue would replace the first. A schedule is a rule with a name that CloudFormation chooses.
    """
    senders = rules_by_queue(resources)
    opened = {}
    for name, policy in of_type(resources, "AWS::SQS::QueuePolicy").items():
        queues = [target(queue) for queue in policy["Queues"]]
        for queue in queues:
            if queue in opened:
                yield f"{queue}: has two policies, {opened[queue]} and {name}"
            opened[queue] = name
            if queue not in senders:
                yield f"{name}: opens {queue}, to which no rule sends"
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Effect"] != "Allow" or statement["Action"] != "sqs:SendMessage":
                yield f"{name}: must allow sqs:SendMessage alone"
            if statement["Principal"] != {"Service": "events.amazonaws.com"}:
                yield f"{name}: lets others send than the event bus"
            if sorted(target(resource) for resource in listed(statement["Resource"])) != sorted(queues):
                yield f"{name}: is the policy of {queues}, but names other queues"
            for queue in queues:
                if statement.get("Condition") not in [condition(rule) for rule in senders.get(queue, [])]:
                    yield f"{name}: its condition does not name the rule that sends to {queue}"


def rules_by_queue(resources):
    """Returns the rules that send to each queue, None for a schedule."""
    found = {}
    for name, rule in of_type(resources, "AWS::Events::Rule").items():
        for rule_target in rule["Targets"]:
            for queue in (rule_target["Arn"], rule_target["DeadLetterConfig"]["Arn"]):
                found.setdefault(target(queue), set()).add(name)
    for function in functions(resources).values():
        for trigger in function.get("Events", {}).values():
            if trigger["Type"] == "Schedule":
                found.setdefault(target(trigger["Properties"]["DeadLetterConfig"]["Arn"]), set()).add(None)
    return found


def condition(rule):
    """Returns the condition of a policy that lets this rule send, or any schedule of the account."""
    if rule is None:
        return {"ArnLike": {"aws:SourceArn": {"Fn::Sub": ANY_RULE}}}
    return {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": [rule, "Arn"]}}}


def own_dead_letters(resources):
    """What fails at a function goes to its own dead-letter queue, whichever way it came, and its role may send there.

    A message comes by the function's queue, an invocation by a schedule or an IoT rule, a batch by a stream.
    """
    queues = of_type(resources, "AWS::SQS::Queue")
    failed = {}
    for name, config in of_type(resources, "AWS::Lambda::EventInvokeConfig").items():
        queue = target(config["DestinationConfig"]["OnFailure"]["Destination"])
        failed[target(config["FunctionName"])] = queue
        if queue != name.removesuffix("InvokeConfig") + SUFFIX:
            yield f"{name}: sends failed invocations to {queue}"
    for name, queue in queues.items():
        if not name.endswith(SUFFIX) and redrive(queue) != name.removesuffix("Queue") + SUFFIX:
            yield f"{name}: its messages go to {redrive(queue)}"
    for name, rule in of_type(resources, "AWS::Events::Rule").items():
        for rule_target in rule["Targets"]:
            receiver, letters = target(rule_target["Arn"]), target(rule_target["DeadLetterConfig"]["Arn"])
            own_letters = redrive(queues[receiver]) if receiver in queues else failed.get(receiver)
            if letters != own_letters:
                yield f"{name}: sends to {receiver}, but what fails to {letters}"
    for name, function in functions(resources).items():
        own = {failed[name]} if name in failed else set()
        for event, trigger in function.get("Events", {}).items():
            kind, properties = trigger["Type"], trigger["Properties"]
            if kind == "DynamoDB":
                own.add(target(properties["DestinationConfig"]["OnFailure"]["Destination"]))
            if kind == "Schedule" and (letters := target(properties["DeadLetterConfig"]["Arn"])) != failed.get(name):
                yield f"{name}.{event}: sends what fails to {letters}, but the function to {failed.get(name)}"
        for queue in sorted(own - sends_to(resources, target(function["Role"]))):
            yield f"{name}: its role may not send to {queue}, where its failed invocations go"


def redrive(queue):
    return target(queue.get("RedrivePolicy", {}).get("deadLetterTargetArn"))


def sends_to(resources, role):
    """Returns the queues to which a role may send."""
    return {
        target(resource)
        for statement in statements(resources, role)
        if statement["Effect"] == "Allow" and "sqs:SendMessage" in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


def iot_wiring(resources):
    """The role of an IoT rule may send to the rule's own queues, and only the rule itself may invoke its function."""
    failed = {
        target(config["FunctionName"]): target(config["DestinationConfig"]["OnFailure"]["Destination"])
        for config in of_type(resources, "AWS::Lambda::EventInvokeConfig").values()
    }
    permissions = of_type(resources, "AWS::Lambda::Permission")
    iot = {name: each for name, each in permissions.items() if each["Principal"] == "iot.amazonaws.com"}
    named = {}
    for name, rule in of_type(resources, "AWS::IoT::TopicRule").items():
        arn = "arn:${AWS::Partition}:iot:${AWS::Region}:${AWS::AccountId}:rule/" + text(rule["RuleName"])
        payload = rule["TopicRulePayload"]
        letters = target(payload["ErrorAction"]["Sqs"]["QueueUrl"])
        for action in [each for branch in branches(payload["Actions"]) for each in branch] + [payload["ErrorAction"]]:
            if "Sqs" in action:
                queue, role = target(action["Sqs"]["QueueUrl"]), target(action["Sqs"]["RoleArn"])
                if queue not in sends_to(resources, role):
                    yield f"{name}: its role {role} may not send to {queue}"
                if queue != letters and redrive(resources[queue]["Properties"]) != letters:
                    yield f"{name}: {letters} is not the dead-letter queue of {queue}"
            if "Lambda" in action:
                function = target(action["Lambda"]["FunctionArn"])
                named[(function, arn)] = name
                if failed.get(function) != letters:
                    yield f"{name}: {letters} is not where failed invocations of {function} go"
                allowed = [each for each in iot.values() if target(each["FunctionName"]) == function]
                if arn not in [text(each.get("SourceArn", "")) for each in allowed]:
                    yield f"{name}: no permission for {function} names this rule"
    for name, permission in iot.items():
        if (target(permission["FunctionName"]), text(permission.get("SourceArn", ""))) not in named:
            yield f"{name}: names no IoT rule that invokes its function"
        if permission.get("SourceAccount") != {"Ref": "AWS::AccountId"}:
            yield f"{name}: its SourceAccount is not this account"


def rows_of_a_file(texts):
    """A queue and a function have their dead-letter queue in the same file, so that a context is on its own."""
    for file, sections in read(texts).items():
        mappings = sections.get("Mappings", {})
        letters = mappings.get("DeadLetterQueues", {})
        for row in mappings.get("Queues", {}):
            if row not in letters:
                yield f"{file}: Queues: {row} has no row in DeadLetterQueues of this file"
        for function, columns in mappings.get("Functions", {}).items():
            for row in columns.get("FailedInvocations", []):
                if row not in letters:
                    yield f"{file}: Functions: {function}: {row} is no row in DeadLetterQueues of this file"
