"""What is made of the chart's values.yaml: its schema and its page, with --into=DIRECTORY or in their places.

The comment above a value is its documentation, its default says its type, and the
tables of `constraints` say what neither can. So a value is written down once.
"""

import argparse
import json
from pathlib import Path
from typing import Final

from values import Value, read, tree

ROOT: Final = Path(__file__).resolve().parents[2]
VALUES: Final = ROOT / "charts/hyperpod-ebs/values.yaml"
SCHEMA: Final = Path("charts/hyperpod-ebs/values.schema.json")
PAGE: Final = Path("docs/reference/chart-values.md")

HEAD: Final = """\
# Values of the chart

Made from `charts/hyperpod-ebs/values.yaml` by `make generate`. Names and meanings are those of the upstream driver's
chart; what is marked (ours) it does not have. A value that is misspelt, of the wrong type, or cannot be honoured is
refused by its name, at `helm install` and `helm template` alike.
"""


def page(values: list[Value]) -> str:
    """The values as Markdown: a table for each group at the top, and one for the values that stand there alone."""
    groups = [value for value in values if value.is_group and "." not in value.path]
    alone = [value for value in values if not value.is_group and "." not in value.path]
    sections = [_section(f"`{one.path}`", one.about, _inside(values, one.path)) for one in groups]
    return HEAD + "".join([*sections, _section("Alone", "", alone)])


def _inside(values: list[Value], group: str) -> list[Value]:
    """What stands in a group; of the groups in it, those that have something to say."""
    return [one for one in values if one.path.startswith(f"{group}.") and (one.about or not one.is_group)]


def _section(title: str, about: str, values: list[Value]) -> str:
    rows = "".join(f"| `{one.path}` | {_default(one)} | {_cell(one.about)} |\n" for one in values)
    return f"\n## {title}\n\n{about and about + chr(10) * 2}| value | default | what it is |\n|---|---|---|\n{rows}"


def _default(value: Value) -> str:
    return "" if value.is_group else f"`{_cell(json.dumps(value.default))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT)
    into = parser.parse_args().into
    values = read(VALUES)
    for path, text in ((SCHEMA, json.dumps(tree(values), indent=2) + "\n"), (PAGE, page(values))):
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        (into / path).write_text(text)


if __name__ == "__main__":
    main()
