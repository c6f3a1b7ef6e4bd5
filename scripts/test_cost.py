"""Tests of the package cost: python -m unittest discover scripts"""

import copy
import json
import re
import tempfile
import unittest
from pathlib import Path

import yaml
from assemble_template import expand, graphql_template, main_template, together
from cost.__main__ import DATA, ROOT, Cost, parse
from cost.idle import idle, metrics_in_use
from cost.inventory import polled_queues, refusals, schedules, standing
from cost.metrics import Series, Sources, dashboards, unknown
from cost.page import Table, fill, idle_table
from cost.prices import Prices, times, total
from cost.schedule import runs_per_month
from cost.template import CostError, Template
from cost.units import figures, stale
from cost.use import Uses, by_group, month

HOURS = 730
PRICES = Prices(yaml.safe_load((DATA / "prices.yaml").read_text()))


def alarm(**properties):
    return {"Type": "AWS::CloudWatch::Alarm", "Properties": {"Namespace": "AWS/SQS", "MetricName": "M"} | properties}


def queue_trigger(queue, **properties):
    return {"Type": "SQS", "Properties": {"Queue": {"Fn::GetAtt": [queue, "Arn"]}} | properties}


def function(binary, memory=512, **properties):
    return {
        "Type": "AWS::Serverless::Function",
        "Properties": {
            "CodeUri": f"../target/lambda/{binary}/",
            "MemorySize": memory,
            "LoggingConfig": {"LogGroup": {"Ref": "Logs"}},
        }
        | properties,
    }


def dashboard(metrics):
    rows = [["AWS/Lambda", "Errors", "FunctionName", f"f-{number}"] for number in range(metrics)]
    body = {"widgets": [{"type": "metric", "properties": {"metrics": rows}}]}
    return {"Type": "AWS::CloudWatch::Dashboard", "Properties": {"DashboardBody": json.dumps(body)}}


# The second queue is that of a source which no mapping reads, because the entry has a function.
QUEUES = '{"${A.Arn}": {"url": "${A}"}, "${B.Arn}": {"url": "${B}", "source": "${C}", "function": "${F}"}}'


def small():
    """Returns a template whose idle cost is within the limits."""
    events = {
        "EveryMinute": {"Type": "Schedule", "Properties": {"Schedule": "rate(1 minute)"}},
        "Shards": queue_trigger("ShardQueue", Enabled={"Fn::If": ["ManyShards", True, False]}),
    }
    return {
        "Parameters": {
            "Environment": {"Default": "dev", "AllowedValues": ["dev", "prod"]},
            "Shards": {"Default": 16},
        },
        "Conditions": {
            "IsProd": {"Fn::Equals": [{"Ref": "Environment"}, "prod"]},
            "ManyShards": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Shards"}, 16]}]},
        },
        "Globals": {
            "Function": {
                "Architectures": ["arm64"],
                "Tracing": {"Fn::If": ["IsProd", "Active", "PassThrough"]},
            }
        },
        "Resources": {
            "Logs": {
                "Type": "AWS::Logs::LogGroup",
                "Properties": {"RetentionInDays": {"Fn::If": ["IsProd", 90, 7]}},
            },
            "Table": {
                "Type": "AWS::DynamoDB::Table",
                "Properties": {
                    "BillingMode": "PAY_PER_REQUEST",
                    "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
                },
            },
            "Dashboard": dashboard(50),
            "SimulatorFunction": function("charging_simulator", 1024, Events=events),
            "ReconcilerFunction": function(
                "dlq_reconciler",
                256,
                Environment={"Variables": {"DEAD_LETTER_QUEUES": {"Fn::Sub": QUEUES}}},
                Events={"Often": {"Type": "Schedule", "Properties": {"Schedule": "rate(5 minutes)"}}},
            ),
            "BillingFunction": function("billing", Events={"Ended": queue_trigger("BillingQueue")}),
            **{f"{name}Queue": {"Type": "AWS::SQS::Queue"} for name in ("Shard", "Billing")},
            **{f"{number}Alarm": alarm() for number in range(10)},
        },
    }


