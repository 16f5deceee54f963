"""The members of EKS's Cluster: what CreateCluster was given, and EKS's defaults for the rest.

Source: EKS API Reference, "Cluster".
"""

import base64
from collections.abc import Mapping
from typing import Any, Final

from hyperpod_ebs.emulator.eks.arns import cluster_arn
from hyperpod_ebs.emulator.eks_records import OidcIssuer
from hyperpod_ebs.emulator.records import EksCluster
from hyperpod_ebs.emulator.state.region import SECURITY_GROUP, VPC, Region
from hyperpod_ebs.emulator.state.world import to_datetime

PLATFORM: Final = "eks.1"

LOG_TYPES: Final = ("api", "audit", "authenticator", "controllerManager", "scheduler")
"""The types of control plane logs."""

_RETURNED: Final = (
    *("encryptionConfig", "outpostConfig", "remoteNetworkConfig", "computeConfig", "storageConfig"),
    *("controlPlaneScalingConfig", "kubeApiServerConfig", "kubeSchedulerConfig", "kubeControllerManagerConfig"),
)
"""Members of CreateCluster that have no default and are returned as they were given."""

Members = Mapping[str, Any]  # Any: members of EKS's shapes


def cluster_members(region: Region, cluster: EksCluster, issuer: OidcIssuer | None) -> Members:
    """The members of Cluster; only clusters of older state directories have no issuer."""
    given = cluster.given
    members: dict[str, Any] = {
        "name": cluster.id,
        "arn": cluster_arn(region, cluster.id),
        "createdAt": to_datetime(cluster.created),
        "version": cluster.version,
        "endpoint": f"https://{cluster.unique_id}.gr7.{region.name}.eks.amazonaws.com",
        "roleArn": cluster.role,
        "resourcesVpcConfig": {
            "endpointPublicAccess": True,
            "endpointPrivateAccess": False,
            "publicAccessCidrs": ["0.0.0.0/0"],
            "securityGroupIds": [],
            **given.get("resourcesVpcConfig", {}),
            "subnetIds": list(cluster.subnets),
            "clusterSecurityGroupId": SECURITY_GROUP,
            "vpcId": VPC,
        },
        "kubernetesNetworkConfig": _network(given.get("kubernetesNetworkConfig", {})),
        "logging": _logging(given.get("logging", {})),
        "status": cluster.state,
        "platformVersion": PLATFORM,
        "tags": dict(cluster.tags),
        "health": {"issues": []},
        "accessConfig": access_config(cluster),
        "upgradePolicy": {"supportType": "EXTENDED", **given.get("upgradePolicy", {})},
        "zonalShiftConfig": given.get("zonalShiftConfig"),
        "deletionProtection": given.get("deletionProtection", False),
        **{name: given[name] for name in _RETURNED if name in given},
    }
    if issuer is not None:
        members["identity"] = {"oidc": {"issuer": issuer.id}}
        members["certificateAuthority"] = {"data": base64.b64encode(cluster.authority.encode()).decode()}
    return members


def access_config(cluster: EksCluster) -> Members:
    """Who may use the cluster's Kubernetes API."""
    defaults = {"authenticationMode": "CONFIG_MAP", "bootstrapClusterCreatorAdminPermissions": True}
    return {**defaults, **cluster.given.get("accessConfig", {})}


def _network(given: Members) -> Members:
    family = given.get("ipFamily", "ipv4")
    addresses = {"serviceIpv4Cidr": "10.100.0.0/16"} if family == "ipv4" else {"serviceIpv6Cidr": "fd00:ec2::/108"}
    return {"ipFamily": family, "elasticLoadBalancing": {"enabled": False}, **addresses, **given}


def _logging(given: Members) -> Members:
    """All types of logs: those that were enabled, and the others."""
    setups = given.get("clusterLogging", [])
    enabled = {type_ for setup in setups if setup.get("enabled") for type_ in setup.get("types", [])}
    groups = {
        True: [type_ for type_ in LOG_TYPES if type_ in enabled],
        False: [type_ for type_ in LOG_TYPES if type_ not in enabled],
    }
    return {"clusterLogging": [{"types": types, "enabled": key} for key, types in groups.items() if types]}
