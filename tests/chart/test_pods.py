"""The pods: their containers, their privileges, and that the driver accepts its arguments."""

from pathlib import Path
from typing import Any, Final

import pytest

from hyperpod_ebs.driver.model.tags import split_flags
from tests.support.command_line import parse_command_line
from tests.support.helm_chart import EVERY_SIDECAR, Pod, Rendered, render

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


def driver_arguments(pod: Pod) -> list[str]:
    """The arguments that the driver's process gets: Kubernetes expands the variables in them."""
    environment = pod.environment("ebs-plugin")
    return [
        argument.replace("$(CSI_ENDPOINT)", str(environment["CSI_ENDPOINT"]))
        for argument in pod.arguments("ebs-plugin")
    ]


@pytest.mark.requirement("chart.arguments-accepted")
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["by default", "with everything"])
async def test_the_driver_accepts_the_arguments_of_the_controller(values: dict[str, Any]) -> None:
    """The chart writes the flags and driver/app/options.py defines them, so a change to one can forget the other."""
    mode, *arguments = driver_arguments((await render(values)).controller)

    serving, controller, _ = parse_command_line(*arguments)

    assert mode == "controller"
    assert serving.endpoint == "unix:///var/lib/csi/sockets/pluginproxy/csi.sock"
    assert serving.health_endpoint == ":9808"
    assert controller.batching
    assert controller.user_agent_extra == "helm"


async def test_values_reach_the_controller() -> None:
    """docs/reference/chart-values.md: the controller's values that are flags of the driver."""
    _, *arguments = driver_arguments((await render(EVERYTHING)).controller)

    serving, controller, _ = parse_command_line(*arguments)

    assert serving.http_endpoint == ":3301"
    assert controller.extra_tags == ("owner={{ .PVCNamespace }},team=research",)
    assert controller.k8s_tag_cluster_id == "training"
    assert controller.cluster_arn == "arn:aws:sagemaker:us-west-2:111122223333:cluster/abcdef123456"
    assert controller.account_id == "111122223333"
    assert controller.partition == "aws"
    assert controller.aws_sdk_debug_log


@pytest.mark.parametrize(
    "tags", [{"list": "a,b"}, {"list": "a,b", "team": "research"}, {"formula": "a=b,c=d"}], ids=str
)
async def test_a_tag_with_commas_reaches_the_driver(tags: dict[str, str]) -> None:
    """Upstream: controller.extraVolumeTags; spf13/pflag, StringToString: a pair in quotes may have commas."""
    _, *arguments = driver_arguments((await render({"controller": {"extraVolumeTags": tags}})).controller)

    _, controller, _ = parse_command_line(*arguments)

    assert split_flags(controller.extra_tags) == tuple(f"{key}={value}" for key, value in tags.items())


async def test_every_container_reports_the_end_of_its_log_when_it_fails() -> None:
    """Kubernetes, "Determine the Reason for Pod Failure": kubectl describe then shows why a container exited."""
    rendered = await render(EVERY_SIDECAR)

    policies = {
        container["terminationMessagePolicy"]
        for spec in [*(pod.spec for pod in rendered.pods), *(pod["spec"] for pod in rendered.all("Pod"))]
        for container in spec["containers"]
    }

    assert policies == {"FallbackToLogsOnError"}


@pytest.mark.parametrize(
    "values",
    [
        {"storageClasses": [{"name": "a", "provisioner": "ebs.csi.aws.com"}]},
        {"volumeSnapshotClasses": [{"name": "a", "deletionPolicy": "Delete", "driver": "ebs.csi.aws.com"}]},
        {"volumeAttributesClasses": [{"name": "a", "parameters": {"iops": "3000"}, "driverName": "ebs.csi.aws.com"}]},
    ],
    ids=lambda values: next(iter(values)),
)
async def test_a_class_may_name_the_driver(values: dict[str, Any]) -> None:
    """A user copies the class from its manifest."""
    [(kind, [item])] = values.items()

    with_driver = await render(values)
    without = {key: value for key, value in item.items() if value != "ebs.csi.aws.com"}

    assert with_driver.objects == (await render({kind: [without]})).objects


