"""Tests of the example documents in events/graphql: python -m unittest discover scripts

tests/tests/it/graphql/examples.rs runs the same documents on a deployed stack.
"""

import json
import unittest

from graphql import (
    FieldNode,
    GraphQLObjectType,
    OperationType,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    build_schema,
    get_named_type,
    parse,
    validate,
    visit,
)
from graphql.execution.values import get_variable_values
from test_graphql_schema import APPSYNC, ROOT, TEXT

EXAMPLES = ROOT / "events/graphql"
ROOTS = {
    OperationType.QUERY: "Query",
    OperationType.MUTATION: "Mutation",
    OperationType.SUBSCRIPTION: "Subscription",
}


class Selected(Visitor):
    """The types that a document passes, and the fields of each that it asks for."""

    def __init__(self, types):
        super().__init__()
        self.types, self.fields = types, {}

    def enter_field(self, node: FieldNode, *_):
        parent = self.types.get_parent_type()
        self.fields.setdefault(parent.name, set()).add(node.name.value)


def operation(name):
    (definition,) = parse((EXAMPLES / f"{name}.graphql").read_text()).definitions
    return definition


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.schema = build_schema(APPSYNC + TEXT)

    def fields(self):
        """The fields of the API, each with its root. The publishing mutations are live_publisher's."""
        for root in ROOTS.values():
            for name in self.schema.type_map[root].fields:
                if not name.startswith("publish"):
                    yield name, root

    def test_each_field_has_a_document_with_variables_and_no_other_file_is_there(self):
        names = [name for name, _ in self.fields()]
        self.assertEqual(len(set(names)), len(names), "a document is named after its field alone")
        expected = {f"{name}.{kind}" for name in names for kind in ("graphql", "json")}
        self.assertEqual({file.name for file in EXAMPLES.iterdir()}, expected)

    def test_each_document_asks_for_its_field_and_is_valid(self):
        for name, root in self.fields():
            definition = operation(name)
            self.assertEqual(ROOTS[definition.operation], root, name)
            self.assertEqual([field.name.value for field in definition.selection_set.selections], [name])
            self.assertEqual(definition.name.value, name[0].upper() + name[1:])
            document = parse((EXAMPLES / f"{name}.graphql").read_text())
            self.assertEqual(validate(self.schema, document), [], name)

    def test_the_variables_are_those_of_the_document(self):
        for name, _ in self.fields():
            variables = json.loads((EXAMPLES / f"{name}.json").read_text())
            definitions = operation(name).variable_definitions
            self.assertEqual(list(variables), [each.variable.name.value for each in definitions], name)
            self.assertIsInstance(get_variable_values(self.schema, definitions, variables), dict, name)

    def test_the_documents_ask_for_every_field_of_every_type(self):
        for name, _ in self.fields():
            types = TypeInfo(self.schema)
            selected = Selected(types)
            visit(operation(name), TypeInfoVisitor(types, selected))
            for kind, fields in selected.fields.items():
                if kind not in ROOTS.values():
                    self.assertEqual(fields, set(self.schema.type_map[kind].fields), f"{name}: {kind}")
            result = get_named_type(self.schema.type_map[ROOTS[operation(name).operation]].fields[name].type)
            self.assertTrue(not isinstance(result, GraphQLObjectType) or result.name in selected.fields, name)


if __name__ == "__main__":
    unittest.main()
