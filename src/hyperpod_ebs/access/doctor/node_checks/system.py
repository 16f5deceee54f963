"""Checks of a node's system: kernel, programs, clock, and the driver's sockets."""

import email.utils
import http.client
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Context, Missing
from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail
from hyperpod_ebs.access.doctor.node_checks.machine import Machine, call
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER
from hyperpod_ebs.kit.files import Unresponsive, off_loop

PROGRAMS: Final = (
    "blkid",
    "e2fsck",
    "mkfs.ext4",
    "mkfs.xfs",
    "mount",
    "resize2fs",
    "umount",
    "xfs_growfs",
    "xfs_repair",
)
"""The programs that the driver runs."""

LARGEST_SKEW: Final = timedelta(minutes=5)
"""The difference of clocks from which AWS refuses signatures (IAM User Guide, "AWS API request signing")."""

_OLDEST_KERNEL: Final = (5, 10)
_CONNECT_TIME: Final = 2.0
_AWS_TIME: Final = 5.0


def kernel_findings(machine: Machine) -> Iterator[Finding]:
    """A kernel that does not mount what this release's mkfs.xfs makes."""
    if (0, 0) < machine.kernel < _OLDEST_KERNEL:
        yield may_fail(
            "kernel",
            f"its version is {machine.release}, and kernels before 5.10 do not mount an xfs with bigtime and nrext64",
            "New xfs volumes are made and cannot be mounted; ext4 works",
            "set node.legacyXFS: true in the release's values, or use an AMI with a newer kernel",
        )


def program_findings(missing: list[str]) -> Iterator[Finding]:
    """Programs that the driver runs and that are not on PATH."""
    if missing:
        yield fails(
            "programs",
            f"not on PATH: {', '.join(missing)}",
            "Volumes cannot be formatted, checked, mounted or grown on this machine",
            "install e2fsprogs, xfsprogs, mount and util-linux, or run the doctor with /usr/sbin in PATH",
        )


def clock_findings(aws: datetime, here: datetime) -> Iterator[Finding]:
    """A clock that differs so much from AWS's that AWS refuses signatures."""
    if abs(skew := here - aws) > LARGEST_SKEW:
        word = "ahead of" if skew > timedelta() else "behind"
        yield fails(
            "clock",
            f"it is {int(abs(skew).total_seconds())} seconds {word} AWS's: {here:%Y-%m-%dT%H:%M:%SZ} here, "
            f"{aws:%Y-%m-%dT%H:%M:%SZ} there",
            "AWS refuses every call that is signed on this machine (RequestExpired, SignatureDoesNotMatch)",
            "start chrony with the Amazon Time Sync Service (169.254.169.123): `systemctl restart chronyd`",
        )


def checks(machine: Machine) -> tuple[Check, ...]:
    """The checks of this machine's system; the check of the clock runs at any place."""

    async def check_kernel(context: Context) -> AsyncIterator[Finding]:
        del context
        await machine.require_node()
        for finding in kernel_findings(machine):
            yield finding

    async def check_programs(context: Context) -> AsyncIterator[Finding]:
        del context
        await machine.require_node()
        for finding in program_findings(await call(_missing_programs, machine.programs)):
            yield finding

    async def check_sockets(context: Context) -> AsyncIterator[Finding]:
        del context
        await machine.require_node()
        registration = machine.kubelet / "plugins_registry" / f"{DRIVER}-reg.sock"
        service = machine.kubelet / "plugins" / DRIVER / "csi.sock"
        for path, what in ((registration, "kubelet cannot register the driver"), (service, "kubelet mounts no volume")):
            if why := await _socket_failure(path):
                yield fails(
                    f"socket {path}",
                    why,
                    f"No process of the driver listens there, so {what}",
                    "see the log of the pod of ebs-csi-node on this node, and check node.kubeletPath in the values",
                )

    return (
        Check(name="clock", promise="the clock agrees with AWS's", run=_check_clock),
        Check(name="kernel", promise="the kernel mounts what the driver formats", run=check_kernel),
        Check(name="programs", promise="the programs that the driver runs are on PATH", run=check_programs),
        Check(name="sockets", promise="the driver listens where kubelet looks", run=check_sockets),
    )


def _missing_programs(path: str | None) -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program, path=path) is None]


async def _socket_failure(path: Path) -> str:
    """Why no process answers at a socket; empty if one does."""
    try:
        await off_loop(_connect, path, about=path, deadline=_CONNECT_TIME)
    except (OSError, Unresponsive) as error:
        return error.strerror or str(error) if isinstance(error, OSError) else str(error)
    return ""


def _connect(path: Path) -> None:
    """Connect to a socket, whose path may be longer than a socket's address may be."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_CONNECT_TIME)
            client.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


async def _check_clock(context: Context) -> AsyncIterator[Finding]:
    """Compare with the Date header of an unsigned request: a signed one would fail because of the clock."""
    del context
    endpoint = os.environ.get("AWS_ENDPOINT_URL_STS") or os.environ.get("AWS_ENDPOINT_URL") or _sts_endpoint()
    try:
        moment = await off_loop(_read_date, endpoint, deadline=_AWS_TIME)
    except (OSError, http.client.HTTPException, Unresponsive, ValueError) as error:
        why = f"{endpoint} does not say the time: {error}"
        raise Missing("AWS's clock", why, is_elsewhere=True) from error
    for finding in clock_findings(moment, datetime.now(UTC)):
        yield finding


def _sts_endpoint() -> str:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return f"https://sts.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def _read_date(endpoint: str) -> datetime:
    """Ask an AWS service for the time.

    Raises:
        ValueError: The answer has no date, or the endpoint is not an address.
    """
    address = urlsplit(endpoint)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=_AWS_TIME)
    try:
        connection.request("GET", "/")
        date = connection.getresponse().getheader("Date")
    finally:
        connection.close()
    if not date:
        raise ValueError("its answer has no Date header")
    return email.utils.parsedate_to_datetime(date).astimezone(UTC)
