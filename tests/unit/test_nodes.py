"""Node ids, provider ids and resources of nodes are parsed."""

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
def test_the_text_of_a_node_parses_to_the_same_node(node: nodes.Node) -> None:
    assert nodes.parse(str(node)) == node


@given(st.text() | st.from_regex(r"hyperpod-[a-z0-9-]*i-[0-9a-f]*"))
def test_any_other_text_is_refused(text: str) -> None:
    """Node ids come from the cluster: a malformed one must not crash the driver."""
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
def test_an_id_that_no_node_can_have_is_not_found(text: str) -> None:
    """csi-sanity, ControllerPublishVolume: "should fail when the node does not exist"."""
    with pytest.raises(errors.NodeNotFound, match="no node can have the id"):
        nodes.parse(text)


@given(CLUSTERS, INSTANCES, st.sampled_from(["aws", "aws-cn", "aws-us-gov"]))
def test_the_hyperpod_node_is_found_in_an_attachments_resource(cluster: str, instance: str, partition: str) -> None:
    """As upstream: AssociatedResource is the cluster's ARN, a dash, and the instance id."""
    resource = f"arn:{partition}:sagemaker:us-west-2:123456789012:cluster/{cluster}-{instance}"

    assert HyperPodNode.from_resource(resource) == HyperPodNode(cluster, instance)


@pytest.mark.parametrize(
    "resource", ["", "arn:aws:ecs:us-west-2:1:task/abc", "arn:aws:sagemaker:us-west-2:1:cluster/abcdefghijkl"]
)
def test_the_resource_of_another_aws_service_is_not_a_node(resource: str) -> None:
    """EC2: other services attach volumes to managed resources too."""
    assert HyperPodNode.from_resource(resource) is None
