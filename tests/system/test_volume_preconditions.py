"""`hyperpod-ebs volume attach` and `detach`: each precondition that fails is named, and then nothing is changed.

Source: SageMaker API reference, AttachClusterNodeVolume.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp
import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.emulator.records import Attachment
from tests.support.callers import Caller
from tests.support.emulator_clients import GROUP, Aws, cloud
from tests.support.iam_users import allow
from tests.support.key_users import ACCOUNT, GUIDE, create_key, guide_with
from tests.support.volume_commands import VolumeCommands

if TYPE_CHECKING:
    from hyperpod_ebs.emulator.state.store import Table

OTHER_NODE: Final = "i-0123456789abcdef0"
LIMIT: Final = 25
"""The attach limit of an ml.m5.large beside its own two volumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A HyperPod cluster with two nodes, a volume in their zone, and the commands as its owner runs them."""

    emulator: Emulator
    aws: Aws
    cluster: str
    nodes: Sequence[str]
    volume: str
    commands: VolumeCommands

    @property
    def node(self) -> str:
        """The full name of the first node."""
        return self.name(self.nodes[0])

    def name(self, instance: str) -> str:
        """The full name of a node."""
        return f"hyperpod-{self.cluster.rpartition('/')[2]}-{instance}"

    async def requests(self) -> dict[str, int]:
        """How often an attachment or a detachment was requested."""
        async with aiohttp.request("GET", f"{self.emulator.url}/_emulator/calls") as answer:
            counts = await answer.json()
        return {name: count for name, count in counts.items() if name.startswith("sagemaker:") and "Volume" in name}


@asynccontextmanager
async def start_site(home: Path) -> AsyncGenerator[Site]:
    """Start an emulator with a cluster and a volume."""
    async with cloud() as (emulator, aws):
        cluster, nodes = await aws.create_cluster(InstanceGroups=[{**GROUP, "InstanceCount": 2}])
        zone = emulator.world.store.instances[nodes[0]].zone
        for node in nodes:
            emulator.world.store.instances.put(replace(emulator.world.store.instances[node], zone=zone))
        volume = await aws.create_volume(AvailabilityZone=zone)
        commands = VolumeCommands(env=emulator.env, home=home)
        yield Site(emulator=emulator, aws=aws, cluster=cluster, nodes=nodes, volume=volume, commands=commands)


def change(table: str, id_: Callable[[Site], str], **fields: Any) -> Callable[[Site], None]:
    """Change fields of a record in the emulator's store."""

    def apply(site: Site) -> None:
        records = getattr(site.emulator.world.store, table)
        records.put(replace(records[id_(site)], **fields))

    return apply


def cluster_id(site: Site) -> str:
    """The id of the cluster."""
    return site.cluster.rpartition("/")[2]


def first_node(site: Site) -> str:
    """The instance id of the first node."""
    return site.nodes[0]


def restrict_group(site: Site) -> None:
    """Make the node's instance group a restricted one."""
    clusters = site.emulator.world.store.clusters
    record = clusters[cluster_id(site)]
    clusters.put(
        replace(record, groups=tuple({**group, "restricted": True, "settings": {}} for group in record.groups))
    )


def fill_node(site: Site) -> None:
    """Attach as many volumes to the node as it can have."""
    store = site.emulator.world.store
    for number in range(LIMIT):
        volume = store.volumes.put(replace(store.volumes[site.volume], id=f"vol-{number:017x}"))
        store.attachments.put(
            Attachment(
                volume=volume.id, instance=site.nodes[0], device=f"/dev/xvd{number}", unit=number + 1, state="attached"
            )
        )


def attach_elsewhere(site: Site) -> None:
    """Attach the volume to the other node."""
    site.emulator.world.store.attachments.put(
        Attachment(volume=site.volume, instance=site.nodes[1], device="/dev/xvdb", unit=1, state="attached")
    )


def do_nothing(_: Site) -> None:
    """Leave everything as it is."""


class Broken(NamedTuple):
    """A precondition that is broken, and what the command says."""

    id: str
    apply: Callable[[Site], None]
    name: str
    texts: Sequence[str]
    node: Callable[[Site], str] = lambda site: site.node
    words: Sequence[str] = ()


