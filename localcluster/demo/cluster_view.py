"""The demo in a terminal: the live view of the steps, and the state of the cluster below."""

from collections.abc import Iterator
from typing import Final

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, RenderResult
from rich.panel import Panel
from rich.text import Text

from hyperpod_ebs.demo.live_view import MAX_WIDTH, LiveView
from hyperpod_ebs.demo.report import Step
from hyperpod_ebs.demo.screen import PlainScreen
from localcluster.demo.cluster_state import ClusterState

TITLE: Final = "A training job that loses its node and gets the same result on another"

_CALLS: Final = 6
"""Number of AWS calls shown, the latest ones."""

_PANEL_HEIGHT: Final = 6
"""Lines of a node's panel."""

_COLOURS: Final = {
    "Running": "green",
    "Succeeded": "blue",
    "Pending": "yellow",
    "Terminating": "red",
    "Failed": "red",
    "Bound": "green",
    "attached": "green",
    "attaching": "yellow",
    "detaching": "yellow",
}


class PlainClusterScreen(PlainScreen):
    """Prints a line for each finished step, and the state of the cluster at its end."""

    def __init__(self, console: Console) -> None:
        """Print to `console`."""
        super().__init__(console)
        self._state: ClusterState | None = None

    def update_cluster(self, state: ClusterState, training: str) -> None:
        """Print the state with the next step."""
        del training
        self._state = state

    def finish_step(self, step: Step) -> None:
        """Print the step and the state."""
        super().finish_step(step)
        for line in _state_lines(self._state) if self._state else ():
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class ClusterView(LiveView):
    """The steps, and the state of the cluster."""

    def __init__(self) -> None:
        """Show the steps until the state is known."""
        super().__init__(TITLE, reserved_lines=_PANEL_HEIGHT + _CALLS + 4)
        self._state: ClusterState | None = None
        self._training = ""

    def update_cluster(self, state: ClusterState, training: str) -> None:
        """Draw the state and the training job's latest event from the next refresh on."""
        self._state, self._training = state, training

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from super().__rich_console__(console, options)
        if self._state:
            width = (min(options.max_width, MAX_WIDTH) - 2) // max(len(self._state.nodes), 1) - 1
            yield Text()
            yield Columns([_node_panel(self._state, name, width) for name in self._state.nodes], padding=(0, 1))
            yield from _details(self._state, self._training)


def _state_lines(state: ClusterState) -> Iterator[Text]:
    """A line for each node, for a console that cannot redraw."""
    for name, node_state in state.nodes.items():
        pods, attachments = state.on_node(name)
        items = [f"{pod.name} {pod.state}" for pod in pods] + [f"{found.volume} {found.state}" for found in attachments]
        yield Text(f"           {name} ({node_state}): {'; '.join(items) or 'no pod or volume of the demo'}")


def _node_panel(state: ClusterState, name: str, width: int) -> Panel:
    pods, attachments = state.on_node(name)
    rows = [_with_state(f"● {pod.name}", pod.state) for pod in pods]
    rows += [_with_state(f"■ {found.volume}", found.state) for found in attachments]
    return Panel(
        Text("\n").join(rows) if rows else Text("empty", "dim"),
        title=name.partition(".")[0],
        subtitle=state.nodes[name],
        width=width,
        height=_PANEL_HEIGHT,
        border_style="green" if state.nodes[name] == "Ready" else "red",
    )


def _details(state: ClusterState, training: str) -> Iterator[Text]:
    """The claims, the training job's latest event, and the latest AWS calls."""
    for claim in state.claims:
        volume = f"{claim.volume or 'no volume yet'}, {claim.size}"
        yield Text.assemble(("claim     ", "bold"), _with_state(claim.name, claim.state), f"  →  {volume}")
    yield Text.assemble(("training  ", "bold"), training or "…")
    yield Text("latest AWS calls that change resources", "bold")
    for call in state.calls[-_CALLS:]:
        ok = call.outcome == "ok"
        mark = ("✓ ", "green") if ok else ("✗ ", "red")
        outcome = "" if ok else f"  {call.outcome}"
        yield Text.assemble("  ", mark, f"{call.operation}  ", (call.resources, "cyan"), outcome)


def _with_state(name: str, state: str) -> Text:
    return Text.assemble(name, "  ", (state, _COLOURS.get(state, "")))
