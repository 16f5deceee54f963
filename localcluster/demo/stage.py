"""The demo's picture: the steps above, and the cluster below, as it is now."""

from collections.abc import Iterator
from typing import Final

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, RenderResult
from rich.panel import Panel
from rich.text import Text

from hyperpod_ebs.demo.live_view import MAX_WIDTH, LiveView
from hyperpod_ebs.demo.report import Step
from hyperpod_ebs.demo.screen import PlainScreen
from localcluster.demo.scene import Scene

TITLE: Final = "A training on Kubernetes that loses its node, and ends as if it had not"

_CALLS: Final = 6
"""The latest calls that are shown."""

_HEIGHT: Final = 6
"""Lines of a node's box."""

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


class Told(PlainScreen):
    """A line for each step, and the cluster as it was when the step ended."""

    def __init__(self, console: Console) -> None:
        """Lines go to `console`."""
        super().__init__(console)
        self._scene: Scene | None = None

    def looked(self, scene: Scene, training: str) -> None:
        """Print it with the next step."""
        del training
        self._scene = scene

    def finish_step(self, step: Step) -> None:
        """Print both."""
        super().finish_step(step)
        for line in _drawn(self._scene) if self._scene else ():
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Stage(LiveView):
    """Is told of the steps, and of what the cluster looks like."""

    def __init__(self) -> None:
        """Nothing has been seen yet."""
        super().__init__(TITLE, reserved_lines=_HEIGHT + _CALLS + 4)
        self._scene: Scene | None = None
        self._training = ""

    def looked(self, scene: Scene, training: str) -> None:
        """Draw it next time; `training` is the last that the training said."""
        self._scene, self._training = scene, training

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from super().__rich_console__(console, options)
        if self._scene:
            width = (min(options.max_width, MAX_WIDTH) - 2) // max(len(self._scene.nodes), 1) - 1
            yield Text()
            yield Columns([_node(self._scene, name, width) for name in self._scene.nodes], padding=(0, 1))
            yield from _below(self._scene, self._training)


def _drawn(scene: Scene) -> Iterator[Text]:
    """The cluster in lines, where no picture can be drawn."""
    for name, state in scene.nodes.items():
        pods, attachments = scene.on(name)
        things = [f"{pod.name} {pod.state}" for pod in pods] + [f"{one.volume} {one.state}" for one in attachments]
        yield Text(f"           {name} ({state}): {'; '.join(things) or 'nothing of it'}")


def _node(scene: Scene, name: str, width: int) -> Panel:
    pods, attachments = scene.on(name)
    rows = [_state(f"● {pod.name}", pod.state) for pod in pods]
    rows += [_state(f"■ {one.volume}", one.state) for one in attachments]
    border = "green" if scene.nodes[name] == "Ready" else "red"
    title = f"{name.partition('.')[0]}"
    body = Text("\n").join(rows) if rows else Text("nothing of it", "dim")
    return Panel(body, title=title, subtitle=scene.nodes[name], width=width, height=_HEIGHT, border_style=border)


def _below(scene: Scene, training: str) -> Iterator[Text]:
    for claim in scene.claims:
        where = f"{claim.volume or 'no volume yet'}, {claim.size}"
        yield Text.assemble(("claim     ", "bold"), _state(claim.name, claim.state), f"  →  {where}")
    yield Text.assemble(("training  ", "bold"), training or "…")
    yield Text("the latest calls at the cloud that change something", "bold")
    for call in scene.calls[-_CALLS:]:
        ok = call.outcome == "ok"
        mark = ("✓ ", "green") if ok else ("✗ ", "red")
        yield Text.assemble("  ", mark, f"{call.operation}  ", (call.about, "cyan"), "" if ok else f"  {call.outcome}")


def _state(what: str, state: str) -> Text:
    return Text.assemble(what, "  ", (state, _COLOURS.get(state, "")))
