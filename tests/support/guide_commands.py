"""The guides as a reader types them: their commands, taken out of the Markdown, and a shell that runs them.

A block of shell says after its language what it is:

    sh settings   names that the reader gives values to; a test gives its own
    sh run        commands, all run by the tests, one block after the other in one shell
    sh fails      the same, and the last of them is refused
    sh shown      commands that cannot be run here; the comment above says why: <!-- shown: why -->

A block of `text` right after commands has lines of what they print, in that order; an ellipsis
stands for anything.
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
DIRECTORY: Final = ROOT / "docs" / "guides"

ANYTHING: Final = "…"

_BLOCK: Final = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_WHY: Final = re.compile(r"<!-- shown: (.+?) -->\s*\Z", re.DOTALL)
_ASSIGNED: Final = re.compile(r"^(\w+)=", re.MULTILINE)
_HERE: Final = re.compile(r"<<'?EOF'?\n(.*?)^EOF$", re.DOTALL | re.MULTILINE)
_FILE: Final = re.compile(r"^cat >>?(\S+) <<EOF\n(.*?)^EOF$", re.DOTALL | re.MULTILINE)

_DEADLINE: Final = 540.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block."""

    info: str
    text: str
    line: int
    before: str
    """What stands between it and the block before."""

    @property
    def why(self) -> str | None:
        """The reason that is given for not running it."""
        found = _WHY.search(self.before)
        return found[1] if found else None

    @property
    def documents(self) -> Iterator[Any]:  # what YAML holds
        """What its here-documents hold."""
        for text in _HERE.findall(self.text):
            yield from yaml.safe_load_all(text)

    @property
    def files(self) -> Mapping[str, str]:
        """The files that it writes, or adds to, by their names."""
        return dict(_FILE.findall(self.text))


@dataclass(frozen=True, slots=True)
class Page:
    """A guide."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """The one in this file."""
        return cls(path, path.read_text())

    @property
    def blocks(self) -> list[Block]:
        """Its blocks in their order."""
        found, end = [], 0
        for match in _BLOCK.finditer(self.text):
            line = self.text.count("\n", 0, match.start()) + 1
            found.append(
                Block(info=match["info"], text=match["text"], line=line, before=self.text[end : match.start()])
            )
            end = match.end()
        return found

    @property
    def typed(self) -> list[Block]:
        """What of it is run."""
        return [one for one in self.blocks if one.info in {"sh run", "sh fails"}]

    @property
    def prose(self) -> str:
        """The page without its blocks."""
        return _BLOCK.sub("", self.text)

    @property
    def settings(self) -> list[str]:
        """The names that a reader gives values to."""
        return [name for one in self.blocks if one.info == "sh settings" for name in _ASSIGNED.findall(one.text)]

    def shows(self, block: Block) -> list[str]:
        """The lines that the page promises of a block's output."""
        after = next((right for left, right in pairwise(self.blocks) if left == block), None)
        adjoins = after is not None and after.info == "text" and not after.before.strip()
        return [line.strip() for line in after.text.splitlines() if line.strip()] if after and adjoins else []


class Refuted(AssertionError):  # noqa: N818 - reads as what happened
    """A page promises what is not so."""


async def typed(
    page: Page,
    directory: Path,
    settings: Mapping[str, str],
    environment: Mapping[str, str],
    *,
    deadline: float = _DEADLINE,
) -> None:
    """Run all of a page's commands, in `directory`, within so many seconds.

    Raises:
        Refuted: A command failed, or did not print what the page shows.
    """
    missing = set(page.settings) - settings.keys()
    if missing:
        raise Refuted(f"{page.path.name} asks for {', '.join(sorted(missing))}, which the tests have no value for")
    blocks = page.typed
    script = directory / "typed.sh"
    script.touch(mode=0o600)  # the environment has the cloud's keys
    script.write_text(_script(blocks, directory, environment, {name: settings[name] for name in page.settings}))
    finished = await command.run(["bash", str(script)], deadline=deadline, ok=frozenset(range(256)))
    parts = finished.out.split(_MARK)[1:]
    for block, printed in zip(blocks, parts, strict=False):
        where = f"{page.path.name}:{block.line}"
        last = block is blocks[len(parts) - 1]
        if last and finished.code:
            raise Refuted(f"{where}: exit code {finished.code} of\n{block.text}\nwhich printed\n{printed}")
        if lacks := next(_lacking(page.shows(block), printed), None):
            raise Refuted(f"{where}: the page shows {lacks!r}, and this was printed:\n{printed}")


_MARK: Final = "\n@@ block\n"


def _script(blocks: list[Block], directory: Path, environment: Mapping[str, str], settings: Mapping[str, str]) -> str:
    lines = ["set -euo pipefail", "exec 2>&1", f"cd {directory}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    lines += [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
    for block in blocks:
        lines.append(f"printf %s {shlex.quote(_MARK)}")
        if block.info == "sh fails":
            lines += ["if (", block.text, "); then exit 99; fi"]
        else:
            lines.append(block.text)
    return "\n".join(lines)


def _lacking(shown: list[str], printed: str) -> Iterator[str]:
    """The lines that were not printed after the one before."""
    rest = iter(printed.splitlines())
    for line in shown:
        wanted = re.compile(r"\s+".join(map(_pattern, line.split())))
        if not any(wanted.search(one) for one in rest):
            yield line


def _pattern(word: str) -> str:
    return ".*".join(map(re.escape, word.split(ANYTHING)))
