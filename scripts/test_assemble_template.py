"""Tests of assemble_template.py: python -m unittest discover scripts"""

import json
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import assemble_template
from assemble_template import TemplateError, assemble, expand, over_lists, together

ROOT = """
Shared:
  log: &log { Effect: Allow, Action: logs:PutLogEvents }
Parameters:
  Environment: { Type: String }
Resources:
  Fn::ForEach::LogGroups:
    - Function
    - !FindInMap [Functions, All, Name]
    - ${Function}LogGroup:
        Type: AWS::Logs::LogGroup
        Properties:
          LogGroupName: !Join ["-", [!FindInMap [Functions, !Ref Function, Name], !Ref Environment]]
  Fn::ForEach::RoutedFunctions:
    - Function
    - !FindInMap [Functions, All, Routes]
    - Fn::ForEach::Routes:
        - Route
        - !FindInMap [!Ref Function, All, Key]
        - ${Route}Route:
            Key: !FindInMap [!Ref Function, !Ref Route, Key]
            Function: !GetAtt [!Sub "${Function}Function", Arn]
"""
BILLING = """
Mappings:
  Functions:
    Billing: { Name: billing, Routes: true }
  Billing:
    GetWallet: { Key: GET /wallet }
    PayInvoice: { Key: "POST /invoices/{invoiceId}/payments" }
Resources:
  BillingRole: { <<: *log, Resource: !GetAtt BillingLogGroup.Arn }
"""
AUDIT = """
Mappings:
  Functions:
    Audit: { Name: audit }
Outputs:
  Name: { Value: !Sub "${Environment}-${!literal}" }
"""
QUEUES = "{ Queues: { A: { Name: a, Reads: [A, B] }, B: { Name: b } } }"
# Looks up the columns of resources().
READER = """
  Reader:
    Names: [!FindInMap [Queues, A, Name], !FindInMap [Queues, A, Reads]]
"""


def assembled(**contexts):
    return assemble({"root.yaml": ROOT} | {f"contexts/{name}.yaml": text for name, text in contexts.items()})


def resources(text):
    """Returns the expanded resources of a root with these resources, beside a mapping of two queues."""
    return expand(assemble({"root.yaml": f"Mappings: {QUEUES}\nResources:\n{READER}{text}"}))["Resources"]


class Refusals(unittest.TestCase):
    def refused(self, text, **contexts):
        with self.assertRaises(TemplateError) as raised:
            assembled(**contexts)
        self.assertIn(text, str(raised.exception))

    def refused_in_a_loop(self, text, resource):
        with self.assertRaises(TemplateError) as raised:
            resources(resource)
        self.assertIn(text, str(raised.exception))