BROKEN: Final = [
    Broken(
        "another account",
        do_nothing,
        "account",
        [f"belongs to account {ACCOUNT}", "999988887777", "copy"],
        node=lambda site: site.nodes[0],
        words=["--cluster", "arn:aws:sagemaker:us-west-2:999988887777:cluster/abcdefghijkl"],
    ),
    Broken("cluster updates", change("clusters", cluster_id, state="Updating"), "cluster", ["Updating", "InService"]),
    Broken("Slurm", change("clusters", cluster_id, eks=None), "orchestrator", ["Slurm", "EKS"]),
    Broken("no such node", do_nothing, "node", [OTHER_NODE, "choose"], node=lambda site: site.name(OTHER_NODE)),
    Broken("node ends", change("instances", first_node, state="shutting-down"), "node", ["running: choose another"]),
    Broken("node starts", change("instances", first_node, state="pending"), "node", ["Pending", "wait"]),
    Broken("restricted group", restrict_group, "instance group", ["restricted instance group workers", "choose"]),
    Broken("attached elsewhere", attach_elsewhere, "volume", ["attached at", "volume move"]),
    Broken("creating", change("volumes", lambda site: site.volume, state="creating"), "volume", ["creating", "wait"]),
    Broken(
        "other zone", change("volumes", lambda site: site.volume, zone="us-west-2b"), "zone", ["us-west-2b", "choose"]
    ),
    Broken("full node", fill_node, "attach limit", ["25", "ml.m5.large", "detach"]),
    Broken(
        "managed by Kubernetes",
        change("volumes", lambda site: site.volume, tags={"CSIVolumeName": "pvc-1"}),
        "kubernetes",
        ["CSIVolumeName=pvc-1", "--even-though-kubernetes-manages-it"],
    ),
]


async def test_each_broken_precondition_of_attach_is_named_and_nothing_is_requested(tmp_path: Path) -> None:
    """Each message has both values and the next step."""
    async with start_site(tmp_path) as site:
        store = site.emulator.world.store
        tables: list[Table[Any]] = [store.clusters, store.instances, store.volumes, store.attachments]
        before = [dict(table) for table in tables]
        said = {}
        for broken in BROKEN:
            broken.apply(site)
            words = ["attach", site.volume, broken.node(site), "--output", "json", *broken.words]
            said[broken.id] = await site.commands.run(*words, code=3)
            for table, records in zip(tables, before, strict=True):
                for id_ in set(table) - set(records):
                    table.drop(id_)
                for record in records.values():
                    table.put(record)

        for broken in BROKEN:
            found = {each["name"]: each for each in said[broken.id].json["preconditions"]}
            assert found[broken.name]["result"] == "fails", said[broken.id]
            assert all(text in found[broken.name]["finding"] for text in broken.texts), found[broken.name]
            assert f"fails: {broken.name}: " in said[broken.id].err
            assert "nothing was changed" in said[broken.id].err
        assert await site.requests() == {}


async def test_all_failing_preconditions_are_shown_at_once(tmp_path: Path) -> None:
    """A dry run prints all preconditions; the order of failures does not hide one."""
    async with start_site(tmp_path) as site:
        change("volumes", lambda site: site.volume, zone="us-west-2b")(site)
        restrict_group(site)

        dry = await site.commands.run("attach", site.volume, site.node, "--dry-run", code=3)

        assert [line.split("  ")[0] for line in dry.out.splitlines() if " fails " in line] == ["instance group", "zone"]
        assert "2 of" in dry.err
        assert await site.requests() == {}


STATES: Final = {"Disabled": "enable-key", "PendingDeletion": "cancel-key-deletion"}


async def test_unusable_keys_are_named(tmp_path: Path) -> None:
    """KMS Developer Guide, "Key states of AWS KMS keys"."""
    async with start_site(tmp_path) as site:
        key = await create_key(site.aws)
        zone = site.emulator.world.store.instances[site.nodes[0]].zone
        volume = await site.aws.create_volume(AvailabilityZone=zone, Encrypted=True, KmsKeyId=key)
        keys = site.emulator.world.store.kms_keys
        record = keys[key.rpartition("/")[2]]
        said = {}
        for state in STATES:
            keys.put(replace(record, state=state))
            said[state] = (await site.commands.run("attach", volume, site.node, code=3)).err
        keys.drop(record.id)
        missing = (await site.commands.run("attach", volume, site.node, code=3)).err

        assert all(f"is in state {state}" in said[state] and STATES[state] in said[state] for state in STATES), said
        assert f"KMS key {key} of volume {volume} does not exist" in missing
        assert await site.requests() == {}


