"""What the template has that costs while nobody uses it, or refuses to be reckoned."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .metrics import alarm_metrics, dashboards
from .prices import Prices, Usage
from .template import FUNCTION, CostError, Function, Template, is_true

# The number of metrics up to which a dashboard is in the free tier.
SMALL_DASHBOARD = 50
# Alarms with a shorter period, s, are of high resolution.
STANDARD_PERIOD = 60
# Resources that are charged as long as they exist.
STANDING = {
    "AWS::CloudWatch::CompositeAlarm": "alarms_composite",
    "AWS::KMS::Key": "kms_keys",
    "AWS::SecretsManager::Secret": "secrets",
    "AWS::Route53::HostedZone": "hosted_zones",
}
# Resources that this package reckons by their properties.
RECKONED = {
    FUNCTION,
    "AWS::Lambda::EventSourceMapping",
    "AWS::Events::Rule",
    "AWS::Scheduler::Schedule",
    "AWS::Scheduler::ScheduleGroup",
    "AWS::DynamoDB::Table",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
}


@dataclass(frozen=True)
class Schedule:
    """A schedule that starts a function."""

    name: str
    function: Function
    expression: str
    by_scheduler: bool = False


def refusals(template: Template, prices: Prices) -> Iterator[str]:
    """Yields what costs while idle in a way that is not reckoned."""
    for resource in template.resources.values():
        known = resource.type in RECKONED or resource.type in STANDING or prices.is_free_while_idle(resource.type)
        if not known:
            yield f"{resource.name}: the idle cost of {resource.type} is unknown (prices.yaml, free_while_idle)"
        if resource.type == "AWS::DynamoDB::Table" and resource.properties.get("BillingMode") != "PAY_PER_REQUEST":
            yield f"{resource.name}: has provisioned capacity, which costs while idle"
    for function in template.functions.values():
        if "ProvisionedConcurrencyConfig" in function.properties:
            yield f"{function.name}: has provisioned concurrency, which costs while idle"
        for trigger in function.triggers:
            if "ProvisionedPollerConfig" in trigger.properties:
                yield f"{function.name}.{trigger.name}: has provisioned pollers, which cost while idle"


def standing(template: Template) -> Usage:
    """Returns the resources that are charged as long as they exist."""
    usage: Usage = {}
    for resource in template.resources.values():
        if key := STANDING.get(resource.type):
            usage[key] = usage.get(key, 0) + 1
    for alarm in template.of_type("AWS::CloudWatch::Alarm"):
        metrics = len(alarm_metrics(alarm.properties))
        periods = [int(alarm.properties.get("Period", STANDARD_PERIOD))]
        periods += [int(q["MetricStat"]["Period"]) for q in alarm.properties.get("Metrics", []) if "MetricStat" in q]
        key = "alarms" if min(periods) >= STANDARD_PERIOD else "alarms_high_resolution"
        usage[key] = usage.get(key, 0) + metrics
    for metrics_of_dashboard in dashboards(template).values():
        key = "dashboards" if len(metrics_of_dashboard) <= SMALL_DASHBOARD else "dashboards_large"
        usage[key] = usage.get(key, 0) + 1
    return usage


def polled_queues(template: Template) -> list[str]:
    """Returns the enabled mappings that poll a queue, as function.mapping."""
    polled = [
        f"{function.binary}.{trigger.name}"
        for function in template.functions.values()
        for trigger in function.triggers
        if trigger.type == "SQS" and trigger.enabled
    ]
    for mapping in template.of_type("AWS::Lambda::EventSourceMapping"):
        source = str(mapping.properties.get("EventSourceArn", ""))
        enabled = is_true(mapping.properties.get("Enabled", True))
        queue = template.resources.get(source.split(".")[0])
        if enabled and (":sqs:" in source or (queue is not None and queue.type == "AWS::SQS::Queue")):
            function = _function_of(template, mapping.properties["FunctionName"])
            polled.append(f"{function.binary}.{mapping.name}")
    return polled


def schedules(template: Template) -> list[Schedule]:
    """Returns the enabled schedules of the functions."""
    found = [
        Schedule(
            f"{function.binary}.{trigger.name}",
            function,
            _expression(trigger.properties),
            by_scheduler=trigger.type == "ScheduleV2",
        )
        for function in template.functions.values()
        for trigger in function.triggers
        if trigger.type in ("Schedule", "ScheduleV2") and trigger.enabled
    ]
    for rule in template.of_type("AWS::Events::Rule"):
        if "ScheduleExpression" in rule.properties and rule.properties.get("State") != "DISABLED":
            for target in rule.properties["Targets"]:
                function = _function_of(template, target["Arn"])
                found.append(Schedule(f"{function.binary}.{rule.name}", function, _expression(rule.properties)))
    for schedule in template.of_type("AWS::Scheduler::Schedule"):
        if schedule.properties.get("State") != "DISABLED":
            function = _function_of(template, schedule.properties["Target"]["Arn"])
            name = f"{function.binary}.{schedule.name}"
            found.append(Schedule(name, function, _expression(schedule.properties), by_scheduler=True))
    return found


def _expression(properties: dict[str, Any]) -> str:
    return str(properties.get("Schedule") or properties["ScheduleExpression"])


def _function_of(template: Template, reference: Any) -> Function:
    name = str(reference).split(".")[0]
    if name not in template.functions:
        raise CostError(f"{reference} is not a function of the template")
    return template.functions[name]
