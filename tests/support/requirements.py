"""The requirements that the product meets, each claimed by the tests that prove it.

A test claims a requirement by its id: `@pytest.mark.requirement("unstage.device-free")`.
`tests/unit/test_requirements.py` fails for a requirement that no test claims and for a
claim of an unknown id. `INVARIANTS.md` is generated from this file by `make generate`.

The `csi.` requirements are the MUSTs and SHALLs of the CSI specification that bind a
plugin, for the identity, controller and node services. Requirements on the container
orchestrator, and on the alpha features and services that the driver does not offer, are left out.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
TESTS: Final = ROOT / "tests"

_CSI: Final = "https://github.com/container-storage-interface/spec/blob/v1.13.0/spec.md"
_EC2: Final = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference"
_SAGEMAKER: Final = "https://docs.aws.amazon.com/sagemaker/latest/APIReference"
_KUBERNETES: Final = "https://kubernetes.io/docs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A sentence about the product that always holds, and where it comes from."""

    sentence: str
    source: str
    """An address, the path of a file, or `decision NNNN`."""

    also: str = ""
    """Checks besides the tests that enforce it."""

    departure: str = ""
    """Where the product departs from it on purpose, and why."""

    gap: str = ""
    """Why nothing enforces it yet."""


class Claim(NamedTuple):
    """A test that claims to prove a requirement."""

    id: str
    path: Path
    test: str


def claims(root: Path = TESTS) -> Iterator[Claim]:
    """The claims of all tests below `root`, read from their source without running them."""
    for path in sorted(root.rglob("test_*.py")):
        module = ast.parse(path.read_text())
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for decorator in node.decorator_list:
                    yield from (Claim(id_, path, node.name) for id_ in _claimed_ids(decorator))


def _claimed_ids(decorator: ast.expr) -> Iterator[str]:
    """The ids in `@pytest.mark.requirement(...)`; none for another decorator."""
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.requirement":
        yield from (ast.literal_eval(argument) for argument in decorator.args)


@dataclass(frozen=True, slots=True)
class Section:
    """Requirements on one subject."""

    title: str
    requirements: Mapping[str, Requirement]


