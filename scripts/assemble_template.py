#!/usr/bin/env python3
"""Assembles the templates that `sam deploy` deploys. Each of the two stacks has one.

    assemble_template.py infrastructure/template.yaml           from root.yaml, loops.yaml and contexts/*.yaml
    assemble_template.py infrastructure/graphql/template.yaml   from graphql/root.yaml
    assemble_template.py FILE.json   both templates as one, with their loops expanded, for checks and tests

The sections of all files of a template are joined. A name that is declared twice is refused; only the rows of a mapping may come from
several files. A context may have the sections in CONTEXT. It may use all that other files declare, and the anchors of
the root's sections Parameters and Shared. Shared is no part of the template. graphql/root.yaml may use these anchors,
too.

Each mapping gets one more row, All: for each of its columns, the names of the rows that have it. Loops go over these.
A column that nothing looks up is refused, because it is a misspelt one.

A loop that contains nothing but loops is unrolled: each of its values gets loops of its own. AWS wants the identifiers
of all loops around an output key in that key, and the key of a nested loop would have to repeat the outer one's.

A loop within a resource is written out as well, because AWS allows none in DependsOn, and documents no keys of a loop
that are not alphanumeric. The keys that such a loop makes in DependsOn are the names of the resources.

The loops of the GraphQL stack get lists as collections: SAM CLI uploads the files of a loop only if the loop goes over a
list, and otherwise leaves their local paths in the template.
"""

import json
import os
import re
import sys
from pathlib import Path

import cfnlint.decode
import yaml

INFRASTRUCTURE = Path(__file__).resolve().parent.parent / "infrastructure"
GRAPHQL = INFRASTRUCTURE / "graphql"
CONTEXT = ("Mappings", "Conditions", "Resources", "Outputs")
TEMPLATE = ("AWSTemplateFormatVersion", "Transform", "Description", "Parameters", "Rules", "Globals", *CONTEXT)
ROOT = (*TEMPLATE, "Shared")
# The sections of the root whose anchors other files may use.
FOR_ALL = ("Parameters", "Shared")
# The sections in which both stacks may declare the same name, if they declare the same by it.
IN_BOTH = ("AWSTemplateFormatVersion", "Transform", "Parameters", "Conditions", "Globals")
ALL = "All"
LOOP = "Fn::ForEach::"
# What YAML 1.1 takes plain texts for, and which texts also look like it.
PLAIN = {
    "int": ("a number", r"0|-?[1-9][0-9]*"),
    "float": ("a number", r"-?(0|[1-9][0-9]*)\.([0-9]*[1-9]|0)"),
    "bool": ("a truth value", r"true|false"),
    "timestamp": ("a date", r"(?!)"),
}


class TemplateError(Exception):
    """The files are not the parts of one template."""


def main():
    output = Path(sys.argv[1])
    try:
        text = written(output)
    except TemplateError as error:
        sys.exit(f"infrastructure/{error}")
    write(output, text)


def written(output):
    """Returns the text of a file that is made of the parts."""
    if output.suffix == ".json":
        return json.dumps(together(expand(main_template()), expand(graphql_template())), indent=1) + "\n"
    is_graphql = output.resolve().parent == GRAPHQL
    template = graphql_template() if is_graphql else main_template()
    expand(template)  # refuses what cannot be expanded
    parts = "graphql/root.yaml" if is_graphql else "root.yaml, loops.yaml or contexts/"
    return dump(template, parts)


def write(output, text):
    """Writes the file as a whole or not at all, so that an interruption leaves no half of it."""
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        unfinished.write_text(text)
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)


def parts():
    """Returns the files of the template, the root first. Editors keep files whose names begin with a dot."""
    first = [INFRASTRUCTURE / "root.yaml", INFRASTRUCTURE / "loops.yaml"]
    contexts = (path for path in INFRASTRUCTURE.glob("contexts/*.yaml") if not path.name.startswith("."))
    return first + sorted(contexts)


def texts():
    """Returns the text of each file of the template by its name, the root first."""
    return {str(path.relative_to(INFRASTRUCTURE)): path.read_text() for path in parts()}


def main_template():
    return assemble(texts())


def graphql_template():
    """Returns the template of the stack of the GraphQL API. It shares anchors with the root of the other template."""
    root, file = INFRASTRUCTURE / "root.yaml", GRAPHQL / "root.yaml"
    template = assemble({"graphql/root.yaml": file.read_text()}, anchors={"root.yaml": root.read_text()})
    return over_lists(template, template.get("Mappings", {}))


