"""Tests of the resolvers in infrastructure/graphql, run by the APPSYNC_JS of MiniStack: python -m unittest discover scripts

`make lint-graphql` checks that AppSync takes the syntax: Node takes more.
"""

import re
import unittest
import uuid

import appsync
from assemble_template import GRAPHQL
from local_cloud.appsync.filters import Filter
from ministack.core import appsync_js

USER, STAFF, SUPPORT = "u-1", "ADMIN", "TECH_SUPPORT"
FIELDS = appsync.types(appsync.schema())["Subscription"]
READ = "evoke/sessions:read evoke/stations:read evoke/billing:read evoke/telemetry:read"
OPERATE = f"{READ} evoke/operations:read"


def run(file, function, **context):
    """Returns what a function of a resolver answers: its value, its error and its subscription filters."""
    context = {"request": {"headers": {}}, "arguments": {}, "identity": None, "stash": {}} | context
    answer = appsync_js._pool.call({"code": (GRAPHQL / file).read_text(), "fn": function, "ctx": context}, timeout=30)
    filters = [each["filter"] for each in answer.get("extensions", []) if each["op"] == "setSubscriptionFilter"]
    error = answer.get("error")
    return answer.get("value"), error and {key: error[key] for key in ("message", "errorType", "errorInfo")}, filters


def identity(scope=READ, groups=(), **claims):
    """Returns the identity that AppSync gives to the resolvers, for an access token."""
    claims = {"sub": USER, "token_use": "access", "scope": scope, "cognito:groups": list(groups)} | claims
    if not groups:
        del claims["cognito:groups"]
    return {"sub": claims["sub"], "username": claims["sub"], "claims": claims, "groups": list(groups) or None}


class Resolver(unittest.TestCase):
    def request(self, **context):
        value, error, _ = run("resolver.js", "request", info={"fieldName": "station"}, **context)
        self.assertIsNone(error)
        return value

    def response(self, **context):
        return run("resolver.js", "response", info={"fieldName": "station"}, **context)[:2]

    def test_a_function_gets_the_field_the_arguments_and_who_asks(self):
        headers = {"x-correlation-id": "c-1", "authorization": "secret"}
        value = self.request(arguments={"stationId": "s-1", "a": None}, identity=identity(), request={"headers": headers})
        payload = {
            "field": "station", "arguments": {"stationId": "s-1", "a": None}, "identity": identity(), "correlationId": "c-1",
        }  # fmt: skip
        self.assertEqual(value, {"operation": "Invoke", "payload": payload})

    def test_an_api_key_has_no_identity(self):
        payload = self.request(request={"headers": {"x-correlation-id": "c-1"}})["payload"]
        self.assertEqual(payload, {"field": "station", "arguments": {}, "identity": None, "correlationId": "c-1"})

    def test_a_request_without_a_correlation_id_gets_one(self):
        first, second = (self.request()["payload"]["correlationId"] for _ in range(2))
        self.assertEqual(len({uuid.UUID(first), uuid.UUID(second)}), 2)

    def test_the_correlation_id_is_kept_for_the_answer(self):
        code = (GRAPHQL / "resolver.js").read_text()
        context = {"request": {"headers": {}}, "arguments": {}, "info": {"fieldName": "station"}, "stash": {}}
        answer = appsync_js._pool.call({"code": code, "fn": "request", "ctx": context}, timeout=30)
        self.assertEqual(answer["stash"], {"correlationId": answer["value"]["payload"]["correlationId"]})

    def test_data_is_answered_as_it_is(self):
        for data in ({"stationId": "s-1"}, [], 0, False, None):
            self.assertEqual(self.response(result={"data": data}), (data, None))

    def test_a_refusal_is_an_error_with_what_the_function_says_of_it(self):
        refusal = {"type": "ConflictError", "message": "taken", "from": "FREE", "correlationId": "c-1", "errors": [{"field": "a"}]}
        _, error = self.response(result={"error": refusal})
        info = {"from": "FREE", "correlationId": "c-1", "errors": [{"field": "a"}]}
        self.assertEqual(error, {"message": "taken", "errorType": "ConflictError", "errorInfo": info})

    def test_a_failed_invocation_tells_nothing_of_the_inside(self):
        failed = {"message": "panicked at src/main.rs", "type": "Lambda:Unhandled"}
        for context in ({"error": failed, "result": None}, {"error": failed, "result": {"data": 1}}, {"result": None}):
            value, error = self.response(stash={"correlationId": "c-1"}, **context)
            self.assertEqual((value, error["errorType"], error["errorInfo"]), (None, "InternalError", {"correlationId": "c-1"}))
            self.assertIn("correlation id", error["message"])
            self.assertNotIn("main.rs", error["message"])


class Publish(unittest.TestCase):
    def test_the_input_is_the_answer(self):
        update = {"sessionId": "x-1", "version": 2, "endedAt": None}
        value, error, _ = run("publish.js", "request", arguments={"input": update})
        self.assertEqual((value, error), ({"payload": update}, None))
        value, error, _ = run("publish.js", "response", result=update)
        self.assertEqual((value, error), (update, None))