UNITS = figures(
    {
        "general": {
            "pollers": {"value": 5, "assumed": "a"},
            "poll_seconds": {"value": 20, "assumed": "a"},
            "log_bytes": {"value": 1000, "assumed": "a"},
            "access_log_bytes": {"value": 300, "assumed": "a"},
            "package_gb": {"value": 0.1, "assumed": "a"},
            "deployments_kept": {"value": 10, "assumed": "a"},
        },
        "tables": {"others": {"value": 0.001, "assumed": "a"}},
        "schedules": {
            "charging_simulator": {
                "milliseconds": {"value": 20, "assumed": "a"},
                "reads": {"value": 8, "assumed": "a"},
                "connections": {"value": 16, "assumed": "a"},
                "quiet": ["SessionsTicked"],
            },
            "dlq_reconciler": {
                "milliseconds": {"value": 100, "assumed": "a"},
                "receives_per_queue": {"value": 1, "assumed": "a"},
            },
        },
        "quiet_everywhere": ["Failures", "EventAge"],
        "batch_metrics": ["EventAge"],
        "uses": {
            "start": {
                "what": "Start",
                "function": "billing",
                "milliseconds": {"value": 40, "assumed": "a"},
                "http_requests": {"value": 1, "assumed": "a"},
                "reads": {"value": 1, "assumed": "a"},
                "table_writes": {"value": 8, "assumed": "a"},
                "index_writes": {"value": 4, "assumed": "a"},
            },
            "tick": {
                "what": "Tick",
                "function": "charging_simulator",
                "shares_invocation": True,
                "milliseconds": {"value": 1, "assumed": "a"},
                "table_writes": {"value": 1, "assumed": "a"},
            },
            "message": {
                "what": "Message",
                "function": "billing",
                "batch": 500,
                "milliseconds": {"value": 250, "assumed": "a"},
                "queue_messages": {"value": 1, "assumed": "a"},
            },
        },
        "together": {"session": {"what": "Session", "of": {"start": 1, "tick": 60}}},
    }
)


class FakeSources(Sources):
    def __init__(self, **metrics):
        self._metrics = metrics

    def of(self, binary):
        return {Series(name, binary) for name in self._metrics.get(binary, ())}

    def of_all(self, binary):
        return {Series("Failures", binary), Series("EventAge", binary)}


QUIET = FakeSources(charging_simulator=["SessionsTicked"])


def idle_of(document, parameters=None, sources=QUIET):
    return idle(Template(document, parameters), UNITS, PRICES, sources)


class Templates(unittest.TestCase):
    def test_functions_of_the_template_are_resolved(self):
        document = small()
        document["Mappings"] = {"Sizes": {"dev": {"Memory": 256}, "prod": {"Memory": 1024}}}
        properties = document["Resources"]["BillingFunction"]["Properties"]
        properties["MemorySize"] = {"Fn::FindInMap": ["Sizes", {"Ref": "Environment"}, "Memory"]}
        properties["FunctionName"] = {"Fn::Join": ["-", ["ev", "billing", {"Ref": "Environment"}]]}
        properties["Description"] = {"Fn::Sub": ["${!literal} ${Name} ${Environment}", {"Name": {"Ref": "Logs"}}]}
        properties["Layers"] = [{"Ref": "AWS::NoValue"}, "layer"]
        properties["VpcConfig"] = {"Ref": "AWS::NoValue"}
        for environment, memory in (("dev", 256), ("prod", 1024)):
            found = Template(document, {"Environment": environment}).functions["BillingFunction"]
            self.assertEqual((found.memory_mb, found.traced), (memory, environment == "prod"))
            self.assertEqual(found.properties["FunctionName"], f"ev-billing-{environment}")
            self.assertEqual(found.properties["Description"], f"${{literal}} Logs {environment}")
            self.assertEqual((found.properties["Layers"], "VpcConfig" in found.properties), (["layer"], False))

    def test_a_resource_whose_condition_is_false_does_not_exist(self):
        document = small()
        document["Resources"]["0Alarm"]["Condition"] = "IsProd"
        self.assertNotIn("0Alarm", Template(document).resources)
        self.assertIn("0Alarm", Template(document, {"Environment": "prod"}).resources)

    def test_conditions_are_combined(self):
        document = small()
        document["Conditions"]["Both"] = {"Fn::And": [{"Condition": "IsProd"}, {"Condition": "ManyShards"}]}
        document["Conditions"]["Any"] = {"Fn::Or": [{"Condition": "IsProd"}, {"Condition": "ManyShards"}]}
        template = Template(document, {"Environment": "prod"})
        self.assertEqual((template.holds("Both"), template.holds("Any")), (False, True))

    def test_parameters_are_checked(self):
        for parameters in ({"Nothing": "1"}, {"Environment": "test"}):
            with self.assertRaises(CostError):
                Template(small(), parameters)
        document = small()
        document["Parameters"]["Required"] = {"Type": "String"}
        with self.assertRaisesRegex(CostError, "Required has no default"):
            Template(document)


