"""Grow a claim from inside a pod, through the Kubernetes API, with the pod's own service account.

`fit` makes room once, before data of a known size is written. `watch` keeps a fraction of the
volume free for as long as it runs. The free space comes from the filesystem; whether a growth
is finished comes from the claim's status, which is updated last.
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

import events
import shutdown

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod has the token, the namespace and the API server's certificate."""

GIB: Final = 2**30
MIB: Final = 2**20
RESERVE: Final = 32 * MIB
"""Bytes that stay free in addition to the requested room, because filesystems have an overhead."""

POLL_INTERVAL: Final = 0.5
"""Seconds between two looks at a growing claim."""

_UNITS: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Refused(Exception):  # noqa: N818 - reads as what happened
    """The API refused the growth, or the volume did not grow in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim in the pod's own namespace."""

    name: str
    api: str
    account: Path
    patience: float
    """Seconds that a growth may take."""

    def wait_for_size(self) -> int:
        """Wait until the claim has the size that it requests; that size in bytes.

        Raises:
            Refused: It does not have that size in time.
        """
        end = time.monotonic() + self.patience
        while True:
            claim = self._call("GET")
            requested = parse_quantity(claim["spec"]["resources"]["requests"]["storage"])
            if parse_quantity(claim["status"]["capacity"]["storage"]) >= requested:
                return requested
            if time.monotonic() > end:
                raise Refused(f"claim {self.name} did not grow in {self.patience:g} s; see its events")
            if shutdown.is_requested_within(POLL_INTERVAL):
                sys.exit(shutdown.EXIT_CODE)  # the claim continues to grow

    def grow(self, gib: int) -> None:
        """Grow the claim to this size, and wait until it has it.

        Raises:
            Refused: The API refuses, or the claim does not grow in time.
        """
        self._call("PATCH", {"spec": {"resources": {"requests": {"storage": f"{gib}Gi"}}}})
        events.report(event="growing", claim=self.name, gib=gib)
        events.report(event="grown", claim=self.name, gib=self.wait_for_size() // GIB)

    def _call(self, method: str, body: object = None) -> Any:  # Any: a claim as JSON
        namespace = (self.account / "namespace").read_text()
        token = (self.account / "token").read_text()  # read each time, because kubelet renews it
        request = urllib.request.Request(  # noqa: S310 - the address is the cluster's own
            f"{self.api}/api/v1/namespaces/{namespace}/persistentvolumeclaims/{self.name}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"},
        )
        certificate = self.account / "ca.crt"
        context = ssl.create_default_context(cafile=certificate) if certificate.exists() else None
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as response:  # noqa: S310 - see above
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise Refused(f"{method} of claim {self.name}: {error.code}: {_reason(error)}") from error
        except OSError as error:
            raise Refused(f"{method} of claim {self.name}: {error}") from error


@dataclass(frozen=True, slots=True)
class Space:
    """The size and the free space of a filesystem, in bytes."""

    total: int
    free: int

    @classmethod
    def measure(cls, directory: Path) -> "Space":
        """The space of the filesystem at `directory`, now."""
        statistics = os.statvfs(directory)
        return cls(statistics.f_blocks * statistics.f_frsize, statistics.f_bavail * statistics.f_frsize)


def parse_quantity(text: str) -> int:
    """The bytes of a Kubernetes quantity: 1Gi, 500M, 1073741824."""
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return math.ceil(float(text.removesuffix(unit)) * factor)
    return math.ceil(float(text))


def grown_gib(size: int, missing: int) -> int:
    """The size of a claim of `size` bytes that grows by `missing` bytes, in whole GiB, as EBS needs it."""
    return math.ceil((size + missing) / GIB)


def fit(claim: Claim, directory: Path, mib: int, into: Path | None = None) -> None:
    """Grow the claim if the volume has no room for `mib`; files that exist in `into` count as written.

    Raises:
        Refused: The claim may not grow, or does not grow in time.
    """
    written = sum(path.stat().st_size for path in into.iterdir()) if into and into.exists() else 0
    to_write = mib * MIB - written
    needed = to_write + RESERVE if to_write > 0 else 0
    while Space.measure(directory).free < needed:
        size = claim.wait_for_size()  # an earlier run may have begun to grow it
        if (missing := needed - Space.measure(directory).free) > 0:
            claim.grow(grown_gib(size, missing))
    events.report(event="fits", mib=mib, free_mib=Space.measure(directory).free // MIB)


def watch(claim: Claim, options: argparse.Namespace) -> None:
    """Keep a fraction of the volume free, up to the largest size.

    A refusal is reported once, and the watch continues: if it ended, the pod would no longer be ready, and the
    service would send no requests to the server in the same pod.
    """
    reported = ""
    while not shutdown.is_requested_within(options.every):
        try:
            _grow_if_needed(claim, options)
            reported = ""
        except Refused as refused:
            if reported != str(refused):
                events.report(event="refused", reason=str(refused))
            reported = str(refused)


def _grow_if_needed(claim: Claim, options: argparse.Namespace) -> None:
    space = Space.measure(options.directory)
    if space.free * 100 >= options.free_percent * space.total:
        return
    size = claim.wait_for_size()
    if Space.measure(options.directory).total > space.total:
        return  # an earlier request, whose response was lost, has grown it meanwhile
    gib = grown_gib(size, options.step_gib * GIB)
    if gib > options.most_gib:
        raise Refused(
            f"claim {claim.name} has {size // GIB} GiB and may not grow to {gib} GiB; "
            f"raise --most-gib={options.most_gib}"
        )
    claim.grow(gib)


def _reason(error: urllib.error.HTTPError) -> str:
    """The message of the API server."""
    try:
        return str(json.load(error)["message"])
    except (ValueError, KeyError):
        return error.reason


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    api = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["fit", "watch"])
    parser.add_argument("--claim", required=True, help="the claim, in the pod's own namespace")
    parser.add_argument("--directory", type=Path, required=True, help="where the claim's volume is mounted")
    parser.add_argument("--mib", type=int, default=0, help="fit: the size of the data that will be written")
    parser.add_argument("--into", type=Path, help="fit: the directory that it is written to; existing files count")
    parser.add_argument("--free-percent", type=int, default=25, help="watch: the percentage to keep free")
    parser.add_argument("--step-gib", type=int, default=1, help="watch: the size of a growth")
    parser.add_argument("--most-gib", type=int, default=16, help="watch: the largest size of the claim")
    parser.add_argument("--every", type=float, default=1.0, help="watch: seconds between two checks")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds that a growth may take")
    parser.add_argument("--api", default=api, help="the API server's address")
    parser.add_argument("--account", type=Path, default=ACCOUNT, help="the directory of the service account's files")
    return parser


def main() -> int:
    """Make room once, or keep it."""
    options = arguments().parse_args()
    shutdown.block_signals()
    claim = Claim(name=options.claim, api=options.api, account=options.account, patience=options.patience)
    try:
        if options.action == "fit":
            fit(claim, options.directory, options.mib, options.into)
        else:
            watch(claim, options)
    except Refused as refused:
        events.report(event="refused", reason=str(refused))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
