"""The command: one word for each process or job, and errors as one sentence.

Exit codes: 0 done, 1 failed, 2 misused, 130 interrupted.
"""

import json
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Final

from cyclopts import App, CycloptsError

from hyperpod_ebs import __version__
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.observe import structlog_without_rich

_FAILED: Final = 1
_MISUSED: Final = 2
_INTERRUPTED: Final = 130

_ALL: Final = "all"
_HOOK: Final = "pre-stop-hook"
_SERVES: Final = frozenset({"controller", "node", _ALL})
_LISTS: Final = frozenset({"--extra-tags", "--extra-volume-tags"})
_SHORT: Final = {"-v": "--v"}
_ASKS: Final = frozenset({"--help", "-h", "--version"})


def _version() -> str:
    """What runs, as JSON, in upstream's words where there are any."""
    said = {
        "driverVersion": __version__,
        "pythonVersion": platform.python_version(),
        "platform": f"{platform.system()}/{platform.machine()}".lower(),
    }
    return json.dumps(said, indent=2)


app = App(
    name="hyperpod-ebs",
    help="Amazon EBS volumes for SageMaker HyperPod clusters, and for plain EC2 nodes.",
    version=_version,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
# Named by their paths, so that each is imported only when it is called.
app.command(
    "hyperpod_ebs.driver.app.controller:run_controller", name="controller", help="Run the CSI controller service."
)
app.command("hyperpod_ebs.driver.app.node:run_node", name="node", help="Run the CSI node service.")
app.command("hyperpod_ebs.driver.app.all:run_all", name=_ALL, help="Run both CSI services on one socket.")
app.command(
    "hyperpod_ebs.driver.app.pre_stop_hook:run_pre_stop_hook",
    name=_HOOK,
    help="Wait until no volume is attached to this node any more, where the node is leaving.",
)
app.command(
    "hyperpod_ebs.driver.app.metadata_labeler:run_metadata_labeler",
    name=["metadata-labeler", "metadataLabeler"],
    help="Not offered, and not needed: nodes read their own labels.",
)
# The image for real clusters goes without these two.
if find_spec("hyperpod_ebs.emulator"):
    app.command("hyperpod_ebs.emulator.commands:app", name="emulator", help="Run and inspect the embedded cloud.")
if find_spec("hyperpod_ebs.demo"):
    app.command("hyperpod_ebs.demo.command:app", name="demo", help="Show the life of a volume on the embedded cloud.")


def main() -> None:
    """Run the command line."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """The exit code of a command line; what went wrong is told on stderr."""
    words = _as_upstream(words)
    if words and words[0] in {*_SERVES, _HOOK}:
        structlog_without_rich.load()
    try:
        answer = app(words, print_error=False, exit_on_error=False, result_action="return_value")
    except KeyboardInterrupt:
        return _INTERRUPTED
    except CycloptsError as error:
        return _told(str(error), _MISUSED)
    except Exception as error:  # noqa: BLE001 - nobody who types a command is shown a traceback
        misused = isinstance(error, errors.InvalidRequest)
        return _told("; ".join(_sentences(error)), _MISUSED if misused else _FAILED)
    return answer if isinstance(answer, int) else 0


def _as_upstream(words: Sequence[str]) -> Sequence[str]:
    """The command line as upstream reads it.

    Only flags run both services in one process; of a flag that is given twice, as a chart's default and then among
    its additional arguments, the last one counts.
    """
    flags_alone = bool(words) and words[0].startswith("-") and words[0] not in _ASKS
    words = [_ALL, *words] if flags_alone else words
    return _last_of_each(words) if words and words[0] in _SERVES else words


def _last_of_each(words: Sequence[str]) -> Sequence[str]:
    """The words without flags, `--flag=value`, that come again later."""
    last = {flag: number for number, word in enumerate(words) if (flag := _set_by(word))}
    return [word for number, word in enumerate(words) if last.get(_set_by(word), number) == number]


def _set_by(word: str) -> str:
    """The flag that a word sets; none where it is another word, or adds to a list."""
    flag, equals, _ = word.partition("=")
    return _SHORT.get(flag, flag) if equals and flag.startswith("-") and flag not in _LISTS else ""


def _told(sentence: str, code: int) -> int:
    sys.stderr.write(f"hyperpod-ebs: {' '.join(sentence.split())}\n")
    return code


def _sentences(error: BaseException) -> Iterator[str]:
    """What went wrong, once for each of a group; a fault of ours also says of which kind."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _sentences(one)
    elif isinstance(error, errors.Error):
        yield str(error)
    else:
        yield f"{error} ({type(error).__name__})"


if __name__ == "__main__":
    main()
