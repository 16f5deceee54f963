"""`hyperpod-ebs volume`, or another group of commands, as a process, with the credentials of an emulator's caller."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_COMMAND: Final = (sys.executable, "-m", "hyperpod_ebs.cli")
_DEADLINE: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON document on stdout."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeCommands:
    """Runs the commands as one caller."""

    env: Mapping[str, str]
    """The environment variables with which an SDK calls AWS."""

    home: Path
    """The home directory, without a kubeconfig file and AWS configuration."""

    group: str = "volume"
    """The group of commands."""

    extra: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables."""

    async def run(self, *words: str, code: int = 0, stdin: str = "") -> Outcome:
        """Run a command to its end; it must exit with `code`."""
        async with self.start(*words) as process, asyncio.timeout(_DEADLINE):
            out, err = await process.communicate(stdin.encode())
        outcome = Outcome(code=process.returncode or 0, out=out.decode(), err=err.decode())
        assert outcome.code == code, outcome
        assert "Traceback" not in outcome.err, outcome
        return outcome

    @asynccontextmanager
    async def start(self, *words: str, stdin: int | None = None) -> AsyncGenerator[asyncio.subprocess.Process]:
        """Start a command with this stdin, or a pipe; it is killed at the end if it still runs."""
        pipe = asyncio.subprocess.PIPE
        source = pipe if stdin is None else stdin
        process = await asyncio.create_subprocess_exec(
            *_COMMAND, self.group, *words, stdin=source, stdout=pipe, stderr=pipe, env=self._environment()
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "KUBE", "HYPERPOD_EBS_"))
        }
        return {**inherited, "HOME": str(self.home), **self.env, **self.extra}
