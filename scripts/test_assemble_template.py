"""Tests of assemble_template.py: python -m unittest discover scripts"""

import unittest

from assemble_template import TemplateError, assemble, expand

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
# Looks up the columns of resources().
READER = """
  Reader:
    Names: [!FindInMap [Queues, A, Name], !FindInMap [Queues, A, Reads]]
"""


def assembled(**contexts):
    return assemble({"root.yaml": ROOT} | {f"contexts/{name}.yaml": text for name, text in contexts.items()})


def resources(text):
    """Returns the expanded resources of a root with these resources, beside a mapping of two queues."""
    rows = "{ Queues: { A: { Name: a, Reads: [A, B] }, B: { Name: b } } }"
    return expand(assemble({"root.yaml": f"Mappings: {rows}\nResources:\n{READER}{text}"}))["Resources"]


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
  Fn::ForEach::Queues: [Queue, !FindInMap [Queues, All, Name], { Same: {} }]
""")
        self.refused_in_a_loop("${Read}Read: the output key of a loop must contain ${Queue}", """
  Fn::ForEach::Queues:
    - Queue
    - !FindInMap [Queues, All, Name]
    - ${Queue}Queue: {}
      Fn::ForEach::Reads: [Read, !FindInMap [Queues, !Ref Queue, Reads], { "${Read}Read": {} }]
""")

    def test_a_loop_in_a_resource_needs_its_own_identifier_alone(self):
        made = resources("""
  Fn::ForEach::Queues:
    - Queue
    - !FindInMap [Queues, All, Reads]
    - ${Queue}Queue:
        Fn::ForEach::Reads: [Read, !FindInMap [Queues, !Ref Queue, Reads], { "${Read}": !Ref Queue }]
""")
        self.assertEqual(made["AQueue"], {"A": "A", "B": "A"})

    def test_a_loop_over_no_list_is_refused(self):
        for collection in ("!Ref Names", "!FindInMap [Queues, A, Name]", "A", "[!Ref Name]"):
            self.refused_in_a_loop("Fn::ForEach::Queues: ", f"""
  Fn::ForEach::Queues: [Queue, {collection}, {{ "${{Queue}}Queue": {{}} }}]
""")

    def test_a_loop_of_another_form_is_refused(self):
        self.refused_in_a_loop("Fn::ForEach::Queues: must be", "  Fn::ForEach::Queues: [Queue, [A]]\n")

    def test_forms_that_are_not_implemented_are_refused(self):
        for value in (
            '!GetAtt "${Queue}Queue.Arn"', '"${Queue}"', '!Sub "${Queue.Arn}"', '!Sub "&{Queue}"',
            '!Sub ["${Queue}", {}]', '{ "&{Queue}": 1 }',
        ):
            self.refused_in_a_loop("Queue", f"""
  Fn::ForEach::Queues: [Queue, [A, B], {{ "${{Queue}}Queue": {{ Value: {value} }} }}]
""")

    def test_forms_that_are_implemented_are_substituted(self):
        made = resources("""
  Fn::ForEach::Queues:
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


if __name__ == "__main__":
    unittest.main()
