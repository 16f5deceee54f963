"""Decide which objects belong to nothing any more, and what protects each of the others.

The decision is a plain function over values. It errs on the side of keeping: an object is a leftover only if the
cluster that it belongs to is the one that was read, all of that cluster's objects could be read, and none of them
needs it.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Final, Literal

from hyperpod_ebs.access.aws.snapshots import EbsSnapshot
from hyperpod_ebs.access.aws.volumes import EbsVolume, Holder
from hyperpod_ebs.access.leftovers import prices
from hyperpod_ebs.access.leftovers.world import Kubernetes, KubernetesAttachment, KubernetesNode, World
from hyperpod_ebs.driver.model import tags

Kind = Literal["volume", "snapshot", "attachment", "VolumeAttachment"]

Protection = Literal[
    "not-read",
    "not-the-drivers",
    "another-cluster",
    "cluster-not-known",
    "named",
    "retain",
    "in-use",
    "machine",
    "too-young",
]

DRIVER: Final = "ebs.csi.aws.com"

_CLUSTER_KEY_PREFIX: Final = "kubernetes.io/cluster/"
_OLD_CLUSTER_KEY: Final = "KubernetesCluster"
_CLAIM_NAME: Final = tags.METADATA["csi.storage.k8s.io/pvc/name"]
_CLAIM_NAMESPACE: Final = tags.METADATA["csi.storage.k8s.io/pvc/namespace"]
_VOLUME_NAME: Final = tags.METADATA["csi.storage.k8s.io/pv/name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the user wants to have judged."""

    older_than: timedelta
    cluster: str | None = None
    """The cluster's name in tags; by default the name that the cluster's own controller writes."""

    untagged: bool = False
    """Whether objects whose tags name no cluster belong to the Kubernetes cluster that was read."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an object is kept."""

    kind: Protection
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of an object: it is a leftover, or something protects it."""

    kind: Kind
    id: str
    """For an attachment, the volume's id, `@` and the instance or resource that holds it."""

    description: str
    since: datetime | None
    """When it was created or attached."""

    monthly_cost: float
    """US dollars, estimated; what a snapshot costs at most."""

    protections: tuple[Reason, ...]
    evidence: tuple[str, ...]
    """Why it is a leftover."""

    removal: str = ""
    """The command that removes it, or what to do, if `--delete` does not."""

    @property
    def is_leftover(self) -> bool:
        """Whether nothing protects it."""
        return not self.protections

    @property
    def is_deletable(self) -> bool:
        """Whether `--delete` may act on it."""
        return self.is_leftover and not self.removal


def judge(world: World, rules: Rules) -> list[Verdict]:
    """Judge every object; the order is that of the world, volumes first."""
    needs, links = _Needs(world.kubernetes), _Links(world)
    return [
        *(_judge_volume(world, rules, needs, volume) for volume in world.volumes),
        *(_judge_snapshot(world, rules, needs, snapshot) for snapshot in world.snapshots),
        *(
            _judge_attachment(world, rules, links, volume, holder)
            for volume in world.volumes
            for holder in volume.holders
        ),
        *(_judge_volume_attachment(world, rules, links, each) for each in world.kubernetes.attachments),
    ]


def suspects(volumes: Iterable[EbsVolume], kubernetes: Kubernetes) -> list[Holder]:
    """The holders of volumes that are not nodes of the Kubernetes cluster, whose states AWS is to be asked for."""
    known = {node.instance for node in kubernetes.nodes}
    return [holder for volume in volumes for holder in volume.holders if holder.node and _instance(holder) not in known]


