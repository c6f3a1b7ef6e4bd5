"""Resolves the names by which one stack refers to a resource of another stack.

AWS accepts an ARN that names nothing. The mistake shows only later, when somebody uses the ARN.
"""

import re

from assemble_template import together
from resources import functions, of_type, text

PREFIX = "arn:${AWS::Partition}:%s:${AWS::Region}:${AWS::AccountId}:"
# ARNs that are made of names of functions, queues and rules. With a *, they name many.
NAMED = re.compile(
    r"arn:\$\{AWS::Partition\}:(lambda|sqs|events):\$\{AWS::Region\}:\$\{AWS::AccountId\}:(function:|rule/)?ev-[^*]+"
)


def linked(*templates):
    """Returns the expanded templates of several stacks as one, and what is wrong with the names in them.

    An ARN that is made of a name of another stack becomes a GetAtt, so that a check can treat both stacks as one.
    """
    known = [names(template["Resources"]) for template in templates]
    failures, changed = [], []
    for number, template in enumerate(templates):
        others = {arn: name for other in known[:number] + known[number + 1 :] for arn, name in other.items()}
        for arn in sorted(set(arns(template["Resources"])) - known[number].keys() - others.keys()):
            failures.append(f"{arn} names nothing that a stack declares")
        changed.append(template | {"Resources": replaced(template["Resources"], others)})
    return together(*changed), failures


def names(resources):
    """Returns the logical ids of functions, queues, buses and rules, by their ARNs."""
    found = {}
    for name, function in functions(resources).items():
        found[PREFIX % "lambda" + f"function:{text(function['FunctionName'])}"] = name
    for name, queue in of_type(resources, "AWS::SQS::Queue").items():
        found[PREFIX % "sqs" + text(queue["QueueName"])] = name
    for name, rule in of_type(resources, "AWS::Events::Rule").items():
        bus = resources.get(rule["EventBusName"].get("Ref"), {}).get("Properties", {}).get("Name", rule["EventBusName"])
        found[PREFIX % "events" + f"rule/{text(bus)}/{text(rule['Name'])}"] = name
    return found


def arns(part):
    """Yields the ARNs that are made of names."""
    if isinstance(part, dict):
        if (arn := made(part)) and NAMED.fullmatch(arn):
            yield arn
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from arns(inner)


def replaced(part, known):
    """Returns a part of a template in which known ARNs are GetAtts."""
    if isinstance(part, list):
        return [replaced(inner, known) for inner in part]
    if not isinstance(part, dict):
        return part
    if name := known.get(made(part)):
        return {"Fn::GetAtt": [name, "Arn"]}
    return {key: replaced(value, known) for key, value in part.items()}


def made(part):
    """Returns the text that a Fn::Sub or a Fn::Join makes, or None for anything else."""
    (function, argument), *others = part.items() or [(None, None)]
    if others or function not in ("Fn::Sub", "Fn::Join") or (function == "Fn::Sub" and not isinstance(argument, str)):
        return None
    return text(part)
