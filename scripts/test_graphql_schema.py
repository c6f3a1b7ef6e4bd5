"""Tests of the GraphQL schema: python -m unittest discover scripts"""

import re
import unittest
from pathlib import Path

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    build_schema,
    get_named_type,
    is_non_null_type,
    parse,
    print_ast,
    validate_schema,
)

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "infrastructure/graphql/schema.graphql").read_text()
LIVE = (ROOT / "infrastructure/graphql/live.graphql").read_text()
API = (ROOT / "docs/API.md").read_text()

# What AppSync adds to GraphQL.
APPSYNC = """
scalar AWSDate
scalar AWSDateTime
scalar AWSJSON

directive @aws_subscribe(mutations: [String!]!) on FIELD_DEFINITION
directive @aws_cognito_user_pools on FIELD_DEFINITION | OBJECT
directive @aws_api_key on FIELD_DEFINITION | OBJECT
directive @aws_iam on FIELD_DEFINITION | OBJECT
"""
COGNITO, API_KEY, IAM = "aws_cognito_user_pools", "aws_api_key", "aws_iam"
MODES = {COGNITO, API_KEY, IAM}
ROOTS = ("Query", "Mutation", "Subscription")


def directives(node):
    return {directive.name.value: directive for directive in node.ast_node.directives}


def modes(field, parent):
    """The modes of authorization that a field takes: its own, those of its type, or the default."""
    return MODES & set(directives(field)) or MODES & set(directives(parent)) or {COGNITO}


def objects(schema):
    return [kind for kind in schema.type_map.values() if isinstance(kind, GraphQLObjectType) and kind.ast_node]


def unreachable(schema):
    """The fields that a caller asks for and gets an error, because a type on the way lacks the caller's mode."""
    for root in ROOTS:
        parent = schema.type_map[root]
        for name, field in parent.fields.items():
            for mode in modes(field, parent):
                for path in closed(get_named_type(field.type), mode, set()):
                    yield f"{root}.{name} by {mode}: {path}"


def closed(kind, mode, seen):
    if not isinstance(kind, GraphQLObjectType) or kind.name in seen:
        return
    seen.add(kind.name)
    for name, field in kind.fields.items():
        if mode not in modes(field, kind):
            yield f"{kind.name}.{name}"
        yield from closed(get_named_type(field.type), mode, seen)


def reached(schema, mode):
    """The types that somebody with this mode of authorization can reach."""
    types = set()
    for root in ROOTS:
        parent = schema.type_map[root]
        for field in parent.fields.values():
            if mode in modes(field, parent):
                # This passes through every type, whether it takes the mode or not.
                list(closed(get_named_type(field.type), mode, types))
    return types


def shape(kind):
    """The fields of a type, down to scalars, to compare an input with what is published from it."""
    if isinstance(kind, GraphQLNonNull):
        return ("never null", shape(kind.of_type))
    if isinstance(kind, GraphQLList):
        return [shape(kind.of_type)]
    if isinstance(kind, (GraphQLObjectType, GraphQLInputObjectType)):
        return {name: shape(field.type) for name, field in kind.fields.items()}
    return kind.name


def arguments(text):
    """The arguments in a block of docs/API.md, such as `limits?: {maxCost?}, portId`: required, and those within."""
    found, name = {}, None
    while text:
        if match := re.match(r"(\w+)(\??)", text):
            name, found[match[1]] = match[1], (not match[2], None)
        elif match := re.match(r": \[?\{", text):
            end = match.end()
            for end in range(end, len(text)):
                if text.count("{", 0, end + 1) == text.count("}", 0, end + 1):
                    break
            found[name] = (found[name][0], arguments(text[match.end() : end]))
            text = text[end + 1 :].removeprefix("]")
            continue
        else:
            match = re.match(r"[,\s]+", text)
        text = text[match.end() :]
    return found


