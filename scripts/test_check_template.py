"""Tests of check_template.py: python -m unittest discover scripts"""

import unittest

from check_template import polled_queues


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
