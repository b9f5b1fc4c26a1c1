"""values.yaml as its comments tell it: what each value means, and what it may be."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import yaml

MARK = "# -- "
SCHEMA = "# @schema "


@dataclass
class Value:
    """One value: a leaf of values.yaml, or a map that is not described key by key."""

    path: str
    default: object
    meaning: str
    schema: dict = field(default_factory=dict)


def comment_above(lines: list[str], line: int) -> tuple[str, dict]:
    """Meaning and additions to the schema in the comment that ends right above `line` (from 0)."""
    block = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        block.insert(0, lines[line].strip())
    meaning, schema, is_meaning = [], {}, False
    for text in block:
        if text.startswith(SCHEMA):
            schema.update(json.loads(text.removeprefix(SCHEMA)))
            is_meaning = False
        elif text.startswith(MARK):
            meaning, is_meaning = [text.removeprefix(MARK)], True
        elif is_meaning:
            meaning.append(text.lstrip("# "))
    return " ".join(meaning), schema


def read(path: Path) -> list[Value]:
    """All values of a file. Raises ValueError where one has no meaning."""
    text = path.read_text()
    lines = text.splitlines()
    found: list[Value] = []

    def walk(node: yaml.MappingNode, prefix: str) -> None:
        for key, child in node.value:
            name = f"{prefix}{key.value}"
            meaning, schema = comment_above(lines, key.start_mark.line)
            if isinstance(child, yaml.MappingNode) and not child.flow_style and not meaning:
                walk(child, f"{name}.")
            elif not meaning:
                raise ValueError(f"{path}: {name} has no comment that begins with `{MARK}`")
            else:
                default = yaml.safe_load(yaml.serialize(child))
                found.append(Value(name, default, meaning, schema))

    walk(yaml.compose(text), "")
    return found


def inferred(default: object) -> dict:
    """The schema of a value like this one."""
    match default:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case float():
            return {"type": "number"}
        case str():
            return {"type": "string"}
        case list():
            return {"type": "array"}
        case dict():
            return {"type": "object"}
    raise ValueError(f"no schema for {default!r}")


def schema_of(values: list[Value], definitions: dict) -> dict:
    """A JSON schema that refuses whatever values.yaml does not have."""
    root = closed()
    for value in values:
        *parents, name = value.path.split(".")
        place = root
        for parent in parents:
            place = place["properties"].setdefault(parent, closed())
        rules = value.schema if "$ref" in value.schema else inferred(value.default) | value.schema
        place["properties"][name] = {"description": value.meaning} | rules
    # What Helm itself adds: what subcharts share, and the library's own values.
    root["properties"] |= {"global": {"type": "object"}, "runcast-sidecar": {"type": "object"}}
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart runcast"}
    return head | root | {"$defs": definitions}


def closed() -> dict:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def options_schema(defaults: dict) -> dict:
    """The schema of a service's configuration, by its default file: sections, and options of the types that stand there."""
    sections = {
        section: closed() | {"properties": {option: inferred(value) for option, value in options.items()}}
        for section, options in defaults.items()
    }
    return closed() | {"properties": sections}


def table(values: list[Value]) -> str:
    """The README's table."""
    rows = ["| value | default | |", "|---|---|---|"]
    for value in values:
        default = json.dumps(value.default, ensure_ascii=False)
        meaning = value.meaning.replace("|", "\\|")
        rows.append(f"| `{value.path}` | `{default}` | {meaning} |")
    return "\n".join(rows) + "\n"
