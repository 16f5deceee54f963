"""values.yaml read with its comments, and turned into a JSON schema."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from constraints import FREE, ITEMS, OF, TEXTS, UNDER

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
        """Its own name."""
        return self.path.rpartition(".")[2]

    @property
    def group(self) -> str:
        """The path of the group that it stands in; "" at the top."""
        return self.path.rpartition(".")[0]


def read(path: Path) -> list[Value]:
    """The values of a file, in its order, a group before what is in it."""
    text = path.read_text()
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        raise TypeError(f"{path} is no map of values")
    return list(_walk(root, text.splitlines(), ""))


def _walk(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Value]:
    for key, inner in node.value:
        path = f"{prefix}{key.value}"
        group = isinstance(inner, yaml.MappingNode) and bool(inner.value) and not _is_free(path)
        yield Value(path=path, default=_plain(inner), about=_comment(lines, key.start_mark.line), is_group=group)
        if group:
            yield from _walk(inner, lines, f"{path}.")


def _plain(node: yaml.Node) -> Any:  # YAML
    return yaml.safe_load(yaml.serialize(node))


def _comment(lines: list[str], line: int) -> str:
    """The comment right above a line; an empty line ends it."""
    said: list[str] = []
    while line and (above := lines[line - 1].strip()).startswith("#"):
        said.insert(0, above.lstrip("#").strip())
        line -= 1
    return " ".join(said)


def _is_free(path: str) -> bool:
    """Whether what stands there is Kubernetes' business, or nobody's, and not checked any further."""
    name = path.rpartition(".")[2]
    return path in FREE or name in FREE or name in TEXTS


def tree(values: list[Value]) -> Schema:
    """The schema of all values: a name that is not among them is refused."""
    schema: Schema = {
        "$schema": DIALECT,
        "title": "Values of the chart hyperpod-ebs",
        "description": "Made from values.yaml by make generate; do not edit.",
        "definitions": {"additionalDaemonSet": _group(values, "node", whole=False)},
        **_group(values, "", whole=True),
    }
    # Helm hands these to a chart that is another's dependency.
    schema["properties"]["global"] = {"type": "object"}
    schema["properties"]["enabled"] = {"type": ["boolean", "null"]}
    return schema


def _group(values: list[Value], path: str, *, whole: bool) -> Schema:
    """The schema of a group; one that is whole has every value that cannot be null.

    Helm takes a value out that is set to null before it looks into the schema. So null
    reads as "missing" there, and is else no more than a broken object somewhere.
    """
    properties: Schema = {}
    for value in values:
        if value.group != path:
            continue
        about = {"description": value.about} if value.about else {}
        inner = _group(values, value.path, whole=whole) if value.is_group else _leaf(value)
        properties[value.name] = {**about, **inner}
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    needed = [name for name, inner in properties.items() if not _takes_null(inner)]
    return {**schema, "required": needed} if whole and needed else schema


def _takes_null(schema: Schema) -> bool:
    """Whether null is one of the values."""
    return (
        "null" in schema.get("type", ())
        or None in schema.get("enum", ())
        or any(_takes_null(one) for one in schema.get("anyOf", ()))
    )


def _leaf(value: Value) -> Schema:
    for table, key in ((OF, value.path), (UNDER, value.name)):
        if key in table:
            return table[key]
    match value.default:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case str():
            # Whoever empties a text in upstream's files writes nothing, which is null.
            return {"type": ["string", "null"]}
        case list():
            return {"type": ["array", "null"], "items": ITEMS.get(value.name, {"type": "object"})}
        case dict():
            inner = {"additionalProperties": {"type": "string"}} if value.name in TEXTS else {}
            return {"type": ["object", "null"], **inner}
        case other:
            raise TypeError(f"{value.path} is {other!r}, whose type no table of constraints.py tells")
