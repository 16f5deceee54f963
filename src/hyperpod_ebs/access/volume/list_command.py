"""`hyperpod-ebs volume list`."""

import asyncio

from hyperpod_ebs.access.aws.session import ANY_CALLER, AwsOptions
from hyperpod_ebs.access.console import Output
from hyperpod_ebs.access.kubernetes.reader import CURRENT_CONTEXT, KubernetesOptions
from hyperpod_ebs.access.volume import listing


def list_volumes(
    *,
    cluster: str | None = None,
    node: str | None = None,
    output: Output = "table",
    aws: AwsOptions = ANY_CALLER,
    kubernetes: KubernetesOptions = CURRENT_CONTEXT,
) -> None:
    """List volumes: state, size, type, key, the node that holds it, and the Kubernetes claim.

    EC2 shows a volume on a HyperPod node only as attached to an associated resource; the list names the node. Claims
    come from the Kubernetes cluster of the kubeconfig file, if there is one, and from the driver's tags.

    Args:
        cluster: Only volumes on nodes of this HyperPod cluster: its name, id or ARN.
        node: Only volumes on this node: i-..., hyperpod-i-..., hyperpod-CLUSTER-i-..., or its private DNS name on EC2.
        output: Format: a table, or one JSON array.
        aws: The caller and the region.
        kubernetes: The API server.
    """
    asyncio.run(listing.list_and_print(cluster=cluster, node=node, output=output, options=aws, kubernetes=kubernetes))
