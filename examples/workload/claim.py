"""Grow one claim from inside a pod, through the Kubernetes API, with the pod's own service account.

`fit` makes room once for so many MiB, before they are written; `watch` keeps a share of
the volume free for as long as it runs. Whether there is room is seen at the file system;
whether a growth has ended at the claim, whose status follows when all of it is done.
"""

import argparse
import json
import math
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import durable
import ending

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod has its service account's token, namespace and the API's certificate."""

GIB: Final = 2**30
MIB: Final = 2**20
SPARE: Final = 32 * MIB
"""Bytes that stay free beside what is asked for: file systems have an overhead."""

LOOK: Final = 0.5
"""Seconds from one look at the claim to the next, while it grows."""

_UNITS: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Refused(Exception):  # noqa: N818 - reads as what happened
    """The API said no, or the volume did not grow in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim in the pod's own namespace."""

    name: str
    api: str
    account: Path
    patience: float
    """Seconds that a growth may take."""

    def size(self) -> int:
        """Bytes that it asks for, once it has them.

        Raises:
            Refused: It did not get them in time.
        """
        end = time.monotonic() + self.patience
        while True:
            found = self._call("GET")
            asked = quantity(found["spec"]["resources"]["requests"]["storage"])
            if quantity(found["status"]["capacity"]["storage"]) >= asked:
                return asked
            if time.monotonic() > end:
                raise Refused(f"claim {self.name} did not grow in {self.patience:g} s: see its events")
            if ending.within(LOOK):
                sys.exit(ending.TOLD)  # it grows all the same

    def grow(self, gib: int) -> None:
        """Let it have so many GiB.

        Raises:
            Refused: It may not, or did not in time.
        """
        self._call("PATCH", {"spec": {"resources": {"requests": {"storage": f"{gib}Gi"}}}})
        durable.say(event="growing", claim=self.name, gib=gib)
        durable.say(event="grown", claim=self.name, gib=self.size() // GIB)

    def _call(self, method: str, body: object = None) -> Any:  # Any: a claim as JSON
        namespace = (self.account / "namespace").read_text()
        request = urllib.request.Request(  # noqa: S310 - the address is the cluster's own
            f"{self.api}/api/v1/namespaces/{namespace}/persistentvolumeclaims/{self.name}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {(self.account / 'token').read_text()}",  # renewed by kubelet, so read anew
                "Content-Type": "application/merge-patch+json",
            },
        )
        authority = self.account / "ca.crt"
        trust = ssl.create_default_context(cafile=authority) if authority.exists() else None
        try:
            with urllib.request.urlopen(request, timeout=10, context=trust) as answer:  # noqa: S310 - see above
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Refused(f"{method} of claim {self.name}: {error.code}: {_reason(error)}") from error
        except OSError as error:
            raise Refused(f"{method} of claim {self.name}: {error}") from error


@dataclass(frozen=True, slots=True)
class Room:
    """What a file system has, in bytes."""

    total: int
    free: int

    @classmethod
    def of(cls, directory: Path) -> "Room":
        """The room that there is now."""
        found = os.statvfs(directory)
        return cls(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


def quantity(text: str) -> int:
    """Bytes, as Kubernetes writes them: 1Gi, 500M, 1073741824."""
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return math.ceil(float(text.removesuffix(unit)) * factor)
    return math.ceil(float(text))


def wanted_gib(requested: int, short: int) -> int:
    """What to ask for where `short` bytes are missing: whole GiB, which is what EBS has."""
    return math.ceil((requested + short) / GIB)


def fit(claim: Claim, directory: Path, mib: int, into: Path | None = None) -> None:
    """Have room for `mib`, by growing the claim if it has to be; what is in `into` already needs none.

    Raises:
        Refused: It may not grow, or did not in time.
    """
    missing = mib * MIB - (_bytes_in(into) if into else 0)
    needed = missing + SPARE if missing > 0 else 0
    while Room.of(directory).free < needed:
        size = claim.size()  # with an earlier try's growth, if that is under way
        if (short := needed - Room.of(directory).free) > 0:
            claim.grow(wanted_gib(size, short))
    durable.say(event="fits", mib=mib, free_mib=Room.of(directory).free // MIB)


def watch(claim: Claim, asked: argparse.Namespace) -> None:
    """Let a share of the volume be free at any time, up to its greatest size.

    What is refused is said once, and it goes on looking: were it to end, the pod would not be ready, and the server
    beside it would have nobody to answer.
    """
    said = ""
    while not ending.within(asked.every):
        try:
            _keep_free(claim, asked)
            said = ""
        except Refused as refused:
            if said != str(refused):
                durable.say(event="refused", reason=str(refused))
            said = str(refused)


def _keep_free(claim: Claim, asked: argparse.Namespace) -> None:
    room = Room.of(asked.directory)
    if room.free * 100 >= asked.free_percent * room.total:
        return
    size = claim.size()
    if Room.of(asked.directory).total > room.total:
        return  # an earlier try's growth, of which no answer had come
    gib = wanted_gib(size, asked.step_gib * GIB)
    if gib > asked.most_gib:
        raise Refused(f"claim {claim.name} is {size // GIB} GiB and may have {asked.most_gib}: raise --most-gib")
    claim.grow(gib)


def _bytes_in(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir()) if directory.exists() else 0


def _reason(error: urllib.error.HTTPError) -> str:
    """What the API says, in words."""
    try:
        return str(json.load(error)["message"])
    except (ValueError, KeyError):
        return error.reason


def arguments() -> argparse.ArgumentParser:
    """What it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("act", choices=["fit", "watch"])
    parser.add_argument("--claim", required=True, help="the claim, in the pod's own namespace")
    parser.add_argument("--directory", type=Path, required=True, help="where its volume is mounted")
    parser.add_argument("--mib", type=int, default=0, help="fit: what is going to be written")
    parser.add_argument("--into", type=Path, help="fit: where it will be; what is there already needs no room")
    parser.add_argument("--free-percent", type=int, default=25, help="watch: how much is to be free")
    parser.add_argument("--step-gib", type=int, default=1, help="watch: by how much to grow at a time")
    parser.add_argument("--most-gib", type=int, default=16, help="watch: how large it may become")
    parser.add_argument("--every", type=float, default=1.0, help="watch: seconds between looks")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds that a growth may take")
    parser.add_argument("--api", default=_api(), help="the API's address")
    parser.add_argument("--account", type=Path, default=ACCOUNT, help="where the service account's files are")
    return parser


def _api() -> str:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc"), "443"
    return f"https://{f'[{host}]' if ':' in host else host}:{os.environ.get('KUBERNETES_SERVICE_PORT', port)}"


def main() -> int:
    """Make room once, or keep it."""
    asked = arguments().parse_args()
    ending.heed()
    claim = Claim(name=asked.claim, api=asked.api, account=asked.account, patience=asked.patience)
    try:
        if asked.act == "fit":
            fit(claim, asked.directory, asked.mib, asked.into)
        else:
            watch(claim, asked)
    except Refused as refused:
        durable.say(event="refused", reason=str(refused))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