class Assemble(Refusals):
    def test_sections_are_joined_and_mappings_get_a_row_of_their_rows(self):
        template = assembled(audit=AUDIT, billing=BILLING)
        self.assertEqual(list(template), ["Parameters", "Mappings", "Resources", "Outputs"])
        rows = template["Mappings"]["Functions"]["All"]
        self.assertEqual(rows, {"Name": ["Audit", "Billing"], "Routes": ["Billing"]})

    def test_anchors_of_the_root_are_put_in_their_places(self):
        role = assembled(billing=BILLING)["Resources"]["BillingRole"]
        group = {"Fn::GetAtt": ["BillingLogGroup", "Arn"]}
        self.assertEqual(role, {"Effect": "Allow", "Action": "logs:PutLogEvents", "Resource": group})

    def test_a_name_in_two_files_is_refused(self):
        self.refused("contexts/other.yaml: Resources: declared twice: BillingRole", billing=BILLING,
                     other="Resources: { BillingRole: {} }")
        self.refused("contexts/other.yaml: Functions: declared twice: Billing", billing=BILLING,
                     other="Mappings: { Functions: { Billing: { Name: other } } }")

    def test_a_name_twice_in_a_file_is_refused_at_its_line(self):
        self.refused("contexts/billing.yaml:10", billing=BILLING + "  BillingRole: {}\n")

    def test_a_section_of_the_root_is_refused_elsewhere(self):
        self.refused("contexts/billing.yaml: has a section Parameters", billing="Parameters: {}")
        self.refused("contexts/billing.yaml: has a section Resource,", billing="Resource: {}")

    def test_a_column_that_nothing_looks_up_is_refused(self):
        misspelt = "Mappings: { Functions: { Audit: { Nmae: audit } } }"
        self.refused("Functions: nothing looks up Nmae", billing=BILLING, audit=misspelt)

    def test_an_unknown_anchor_is_refused_at_its_line(self):
        self.refused("contexts/audit.yaml:1", billing=BILLING, audit="Resources: { A: *unknown }")

    def test_a_column_of_another_mapping_is_refused(self):
        self.refused("Functions: nothing looks up Key", billing=BILLING,
                     audit="Mappings: { Functions: { Audit: { Name: audit, Key: GET /audit } } }")

    def test_a_value_that_says_nothing_is_refused(self):
        for value in ("false", "null", "", "[]", '""'):
            self.refused("contexts/audit.yaml: Functions: Audit: Routes is ", billing=BILLING,
                         audit=f"Mappings: {{ Functions: {{ Audit: {{ Name: audit, Routes: {value} }} }} }}")

    def test_a_section_mapping_or_row_without_members_is_refused(self):
        for text, where in (
            ("# nothing", "contexts/audit.yaml: is"),
            ("[Resources]", "contexts/audit.yaml: is"),
            ("Resources:", "contexts/audit.yaml: Resources: is"),
            ("Outputs: []", "contexts/audit.yaml: Outputs: is"),
            ("Mappings: { Functions: }", "contexts/audit.yaml: Functions: is"),
            ("Mappings: { Functions: { Audit: {} } }", "contexts/audit.yaml: Functions: Audit: is"),
            ("Mappings: { Functions: { Audit: audit } }", "contexts/audit.yaml: Functions: Audit: is"),
        ):
            self.refused(f"{where} empty or declares nothing by name", billing=BILLING, audit=text)

    def test_what_yaml_takes_for_something_else_is_refused_at_its_line(self):
        for text, kind in (
            ("2012-10-17", "a date"), ("12:30", "a number"), ("0777", "a number"), ("1_000", "a number"),
            ("1.10", "a number"), ("+1", "a number"), ("0x1F", "a number"), ("yes", "a truth value"),
        ):
            self.refused(f"contexts/audit.yaml:2: YAML takes {text} for {kind}", billing=BILLING,
                         audit=f"Resources:\n  A: {{ Value: {text} }}")

    def test_usual_texts_and_numbers_are_taken(self):
        values = {"0": 0, "-15": -15, "0.144": 0.144, "true": True, '"0777"': "0777", '"2012-10-17"': "2012-10-17"}
        text = "Resources:\n  A: { Values: [" + ", ".join(values) + "] }"
        self.assertEqual(assembled(billing=BILLING, audit=text)["Resources"]["A"]["Values"], list(values.values()))

    def test_an_anchor_of_another_context_is_refused(self):
        self.refused("contexts/billing.yaml:10: the anchor audit is of contexts/audit.yaml alone",
                     audit="Resources: { A: &audit { Type: T } }", billing=f"{BILLING}  Other: *audit")
        own = "Resources: { A: &audit { Type: T }, B: *audit }"
        self.assertEqual(assembled(billing=BILLING, audit=own)["Resources"]["B"], {"Type": "T"})

    def test_an_anchor_of_a_resource_of_the_root_is_refused(self):
        root = f"{ROOT}  Bus: &bus {{ Type: T }}\n"
        with self.assertRaises(TemplateError) as raised:
            assemble({"root.yaml": root, "contexts/audit.yaml": "Resources: { A: *bus }"})
        self.assertIn("the anchor bus is of root.yaml alone", str(raised.exception))

    def test_a_column_that_is_no_plain_name_is_refused(self):
        self.refused("contexts/audit.yaml: Fn::FindInMap: the column", billing=BILLING,
                     audit="Resources: { A: !FindInMap [Functions, Billing, !Ref Environment] }")
        self.refused("contexts/audit.yaml: Fn::FindInMap [", billing=BILLING,
                     audit="Resources: { A: !FindInMap [Functions, Billing] }")