SECTIONS: Final = (
    Section(
        "Data on volumes",
        {
            "data.format-only-blank": Requirement(
                sentence="mkfs runs only on a device that was read and found blank. A device whose start is lost is "
                "not blank while a copy of its metadata is intact.",
                source="decision 0005",
            ),
            "data.killed-mkfs-heals": Requirement(
                sentence="After a kill in the middle of mkfs or of a growth, the next stage of the volume repairs it.",
                source="decision 0005",
            ),
            "data.growth-costs-nothing": Requirement(
                sentence="A growth that fails or is killed leaves the data of the volume and of its snapshots usable: "
                "the volume is staged at its old size.",
                source="decision 0031",
            ),
            "data.own-device-only": Requirement(
                sentence="The node process opens only the volume's own device for writing, and never touches local "
                "NVMe disks.",
                source="https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html",
            ),
            "mount.own-device": Requirement(
                sentence="The driver mounts only the volume's own device, whole: a mount option that does something "
                "else is refused by name, and a mount of another device is undone.",
                source="decision 0034",
            ),
            "doctor.only-reads": Requirement(
                sentence="`hyperpod-ebs doctor` changes nothing at AWS and in Kubernetes, and creates nothing that AWS "
                "charges for, unless `--fix` is given and the user agrees to the change.",
                source="docs/reference/doctor.md",
            ),
            "doctor.bundle-has-no-secrets": Requirement(
                sentence="The file that `hyperpod-ebs doctor --bundle` writes is readable for its owner only, and has "
                "no credentials, tokens or keys, and no values that users choose in annotations, parameters, tags and "
                "environment variables.",
                source="docs/reference/doctor.md",
            ),
            "leftovers.protected": Requirement(
                sentence="`hyperpod-ebs leftovers --delete` never deletes what an object of the Kubernetes cluster "
                "needs, what another cluster's tag or a Retain policy protects, what is attached or too young, or "
                "anything of a cluster that was not read completely; it looks again right before each deletion.",
                source="docs/guides/leftovers.md",
            ),
            "data.foreign-mounts-stay": Requirement(
                sentence="The driver unmounts only its own mounts.",
                source=f"{_CSI}#nodeunpublishvolume",
            ),
            "data.below-kubelet-only": Requirement(
                sentence="The driver mounts, unmounts, creates and removes only below kubelet's directory, even while "
                "directories there are replaced by symbolic links. That directory itself may be a link.",
                source="decision 0035",
                departure="resize2fs finds the mount of an ext4 in the mount table and opens it by its path. If a "
                "directory there is replaced at that moment, it may grow another ext4, within that one's own device.",
            ),
            "unstage.device-free": Requirement(
                sentence="NodeUnstageVolume succeeds only when all cached data is on the volume, and no mount, process "
                "or block device of the node uses the volume's device.",
                source="decision 0030",
                departure="On Xen instances nothing but its name identifies a disk, and NodeUnstageVolume does not get "
                "the name. A node process knows it if it has staged the volume or has seen it mounted. Otherwise a "
                "call that finds nothing mounted succeeds without asking the device.",
            ),
            "volume.mounted-is-not-usable": Requirement(
                sentence="A filesystem that is mounted for writing and refuses writes is neither staged nor published "
                "nor grown, and the volume's condition says so; the next stage that finds it unused repairs it.",
                source=f"{_CSI}#nodestagevolume",
            ),
            "data.snapshot-exact": Requirement(
                sentence="A snapshot that is taken while a process writes holds all data written up to one moment, "
                "and nothing written later.",
                source="https://docs.aws.amazon.com/ebs/latest/userguide/ebs-snapshots.html",
            ),
            "data.moves": Requirement(
                sentence="Data moves with its pod, also between HyperPod and EC2 nodes, and no node gets more volumes "
                "than its limit.",
                source=f"{_KUBERNETES}/concepts/storage/storage-limits/",
            ),
            "data.lost-node": Requirement(
                sentence="A pod of a lost node runs on another node with its data.",
                source=f"{_KUBERNETES}/concepts/cluster-administration/node-shutdown/",
            ),
            "data.changes-under-pod": Requirement(
                sentence="A volume grows, and changes its type, while its pod keeps writing.",
                source=f"{_KUBERNETES}/concepts/storage/volume-attributes-classes/",
            ),
        },
    ),
    Section(
        "Calls and waits",
        {
            "calls.same-answer": Requirement(
                sentence="A repeated call returns what the first call returned.",
                source=f"{_CSI}#timeouts",
                departure="Before Linux 5.12 a bind mount with options takes two system calls. If the node process is "
                "killed between them, a repeated NodePublishVolume answers ALREADY_EXISTS until an unpublish.",
            ),
            "calls.join": Requirement(
                sentence="An identical call joins the running operation; a different call for the same object is "
                "refused with the name and start of the running one; a cancelled call leaves its operation running.",
                source=f"{_CSI}#concurrency",
            ),
            "create-snapshot.failed-stays": Requirement(
                sentence="A failed snapshot is an error that stays: the driver takes no other snapshot under its name.",
                source="decision 0038",
            ),
            "create.outcome-unknown": Requirement(
                sentence="After a create request is sent, only retryable errors are returned until it is proved that "
                "nothing was created.",
                source="decision 0006",
            ),
            "errors.every-error-has-a-code": Requirement(
                sentence="Every error has a gRPC code: one tree of errors, one table of codes.",
                source="decision 0006",
            ),
            "errors.same-through-either-api": Requirement(
                sentence="An AWS error code gives the same error whether EC2 returns it or SageMaker wraps it.",
                source=f"{_SAGEMAKER}/API_AttachClusterNodeVolume.html",
            ),
            "absence.proved": Requirement(
                sentence="A volume or snapshot counts as gone only when EC2 has answered NotFound to its id for some "
                "seconds, and a volume as detached only when EC2 has had the time to show its attachment.",
                source="decision 0036",
            ),
            "looks.after-question": Requirement(
                sentence="Callers share an answer of AWS only if all of them asked before its call was sent.",
                source="decision 0047",
            ),
            "detach.live-volume-stays": Requirement(
                sentence="A detach never releases a volume that a node still has attached.",
                source=f"{_CSI}#controllerunpublishvolume",
            ),
            "waits.end": Requirement(
                sentence="Every wait ends; a failed poll of AWS fails no waiter; if the watcher dies, every waiter "
                "gets an error.",
                source="decision 0004",
            ),
            "loop.not-blocked": Requirement(
                sentence="No call blocks the event loop.",
                source="STYLE.md",
                also="ruff's ASYNC rules, and blockbuster in every test (`tests/conftest.py`)",
            ),
            "rates.within-aws-limits": Requirement(
                sentence="The driver's calls stay within AWS's rate limits.",
                source=f"{_EC2.removesuffix('APIReference')}DeveloperGuide/ec2-api-throttling.html",
            ),
        },
    ),
    Section(
        "Processes",
        {
            "process.condition-reported": Requirement(
                sentence="`/healthz`, Probe and the metrics report the same condition of a process, and no condition "
                "makes a probe restart it.",
                source="decision 0014",
            ),
            "process.answers-others": Requirement(
                sentence="No client on the network keeps a process from answering others, and none of the chart's "
                "probes of the driver asks over the network.",
                source="decision 0039",
            ),
            "socket.comes-back": Requirement(
                sentence="A socket of the driver that another program removes comes back, without a restart and "
                "without a lost call.",
                source="decision 0039",
            ),
            "controller.starts-without-aws": Requirement(
                sentence="Without AWS, credentials, their files, a region or the right role, the controller serves at "
                "once, reports the reason, and recovers without a restart.",
                source="decision 0015",
            ),
            "controller.serves-without-sts": Requirement(
                sentence="Without STS, only attachments to HyperPod nodes fail.",
                source="decision 0015",
            ),
            "events.stable": Requirement(
                sentence="A message to the caller has no AWS request id, so that a repeated event has the same text; "
                "the log has the ids.",
                source=f"{_KUBERNETES}/reference/kubernetes-api/cluster-resources/event-v1/",
            ),
            "detach.preempts": Requirement(
                sentence="A detachment waits neither for an attachment whose caller has left, nor for a modification.",
                source="decision 0037",
            ),
            "denied.names-the-statement": Requirement(
                sentence="An event names a missing permission, the role, and the IAM statement that grants it, in at "
                "most 900 bytes.",
                source="decision 0006",
            ),
            "policies.used-and-needed": Requirement(
                sentence="A policy that `hyperpod-ebs policy` prints allows only what its job uses, and the job fails "
                "without any part of the policy.",
                source="docs/reference/policies.md",
            ),
            "flags.upstream": Requirement(
                sentence="Each flag of the upstream driver is followed, reported as ignored, or refused.",
                source="docs/guides/migrate.md",
            ),
            "secrets.not-logged": Requirement(
                sentence="No secret is logged. The protobuf option `csi_secret` decides which fields are secret.",
                source=f"{_CSI}#secrets-requirements",
            ),
            "socket.owner-only": Requirement(
                sentence="Only its owner can use the socket, and a process never replaces a socket in use.",
                source=f"{_CSI}#security",
            ),
            "kills.nothing-twice": Requirement(
                sentence="A killed driver process creates nothing twice and leaks nothing.",
                source=f"{_CSI}#timeouts",
            ),
            "kills.controller": Requirement(
                sentence="When the controller is killed while AWS works on its request, the next one completes the "
                "work and repeats none of it.",
                source=f"{_CSI}#timeouts",
            ),
            "kills.node-process": Requirement(
                sentence="Killing or upgrading a node process disturbs no mount of a running pod.",
                source=f"{_KUBERNETES}/tasks/manage-daemon/update-daemon-set/",
            ),
            "node.no-credentials": Requirement(
                sentence="The node process has no AWS credentials, and no pod gets those of its node.",
                source="https://docs.aws.amazon.com/eks/latest/best-practices/identity-and-access-management.html",
            ),
            "node.small": Requirement(
                sentence="The node process loads no AWS SDK and no HTTP client library, stays within 55 MiB in a "
                "cluster, and within 60 MiB while it stages 20 blank volumes at once.",
                source="decision 0010",
            ),
            "node.starts-unidentified": Requirement(
                sentence="A node process that cannot identify its node starts, reports the reason, registers with "
                "kubelet once it is identified, and needs no restart.",
                source="decision 0011",
            ),
            "node.new-type": Requirement(
                sentence="A node of an instance type that is not in the driver's table gets the attach limit that EC2 "
                "reports, and without an answer from EC2 that of most Nitro types.",
                source="decision 0041",
            ),
            "node.pre-stop": Requirement(
                sentence="The pre-stop hook waits only for its own node's volumes, and ends within the pod's grace "
                "period.",
                source="decision 0013",
            ),
            "node.startup-taint": Requirement(
                sentence="The start-up taint is removed once the scheduler knows the node's limit, and no other taint "
                "is lost or overwritten.",
                source="decision 0012",
            ),
            "classes.refusal-reported": Requirement(
                sentence="A class that cannot be honoured is reported on the claim or the snapshot, and leaves nothing "
                "behind.",
                source="decision 0016",
            ),
        },
    ),
    Section(
        "The embedded cloud",
        {
            "emulator.durable": Requirement(
                sentence="The emulator loses no acknowledged change when it is killed, at any moment.",
                source="decision 0003",
            ),
            "emulator.refuses-as-aws": Requirement(
                sentence="The emulator refuses what AWS refuses, with AWS's error codes and messages. They were taken "
                "from AWS's documentation and not compared with AWS itself.",
                source=f"{_EC2}/errors-overview.html",
            ),
            "emulator.own-entries-only": Requirement(
                sentence="In a live node's device directory the emulator changes only the entries of its attachments, "
                "and nothing that is mounted there.",
                source="decision 0022",
            ),
            "emulator.answers-others": Requirement(
                sentence="No connection, body or form keeps the emulator from answering other clients, and no web page "
                "can use its control routes.",
                source="https://cwe.mitre.org/data/definitions/400.html",
            ),
            "emulator.botocore-accepts": Requirement(
                sentence="botocore parses every answer of the emulator.",
                source="decision 0001",
            ),
        },
    ),
    Section(
        "Source",
        {
            "source.layers": Requirement(
                sentence="Imports go one way; the emulator imports only `kit`; gRPC is used only in `driver/csi/`, the "
                "AWS SDK only in `driver/aws/` and in the emulator's wire formats.",
                source="decision 0009",
                also="import-linter (`make check`)",
            ),
            "source.cut-models": Requirement(
                sentence="The cut service models equal the installed ones where they overlap.",
                source="decision 0007",
            ),
            "tests.leave-nothing": Requirement(
                sentence="Tests and demos leave no loop device, mount or process behind, also when they fail or are "
                "killed.",
                source="decision 0008",
                also="`tests/conftest.py` checks after every test that needs root",
            ),
        },
    ),
    Section(
        "A real Kubernetes",
        {
            "cluster.workload-leaves-nothing": Requirement(
                sentence="When a namespace is gone, its volumes, attachments, snapshots, mounts and loop devices are "
                "gone from Kubernetes, the cloud and the nodes.",
                source=f"{_KUBERNETES}/concepts/storage/persistent-volumes/",
                also="`tests/support/volume_leftovers.py`, called after every test of `tests/cluster`",
            ),
            "cluster.machine-as-before": Requirement(
                sentence="`make cluster` leaves the machine as it was, after use, a kill, a kill half-way or an "
                "interrupt: kernel settings, `/usr`, `/opt` and the home directory included.",
                source="decision 0028",
                also="`tests/cluster/conftest.py` checks the cluster of all other tests",
            ),
            "cluster.no-static-keys": Requirement(
                sentence="The controller on a local cluster has no access keys; it calls AWS under a role with AWS's "
                "managed policy and the statements of the installation guide.",
                source="decision 0044",
            ),
            "cluster.ends-only-its-processes": Requirement(
                sentence="Ending a cluster ends no other process that has received the id of one of its processes.",
                source="decision 0028",
            ),
            "examples.readme": Requirement(
                sentence="The commands under `Run it` and `Clean up` in an example's README do what it says.",
                source="examples/README.md",
            ),
            "examples.lose-nothing": Requirement(
                sentence="An example's program discards nothing that it acknowledged, and never adjusts a digest to "
                "the data that it finds.",
                source="examples/README.md",
            ),
            "guides.true": Requirement(
                sentence="A command in a guide is run by the tests or says why it is not; flags, values, parameters "
                "and messages that a guide names exist.",
                source="decision 0026",
            ),
        },
    ),
    Section(
        "Chart and image",
        {
            "chart.upstream-values": Requirement(
                sentence="A value of the upstream chart is followed or refused by its name; a misspelt value is "
                "refused.",
                source="decision 0017",
            ),
            "chart.least-rights": Requirement(
                sentence="No account of the chart has more Kubernetes rights than its program's source uses.",
                source="decision 0018",
                also="the tests of `tests/cluster` show that the rights suffice",
            ),
            "chart.unprivileged": Requirement(
                sentence="Only the container that mounts is privileged, and every root filesystem is read-only.",
                source=f"{_KUBERNETES}/concepts/security/pod-security-standards/",
            ),
            "chart.arguments-accepted": Requirement(
                sentence="The driver accepts all arguments that the chart starts it with.",
                source="charts/hyperpod-ebs/values.yaml",
            ),
            "chart.null-refused": Requirement(
                sentence="Null where a value is required is refused by the value's name, and elsewhere renders "
                "nothing broken.",
                source="decision 0017",
            ),
            "chart.no-unqualified-pull": Requirement(
                sentence="No image of the driver's pods without a registry in its name is pulled, unless the values "
                "say `Always`.",
                source="decision 0017",
            ),
            "chart.changes-show": Requirement(
                sentence="A change to the chart shows as a difference in the rendered objects under "
                "`tests/chart/snapshots`.",
                source="ARCHITECTURE.md",
            ),
            "image.minimal": Requirement(
                sentence="The image has no setuid program, compiler or package manager, runs without root, and lists "
                "the package of every file in it.",
                source="decision 0020",
            ),
            "image.reproducible": Requirement(
                sentence="The same sources and the same Debian packages give the same image. The tests build the "
                "driver's layer twice and lay Python's part out in two directories; that Debian's part is the same "
                "was seen once and is not tested.",
                source="decision 0020",
            ),
            "image.asks-no-registry": Requirement(
                sentence="No build of the driver's image asks a registry for a name that the user did not give.",
                source="decision 0020",
            ),
            "release.reproducible": Requirement(
                sentence="Two builds of one commit give the same wheel, source distribution, chart and chart index, "
                "in any directory, at any time and with any umask.",
                source="docs/guides/release.md",
            ),
            "release.from-its-tag": Requirement(
                sentence="A release is built only from a clean tree with the tag of its version, a section in the "
                "changelog and the publisher's values in the chart; the refusal names all that is missing.",
                source="docs/guides/release.md",
            ),
            "release.wheel-runs": Requirement(
                sentence="In an empty environment that has only the wheel and its pinned requirements, the demo runs "
                "as root, and names the Debian package of a program that is missing.",
                source="docs/guides/release.md",
            ),
        },
    ),
    Section(
        "CSI: every call",
        {
            "csi.missing-field": Requirement(
                sentence="A request without a required field is INVALID_ARGUMENT.",
                source=f"{_CSI}#error-scheme",
            ),
            "csi.unsupported-field": Requirement(
                sentence="A request with a field that is invalid or not supported is INVALID_ARGUMENT.",
                source=f"{_CSI}#error-scheme",
                departure="For a wrong value in a VolumeAttributesClass CreateVolume returns FAILED_PRECONDITION: "
                "after INVALID_ARGUMENT the provisioner waits for another StorageClass, which cannot help.",
            ),
            "csi.unimplemented": Requirement(
                sentence="A call that is not implemented is UNIMPLEMENTED.",
                source=f"{_CSI}#error-scheme",
            ),
            "csi.status-code": Requirement(
                sentence="A failed call returns a canonical gRPC code, and a message that a person can read.",
                source=f"{_CSI}#error-scheme",
            ),
            "csi.status-details-empty": Requirement(
                sentence="The details of a gRPC status are empty.",
                source=f"{_CSI}#error-scheme",
            ),
            "csi.size-limits": Requirement(
                sentence="No string in an answer is longer than 128 bytes, and no map larger than 4 KiB.",
                source=f"{_CSI}#size-limits",
                departure="The token of a listing holds EC2's own token and up to four ids, and may be longer.",
            ),
            "csi.secrets-marked": Requirement(
                sentence="Every field of secrets has the option `csi_secret`.",
                source=f"{_CSI}#rpc-interface",
            ),
            "csi.unix-socket": Requirement(
                sentence="The driver listens on the unix socket that it is given, and offers all its services there.",
                source=f"{_CSI}#connectivity",
            ),
            "csi.nothing-beside-socket": Requirement(
                sentence="The driver creates no other file in the directory of its socket.",
                source=f"{_CSI}#filesystem",
            ),
            "csi.environment-prefix": Requirement(
                sentence="No variable of the driver's own configuration starts with `CSI_`.",
                source=f"{_CSI}#environment-variables",
            ),
        },
    ),
    Section(
        "CSI: identity service",
        {
            "csi.identity.offered": Requirement(
                sentence="Controller and node processes both offer the identity service.",
                source=f"{_CSI}#rpc-interface",
            ),
            "csi.get-plugin-info.name": Requirement(
                sentence="The plugin's name has the form of a domain name of at most 63 characters.",
                source=f"{_CSI}#getplugininfo",
            ),
            "csi.get-plugin-capabilities.same-everywhere": Requirement(
                sentence="All processes of one version return the same plugin capabilities.",
                source=f"{_CSI}#getplugincapabilities",
            ),
            "csi.probe": Requirement(
                sentence="Probe reports whether the process is ready.",
                source=f"{_CSI}#probe",
                departure='A process that is not healthy returns "not ready" with the reason as trailing metadata, and '
                "no FAILED_PRECONDITION: after an error the sidecars exit, and a restart repairs nothing "
                "(decision 0014).",
            ),
        },
    ),
    Section(
        "CSI: controller service",
        {
            "csi.create-volume.idempotent": Requirement(
                sentence="CreateVolume returns the volume that an earlier call with the same name and compatible "
                "arguments created.",
                source=f"{_CSI}#createvolume",
            ),
            "csi.create-volume.conflict": Requirement(
                sentence="CreateVolume is ALREADY_EXISTS when a volume of this name has incompatible attributes.",
                source=f"{_CSI}#createvolume-errors",
            ),
            "csi.create-volume.capacity": Requirement(
                sentence="The volume has at least `required_bytes` and at most `limit_bytes`, also when it is made "
                "from a snapshot; a range that cannot be met is OUT_OF_RANGE.",
                source=f"{_CSI}#createvolume-errors",
            ),
            "csi.create-volume.capabilities": Requirement(
                sentence="CreateVolume fails unless the volume supports all the requested capabilities.",
                source=f"{_CSI}#createvolume",
            ),
            "csi.create-volume.mutable-parameters": Requirement(
                sentence="`mutable_parameters` take precedence over `parameters`.",
                source=f"{_CSI}#createvolume",
            ),
            "csi.create-volume.topology": Requirement(
                sentence="The volume is created in the first possible zone of the preferred topologies, else in a "
                "required one; CreateVolume fails when that is not possible.",
                source=f"{_CSI}#createvolume",
            ),
            "csi.create-volume.zone-full": Requirement(
                sentence="CreateVolume is RESOURCE_EXHAUSTED when the zone has no capacity.",
                source=f"{_CSI}#createvolume-errors",
            ),
            "csi.create-volume.source-missing": Requirement(
                sentence="CreateVolume is NOT_FOUND when the source snapshot does not exist.",
                source=f"{_CSI}#createvolume-errors",
            ),
            "csi.create-volume.source-unsupported": Requirement(
                sentence="CreateVolume is INVALID_ARGUMENT when the source is of a kind that is not supported.",
                source=f"{_CSI}#createvolume-errors",
            ),
            "csi.create-volume.larger-copy": Requirement(
                sentence="A volume that is larger than its snapshot has the larger size, and the snapshot's data, when "
                "a pod uses it.",
                source=f"{_CSI}#createvolume",
            ),
            "csi.create-volume.answer": Requirement(
                sentence="The answer has the volume's id, its actual capacity, its zone and its source.",
                source=f"{_CSI}#createvolume",
            ),
            "csi.delete-volume.idempotent": Requirement(
                sentence="DeleteVolume succeeds for a volume that does not exist.",
                source=f"{_CSI}#deletevolume",
            ),
            "csi.delete-volume.in-use": Requirement(
                sentence="DeleteVolume is FAILED_PRECONDITION for a volume in use.",
                source=f"{_CSI}#deletevolume-errors",
            ),
            "csi.delete-volume.snapshots-stay": Requirement(
                sentence="After its volume is deleted, a snapshot is still listed and can be restored.",
                source=f"{_CSI}#deletevolume",
            ),
            "csi.publish-volume.idempotent": Requirement(
                sentence="ControllerPublishVolume succeeds, with the same answer, for a volume that the node already "
                "has.",
                source=f"{_CSI}#controllerpublishvolume",
            ),
            "csi.publish-volume.usable": Requirement(
                sentence="After ControllerPublishVolume succeeds, the node can use the volume.",
                source=f"{_CSI}#controllerpublishvolume",
            ),
            "csi.publish-volume.missing": Requirement(
                sentence="ControllerPublishVolume is NOT_FOUND when the volume or the node does not exist.",
                source=f"{_CSI}#controllerpublishvolume-errors",
            ),
            "csi.publish-volume.elsewhere": Requirement(
                sentence="ControllerPublishVolume is FAILED_PRECONDITION, and names the node, when another node has "
                "the volume.",
                source=f"{_CSI}#controllerpublishvolume-errors",
            ),
            "csi.publish-volume.full": Requirement(
                sentence="ControllerPublishVolume is RESOURCE_EXHAUSTED when the node has as many volumes as it can "
                "have.",
                source=f"{_CSI}#controllerpublishvolume-errors",
            ),
            "csi.publish-volume.read-only": Requirement(
                sentence="`readonly` is honoured only where PUBLISH_READONLY is offered; the driver does not offer it, "
                "since it mounts read-only on the node.",
                source=f"{_CSI}#controllerpublishvolume",
            ),
            "csi.unpublish-volume.idempotent": Requirement(
                sentence="ControllerUnpublishVolume succeeds for a volume that the node does not have.",
                source=f"{_CSI}#controllerunpublishvolume",
            ),
            "csi.unpublish-volume.all-nodes": Requirement(
                sentence="ControllerUnpublishVolume without a node id detaches the volume from the node that has it.",
                source=f"{_CSI}#controllerunpublishvolume",
            ),
            "csi.unpublish-volume.unknown-node": Requirement(
                sentence="ControllerUnpublishVolume fails for a node that is not found while the volume may still be "
                "attached to it.",
                source=f"{_CSI}#controllerunpublishvolume-errors",
            ),
            "csi.validate-capabilities.all": Requirement(
                sentence="ValidateVolumeCapabilities confirms only if everything in the request is supported.",
                source=f"{_CSI}#validatevolumecapabilities",
            ),
            "csi.validate-capabilities.missing": Requirement(
                sentence="ValidateVolumeCapabilities is NOT_FOUND for a volume that does not exist.",
                source=f"{_CSI}#validatevolumecapabilities-errors",
            ),
            "csi.list-volumes.pages": Requirement(
                sentence="ListVolumes returns all volumes, at most `max_entries` at a time, with a token for the rest.",
                source=f"{_CSI}#listvolumes",
            ),
            "csi.list-volumes.token": Requirement(
                sentence="ListVolumes is ABORTED for a token that is not valid.",
                source=f"{_CSI}#listvolumes-errors",
            ),
            "csi.list-volumes.nodes": Requirement(
                sentence="ListVolumes and ControllerGetVolume name the nodes to which a volume is published.",
                source=f"{_CSI}#listvolumes",
            ),
            "csi.get-volume.missing": Requirement(
                sentence="ControllerGetVolume is NOT_FOUND for a volume that does not exist.",
                source=f"{_CSI}#controllergetvolume-errors",
            ),
            "csi.get-capabilities.controller": Requirement(
                sentence="ControllerGetCapabilities names the calls that the controller implements.",
                source=f"{_CSI}#controllergetcapabilities",
            ),
            "csi.single-writer-accepted": Requirement(
                sentence="SINGLE_NODE_WRITER is accepted as well as the newer modes for one node.",
                source=f"{_CSI}#nodepublishvolume",
            ),
            "csi.modify-volume.idempotent": Requirement(
                sentence="A repeated ControllerModifyVolume succeeds and changes nothing.",
                source=f"{_CSI}#controllermodifyvolume",
            ),
            "csi.modify-volume.only-named": Requirement(
                sentence="ControllerModifyVolume changes only the attributes that the request names.",
                source=f"{_CSI}#controllermodifyvolume",
            ),
            "csi.modify-volume.unsupported": Requirement(
                sentence="ControllerModifyVolume is INVALID_ARGUMENT for a parameter that the volume does not support.",
                source=f"{_CSI}#controllermodifyvolume-errors",
            ),
            "csi.modify-volume.missing": Requirement(
                sentence="ControllerModifyVolume is NOT_FOUND for a volume that does not exist.",
                source=f"{_CSI}#controllermodifyvolume-errors",
            ),
            "csi.create-snapshot.idempotent": Requirement(
                sentence="CreateSnapshot returns the snapshot that an earlier call with the same name took.",
                source=f"{_CSI}#createsnapshot",
            ),
            "csi.create-snapshot.conflict": Requirement(
                sentence="CreateSnapshot is ALREADY_EXISTS when the snapshot of this name is of another volume.",
                source=f"{_CSI}#createsnapshot-errors",
            ),
            "csi.create-snapshot.answer": Requirement(
                sentence="The answer has the snapshot's id, source, size and time; `ready_to_use` is false until the "
                "snapshot is complete.",
                source=f"{_CSI}#createsnapshot",
            ),
            "csi.create-snapshot.restorable": Requirement(
                sentence="A volume can be created from a snapshot.",
                source=f"{_CSI}#controllergetcapabilities",
            ),
            "csi.delete-snapshot.idempotent": Requirement(
                sentence="DeleteSnapshot succeeds for a snapshot that does not exist.",
                source=f"{_CSI}#deletesnapshot",
            ),
            "csi.delete-snapshot.in-use": Requirement(
                sentence="DeleteSnapshot is FAILED_PRECONDITION for a snapshot in use.",
                source=f"{_CSI}#deletesnapshot-errors",
            ),
            "csi.list-snapshots.pages": Requirement(
                sentence="ListSnapshots returns all matching snapshots, at most `max_entries` at a time, with a token "
                "for the rest.",
                source=f"{_CSI}#listsnapshots",
            ),
            "csi.list-snapshots.token": Requirement(
                sentence="ListSnapshots is ABORTED for a token that is not valid.",
                source=f"{_CSI}#listsnapshots-errors",
            ),
            "csi.modify-volume.last-change": Requirement(
                sentence="A volume ends as the last acknowledged call wanted it, even if EC2 still shows an earlier "
                "state.",
                source="decision 0036",
            ),
            "csi.modify-volume.together": Requirement(
                sentence="A growth and a change of class that are requested together are one modification of the "
                "volume, also after a restart.",
                source="decision 0048",
            ),
            "csi.modify-volume.own-answer": Requirement(
                sentence="If AWS refuses a modification for two callers, each gets the refusal of its own part, and "
                "the part that AWS accepts is made.",
                source="decision 0048",
            ),
            "csi.expand-volume.idempotent": Requirement(
                sentence="ControllerExpandVolume succeeds for a volume that is large enough.",
                source=f"{_CSI}#controllerexpandvolume",
            ),
            "csi.expand-volume.online": Requirement(
                sentence="ControllerExpandVolume grows a volume that a node uses.",
                source=f"{_CSI}#getplugincapabilities",
            ),
            "csi.expand-volume.out-of-range": Requirement(
                sentence="ControllerExpandVolume is OUT_OF_RANGE for a capacity range that cannot be met.",
                source=f"{_CSI}#controllerexpandvolume-errors",
            ),
            "csi.expand-volume.missing": Requirement(
                sentence="ControllerExpandVolume is NOT_FOUND for a volume that does not exist.",
                source=f"{_CSI}#controllerexpandvolume-errors",
            ),
        },
    ),
    Section(
        "CSI: node service",
        {
            "csi.stage-volume.idempotent": Requirement(
                sentence="NodeStageVolume succeeds for a volume that is already staged there in the same way.",
                source=f"{_CSI}#nodestagevolume",
            ),
            "csi.stage-volume.conflict": Requirement(
                sentence="NodeStageVolume is ALREADY_EXISTS for a volume that is staged there in another way.",
                source=f"{_CSI}#nodestagevolume-errors",
            ),
            "csi.unstage-volume.idempotent": Requirement(
                sentence="NodeUnstageVolume undoes NodeStageVolume, and succeeds for a volume that is not staged.",
                source=f"{_CSI}#nodeunstagevolume",
            ),
            "csi.node-publish.idempotent": Requirement(
                sentence="NodePublishVolume succeeds for a volume that is already published there in the same way.",
                source=f"{_CSI}#nodepublishvolume",
            ),
            "csi.node-publish.conflict": Requirement(
                sentence="NodePublishVolume is ALREADY_EXISTS for a volume that is published there in another way.",
                source=f"{_CSI}#nodepublishvolume-errors",
            ),
            "csi.node-publish.not-staged": Requirement(
                sentence="NodePublishVolume is FAILED_PRECONDITION for a volume that is not staged.",
                source=f"{_CSI}#nodepublishvolume-errors",
            ),
            "csi.node-publish.read-only": Requirement(
                sentence="NodePublishVolume mounts read-only when `readonly` or the access mode asks for it; the "
                "kernel then refuses writes to a raw block volume.",
                source=f"{_CSI}#nodepublishvolume",
            ),
            "csi.node-publish.target": Requirement(
                sentence="NodePublishVolume creates the target path: a directory for a mounted volume, a block device "
                "for a block volume.",
                source=f"{_CSI}#nodepublishvolume",
            ),
            "csi.node-unpublish.undone": Requirement(
                sentence="NodeUnpublishVolume deletes what NodePublishVolume created at the target path, and may be "
                "repeated.",
                source=f"{_CSI}#nodeunpublishvolume",
            ),
            "csi.volume-stats.usage": Requirement(
                sentence="NodeGetVolumeStats reports total, used and available bytes and inodes; of a block volume, "
                "its size.",
                source=f"{_CSI}#nodegetvolumestats",
            ),
            "csi.node-health.answer": Requirement(
                sentence="NodeGetVolumeHealth returns the health of the volume at a path, or at the first place where "
                "the node has it.",
                source=f"{_CSI}#nodegetvolumehealth",
            ),
            "csi.volume-stats.missing": Requirement(
                sentence="NodeGetVolumeStats is NOT_FOUND when the volume is not at the path.",
                source=f"{_CSI}#nodegetvolumestats-errors",
            ),
            "csi.get-capabilities.node": Requirement(
                sentence="NodeGetCapabilities names the calls that the node process implements.",
                source=f"{_CSI}#nodegetcapabilities",
            ),
            "csi.node-info.unique": Requirement(
                sentence="The node id identifies the node among all nodes, and ControllerPublishVolume accepts it.",
                source=f"{_CSI}#nodegetinfo",
            ),
            "csi.node-info.limit": Requirement(
                sentence="`max_volumes_per_node` is never negative; 0 leaves the limit to Kubernetes.",
                source=f"{_CSI}#nodegetinfo",
            ),
            "csi.node-info.topology": Requirement(
                sentence="Node and volume report their zone under the same topology key.",
                source=f"{_CSI}#createvolume",
                departure="The spec allows one key prefix for each plugin. Nodes report "
                "`topology.kubernetes.io/zone`, `topology.ebs.csi.aws.com/zone` and `kubernetes.io/os`, as upstream's "
                "nodes do, so that volumes that carry the older key find a node.",
            ),
            "csi.node-expand.idempotent": Requirement(
                sentence="NodeExpandVolume succeeds for a filesystem that is large enough.",
                source=f"{_CSI}#nodeexpandvolume",
            ),
            "csi.node-expand.missing": Requirement(
                sentence="NodeExpandVolume is NOT_FOUND when the volume does not exist.",
                source=f"{_CSI}#nodeexpandvolume-errors",
                departure="For a volume that exists and is not at the path it is UNAVAILABLE: after NOT_FOUND kubelet "
                "marks the growth infeasible and never tries again.",
            ),
            "csi.node-expand.while-used": Requirement(
                sentence="NodeExpandVolume grows a filesystem while a pod uses it, or returns a retryable error.",
                source=f"{_CSI}#nodeexpandvolume",
            ),
        },
    ),
)

REQUIREMENTS: Final = {id_: requirement for section in SECTIONS for id_, requirement in section.requirements.items()}
