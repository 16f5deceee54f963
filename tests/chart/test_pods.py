"""The pods: what runs in them, with which rights, and that the driver understands how it is started."""

from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.command_line import read
from tests.support.helm_chart import Pod, Rendered, render

PRIVILEGED: Final = {"privileged": True, "readOnlyRootFilesystem": True}

TMP: Final = "/tmp"  # noqa: S108 - of a container

EVERYTHING: Final = {
    "controller": {
        "enableMetrics": True,
        "extraVolumeTags": {"team": "research", "owner": "{{ .PVCNamespace }}"},
        "k8sTagClusterId": "training",
        "sdkDebugLog": True,
    },
    "hyperpod": {"clusterArn": "arn:aws:sagemaker:us-west-2:111122223333:cluster/abcdef123456"},
    "node": {"enableMetrics": True, "metadataSources": "imds,kubernetes", "legacyXFS": True, "volumeAttachLimit": 0},
}


def words(pod: Pod) -> list[str]:
    """The driver's arguments as its process gets them: Kubernetes puts variables in."""
    environment = pod.environment("ebs-plugin")
    return [
        argument.replace("$(CSI_ENDPOINT)", str(environment["CSI_ENDPOINT"]))
        for argument in pod.arguments("ebs-plugin")
    ]


@pytest.mark.requirement("chart.arguments-accepted")
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["by default", "with everything"])
async def test_the_driver_takes_the_arguments_of_the_controller(values: dict[str, Any]) -> None:
    """Ours: chart and command may not drift apart."""
    mode, *arguments = words((await render(values)).controller)

    serving, controller, _ = read(*arguments)

    assert mode == "controller"
    assert serving.endpoint == "unix:///var/lib/csi/sockets/pluginproxy/csi.sock"
    assert serving.health_endpoint == ":9808"
    assert controller.batching
    assert controller.user_agent_extra == "helm"


async def test_values_reach_the_controller() -> None:
    """Ours."""
    _, *arguments = words((await render(EVERYTHING)).controller)

    serving, controller, _ = read(*arguments)

    assert serving.http_endpoint == ":3301"
    assert controller.extra_tags == ("owner={{ .PVCNamespace }},team=research",)
    assert controller.k8s_tag_cluster_id == "training"
    assert controller.cluster_arn == "arn:aws:sagemaker:us-west-2:111122223333:cluster/abcdef123456"
    assert controller.account_id == "111122223333"
    assert controller.partition == "aws"
    assert controller.aws_sdk_debug_log


@pytest.mark.requirement("chart.arguments-accepted")
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["by default", "with everything"])
async def test_the_driver_takes_the_arguments_of_the_node(values: dict[str, Any]) -> None:
    """Ours: as above."""
    mode, *arguments = words((await render(values)).node)

    serving, _, node = read(*arguments)

    assert mode == "node"
    assert serving.endpoint == "unix:///csi/csi.sock"
    assert serving.health_endpoint == ":9808"
    assert node.kubelet_root == Path("/var/lib/kubelet")
    assert node.plugin_registration_path == Path("/registration")
    assert node.kubelet_registration_path == Path("/var/lib/kubelet/plugins/ebs.csi.aws.com/csi.sock")


async def test_values_reach_the_node() -> None:
    """Ours."""
    _, *arguments = words((await render(EVERYTHING)).node)

    serving, _, node = read(*arguments)

    assert serving.http_endpoint == ":3302"
    assert node.metadata_sources == "imds,kubernetes"
    assert node.volume_attach_limit == 0
    assert node.legacy_xfs


async def test_one_container_is_the_node() -> None:
    """The issue: one container in the node pod, which registers itself and serves its own liveness."""
    node = (await render()).node

    [(name, container)] = node.containers.items()

    assert name == "ebs-plugin"
    assert "--plugin-registration-path=/registration" in container["args"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "healthz"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "healthz"}
    assert container["lifecycle"]["preStop"]["exec"]["command"][:2] == ["/bin/aws-ebs-csi-driver", "pre-stop-hook"]


