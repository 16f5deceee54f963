"""Read values.yaml with its comments, and derive a JSON schema from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from constraints import BY_NAME, BY_PATH, FREE, ITEMS, STRING_MAPS

Schema = dict[str, Any]  # JSON
DIALECT: Final = "http://json-schema.org/draft-07/schema#"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A value, or a group of them."""

    path: str
    default: Any  # YAML
    about: str
    is_group: bool

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition(".")[2]

    @property
    def group(self) -> str:
        """The path of its group; "" at the top."""
        return self.path.rpartition(".")[0]


def read(path: Path) -> list[Value]:
    """The values in the order of the file; a group comes before its values."""
    text = path.read_text()
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        raise TypeError(f"{path} is not a map of values")
    return list(_walk(root, text.splitlines(), ""))


def _walk(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Value]:
    for key, inner in node.value:
        path = f"{prefix}{key.value}"
        group = isinstance(inner, yaml.MappingNode) and bool(inner.value) and not _is_free(path)
        yield Value(path=path, default=_to_python(inner), about=_comment(lines, key.start_mark.line), is_group=group)
        if group:
            yield from _walk(inner, lines, f"{path}.")


def _to_python(node: yaml.Node) -> Any:  # YAML
    return yaml.safe_load(yaml.serialize(node))


def _comment(lines: list[str], line: int) -> str:
    """The comment right above a line; an empty line ends it."""
    comment: list[str] = []
    while line and (above := lines[line - 1].strip()).startswith("#"):
        comment.insert(0, above.lstrip("#").strip())
        line -= 1
    return " ".join(comment)


def _is_free(path: str) -> bool:
    """Whether the schema does not check the contents of the value at this path."""
    name = path.rpartition(".")[2]
    return path in FREE or name in FREE or name in STRING_MAPS


def schema_of(values: list[Value]) -> Schema:
    """The schema of all values, which refuses any other name."""
    schema: Schema = {
        "$schema": DIALECT,
        "title": "Values of the chart hyperpod-ebs",
        "description": "Made from values.yaml by make generate; do not edit.",
        "definitions": {"additionalDaemonSet": _group(values, "node", whole=False)},
        **_group(values, "", whole=True),
    }
    # Helm passes these to a chart that is a dependency of another.
    schema["properties"]["global"] = {"type": "object"}
    schema["properties"]["enabled"] = {"type": ["boolean", "null"]}
    return schema


def _group(values: list[Value], path: str, *, whole: bool) -> Schema:
    """The schema of a group; if `whole`, it requires every value that cannot be null.

    Helm removes a value that is set to null before it checks the schema. Without the
    requirement null would pass the schema and break an object.
    """
    properties: Schema = {}
    for value in values:
        if value.group != path:
            continue
        about = {"description": value.about} if value.about else {}
        inner = _group(values, value.path, whole=whole) if value.is_group else _leaf(value)
        properties[value.name] = {**about, **inner}
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    required = [name for name, inner in properties.items() if not _accepts_null(inner)]
    return {**schema, "required": required} if whole and required else schema


def _accepts_null(schema: Schema) -> bool:
    """Whether the schema accepts null."""
    return (
        "null" in schema.get("type", ())
        or None in schema.get("enum", ())
        or any(_accepts_null(choice) for choice in schema.get("anyOf", ()))
    )


def _leaf(value: Value) -> Schema:
    for table, key in ((BY_PATH, value.path), (BY_NAME, value.name)):
        if key in table:
            return table[key]
    match value.default:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case str():
            # Upstream's values files often leave out an empty string, which makes the value null.
            return {"type": ["string", "null"]}
        case list():
            return {"type": ["array", "null"], "items": ITEMS.get(value.name, {"type": "object"})}
        case dict():
            inner = {"additionalProperties": {"type": "string"}} if value.name in STRING_MAPS else {}
            return {"type": ["object", "null"], **inner}
        case other:
            raise TypeError(f"{value.path} is {other!r}, which shows no type: add the value to constraints.py")