@pytest.mark.parametrize(
    ("values", "cluster"),
    [
        ({}, ""),
        ({"hyperpod": {"eksClusterName": "training"}}, "training"),
        ({"hyperpod": {"eksClusterName": "training"}, "controller": {"k8sTagClusterId": "other"}}, "other"),
    ],
)
async def test_volumes_are_tagged_with_the_eks_clusters_name(values: dict[str, Any], cluster: str) -> None:
    """AWS managed policy AmazonEBSCSIDriverEKSClusterScopedPolicy compares the tag with the cluster's name."""
    _, *arguments = driver_arguments((await render(values)).controller)

    _, controller, _ = parse_command_line(*arguments)

    assert controller.k8s_tag_cluster_id == cluster


@pytest.mark.requirement("chart.arguments-accepted")
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["by default", "with everything"])
async def test_the_driver_accepts_the_arguments_of_the_node(values: dict[str, Any]) -> None:
    """The chart writes the flags and driver/app/options.py defines them, so a change to one can forget the other."""
    mode, *arguments = driver_arguments((await render(values)).node)

    serving, _, node = parse_command_line(*arguments)

    assert mode == "node"
    assert serving.endpoint == "unix:///csi/csi.sock"
    assert serving.health_endpoint == ":9808"
    assert node.kubelet_root == Path("/var/lib/kubelet")
    assert node.plugin_registration_path == Path("/registration")
    assert node.kubelet_registration_path == Path("/var/lib/kubelet/plugins/ebs.csi.aws.com/csi.sock")


async def test_values_reach_the_node() -> None:
    """docs/reference/chart-values.md: the node's values that are flags of the driver."""
    _, *arguments = driver_arguments((await render(EVERYTHING)).node)

    serving, _, node = parse_command_line(*arguments)

    assert serving.http_endpoint == ":3302"
    assert node.metadata_sources == "imds,kubernetes"
    assert node.volume_attach_limit == 0
    assert node.legacy_xfs


async def test_the_node_pod_has_one_container() -> None:
    """Decision 0012: the driver registers itself, and serves its own health checks."""
    node = (await render()).node

    [(name, container)] = node.containers.items()

    assert name == "ebs-plugin"
    assert "--plugin-registration-path=/registration" in container["args"]
    assert container["lifecycle"]["preStop"]["exec"]["command"][:2] == ["/bin/aws-ebs-csi-driver", "pre-stop-hook"]


@pytest.mark.parametrize(("grace", "wait"), [(30, 20), (300, 290), (11, 1), (5, 1), (0, 1)])
async def test_the_pre_stop_hook_waits_for_the_grace_period_minus_ten_seconds(grace: int, wait: int) -> None:
    """Decision 0013: a hook that waits for the whole period is killed before it names the remaining volumes."""
    values = {"additionalDaemonSets": {"patient": {"terminationGracePeriodSeconds": grace}}}

    hook = (await render(values)).pod("DaemonSet", "ebs-csi-node-patient").containers["ebs-plugin"]["lifecycle"]

    assert hook["preStop"]["exec"]["command"][2:] == [f"--wait-seconds={wait}"]


@pytest.mark.requirement("process.answers-others")
async def test_the_drivers_probes_ask_through_its_own_socket() -> None:
    """Decision 0039: any pod can fill a port, and kubelet restarts a container whose liveness probe fails."""
    rendered = await render()

    for pod in (rendered.controller, rendered.node):
        driver = pod.containers["ebs-plugin"]
        endpoint = str(pod.environment("ebs-plugin")["CSI_ENDPOINT"])
        for field, word in (("livenessProbe", "alive"), ("readinessProbe", "ready")):
            probe = driver[field]
            program, wanted, path, seconds = probe["exec"]["command"]
            assert (program, wanted, f"unix://{path}") == ("/usr/bin/hyperpod-ebs-probe", word, endpoint)
            assert int(seconds) < probe["timeoutSeconds"], "the command reports before kubelet ends it"
            assert "httpGet" not in probe