@pytest.mark.parametrize(("grace", "wait"), [(30, 20), (300, 290), (11, 1), (5, 1), (0, 1)])
async def test_the_hook_waits_as_long_as_the_pod_may(grace: int, wait: int) -> None:
    """Upstream: until the grace period ends. Ours keeps ten seconds of it, or is killed before it says what is left."""
    values = {"additionalDaemonSets": {"patient": {"terminationGracePeriodSeconds": grace}}}

    hook = (await render(values)).pod("DaemonSet", "ebs-csi-node-patient").containers["ebs-plugin"]["lifecycle"]

    assert hook["preStop"]["exec"]["command"][2:] == [f"--wait-seconds={wait}"]


@pytest.mark.parametrize("sidecar", [False, True], ids=["the driver's own", "the community's probe"])
async def test_readiness_is_known_at_once_and_lost_as_slowly_as_life(sidecar: bool) -> None:  # noqa: FBT001 - a case
    """Ours: a rollout waits for it node by node, and a moment without AWS should take no pod away."""
    rendered = await render({"sidecars": {"livenessProbe": {"enabled": sidecar}}})

    for pod in (rendered.controller, rendered.node):
        alive, ready = (pod.containers["ebs-plugin"][probe] for probe in ("livenessProbe", "readinessProbe"))

        assert "initialDelaySeconds" not in ready
        assert ready["periodSeconds"] <= 2
        assert ready["periodSeconds"] * ready["failureThreshold"] == alive["periodSeconds"] * alive["failureThreshold"]


async def test_the_registrar_and_the_probe_are_still_to_be_had() -> None:
    """The issue: the registrar and livenessprobe sidecars remain as values, off by default."""
    values = {"sidecars": {"nodeDriverRegistrar": {"enabled": True}, "livenessProbe": {"enabled": True}}}

    rendered = await render(values)

    assert set(rendered.node.containers) == {"ebs-plugin", "node-driver-registrar", "liveness-probe"}
    assert "liveness-probe" in rendered.controller.containers
    # Two that do one thing would fight for the socket.
    assert not [one for one in rendered.node.arguments("ebs-plugin") if "registration" in one]


