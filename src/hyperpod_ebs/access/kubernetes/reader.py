"""Read the cluster's API server: from a pod with its service account, elsewhere with the user's own `kubectl`.

kubectl knows kubeconfig files, their credential plug-ins (`aws eks get-token`) and proxies; a library of our own would
have to learn all of that.
"""

import json
import os
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Protocol
from urllib.parse import urlencode

from cyclopts import Group, Parameter

from hyperpod_ebs.driver.kubernetes.access import SERVICE_ACCOUNT
from hyperpod_ebs.driver.kubernetes.api import open_api
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit import command
from hyperpod_ebs.kit.files import off_loop

Object = dict[str, Any]  # JSON as the API server writes it

_PAGE: Final = "500"
_DEADLINE: Final = 20.0
_GROUP: Final = Group("Kubernetes", sort_key=91)


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesOptions:
    """Which cluster's API server a command reads."""

    kubeconfig: Annotated[Path | None, Parameter(env_var="KUBECONFIG")] = None
    """The kubeconfig file; by default that of kubectl."""

    context: str | None = None
    """The context in the kubeconfig file; by default the current one."""


CURRENT_CONTEXT: Final = KubernetesOptions()


class Reader(Protocol):
    """Reads objects of a cluster."""

    async def get(self, path: str, **query: str) -> Object:
        """Read the object or list at `path`.

        Raises:
            NotFound: It does not exist.
            Denied: The caller may not read it.
            Unavailable: The API server does not answer.
        """
        ...

    async def get_text(self, path: str, **query: str) -> str:
        """Read the text at `path`, such as a pod's log.

        Raises:
            Error: As `get`.
        """
        ...


@asynccontextmanager
async def open_reader(options: KubernetesOptions = CURRENT_CONTEXT) -> AsyncGenerator[Reader]:
    """Choose the way to the API server.

    Raises:
        Refused: This is not a pod, and kubectl or the kubeconfig file is missing; the text says which.
    """
    async with AsyncExitStack() as stack:
        in_pod = await off_loop((SERVICE_ACCOUNT / "token").exists)
        if in_pod and options.kubeconfig is None:
            yield await stack.enter_async_context(open_api(None))
        else:
            yield await off_loop(_Kubectl.find, options)


async def list_all(reader: Reader, path: str, **query: str) -> list[Object]:
    """All objects of the list at `path`, page by page, without fields that are null: null means absent.

    Raises:
        Error: As `Reader.get`.
    """
    found, token = list[Object](), ""
    while True:
        page = await reader.get(path, **query, limit=_PAGE, **({"continue": token} if token else {}))
        found += [_without_nulls(item) for item in page.get("items") or ()]
        if not (token := page.get("metadata", {}).get("continue", "")):
            return found


def _without_nulls(value: Any) -> Any:  # JSON
    if isinstance(value, dict):
        return {key: _without_nulls(field) for key, field in value.items() if field is not None}
    return [_without_nulls(item) for item in value if item is not None] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kubectl:
    argv: tuple[str, ...]

    @classmethod
    def find(cls, options: KubernetesOptions) -> "_Kubectl":
        """Find kubectl and the kubeconfig file. Reads files."""
        program = shutil.which("kubectl")
        if program is None:
            raise errors.Refused("kubectl is not on PATH; install it to read the Kubernetes cluster")
        default = Path.home() / ".kube" / "config"
        if options.kubeconfig is None and "KUBECONFIG" not in os.environ and not default.exists():
            raise errors.Refused(
                f"there is no kubeconfig file {default}; run `aws eks update-kubeconfig`, or give --kubeconfig"
            )
        # kubectl reads the variable itself, which may have several files; the flag takes one.
        given = options.kubeconfig if str(options.kubeconfig) != os.environ.get("KUBECONFIG") else None
        flags = [f"--kubeconfig={given}"] if given else []
        flags += [f"--context={options.context}"] if options.context else []
        return cls(argv=(program, *flags))

    async def get(self, path: str, **query: str) -> Object:
        answer: Object = json.loads(await self.get_text(path, **query))
        return answer

    async def get_text(self, path: str, **query: str) -> str:
        target = f"{path}?{urlencode(query)}" if query else path
        argv = (*self.argv, f"--request-timeout={_DEADLINE:g}s", "get", "--raw", target)
        try:
            finished = await command.run(argv, deadline=_DEADLINE + 5)
        except command.CommandFailed as failure:
            raise _error(path, failure) from failure
        return finished.out


_KINDS: Final[Mapping[str, type[errors.Error]]] = {
    "(NotFound)": errors.NotFound,
    "could not find the requested resource": errors.NotFound,
    "(Forbidden)": errors.Denied,
    "Unauthorized": errors.Denied,
}


def _error(path: str, failure: command.CommandFailed) -> errors.Error:
    """The error for what kubectl printed."""
    kind = next((kind for text, kind in _KINDS.items() if text in failure.output), errors.Unavailable)
    return kind(f"cannot read {path} from the API server: {failure.output or failure}")