class Schedules(unittest.TestCase):
    def test_rates_and_cron_expressions(self):
        for expression, runs in (
            ("rate(1 minute)", 43800),
            ("rate(5 minutes)", 8760),
            ("rate(6 hours)", 730 / 6),
            ("rate(7 days)", 730 / 168),
            ("cron(0 4 * * ? *)", 730 / 24),
            ("cron(0/15 * * * ? *)", 730 * 4),
            ("cron(0 8-17 ? * MON-FRI *)", 730 / 24 * 10 * 5 / 7),
            ("cron(0 0 1,15 * ? *)", 730 / 24 * 2 / 31),
        ):
            self.assertAlmostEqual(runs_per_month(expression, HOURS), runs, msg=expression)

    def test_others_are_refused(self):
        for expression in ("at(2026-01-01T00:00:00)", "rate(1 fortnight)", "cron(0 4 * *)", "cron(0 4 L * ? *)"):
            with self.assertRaises(CostError):
                runs_per_month(expression, HOURS)


class Inventory(unittest.TestCase):
    def test_a_mapping_counts_only_where_it_is_enabled(self):
        self.assertEqual(polled_queues(Template(small())), ["billing.Ended"])
        polled = polled_queues(Template(small(), {"Shards": "32"}))
        self.assertEqual(polled, ["charging_simulator.Shards", "billing.Ended"])

    def test_a_mapping_that_is_a_resource_counts(self):
        document = small()
        queue = {"Fn::GetAtt": ["ShardQueue", "Arn"]}
        properties = {"EventSourceArn": queue, "FunctionName": {"Ref": "BillingFunction"}}
        document["Resources"]["Mapping"] = {"Type": "AWS::Lambda::EventSourceMapping", "Properties": properties}
        self.assertIn("billing.Mapping", polled_queues(Template(document)))
        properties["Enabled"] = "false"
        self.assertNotIn("billing.Mapping", polled_queues(Template(document)))

    def test_schedules_of_all_kinds_are_found_unless_they_are_disabled(self):
        document = small()
        arn = {"Fn::GetAtt": ["BillingFunction", "Arn"]}
        rule = {"ScheduleExpression": "rate(1 hour)", "Targets": [{"Arn": arn}]}
        schedule = {"ScheduleExpression": "rate(1 day)", "Target": {"Arn": arn}}
        document["Resources"]["Rule"] = {"Type": "AWS::Events::Rule", "Properties": rule}
        document["Resources"]["Schedule"] = {"Type": "AWS::Scheduler::Schedule", "Properties": schedule}
        found = {schedule.name: schedule.expression for schedule in schedules(Template(document))}
        self.assertEqual(found["billing.Rule"], "rate(1 hour)")
        self.assertEqual(found["billing.Schedule"], "rate(1 day)")
        rule["State"] = schedule["State"] = "DISABLED"
        events = document["Resources"]["SimulatorFunction"]["Properties"]["Events"]
        events["EveryMinute"]["Properties"]["Enabled"] = False
        self.assertEqual([schedule.name for schedule in schedules(Template(document))], ["dlq_reconciler.Often"])

    def test_alarms_are_charged_by_metric_and_resolution(self):
        document = small()
        query = {"MetricStat": {"Metric": {"Namespace": "AWS/SQS", "MetricName": "M"}, "Period": 60}}
        document["Resources"]["Math"] = alarm(Metrics=[query, query, {"Expression": "m1 / m2"}])
        document["Resources"]["Fast"] = alarm(Period=10)
        document["Resources"]["All"] = {"Type": "AWS::CloudWatch::CompositeAlarm"}
        usage = standing(Template(document))
        counts = (usage["alarms"], usage["alarms_high_resolution"], usage["alarms_composite"])
        self.assertEqual(counts, (12, 1, 1))

    def test_a_dashboard_is_charged_above_fifty_metrics(self):
        self.assertEqual(standing(Template(small()))["dashboards"], 1)
        document = small()
        document["Resources"]["Dashboard"] = dashboard(51)
        self.assertEqual(standing(Template(document))["dashboards_large"], 1)

    def test_abbreviated_metrics_of_a_dashboard_are_told_apart(self):
        rows = [
            ["AWS/Lambda", "Errors", "FunctionName", "a", {"stat": "Sum"}],
            ["...", "b"],
            [".", "Invocations", ".", "."],
            ["AWS/Lambda", "Errors", "FunctionName", "a"],
            [{"expression": "SUM(METRICS())"}],
        ]
        body = {"widgets": [{"type": "metric", "properties": {"metrics": rows}}, {"type": "text"}]}
        document = small()
        document["Resources"]["Dashboard"]["Properties"]["DashboardBody"] = json.dumps(body)
        found = {(metric[1], metric[3]) for metric in dashboards(Template(document))["Dashboard"]}
        self.assertEqual(found, {("Errors", "a"), ("Errors", "b"), ("Invocations", "b")})

    def test_what_costs_while_idle_in_an_unknown_way_is_refused(self):
        self.assertEqual(list(refusals(Template(small()), PRICES)), [])
        document = small()
        document["Resources"]["Gateway"] = {"Type": "AWS::EC2::NatGateway"}
        document["Resources"]["Table"]["Properties"]["BillingMode"] = "PROVISIONED"
        document["Resources"]["BillingFunction"]["Properties"]["ProvisionedConcurrencyConfig"] = {}
        events = document["Resources"]["BillingFunction"]["Properties"]["Events"]
        events["Ended"]["Properties"]["ProvisionedPollerConfig"] = {}
        self.assertEqual(len(list(refusals(Template(document), PRICES))), 4)


