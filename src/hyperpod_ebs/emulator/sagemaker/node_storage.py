"""The EBS volumes that an instance group's InstanceStorageConfigs give each of its nodes.

The guide calls them Cluster Auto Volume Attachment (CAVA) volumes. Sources: SageMaker API
reference, ClusterEbsVolumeConfig; SageMaker Developer Guide, "Customer managed AWS KMS key
encryption for SageMaker HyperPod".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hyperpod_ebs.emulator.ec2 import volume_limits
from hyperpod_ebs.emulator.kms.cluster_keys import ClusterKeys
from hyperpod_ebs.emulator.kms.keyring import EBS_ALIAS
from hyperpod_ebs.emulator.kms.volume_keys import KeyUnusable
from hyperpod_ebs.emulator.nodes.machines import LaunchVolume, Machines
from hyperpod_ebs.emulator.records import Cluster, Instance, InstanceGroup, Volume
from hyperpod_ebs.emulator.state.world import new_id, now
from hyperpod_ebs.emulator.wire.operations import AwsFault, Call

SECONDARY_DEVICE: Final = "/dev/xvdb"

Members = Mapping[str, Any]  # the members of ClusterEbsVolumeConfig


@dataclass(frozen=True, slots=True)
class NodeStorage:
    """Creates the secondary volumes of nodes; root volumes of HyperPod nodes are not the customer's."""

    machines: Machines
    keys: ClusterKeys

    def require_keys(self, call: Call, groups: Iterable[InstanceGroup]) -> None:
        """Check that new nodes of the groups can have their volumes.

        Raises:
            AwsFault: A key cannot be used by the execution role of its group.
        """
        for group in groups:
            for name in key_names(group):
                try:
                    self.keys.require_usable(call, name, group.role)
                except KeyUnusable as reason:
                    text = f"The KMS key {name} of instance group {group.name} cannot be used: {reason}"
                    raise AwsFault("ValidationException", text) from reason

    def add_volume(self, node: Instance, group: InstanceGroup) -> None:
        """Create the secondary volume of a new node, if its group has one, and attach it."""
        for config in ebs_configs(group):
            if config.get("RootVolume"):
                continue
            settings = volume_limits.valid_settings(
                kind="gp3", size_gib=config["VolumeSizeInGB"], iops=None, throughput_mib=None, multi_attach=False
            )
            blank = Volume(
                id=new_id("vol"),
                zone=node.zone,
                kind=settings.kind,
                size_gib=settings.size_gib,
                iops=settings.iops,
                throughput_mib=settings.throughput_mib,
                cluster=node.cluster,
                created=now(),
            )
            volume = self.keys.with_data_key(blank, config.get("VolumeKmsKeyId") or EBS_ALIAS)
            self.machines.add_volumes(
                node, [LaunchVolume(volume, SECONDARY_DEVICE, delete_on_termination=True)], first_unit=1
            )
            self.keys.grant(volume, node)


def ebs_configs(group: InstanceGroup) -> Sequence[Members]:
    """The EbsVolumeConfig of each storage configuration of a group."""
    configs = group.settings.get("InstanceStorageConfigs", [])
    return [config["EbsVolumeConfig"] for config in configs if "EbsVolumeConfig" in config]  # type: ignore[attr-defined] # a list of structures


def key_names(group: InstanceGroup) -> Sequence[str]:
    """The keys of the group's volumes, as its configuration names them; the root volume's key first."""
    configs = sorted(ebs_configs(group), key=lambda config: not config.get("RootVolume"))
    return [config["VolumeKmsKeyId"] for config in configs if config.get("VolumeKmsKeyId")]


def check_storage(cluster: Cluster) -> None:
    """Check the storage configurations of a new or changed cluster.

    Raises:
        AwsFault: A configuration is invalid, or the cluster cannot have volumes under customer managed keys.
    """
    for group in cluster.instance_groups():
        configs = ebs_configs(group)
        _check_configs(group, configs)
        if not key_names(group):
            continue
        if cluster.node_provisioning != "Continuous":
            raise _invalid(group, "VolumeKmsKeyId needs NodeProvisioningMode Continuous")
        if group.restricted:
            raise _invalid(group, "a Restricted Instance Group cannot have VolumeKmsKeyId")


def _check_configs(group: InstanceGroup, configs: Sequence[Members]) -> None:
    roots = [config for config in configs if config.get("RootVolume")]
    others = [config for config in configs if not config.get("RootVolume")]
    if len(roots) > 1 or len(others) > 1:
        raise _invalid(group, "there can be one root volume and one secondary volume")
    for config in roots:
        if "VolumeSizeInGB" in config:
            raise _invalid(group, "a root volume cannot have VolumeSizeInGB")
        if not config.get("VolumeKmsKeyId"):
            raise _invalid(group, "a root volume must have VolumeKmsKeyId")
    for config in others:
        if "VolumeSizeInGB" not in config:
            raise _invalid(group, "a secondary volume must have VolumeSizeInGB")


def _invalid(group: InstanceGroup, reason: str) -> AwsFault:
    return AwsFault("ValidationException", f"InstanceStorageConfigs of instance group {group.name}: {reason}")
