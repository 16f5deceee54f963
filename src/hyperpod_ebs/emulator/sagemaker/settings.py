"""Settings of clusters and instance groups that the emulator keeps and shows, without effect on its nodes."""

from collections.abc import Mapping
from typing import Any, Final

from hyperpod_ebs.emulator.records import Cluster, InstanceGroup
from hyperpod_ebs.emulator.wire.operations import AwsFault

Members = Mapping[str, Any]  # the members of a shape of SageMaker's
"""A structure in a request or an answer."""

_CLUSTER: Final = ("AutoScaling", "ClusterRole", "RestrictedInstanceGroupsConfig", "TieredStorageConfig")

_GROUP: Final = (
    *("AutoPatchConfig", "CapacityRequirements", "EnvironmentConfig", "ImageId", "ImageReleaseVersion"),
    *("InstanceRequirements", "InstanceStorageConfigs", "KubernetesConfig", "LifeCycleConfig", "MinInstanceCount"),
    *("NetworkInterface", "OnStartDeepHealthChecks", "OverrideVpcConfig", "ScheduledUpdateConfig", "SlurmConfig"),
    *("ThreadsPerCore", "TrainingPlanArn"),
)

_CURRENT_AND_DESIRED: Final = {
    "InstanceRequirements": ("InstanceTypes",),
    "KubernetesConfig": ("Labels", "Taints"),
}
"""Settings whose members are shown twice: as they are, and as they are to be."""

NODE: Final = ("InstanceStorageConfigs", "LifeCycleConfig", "OverrideVpcConfig", "ThreadsPerCore")
"""The settings of a group that DescribeClusterNode shows for each node."""


def cluster_settings(parameters: Members) -> dict[str, object]:
    """The settings in the request of CreateCluster or UpdateCluster."""
    settings: dict[str, object] = {name: parameters[name] for name in _CLUSTER if name in parameters}
    if slurm := parameters.get("Orchestrator", {}).get("Slurm"):
        settings["Slurm"] = slurm
    return settings


def group_settings(specification: Members) -> dict[str, object]:
    """The settings in the specification of an instance group.

    Raises:
        AwsFault: The specification has a setting that the emulator does not support.
    """
    if specification.get("AutoPatchConfig", {}).get("PatchSchedule"):
        raise AwsFault(
            "ValidationException", "The emulator does not support the parameter AutoPatchConfig.PatchSchedule"
        )
    return {name: specification[name] for name in _GROUP if name in specification}


def render_cluster_settings(cluster: Cluster) -> dict[str, Any]:  # the members of DescribeClusterResponse
    """The settings as DescribeCluster returns them."""
    members: dict[str, Any] = {name: value for name, value in cluster.settings.items() if name in _CLUSTER}
    if scaling := members.get("AutoScaling"):
        members["AutoScaling"] = {**scaling, "Status": "InService"}
    if restricted := members.get("RestrictedInstanceGroupsConfig"):
        shared = {
            f"{prefix}{name}": value
            for name, value in restricted["SharedEnvironmentConfig"].items()
            for prefix in ("Current", "Desired")
        }
        members["RestrictedInstanceGroupsConfig"] = {"SharedEnvironmentConfig": shared}
    return members


def render_group_settings(group: InstanceGroup) -> dict[str, Any]:  # the members of ClusterInstanceGroupDetails
    """The settings as DescribeCluster returns them."""
    members: dict[str, Any] = dict(group.settings)
    members["MinCount"] = members.pop("MinInstanceCount", None)
    for name in ("ImageId", "ImageReleaseVersion"):
        if (value := members.pop(name, None)) is not None:
            members[f"Current{name}"] = members[f"Desired{name}"] = value
    for name, doubled in _CURRENT_AND_DESIRED.items():
        if name in members:
            members[name] = {
                f"{prefix}{each}": members[name][each]
                for each in doubled
                if each in members[name]
                for prefix in ("Current", "Desired")
            }
    return members