class IdleCost(unittest.TestCase):
    def quantity(self, found, key):
        return found.usage.get(key, 0)

    def test_a_small_template_is_within_the_limits(self):
        found = idle_of(small())
        self.assertEqual(list(found.failures(PRICES)), [])
        # Ten alarms, one mapping, 43,800 ticks and 8,760 receives from two queues.
        self.assertEqual(self.quantity(found, "alarms"), 10)
        self.assertEqual(self.quantity(found, "sqs_requests"), 657_000 + 3 * 8_760)
        self.assertEqual(self.quantity(found, "dynamodb_reads"), 8 * 43_800)
        self.assertEqual(self.quantity(found, "lambda_requests"), 43_800 + 8_760)
        seconds = 43_800 * 0.020 * 1 + 8_760 * 0.100 * 0.25
        self.assertAlmostEqual(self.quantity(found, "lambda_gb_seconds_arm64"), seconds)
        self.assertEqual(self.quantity(found, "kms_requests"), 0)
        self.assertAlmostEqual(PRICES.cost(found.usage, free_tiers=False), 1.00 + 0.27 + 0.05 + 0.03 + 0.01 + 0.03, 1)

    def test_each_limit_can_be_exceeded(self):
        document = small()
        for number in range(11):
            document["Resources"][f"Fast{number}"] = alarm(Period=10)
        self.assertEqual(len(list(idle_of(document).failures(PRICES))), 2)
        document = small()
        events = document["Resources"]["BillingFunction"]["Properties"]["Events"]
        for number in range(4):
            events[f"More{number}"] = queue_trigger("BillingQueue")
        failures = list(idle_of(document).failures(PRICES))
        self.assertRegex(failures[-1], "5 SQS mappings are enabled by default, more than 4")

    def test_keys_of_kms_are_asked_by_every_connection(self):
        document = small()
        document["Resources"]["Table"]["Properties"]["SSESpecification"] = {"SSEEnabled": True}
        self.assertEqual(self.quantity(idle_of(document), "kms_requests"), 16 * 43_800)

    def test_traces_are_counted_where_functions_are_traced(self):
        self.assertEqual(self.quantity(idle_of(small()), "xray_traces"), 0)
        prod = idle_of(small(), {"Environment": "prod"})
        self.assertEqual(self.quantity(prod, "xray_traces"), 43_800 + 8_760)

    def test_metrics_are_counted_by_the_share_of_hours_in_which_they_have_data(self):
        sources = FakeSources(charging_simulator=["SessionsTicked", "Duration"], dlq_reconciler=["Duration"])
        document = small()
        events = document["Resources"]["ReconcilerFunction"]["Properties"]["Events"]
        events["Often"]["Properties"]["Schedule"] = "rate(6 hours)"
        found = idle_of(document, sources=sources)
        self.assertAlmostEqual(self.quantity(found, "custom_metrics"), 1 + 1 / 6)

    def test_a_metric_of_the_whole_stack_is_counted_once(self):
        sources = FakeSources()
        sources.of = lambda binary: {Series("Runs", "")}
        self.assertEqual(self.quantity(idle_of(small(), sources=sources), "custom_metrics"), 1)

    def test_a_schedule_without_units_is_refused(self):
        document = small()
        properties = document["Resources"]["BillingFunction"]["Properties"]
        properties["Events"]["Daily"] = {"Type": "Schedule", "Properties": {"Schedule": "rate(1 day)"}}
        with self.assertRaisesRegex(CostError, "billing.Daily: say what an idle run consumes"):
            idle_of(document)

    def test_the_lines_of_a_free_tier_share_it(self):
        document = small()
        events = document["Resources"]["BillingFunction"]["Properties"]["Events"]
        events["More"] = queue_trigger("BillingQueue")
        found = idle_of(document)
        requests = [line for line in found.lines if line.key == "sqs_requests"]
        shared = sum(found.cost(line, PRICES, free_tiers=True) for line in requests)
        self.assertAlmostEqual(shared, (2 * 657_000 + 3 * 8_760 - 1_000_000) * 0.4 / 1_000_000)
        self.assertEqual(len(idle_table(found, PRICES).rows), len(found.lines) + 2)


