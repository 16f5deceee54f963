"""kubectl, with the settings of the cluster."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hyperpod_ebs.kit import command

DEADLINE: Final = 180.0


@dataclass(frozen=True, slots=True)
class Kubectl:
    """The program, and the kubeconfig that it uses."""

    program: str
    kubeconfig: str

    @property
    def cache(self) -> str:
        """The directory of its cache of the cluster's API, which would be in the user's home by default."""
        return str(Path(self.kubeconfig).parent / "cache")

    async def __call__(
        self, *words: str, stdin: str = "", deadline: float = DEADLINE, ok: Sequence[int] = (0,)
    ) -> command.Finished:
        """Run `kubectl words...`.

        Raises:
            CommandFailed: It exited with a code that is not in `ok`; the message has its output.
        """
        argv = [self.program, f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.cache}", *words]
        return await command.run(argv, stdin=stdin.encode(), deadline=deadline, ok=frozenset(ok))

    async def get(self, *words: str) -> Any:  # an object of any kind, as Kubernetes has it
        """The object, or the list of objects, that `kubectl get words...` returns."""
        return json.loads((await self("get", "--output=json", *words)).out)

    async def apply(self, *documents: object) -> None:
        """Create or update these objects."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        await self("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=json.dumps(items))