class Subscriptions(unittest.TestCase):
    def subscribed(self, field, arguments=None, who=None):
        """Returns the filters of a subscription, or the error that refuses it."""
        context = {"info": {"fieldName": field}, "arguments": arguments or {}, "identity": who}
        value, error, _ = run("subscription.js", "request", **context)
        if error:
            return error
        self.assertEqual(value, {"payload": None})
        value, error, filters = run("subscription.js", "response", result=None, **context)
        self.assertEqual((value, error), (None, None))
        return filters

    def refused(self, says, field, arguments=None, who=None):
        error = self.subscribed(field, arguments, who)
        self.assertIsInstance(error, dict, f"{field} {arguments} {who}")
        self.assertEqual(error["errorType"], "ForbiddenError")
        self.assertIn(says, error["message"])

    def filter(self, **values):
        filters = [{"fieldName": name, "operator": "eq", "value": value} for name, value in values.items()]
        return [{"filterGroup": [{"filters": filters}]}]

    def test_an_api_key_is_enough_where_the_schema_says(self):
        for field, definition in FIELDS.items():
            with self.subTest(field=field):
                if "aws_api_key" in appsync.directives(definition):
                    self.assertEqual(self.subscribed(field), [])
                else:
                    self.refused("sign in", field)

    def test_each_subscription_demands_the_scope_that_the_schema_says(self):
        text = (GRAPHQL / "live.graphql").read_text()
        documented = {field: scope for scope, field in re.findall(r"Scope: `([a-z]+:read)`\.\n +(\w+)", text)}
        self.assertEqual(documented.keys(), FIELDS.keys())
        for field, scope in documented.items():
            with self.subTest(field=field):
                everything_else = " ".join(each for each in OPERATE.split() if each != f"evoke/{scope}")
                self.refused(f"lacks the scope {scope}", field, who=identity(everything_else, [STAFF]))
                self.refused(f"lacks the scope {scope}", field, who=identity(f"evoke/{scope}x {scope}", [STAFF]))
                self.assertEqual(self.subscribed(field, who=identity(f"evoke/{scope}", [STAFF])), [])

    def test_only_access_tokens_are_taken(self):
        for field in FIELDS:
            self.refused("access token", field, who=identity(OPERATE, [STAFF], token_use="id"))
            self.refused("lacks the scope", field, who=identity(None, [STAFF]))

    def test_staff_gets_everything(self):
        for field in FIELDS:
            for group in (STAFF, SUPPORT):
                self.assertEqual(self.subscribed(field, {"userId": "u-2"}, identity(OPERATE, ["other", group])), [])

    def test_only_staff_gets_alerts(self):
        for groups in ((), ("ADMIN-readonly",), ("admin",)):
            self.refused("only staff", "operatorAlert", who=identity(OPERATE, groups))

    def test_users_get_their_own_updates_only(self):
        known = appsync.types(appsync.schema())
        for field, definition in FIELDS.items():
            with self.subTest(field=field):
                if "userId" not in known[appsync.named(definition.type)]:
                    continue
                for arguments in ({}, {"userId": None}, {"userId": USER}):
                    self.assertEqual(self.subscribed(field, arguments, identity()), self.filter(userId=USER))
                for groups in ((), ("ADMIN-readonly",)):
                    self.refused("another user", field, {"userId": "u-2"}, identity(groups=groups))

    def test_the_filter_of_a_user_has_the_other_arguments_too(self):
        arguments = {"sessionId": "x-1", "userId": None, "stationId": "s-1"}
        expected = self.filter(sessionId="x-1", stationId="s-1", userId=USER)
        self.assertEqual(self.subscribed("sessionChanged", arguments, identity()), expected)
        arguments = {"sessionId": None, "stationId": "s-1"}
        expected = self.filter(stationId="s-1", userId=USER)
        self.assertEqual(self.subscribed("sessionChanged", arguments, identity()), expected)

    def test_an_argument_that_is_null_is_left_out_for_staff_too(self):
        """Without a filter, AppSync would send those updates whose field is null, and there are none."""
        staff = identity(OPERATE, [SUPPORT])
        arguments = {"sessionId": None, "userId": "u-2", "stationId": "s-1"}
        filters = self.subscribed("sessionChanged", arguments, staff)
        self.assertEqual(filters, self.filter(userId="u-2", stationId="s-1"))
        everything = {"fieldName": "userId", "operator": "ne", "value": ""}
        for arguments in ({"sessionId": None}, {"sessionId": None, "userId": None, "stationId": None}):
            filters = self.subscribed("sessionChanged", arguments, staff)
            self.assertEqual(filters, [{"filterGroup": [{"filters": [everything]}]}])
            self.assertTrue(Filter.parse(filters[0]).passes({"sessionId": "x-1", "userId": "u-1", "stationId": "s-1"}))

    def test_what_belongs_to_nobody_has_no_filter(self):
        for field in ("stationChanged", "stationProgress", "swapStationChanged"):
            self.assertEqual(self.subscribed(field, {"stationId": "s-1"}, identity()), [])

    def test_a_field_without_a_rule_is_refused(self):
        self.refused("no rule", "lotChanged", who=identity(OPERATE, [STAFF]))


if __name__ == "__main__":
    unittest.main()
