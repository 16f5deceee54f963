"""A values file for the upstream chart installs this chart with the same meaning, or is refused by name."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from hyperpod_ebs.kit import command
from tests.support.helm_chart import (
    CHART,
    SNAPSHOTS,
    Rendered,
    Values,
    copy_chart,
    get_refusal,
    get_release,
    render,
)

UPSTREAM: Final = Path(__file__).with_name("upstream.yaml")

FREE: Final = frozenset({"sidecars.metadataLabeler", "sidecars.volumemodifier"})
"""The groups of upstream's values that this chart does not read."""


def value_paths(values: Any, prefix: str = "") -> Iterator[str]:
    """The path of each value."""
    if isinstance(values, dict) and values and prefix not in FREE:
        for key, inner in values.items():
            yield from value_paths(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix


@pytest.mark.requirement("chart.upstream-values")
async def test_upstreams_default_values_are_accepted() -> None:
    """A user may install this chart with a complete copy of upstream's values.yaml."""
    rendered = await render(UPSTREAM)

    assert set(rendered.controller.containers) == {
        "ebs-plugin",
        "csi-provisioner",
        "csi-attacher",
        "csi-resizer",
        "csi-snapshotter",
    }
    assert set(rendered.node.containers) == {"ebs-plugin"}


async def test_upstreams_default_values_change_only_images_and_resources() -> None:
    """Decision 0017: a default differs from upstream's only where the driver differs."""
    upstream, own = await render(UPSTREAM), await render()

    for name in own.controller.containers:
        assert upstream.controller.arguments(name) == own.controller.arguments(name)
        assert upstream.controller.environment(name) == own.controller.environment(name)
    assert upstream.node.arguments("ebs-plugin") == own.node.arguments("ebs-plugin")
    assert {(each["kind"], each["metadata"]["name"]) for each in upstream.objects} == {
        (each["kind"], each["metadata"]["name"]) for each in own.objects
    }
    assert upstream.get("CSIDriver", "ebs.csi.aws.com") == own.get("CSIDriver", "ebs.csi.aws.com")


async def test_this_drivers_image_replaces_upstreams_default_image() -> None:
    """The Go driver does not accept this chart's arguments and would crash."""
    values = {"image": {"repository": "registry.example/ebs-csi-driver/aws-ebs-csi-driver", "tag": "v1.64.0"}}

    rendered = await render({**values, "image": {**values["image"], "containerRegistry": "mine.example"}})

    assert rendered.controller.containers["ebs-plugin"]["image"] == "mine.example/hyperpod-ebs:0.1.0"
    assert rendered.node.containers["ebs-plugin"]["image"] == "mine.example/hyperpod-ebs:0.1.0"


async def test_the_container_registry_replaces_that_of_upstreams_sidecars() -> None:
    """docs/guides/migrate.md: the user sets a registry that has this chart's sidecars; the values name another one."""
    values = yaml.safe_load(UPSTREAM.read_text())
    values["image"]["containerRegistry"] = "mine.example/storage"

    upstream, own = (
        await render(values),
        await render({"image": {"containerRegistry": "mine.example/storage"}}),
    )

    assert upstream.controller.images == own.controller.images
    assert own.controller.images["csi-provisioner"].startswith("mine.example/storage/csi-components/csi-provisioner:v")


async def test_without_a_container_registry_upstreams_sidecar_images_are_used() -> None:
    """The values have the same meaning as upstream."""
    used = (await render(UPSTREAM)).controller.images

    assert used["csi-provisioner"] == "registry.example/csi-components/csi-provisioner:v6.3.0-eksbuild.4"


@pytest.mark.requirement("chart.no-unqualified-pull")
async def test_an_image_without_a_registry_is_pulled_only_with_the_policy_always(tmp_path: Path) -> None:
    """On a public registry any user can register the name, and the controller's pod has a role at AWS."""
    chart = copy_chart(tmp_path, registry="")
    without = await render(chart=chart)
    with_registry = await render({"image": {"containerRegistry": "localhost"}}, chart=chart)
    always = await render({"image": {"pullPolicy": "Always"}}, chart=chart)

    assert pull_policies(without) == {"Never"}
    assert pull_policies(with_registry) == {"IfNotPresent"}
    assert always.node.containers["ebs-plugin"]["imagePullPolicy"] == "Always"


async def test_helm_tests_image_is_pulled_also_without_a_registry(tmp_path: Path) -> None:
    """Upstream: helmTester.image. Its pod has no role at AWS."""
    chart = copy_chart(tmp_path, registry="")

    own, other = await render(chart=chart), await render({"helmTester": {"image": "busybox:1.36"}}, chart=chart)

    assert [helm_test_container(rendered)["imagePullPolicy"] for rendered in (own, other)] == ["Never", "IfNotPresent"]
    assert helm_test_container(other)["image"] == "busybox:1.36"


def helm_test_container(rendered: Rendered) -> Any:
    """The container of `helm test`."""
    [pod] = rendered.all("Pod")
    return pod["spec"]["containers"][0]


def pull_policies(rendered: Rendered) -> set[str]:
    """The pull policies of all containers."""
    return {container["imagePullPolicy"] for pod in rendered.pods for container in pod.containers.values()}


@pytest.mark.requirement("chart.upstream-values")
def test_the_chart_has_every_value_of_upstream() -> None:
    """Decision 0017. The names inside the values in `free` are those of Kubernetes' objects."""
    own = yaml.safe_load((CHART / "values.yaml").read_text())
    free = ("resources", "affinity", "securityContext", "containerSecurityContext", "livenessProbe", "updateStrategy")

    for path in value_paths(yaml.safe_load(UPSTREAM.read_text())):
        node = own
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
        """The value's name, and the advice in the error."""
        return f"{self.name}: {self.advice}"


def sidecar(name: str, **values: Any) -> Values:
    """Values of a sidecar."""
    return {"sidecars": {name: values}}


REFUSED: Final = [
    Refused("fips", {"fips": True}, "AWS_USE_FIPS_ENDPOINT"),
    Refused("a1CompatibilityDaemonSet", {"a1CompatibilityDaemonSet": True}, "default node.affinity excludes"),
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
    Refused("node.metadataSources", {"node": {"metadataSources": "imds,metadata-labeler"}}, "is not one of imds"),
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
    Refused("additionalDaemonSets.windows", {"additionalDaemonSets": {"windows": None}}, "upstream's DaemonSet"),
    Refused("additionalDaemonSets.big-windows", {"additionalDaemonSets": {"big-windows": {}}}, "upstream's DaemonSet"),
    Refused("controller.extraVolumeTags", {"controller": {"extraVolumeTags": {"team": 'a,"b"'}}}, "comma"),
    Refused("controller.extraVolumeTags", {"controller": {"extraVolumeTags": {"a=b": "c"}}}, "equals sign"),
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
    Refused("nodeComponentOnly", {"nodeComponentOnly": True, "node": {"enableLinux": False}}, "Change one of them"),
    Refused(
        "snapshotController.enabled",
        {"nodeComponentOnly": True, "snapshotController": {"enabled": True}},
        "not part of the node component",
    ),
    Refused(
        "controller.podDisruptionBudget.maxUnavailable",
        {"controller": {"podDisruptionBudget": {"maxUnavailable": 1, "minAvailable": "50%"}}},
        "Remove one",
    ),
    Refused(
        "sidecars.resizer.image.repository",
        {
            "image": {"containerRegistry": "mine.example"},
            **sidecar("resizer", image={"repository": "registry.example/eks/csi-resizer"}),
        },
        "image.containerRegistry would be put before it",
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
async def test_a_value_that_cannot_be_honoured_is_refused_by_name_with_advice(case: Refused) -> None:
    """Decision 0017: the error says what to set instead."""
    refusal = await get_refusal(case.values)

    assert f"{case.name} is refused" in refusal
    assert case.advice in refusal


async def test_all_refusals_are_reported_at_once() -> None:
    """A user fixes a values file in one pass."""
    refusal = await get_refusal({"fips": True, "node": {"windowsHostProcess": True}})

    assert "fips is refused" in refusal
    assert "node.windowsHostProcess is refused" in refusal


async def test_values_for_an_api_that_the_cluster_does_not_serve_are_refused_with_advice() -> None:
    """The snapshot controller exits without its CRDs, and Kubernetes refuses objects of an unknown kind."""
    values = {
        "snapshotController": {"enabled": True},
        "volumeSnapshotClasses": [{"name": "a", "deletionPolicy": "Delete"}],
        "volumeAttributesClasses": [{"name": "a", "parameters": {"iops": "3000"}}],
    }

    refusal = await get_refusal(values, apis=(), kubernetes="1.33.0")

    assert "snapshotController.enabled is refused: the cluster does not serve snapshot.storage.k8s.io/v1" in refusal
    assert "First apply the CRDs of external-snapshotter v8.6.0" in refusal
    assert "volumeSnapshotClasses is refused" in refusal
    assert "volumeAttributesClasses is refused" in refusal


async def test_enable_windows_is_accepted_and_renders_nothing() -> None:
    """Upstream's default is true."""
    rendered = await render({"node": {"enableWindows": True}}, apis=(SNAPSHOTS,))

    assert [each["metadata"]["name"] for each in rendered.all("DaemonSet")] == ["ebs-csi-node"]


async def test_a_release_of_upstreams_chart_is_upgraded_in_place() -> None:
    """Kubernetes forbids changes to selectors and to the roles of bindings, so these must be upstream's."""
    rendered = await render({"nameOverride": "aws-ebs-csi-driver", "defaultStorageClass": {"enabled": True}})

    for kind, name in (("Deployment", "ebs-csi-controller"), ("DaemonSet", "ebs-csi-node")):
        assert rendered.get(kind, name)["spec"]["selector"] == {
            "matchLabels": {
                "app": name,
                "app.kubernetes.io/name": "aws-ebs-csi-driver",
                "app.kubernetes.io/instance": "ebs",
            }
        }
    assert {
        each["metadata"]["name"]: each["roleRef"]["name"]
        for each in [*rendered.all("ClusterRoleBinding"), *rendered.all("RoleBinding")]
    } == {
        "ebs-csi-provisioner-binding": "ebs-external-provisioner-role",
        "ebs-csi-attacher-binding": "ebs-external-attacher-role",
        "ebs-csi-resizer-binding": "ebs-external-resizer-role",
        "ebs-csi-snapshotter-binding": "ebs-external-snapshotter-role",
        "ebs-csi-node-getter-binding": "ebs-csi-node-role",
        "ebs-csi-leases-rolebinding": "ebs-csi-leases-role",
        # Upstream has no such objects.
        "ebs-csi-attach-limits-controller-rolebinding": "ebs-csi-attach-limits-controller-role",
        "ebs-csi-attach-limits-node-rolebinding": "ebs-csi-attach-limits-node-role",
    }


BASE: Final[Values] = {
    "sidecars": {name: {"enabled": True} for name in ("livenessProbe", "nodeDriverRegistrar")}
    | {"snapshotter": {"forceEnable": True}},
}
"""Values with which more of the others have an effect."""

ALSO: Final[Mapping[str, Values]] = {
    "controller.enablePrometheusAnnotations": {"controller": {"enableMetrics": True}},
    "controller.serviceMonitor.forceEnable": {"controller": {"enableMetrics": True}},
    "controller.serviceMonitor": {"controller": {"enableMetrics": True, "serviceMonitor": {"forceEnable": True}}},
    "node.enablePrometheusAnnotations": {"node": {"enableMetrics": True}},
    "node.serviceMonitor.forceEnable": {"node": {"enableMetrics": True}},
    "node.serviceMonitor": {"node": {"enableMetrics": True, "serviceMonitor": {"forceEnable": True}}},
    "node.tolerations": {"node": {"tolerateAllTaints": False}},
    "sidecars.snapshotter.forceEnable": {"sidecars": {"snapshotter": {"forceEnable": False}}},
    "proxy.no_proxy": {"proxy": {"http_proxy": "http://proxy.example"}},
    "": {},
}
"""Values that another value needs for an effect, by the path of that value or of its group; the first match counts."""

SAMPLES: Final[Mapping[str, object]] = {
    "additionalArgs": ["--other=1"],
    "additionalClusterRoleRules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}],
    "additionalDaemonSets": {"big": {"nodeSelector": {"size": "big"}}},
    "deploymentAnnotations": {"a": "b"},
    "dnsConfig": {"nameservers": ["10.0.0.1"]},
    "env": [{"name": "A", "value": "b"}],
    "envFrom": [{"configMapRef": {"name": "a"}}],
    "fullnameOverride": "other",
    "http_proxy": "http://proxy.example",
    "httpEndpoint": ":9000",
    "image.pullPolicy": "Always",
    "imagePullSecrets": ["a"],
    "initContainers": [{"name": "a", "image": "b"}],
    "interval": "20s",
    "k8sTagClusterId": "other",
    "nodeDriverRegistrar.livenessProbe": {"exec": {"command": ["true"]}},
    "loggingFormat": "json",
    "metadataSources": "kubernetes",
    "nameOverride": "other",
    "nodeAllocatableUpdatePeriodSeconds": 60,
    "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": []}]}},
    "no_proxy": "10.0.0.0/8",
    "otelTracing": {"otelServiceName": "ebs"},
    "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]},
    "priorityClassName": "other",
    "pullPolicy": "Always",
    "region": "eu-west-1",
    "reservedVolumeAttachments": 3,
    "resources": {"limits": {"memory": "99Mi"}},
    "rollingUpdate": {"maxUnavailable": 3},
    "socketDirVolume": {"hostPath": {"path": "/run/a"}},
    "probeDirVolume": {"hostPath": {"path": "/run/a"}},
    "storageClasses": [{"name": "a"}],
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "updateStrategy": {"type": "OnDelete"},
    "volumeAttachLimit": 7,
    "volumeMounts": [{"name": "a", "mountPath": "/a"}],
    "volumes": [{"name": "a", "emptyDir": {}}],
    "volumeSnapshotClasses": [{"name": "a", "deletionPolicy": "Delete"}],
}
"""A value that differs from the default and is valid, by the last words of its path; other types follow a rule."""


