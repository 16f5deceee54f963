"""What the demo draws, without a demo: bars of states, the live picture, the closing table."""

import io
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import pytest
from rich.console import Console

from hyperpod_ebs.demo import picture, screen, timeline
from hyperpod_ebs.demo.picture import Picture
from hyperpod_ebs.demo.report import Moment, Report, Step
from hyperpod_ebs.sandbox.sandbox import Leftovers

VOLUME: Final = "vol-0123456789abcdef0"
LONG: Final = Step(
    name="snapshot while writing goes on",
    seconds=123.456,
    calls={"ec2:DescribeVolumesModifications": 12, "sagemaker:AttachClusterNodeVolume": 1, "ec2:CreateVolume": 4},
    result=f"{VOLUME}: digests as written, journal ends at line 1234: the moment of the snapshot",
)


def moments(*states: tuple[float, str]) -> list[Moment]:
    """The history of one volume."""
    return [Moment(volume=VOLUME, state=state, instant=instant) for instant, state in states]


class Life(NamedTuple):
    """A history over ten seconds, and its bar of ten letters."""

    history: Sequence[tuple[float, str]]
    bar: str
    id: str


LIVES: Final = [
    Life([(0, "creating"), (2, "available"), (10, "deleting")], "c--------x", "each state from when it begins"),
    Life([(0, "creating"), (5, "deleting"), (8, "deleted"), (10, "deleted")], "ccccxxx", "nothing once it is gone"),
    Life([(0, "in-use"), (0, "attaching"), (5, "attached"), (10, "attached")], ">>>>######", "an attachment's state"),
    Life(
        [(0, "in-use"), (2, "modifying"), (4, "optimizing"), (6, "completed"), (10, "in-use")],
        "#mmoo#####",
        "a modification's state while it is in use",
    ),
    Life(
        [(0, "in-use"), (2, "optimizing"), (4, "detaching"), (6, "available"), (10, "deleting")],
        "#oo<<----x",
        "the volume's own state when it is not",
    ),
]


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.id)
def test_a_bar_shows_the_state_at_each_time(life: Life) -> None:
    """Ours: what the cloud has noted, in letters where there are no colours."""
    lines = timeline.lines(moments(*life.history), width=len(VOLUME) + 2 + 10, colours=False)

    assert lines[0].plain == f"{VOLUME}  {life.bar}"
    assert lines[1].plain.endswith("10 s")


def test_a_running_picture_keeps_its_scale_for_a_while() -> None:
    """Ours: a bar that is drawn anew every moment is calm only if it does not stretch every moment."""
    history = moments((100, "creating"), (101, "available"))

    early, later = (timeline.lines(history, width=60, colours=False, now=now, least=15) for now in (104, 109))

    assert early[1].plain == later[1].plain
    assert early[1].plain.endswith("15 s")
    assert later[0].plain.startswith(early[0].plain)


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("rows", [16, 24, 50])
def test_the_live_picture_never_outgrows_the_terminal(columns: int, rows: int) -> None:
    """Ours: what does not fit cannot be drawn over, and would fill the screen with copies."""
    console = Console(file=io.StringIO(), width=columns, height=rows, force_terminal=True, color_system="256")
    live = Picture()
    life = [state for state in timeline.LOOKS if state != "busy"]
    live.moved(
        [Moment(volume=f"vol-{n:017x}", state=state, instant=n + at) for n in range(4) for at, state in enumerate(life)]
    )
    for number in range(19):
        live.began(f"step {number}")
        live.ended(LONG)
    live.began(LONG.name)

    console.print(live)

    assert isinstance(console.file, io.StringIO)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue()).splitlines()
    assert len(lines) < rows
    assert max(map(len, lines)) <= columns
    assert any(LONG.name in line and "123.46 s" in line for line in lines)


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_the_closing_table_fits_and_has_every_word(columns: int) -> None:
    """Ours: nothing is cut off at the end, and lines stay as short as people read them."""
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    node = "hyperpod-0123456789ab-i-0123456789abcdef0"
    attach = Step(name="attach to node-1", seconds=0.0, calls={}, result=f"by SageMaker, to {node}")
    report = Report(
        profile="aws",
        seconds=1.0,
        steps=(LONG, attach, LONG),
        history=tuple(moments((0, "creating"), (10, "available"))),
        leftovers=Leftovers(),
    )

    console.print(*picture.closing(report, console), sep="\n")

    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= min(columns, picture.WIDEST)
    assert "…" not in shown
    words = {*LONG.result.split(), "246.91", "34", "CreateVolume", "x4,", "c", "creating"}
    assert words <= set(shown.split())
    assert node[:30] in shown
    assert node[-5:] in shown


def test_operations_of_one_name_are_told_with_their_service() -> None:
    """Ours: EKS and SageMaker both have CreateCluster."""
    assert (
        picture.calls_text({"eks:CreateCluster": 1, "sagemaker:CreateCluster": 1, "ec2:DescribeVolumes": 3})
        == "DescribeVolumes x3, eks:CreateCluster, sagemaker:CreateCluster"
    )
    assert picture.calls_text({}) == "none"


def test_a_terminal_that_cannot_be_drawn_over_gets_lines() -> None:
    """Ours: an editor's shell, say; what it is shown can be read."""
    console = Console(file=io.StringIO(), width=80, force_terminal=True, _environ={"TERM": "dumb"})

    with screen.shown(console) as shown:
        shown.began("one")
        shown.ended(Step(name="one", seconds=0.5, calls={}, result="done"))

    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "   0.50 s  one: done  [none]\n"


def test_what_stood_at_any_look_is_told() -> None:
    """Ours: what the product left is not made good by the janitor's having removed it."""
    first = Leftovers(mounts=("/a",), processes=("1",))
    later = Leftovers(mounts=("/a", "/b"), directories=("/d",))

    told = first.union(later)

    assert told == Leftovers(mounts=("/a", "/b"), processes=("1",), directories=("/d",))
    assert Leftovers().union(Leftovers()) == Leftovers()