class Parameters(unittest.TestCase):
    def test_parameters_are_words_and_a_quoted_value_is_taken_as_it_is(self):
        given = "Environment=prod OcmSchedule='rate(3 hours)' A='$(id) $HOME' B= A=2"
        expected = {"Environment": "prod", "OcmSchedule": "rate(3 hours)", "A": "2", "B": ""}
        self.assertEqual(parse(given), expected)
        self.assertEqual(parse("A='$(id) $HOME'"), {"A": "$(id) $HOME"})
        self.assertEqual(parse(""), {})

    def test_what_is_no_parameter_is_refused(self):
        for text in ("Environment", "=prod", "OcmSchedule=rate(3 hours)", "A='1"):
            with self.assertRaises(CostError):
                parse(text)


class PricesOfUse(unittest.TestCase):
    def setUp(self):
        self.uses = Uses(Template(small()), UNITS, PRICES)

    def test_free_tiers_are_deducted_once(self):
        self.assertEqual(PRICES["alarms"].cost(34, free_tiers=True), 24 * 0.10)
        self.assertEqual(PRICES["alarms"].cost(3, free_tiers=True), 0)
        self.assertEqual(PRICES["alarms"].cost(34, free_tiers=False), 34 * 0.10)
        self.assertEqual(PRICES["dashboards"].cost(3, free_tiers=False), 0)
        self.assertEqual(PRICES["dashboards"].list_cost(3), 9)
        self.assertEqual(total([{"alarms": 1}, times({"alarms": 2, "s3_puts": 1}, 3)]), {"alarms": 7, "s3_puts": 3})

    def test_a_use_is_priced_by_its_units(self):
        usage = self.uses.usage("start")
        self.assertEqual((usage["dynamodb_writes"], usage["dynamodb_reads"], usage["lambda_requests"]), (12, 1, 1))
        self.assertAlmostEqual(usage["lambda_gb_seconds_arm64"], 0.040 * 0.5)
        self.assertAlmostEqual(usage["logs_ingested"], 1.3e-6)
        expected = (12 * 0.7625 + 0.1525 + 0.20 + 1.20 + 1.3 * 0.63) / 1e6 + 0.020 * 0.0000133334
        self.assertAlmostEqual(self.uses.cost("start"), expected)

    def test_a_composition_is_the_sum_of_its_parts(self):
        usage = self.uses.usage("session")
        self.assertEqual((usage["dynamodb_writes"], usage["lambda_requests"]), (72, 1))
        self.assertAlmostEqual(self.uses.cost("session"), self.uses.cost("start") + 60 * self.uses.cost("tick"))
        self.assertAlmostEqual(sum(by_group(usage, PRICES).values()), self.uses.cost("session"))

    def test_messages_of_a_batch_share_an_invocation(self):
        usage = self.uses.usage("message")
        self.assertAlmostEqual(usage["lambda_requests"], 1 / 500)
        self.assertEqual(usage["sqs_requests"], 3)

    def test_a_month_has_the_idle_cost_and_all_uses(self):
        size = figures({"what": "s", "stations": 10, "per_day": {"session": {"value": 2, "assumed": "a"}}})
        found = month(size, self.uses, idle_of(small()), 5, PRICES)
        sessions = 10 * 2 * 730 / 24
        self.assertAlmostEqual(found.usage["dynamodb_writes"], 72 * sessions)
        self.assertEqual((found.usage["custom_metrics"], found.usage["alarms"]), (5, 10))

    def test_metrics_in_use_are_those_of_all_functions(self):
        # Failures of three functions, EventAge of the one consumer, and SessionsTicked.
        self.assertEqual(metrics_in_use(Template(small()), UNITS, QUIET), 5)


