"""The commands in the guides: read from the Markdown, and run in one shell as a reader would run them.

A block of shell says after its language what it is:

    sh settings   names that the reader gives values to; a test sets its own values
    sh run        commands that the tests run, one block after the other, in one shell
    sh fails      the same, and the last command fails
    sh shown      commands that cannot be run here; the comment above says why: <!-- shown: why -->

A page that offers a choice runs all its alternatives, one after the other. Where an alternative begins elsewhere than
the one before it ended, a comment above its block has the commands that the tests run first: <!-- before: commands -->

A block of `text` right after commands has lines of their output, in this order; an ellipsis
stands for any text.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

import yaml

from hyperpod_ebs.kit import command

ROOT: Final = Path(__file__).parents[2]
GUIDES: Final = ROOT / "docs" / "guides"
TUTORIALS: Final = ROOT / "docs" / "tutorial"

BY_HAND: Final = GUIDES / "by-hand.md"
"""Needs a node, but no Kubernetes and no driver."""

LEFTOVERS: Final = GUIDES / "leftovers.md"
"""Needs volumes that are weeks old."""

ANYTHING: Final = "…"

_BLOCK: Final = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_REASON: Final = re.compile(r"<!-- shown: (.+?) -->\s*\Z", re.DOTALL)
_PREPARATION: Final = re.compile(r"<!-- before: (.+?) -->\s*\Z", re.DOTALL)
_SETTING: Final = re.compile(r"^(\w+)=", re.MULTILINE)
_HERE_DOCUMENT: Final = re.compile(r"<<'?EOF'?\n(.*?)^EOF$", re.DOTALL | re.MULTILINE)
_FILE: Final = re.compile(r"^cat >>?(\S+) <<EOF\n(.*?)^EOF$", re.DOTALL | re.MULTILINE)

_MESSAGE: Final = re.compile(r"^\| `([^`]+)`(?: \(([\w-]+)\))? \|", re.MULTILINE)
_FIELD: Final = re.compile(r'…|ebs\.csi\.aws\.com|"\w+"')
"""What a program fills in: any text, the driver's name, or a quoted word."""

_DEADLINE: Final = 540.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block."""

    info: str
    text: str
    line: int
    before: str
    """The text between the previous block and this one."""

    @property
    def reason(self) -> str | None:
        """Why the block is not run, as its comment says."""
        comment = _REASON.search(self.before)
        return comment[1] if comment else None

    @property
    def preparation(self) -> str:
        """The commands that the tests run first, as its comment says."""
        comment = _PREPARATION.search(self.before)
        return comment[1] if comment else ""

    @property
    def documents(self) -> Iterator[Any]:  # what YAML holds
        """The YAML documents in its here-documents."""
        for text in _HERE_DOCUMENT.findall(self.text):
            yield from yaml.safe_load_all(text)

    @property
    def files(self) -> Mapping[str, str]:
        """The files that it writes or appends to, by their names."""
        return dict(_FILE.findall(self.text))


@dataclass(frozen=True, slots=True)
class Page:
    """A guide."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """The page in a file."""
        return cls(path, path.read_text())

    @property
    def blocks(self) -> list[Block]:
        """Its blocks in their order."""
        blocks, end = [], 0
        for match in _BLOCK.finditer(self.text):
            line = self.text.count("\n", 0, match.start()) + 1
            blocks.append(
                Block(info=match["info"], text=match["text"], line=line, before=self.text[end : match.start()])
            )
            end = match.end()
        return blocks

    @property
    def commands(self) -> list[Block]:
        """The blocks that are run."""
        return [block for block in self.blocks if block.info in {"sh run", "sh fails"}]

    @property
    def prose(self) -> str:
        """The page without its blocks."""
        return _BLOCK.sub("", self.text)

    @property
    def settings(self) -> list[str]:
        """The names that a reader gives values to."""
        return [name for block in self.blocks if block.info == "sh settings" for name in _SETTING.findall(block.text)]

    def expected_output(self, block: Block) -> list[str]:
        """The lines of a block's output that the page shows."""
        after = next((right for left, right in pairwise(self.blocks) if left == block), None)
        if after is None or after.info != "text" or after.before.strip():
            return []
        return [line.strip() for line in after.text.splitlines() if line.strip()]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedMessage:
    """A message in the first column of a table of what a user sees."""

    text: str
    program: str | None
    """The program that writes it; None for the driver."""


def quoted_messages() -> list[QuotedMessage]:
    """The messages that the guides explain: in troubleshooting.md, and where a page says what can go wrong."""
    texts = [path.read_text().partition("\n## What can go wrong\n")[2] for path in sorted(GUIDES.glob("*.md"))]
    found = _MESSAGE.findall("\n".join([(GUIDES / "troubleshooting.md").read_text(), *texts]))
    return [QuotedMessage(text=text, program=program or None) for text, program in found]


def constant_parts(text: str) -> list[str]:
    """The parts of a message that its program does not fill in."""
    return [part for part in _FIELD.split(text) if part.strip()]


class PageMismatch(AssertionError):  # noqa: N818 - reads as what happened
    """A command of a page failed, or did not print what the page shows."""


async def run_page(
    page: Page,
    directory: Path,
    settings: Mapping[str, str],
    environment: Mapping[str, str],
    *,
    deadline: float = _DEADLINE,
) -> None:
    """Run all commands of a page in `directory`, within `deadline` seconds.

    Raises:
        PageMismatch: A command failed, or did not print what the page shows.
    """
    missing = set(page.settings) - settings.keys()
    if missing:
        raise PageMismatch(f"{page.path.name} asks for {', '.join(sorted(missing))}, which the test does not set")
    blocks = page.commands
    script = directory / "commands.sh"
    script.touch(mode=0o600)  # the environment has the cloud's keys
    script.write_text(_script(blocks, directory, environment, {name: settings[name] for name in page.settings}))
    finished = await command.run(["bash", str(script)], deadline=deadline, ok=frozenset(range(256)))
    outputs = finished.out.split(_MARK)[1:]
    for block, output in zip(blocks, outputs, strict=False):
        position = f"{page.path.name}:{block.line}"
        last = block is blocks[len(outputs) - 1]
        if last and finished.code:
            raise PageMismatch(f"{position}: exit code {finished.code} of\n{block.text}\nwhich printed\n{output}")
        if missing_line := next(missing_lines(page.expected_output(block), output), None):
            raise PageMismatch(f"{position}: the page shows {missing_line!r}, and the output is:\n{output}")


_MARK: Final = "\n@@ block\n"


def _script(blocks: list[Block], directory: Path, environment: Mapping[str, str], settings: Mapping[str, str]) -> str:
    lines = ["set -euo pipefail", "exec 2>&1", f"cd {directory}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    lines += [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
    for block in blocks:
        lines += [block.preparation, f"printf %s {shlex.quote(_MARK)}"]
        if block.info == "sh fails":
            lines += ["if (", block.text, "); then exit 99; fi"]
        else:
            lines.append(block.text)
    return "\n".join(lines)


def missing_lines(expected: list[str], output: str) -> Iterator[str]:
    """The expected lines that the output does not have after the line before."""
    rest = iter(output.splitlines())
    for line in expected:
        pattern = re.compile(r"\s+".join(map(_word_pattern, line.split())))
        if not any(pattern.search(printed) for printed in rest):
            yield line


def _word_pattern(word: str) -> str:
    return ".*".join(map(re.escape, word.split(ANYTHING)))
