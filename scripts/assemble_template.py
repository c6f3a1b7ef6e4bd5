#!/usr/bin/env python3
"""Assembles the one template that `sam deploy` deploys: infrastructure/root.yaml, loops.yaml and contexts/*.yaml.

    assemble_template.py FILE.yaml   write the template
    assemble_template.py FILE.json   write the template with its loops expanded, for checks and tests

The sections of all files are joined. A name that is declared twice is refused; only the rows of a mapping may come from
several files. A context may have the sections in CONTEXT. It may use all that other files declare, and the anchors of
the root's section Shared, which is no part of the template.

Each mapping gets one more row, All: for each of its columns, the names of the rows that have it. Loops go over these.
A column that nothing looks up is refused, because it is a misspelt one.
"""

import json
import re
import sys
from pathlib import Path

import cfnlint.decode
import yaml

INFRASTRUCTURE = Path(__file__).resolve().parent.parent / "infrastructure"
CONTEXT = ("Mappings", "Conditions", "Resources", "Outputs")
TEMPLATE = ("AWSTemplateFormatVersion", "Transform", "Description", "Parameters", "Globals", *CONTEXT)
ROOT = (*TEMPLATE, "Shared")
ALL = "All"
LOOP = "Fn::ForEach::"


class TemplateError(Exception):
    """The files are not the parts of one template."""


def main():
    output = Path(sys.argv[1])
    try:
        template = assemble({str(path.relative_to(INFRASTRUCTURE)): path.read_text() for path in parts()})
        output.write_text(json.dumps(expand(template), indent=1) + "\n" if output.suffix == ".json" else dump(template))
    except TemplateError as error:
        sys.exit(f"infrastructure/{error}")


def parts():
    """Returns the files of the template, the root first."""
    first = [INFRASTRUCTURE / "root.yaml", INFRASTRUCTURE / "loops.yaml"]
    return first + sorted(INFRASTRUCTURE.glob("contexts/*.yaml"))


def assemble(texts):
    """Returns the template of these files, given by name with the root first."""
    template = {}
    for name, sections in read(texts).items():
        allowed = CONTEXT if template else ROOT
        for section, members in (sections or {}).items():
            if section not in allowed:
                raise TemplateError(f"{name}: has a section {section}, but only {', '.join(allowed)} may be here")
            if section == "Mappings":
                for mapping, rows in members.items():
                    if ALL in rows:
                        raise TemplateError(f"{name}: {mapping} has a row {ALL}, which is made of the others")
                    join(template.setdefault(section, {}).setdefault(mapping, {}), rows, f"{name}: {mapping}")
            elif section in CONTEXT:
                join(template.setdefault(section, {}), members, f"{name}: {section}")
            else:
                template[section] = members
    looked_up = set(columns(template))
    for mapping, rows in template.get("Mappings", {}).items():
        rows[ALL] = rows_by_column(rows)
        if unknown := sorted(rows[ALL].keys() - looked_up):
            raise TemplateError(f"{mapping}: nothing looks up {', '.join(unknown)}")
    return {section: template[section] for section in TEMPLATE if section in template}


def read(texts):
    """Returns the sections of each file. They are read as one document, so that all know the anchors of the root."""
    lines, places = [], ["the files"]
    for name, text in texts.items():
        for number, line in enumerate([f"{name}:", *(f" {line}" for line in text.splitlines())]):
            lines.append(line)
            places.append(f"{name}:{number}")
    document, problems = cfnlint.decode.decode_str("\n".join(lines) + "\n")
    if problems:  # for example a name that a file declares twice, or an unknown anchor
        said = "; ".join(f"{places[problem.linenumber]}: {problem.message}" for problem in problems)
        raise TemplateError(re.sub(r"line (\d+)", lambda match: places[int(match[1])], said))
    return json.loads(json.dumps(document))  # plain values, and an own copy wherever an anchor is referred to


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


def columns(node):
    """Yields the columns of mappings that this part of the template looks up."""
    if isinstance(node, dict):
        if "Fn::FindInMap" in node:
            yield node["Fn::FindInMap"][2]
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from columns(item)


def dump(template):
    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as such."""

    def text(dumper, value):
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    made = yaml.dump(template, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    return f"# Made by `make template`: change root.yaml, loops.yaml or contexts/ instead.\n{made}"


def expand(template):
    """Returns the template with its loops expanded and the values of its mappings in place; nothing else changes."""
    return _expand(template, {}, template.get("Mappings", {}))


def _expand(node, names, mappings):
    """Expands a part of the template; `names` has the values of the loops around it."""
    if isinstance(node, list):
        return [_expand(item, names, mappings) for item in node]
    if not isinstance(node, dict):
        return node
    expanded = {}
    for key, value in node.items():
        if not key.startswith(LOOP):
            join(expanded, {_fill(key, names): _expand(value, names, mappings)}, key)
            continue
        name, collection, body = value
        for item in _expand(collection, names, mappings):
            join(expanded, _expand(body, names | {name: item}, mappings), f"{key}, {item}")
    return _value(expanded, names, mappings) if len(expanded) == 1 else expanded


def _value(node, names, mappings):
    """Returns the value of a function that the loops and mappings suffice for, any other as it is."""
    (function, argument), = node.items()
    if function == "Ref" and isinstance(argument, str) and argument in names:
        return names[argument]
    if function == "Fn::Sub" and isinstance(argument, str):
        text = _fill(argument, names)
        return {function: text} if "${" in text else text
    if function == "Fn::FindInMap" and all(isinstance(key, str) for key in argument):
        mapping, row, column = argument
        try:
            return mappings[mapping][row][column]
        except KeyError as error:
            raise TemplateError(f"{mapping}, {row}, {column}: no such value in the mappings") from error
    return node


def _fill(text, names):
    return re.sub(r"\$\{(\w+)\}", lambda match: names.get(match[1], match[0]), text)


if __name__ == "__main__":
    main()
