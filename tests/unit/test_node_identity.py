"""The identity of a node, merged from several sources."""

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


def hyperpod_node(instance_type: str = "ml.g5.8xlarge", **labels: str) -> PartialIdentity:
    """The identity of a HyperPod node according to Kubernetes."""
    return KubernetesNode(
        name="hyperpod-i-0123456789abcdef0",
        provider_id="aws:///usw2-az1/sagemaker/cluster/hyperpod-abcdefghijkl-i-0123456789abcdef0",
        labels={ZONE: "us-west-2a", TYPE: instance_type, **labels},
    ).identity()


class Case(NamedTuple):
    """What a source knows, and the attach limit that follows."""

    id: str
    source: PartialIdentity
    limit: int
    settings: AttachLimitSettings = AttachLimitSettings()


@pytest.mark.parametrize(
    "case",
    [
        Case("root and secondary volume take slots", hyperpod_node(), 23),
        Case("SageMaker counts the volumes besides the root", hyperpod_node(**{VOLUMES: "3"}), 21),
        Case("interfaces after the first take slots", hyperpod_node(**{INTERFACES: "4"}), 20),
        Case("both", hyperpod_node(**{INTERFACES: "4", VOLUMES: "1"}), 20),
        Case(
            "interfaces take no slots that are for volumes only",
            hyperpod_node("ml.p5.48xlarge", **{INTERFACES: "64"}),
            62,
        ),
        Case("0 interfaces means not counted", hyperpod_node(**{INTERFACES: "0"}), 23),
        Case("a label that is not a number does not count", hyperpod_node(**{INTERFACES: "many", VOLUMES: "-1"}), 23),
        Case("never below one", hyperpod_node("ml.g5.48xlarge", **{VOLUMES: "40"}), 1),
        Case(
            "a configured limit replaces the computed one",
            hyperpod_node(**{VOLUMES: "3"}),
            5,
            AttachLimitSettings(limit=5),
        ),
        Case(
            "configured reserved slots replace the count",
            hyperpod_node(**{VOLUMES: "3"}),
            24,
            AttachLimitSettings(reserved=1),
        ),
        Case(
            "interfaces take slots besides the reserved ones",
            hyperpod_node(**{INTERFACES: "3"}),
            23,
            AttachLimitSettings(reserved=0),
        ),
        Case("an unknown type has the slots of most types", hyperpod_node("ml.x99.huge"), 25),
        Case("a node without a type has the slots of most types", PartialIdentity(id=HYPERPOD, zone="z"), 25),
        Case(
            "the root volume of a plain instance takes a slot",
            PartialIdentity(id=EC2, zone="z", instance_type="m5.large"),
            26,
        ),
    ],
    ids=lambda case: case.id,
)
def test_the_attach_limit_follows_from_instance_type_volumes_and_interfaces(case: Case) -> None:
    """As upstream: the type's slots, minus other volumes, minus interfaces after the first."""
    identity = merged_identity([case.source], case.settings)

    assert identity is not None
    assert identity.attach_limit == case.limit


def test_for_each_field_the_first_source_that_has_it_counts() -> None:
    """An operator can set a single field and leave the rest to the metadata sources."""
    configured = PartialIdentity(zone="us-west-2b")

    identity = merged_identity([configured, hyperpod_node()], AttachLimitSettings())

    assert identity == NodeIdentity(id=str(HYPERPOD), zone="us-west-2b", instance_type="ml.g5.8xlarge", attach_limit=23)


def test_a_node_is_a_hyperpod_node_if_any_source_knows_its_cluster() -> None:
    """Instance metadata describes a HyperPod node as a plain instance, to which no volume can be attached."""
    plain = PartialIdentity(id=EC2, zone="us-west-2a", instance_type="g5.8xlarge")

    identity = merged_identity([plain, hyperpod_node()], AttachLimitSettings())

    assert identity is not None
    assert identity.id == str(HYPERPOD)


def test_a_node_without_id_or_zone_has_no_identity() -> None:
    """Without an id no volume can be attached, and without a zone no pod with a volume can be scheduled."""
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
    """The forms of spec.providerID on EKS and on HyperPod."""
    assert nodes.parse_provider_id(provider) == node


@pytest.mark.parametrize(
    "provider",
    ["", "aws:///us-west-2a/0123/fargate-ip-10-0-0-1", "gce://p/z/i-0123456789abcdef0", "i-0123456789abcdef0"],
)
def test_a_provider_id_without_an_instance_is_refused(provider: str) -> None:
    """Fargate and hybrid nodes have provider ids as well."""
    with pytest.raises(errors.Refused, match="node n has an unusable providerID"):
        KubernetesNode(name="n", provider_id=provider, labels={ZONE: "z"}).identity()


def test_the_error_for_a_node_without_a_zone_names_the_missing_label() -> None:
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
def test_a_taint_can_mean_that_a_node_is_leaving(key: str, leaving: bool) -> None:  # noqa: FBT001 - a table
    """The taints of upstream's pre-stop hook, cmd/hooks/prestop.go, and Kubernetes' out-of-service taint."""
    assert KubernetesNode(name="n", taints=(Taint(key=key, effect="NoExecute"),)).is_leaving is leaving