def documented():
    """The fields in docs/API.md by type: their arguments, and whether the API key is enough."""
    fields = {"Query": {}, "Mutation": {}}
    listed = API.split("<!-- actions", 1)[1].split("<!-- end of the actions", 1)[0]
    for action in re.split(r"\n(?=### |\*\*)", listed):
        match = re.search(r"GraphQL: the (query|mutation) `(\w+)`(, for which the API key is enough)?\.", action)
        if match:
            block = re.search(r"```text\n(.*?)```", action, re.DOTALL)
            given = arguments(block[1]) if block else {}
            fields[match[1].capitalize()][match[2]] = (given, bool(match[3]))
    return fields


def described(given):
    """The arguments of a field or the fields of an input type, as docs/API.md describes them."""
    return {name: is_non_null_type(one.type) for name, one in given.items()}


class Schema(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.schema = build_schema(APPSYNC + TEXT)

    def published(self):
        fields = self.schema.mutation_type.fields
        return {name: field for name, field in fields.items() if name.startswith("publish")}

    def test_it_is_valid(self):
        self.assertEqual(validate_schema(self.schema), [])
        self.assertGreater(len(self.schema.type_map), 90)

    def test_it_has_what_appsync_takes(self):
        allowed = (GraphQLObjectType, GraphQLInputObjectType, GraphQLEnumType, GraphQLScalarType)
        known = {"String", "Int", "Float", "Boolean", "ID", "AWSDate", "AWSDateTime", "AWSJSON"}
        for name, kind in self.schema.type_map.items():
            self.assertIsInstance(kind, allowed, "AppSync has neither unions nor interfaces here")
            if isinstance(kind, GraphQLScalarType):
                self.assertIn(name, known)
            if isinstance(kind, GraphQLInputObjectType):
                # AWS passes it to a resolver as a value, MiniStack as text.
                self.assertNotIn("AWSJSON", [get_named_type(field.type).name for field in kind.fields.values()], name)
        self.assertNotIn('"""', TEXT)
        self.assertNotIn("extend ", TEXT)
        for body in re.findall(r"\n(?:enum \w+ \{|  \w+\()\n(.*?)\n *[)}]", TEXT, re.DOTALL):
            self.assertNotIn("#", body, "AppSync fails on some comments before values, and may before arguments")

    def test_every_type_takes_the_modes_of_all_fields_that_lead_to_it(self):
        self.assertEqual(list(unreachable(self.schema)), [])

    def test_no_type_takes_a_mode_that_no_field_needs(self):
        for mode in MODES:
            needed = reached(self.schema, mode)
            self.assertTrue(needed)
            for kind in objects(self.schema):
                if kind.name not in ROOTS and kind.name not in needed:
                    self.assertNotIn(mode, directives(kind), f"{kind.name} takes {mode} for nothing")

    def test_a_missing_mode_is_found(self):
        for kind, mode in (("Station", API_KEY), ("Tariff", COGNITO), ("SessionUpdate", IAM), ("SessionProgress", IAM)):
            text = re.sub(rf"(\ntype {kind} .*)@{mode}\b", r"\1", TEXT)
            self.assertNotEqual(text, TEXT)
            self.assertTrue(list(unreachable(build_schema(APPSYNC + text))), f"{kind} without {mode}")

    def test_the_api_key_is_enough_for_open_fields_alone(self):
        expected = {"stations", "pois", "register", "login", "confirm", "resendCode", "forgotPassword", "resetPassword"}
        expected.add("stationChanged")
        found = set()
        for root in ROOTS:
            parent = self.schema.type_map[root]
            found |= {name for name, field in parent.fields.items() if API_KEY in modes(field, parent)}
        self.assertEqual(found, expected)

    def test_only_live_publisher_can_publish(self):
        self.assertEqual(len(self.published()), 6)
        for name, field in self.schema.mutation_type.fields.items():
            expected = {IAM} if name in self.published() else modes(field, self.schema.mutation_type) - {IAM}
            self.assertEqual(modes(field, self.schema.mutation_type), expected, name)
        for root in ("Query", "Subscription"):
            parent = self.schema.type_map[root]
            self.assertFalse([name for name, field in parent.fields.items() if IAM in modes(field, parent)])

    def test_what_is_published_has_the_fields_of_its_input(self):
        for name, field in self.published().items():
            self.assertEqual(list(field.args), ["input"], name)
            given = field.args["input"].type
            self.assertTrue(is_non_null_type(given), name)
            self.assertEqual(shape(given.of_type), shape(field.type), name)

    def test_a_subscription_gets_what_its_mutation_publishes(self):
        heard = []
        for name, field in self.schema.subscription_type.fields.items():
            mutations = [value.value for value in directives(field)["aws_subscribe"].arguments[0].value.values]
            self.assertFalse(is_non_null_type(field.type), f"{name} is null until something is published")
            for mutation in mutations:
                self.assertEqual(self.published()[mutation].type, field.type, name)
                heard.append(mutation)
            for argument, given in field.args.items():
                # AppSync compares the argument with the field of the same name.
                self.assertIn(argument, field.type.fields, name)
                self.assertEqual(get_named_type(field.type.fields[argument].type), get_named_type(given.type), name)
        self.assertEqual(sorted(heard), sorted(self.published()))

    def test_requests_and_subscriptions_may_fail_alone(self):
        for root in ROOTS:
            for name, field in self.schema.type_map[root].fields.items():
                self.assertFalse(is_non_null_type(field.type), f"{name}: an error would take the other fields with it")

    def test_it_has_the_live_part_as_it_is(self):
        live = {node.name.value: node for node in parse(LIVE).definitions}
        whole = {node.name.value: node for node in parse(TEXT).definitions if hasattr(node, "name")}
        publishing = {field.name.value: print_ast(field) for field in live.pop("Mutation").fields}
        fields = {field.name.value: print_ast(field) for field in whole["Mutation"].fields}
        self.assertEqual(publishing, {name: fields[name] for name in self.published()})
        self.assertEqual(
            {name: print_ast(node) for name, node in live.items()}, {name: print_ast(whole[name]) for name in live}
        )
        for comment in re.findall(r"^ *#.*", LIVE, re.MULTILINE):
            self.assertIn(comment, TEXT)


class Actions(unittest.TestCase):
    """The schema beside docs/API.md, which is generated from the same tables of actions in another way."""

    @classmethod
    def setUpClass(cls):
        cls.schema = build_schema(APPSYNC + TEXT)
        cls.documented = documented()

    def test_both_have_the_same_fields(self):
        for root, fields in self.documented.items():
            found = {name for name in self.schema.type_map[root].fields if not name.startswith("publish")}
            self.assertEqual(found, set(fields))
            self.assertGreater(len(fields), 20)

    def test_both_have_the_same_arguments(self):
        within = 0
        for root, fields in self.documented.items():
            for name, (expected, _) in fields.items():
                given = self.schema.type_map[root].fields[name].args
                self.assertEqual(described(given), {name: one[0] for name, one in expected.items()}, name)
                for argument, (_, inner) in expected.items():
                    if inner:
                        kind = get_named_type(given[argument].type)
                        self.assertEqual(described(kind.fields), {name: one[0] for name, one in inner.items()}, name)
                        within += 1
        self.assertGreater(within, 4)

    def test_both_say_for_which_fields_the_api_key_is_enough(self):
        for root, fields in self.documented.items():
            parent = self.schema.type_map[root]
            for name, (_, is_open) in fields.items():
                self.assertEqual(API_KEY in modes(parent.fields[name], parent), is_open, name)

    def test_arguments_of_the_page_are_understood(self):
        text = "a, b?: {c, d?}, e: [{f}],\ng?"
        inner = {"c": (True, None), "d": (False, None)}
        expected = {"a": (True, None), "b": (False, inner), "e": (True, {"f": (True, None)}), "g": (False, None)}
        self.assertEqual(arguments(text), expected)


if __name__ == "__main__":
    unittest.main()
