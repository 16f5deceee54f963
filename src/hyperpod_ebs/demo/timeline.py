"""The states of volumes over time: a bar for each volume.

The history has the states of a volume, of its attachments and of its modifications in
one sequence. A bar shows the latest state of the volume or its attachment; while the volume
is in use, the state of a modification is shown instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from hyperpod_ebs.demo.report import Moment


@dataclass(frozen=True, slots=True)
class Appearance:
    """How a bar shows a state."""

    letter: str
    """In output without colours."""
    colour: str


APPEARANCES: Final[Mapping[str, Appearance]] = {
    "creating": Appearance("c", "yellow"),
    "available": Appearance("-", "cyan"),
    "attaching": Appearance(">", "bright_yellow"),
    "in-use": Appearance("#", "green"),
    "modifying": Appearance("m", "bright_magenta"),
    "optimizing": Appearance("o", "blue"),
    "detaching": Appearance("<", "magenta"),
    "busy": Appearance("!", "bright_red"),
    "deleting": Appearance("x", "red"),
}
"""In the order of a volume's life, which is also the order of the legend."""

_ATTACHMENT_STATES: Final = {"attached": "in-use", "detached": "available"}
"""States of an attachment that are shown as a state of the volume."""

_MODIFICATION_STATES: Final = {"modifying", "optimizing", "completed"}
_LINE: Final = "━"
_GAP: Final = 2


def lines(
    history: Sequence[Moment], *, width: int, colours: bool, now: float | None = None, scale_step: float = 0.0
) -> list[Text]:
    """A line for each volume, a scale in seconds, and a legend; no lines without a history.

    Args:
        history: In the order of time.
        width: Cells of the longest line.
        colours: Whether bars show states by colour, or by letter.
        now: Unix seconds at which the bars end; by default the time of the last moment.
        scale_step: Seconds to which the scale is rounded up, so that a bar that is drawn repeatedly
            does not change its scale each time.
    """
    if not history:
        return []
    first, last = history[0].instant, max(now or 0.0, *(moment.instant for moment in history))
    span = -(-(last - first) // scale_step) * scale_step if scale_step else max(last - first, 0.001)
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
    return [*drawn, scale, *_legend([state for state in APPEARANCES if state in used], width=width, colours=colours)]


def states(moments: Sequence[Moment], *, first: float, last: float, ends: Sequence[float]) -> list[str]:
    """The state of one volume at each of the instants `ends`; empty before and after its life, and after `last`."""
    shown_states, next_, base, modification = [], 0, "", ""
    before = first
    for end in ends:
        while next_ < len(moments) and moments[next_].instant <= end:
            state = moments[next_].state
            if state in _MODIFICATION_STATES:
                modification = state
            else:
                base = _ATTACHMENT_STATES.get(state, state)
            next_ += 1
        shown = modification if base == "in-use" and modification in APPEARANCES else base
        shown_states.append(shown if shown in APPEARANCES and before < last else "")
        before = end
    return shown_states


def _cell(state: str, *, colours: bool) -> Text:
    if not state:
        return Text(" ")
    return Text(_LINE, APPEARANCES[state].colour) if colours else Text(APPEARANCES[state].letter)


def _legend(used: Sequence[str], *, width: int, colours: bool) -> list[Text]:
    """The states with their appearance, on as many lines as needed."""
    rows: list[Text] = []
    for state in used:
        key = Text.assemble(_cell(state, colours=colours), " ", state)
        if rows and rows[-1].cell_len + _GAP + key.cell_len <= width:
            rows[-1].append(" " * _GAP).append_text(key)
        else:
            rows.append(key)
    return rows