READ: Final = allow(
    *("ec2:Describe*", "sagemaker:Describe*", "sagemaker:List*", "iam:SimulatePrincipalPolicy", "kms:GetKeyPolicy")
)
ATTACH: Final[Mapping[str, Mapping[str, Any]]] = {
    "sagemaker:AttachClusterNodeVolume": allow("sagemaker:AttachClusterNodeVolume"),
    "eks:DescribeCluster": allow("eks:DescribeCluster"),
    "ec2:AttachVolume": allow("ec2:AttachVolume", resource=f"arn:aws:ec2:us-west-2:{ACCOUNT}:volume/*"),
    "kms:DescribeKey": allow("kms:DescribeKey"),
    "kms:CreateGrant": allow("kms:CreateGrant", Condition=GUIDE),
}
DETACH: Final[Mapping[str, Mapping[str, Any]]] = {
    "sagemaker:DetachClusterNodeVolume": allow("sagemaker:DetachClusterNodeVolume"),
    "eks:DescribeCluster": allow("eks:DescribeCluster"),
    "ec2:DetachVolume": allow("ec2:DetachVolume", resource=f"arn:aws:ec2:us-west-2:{ACCOUNT}:volume/*"),
}
DELEGATION: Final = allow("kms:*", Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"})


async def test_each_missing_permission_is_named_before_aws_refuses(tmp_path: Path) -> None:
    """Attach and detach with each permission missing in turn, and once with all of them.

    SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters".
    """
    async with start_site(tmp_path) as site:
        key = await create_key(site.aws, DELEGATION)
        zone = site.emulator.world.store.instances[site.nodes[0]].zone
        volume = await site.aws.create_volume(AvailabilityZone=zone, Encrypted=True, KmsKeyId=key)
        caller = await Caller.create(site.emulator, "hand")
        commands = VolumeCommands(env=caller.env, home=tmp_path)
        said: dict[str, str] = {}

        for missing in ATTACH:
            caller.allow([READ, *(each for name, each in ATTACH.items() if name != missing)])
            said[missing] = (await commands.run("attach", volume, site.node, code=3)).err
        other = guide_with("StringEquals", "kms:ViaService", "ec2.eu-west-1.amazonaws.com")
        caller.allow([READ, *{**ATTACH, "kms:CreateGrant": allow("kms:CreateGrant", Condition=other)}.values()])
        said["kms:CreateGrant elsewhere"] = (await commands.run("attach", volume, site.node, code=3)).err
        attached_before = await site.requests()
        caller.allow([READ, *ATTACH.values()])
        attached = await commands.run("attach", volume, site.node)
        for missing in DETACH:
            caller.allow([READ, *(each for name, each in DETACH.items() if name != missing)])
            said[f"{missing} to detach"] = (await commands.run("detach", volume, "--yes", code=3)).err
        detached_before = await site.requests()
        caller.allow([READ, *DETACH.values()])
        detached = await commands.run("detach", volume, "--yes", "--output", "json")

        for missing, text in said.items():
            action = missing.partition(" ")[0]
            assert f"fails: permission {action}: " in text, text
            assert f'"Action": "{action}"' in text
        assert attached_before == {}
        assert detached_before == {"sagemaker:AttachClusterNodeVolume": 1}
        assert f"is attached to {site.node}" in attached.out
        assert detached.json["state"] == "available"


async def test_only_the_guides_permissions_are_enough_to_attach(tmp_path: Path) -> None:
    """AWS's documents for callers grant nothing to read with; what was not checked is shown."""
    async with start_site(tmp_path) as site:
        caller = await Caller.create(site.emulator, "guide")
        caller.allow([*ATTACH.values(), *DETACH.values()])
        commands = VolumeCommands(env=caller.env, home=tmp_path)

        attached = await commands.run("attach", site.volume, site.node)
        detached = await commands.run("detach", site.volume, site.node, "--yes")

        assert "not checked: cluster: cannot describe" in attached.err
        assert "not checked: permission sagemaker:AttachClusterNodeVolume" in attached.err
        assert "may not see it finish" in attached.err
        assert "may not see it finish" in detached.err
        assert await site.aws.volume_state(site.volume) == "available"


@pytest.mark.parametrize("volume", ["vol-1", "vol-0123456789abcdef0; reboot", "völ"])
async def test_what_cannot_be_a_volume_is_refused(tmp_path: Path, volume: str) -> None:
    """Wrong usage is found before AWS is called, and without credentials."""
    refused = await VolumeCommands(env={}, home=tmp_path).run("attach", volume, "i-0123456789abcdef0", code=2)

    assert "no volume can have the id" in refused.err
