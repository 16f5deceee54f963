"""A file for support: what the doctor found and read, with the logs of the driver's pods, without secrets."""

import asyncio
import io
import json
import os
import platform
import re
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from hyperpod_ebs import __version__
from hyperpod_ebs.access.doctor.context import Context, Missing, Object
from hyperpod_ebs.access.doctor.findings import Finding
from hyperpod_ebs.access.doctor.redaction import redact_object, redact_tags, redact_text
from hyperpod_ebs.access.doctor.report import document
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.kit.files import off_loop

_PODS: Final = 8
"""The pods of the driver whose logs are read, those with restarts first."""

_LINES: Final = "500"
_BYTES: Final = str(1 << 18)
_AT_ONCE: Final = 4
_DEADLINE: Final = 8.0
"""Seconds for all logs."""

_CONTAINERS: Final = ("ebs-plugin", "csi-", "node-driver-registrar")


def check_target(path: Path) -> None:
    """Check that the bundle can be written, before anything is read. Looks at the disk.

    Raises:
        InvalidRequest: There is a file of this name already, or the directory cannot be written to.
    """
    if path.exists():
        raise errors.InvalidRequest(f"{path} exists; give --bundle another name, or remove the file")
    if not os.access(path.absolute().parent, os.W_OK):
        raise errors.InvalidRequest(f"cannot write {path}: its directory does not exist, or is not writable")


async def write_bundle(path: Path, context: Context, findings: Sequence[Finding]) -> None:
    """Write the bundle, readable for its owner only.

    Raises:
        InvalidRequest: The file exists, or cannot be written.
    """
    files = {
        "findings.json": _json(redact_object(document(findings))),
        "versions.json": _json(_versions()),
        **{f"aws/{name}.json": _json(value) for name, value in (await _aws_objects(context)).items()},
        **{
            f"kubernetes/{name}.json": _json([redact_object(item) for item in items])
            for name, items in (await _kubernetes_objects(context)).items()
        },
        **{f"logs/{name}.log": redact_text(text) for name, text in (await _logs(context)).items()},
    }
    try:
        await off_loop(_write, path, files)
    except OSError as error:
        raise errors.InvalidRequest(f"cannot write {path}: {error.strerror or error}") from error


def _versions() -> Mapping[str, str]:
    return {
        "hyperpod-ebs": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


async def _aws_objects(context: Context) -> dict[str, object]:
    """What was read of AWS; parts that are missing are left out, because a finding names them."""
    found: dict[str, object] = {}
    try:
        aws, caller = await context.aws(), await context.caller()
        found["caller"] = {"account": caller.account, "arn": caller.arn, "region": aws.region}
        found["clusters"] = [asdict(cluster) for cluster in await context.clusters()]
        found["nodes"] = [asdict(node) for node in await context.cluster_nodes()]
        found["volumes"] = [{**asdict(volume), "tags": redact_tags(volume.tags)} for volume in await context.volumes()]
        found["roles"] = [asdict(use) for use in await context.role_uses()]
    except Missing:
        pass
    return {name: redact_object(json.loads(json.dumps(value, default=_plain))) for name, value in found.items()}


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)


async def _kubernetes_objects(context: Context) -> dict[str, list[Object]]:
    """The lists that the checks have read, by names of files."""
    found = dict[str, list[Object]]()
    for path, part in list(context.lists.items()):
        try:
            found[re.sub(r"\W+", "_", path).strip("_")] = await part.get()
        except Missing:
            continue
    return found


async def _logs(context: Context) -> dict[str, str]:
    """The newest lines of the driver's pods, as far as they can be read in time."""
    found = dict[str, str]()
    slots = asyncio.Semaphore(_AT_ONCE)

    async def read(pod: str, container: str) -> None:
        path = f"/api/v1/namespaces/{context.wanted.namespace}/pods/{pod}/log"
        async with slots:
            try:
                reader = await context.reader()
                text = await reader.get_text(path, container=container, tailLines=_LINES, limitBytes=_BYTES)
            except (errors.Error, Missing) as error:
                text = f"(not read: {error})"
        found[f"{pod}_{container}"] = text

    try:
        pods = await _driver_pods(context)
        async with asyncio.timeout(_DEADLINE), asyncio.TaskGroup() as tasks:
            for pod, container in pods:
                tasks.create_task(read(pod, container))
    except (Missing, TimeoutError):
        pass  # the bundle has the logs that were read until then
    return found


async def _driver_pods(context: Context) -> list[tuple[str, str]]:
    """The containers of the driver's pods, those that were restarted most first."""
    pods = await context.objects("/api/v1/pods", labelSelector="app.kubernetes.io/component=csi-driver")
    own = [pod for pod in pods if pod["metadata"].get("namespace") == context.wanted.namespace]
    own.sort(key=lambda pod: (-_restarts(pod), pod["metadata"]["name"]))
    return [
        (pod["metadata"]["name"], container["name"])
        for pod in own[:_PODS]
        for container in pod["spec"]["containers"]
        if container["name"].startswith(_CONTAINERS)
    ]


def _restarts(pod: Object) -> int:
    return sum(each.get("restartCount", 0) for each in (pod.get("status") or {}).get("containerStatuses") or ())


def _json(value: object) -> str:
    return f"{json.dumps(value, indent=2, default=str)}\n"


def _write(path: Path, files: Mapping[str, str]) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"hyperpod-ebs-doctor/{name}")
            content = text.encode(errors="replace")
            member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
            archive.addfile(member, io.BytesIO(content))
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(packed.getvalue())