class Figures(unittest.TestCase):
    def test_a_figure_is_assumed_or_measured(self):
        for figure in (
            {"value": 1},
            {"value": 1, "assumed": "a", "measured": "f", "says": "s"},
            {"value": 1, "measured": "f"},
            {"value": 1, "assumed": "a", "000 POIs": None},
        ):
            with self.assertRaises(CostError):
                figures({"name": figure})

    def test_a_measured_figure_that_its_file_does_not_state_is_stale(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "test.rs").write_text("assert_eq!(\n    units, 8.0);")
            known = figures({"a": {"value": 8, "measured": "test.rs", "says": "assert_eq!( units, 8.0)"}})
            self.assertEqual(list(stale(known, root)), [])
            changed = figures(
                {
                    "a": {"value": 9, "measured": "test.rs", "says": "units, 9.0"},
                    "b": {"value": 9, "measured": "gone.rs", "says": "units"},
                }
            )
            self.assertEqual(len(list(stale(changed, root))), 2)

    def test_the_figures_of_this_repository_are_stated_where_they_say(self):
        for name in ("units", "sizes"):
            document = figures(yaml.safe_load((DATA / f"{name}.yaml").read_text()))
            self.assertEqual(list(stale(document, ROOT)), [])

    def test_metrics_are_found_in_sources(self):
        billing = 'metrics::counter!("A").increment(1);\nmetrics::gauge!(\n    "B", "Function" => name\n).set(1.0);'
        for kit, dimension in (("Builder::new()", ""), ('Builder::new().with_dimension("Function", NAME)', "billing")):
            with tempfile.TemporaryDirectory() as folder:
                for path, text in (
                    ("functions/billing/src/deep/lib.rs", billing),
                    ("lambda_kit/src/lib.rs", kit + '\n#[cfg(test)]\nmod tests { metrics::counter!("T"); }'),
                ):
                    (Path(folder) / path).parent.mkdir(parents=True)
                    (Path(folder) / path).write_text(text)
                sources = Sources(Path(folder))
                self.assertEqual(sources.of("billing"), {Series("A", dimension), Series("B", "billing")})
                self.assertEqual(sources.of_all("billing"), set())

    def test_a_metric_that_is_shown_and_not_found_is_named(self):
        document = small()
        self.assertEqual(list(unknown(Template(document), QUIET)), [])
        document["Resources"]["0Alarm"] = alarm(Namespace="Evoke/dev", MetricName="SessionsTicked")
        document["Resources"]["1Alarm"] = alarm(Namespace="Evoke/dev", MetricName="Typo")
        self.assertEqual(len(list(unknown(Template(document), QUIET))), 1)

    def test_all_that_units_and_sizes_name_has_a_price(self):
        sizes = yaml.safe_load((DATA / "sizes.yaml").read_text())
        for other in [*sizes["alternatives"].values(), *sizes["planned"].values()]:
            for line in other["lines"]:
                self.assertGreater(PRICES.list_cost(line["use"]), 0, line["what"])


