"""The states of volumes over time: a bar for each volume.

The history has the moments of a volume, of its attachments and of its modifications
in one row. A volume's state is the last of the first two; while it is in use, a
modification shows instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from hyperpod_ebs.demo.report import Moment


@dataclass(frozen=True, slots=True)
class Look:
    """How a state shows."""

    letter: str
    """Without colours."""
    colour: str


LOOKS: Final[Mapping[str, Look]] = {
    "creating": Look("c", "yellow"),
    "available": Look("-", "cyan"),
    "attaching": Look(">", "bright_yellow"),
    "in-use": Look("#", "green"),
    "modifying": Look("m", "bright_magenta"),
    "optimizing": Look("o", "blue"),
    "detaching": Look("<", "magenta"),
    "busy": Look("!", "bright_red"),
    "deleting": Look("x", "red"),
}
"""In the order of a volume's life."""

_SAME: Final = {"attached": "in-use", "detached": "available"}
_MODIFICATION: Final = {"modifying", "optimizing", "completed"}
_LINE: Final = "━"
_GAP: Final = 2


def lines(
    history: Sequence[Moment], *, width: int, colours: bool, now: float | None = None, least: float = 0.0
) -> list[Text]:
    """A line for each volume, the seconds below, and what the states look like; none without a history.

    Args:
        history: In the order of time.
        width: Cells that a line may take.
        colours: Whether states are told apart by colour, or else by letter.
        now: Unix seconds at which the lines end; with the last moment, unless told.
        least: Seconds that the width stands for at least: a picture that is drawn again and again
            takes full ones of these, so that its scale stays as it is for a while.
    """
    if not history:
        return []
    first, last = history[0].instant, max(now or 0.0, *(moment.instant for moment in history))
    span = -(-(last - first) // least) * least if least else max(last - first, 0.001)
    volumes = list(dict.fromkeys(moment.volume for moment in history))
    label = max(map(len, volumes)) + _GAP
    cells = max(width - label, 1)
    dim = "dim" if colours else ""
    drawn = [Text(volume.ljust(label), dim) for volume in volumes]
    used: set[str] = set()
    for line, volume in zip(drawn, volumes, strict=True):
        moments = [moment for moment in history if moment.volume == volume]
        for state in states(
            moments, first=first, last=last, ends=[first + span * (n + 1) / cells for n in range(cells)]
        ):
            used.add(state)
            line.append_text(_cell(state, colours=colours))
        line.rstrip()
    scale = Text(" " * label + "0 s" + f"{span:.0f} s".rjust(max(cells - len("0 s"), 0)), dim)
    return [*drawn, scale, *_legend([state for state in LOOKS if state in used], width=width, colours=colours)]


def states(moments: Sequence[Moment], *, first: float, last: float, ends: Sequence[float]) -> list[str]:
    """The state of one volume at each of the instants `ends`; empty where there is no volume, and after `last`."""
    found, next_, base, modification = [], 0, "", ""
    before = first
    for end in ends:
        while next_ < len(moments) and moments[next_].instant <= end:
            state = moments[next_].state
            if state in _MODIFICATION:
                modification = state
            else:
                base = _SAME.get(state, state)
            next_ += 1
        shown = modification if base == "in-use" and modification in LOOKS else base
        found.append(shown if shown in LOOKS and before < last else "")
        before = end
    return found


def _cell(state: str, *, colours: bool) -> Text:
    if not state:
        return Text(" ")
    return Text(_LINE, LOOKS[state].colour) if colours else Text(LOOKS[state].letter)


def _legend(used: Sequence[str], *, width: int, colours: bool) -> list[Text]:
    """The states with their looks, in as many lines as they take."""
    rows: list[Text] = []
    for state in used:
        key = Text.assemble(_cell(state, colours=colours), " ", state)
        if rows and rows[-1].cell_len + _GAP + key.cell_len <= width:
            rows[-1].append(" " * _GAP).append_text(key)
        else:
            rows.append(key)
    return rows