class _Needs:
    """What the objects of the Kubernetes cluster need, by id and by name."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._by_id, self._by_name = dict[str, str](), dict[str, str]()
        self.claims, self.snapshots = _Uids(), _Uids()
        self._unbound = dict[tuple[str, str], str]()
        for volume in kubernetes.volumes:
            self._add(f"PersistentVolume {volume.name} ({volume.phase}, {volume.policy})", volume.ids, volume.name)
        for claim in kubernetes.claims:
            text = f"PersistentVolumeClaim {claim.namespace}/{claim.name}"
            self._add(text, claim.ids, claim.volume_name)
            self.claims.add(claim.uid, text)
            if not claim.volume_name:
                self._unbound[claim.namespace, claim.name] = text
        for content in kubernetes.contents:
            text = f"VolumeSnapshotContent {content.name} ({content.policy})"
            self._add(text, content.ids)
            self.snapshots.add(content.snapshot_uid, text)
        for attachment in kubernetes.attachments:
            self._add(f"VolumeAttachment {attachment.name}", attachment.ids, attachment.volume_name)
        for storage_class in kubernetes.classes:
            self._add(f"StorageClass {storage_class.name}", storage_class.ids)
        for node in kubernetes.nodes:
            self._add(f"Node {node.name}", node.ids)

    def _add(self, text: str, ids: Iterable[str], name: str = "") -> None:
        for id_ in ids:
            self._by_id.setdefault(id_, text)
        if name:
            self._by_name.setdefault(name, text)

    def reasons(
        self, id_: str, names: Iterable[str], uids: "_Uids", claim: tuple[str, str] = ("", "")
    ) -> Iterator[Reason]:
        """The objects that need the AWS object with this id, with these names in its tags, for this claim."""
        names = [name for name in names if name]
        texts = [
            self._by_id.get(id_),
            *(self._by_name.get(name) for name in names),
            *(text for name in names for text in uids.matches(name)),
            self._unbound.get(claim),
        ]
        yield from (Reason("named", f"{text} needs it") for text in dict.fromkeys(texts) if text)


class _Uids:
    """Objects by their uid, with which the names of volumes and snapshots end, after a prefix of the user's choice."""

    def __init__(self) -> None:
        self._texts, self._lengths = dict[str, str](), set[int]()

    def add(self, uid: str, text: str) -> None:
        if uid:
            self._texts[uid] = text
            self._lengths.add(len(uid))

    def matches(self, name: str) -> Iterator[str]:
        """The objects with whose uid the name ends."""
        yield from (self._texts[name[-length:]] for length in self._lengths if name[-length:] in self._texts)


class _Links:
    """Which VolumeAttachment concerns which volume, and which node is which machine."""

    def __init__(self, world: World) -> None:
        self.node_names = {node.name for node in world.kubernetes.nodes}
        self.nodes = {node.instance: node for node in world.kubernetes.nodes if node.instance}
        self.attachments, self.volumes = dict[str, list[str]](), dict[str, list[EbsVolume]]()
        by_id = {volume.id: volume for volume in world.volumes}
        by_name = {name: volume for volume in world.volumes for name in _names(volume) if name}
        ids = {volume.name: volume.ids for volume in world.kubernetes.volumes}
        for each in world.kubernetes.attachments:
            found = [by_id.get(id_) for id_ in {*each.ids, *ids.get(each.volume_name, ())}]
            for volume in (volume for volume in [*found, by_name.get(each.volume_name)] if volume):
                self.attachments.setdefault(volume.id, []).append(each.name)
                self.volumes.setdefault(each.name, []).append(volume)


def _judge_volume(world: World, rules: Rules, needs: _Needs, volume: EbsVolume) -> Verdict:
    claim = (volume.tags.get(_CLAIM_NAMESPACE, ""), volume.tags.get(_CLAIM_NAME, ""))
    protections = chain(
        _ownership(world.kubernetes, rules, volume.tags, tags.VOLUME_NAME),
        (Reason("in-use", f"it is attached to {holder.resource}") for holder in volume.holders),
        (Reason("in-use", f"its state is {state}") for state in [volume.state] if state != "available"),
        needs.reasons(volume.id, _names(volume), needs.claims, claim),
        _retaining_classes(world.kubernetes, volume),
        _youth(world, rules, volume.created),
    )
    return Verdict(
        kind="volume",
        id=volume.id,
        description=f"{volume.gib} GiB {volume.type} in {volume.zone}",
        since=volume.created,
        monthly_cost=prices.volume_cost(world.region, volume.type, volume.gib, volume.iops, volume.throughput),
        protections=tuple(protections),
        evidence=(
            f"created {_day(volume.created)}{_purpose(volume.tags)}, and not attached",
            "no PersistentVolume, claim, VolumeSnapshotContent, VolumeAttachment or node of the cluster names it",
            _cluster_evidence(volume.tags),
        ),
    )