def over_lists(part, mappings):
    """Returns a part of a template in which loops go over lists, and not over what a mapping has."""
    if isinstance(part, list):
        return [over_lists(item, mappings) for item in part]
    if not isinstance(part, dict):
        return part
    listed = {}
    for key, value in part.items():
        if key.startswith(LOOP):
            identifier, collection, fragment = loop(key, value)
            value = [identifier, values_of(key, collection, mappings), fragment]
        listed[key] = over_lists(value, mappings)
    return listed


def together(*templates):
    """Returns the expanded templates of several stacks as one, for checks that have to see all stacks."""
    whole = {}
    for template in templates:
        for section, members in template.items():
            known = whole.setdefault(section, {} if isinstance(members, dict) else members)
            if not isinstance(members, dict):
                continue
            if section in IN_BOTH:
                differing = sorted(name for name in known.keys() & members.keys() if known[name] != members[name])
                if differing:
                    raise TemplateError(f"{section}: the stacks declare different things: {', '.join(differing)}")
                known.update(members)
            else:
                join(known, members, f"{section} of both stacks")
    return whole


def assemble(texts, anchors=None):
    """Returns the template of these files, given by name with the root first.

    `anchors` is the root of another stack, whose anchors the files may use as well.
    """
    template = {}
    for name, sections in read((anchors or {}) | texts).items():
        if name in (anchors or {}):
            continue
        allowed = CONTEXT if template else ROOT
        for section, members in names_in(sections, name).items():
            if section not in allowed:
                raise TemplateError(f"{name}: has a section {section}, but only {', '.join(allowed)} may be here")
            if section == "Mappings":
                for mapping, rows in names_in(members, f"{name}: {section}").items():
                    check_rows(rows, f"{name}: {mapping}")
                    join(template.setdefault(section, {}).setdefault(mapping, {}), rows, f"{name}: {mapping}")
            elif section in CONTEXT:
                names_in(members, f"{name}: {section}")
                join(template.setdefault(section, {}), members, f"{name}: {section}")
            else:
                template[section] = members
        check_lookups(sections, name)
    mappings = template.get("Mappings", {})
    for rows in mappings.values():
        rows[ALL] = rows_by_column(rows)
    unrolled = {section: unroll(template[section], mappings) for section in TEMPLATE if section in template}
    check_columns(template, unrolled)  # a resource that is written out has values in place of its lookups
    for name, resource in unrolled.get("Resources", {}).items():
        if not name.startswith(LOOP):
            unrolled["Resources"][name] = written_out(resource, mappings)
    check_output_keys(unrolled)
    check_loop_names(unrolled, {*mappings, *unrolled.get("Resources", {})})
    return unrolled


def read(texts):
    """Returns the sections of each file. They are read as one document, so that all know the anchors of the root."""
    lines, places = [], ["the files"]
    for name, text in texts.items():
        for number, line in enumerate([f"{name}:", *(f" {line}" for line in text.splitlines())]):
            lines.append(line)
            places.append(f"{name}:{number}")
    together = "\n".join(lines) + "\n"
    document, problems = cfnlint.decode.decode_str(together)
    if problems:  # for example a name that a file declares twice, or an unknown anchor
        said = "; ".join(f"{places[problem.linenumber]}: {problem.message}" for problem in problems)
        raise TemplateError(re.sub(r"line (\d+)", lambda match: places[int(match[1])], said))
    document_node = yaml.compose(together, Loader=yaml.SafeLoader)
    check_texts(document_node, places)
    check_aliases(document_node, yaml.parse(together, Loader=yaml.SafeLoader), places)
    return json.loads(json.dumps(document))  # plain values, and an own copy wherever an anchor is referred to


def check_texts(document, places):
    """Refuses plain texts that YAML 1.1 takes for something else than they look like, e.g. 12:30 for 750."""
    for node in nodes(document):
        kind, form = PLAIN.get(node.tag.rsplit(":", 1)[-1], ("", ""))
        if kind and not re.fullmatch(form, node.value):
            line, _ = place(node)
            raise TemplateError(f"{places[line + 1]}: YAML takes {node.value} for {kind}: quote it or write {kind}")


def check_aliases(document, events, places):
    """Refuses an alias to an anchor of another file, except those of the root that are for all files."""
    (_, root), *_ = document.value
    sections = root.value if isinstance(root, yaml.MappingNode) else []
    shared = {place(node) for name, members in sections if name.value in FOR_ALL for node in nodes(members)}
    anchors = {}
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            here, declared = (places[line + 1] for line, _ in (place(event), anchors[event.anchor]))
            file = declared.rsplit(":", 1)[0]
            if file != here.rsplit(":", 1)[0] and anchors[event.anchor] not in shared:
                known = f"the anchor {event.anchor} is of {file} alone"
                raise TemplateError(f"{here}: {known}, because it is not in the root's {' or '.join(FOR_ALL)}")
        elif getattr(event, "anchor", None):
            anchors[event.anchor] = place(event)