@pytest.mark.parametrize("sidecar", [False, True], ids=["the driver's own", "the community's probe"])
async def test_readiness_is_noticed_at_once_and_lost_as_slowly_as_liveness(sidecar: bool) -> None:  # noqa: FBT001 - a case
    """Decision 0014: a rollout waits for readiness, and a moment without AWS must not lose it."""
    rendered = await render({"sidecars": {"livenessProbe": {"enabled": sidecar}}})

    for pod in (rendered.controller, rendered.node):
        alive, ready = (pod.containers["ebs-plugin"][probe] for probe in ("livenessProbe", "readinessProbe"))
        waits = 0 if sidecar else int(ready["exec"]["command"][-1])

        assert "initialDelaySeconds" not in ready
        assert ready["periodSeconds"] - waits <= 2
        assert ready["periodSeconds"] * ready["failureThreshold"] == alive["periodSeconds"] * alive["failureThreshold"]


async def test_the_registrar_and_the_probe_sidecars_can_be_enabled() -> None:
    """Both sidecars are off by default, because the driver does their work."""
    values = {"sidecars": {"nodeDriverRegistrar": {"enabled": True}, "livenessProbe": {"enabled": True}}}

    rendered = await render(values)

    assert set(rendered.node.containers) == {"ebs-plugin", "node-driver-registrar", "liveness-probe"}
    assert "liveness-probe" in rendered.controller.containers
    # Two registrars would compete for the socket.
    assert not [each for each in rendered.node.arguments("ebs-plugin") if "registration" in each]