class Loops(Refusals):
    def test_a_loop_of_loops_is_unrolled(self):
        loops = assembled(billing=BILLING, audit=AUDIT)["Resources"]
        self.assertNotIn("Fn::ForEach::RoutedFunctions", loops)
        identifier, collection, fragment = loops["Fn::ForEach::BillingRoutes"]
        self.assertEqual((identifier, collection), ("Route", {"Fn::FindInMap": ["Billing", "All", "Key"]}))
        key = {"Fn::FindInMap": ["Billing", {"Ref": "Route"}, "Key"]}
        function = {"Fn::GetAtt": ["BillingFunction", "Arn"]}
        self.assertEqual(fragment, {"${Route}Route": {"Key": key, "Function": function}})

    def test_an_output_key_without_an_identifier_around_it_is_refused(self):
        self.refused_in_a_loop("Same: the output key of a loop must contain ${Queue}", """
  Fn::ForEach::EachQueue: [Queue, !FindInMap [Queues, All, Name], { Same: {} }]
""")
        self.refused_in_a_loop("${Read}Read: the output key of a loop must contain ${Queue}", """
  Fn::ForEach::EachQueue:
    - Queue
    - !FindInMap [Queues, All, Name]
    - ${Queue}Queue: {}
      Fn::ForEach::Reads: [Read, !FindInMap [Queues, !Ref Queue, Reads], { "${Read}Read": {} }]
""")

    def test_a_loop_in_a_resource_needs_its_own_identifier_alone(self):
        made = resources("""
  Fn::ForEach::EachQueue:
    - Queue
    - !FindInMap [Queues, All, Reads]
    - ${Queue}Queue:
        Fn::ForEach::Reads: [Read, !FindInMap [Queues, !Ref Queue, Reads], { "${Read}": !Ref Queue }]
""")
        self.assertEqual(made["AQueue"], {"A": "A", "B": "A"})

    def test_a_loop_in_a_resource_is_written_out(self):
        stage = """
  Stage:
    DependsOn:
      Fn::ForEach::Queues:
        - Queue
        - !FindInMap [Queues, All, Name]
        - ${Queue}Queue: exists
    Settings:
      Other: !FindInMap [Queues, A, Name]
      Fn::ForEach::Readers:
        - Queue
        - !FindInMap [Queues, All, Reads]
        - Fn::ForEach::Names:
            - Name
            - [!FindInMap [Queues, !Ref Queue, Name]]
            - GET /${Name}: { Rate: !FindInMap [Queues, !Ref Queue, Name], Of: !Sub "${Queue}Queue" }
"""
        template = assemble({"root.yaml": f"Mappings: {QUEUES}\nResources:\n{READER}{stage}"})
        self.assertEqual(template["Resources"]["Stage"], {
            "DependsOn": ["AQueue", "BQueue"],
            "Settings": {"Other": {"Fn::FindInMap": ["Queues", "A", "Name"]}, "GET /a": {"Rate": "a", "Of": "AQueue"}},
        })

    def test_a_key_that_a_loop_in_a_resource_makes_twice_is_refused(self):
        settings = """
  Stage:
    Fn::ForEach::Names:
      - Name
      - [a, a]
      - ${Name}: 1
"""
        self.refused_in_a_loop("declared twice: a", settings)

    def test_a_loop_over_no_list_is_refused(self):
        for collection in ("!Ref Names", "!FindInMap [Queues, A, Name]", "A", "[!Ref Name]"):
            self.refused_in_a_loop("Fn::ForEach::EachQueue: ", f"""
  Fn::ForEach::EachQueue: [Queue, {collection}, {{ "${{Queue}}Queue": {{}} }}]
""")

    def test_a_loop_with_the_name_of_a_mapping_or_resource_is_refused(self):
        for name in ("Queues", "Reader"):
            self.refused_in_a_loop(f"Fn::ForEach::{name}: {name} is also", f"""
  Fn::ForEach::{name}: [Queue, !FindInMap [Queues, All, Name], {{ "${{Queue}}Queue": {{}} }}]
""")

    def test_a_loop_of_another_form_is_refused(self):
        self.refused_in_a_loop("Fn::ForEach::EachQueue: must be", "  Fn::ForEach::EachQueue: [Queue, [A]]\n")

    def test_forms_that_are_not_implemented_are_refused(self):
        for value in (
            '!GetAtt "${Queue}Queue.Arn"', '"${Queue}"', '!Sub "${Queue.Arn}"', '!Sub "&{Queue}"',
            '!Sub ["${Queue}", {}]', '{ "&{Queue}": 1 }',
        ):
            self.refused_in_a_loop("Queue", f"""
  Fn::ForEach::EachQueue: [Queue, [A, B], {{ "${{Queue}}Queue": {{ Value: {value} }} }}]
""")

    def test_forms_that_are_implemented_are_substituted(self):
        made = resources("""
  Fn::ForEach::EachQueue:
    - Queue
    - !FindInMap [Queues, All, Name]
    - ${Queue}Queue:
        - !Ref Queue
        - !Sub "${Queue}-queue"
        - !Sub "${Queue}-${Environment}"
        - !FindInMap [Queues, !Ref Queue, Name]
        - !GetAtt [!Sub "${Queue}Queue", Arn]
        - { Ref: !Sub "${Queue}Queue" }
""")
        self.assertEqual(made["BQueue"], [
            "B", "B-queue", {"Fn::Sub": "B-${Environment}"}, "b", {"Fn::GetAtt": ["BQueue", "Arn"]}, {"Ref": "BQueue"}
        ])


