"""`hyperpod-ebs volume`: volumes of HyperPod nodes and EC2 instances, by hand."""

import asyncio
from typing import Final

from cyclopts import App

from hyperpod_ebs.access import exit_codes
from hyperpod_ebs.access.aws.session import ANY_CALLER, AwsOptions
from hyperpod_ebs.access.console import Output
from hyperpod_ebs.access.help_texts import epilogue
from hyperpod_ebs.access.kubernetes.reader import CURRENT_CONTEXT, KubernetesOptions
from hyperpod_ebs.access.volume import listing

_CODES: Final = {exit_codes.FAILS: "a precondition fails; nothing was changed"}

app = App(
    name="volume",
    help="List, attach, detach, move, snapshot and grow volumes of HyperPod nodes and EC2 instances by hand.",
    help_epilogue=epilogue(
        {
            "hyperpod-ebs volume list": "all volumes of the account in the region",
            "hyperpod-ebs volume list --help": "the flags and the JSON output of a command",
        },
        codes=_CODES,
    ),
)


@app.command(
    name="list",
    help_epilogue=epilogue(
        {
            "hyperpod-ebs volume list": "all volumes of the account in the region",
            "hyperpod-ebs volume list --cluster training": "the volumes on the nodes of one HyperPod cluster",
            "hyperpod-ebs volume list --node hyperpod-i-0123456789abcdef0 --output json": "those on one node, as JSON",
        },
        json=(
            "an array of volumes, each with volume, name, state, sizeGiB, type, zone, zoneId, kmsKey, snapshot, "
            "multiAttach, created, claim, tags, and attachments (node, resource, state, device, since)"
        ),
    ),
)
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
        node: Only volumes on this node: i-..., hyperpod-i-... or hyperpod-CLUSTER-i-....
        output: Format: a table, or one JSON array.
        aws: The caller and the region.
        kubernetes: The API server.
    """
    asyncio.run(listing.list_and_print(cluster=cluster, node=node, output=output, options=aws, kubernetes=kubernetes))
