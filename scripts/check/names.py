"""Report functions whose name is a bare participle or starts with a preposition: names.py [--count] [PATH...].

An effect is an imperative verb, an answer is a noun or a predicate (STYLE.md, Names). `_lost`, `held` and
`_of_controller` are none of those. Properties, classes and dunder methods are looked at too; `settled` is a
predicate. Exits with 1 if anything was found.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

SOURCES: Final = ("src", "localcluster", "bench", "scripts", "examples", "tests")
GENERATED: Final = "src/hyperpod_ebs/pb"

_IRREGULAR = (
    "begun borne bound bought broken brought built caught chosen cut done drawn driven fallen felt found fought frozen "
    "given gone got grown had heard held hidden hung kept known laid led left lent let lost made meant met paid put "
    "ridden risen run said seen sent set shaken shown shut slept sold sought spent split spoken spread stolen stood "
    "struck stuck sworn taken taught thought told torn understood woken won worn wound written"
)
IRREGULAR: Final = frozenset(_IRREGULAR.split())
VERBS: Final = frozenset({"cut", "let", "put", "run", "set", "shut", "split", "spread"})
"""Participles that are imperatives as well."""

NOT_PARTICIPLES: Final = frozenset({"embed", "exceed", "feed", "need", "proceed", "seed", "speed", "succeed", "shed"})
PREDICATES: Final = frozenset({"settled"})
PREPOSITIONS: Final = frozenset({"at", "below", "beside", "by", "in", "of", "over", "under", "upon"})
_CONNECTORS = (
    "after again all alone and apart as away back before behind between down for from here into it off on once out "
    "since so than that them then there through to together up what when where with within without"
)
CONNECTORS: Final = PREPOSITIONS | frozenset(_CONNECTORS.split())


class Finding(NamedTuple):
    """A function whose name needs decoding."""

    path: Path
    line: int
    name: str
    is_async: bool

    def __str__(self) -> str:
        """The place and the name, as an editor understands it."""
        return f"{self.path}:{self.line}: {'async ' * self.is_async}{self.name}"


def is_participle(word: str) -> bool:
    """Whether `word` is a past participle and no imperative."""
    if word in NOT_PARTICIPLES | VERBS:
        return False
    return word in IRREGULAR or (word.endswith("ed") and len(word) > len("need"))


def needs_decoding(name: str) -> bool:
    """Whether a function's name says neither what it does nor what it answers."""
    words = [word for word in name.strip("_").split("_") if word]
    if not words or name in PREDICATES or (name.startswith("__") and name.endswith("__")):
        return False
    if words[0] in PREPOSITIONS:
        return True
    return is_participle(words[0]) and (len(words) == 1 or words[1] in CONNECTORS)


def findings(path: Path) -> Iterator[Finding]:
    """The functions of a module with such names; tests are named by sentences and are left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("test_"):
            is_async = isinstance(node, ast.AsyncFunctionDef)
            if needs_decoding(node.name) or (is_async and is_participle(node.name.strip("_").split("_")[0])):
                yield Finding(path, node.lineno, node.name, is_async)


def main() -> int:
    """Print the findings and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", action="store_true", help="print only how many there are")
    parser.add_argument("paths", nargs="*", type=Path, help="files or directories; all sources if none is given")
    options = parser.parse_args()
    paths = options.paths or [Path(source) for source in SOURCES]
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
    found = [one for file in files if not file.is_relative_to(GENERATED) for one in findings(file)]
    if not options.count:
        for one in sorted(found):
            sys.stdout.write(f"{one}\n")
    sys.stdout.write(f"{len(found)} functions with such names, {sum(one.is_async for one in found)} of them async\n")
    return 1 if found and not options.count else 0


if __name__ == "__main__":
    sys.exit(main())
