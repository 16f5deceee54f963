"""`hyperpod-ebs emulator`: run the emulator, show its environment, status and calls, delete its state."""

import asyncio
import json
import os
import shlex
import sys
import urllib.request
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from hyperpod_ebs.emulator import state_directory
from hyperpod_ebs.emulator.credentials import Credentials
from hyperpod_ebs.emulator.reset import delete_state
from hyperpod_ebs.emulator.state.store import StateRefused

app = App(
    name="emulator",
    help="Run and inspect the embedded cloud (the emulator): AWS's APIs with real block devices.",
)
# Loaded by path, so that the other commands start quickly, without the server and the SDK's models.
app.command(
    "hyperpod_ebs.emulator.process:run",
    name="run",
    help="Run the emulator until SIGTERM or Ctrl-C. The first start of a state directory creates an administrator, "
    "whose access key `emulator env` prints; `aws iam create-user` creates others.",
)
app.command(
    "hyperpod_ebs.emulator.call_viewer:calls",
    name="calls",
    help="Show the latest calls: who called, what, the decision and the statement that decided, and the request id.",
)
app.command(
    "hyperpod_ebs.emulator.pod_identity_agent:run",
    name="pod-identity-agent",
    help="Run the EKS Pod Identity agent of a node: give pods credentials for the tokens of their service accounts.",
)

StateDirectory = Annotated[Path | None, Parameter(name="--state")]
Output = Literal["table", "json"]


def default_state() -> Path:
    """The state directory that a command uses without `--state`."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "hyperpod-ebs" / "emulator"


@app.command
def env(*, state: StateDirectory = None, output: Literal["shell", "json"] = "shell") -> int:
    """Print the environment variables with which an AWS CLI or SDK calls the emulator.

    Args:
        state: The state directory; the default is hyperpod-ebs/emulator in $XDG_STATE_HOME or ~/.local/state.
        output: Format: export commands for a shell's eval, or one JSON object.
    """
    directory = (state or default_state()).resolve()
    try:
        credentials, url = Credentials.load(directory), state_directory.published_url(directory)
    except FileNotFoundError:
        return fail(not_running_message(directory))
    except (StateRefused, OSError) as error:
        return fail(str(error))
    if url is None:
        return fail(not_running_message(directory))
    variables = credentials.environment(url)
    if output == "json":
        say(json.dumps(variables))
    else:
        say("\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))
    return 0


@app.command
def status(*, state: StateDirectory = None, output: Output = "table") -> int:
    """Show volumes, snapshots, attachments, instances, clusters, add-ons, throttled calls and problems.

    Args:
        state: The state directory; the default is hyperpod-ebs/emulator in $XDG_STATE_HOME or ~/.local/state.
        output: Format: tables, or one JSON object.
    """
    directory = (state or default_state()).resolve()
    try:
        url = state_directory.published_url(directory)
        if url is None:
            return fail(not_running_message(directory))
        with urllib.request.urlopen(f"{url}/_emulator/status", timeout=10) as answer:  # noqa: S310 - http, published by the emulator
            tables: dict[str, list[dict[str, Any]]] = json.load(answer)  # ids, numbers, names
    except OSError as error:
        return fail(
            f"the emulator on {directory} does not answer ({error}); restart it with `{_run_command(directory)}`"
        )
    if output == "json":
        say(json.dumps(tables))
        return 0
    for title, rows in tables.items():
        _print_table(title, rows)
    return 0


@app.command
def reset(*, state: StateDirectory = None) -> int:
    """Delete a state directory and everything in it, unless an emulator or a mount uses it.

    Args:
        state: The state directory to delete; the default is hyperpod-ebs/emulator in $XDG_STATE_HOME or ~/.local/state.
    """
    directory = (state or default_state()).resolve()
    if not directory.exists():
        say(f"{directory} does not exist: nothing to delete")
        return 0
    try:
        with state_directory.lock(directory):
            in_use = asyncio.run(delete_state(directory))
    except (StateRefused, OSError) as error:
        return fail(str(error))
    if in_use:
        return fail(
            "\n".join(
                [f"cannot delete {directory}, because parts of it are in use; release them and try again:", *in_use]
            )
        )
    say(f"{directory} is deleted")
    return 0


def not_running_message(directory: Path) -> str:
    """The error of a command that needs a running emulator."""
    return f"no emulator runs on {directory}; start one with `{_run_command(directory)}`"


def _run_command(directory: Path) -> str:
    return f"hyperpod-ebs emulator run --state {directory}"


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:  # ids, numbers, names
    if not rows:
        Console().print(f"{title}: none")
        return
    table = Table(title=f"{title} ({len(rows)})", title_justify="left")
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*[str(value) for value in row.values()])
    Console().print(table)


def say(text: str) -> None:
    """Print `text` on stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def fail(text: str) -> int:
    """Print `text` on stderr; return the exit code of a failure."""
    sys.stderr.write(f"{text}\n")
    return 1


if __name__ == "__main__":
    app()
