"""A values file written for the upstream driver's chart installs ours with the same meaning, or is refused by name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from tests.support.helm_chart import CHART, SNAPSHOTS, Pod, Rendered, Values, copy_chart, refused, render

UPSTREAM: Final = Path(__file__).with_name("upstream.yaml")

FREE: Final = frozenset({"sidecars.metadataLabeler", "sidecars.volumemodifier"})
"""What of upstream's is not there, and whose settings therefore are looked at no further."""


def names(values: Any, prefix: str = "") -> Iterator[str]:
    """The path of each value."""
    if isinstance(values, dict) and values and prefix not in FREE:
        for key, inner in values.items():
            yield from names(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix


@pytest.mark.requirement("chart.upstream-values")
async def test_upstreams_own_values_are_taken() -> None:
    """The issue: upstream's own values.yaml accepted."""
    rendered = await render(UPSTREAM)

    assert set(rendered.controller.containers) == {
        "ebs-plugin",
        "csi-provisioner",
        "csi-attacher",
        "csi-resizer",
        "csi-snapshotter",
    }
    assert set(rendered.node.containers) == {"ebs-plugin"}


async def test_upstreams_own_values_change_nothing_but_images_and_sizes() -> None:
    """Ours: a default is upstream's, or the difference is one of these and meant."""
    theirs, ours = await render(UPSTREAM), await render()

    for name in ours.controller.containers:
        assert theirs.controller.arguments(name) == ours.controller.arguments(name)
        assert theirs.controller.environment(name) == ours.controller.environment(name)
    assert theirs.node.arguments("ebs-plugin") == ours.node.arguments("ebs-plugin")
    assert {(one["kind"], one["metadata"]["name"]) for one in theirs.objects} == {
        (one["kind"], one["metadata"]["name"]) for one in ours.objects
    }
    assert theirs.one("CSIDriver", "ebs.csi.aws.com") == ours.one("CSIDriver", "ebs.csi.aws.com")


async def test_the_go_drivers_image_is_not_run_in_our_place() -> None:
    """Ours: upstream's default repository in a values file would crash on our arguments."""
    values = {"image": {"repository": "registry.example/ebs-csi-driver/aws-ebs-csi-driver", "tag": "v1.64.0"}}

    rendered = await render({**values, "image": {**values["image"], "containerRegistry": "mine.example"}})

    assert rendered.controller.containers["ebs-plugin"]["image"] == "mine.example/hyperpod-ebs:0.1.0"
    assert rendered.node.containers["ebs-plugin"]["image"] == "mine.example/hyperpod-ebs:0.1.0"


async def test_one_registry_stands_in_for_those_of_upstreams_sidecars() -> None:
    """The issue: migration. The guide adds a registry to values that name another, and has our sidecars in it."""
    values = yaml.safe_load(UPSTREAM.read_text())
    values["image"]["containerRegistry"] = "mine.example/storage"

    theirs, ours = (
        await render(values),
        await render({"image": {"containerRegistry": "mine.example/storage"}}),
    )

    assert images(theirs.controller) == images(ours.controller)
    assert images(ours.controller)["csi-provisioner"].startswith(
        "mine.example/storage/csi-components/csi-provisioner:v"
    )


async def test_without_one_upstreams_sidecars_run_as_they_are() -> None:
    """The issue: with the same meaning."""
    found = images((await render(UPSTREAM)).controller)

    assert found["csi-provisioner"] == "registry.example/csi-components/csi-provisioner:v6.3.0-eksbuild.4"


@pytest.mark.requirement("chart.no-unqualified-pull")
async def test_an_image_of_no_registry_is_not_pulled_unless_the_values_say_always(tmp_path: Path) -> None:
    """Ours: a public one gives its name to whoever takes it, and the controller's pod has a role at AWS."""
    chart = copy_chart(tmp_path, registry="")
    nowhere = await render(chart=chart)
    somewhere = await render({"image": {"containerRegistry": "localhost"}}, chart=chart)
    wanted = await render({"image": {"pullPolicy": "Always"}}, chart=chart)

    assert policies(nowhere) == {"Never"}
    assert policies(somewhere) == {"IfNotPresent"}
    assert wanted.node.containers["ebs-plugin"]["imagePullPolicy"] == "Always"


async def test_the_testers_image_is_pulled_from_where_its_short_name_leads(tmp_path: Path) -> None:
    """Upstream: helmTester.image; its pod has no role at AWS."""
    chart = copy_chart(tmp_path, registry="")

    ours, theirs = await render(chart=chart), await render({"helmTester": {"image": "busybox:1.36"}}, chart=chart)

    assert [trial(one)["imagePullPolicy"] for one in (ours, theirs)] == ["Never", "IfNotPresent"]
    assert trial(theirs)["image"] == "busybox:1.36"


def trial(rendered: Rendered) -> Any:
    """The container of `helm test`."""
    [pod] = rendered.all("Pod")
    return pod["spec"]["containers"][0]


def images(pod: Pod) -> dict[str, str]:
    """Which image each container runs."""
    return {name: container["image"] for name, container in pod.containers.items()}


def policies(rendered: Rendered) -> set[str]:
    """When images are pulled."""
    return {container["imagePullPolicy"] for pod in rendered.pods for container in pod.containers.values()}


@pytest.mark.requirement("chart.upstream-values")
def test_no_value_of_upstreams_is_unknown() -> None:
    """The issue: values are upstream's. Those of the free-form kinds are Kubernetes' own names."""
    ours = yaml.safe_load((CHART / "values.yaml").read_text())
    free = ("resources", "affinity", "securityContext", "containerSecurityContext", "livenessProbe", "updateStrategy")

    for path in names(yaml.safe_load(UPSTREAM.read_text())):
        node = ours
        for part in path.split("."):
            if part in free:
                break
            if not isinstance(node, dict) or not node:
                break
            assert part in node, path
            node = node[part]


class Refused(NamedTuple):
    """A value that cannot be honoured."""

    name: str
    values: Values
    advice: str

    @property
    def id(self) -> str:
        """The value's name, and what it is about."""
        return f"{self.name}: {self.advice}"


def sidecar(name: str, **values: Any) -> Values:
    """Values of a sidecar."""
    return {"sidecars": {name: values}}


REFUSED: Final = [
    Refused("fips", {"fips": True}, "AWS_USE_FIPS_ENDPOINT"),
    Refused("a1CompatibilityDaemonSet", {"a1CompatibilityDaemonSet": True}, "node.affinity keeps"),
    Refused(
        "controller.volumeModificationFeature.enabled",
        {"controller": {"volumeModificationFeature": {"enabled": True}}},
        "VolumeAttributesClass",
    ),
    Refused("controller.enableNodeLocalVolumes", {"controller": {"enableNodeLocalVolumes": True}}, "false"),
    Refused("sidecars.metadataLabeler.enabled", sidecar("metadataLabeler", enabled=True), "SageMaker's labels"),
    Refused("controller.otelTracing", {"controller": {"otelTracing": {"otelServiceName": "ebs"}}}, "enableMetrics"),
    Refused("node.otelTracing", {"node": {"otelTracing": {"otelServiceName": "ebs"}}}, "enableMetrics"),
    Refused("node.windowsHostProcess", {"node": {"windowsHostProcess": True}}, "upstream driver"),
    Refused("node.metadataSources", {"node": {"metadataSources": "imds,metadata-labeler"}}, "imds and kubernetes"),
    Refused(
        "image.repository",
        {"image": {"repository": "registry.example/mirror/aws-ebs-csi-driver"}},
        "Push hyperpod-ebs to your registry",
    ),
    Refused(
        "node.volumeAttachLimit",
        {"node": {"volumeAttachLimit": 0, "reservedVolumeAttachments": 0}},
        "node.reservedVolumeAttachments",
    ),
    Refused(
        "additionalDaemonSets.big.volumeAttachLimit",
        {"node": {"reservedVolumeAttachments": 2}, "additionalDaemonSets": {"big": {"volumeAttachLimit": 9}}},
        "additionalDaemonSets.big.reservedVolumeAttachments",
    ),
    Refused(
        "additionalDaemonSets.big.serviceAccount",
        {"additionalDaemonSets": {"big": {"serviceAccount": {"name": "other"}}}},
        "node.serviceAccount",
    ),
    Refused("controller.extraVolumeTags", {"controller": {"extraVolumeTags": {"team": "a,b"}}}, "comma"),
    Refused(
        "sidecars.attacher.leaderElection.enabled",
        sidecar("attacher", leaderElection={"enabled": False}),
        "controller.replicaCount to 1",
    ),
    Refused("hyperpod.region", {"hyperpod": {"region": "a"}, "controller": {"region": "b"}}, "one of them"),
    Refused(
        "hyperpod.clusterArn",
        {
            "hyperpod": {
                "clusterArn": "arn:aws:sagemaker:us-west-2:111122223333:cluster/abcdef123456",
                "account": "444455556666",
            }
        },
        "its account is 111122223333, and the values say 444455556666",
    ),
    Refused(
        "hyperpod.role.arn",
        {
            "hyperpod": {"role": {"arn": "arn:aws:iam::111122223333:role/one"}},
            "controller": {"serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "other"}}},
        },
        "one of them",
    ),
    Refused("nodeComponentOnly", {"nodeComponentOnly": True, "node": {"enableLinux": False}}, "the other way"),
    Refused(
        "snapshotController.enabled",
        {"nodeComponentOnly": True, "snapshotController": {"enabled": True}},
        "not of the node's part",
    ),
    Refused(
        "controller.podDisruptionBudget.maxUnavailable",
        {"controller": {"podDisruptionBudget": {"maxUnavailable": 1, "minAvailable": "50%"}}},
        "Leave out the other",
    ),
    Refused(
        "sidecars.resizer.image.repository",
        {
            "image": {"containerRegistry": "mine.example"},
            **sidecar("resizer", image={"repository": "registry.example/eks/csi-resizer"}),
        },
        "image.containerRegistry would come before it",
    ),
    Refused(
        "image.repository",
        {"image": {"containerRegistry": "mine.example", "repository": "registry.example:5000/hyperpod-ebs"}},
        "one of the two registries",
    ),
    Refused(
        "sidecars.snapshotter.additionalArgs",
        sidecar("snapshotter", additionalArgs=["--feature-gates=A=false,CSIVolumeGroupSnapshot=true"]),
        "group snapshots",
    ),
    Refused(
        "snapshotController.additionalArgs",
        {"snapshotController": {"additionalArgs": ["--feature-gates=CSIVolumeGroupSnapshot=true"]}},
        "group snapshots",
    ),
]


@pytest.mark.requirement("chart.upstream-values")
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
async def test_what_cannot_be_honoured_is_refused_by_its_name(case: Refused) -> None:
    """The issue: refused with the name of the value that cannot be honoured; and with what to do."""
    said = await refused(case.values)

    assert f"{case.name} is refused" in said
    assert case.advice in said


async def test_everything_that_is_refused_is_said_at_once() -> None:
    """Ours: whoever brings a values file mends it in one go."""
    said = await refused({"fips": True, "node": {"windowsHostProcess": True}})

    assert "fips is refused" in said
    assert "node.windowsHostProcess is refused" in said


async def test_what_the_cluster_does_not_serve_is_refused_with_what_to_do() -> None:
    """The issue: the snapshot controller and its CRDs are pre-checked."""
    values = {
        "snapshotController": {"enabled": True},
        "volumeSnapshotClasses": [{"name": "a", "deletionPolicy": "Delete"}],
        "volumeAttributesClasses": [{"name": "a", "parameters": {"iops": "3000"}}],
    }

    said = await refused(values, apis=(), kubernetes="1.33.0")

    assert "snapshotController.enabled is refused: the cluster does not serve snapshot.storage.k8s.io/v1" in said
    assert "Apply the CRDs of external-snapshotter v8.6.0 first" in said
    assert "volumeSnapshotClasses is refused" in said
    assert "volumeAttributesClasses is refused" in said


async def test_windows_by_default_is_taken_and_makes_nothing() -> None:
    """The issue: `enableWindows: true` (upstream's default) accepted with a notice."""
    rendered = await render({"node": {"enableWindows": True}}, apis=(SNAPSHOTS,))

    assert [one["metadata"]["name"] for one in rendered.all("DaemonSet")] == ["ebs-csi-node"]


async def test_a_release_of_upstreams_chart_is_upgraded_in_place() -> None:
    """The issue: migration without touching a volume. What Kubernetes lets nobody change has to be upstream's.

    Those are selectors, and what a binding refers to.
    """
    rendered = await render({"nameOverride": "aws-ebs-csi-driver", "defaultStorageClass": {"enabled": True}})

    for kind, name in (("Deployment", "ebs-csi-controller"), ("DaemonSet", "ebs-csi-node")):
        assert rendered.one(kind, name)["spec"]["selector"] == {
            "matchLabels": {
                "app": name,
                "app.kubernetes.io/name": "aws-ebs-csi-driver",
                "app.kubernetes.io/instance": "ebs",
            }
        }
    assert {
        one["metadata"]["name"]: one["roleRef"]["name"]
        for one in [*rendered.all("ClusterRoleBinding"), *rendered.all("RoleBinding")]
    } == {
        "ebs-csi-provisioner-binding": "ebs-external-provisioner-role",
        "ebs-csi-attacher-binding": "ebs-external-attacher-role",
        "ebs-csi-resizer-binding": "ebs-external-resizer-role",
        "ebs-csi-snapshotter-binding": "ebs-external-snapshotter-role",
        "ebs-csi-node-getter-binding": "ebs-csi-node-role",
        "ebs-csi-leases-rolebinding": "ebs-csi-leases-role",
    }
