"""`hyperpod-ebs volume`: volumes of HyperPod nodes and EC2 instances, by hand."""

from typing import Final

from cyclopts import App

from hyperpod_ebs.access import exit_codes
from hyperpod_ebs.access.help_texts import epilogue

_CHANGES: Final = "hyperpod_ebs.access.volume.change_commands"
_NODE: Final = "hyperpod_ebs.access.volume.node.commands"
_CODES: Final = {exit_codes.FAILS: "a precondition fails; nothing was changed"}
_VOLUME: Final = "vol-0123456789abcdef0"
_HYPERPOD: Final = "hyperpod-i-0123456789abcdef0"
_JSON: Final = (
    "an object with volume, node, changed, state (the volume's), attachments (node, resource, state, device), and "
    "preconditions (name, result: ok, fails or not checked, finding)"
)

app = App(
    name="volume",
    help="List, attach, detach, move, snapshot and grow volumes of HyperPod nodes and EC2 instances by hand.",
    help_epilogue=epilogue(
        {
            "hyperpod-ebs volume list": "all volumes of the account in the region",
            f"hyperpod-ebs volume attach {_VOLUME} {_HYPERPOD} --dry-run": "what would fail, without attaching it",
            "hyperpod-ebs volume attach --help": "the flags and the JSON output of a command",
        },
        codes=_CODES,
    ),
)
# By path, so that the commands on a node do not load the AWS SDK, and a command loads only its own modules.
app.command(
    "hyperpod_ebs.access.volume.list_command:list_volumes",
    name="list",
    help=(
        "List volumes: state, size, type, key, the node that holds it, and the Kubernetes claim.\n\n"
        "EC2 shows a volume on a HyperPod node only as attached to an associated resource; the list names the node. "
        "Claims come from the Kubernetes cluster of the kubeconfig file, if there is one, and from the driver's tags."
    ),
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
app.command(
    f"{_CHANGES}:attach_volume",
    name="attach",
    help="Attach a volume to a HyperPod node or an EC2 instance, after checking every precondition.",
    help_epilogue=epilogue(
        {
            f"hyperpod-ebs volume attach {_VOLUME} {_HYPERPOD} --dry-run": "what would fail, without attaching it",
            f"hyperpod-ebs volume attach {_VOLUME} {_HYPERPOD}": "attach it and wait; the cluster is found",
            f"hyperpod-ebs volume attach {_VOLUME} i-0123456789abcdef0": "the same by instance id, also for plain EC2",
        },
        codes=_CODES,
        json=_JSON,
    ),
)
app.command(
    f"{_CHANGES}:detach_volume",
    name="detach",
    help="Detach a volume from the node that holds it, after checking every precondition. Asks first.",
    help_epilogue=epilogue(
        {
            f"hyperpod-ebs volume detach {_VOLUME}": "from the only node that holds it",
            f"hyperpod-ebs volume detach {_VOLUME} {_HYPERPOD} --yes": "from this node, without a question",
            f"hyperpod-ebs volume detach {_VOLUME} i-0123456789abcdef0 --force": "from an instance that is stuck",
        },
        codes=_CODES,
        json=_JSON,
    ),
)
app.command(
    f"{_CHANGES}:wait_for_volume",
    name="wait",
    help="Follow a volume that AWS is attaching or detaching.",
    help_epilogue=epilogue(
        {
            f"hyperpod-ebs volume wait {_VOLUME}": "until it is attached",
            f"hyperpod-ebs volume wait {_VOLUME} --until available --timeout 600": "until nothing holds it",
            f"hyperpod-ebs volume wait {_VOLUME} --until detached --node {_HYPERPOD}": "from this node",
        },
        json=_JSON,
    ),
)
app.command(
    f"{_CHANGES}:move_volume",
    name="move",
    help="Detach a volume from the node that holds it, wait, and attach it to another node. Asks first.",
    help_epilogue=epilogue(
        {
            f"hyperpod-ebs volume move {_VOLUME} {_HYPERPOD}": "to this node",
            f"hyperpod-ebs volume move {_VOLUME} {_HYPERPOD} --dry-run": "what would fail, without detaching it",
        },
        codes=_CODES,
        json=_JSON,
    ),
)
app.command(
    f"{_CHANGES}:take_snapshot",
    name="snapshot",
    help="Take a snapshot of a volume as it is now.",
    help_epilogue=epilogue(
        {
            f"hyperpod-ebs volume snapshot {_VOLUME} --name 'before the upgrade'": "with a name",
            f"hyperpod-ebs volume snapshot {_VOLUME} --wait": "until it can be used",
        },
        json="an object with snapshot, volume, name and state",
    ),
)
app.command(
    f"{_CHANGES}:grow_volume",
    name="grow",
    help="Give a volume more capacity, and say what is left to do for its filesystem.",
    help_epilogue=epilogue(
        {
            f"hyperpod-ebs volume grow {_VOLUME} 200": "to 200 GiB",
            f"hyperpod-ebs volume grow {_VOLUME} 200 --dry-run": "whether EC2 would do it",
        },
        codes=_CODES,
        json="an object with volume, fromGiB, toGiB, changed and modification (its state)",
    ),
)
app.command(
    f"{_NODE}:use_volume",
    name="use",
    help=(
        "Mount an attached volume at a directory of this node; a blank volume gets a filesystem first.\n\n"
        "Run it as root on the node. It calls no AWS API and needs no credentials. Only a device that is proved blank "
        "is formatted. If the volume is mounted there already, the command succeeds. After an interruption, repeat it."
    ),
    help_epilogue=epilogue(
        {
            "hyperpod-ebs volume use vol-0123456789abcdef0 /data": "mount it, after making ext4 if it is blank",
            "hyperpod-ebs volume use vol-0123456789abcdef0 /data --filesystem xfs --persist": "xfs, at boot too",
            "hyperpod-ebs volume use vol-0123456789abcdef0 /data --dry-run": "what would be done",
        },
        codes=_CODES,
        json=(
            "an object with volume, device, directory, filesystem, madeFilesystem, wasMounted and persisted; with "
            "--dry-run volume, directory, dryRun and steps"
        ),
    ),
)
app.command(
    f"{_NODE}:release_volume",
    name="release",
    help=(
        "Unmount a volume of this node, so that it can be detached; say which processes use it.\n\n"
        "Run it as root on the node. It writes the data back, unmounts, removes the line that `use --persist` added to "
        "/etc/fstab, and succeeds only when nothing on the node uses the device. If something uses the volume, it "
        "changes nothing."
    ),
    help_epilogue=epilogue(
        {
            "hyperpod-ebs volume release vol-0123456789abcdef0": "unmount the volume",
            "hyperpod-ebs volume release /data --dry-run": "who uses it, and what would be done",
        },
        codes=_CODES,
        json=(
            "an object with volume, device, directory (where it was unmounted), removedFromFstab and next, the command "
            "that detaches the volume; with --dry-run volume, directory, dryRun and steps"
        ),
    ),
)
