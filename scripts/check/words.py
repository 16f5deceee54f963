"""Report words and phrases that have a plainer alternative: words.py [--count] [PATH...].

The list holds what once made this project hard to read. It is a reminder, not a proof of plain English:
a sentence that avoids these words can still be a bad one (STYLE.md, Plain English). Exits with 1 if
anything was found. `allow-word` in a line exempts it, for quotations.
"""

import argparse
import re
import subprocess  # noqa: TID251 - a script of its own, without the package
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ENDINGS: Final = frozenset({".md", ".py", ".sh", ".tpl", ".txt", ".yaml", ".yml", ".toml", ""})
SKIPPED: Final = (
    "src/hyperpod_ebs/pb/",
    "requirements/",
    "LICENSE",
    "tests/chart/snapshots/",
    "scripts/check/",
    "image/passwd",
)

PATTERNS: Final = {
    r"told|tells?(?! [^.]*\bapart\b)|telling": "report, log, show or say",
    r"nobody|no one": "name the actor: no process, no user, no caller",
    r"somebody|someone": "name the actor: another process, the user",
    r"anybody|anyone": "name the actor: any process, any user",
    r"whoever|whatever|whichever|wherever": "name what is meant: the caller, any file",
    r"(?:of|by) (?:ours|theirs|yours|its own accord)": "the driver's, this project's, the emulator's",
    r"ours\b(?=:)": "a source that a stranger can open, or the reason, or nothing",
    r"[Tt]he issue (?:asks|says|wants|names|demands)": "a source that a stranger can open, or the reason, or nothing",
    r'"""(?:The )?(?:Issues?|Guide|Design)\b|Issue \d+, section': "a source that a stranger can open, or the reason",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"bears?|bore|borne": "tolerate, carry, have",
    r"(?<!there )(?:is|are|was|were) no(?! longer| more than| later| less|$)": "is not a; say what it is",
    r"anew": "again, from scratch",
    r"neither has (?:it|they)|nor has": "subject, verb, object",
    r"goes on|go on|went on|going on": "continue, keep running, happen",
    r"comes? (?:along|out of it)": "include, bring",
    r"whereabouts": "location: partition, region, account",
    r"(?:is|are) to (?:be|have) (?:had|got)": "is available",
    r"for (?:whom|whose sake)": "subject, verb, object",
    r"for the (?:want|lack) of": "because ... is missing",
    r"in want of|wanting": "missing, needs",
    r"alike": "the same",
    r"minded|minds it": "watched, supervised",
    r"take[ns]? for granted": "assume, need",
    r"has come to|have come to": "say what happened",
    r"stands? (?:beside|above|below|there|alone) ": "is next to, is in",
    r"may well": "can",
    r"lest": "so that ... not",
    r"aloud": "in the log",
    r"at the (?:most|least)": "at most, at least",
    r"by (?:itself|themselves) alone": "on its own",
    r"save for|but for": "except",
    r"hereby|herein|hereof|thereof|therein|whereby|wherein|thereby": "plain words",
    r"asunder|befall|behold|betimes|bethink|heed|hither|thither|whence|hence|thence": "plain words",
}

_COMPILED: Final = [
    (re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])", re.IGNORECASE), plain) for pattern, plain in PATTERNS.items()
]


def findings(path: Path) -> Iterator[str]:
    """Each listed word in a file, with its place and the alternative."""
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if "allow-word" in line:
            continue
        for pattern, plain in _COMPILED:
            for match in pattern.finditer(line):
                yield f"{path}:{number}: {match[0].strip()!r}: {plain}"


def main() -> int:
    """Print the findings and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", action="store_true", help="print only how many there are")
    parser.add_argument("paths", nargs="*", help="files or directories; all committed files if none is given")
    options = parser.parse_args()
    listed = subprocess.run(  # noqa: S603 - git, by name
        ["git", "ls-files", "--", *options.paths],  # noqa: S607 - the same
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    files = [Path(name) for name in listed if Path(name).suffix in ENDINGS and not name.startswith(SKIPPED)]
    found = [one for file in files if file.is_file() for one in findings(file)]
    if not options.count:
        sys.stdout.writelines(f"{one}\n" for one in found)
    sys.stdout.write(f"{len(found)} words with a plainer alternative\n")
    return 1 if found and not options.count else 0


if __name__ == "__main__":
    sys.exit(main())