def _judge_snapshot(world: World, rules: Rules, needs: _Needs, snapshot: EbsSnapshot) -> Verdict:
    kubernetes = world.kubernetes
    no_kinds = [] if kubernetes.knows_snapshots else ["the cluster has no VolumeSnapshotContents to compare it with"]
    protections = chain(
        _ownership(kubernetes, rules, snapshot.tags, tags.SNAPSHOT_NAME),
        (Reason("not-read", text) for text in no_kinds),
        (Reason("in-use", f"its state is {state}") for state in [snapshot.state] if state != "completed"),
        needs.reasons(snapshot.id, {snapshot.tags.get(tags.SNAPSHOT_NAME, "")}, needs.snapshots),
        (
            Reason("retain", f"it may be kept on purpose: VolumeSnapshotClass {each.name} retains snapshots")
            for each in kubernetes.snapshot_classes
            if each.policy != "Delete"
        ),
        _youth(world, rules, snapshot.created),
    )
    return Verdict(
        kind="snapshot",
        id=snapshot.id,
        description=f"{snapshot.gib} GiB of {snapshot.volume}",
        since=snapshot.created,
        monthly_cost=prices.snapshot_cost(world.region, snapshot.full_gib, archived=snapshot.archived),
        protections=tuple(protections),
        evidence=(
            f"taken {_day(snapshot.created)}",
            "no VolumeSnapshotContent, PersistentVolume or StorageClass of the cluster names it",
            _cluster_evidence(snapshot.tags),
        ),
    )


def _judge_attachment(world: World, rules: Rules, links: _Links, volume: EbsVolume, holder: Holder) -> Verdict:
    """An attachment at AWS whose machine is gone or stopped, or whose VolumeAttachment is gone."""
    kubernetes, instance = world.kubernetes, _instance(holder)
    node = links.nodes.get(instance)
    protections = chain(
        _ownership(kubernetes, rules, volume.tags, tags.VOLUME_NAME),
        (Reason("in-use", f"its state is {state}") for state in [holder.state] if state not in {"attached", "busy"}),
        (Reason("named", f"VolumeAttachment {name} needs it") for name in links.attachments.get(volume.id, ())),
        (Reason("machine", text) for text in _machine_reasons(world, volume, holder, node)),
        _youth(world, rules, holder.since),
    )
    where = (
        f"Node {node.name} is up" if node else f"no node of the cluster is {instance}, which is {_state(world, holder)}"
    )
    return Verdict(
        kind="attachment",
        id=attachment_id(volume, holder),
        description=f"{volume.gib} GiB {volume.type}, {holder.state}",
        since=holder.since,
        monthly_cost=0.0,
        protections=tuple(protections),
        evidence=(
            f"attached {_day(holder.since)}; {where}",
            "no VolumeAttachment of the cluster names the volume",
            _cluster_evidence(volume.tags),
        ),
        removal=f"on the node, check that no process uses it and unmount it; then {_detach_command(volume, holder)}"
        if node
        else "",
    )


def attachment_id(volume: EbsVolume, holder: Holder) -> str:
    """The id of an attachment in verdicts."""
    return f"{volume.id}@{_instance(holder) or holder.resource}"


def _machine_reasons(world: World, volume: EbsVolume, holder: Holder, node: KubernetesNode | None) -> Iterator[str]:
    """What is known of the machine that forbids to detach the volume from it."""
    if holder.node is None:
        yield f"another AWS service holds it: {holder.resource}"
    elif node is not None:
        if volume.id in node.ids:
            yield f"Node {node.name} uses it"
    elif _state(world, holder) not in {"stopped", "gone"}:
        yield f"machine {_instance(holder)} is {_state(world, holder)}"


def _judge_volume_attachment(world: World, rules: Rules, links: _Links, attachment: KubernetesAttachment) -> Verdict:
    """A VolumeAttachment whose Node is gone."""
    kubernetes = world.kubernetes
    holders = [holder for volume in links.volumes.get(attachment.name, ()) for holder in volume.holders]
    up = [holder for holder in holders if _state(world, holder) not in {"stopped", "gone"}]
    protections = chain(
        (Reason("not-read", gap) for gap in kubernetes.gaps),
        (Reason("machine", f"Node {name} exists") for name in [attachment.node] if name in links.node_names),
        (Reason("machine", f"its volume is attached to {each.resource}, which may be up") for each in up),
        _youth(world, rules, attachment.created),
    )
    return Verdict(
        kind="VolumeAttachment",
        id=attachment.name,
        description=f"{attachment.volume_name or 'inline volume'} on {attachment.node}",
        since=attachment.created,
        monthly_cost=0.0,
        protections=tuple(protections),
        evidence=(f"created {_day(attachment.created)}; Node {attachment.node} does not exist",),
        removal=f"kubectl delete volumeattachment {shlex.quote(attachment.name)}",
    )


