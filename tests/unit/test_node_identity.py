"""Who a node is, from what several sources tell of it."""

from typing import NamedTuple

import pytest

from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.kubernetes_node import KubernetesNode, Taint
from hyperpod_ebs.driver.model.node_identity import (
    AttachLimitSettings,
    NodeIdentity,
    PartialIdentity,
    merged_identity,
    missing_fields,
)

EC2 = nodes.parse("i-0123456789abcdef0")
HYPERPOD = nodes.parse("hyperpod-abcdefghijkl-i-0123456789abcdef0")
ZONE = "topology.kubernetes.io/zone"
TYPE = "node.kubernetes.io/instance-type"
INTERFACES = "sagemaker.amazonaws.com/num-eni-attachments"
VOLUMES = "sagemaker.amazonaws.com/num-block-device-mappings"


def hyperpod(instance_type: str = "ml.g5.8xlarge", **labels: str) -> PartialIdentity:
    """A HyperPod node's object in Kubernetes, as it is read."""
    return KubernetesNode(
        name="hyperpod-i-0123456789abcdef0",
        provider_id="aws:///usw2-az1/sagemaker/cluster/hyperpod-abcdefghijkl-i-0123456789abcdef0",
        labels={ZONE: "us-west-2a", TYPE: instance_type, **labels},
    ).identity()


class Case(NamedTuple):
    """What is told, and how many volumes follow."""

    id: str
    told: PartialIdentity
    volumes: int
    allowance: AttachLimitSettings = AttachLimitSettings()


@pytest.mark.parametrize(
    "case",
    [
        Case("root and secondary volume are there anyway", hyperpod(), 23),
        Case("SageMaker counts the volumes besides the root", hyperpod(**{VOLUMES: "3"}), 21),
        Case("interfaces past the first take places", hyperpod(**{INTERFACES: "4"}), 20),
        Case("both", hyperpod(**{INTERFACES: "4", VOLUMES: "1"}), 20),
        Case("where places are for volumes alone they take none", hyperpod("ml.p5.48xlarge", **{INTERFACES: "64"}), 62),
        Case("a count of no interfaces is nobody's count", hyperpod(**{INTERFACES: "0"}), 23),
        Case("what is no number is no count", hyperpod(**{INTERFACES: "many", VOLUMES: "-1"}), 23),
        Case("never below one", hyperpod("ml.g5.48xlarge", **{VOLUMES: "40"}), 1),
        Case("a limit is taken as it is", hyperpod(**{VOLUMES: "3"}), 5, AttachLimitSettings(limit=5)),
        Case(
            "reserved places stand in for what is counted",
            hyperpod(**{VOLUMES: "3"}),
            24,
            AttachLimitSettings(reserved=1),
        ),
        Case("interfaces count all the same", hyperpod(**{INTERFACES: "3"}), 23, AttachLimitSettings(reserved=0)),
        Case("an unknown type has no limit that is known", hyperpod("ml.x99.huge"), 0),
        Case("nor has one that is not told", PartialIdentity(id=HYPERPOD, zone="z"), 0),
        Case("a plain instance has its root", PartialIdentity(id=EC2, zone="z", instance_type="m5.large"), 26),
    ],
    ids=lambda case: case.id,
)
def test_the_attach_limit_follows_from_type_and_counts(case: Case) -> None:
    """Upstream's formula: the type's places, less what is there anyway, less the interfaces past the first."""
    known = merged_identity([case.told], case.allowance)

    assert known is not None
    assert known.volumes == case.volumes


def test_what_is_told_first_is_believed_field_by_field() -> None:
    """Ours: an operator may correct one thing and leave the rest to the sources."""
    given, found = PartialIdentity(zone="us-west-2b"), hyperpod()

    known = merged_identity([given, found], AttachLimitSettings())

    assert known == NodeIdentity(id=str(HYPERPOD), zone="us-west-2b", volumes=23)


def test_a_node_is_a_hyperpod_node_when_any_source_knows_its_cluster() -> None:
    """EC2 knows a HyperPod node as a plain instance, to which nobody may attach."""
    plain = PartialIdentity(id=EC2, zone="us-west-2a", instance_type="g5.8xlarge")

    known = merged_identity([plain, hyperpod()], AttachLimitSettings())

    assert known is not None
    assert known.id == str(HYPERPOD)


def test_a_node_without_id_or_zone_is_not_known() -> None:
    """CSI: without the one nothing is attached, without the other nothing is scheduled."""
    assert merged_identity([PartialIdentity(id=EC2)], AttachLimitSettings()) is None
    assert merged_identity([PartialIdentity(zone="z")], AttachLimitSettings()) is None
    assert (missing_fields([PartialIdentity(id=EC2)]), missing_fields([])) == (["zone"], ["id", "zone"])


@pytest.mark.parametrize(
    ("provider", "node"),
    [
        ("aws:///us-west-2a/i-0123456789abcdef0", EC2),
        ("aws:///usw2-az2/sagemaker/cluster/hyperpod-abcdefghijkl-i-0123456789abcdef0", HYPERPOD),
    ],
)
def test_a_provider_id_ends_with_the_nodes_id(provider: str, node: nodes.Node) -> None:
    """EKS and HyperPod: what each writes into spec.providerID."""
    assert nodes.parse_provider_id(provider) == node


@pytest.mark.parametrize(
    "provider",
    ["", "aws:///us-west-2a/0123/fargate-ip-10-0-0-1", "gce://p/z/i-0123456789abcdef0", "i-0123456789abcdef0"],
)
def test_a_provider_id_that_leads_to_no_instance_is_refused(provider: str) -> None:
    """Fargate and hybrid nodes have one too."""
    with pytest.raises(errors.Refused, match="providerID that leads to no instance"):
        KubernetesNode(name="n", provider_id=provider, labels={ZONE: "z"}).identity()


def test_a_node_without_a_zone_says_which_label_is_missing() -> None:
    """Ours: who reads it has to know what to mend."""
    with pytest.raises(errors.Refused, match=f"node n has no label {ZONE}"):
        KubernetesNode(name="n", provider_id="aws:///us-west-2a/i-0123456789abcdef0").identity()


@pytest.mark.parametrize(
    ("key", "leaving"),
    [
        ("node.kubernetes.io/unschedulable", True),
        ("node.kubernetes.io/out-of-service", True),
        ("karpenter.sh/disrupted", True),
        ("ToBeDeletedByClusterAutoscaler", True),
        ("node.kubernetes.io/not-ready", False),
        ("ebs.csi.aws.com/agent-not-ready", False),
    ],
)
def test_some_taints_say_that_a_node_is_leaving(key: str, leaving: bool) -> None:  # noqa: FBT001 - a table
    """Upstream's list, and the out-of-service taint of Kubernetes."""
    assert KubernetesNode(name="n", taints=(Taint(key=key, effect="NoExecute"),)).leaving is leaving
