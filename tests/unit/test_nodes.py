"""Node ids are parsed once."""

import contextlib
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.nodes import Ec2Node, HyperPodNode

INSTANCES: Final = st.from_regex(r"i-[0-9a-f]{8}([0-9a-f]{9})?", fullmatch=True)
CLUSTERS: Final = st.from_regex(r"[a-z0-9]{12}", fullmatch=True)
NODES: Final = st.builds(Ec2Node, INSTANCES) | st.builds(HyperPodNode, CLUSTERS, INSTANCES)


@pytest.mark.requirement("csi.node-info.unique")
@given(NODES)
def test_a_node_is_read_back_from_its_own_text(node: nodes.Node) -> None:
    """Ours."""
    assert nodes.parse(str(node)) == node


@given(st.text() | st.from_regex(r"hyperpod-[a-z0-9-]*i-[0-9a-f]*"))
def test_any_text_is_a_node_of_just_that_text_or_refused(text: str) -> None:
    """Upstream panics on some (its defect D21)."""
    with contextlib.suppress(errors.NodeNotFound):
        assert str(nodes.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "some-fake-node-id",
        "i-123",
        "i-0123456789ABCDEF0",
        "hyperpod-i-0123456789abcdef0",
        "hyperpod-abc-i-0123456789abcdef0",
        "i-12345678\n",
    ],
)
def test_an_id_that_no_node_has_is_not_found(text: str) -> None:
    """csi-sanity: an odd node id is NOT_FOUND."""
    with pytest.raises(errors.NodeNotFound, match="no node can have the id"):
        nodes.parse(text)


@given(CLUSTERS, INSTANCES, st.sampled_from(["aws", "aws-cn", "aws-us-gov"]))
def test_a_hyperpod_node_is_found_in_the_resource_that_ec2_shows(cluster: str, instance: str, partition: str) -> None:
    """Upstream's code: an attachment's AssociatedResource is the cluster's ARN, a dash, and the instance."""
    resource = f"arn:{partition}:sagemaker:us-west-2:123456789012:cluster/{cluster}-{instance}"

    assert HyperPodNode.from_resource(resource) == HyperPodNode(cluster, instance)


@pytest.mark.parametrize(
    "resource", ["", "arn:aws:ecs:us-west-2:1:task/abc", "arn:aws:sagemaker:us-west-2:1:cluster/abcdefghijkl"]
)
def test_another_services_resource_is_no_node(resource: str) -> None:
    """EC2: other services attach volumes as managed resources too."""
    assert HyperPodNode.from_resource(resource) is None