def _ownership(kubernetes: Kubernetes, rules: Rules, found: Mapping[str, str], name_key: str) -> Iterator[Reason]:
    """Why the tags do not prove that the driver made the object for the cluster that was read."""
    if found.get(tags.MANAGED) != "true" or not found.get(name_key):
        yield Reason("not-the-drivers", f"it lacks a tag of the driver: {tags.MANAGED}=true and {name_key}")
    yield from (Reason("not-read", gap) for gap in kubernetes.gaps)
    names = cluster_names(found)
    if not kubernetes.controllers:
        yield Reason("cluster-not-known", "no controller of the driver runs in the Kubernetes cluster that was read")
    elif not names:
        if not rules.untagged:
            yield Reason("cluster-not-known", "no tag names its cluster; see --untagged")
    elif names != {wanted := wanted_cluster(kubernetes, rules)}:
        text = wanted or "none; give --cluster, or give its controller --k8s-tag-cluster-id"
        yield Reason(
            "another-cluster", f"its tags name cluster {', '.join(sorted(names))}; the cluster that was read is {text}"
        )
    elif wanted not in kubernetes.controllers:
        said = ", ".join(sorted(name or "no name" for name in kubernetes.controllers))
        yield Reason(
            "cluster-not-known",
            f"its tags name cluster {wanted}, but the controller of the cluster that was read writes {said}; "
            "give the --context of the right cluster",
        )


def wanted_cluster(kubernetes: Kubernetes, rules: Rules) -> str:
    """The name in tags of the cluster that is judged; empty if it is not known."""
    if rules.cluster is not None:
        return rules.cluster
    written = kubernetes.controllers - {""}
    return next(iter(written)) if len(written) == 1 else ""


def cluster_names(found: Mapping[str, str]) -> set[str]:
    """The names of all clusters in the tags."""
    keys = (key.removeprefix(_CLUSTER_KEY_PREFIX) for key in found if key.startswith(_CLUSTER_KEY_PREFIX))
    return {*keys, *(found[key] for key in (tags.CLUSTER, _OLD_CLUSTER_KEY) if key in found)}


def _retaining_classes(kubernetes: Kubernetes, volume: EbsVolume) -> Iterator[Reason]:
    """The StorageClasses that may have made the volume and keep volumes whose PersistentVolume is deleted.

    Nothing in a volume says which class it is from. Only one thing excludes a class: a class that encrypts its volumes
    made none that is not encrypted, because encryption never changes.
    """
    for each in kubernetes.classes:
        if each.policy != "Delete" and not (each.encrypted and not volume.key):
            yield Reason("retain", f"it may be kept on purpose: StorageClass {each.name} retains volumes")


def _youth(world: World, rules: Rules, since: datetime | None) -> Iterator[Reason]:
    if since is None:
        yield Reason("too-young", "its age is not known")
    elif world.now - since < rules.older_than:
        yield Reason("too-young", f"it is from {_day(since)}, younger than {_span(rules.older_than)}")


def _names(volume: EbsVolume) -> set[str]:
    return {volume.tags.get(tags.VOLUME_NAME, ""), volume.tags.get(_VOLUME_NAME, "")}


def _instance(holder: Holder) -> str:
    return holder.node.instance if holder.node else ""


def _state(world: World, holder: Holder) -> str:
    return world.machines.get(_instance(holder), "in a state that AWS does not say")


def _detach_command(volume: EbsVolume, holder: Holder) -> str:
    return f"hyperpod-ebs volume detach {volume.id} {_instance(holder)} --even-though-kubernetes-manages-it"


def _purpose(found: Mapping[str, str]) -> str:
    claim = found.get(_CLAIM_NAME)
    return f" for claim {found.get(_CLAIM_NAMESPACE, '')}/{claim}" if claim else ""


def _cluster_evidence(found: Mapping[str, str]) -> str:
    names = cluster_names(found)
    return f"its tags name cluster {', '.join(sorted(names))}" if names else "no tag names a cluster"


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "at a time that AWS does not say"


def _span(span: timedelta) -> str:
    return f"{span.days} days" if span >= timedelta(days=1) else str(span)
