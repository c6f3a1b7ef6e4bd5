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


def assembled(**contexts):
    return assemble({"root.yaml": ROOT} | {f"contexts/{name}.yaml": text for name, text in contexts.items()})


class Assemble(unittest.TestCase):
    def refused(self, text, **contexts):
        with self.assertRaises(TemplateError) as raised:
            assembled(**contexts)
        self.assertIn(text, str(raised.exception))

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
