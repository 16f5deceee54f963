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

_NODE: Final = "hyperpod_ebs.access.volume.node.commands"
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
# By path: these commands run on a node, where the others' modules are not needed.
app.command(
    f"{_NODE}:use_volume",
    name="use",
    help="Mount an attached volume at a directory of this node; a blank volume gets a filesystem first.",
    help_epilogue=epilogue(
        {
            "hyperpod-ebs volume use vol-0123456789abcdef0 /data": "mount it, after making ext4 if it is blank",
            "hyperpod-ebs volume use vol-0123456789abcdef0 /data --filesystem xfs --persist": "xfs, at boot too",
            "hyperpod-ebs volume use vol-0123456789abcdef0 /data --dry-run": "what would be done",
        },
        json=(
            "an object with volume, device, directory, filesystem, madeFilesystem, wasMounted and persisted; with "
            "--dry-run volume, directory, dryRun and steps"
        ),
    ),
)
app.command(
    f"{_NODE}:release_volume",
    name="release",
    help="Unmount a volume of this node, so that it can be detached; say which processes use it.",
    help_epilogue=epilogue(
        {
            "hyperpod-ebs volume release vol-0123456789abcdef0": "unmount the volume",
            "hyperpod-ebs volume release /data --dry-run": "who uses it, and what would be done",
        },
        json=(
            "an object with volume, device, directory (where it was unmounted), removedFromFstab and next, the command "
            "that detaches the volume; with --dry-run volume, directory, dryRun and steps"
        ),
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
