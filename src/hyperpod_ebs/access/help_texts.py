"""The end of the help of each access tool: examples of use, the JSON output, and the exit codes."""

import textwrap
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from hyperpod_ebs.access.exit_codes import OK

_OF_EVERY_TOOL: Final = {OK: "done", 1: "failure", 2: "wrong usage", 130: "interrupted with Ctrl-C"}
_NO_OTHERS: Final[Mapping[int, str]] = MappingProxyType({})


def epilogue(examples: Mapping[str, str], *, codes: Mapping[int, str] = _NO_OTHERS, json: str = "") -> str:
    """The end of a help text.

    Args:
        examples: What each command line is for, by the command line.
        codes: The meanings of exit codes that differ from those of every tool, or that other tools do not have.
        json: What `--output json` prints, as a phrase: "an array of volumes, each with id, state and size_gib".
    """
    parts = ["\n".join(["Examples:", *(f"  {line}\n{_paragraph(6, purpose)}" for line, purpose in examples.items())])]
    if json:
        parts.append(f"JSON output:\n{_paragraph(2, json)}")
    meanings = sorted({**_OF_EVERY_TOOL, **codes}.items())
    parts.append("\n".join(["Exit codes:", *(f"  {code:<3}  {meaning}" for code, meaning in meanings)]))
    return "\n\n".join(parts)


def _paragraph(columns: int, text: str) -> str:
    """The text, indented, in lines that fit a terminal of 80 columns."""
    return textwrap.fill(text, 78, initial_indent=" " * columns, subsequent_indent=" " * columns)
