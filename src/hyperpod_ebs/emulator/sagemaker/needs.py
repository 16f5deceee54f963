"""What calls of SageMaker need, its calls to other services on behalf of the caller included.

Sources: Service Authorization Reference, "Actions defined by Amazon SageMaker AI"; SageMaker
Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters".
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.ec2.needs import Ec2Needs
from hyperpod_ebs.emulator.eks.arns import cluster_arn
from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.identity.identities import ContextValues
from hyperpod_ebs.emulator.identity.pass_role import pass_role_need
from hyperpod_ebs.emulator.identity.tag_values import request_tags, resource_tags
from hyperpod_ebs.emulator.records import Cluster
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Parameters

_SERVICE: Final = "sagemaker.amazonaws.com"

FORWARDED: Final[ContextValues] = {
    "aws:ViaAWSService": "true",
    "aws:CalledVia": [_SERVICE],
    "aws:CalledViaFirst": _SERVICE,
    "aws:CalledViaLast": _SERVICE,
}
"""The condition keys of a call that SageMaker makes on behalf of its caller."""

_EC2_ACTIONS: Final = {"AttachClusterNodeVolume": "AttachVolume", "DetachClusterNodeVolume": "DetachVolume"}


class SageMakerNeeds:
    """Lists what calls of SageMaker need."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ec2 = Ec2Needs(world)

    def needs(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        """What a call needs before SageMaker looks at its parameters."""
        named = parameters.get("ClusterArn") or parameters.get("ClusterName") or parameters.get("ResourceArn")
        if not named:
            return [Need(action=f"sagemaker:{operation}")]
        cluster = self._find(named)
        new = {tag["Key"]: tag["Value"] for tag in parameters.get("Tags", [])}
        context = {
            **resource_tags(cluster.tags if cluster else {}, "sagemaker"),
            **request_tags(new, parameters.get("TagKeys", [])),
            **_cluster_values(parameters),
        }
        resource = self._arn(cluster.id if cluster else named.rpartition("/")[2])
        needs = [Need(action=f"sagemaker:{operation}", resource=resource, context=context)]
        if operation == "CreateCluster" and new:
            needs.append(Need(action="sagemaker:AddTags", resource=resource, context=context))
        needs += [pass_role_need(arn, _SERVICE, self._tags_of_role(arn)) for arn in _roles(parameters)]
        if operation in _EC2_ACTIONS and cluster and cluster.eks:
            needs.append(self._describe_eks_cluster(cluster.eks))
        return needs

    def on_volume(self, operation: str, volume: str) -> Need:
        """What EC2 needs from the caller for SageMaker's call: the action on the volume, and nothing on the node.

        EC2's own AttachVolume needs the instance as well, but the guide's policies grant only the volume.
        """
        need = self._ec2.on_volume(_EC2_ACTIONS[operation], volume)
        return replace(need, context={**need.context, **FORWARDED})

    def _describe_eks_cluster(self, arn: str) -> Need:
        name = arn.rpartition("/")[2]
        cluster = self._world.store.eks_clusters.get(name)
        tags: Mapping[str, str] = cluster.tags if cluster else {}
        return Need(
            action="eks:DescribeCluster",
            resource=cluster_arn(self._world.region, name),
            context={**FORWARDED, **resource_tags(tags)},
        )

    def _find(self, name_or_arn: str) -> Cluster | None:
        """The cluster that the operation will find: a cluster's name can be the id of another one."""
        clusters = self._world.store.clusters.values()
        return next((each for each in clusters if name_or_arn in {each.name, self._arn(each.id)}), None)

    def _tags_of_role(self, arn: str) -> Mapping[str, str]:
        role = self._world.store.roles.get(arn.rpartition("/")[2])
        return role.tags if role else {}

    def _arn(self, id_: str) -> str:
        return self._world.region.arn("sagemaker", f"cluster/{id_}")


def _roles(parameters: Parameters) -> Sequence[str]:
    """The roles that CreateCluster and UpdateCluster give to SageMaker."""
    groups = [*parameters.get("InstanceGroups", []), *parameters.get("RestrictedInstanceGroups", [])]
    roles = [group.get("ExecutionRole") for group in groups] + [parameters.get("ClusterRole")]
    return [role for role in dict.fromkeys(roles) if role]


def _cluster_values(parameters: Parameters) -> dict[str, str | Sequence[str]]:
    """The condition keys of CreateCluster and UpdateCluster."""
    groups = [*parameters.get("InstanceGroups", []), *parameters.get("RestrictedInstanceGroups", [])]
    networks = [parameters.get("VpcConfig", {}), *(group.get("OverrideVpcConfig", {}) for group in groups)]
    values: dict[str, list[str]] = {
        "sagemaker:InstanceTypes": [group["InstanceType"] for group in groups if "InstanceType" in group],
        "sagemaker:VpcSecurityGroupIds": [id_ for network in networks for id_ in network.get("SecurityGroupIds", [])],
        "sagemaker:VpcSubnets": [id_ for network in networks for id_ in network.get("Subnets", [])],
    }
    return {key: value for key, value in values.items() if value}