def nodes(document):
    """Yields each node of a document once, in order."""
    left, seen = [document], set()
    while left:
        node = left.pop()
        if node not in seen:
            seen.add(node)
            yield node
            inside = node.value if isinstance(node, yaml.CollectionNode) else []
            if isinstance(node, yaml.MappingNode):
                inside = [part for member in inside for part in member]
            left.extend(reversed(inside))


def place(part):
    """Returns where a node or event begins: line and column, from 0."""
    return part.start_mark.line, part.start_mark.column


def names_in(part, where):
    """Returns a part of a file that has to declare something by name."""
    if not isinstance(part, dict) or not part:
        raise TemplateError(f"{where}: is empty or declares nothing by name")
    return part


def check_rows(rows, where):
    """Refuses rows that say nothing. A loop goes over the rows that have a column, whatever its value."""
    if ALL in names_in(rows, where):
        raise TemplateError(f"{where} has a row {ALL}, which is made of the others")
    for row, values in rows.items():
        for column, value in names_in(values, f"{where}: {row}").items():
            if value is None or value is False or value in ("", [], {}):
                raise TemplateError(f"{where}: {row}: {column} is {json.dumps(value)}: leave the column out instead")


def check_lookups(part, where):
    """Refuses what looks up a column that is known only when the stack is deployed."""
    for _, _, column in lookups(part, where):
        if not isinstance(column, str):
            raise TemplateError(f"{where}: Fn::FindInMap: the column {json.dumps(column)} must be a plain name")


def check_columns(template, unrolled):
    """Refuses a column that nothing looks up in its mapping, because it is a misspelt one.

    Only the template before it is unrolled has the collections of the loops that are unrolled, and only the one after
    names the mappings that they look up.
    """
    plain = [names for names in lookups(template, "the template") if isinstance(names[0], str)]
    plain.extend(names for names in lookups(unrolled, "the template") if isinstance(names[0], str))
    anywhere = {column for mapping, _, column in lookups(unrolled, "the template") if not isinstance(mapping, str)}
    for mapping, rows in template.get("Mappings", {}).items():
        looked_up = anywhere | {column for name, _, column in plain if name == mapping}
        if unknown := sorted(rows[ALL].keys() - looked_up):
            raise TemplateError(f"{mapping}: nothing looks up {', '.join(unknown)}")


def check_output_keys(part, identifiers=()):
    """Refuses an output key without the identifiers of all loops around it, as AWS does."""
    if isinstance(part, list):
        for item in part:
            check_output_keys(item)
        return
    if not isinstance(part, dict):
        return
    for key, value in part.items():
        if key.startswith(LOOP):
            identifier, _, fragment = loop(key, value)
            if identifier in identifiers:
                raise TemplateError(f"{key}: a loop around it has the identifier {identifier} too")
            check_output_keys(fragment, (*identifiers, identifier))
            continue
        if missing := [identifier for identifier in identifiers if f"${{{identifier}}}" not in key]:
            raise TemplateError(f"{key}: the output key of a loop must contain ${{{missing[0]}}}")
        check_output_keys(value)


def check_loop_names(part, taken):
    """Refuses a loop that has the name of a mapping or of a resource."""
    if isinstance(part, list):
        for item in part:
            check_loop_names(item, taken)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key.startswith(LOOP) and (name := key.removeprefix(LOOP)) in taken:
                raise TemplateError(f"{key}: {name} is also a mapping or a resource: give the loop a name of its own")
            check_loop_names(value, taken)


def join(members, more, where):
    if twice := sorted(members.keys() & more.keys()):
        raise TemplateError(f"{where}: declared twice: {', '.join(twice)}")
    members.update(more)


def rows_by_column(rows):
    columns = {}
    for row, values in rows.items():
        for column in values:
            columns.setdefault(column, []).append(row)
    return columns


def lookups(part, where):
    """Yields the mapping, row and column of each Fn::FindInMap."""
    if isinstance(part, dict):
        if "Fn::FindInMap" in part:
            arguments = part["Fn::FindInMap"]
            if not isinstance(arguments, list) or len(arguments) != 3:
                raise TemplateError(f"{where}: Fn::FindInMap {json.dumps(arguments)}: mapping, row and column only")
            yield arguments
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from lookups(item, where)