class Page(unittest.TestCase):
    PAGE = "# Cost\n<!-- make cost: idle -->\nold\n<!-- end -->\ntext\n"

    def test_a_part_is_written_between_its_markers(self):
        filled = fill(self.PAGE, {"idle": "| new |\n"})
        self.assertEqual(filled, "# Cost\n<!-- make cost: idle -->\n\n| new |\n\n<!-- end -->\ntext\n")
        self.assertEqual(fill(filled, {"idle": "| new |\n"}), filled)

    def test_a_part_without_a_place_is_refused(self):
        with self.assertRaises(CostError):
            fill(self.PAGE, {"idle": "", "uses": ""})
        with self.assertRaises(CostError):
            fill(self.PAGE, {})

    def test_tables_are_aligned_as_text_and_have_a_rule_as_markdown(self):
        table = Table("Title", ["a", "b"], [["line", "1"], ["longer line", "10"]])
        self.assertEqual(table.markdown().splitlines()[1], "|---|---:|")
        self.assertEqual(table.text().splitlines()[-1], "longer line  10")

    def test_the_page_of_this_repository_has_a_place_for_every_part(self):
        text = (ROOT / "docs" / "cost.md").read_text()
        self.assertGreater(len(re.findall("<!-- make cost: ", text)), 0)
        self.assertEqual(text.count("<!-- make cost: "), text.count("<!-- end -->"))

    def test_the_small_template_is_left_as_it_was(self):
        document = small()
        before = copy.deepcopy(document)
        idle_of(document)
        self.assertEqual(document, before)


class Limits(unittest.TestCase):
    def document(self):
        return together(expand(main_template()), expand(graphql_template()))

    def test_the_parameters_that_the_deployment_gives_need_not_be_given(self):
        self.assertIn("LivePublisherFunction", Cost(self.document(), {}).template.functions)
        self.assertIn("Default", self.document()["Parameters"]["LiveProgress"])
        self.assertNotIn("Default", self.document()["Parameters"]["UserPoolId"])

    def test_the_graphql_api_costs_nothing_while_idle(self):
        cost = Cost(self.document(), {})
        self.assertEqual({key for key in cost.idle.usage if key.startswith("appsync_")}, set())
        self.assertGreater(cost.uses.usage("graphql_request")["appsync_requests"], 0)

    def test_every_environment_is_within_the_limits(self):
        self.assertEqual(list(Cost(self.document(), {}).limits()), [])

    def test_an_environment_above_the_limits_is_named(self):
        document = self.document()
        for number in range(20):
            document["Resources"][f"Alarm{number}"] = alarm() | {"Condition": "IsProd"}
        failures = list(Cost(document, {}).limits())
        self.assertTrue(failures and all(failure.startswith("prod: idle cost with") for failure in failures), failures)
        self.assertEqual(list(Cost(document, {"Environment": "dev"}).limits()), [])
        self.assertEqual(list(Cost(document, {"Environment": "prod"}).limits()), failures)


if __name__ == "__main__":
    unittest.main()