@pytest.mark.requirement("process.condition-reported")
async def test_the_communitys_probe_serves_readiness_and_the_driver_liveness() -> None:
    """Decision 0014: the community's probe reads CSI's Probe, and a restart does not fix what Probe reports."""
    rendered = await render({"sidecars": {"livenessProbe": {"enabled": True}}})

    for pod in (rendered.controller, rendered.node):
        driver = pod.containers["ebs-plugin"]
        ports = {each["name"]: each["containerPort"] for each in driver["ports"]}

        # Port 9808 is the sidecar's.
        assert ports == {"healthz": 9808, "livez": 9810}
        assert "--health-endpoint=:9810" in driver["args"]
        assert driver["livenessProbe"]["exec"]["command"][1] == "alive"
        assert driver["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "healthz"}
        assert "env" not in pod.containers["liveness-probe"]


async def test_a_users_tmp_replaces_the_charts() -> None:
    """Upstream has no /tmp; users who needed it have mounted one, most likely as a volume called tmp."""
    values: Any = {
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "volumeMounts": [{"name": "tmp", "mountPath": f"{TMP}/"}],
    }

    without, mounted = await render(), await render({"controller": values, "node": values})

    for before, after in ((without.controller, mounted.controller), (without.node, mounted.node)):
        assert tmp_volumes(before) == ["ebs-scratch"]
        assert tmp_volumes(after) == ["tmp"]
        assert [each["name"] for each in after.spec["volumes"]].count("tmp") == 1
        assert "ebs-scratch" not in [each["name"] for each in after.spec["volumes"]]


def tmp_volumes(pod: Pod) -> list[str]:
    """The volumes at the driver's /tmp."""
    mounts = pod.containers["ebs-plugin"]["volumeMounts"]
    return [each["name"] for each in mounts if each["mountPath"].rstrip("/") == TMP]


async def test_a_node_that_does_not_tolerate_all_taints_tolerates_drains() -> None:
    """Upstream: the driver leaves a drained node last, because it unmounts the volumes."""
    tolerations = (await render({"node": {"tolerateAllTaints": False}})).node.spec["tolerations"]

    assert {each["key"] for each in tolerations if each == {"key": each.get("key"), "operator": "Exists"}} == {
        "ebs.csi.aws.com/agent-not-ready",
        "ToBeDeletedByClusterAutoscaler",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
    }


async def test_a_daemonset_can_be_disabled() -> None:
    """Upstream: enableLinux of each DaemonSet decides."""
    one_less = await render({"additionalDaemonSets": {"big": {"enableLinux": False}, "small": None}})
    none = await render({"node": {"enableLinux": False}, "additionalDaemonSets": {"big": None}})
    only = await render({"node": {"enableLinux": False}, "additionalDaemonSets": {"big": {"enableLinux": True}}})

    assert names_of(one_less, "DaemonSet") == {"ebs-csi-node", "ebs-csi-node-small"}
    assert not names_of(none, "DaemonSet")
    assert names_of(only, "DaemonSet") == {"ebs-csi-node-big"}


async def test_services_and_policies_exist_only_for_enabled_daemonsets() -> None:
    """A Service or a policy for a disabled DaemonSet would select no pods."""
    values = {
        "node": {"enableMetrics": True},
        "networkPolicy": {"enabled": True},
        "additionalDaemonSets": {"big": {"enableLinux": False}, "small": None},
    }

    rendered = await render(values)

    assert names_of(rendered, "Service") == {"ebs-csi-node", "ebs-csi-node-small"}
    [app] = rendered.get("NetworkPolicy", "ebs-csi-node")["spec"]["podSelector"]["matchExpressions"]
    assert app["values"] == ["ebs-csi-node", "ebs-csi-node-small"]


def names_of(rendered: Rendered, kind: str) -> set[str]:
    """The names of the objects of a kind."""
    return {each["metadata"]["name"] for each in rendered.all(kind)}


async def test_another_update_strategy_drops_rolling_update() -> None:
    """Helm keeps the default's rollingUpdate next to another type, and Kubernetes refuses both together."""
    values = {"controller": {"updateStrategy": {"type": "Recreate"}}, "node": {"updateStrategy": {"type": "OnDelete"}}}

    rendered = await render(values)

    assert rendered.get("Deployment", "ebs-csi-controller")["spec"]["strategy"] == {"type": "Recreate"}
    assert rendered.get("DaemonSet", "ebs-csi-node")["spec"]["updateStrategy"] == {"type": "OnDelete"}


async def test_the_snapshot_controller_is_scheduled_like_the_controller() -> None:
    """A cluster's system nodes, name servers and proxy are the same for both."""
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
    assert rendered.get("PodDisruptionBudget", "snapshot-controller")["spec"]["maxUnavailable"] == 1


async def test_helm_tests_volume_is_deleted_with_its_pod() -> None:
    """A failed `helm test` is not part of the release, so its volume would outlive the release."""
    pod = (await render({"defaultStorageClass": {"enabled": True}})).get("Pod", "ebs-csi-driver-test")

    [volume] = pod["spec"]["volumes"]

    assert "hook-failed" in pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert pod["spec"]["activeDeadlineSeconds"] < 300
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert volume["ephemeral"]["volumeClaimTemplate"]["spec"]["storageClassName"] == "ebs-csi-default-sc"


async def test_both_names_of_the_endpoint_are_read() -> None:
    """Upstream's releases differ in the key of the ConfigMap aws-meta."""
    environment = (await render()).controller.environment("ebs-plugin")

    assert environment["AWS_EC2_ENDPOINT"]["configMapKeyRef"]["key"] == "ec2_endpoint"
    assert environment["HYPERPOD_EBS_EC2_ENDPOINT"]["configMapKeyRef"]["key"] == "endpoint"


@pytest.mark.requirement("chart.unprivileged")
async def test_only_the_container_that_mounts_is_privileged() -> None:
    """Kubernetes, Pod Security Standards: all other containers keep to `restricted`."""
    rendered = await render(EVERY_SIDECAR)

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


async def test_the_controller_runs_without_root() -> None:
    """Kubernetes, Pod Security Standards: a non-root user and the runtime's seccomp profile."""
    pod = (await render()).controller

    assert pod.spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "fsGroup": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not [volume for volume in pod.spec["volumes"] if "hostPath" in volume]


async def test_the_node_mounts_only_four_directories_of_the_host() -> None:
    """The directories of kubelet, of the driver's socket, of plugin registration and of the devices."""
    pod = (await render({"node": {"kubeletPath": "/var/data/kubelet"}})).node

    host = {each["name"]: each["hostPath"]["path"] for each in pod.spec["volumes"] if "hostPath" in each}
    [mount] = [each for each in pod.containers["ebs-plugin"]["volumeMounts"] if each.get("mountPropagation")]

    assert host == {
        "kubelet-dir": "/var/data/kubelet",
        "plugin-dir": "/var/data/kubelet/plugins/ebs.csi.aws.com/",
        "registration-dir": "/var/data/kubelet/plugins_registry/",
        "device-dir": "/dev",
    }
    assert mount == {"name": "kubelet-dir", "mountPath": "/var/data/kubelet", "mountPropagation": "Bidirectional"}
    assert pod.spec["tolerations"] == [{"operator": "Exists"}]
    assert not pod.spec["hostNetwork"]


async def test_zeros_are_rendered() -> None:
    """Upstream's chart renders neither a limit of 0 nor 0 reserved slots."""
    none = await render({"node": {"volumeAttachLimit": 0}})
    nothing_reserved = await render({"node": {"reservedVolumeAttachments": 0}})

    assert "--volume-attach-limit=0" in none.node.arguments("ebs-plugin")
    assert "--reserved-volume-attachments=0" in nothing_reserved.node.arguments("ebs-plugin")


async def test_the_node_has_its_own_env_from() -> None:
    """Upstream's chart gives the node's containers controller.envFrom."""
    values = {
        "node": {"envFrom": [{"secretRef": {"name": "node"}}]},
        "controller": {"envFrom": [{"secretRef": {"name": "controller"}}]},
    }

    rendered = await render(values)

    assert rendered.node.containers["ebs-plugin"]["envFrom"] == [{"secretRef": {"name": "node"}}]
    for name, container in rendered.controller.containers.items():
        assert container["envFrom"] == [{"secretRef": {"name": "controller"}}], name


async def test_one_value_switches_between_the_embedded_cloud_and_aws() -> None:
    """Nothing else differs, so a test on the embedded cloud shows what happens on AWS."""
    cloud, aws = await render({"embeddedCloud": {"endpoint": "http://10.0.0.1:4566"}}), await render()

    environment = cloud.controller.environment("ebs-plugin")

    assert environment.pop("AWS_ENDPOINT_URL") == "http://10.0.0.1:4566"
    assert environment == aws.controller.environment("ebs-plugin")
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
async def test_the_region_can_be_set_by_any_of_three_values(values: dict[str, Any]) -> None:
    """Each of the three values sets AWS_REGION."""
    assert (await render(values)).controller.environment("ebs-plugin")["AWS_REGION"] == "us-west-2"


async def test_an_additional_argument_replaces_the_charts() -> None:
    """Upstream: an additional argument suppresses a default one with the same flag."""
    values = {"sidecars": {"provisioner": {"additionalArgs": ["--timeout=5m"]}}}

    arguments = (await render(values)).controller.arguments("csi-provisioner")

    assert [each for each in arguments if each.startswith("--timeout")] == ["--timeout=5m"]


async def test_sidecars_have_the_arguments_that_the_driver_needs() -> None:
    """Tags need the metadata, and the timeouts give AWS enough time."""
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


async def test_sidecars_ignore_attributes_classes_where_v1_is_not_served() -> None:
    """These versions use only v1 of VolumeAttributesClass; without it their caches would never sync."""
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
    assert not [each for each in served.arguments("csi-resizer") if "feature-gates" in each]
    assert "--feature-gates=Topology=true" in served.arguments("csi-provisioner")


async def test_the_snapshotter_runs_with_its_crds_or_when_forced() -> None:
    """Upstream: sidecars.snapshotter.forceEnable."""
    without = await render(apis=())
    forced = await render({"sidecars": {"snapshotter": {"forceEnable": True}}}, apis=())

    assert "csi-snapshotter" not in without.controller.containers
    assert "csi-snapshotter" in forced.controller.containers


async def test_an_additional_daemonset_overrides_the_nodes_values() -> None:
    """Upstream: additionalDaemonSets."""
    values = {
        "node": {"logLevel": 5, "namespaceOverride": "nodes"},
        "additionalDaemonSets": {"big": {"volumeAttachLimit": 64, "nodeSelector": {"size": "big"}}},
    }

    rendered = await render(values)
    big = rendered.pod("DaemonSet", "ebs-csi-node-big")

    assert {"--volume-attach-limit=64", "--v=5"} <= set(big.arguments("ebs-plugin"))
    assert big.spec["nodeSelector"] == {"kubernetes.io/os": "linux", "size": "big"}
    assert rendered.get("DaemonSet", "ebs-csi-node-big")["metadata"]["namespace"] == "nodes"
    assert "--volume-attach-limit=64" not in rendered.node.arguments("ebs-plugin")


async def test_the_node_component_can_be_installed_alone() -> None:
    """Upstream: nodeComponentOnly drops the controller's side and the CSIDriver."""
    rendered = await render({"nodeComponentOnly": True})

    assert {each["kind"] for each in rendered.objects} == {
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
async def test_kubelet_updates_the_attach_limit(kubernetes: str, period: int, seconds: int | None) -> None:
    """Kubernetes has nodeAllocatableUpdatePeriodSeconds from 1.33 on."""
    rendered = await render({"nodeAllocatableUpdatePeriodSeconds": period}, kubernetes=kubernetes)

    assert rendered.get("CSIDriver", "ebs.csi.aws.com")["spec"].get("nodeAllocatableUpdatePeriodSeconds") == seconds


@pytest.mark.parametrize(
    ("replicas", "values", "budget"),
    [
        (2, {}, {"maxUnavailable": 1}),
        (3, {}, {"minAvailable": 2}),
        (2, {"minAvailable": 0}, {"minAvailable": 0}),
        (5, {"maxUnavailable": "40%"}, {"maxUnavailable": "40%"}),
    ],
)
async def test_a_drain_keeps_a_controller_running(
    replicas: int, values: dict[str, Any], budget: dict[str, Any]
) -> None:
    """Upstream's chart, PodDisruptionBudget: up to two replicas maxUnavailable 1, otherwise minAvailable 2."""
    rendered = await render({"controller": {"replicaCount": replicas, "podDisruptionBudget": values}})

    spec = rendered.get("PodDisruptionBudget", "ebs-csi-controller")["spec"]

    assert {name: spec[name] for name in ("minAvailable", "maxUnavailable") if name in spec} == budget
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def selects(selector: dict[str, str], pod: Pod) -> bool:
    """Whether the selector matches the labels of a pod."""
    labels: dict[str, str] = pod.template["metadata"]["labels"]
    return selector.items() <= labels.items()


async def test_selectors_match_their_pods_with_any_labels_of_the_user() -> None:
    """A user's label of the same name would leave a Deployment without pods."""
    values = {
        "customLabels": {"app.kubernetes.io/name": "other", "app.kubernetes.io/instance": "other"},
        "controller": {"podLabels": {"app": "other"}, "enableMetrics": True},
        "node": {"podLabels": {"app": "other"}, "enableMetrics": True},
    }

    rendered: Rendered = await render(values)

    for each in [*rendered.all("Deployment"), *rendered.all("DaemonSet")]:
        assert selects(each["spec"]["selector"]["matchLabels"], Pod(each["spec"]["template"]))
    pods = list(rendered.pods)
    for service in rendered.all("Service"):
        assert [pod for pod in pods if selects(service["spec"]["selector"], pod)]