def dump(template, parts):
    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as such."""

    def text(dumper, value):
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    made = yaml.dump(template, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return f"# Made by `make template`: change {parts} instead.\n{made}"


def loop(key, value):
    """Returns the identifier, the collection and the fragment of a loop."""
    is_loop = isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)
    if not is_loop or not isinstance(value[2], dict) or not value[2]:
        raise TemplateError(f"{key}: must be an identifier, a collection and what to make of each of its values")
    return value


def values_of(key, collection, mappings):
    """Returns the values of a loop."""
    values = _expand(collection, mappings)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TemplateError(f"{key}: {json.dumps(values)} is no list of names that the files have")
    return values


def unroll(part, mappings):
    """Returns a part of the template in which each loop has something else than loops in it."""
    if isinstance(part, list):
        return [unroll(item, mappings) for item in part]
    if not isinstance(part, dict):
        return part
    unrolled = {}
    for key, value in part.items():
        if key.startswith(LOOP):
            identifier, collection, fragment = loop(key, value)
            if all(inner.startswith(LOOP) for inner in fragment):
                for item in values_of(key, collection, mappings):
                    of_item = substitute(fragment, identifier, item)
                    named = {f"{LOOP}{item}{inner.removeprefix(LOOP)}": value for inner, value in of_item.items()}
                    join(unrolled, unroll(named, mappings), key)
                continue
        join(unrolled, {key: unroll(value, mappings)}, key)
    return unrolled


def written_out(part, mappings):
    """Returns a resource, or a part of it, with its loops expanded."""
    if isinstance(part, list):
        return [written_out(item, mappings) for item in part]
    if not isinstance(part, dict):
        return part
    written = {}
    for key, value in part.items():
        made = _expand({key: value}, mappings) if key.startswith(LOOP) else {key: written_out(value, mappings)}
        join(written, made, key)
    if isinstance(written.get("DependsOn"), dict):
        written["DependsOn"] = list(written["DependsOn"])
    return written


def expand(template):
    """Returns the template with its loops expanded and the values of its mappings in place; nothing else changes."""
    return _expand(template, template.get("Mappings", {}))


def _expand(part, mappings):
    if isinstance(part, list):
        return [_expand(item, mappings) for item in part]
    if not isinstance(part, dict):
        return part
    expanded = {}
    for key, value in part.items():
        if not key.startswith(LOOP):
            join(expanded, {key: _expand(value, mappings)}, key)
            continue
        identifier, collection, fragment = loop(key, value)
        for item in values_of(key, collection, mappings):
            join(expanded, _expand(substitute(fragment, identifier, item), mappings), f"{key}, {item}")
    return _looked_up(expanded, mappings)


def _looked_up(part, mappings):
    """Returns the value in a mapping that this part names, any other part as it is."""
    names = part.get("Fn::FindInMap") if len(part) == 1 else None
    if not names or not all(isinstance(name, str) for name in names):
        return part
    mapping, row, column = names
    try:
        return mappings[mapping][row][column]
    except KeyError as error:
        raise TemplateError(f"{mapping}, {row}, {column}: no such value in the mappings") from error


def substitute(part, identifier, item):
    """Returns a part of a loop for one of its values, in the forms of the identifier that AWS documents."""
    if isinstance(part, list):
        return [substitute(inner, identifier, item) for inner in part]
    if isinstance(part, str):
        return _without(part, identifier)
    if not isinstance(part, dict):
        return part
    if len(part) == 1:
        (function, argument), = part.items()
        if function == "Ref" and argument == identifier:
            return item
        if function == "Fn::Sub":
            if not isinstance(argument, str):
                raise TemplateError(f"Fn::Sub {json.dumps(argument)}: must have a text alone within a loop")
            text = _fill(argument, identifier, item)
            return {function: text} if "${" in text else text
    substituted = {}
    for key, value in part.items():
        join(substituted, {_fill(key, identifier, item): substitute(value, identifier, item)}, key)
    return substituted


def _fill(text, identifier, item):
    return _without(text.replace(f"${{{identifier}}}", item), identifier)


def _without(text, identifier):
    """Returns a text in which nothing remains to be substituted."""
    if re.search(rf"[$&]\{{\s*{re.escape(identifier)}\b", text):
        raise TemplateError(f"{text!r}: {identifier} has to be in a Ref, or as ${{{identifier}}} in a Fn::Sub or a key")
    return text


if __name__ == "__main__":
    main()
