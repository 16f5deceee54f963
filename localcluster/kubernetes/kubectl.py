"""kubectl, as a person uses it: what it is told, and what it answers as JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hyperpod_ebs.kit import command

DEADLINE: Final = 180.0


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with the cluster's settings."""

    program: str
    kubeconfig: str

    @property
    def cache(self) -> str:
        """Where it keeps what it has learned of this cluster's API; by itself it would be in the user's home."""
        return str(Path(self.kubeconfig).parent / "cache")

    async def __call__(
        self, *words: str, stdin: str = "", deadline: float = DEADLINE, ok: Sequence[int] = (0,)
    ) -> command.Finished:
        """What `kubectl words...` printed.

        Raises:
            CommandFailed: It exited with a code that is not in `ok`; the message has what it said.
        """
        argv = [self.program, f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.cache}", *words]
        return await command.run(argv, stdin=stdin.encode(), deadline=deadline, ok=frozenset(ok))

    async def get(self, *words: str) -> Any:  # an object of any kind, as Kubernetes has it
        """The object, or the list of them, that `kubectl get words...` finds."""
        return json.loads((await self("get", "--output=json", *words)).out)

    async def apply(self, *documents: object) -> None:
        """Have these objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        await self("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=json.dumps(listed))
