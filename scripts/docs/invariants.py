"""INVARIANTS.md, made from the requirements that the tests claim."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.support.requirements import ROOT, SECTIONS, Requirement, Section, claims

PAGE: Final = "INVARIANTS.md"
_PUBLISHERS: Final = {
    "github.com": "CSI spec",
    "docs.aws.amazon.com": "AWS documentation",
    "kubernetes.io": "Kubernetes documentation",
    "cwe.mitre.org": "CWE-400",
}
HEAD: Final = """\
<!-- Made from tests/support/requirements.py by make generate; do not edit. -->

# Invariants

What always holds, and which tests prove it. A test claims an invariant by its id, `@pytest.mark.requirement("id")`;
an invariant that no test claims fails `tests/unit/test_requirements.py`, unless it says here what else enforces it or
that nothing does yet.
"""


def page() -> str:
    """The whole page."""
    proofs: dict[str, set[str]] = {}
    for claim in claims():
        proofs.setdefault(claim.id, set()).add(str(claim.path.relative_to(ROOT)))
    return "\n".join([HEAD, *(_section(section, proofs) for section in SECTIONS)])


def _section(section: Section, proofs: Mapping[str, set[str]]) -> str:
    lines = [f"## {section.title}", "", "| id | invariant | source | enforced by |", "|---|---|---|---|"]
    for id_, requirement in section.requirements.items():
        enforced = "; ".join(_enforcement(requirement, sorted(proofs.get(id_, ()))))
        lines.append(f"| `{id_}` | {_statement(requirement)} | {_source(requirement.source)} | {enforced} |")
    return "\n".join([*lines, ""])


def _statement(requirement: Requirement) -> str:
    """The sentence, and where the product departs from it."""
    return requirement.sentence + (f" **Departure:** {requirement.departure}" if requirement.departure else "")


def _enforcement(requirement: Requirement, files: list[str]) -> Iterator[str]:
    """The files whose tests claim it, the other checks, and the gap."""
    yield from (f"[{file.removeprefix('tests/')}]({file})" for file in files)
    if requirement.also:
        yield requirement.also
    if requirement.gap:
        yield f"not yet enforced: {requirement.gap}"


def _source(source: str) -> str:
    """A link to the source."""
    if number := re.fullmatch(r"decision (\d{4})", source):
        (record,) = (ROOT / "docs" / "decisions").glob(f"{number[1]}-*.md")
        return f"[{source}]({record.relative_to(ROOT)})"
    if not source.startswith("https://"):
        return f"[{Path(source).name}]({source})"
    address, _, heading = source.partition("#")
    name = _PUBLISHERS[address.split("/")[2]]
    return f"[{name}{f', {heading}' if heading else ''}]({source})"


def write(root: Path) -> None:
    """Write the page below a directory."""
    (root / PAGE).write_text(page())