class Expand(unittest.TestCase):
    def test_loops_are_expanded_and_nothing_else(self):
        expanded = expand(assembled(audit=AUDIT, billing=BILLING))
        resources = expanded["Resources"]
        self.assertEqual(
            list(resources), ["AuditLogGroup", "BillingLogGroup", "GetWalletRoute", "PayInvoiceRoute", "BillingRole"]
        )
        name = resources["AuditLogGroup"]["Properties"]["LogGroupName"]
        self.assertEqual(name, {"Fn::Join": ["-", ["audit", {"Ref": "Environment"}]]})
        function = {"Fn::GetAtt": ["BillingFunction", "Arn"]}
        self.assertEqual(resources["GetWalletRoute"], {"Key": "GET /wallet", "Function": function})
        self.assertEqual(expanded["Outputs"]["Name"]["Value"], {"Fn::Sub": "${Environment}-${!literal}"})

    def test_a_value_that_no_mapping_has_is_refused(self):
        template = assembled(billing=BILLING)
        del template["Mappings"]["Billing"]
        with self.assertRaises(TemplateError):
            expand(template)


class Stacks(unittest.TestCase):
    """Two stacks, of which the second uses parts of the first."""

    def test_the_second_stack_has_the_shared_parts_and_parameters_of_the_first_and_nothing_else(self):
        root = ROOT.replace("Environment: {", "Environment: &environment {")
        text = "Parameters: { Environment: *environment }\nResources: { A: { Statement: *log } }"
        template = assemble({"graphql/root.yaml": text}, anchors={"root.yaml": root})
        self.assertEqual(
            template,
            {
                "Parameters": {"Environment": {"Type": "String"}},
                "Resources": {"A": {"Statement": {"Effect": "Allow", "Action": "logs:PutLogEvents"}}},
            },
        )

    def test_the_second_stack_must_not_use_resources_of_the_first(self):
        root = f"{ROOT}  Bus: &bus {{ Type: T }}\n"
        with self.assertRaises(TemplateError) as raised:
            assemble({"graphql/root.yaml": "Resources: { A: *bus }"}, anchors={"root.yaml": root})
        self.assertIn("graphql/root.yaml:1: the anchor bus is of root.yaml alone", str(raised.exception))

    def test_loops_go_over_lists_and_make_the_same(self):
        template = assembled(audit=AUDIT, billing=BILLING)
        listed = over_lists(template, template["Mappings"])
        self.assertEqual(listed["Resources"]["Fn::ForEach::LogGroups"][1], ["Audit", "Billing"])
        self.assertEqual(listed["Resources"]["Fn::ForEach::BillingRoutes"][1], ["GetWallet", "PayInvoice"])
        self.assertEqual(expand(listed), expand(template))

    def test_two_templates_are_joined(self):
        parameters = {"Environment": {"Type": "String"}}
        first = {"Description": "one", "Parameters": parameters, "Resources": {"A": {"Type": "T"}}}
        second = {"Description": "two", "Parameters": parameters, "Resources": {"B": {"Type": "T"}}}
        both = {"Description": "one", "Parameters": parameters, "Resources": {"A": {"Type": "T"}, "B": {"Type": "T"}}}
        self.assertEqual(together(first, second), both)
        for changed in (
            {"Parameters": {"Environment": {"Type": "Number"}}},  # one name, two meanings
            {"Resources": {"A": {"Type": "T"}}},  # the same resource in both
        ):
            with self.assertRaises(TemplateError):
                together(first, second | changed)
        self.assertEqual(first["Resources"], {"A": {"Type": "T"}})

    def test_the_expanded_file_has_both_stacks(self):
        resources = json.loads(assemble_template.written(Path("template.expanded.json")))["Resources"]
        self.assertLessEqual({"StationServiceFunction", "LivePublisherFunction", "stationQuery"}, resources.keys())

    def test_a_file_says_of_what_it_is_made(self):
        for file, made_of in (
            (assemble_template.INFRASTRUCTURE / "template.yaml", "root.yaml, loops.yaml or contexts/"),
            (assemble_template.GRAPHQL / "template.yaml", "graphql/root.yaml"),
        ):
            self.assertIn(f"change {made_of} instead", assemble_template.written(file).splitlines()[0])


class Files(unittest.TestCase):
    def test_a_file_is_written_as_a_whole_and_nothing_else_is_left(self):
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "template.yaml"
            assemble_template.write(output, "first")
            assemble_template.write(output, "second")
            self.assertEqual([path.name for path in Path(folder).iterdir()], ["template.yaml"])
            self.assertEqual(output.read_text(), "second")

    def test_files_whose_names_begin_with_a_dot_are_no_parts(self):
        with tempfile.TemporaryDirectory() as folder:
            infrastructure = Path(folder)
            (infrastructure / "contexts").mkdir()
            for name in ("billing.yaml", ".billing.yaml", ".#billing.yaml", "notes.txt"):
                (infrastructure / "contexts" / name).touch()
            with unittest.mock.patch.object(assemble_template, "INFRASTRUCTURE", infrastructure):
                names = [path.name for path in assemble_template.parts()]
        self.assertEqual(names, ["root.yaml", "loops.yaml", "billing.yaml"])


if __name__ == "__main__":
    unittest.main()
