"""Write what follows from the chart's values.yaml, below --into=DIRECTORY or in the repository.

These are the schema, the reference page, and the defaults that templates compare with.
The comment above a value is its documentation, its default gives its type, and
`constraints` has the rest. So each value is written once.
"""

import argparse
import json
from pathlib import Path
from typing import Any, Final

import yaml
from values import Value, read, schema_of

ROOT: Final = Path(__file__).resolve().parents[2]
VALUES: Final = ROOT / "charts/hyperpod-ebs/values.yaml"
SCHEMA: Final = Path("charts/hyperpod-ebs/values.schema.json")
PAGE: Final = Path("docs/reference/chart-values.md")
DEFAULTS: Final = Path("charts/hyperpod-ebs/templates/_defaults.tpl")

COMPARED: Final = ("sidecars.livenessProbe", "sidecars.nodeDriverRegistrar", "node.probeDirVolume")
"""Values that have an effect only with another value. The notes name those that differ from the default."""

HEAD: Final = """\
# Values of the chart

Made from `charts/hyperpod-ebs/values.yaml` by `make generate`. Names and meanings are those of the upstream driver's
chart; values that it does not have are marked (only here). `helm install` and `helm template` refuse a value that is
misspelt, of the wrong type, or that cannot be honoured, and name it.
"""


def page(values: list[Value]) -> str:
    """The values as Markdown: a table for each group at the top, and one for the values without a group."""
    groups = [value for value in values if value.is_group and "." not in value.path]
    ungrouped = [value for value in values if not value.is_group and "." not in value.path]
    sections = [_section(f"`{group.path}`", group.about, _values_in(values, group.path)) for group in groups]
    return HEAD + "".join([*sections, _section("Values without a group", "", ungrouped)])


def defaults(values: object) -> str:
    """A template with the defaults of the values in `COMPARED`, by path; `values` is the whole of values.yaml."""
    found = {}
    for path in COMPARED:
        node: Any = values  # what YAML holds
        for part in path.split("."):
            node = node[part]
        found[path] = node
    return (
        "{{/* Defaults of values.yaml, for comparisons. Made by `make generate`. */}}\n"
        f'{{{{- define "hyperpod-ebs.defaults" -}}}}\n{yaml.safe_dump(found, sort_keys=True)}{{{{- end }}}}\n'
    )


def _values_in(values: list[Value], group: str) -> list[Value]:
    """The values in a group, and the groups in it that have a comment."""
    return [value for value in values if value.path.startswith(f"{group}.") and (value.about or not value.is_group)]


def _section(title: str, about: str, values: list[Value]) -> str:
    rows = "".join(f"| `{value.path}` | {_default(value)} | {_cell(value.about)} |\n" for value in values)
    return f"\n## {title}\n\n{about and about + chr(10) * 2}| value | default | meaning |\n|---|---|---|\n{rows}"


def _default(value: Value) -> str:
    return "" if value.is_group else f"`{_cell(json.dumps(value.default))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT)
    into = parser.parse_args().into
    values = read(VALUES)
    files = {
        SCHEMA: json.dumps(schema_of(values), indent=2) + "\n",
        PAGE: page(values),
        DEFAULTS: defaults(yaml.safe_load(VALUES.read_text())),
    }
    for path, text in files.items():
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        (into / path).write_text(text)


if __name__ == "__main__":
    main()
