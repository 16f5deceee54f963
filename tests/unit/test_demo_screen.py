"""What the demo prints: bars of volume states, the live view, and the final table."""

import io
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import pytest
from rich.console import Console

from hyperpod_ebs.demo import live_view, screen, timeline
from hyperpod_ebs.demo.live_view import LiveView
from hyperpod_ebs.demo.report import Moment, Report, Step
from hyperpod_ebs.sandbox.sandbox import Leftovers

VOLUME: Final = "vol-0123456789abcdef0"
LONG: Final = Step(
    name="take a snapshot during writes",
    seconds=123.456,
    calls={"ec2:DescribeVolumesModifications": 12, "sagemaker:AttachClusterNodeVolume": 1, "ec2:CreateVolume": 4},
    result=f"{VOLUME}: digests are correct, the journal ends at line 1234, written during the snapshot",
)


def moments(*states: tuple[float, str]) -> list[Moment]:
    """The history of one volume."""
    return [Moment(volume=VOLUME, state=state, instant=instant) for instant, state in states]


class Bar(NamedTuple):
    """A history of ten seconds, and the ten letters that show it."""

    history: Sequence[tuple[float, str]]
    letters: str
    id: str


BARS: Final = [
    Bar([(0, "creating"), (2, "available"), (10, "deleting")], "c--------x", "each state begins at its time"),
    Bar(
        [(0, "creating"), (5, "deleting"), (8, "deleted"), (10, "deleted")],
        "ccccxxx",
        "nothing after deletion",
    ),
    Bar([(0, "in-use"), (0, "attaching"), (5, "attached"), (10, "attached")], ">>>>######", "an attachment's state"),
    Bar(
        [(0, "in-use"), (2, "modifying"), (4, "optimizing"), (6, "completed"), (10, "in-use")],
        "#mmoo#####",
        "a modification's state while it is in use",
    ),
    Bar(
        [(0, "in-use"), (2, "optimizing"), (4, "detaching"), (6, "available"), (10, "deleting")],
        "#oo<<----x",
        "the volume's own state when it is not in use",
    ),
]


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: bar.id)
def test_a_bar_shows_the_state_at_each_time(bar: Bar) -> None:
    """Output without colours shows the emulator's history in letters."""
    lines = timeline.lines(moments(*bar.history), width=len(VOLUME) + 2 + 10, colours=False)

    assert lines[0].plain == f"{VOLUME}  {bar.letters}"
    assert lines[1].plain.endswith("10 s")


def test_the_scale_of_the_live_view_grows_in_steps() -> None:
    """A bar that changed its scale at each refresh would flicker."""
    history = moments((100, "creating"), (101, "available"))

    early, later = (timeline.lines(history, width=60, colours=False, now=now, scale_step=15) for now in (104, 109))

    assert early[1].plain == later[1].plain
    assert early[1].plain.endswith("15 s")
    assert later[0].plain.startswith(early[0].plain)


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("rows", [16, 24, 50])
def test_the_live_view_always_fits_the_terminal(columns: int, rows: int) -> None:
    """Lines that do not fit cannot be drawn over, and would fill the screen with copies."""
    console = Console(file=io.StringIO(), width=columns, height=rows, force_terminal=True, color_system="256")
    view = LiveView()
    states = [state for state in timeline.APPEARANCES if state != "busy"]
    view.update_history(
        [
            Moment(volume=f"vol-{n:017x}", state=state, instant=n + at)
            for n in range(4)
            for at, state in enumerate(states)
        ]
    )
    for number in range(19):
        view.start_step(f"step {number}")
        view.finish_step(LONG)
    view.start_step(LONG.name)

    console.print(view)

    assert isinstance(console.file, io.StringIO)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue()).splitlines()
    assert len(lines) < rows
    assert max(map(len, lines)) <= columns
    assert any(LONG.name in line and "123.46 s" in line for line in lines)


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_the_final_table_fits_the_terminal_and_cuts_nothing_off(columns: int) -> None:
    """In a wide terminal it stays narrow enough to read."""
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    node = "hyperpod-0123456789ab-i-0123456789abcdef0"
    attach = Step(name="attach to node-1", seconds=0.0, calls={}, result=f"SageMaker attached it to {node}")
    report = Report(
        profile="aws",
        seconds=1.0,
        steps=(LONG, attach, LONG),
        history=tuple(moments((0, "creating"), (10, "available"))),
        leftovers=Leftovers(),
    )

    console.print(*live_view.final_view(report, console), sep="\n")

    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= min(columns, live_view.MAX_WIDTH)
    assert "…" not in shown
    words = {*LONG.result.split(), "246.91", "34", "CreateVolume", "x4,", "c", "creating"}
    assert words <= set(shown.split())
    assert node[:30] in shown
    assert node[-5:] in shown


def test_operations_with_the_same_name_are_shown_with_their_service() -> None:
    """EKS and SageMaker both have CreateCluster."""
    assert (
        live_view.calls_text({"eks:CreateCluster": 1, "sagemaker:CreateCluster": 1, "ec2:DescribeVolumes": 3})
        == "DescribeVolumes x3, eks:CreateCluster, sagemaker:CreateCluster"
    )
    assert live_view.calls_text({}) == "none"


def test_a_terminal_that_cannot_redraw_gets_plain_lines() -> None:
    """A shell inside an editor is such a terminal: it has TERM=dumb."""
    console = Console(file=io.StringIO(), width=80, force_terminal=True, _environ={"TERM": "dumb"})

    with screen.open_screen(console) as shown:
        shown.start_step("one")
        shown.finish_step(Step(name="one", seconds=0.5, calls={}, result="done"))

    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "   0.50 s  one: done  [AWS calls: none]\n"


def test_the_union_of_two_checks_has_the_leftovers_of_both_once() -> None:
    """The report has what the processes left, even if the janitor has removed it since."""
    first = Leftovers(mounts=("/a",), processes=("1",))
    later = Leftovers(mounts=("/a", "/b"), directories=("/d",))

    union = first.union(later)

    assert union == Leftovers(mounts=("/a", "/b"), processes=("1",), directories=("/d",))
    assert Leftovers().union(Leftovers()) == Leftovers()