def other_value(path: str, value: object) -> object:
    """A valid value that differs from the default `value`."""
    for words, sample in SAMPLES.items():
        if path == words or path.endswith(f".{words}"):
            return sample
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case dict():
            return {**value, "a": "b"}
        case _:
            return f"{value or ''}x"


def whole_values(values: Any, path: str = "") -> Iterator[tuple[str, object]]:  # what YAML holds
    """The path and the default of each value; a group that Kubernetes defines is one value."""
    is_group = isinstance(values, dict) and values and path.rpartition(".")[2] not in SAMPLES
    if not is_group or path.endswith(("securityContext", "containerSecurityContext")):
        yield path, values
        return
    for key, inner in values.items():
        yield from whole_values(inner, f"{path}.{key}" if path else key)


def merge_values(*parts: Values) -> dict[str, Any]:  # what YAML holds
    """The values of all parts; the later part counts."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merge_values(result[key], value) if both else value
    return result


def values_at(path: str, value: object) -> Values:
    """Values with one value."""
    for part in reversed(path.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


async def install_or_refuse(values: Values) -> tuple[str, str]:
    """What an installation with the values creates, and its notes; nothing and the error if the chart refuses them."""
    try:
        return await get_release(values)
    except command.CommandFailed as failed:
        return "", str(failed)


def is_named(path: str, notes: str) -> bool:
    """Whether the notes name the value, or its group in a sidecar."""
    parts = path.split(".")
    return any(".".join(parts[:count]) in notes for count in range(min(3, len(parts)), len(parts) + 1))


@pytest.mark.requirement("chart.upstream-values")
async def test_each_of_upstreams_values_has_an_effect_or_is_refused_or_named_in_the_notes() -> None:
    """Decision 0017: a value that is accepted and does nothing is noticed weeks later."""
    without_effect = []
    limit = asyncio.Semaphore(2)
    unchanged = {prefix: await install_or_refuse(merge_values(BASE, values)) for prefix, values in ALSO.items()}

    async def change(path: str, default: object) -> None:
        prefix = next(prefix for prefix in ALSO if f"{path}.".startswith(prefix and f"{prefix}."))
        before, notes = unchanged[prefix]
        needed = ALSO[prefix]
        async with limit:
            after, words = await install_or_refuse(
                merge_values(BASE, needed, values_at(path, other_value(path, default)))
            )
        is_invalid = not after and "is refused" not in words
        if is_invalid or (after == before and not is_named(path, notes + words)):
            without_effect.append(f"{path}: {words if is_invalid else 'no effect'}")

    async with asyncio.TaskGroup() as tasks:
        for path, default in whole_values(yaml.safe_load(UPSTREAM.read_text())):
            tasks.create_task(change(path, default))

    assert not without_effect, "\n".join(without_effect)