@pytest.mark.requirement("process.condition-reported")
async def test_the_communitys_probe_restarts_nobody() -> None:
    """Ours: it follows Probe, which says what is wrong with AWS, and no restart mends that (decision 0014)."""
    rendered = await render({"sidecars": {"livenessProbe": {"enabled": True}}})

    for pod in (rendered.controller, rendered.node):
        driver = pod.containers["ebs-plugin"]
        ports = {one["name"]: one["containerPort"] for one in driver["ports"]}

        # The sidecar's own is 9808.
        assert ports == {"healthz": 9808, "livez": 9810}
        assert "--health-endpoint=:9810" in driver["args"]
        assert driver["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "livez"}
        assert driver["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "healthz"}
        assert "env" not in pod.containers["liveness-probe"]


async def test_a_users_tmp_stands_in_for_ours() -> None:
    """Upstream has no /tmp, and whoever needed one has mounted it, most likely as a volume called tmp."""
    theirs: Any = {
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "volumeMounts": [{"name": "tmp", "mountPath": f"{TMP}/"}],
    }

    without, mounted = await render(), await render({"controller": theirs, "node": theirs})

    for before, after in ((without.controller, mounted.controller), (without.node, mounted.node)):
        assert temporary(before) == ["ebs-scratch"]
        assert temporary(after) == ["tmp"]
        assert [one["name"] for one in after.spec["volumes"]].count("tmp") == 1
        assert "ebs-scratch" not in [one["name"] for one in after.spec["volumes"]]


def temporary(pod: Pod) -> list[str]:
    """The volumes at the driver's /tmp."""
    mounts = pod.containers["ebs-plugin"]["volumeMounts"]
    return [one["name"] for one in mounts if one["mountPath"].rstrip("/") == TMP]


async def test_a_node_without_all_tolerations_stays_for_a_drain() -> None:
    """Upstream: the driver is the last to leave, for it unmounts."""
    tolerations = (await render({"node": {"tolerateAllTaints": False}})).node.spec["tolerations"]

    assert {one["key"] for one in tolerations if one == {"key": one.get("key"), "operator": "Exists"}} == {
        "ebs.csi.aws.com/agent-not-ready",
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
    }


async def test_a_daemonset_can_be_left_out() -> None:
    """Upstream: each is made by what its own values and the node's come to."""
    one_less = await render({"additionalDaemonSets": {"big": {"enableLinux": False}, "small": None}})
    none = await render({"node": {"enableLinux": False}, "additionalDaemonSets": {"big": None}})
    only = await render({"node": {"enableLinux": False}, "additionalDaemonSets": {"big": {"enableLinux": True}}})

    assert named(one_less, "DaemonSet") == {"ebs-csi-node", "ebs-csi-node-small"}
    assert not named(none, "DaemonSet")
    assert named(only, "DaemonSet") == {"ebs-csi-node-big"}


async def test_what_goes_with_a_daemonset_goes_where_it_does() -> None:
    """Ours: metrics of nobody, and a policy for nobody."""
    values = {
        "node": {"enableMetrics": True},
        "networkPolicy": {"enabled": True},
        "additionalDaemonSets": {"big": {"enableLinux": False}, "small": None},
    }

    rendered = await render(values)

    assert named(rendered, "Service") == {"ebs-csi-node", "ebs-csi-node-small"}
    [app] = rendered.one("NetworkPolicy", "ebs-csi-node")["spec"]["podSelector"]["matchExpressions"]
    assert app["values"] == ["ebs-csi-node", "ebs-csi-node-small"]


def named(rendered: Rendered, kind: str) -> set[str]:
    """The objects of a kind."""
    return {one["metadata"]["name"] for one in rendered.all(kind)}


async def test_the_way_of_a_rollout_is_whole() -> None:
    """Ours: Helm leaves the default's rollingUpdate beside another type, and Kubernetes refuses the two."""
    values = {"controller": {"updateStrategy": {"type": "Recreate"}}, "node": {"updateStrategy": {"type": "OnDelete"}}}

    rendered = await render(values)

    assert rendered.one("Deployment", "ebs-csi-controller")["spec"]["strategy"] == {"type": "Recreate"}
    assert rendered.one("DaemonSet", "ebs-csi-node")["spec"]["updateStrategy"] == {"type": "OnDelete"}


async def test_the_snapshot_controller_runs_where_the_controller_may() -> None:
    """Ours: a cluster's system nodes, name servers and proxy are the same for both."""
    values: Any = {
        "snapshotController": {"enabled": True},
        "controller": {"nodeSelector": {"role": "system"}, "dnsConfig": {"nameservers": ["10.0.0.2"]}},
        "proxy": {"http_proxy": "http://proxy.example:3128"},
    }

    rendered = await render(values)
    pod = rendered.pod("Deployment", "snapshot-controller")

    assert pod.spec["nodeSelector"] == {"kubernetes.io/os": "linux", "role": "system"}
    assert set(pod.spec["affinity"]) == {"nodeAffinity"}
    assert pod.spec["dnsConfig"] == {"nameservers": ["10.0.0.2"]}
    assert pod.environment("snapshot-controller")["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert rendered.one("PodDisruptionBudget", "snapshot-controller")["spec"]["maxUnavailable"] == 1


async def test_what_a_test_leaves_goes_with_it() -> None:
    """Ours: a failed `helm test` is no object of the release, so that its volume would outlive that."""
    pod = (await render({"defaultStorageClass": {"enabled": True}})).one("Pod", "ebs-csi-driver-test")

    [volume] = pod["spec"]["volumes"]

    assert "hook-failed" in pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert pod["spec"]["activeDeadlineSeconds"] < 300
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert volume["ephemeral"]["volumeClaimTemplate"]["spec"]["storageClassName"] == "ebs-csi-default-sc"


async def test_the_older_name_of_an_endpoint_is_read_as_well() -> None:
    """Upstream's releases differ in the key of the ConfigMap aws-meta."""
    environment = (await render()).controller.environment("ebs-plugin")

    assert environment["AWS_EC2_ENDPOINT"]["configMapKeyRef"]["key"] == "ec2_endpoint"
    assert environment["HYPERPOD_EBS_EC2_ENDPOINT"]["configMapKeyRef"]["key"] == "endpoint"


@pytest.mark.requirement("chart.unprivileged")
async def test_only_what_mounts_is_privileged() -> None:
    """The issue: node privileged only where mounting needs it, controller without capabilities, read-only roots."""
    values = {
        "sidecars": {"nodeDriverRegistrar": {"enabled": True}, "livenessProbe": {"enabled": True}},
        "snapshotController": {"enabled": True},
    }

    rendered = await render(values)

    for pod in rendered.pods:
        for name, container in pod.containers.items():
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"], name
            if rights.get("privileged"):
                assert name == "ebs-plugin"
                assert rights == PRIVILEGED
                assert "kubelet-dir" in {mount["name"] for mount in container["volumeMounts"]}
            else:
                assert rights["allowPrivilegeEscalation"] is False, name
                assert rights["capabilities"] == {"drop": ["ALL"]}, name


async def test_the_controller_is_nobody() -> None:
    """The issue: a non-root controller under the runtime's own seccomp profile."""
    pod = (await render()).controller

    assert pod.spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "fsGroup": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not [volume for volume in pod.spec["volumes"] if "hostPath" in volume]


async def test_the_node_reaches_what_it_mounts_and_no_more_of_the_host() -> None:
    """Ours: four directories of the host."""
    pod = (await render({"node": {"kubeletPath": "/var/data/kubelet"}})).node

    host = {one["name"]: one["hostPath"]["path"] for one in pod.spec["volumes"] if "hostPath" in one}
    [mount] = [one for one in pod.containers["ebs-plugin"]["volumeMounts"] if one.get("mountPropagation")]

    assert host == {
        "kubelet-dir": "/var/data/kubelet",
        "plugin-dir": "/var/data/kubelet/plugins/ebs.csi.aws.com/",
        "registration-dir": "/var/data/kubelet/plugins_registry/",
        "device-dir": "/dev",
    }
    assert mount == {"name": "kubelet-dir", "mountPath": "/var/data/kubelet", "mountPropagation": "Bidirectional"}
    assert pod.spec["tolerations"] == [{"operator": "Exists"}]
    assert not pod.spec["hostNetwork"]


async def test_zeros_are_said() -> None:
    """Upstream's slip (D28): a limit of 0, and no reserved slots, were not rendered."""
    none = await render({"node": {"volumeAttachLimit": 0}})
    nothing_reserved = await render({"node": {"reservedVolumeAttachments": 0}})

    assert "--volume-attach-limit=0" in none.node.arguments("ebs-plugin")
    assert "--reserved-volume-attachments=0" in nothing_reserved.node.arguments("ebs-plugin")


async def test_the_nodes_envfrom_is_the_nodes() -> None:
    """Upstream's slip (D28): the node's containers got the controller's."""
    values = {
        "node": {"envFrom": [{"secretRef": {"name": "node"}}]},
        "controller": {"envFrom": [{"secretRef": {"name": "controller"}}]},
    }

    rendered = await render(values)

    assert rendered.node.containers["ebs-plugin"]["envFrom"] == [{"secretRef": {"name": "node"}}]
    for name, container in rendered.controller.containers.items():
        assert container["envFrom"] == [{"secretRef": {"name": "controller"}}], name


async def test_one_setting_moves_the_controller_between_the_embedded_cloud_and_aws() -> None:
    """The design: nothing else differs."""
    cloud, aws = await render({"embeddedCloud": {"endpoint": "http://10.0.0.1:4566"}}), await render()

    there = cloud.controller.environment("ebs-plugin")

    assert there.pop("AWS_ENDPOINT_URL") == "http://10.0.0.1:4566"
    assert there == aws.controller.environment("ebs-plugin")
    assert cloud.controller.arguments("ebs-plugin") == aws.controller.arguments("ebs-plugin")


@pytest.mark.parametrize(
    "values",
    [
        {"hyperpod": {"region": "us-west-2"}},
        {"controller": {"region": "us-west-2"}},
        {"hyperpod": {"clusterArn": "arn:aws:sagemaker:us-west-2:111122223333:cluster/abcdef123456"}},
    ],
    ids=["hyperpod.region", "controller.region", "the cluster's ARN"],
)
async def test_the_region_is_said_once(values: dict[str, Any]) -> None:
    """Ours."""
    assert (await render(values)).controller.environment("ebs-plugin")["AWS_REGION"] == "us-west-2"


async def test_an_argument_of_the_users_stands_in_for_ours() -> None:
    """Upstream: additional arguments that match a default one suppress it."""
    values = {"sidecars": {"provisioner": {"additionalArgs": ["--timeout=5m"]}}}

    arguments = (await render(values)).controller.arguments("csi-provisioner")

    assert [one for one in arguments if one.startswith("--timeout")] == ["--timeout=5m"]


async def test_sidecars_are_told_what_the_driver_counts_on() -> None:
    """The issue, and upstream-driver 4.5."""
    pod = (await render()).controller

    assert {"--extra-create-metadata", "--default-fstype=ext4", "--timeout=60s"} <= set(
        pod.arguments("csi-provisioner")
    )
    assert "--timeout=6m" in pod.arguments("csi-attacher")
    assert {"--handle-volume-inuse-error=false", "--extra-modify-metadata", "--timeout=60s"} <= set(
        pod.arguments("csi-resizer")
    )
    assert "--extra-create-metadata" in pod.arguments("csi-snapshotter")
    for name in ("csi-provisioner", "csi-attacher", "csi-resizer", "csi-snapshotter"):
        assert "--leader-election=true" in pod.arguments(name)


async def test_a_sidecar_does_not_wait_for_an_api_that_is_not_there() -> None:
    """Ours: these versions know VolumeAttributesClass as v1 only, and their caches would never fill."""
    old = (await render(kubernetes="1.33.0")).controller
    between = (
        await render(apis=("storage.k8s.io/v1/StorageClass", "storage.k8s.io/v1beta1/VolumeAttributesClass"))
    ).controller
    served = (
        await render(apis=("storage.k8s.io/v1/StorageClass", "storage.k8s.io/v1/VolumeAttributesClass"))
    ).controller

    for pod in (old, between):
        assert "--feature-gates=VolumeAttributesClass=false" in pod.arguments("csi-resizer")
        assert "--feature-gates=Topology=true,VolumeAttributesClass=false" in pod.arguments("csi-provisioner")
    assert not [one for one in served.arguments("csi-resizer") if "feature-gates" in one]
    assert "--feature-gates=Topology=true" in served.arguments("csi-provisioner")


async def test_the_snapshotter_runs_where_its_crds_are_or_is_made_to() -> None:
    """The brief of upstream's forceEnable."""
    without = await render(apis=())
    made_to = await render({"sidecars": {"snapshotter": {"forceEnable": True}}}, apis=())

    assert "csi-snapshotter" not in without.controller.containers
    assert "csi-snapshotter" in made_to.controller.containers


async def test_a_further_daemonset_is_the_nodes_but_for_what_differs() -> None:
    """Upstream: additionalDaemonSets."""
    values = {
        "node": {"logLevel": 5, "namespaceOverride": "nodes"},
        "additionalDaemonSets": {"big": {"volumeAttachLimit": 64, "nodeSelector": {"size": "big"}}},
    }

    rendered = await render(values)
    big = rendered.pod("DaemonSet", "ebs-csi-node-big")

    assert {"--volume-attach-limit=64", "--v=5"} <= set(big.arguments("ebs-plugin"))
    assert big.spec["nodeSelector"] == {"kubernetes.io/os": "linux", "size": "big"}
    assert rendered.one("DaemonSet", "ebs-csi-node-big")["metadata"]["namespace"] == "nodes"
    assert "--volume-attach-limit=64" not in rendered.node.arguments("ebs-plugin")


async def test_the_nodes_part_can_come_alone() -> None:
    """Upstream: nodeComponentOnly drops the controller's side and the CSIDriver."""
    rendered = await render({"nodeComponentOnly": True})

    assert {one["kind"] for one in rendered.objects} == {
        "DaemonSet",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
    }
    assert rendered.has("DaemonSet", "ebs-csi-node")


@pytest.mark.parametrize(
    ("kubernetes", "period", "seconds"),
    [("1.33.0", -1, 10), ("1.33.0", 60, 60), ("1.33.0", 0, None), ("1.32.9", 60, None), ("1.33.1-eks-aeac579", -1, 10)],
)
async def test_kubelet_asks_anew_for_the_attach_limit(kubernetes: str, period: int, seconds: int | None) -> None:
    """The issue: nodeAllocatableUpdatePeriodSeconds, which Kubernetes knows from 1.33 on."""
    rendered = await render({"nodeAllocatableUpdatePeriodSeconds": period}, kubernetes=kubernetes)

    assert rendered.one("CSIDriver", "ebs.csi.aws.com")["spec"].get("nodeAllocatableUpdatePeriodSeconds") == seconds


@pytest.mark.parametrize(
    ("replicas", "said", "budget"),
    [
        (2, {}, {"maxUnavailable": 1}),
        (3, {}, {"minAvailable": 2}),
        (2, {"minAvailable": 0}, {"minAvailable": 0}),
        (5, {"maxUnavailable": "40%"}, {"maxUnavailable": "40%"}),
    ],
)
async def test_a_drain_leaves_a_controller(replicas: int, said: dict[str, Any], budget: dict[str, Any]) -> None:
    """The issue: a pod disruption budget; upstream's rule where nothing is said."""
    rendered = await render({"controller": {"replicaCount": replicas, "podDisruptionBudget": said}})

    spec = rendered.one("PodDisruptionBudget", "ebs-csi-controller")["spec"]

    assert {name: spec[name] for name in ("minAvailable", "maxUnavailable") if name in spec} == budget
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def selects(selector: dict[str, str], pod: Pod) -> bool:
    """Whether the labels of a pod are among those asked for."""
    labels: dict[str, str] = pod.template["metadata"]["labels"]
    return selector.items() <= labels.items()


async def test_selectors_find_their_pods_whatever_labels_the_user_adds() -> None:
    """Ours: a label of the same name would leave a Deployment without its pods."""
    values = {
        "customLabels": {"app.kubernetes.io/name": "other", "app.kubernetes.io/instance": "other"},
        "controller": {"podLabels": {"app": "other"}, "enableMetrics": True},
        "node": {"podLabels": {"app": "other"}, "enableMetrics": True},
    }

    rendered: Rendered = await render(values)

    for one in [*rendered.all("Deployment"), *rendered.all("DaemonSet")]:
        assert selects(one["spec"]["selector"]["matchLabels"], Pod(one["spec"]["template"]))
    pods = list(rendered.pods)
    for service in rendered.all("Service"):
        assert [pod for pod in pods if selects(service["spec"]["selector"], pod)]
