"""A place to look for leftovers in: an embedded cloud, a recorded cluster named `training`, and a kubectl for it."""

import json
import stat
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from hyperpod_ebs.driver.model.tags import TagPolicy
from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import Aws
from tests.support.recorded_cluster import RecordedCluster
from tests.support.volume_commands import VolumeCommands

CLUSTER: Final = "training"

# What `kubectl get --raw` prints and returns, without the seconds that kubectl takes to start.
_KUBECTL: Final = """\
#!{python} -IS
import http.client, json, os, ssl, sys
for word in sys.argv:
    if word.startswith("--kubeconfig=") and not os.path.exists(word[13:]):
        sys.exit("error: stat " + word[13:] + ": no such file or directory")
context = ssl.create_default_context(cafile={ca!r})
connection = http.client.HTTPSConnection("127.0.0.1", {port}, context=context, timeout=20)
connection.request("GET", sys.argv[-1], headers={{"Authorization": "Bearer {token}"}})
answer = connection.getresponse()
body = answer.read().decode()
if answer.status == 403:
    sys.exit("Error from server (Forbidden): " + json.loads(body)["message"])
if answer.status == 404:
    sys.exit("Error from server (NotFound): " + json.loads(body)["message"])
sys.stdout.write(body)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftoverSite:
    """The cloud, the cluster, and the command."""

    emulator: Emulator
    aws: Aws
    cluster: RecordedCluster
    commands: VolumeCommands
    record: Path
    """A file for the record."""

    @classmethod
    @asynccontextmanager
    async def prepare(cls, emulator: Emulator, aws: Aws, directory: Path) -> AsyncGenerator[Self]:
        """Serve the cluster."""
        cluster = RecordedCluster.healthy()
        for plural in ("volumesnapshotclasses", "volumesnapshotcontents"):
            cluster.paths[f"/apis/snapshot.storage.k8s.io/v1/{plural}"] = plural
            cluster.lists.setdefault(plural, [])
        for storage_class in cluster.lists["storageclasses"]:
            storage_class["reclaimPolicy"] = "Delete"
        for snapshot_class in cluster.lists["volumesnapshotclasses"]:
            snapshot_class["deletionPolicy"] = "Delete"
        async with cluster.serve(directory):
            kubectl, kubeconfig = directory / "bin" / "kubectl", directory / "kubeconfig"
            kubectl.parent.mkdir()
            kubectl.write_text(
                _KUBECTL.format(
                    python=sys.executable, ca=str(directory / "ca.crt"), port=cluster.port, token=cluster.token
                )
            )
            kubectl.chmod(kubectl.stat().st_mode | stat.S_IXUSR)
            kubeconfig.touch()
            extra = {"PATH": f"{kubectl.parent}:/usr/bin:/bin", "KUBECONFIG": str(kubeconfig)}
            commands = VolumeCommands(env=emulator.env, home=directory, group="leftovers", extra=extra)
            record = directory / "record.jsonl"
            yield cls(emulator=emulator, aws=aws, cluster=cluster, commands=commands, record=record)

    async def add_volume(
        self, number: int = 0, *, cluster: str = CLUSTER, age: timedelta = timedelta(days=30), **members: Any
    ) -> str:
        """Create a volume as the driver does, for a claim `data-NUMBER`; its id."""
        name = f"pvc-00000000-0000-4000-8000-{number:012}"
        metadata = {
            "csi.storage.k8s.io/pvc/namespace": "research",
            "csi.storage.k8s.io/pvc/name": f"data-{number}",
            "csi.storage.k8s.io/pv/name": name,
        }
        tags = TagPolicy(cluster=cluster).volume_tags(name, metadata, ())
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        id_ = await self.aws.create_volume(
            TagSpecifications=[{"ResourceType": "volume", "Tags": pairs}], **{"Size": number + 1} | members
        )
        volumes = self.emulator.world.store.volumes
        volumes.put(replace(volumes[id_], created=(datetime.now(UTC) - age).timestamp()))
        return id_

    async def run_as(self, user: Aws, *words: str, code: int) -> Any:
        """Run the command with the credentials of these clients; what it printed."""
        key = user.clients["ec2"]._request_signer._credentials
        env = {"AWS_ACCESS_KEY_ID": key.access_key, "AWS_SECRET_ACCESS_KEY": key.secret_key}
        return await replace(self.commands, env={**self.emulator.env, **env}).run(*words, code=code)

    async def operations(self) -> list[str]:
        """The operations that the command has called, with their callers' agent."""
        async with aiohttp.request("GET", f"{self.emulator.url}/_emulator/calls/latest?count=1000") as answer:
            calls = (await answer.json())["calls"]
        return [call["operation"] for call in calls if "hyperpod-ebs" in call["agent"]]

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the record."""
        return [json.loads(line) for line in self.record.read_text().splitlines()] if self.record.exists() else []
