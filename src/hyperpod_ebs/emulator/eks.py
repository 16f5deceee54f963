"""EKS clusters, which orchestrate HyperPod clusters: their names and states, without Kubernetes."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.records import EksCluster
from hyperpod_ebs.emulator.state.region import SECURITY_GROUP, VPC
from hyperpod_ebs.emulator.state.world import World, now, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

VERSION: Final = "1.35"
"""The default Kubernetes version of a cluster."""


class Eks:
    """The operations of EKS."""

    name = "eks"
    operations = Operations["Eks"]()

    def __init__(self, world: World) -> None:
        self._world = world
        self._clusters = world.store.eks_clusters
        world.clock.register("eks active", self._set_active)

    @operations("CreateCluster")
    async def create(self, parameters: Parameters, _: Call) -> Answer:
        """Create a cluster in status CREATING."""
        await self._world.clock.run_due_steps()
        name, subnets = parameters["name"], parameters["resourcesVpcConfig"].get("subnetIds", [])
        if name in self._clusters:
            raise AwsFault("ResourceInUseException", f"Cluster already exists with name: {name}", 409)
        for subnet in subnets:
            if self._world.region.zone(subnet) is None:
                text = f"The subnet ID '{subnet}' does not exist"
                raise AwsFault("InvalidParameterException", text)
        cluster = self._clusters.put(
            EksCluster(
                id=name,
                created=now(),
                role=parameters["roleArn"],
                version=parameters.get("version", VERSION),
                subnets=tuple(subnets),
                tags=dict(parameters.get("tags", {})),
            )
        )
        self._world.clock.schedule(self._subject(name), "eks active")
        return await self._world.acknowledge({"cluster": self._members(cluster)})

    @operations("DescribeCluster")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """Describe the cluster with this name."""
        await self._world.clock.run_due_steps()
        if (cluster := self._clusters.get(parameters["name"])) is None:
            raise AwsFault("ResourceNotFoundException", f"No cluster found for name: {parameters['name']}.", 404)
        return await self._world.acknowledge({"cluster": self._members(cluster)})

    async def _set_active(self, subject: str) -> None:
        cluster = self._clusters[subject.removeprefix("eks/")]
        self._clusters.put(replace(cluster, state="ACTIVE"))

    def _subject(self, name: str) -> str:
        return f"eks/{name}"

    def _members(self, cluster: EksCluster) -> dict[str, Any]:  # the members of EKS's Cluster
        region = self._world.region
        host = hashlib.sha256(f"{region.name}/{cluster.id}".encode()).hexdigest()[:32].upper()
        return {
            "name": cluster.id,
            "arn": arn(self._world, cluster.id),
            "createdAt": to_datetime(cluster.created),
            "version": cluster.version,
            "endpoint": f"https://{host}.gr7.{region.name}.eks.amazonaws.com",
            "roleArn": cluster.role,
            "resourcesVpcConfig": {
                "subnetIds": list(cluster.subnets),
                "clusterSecurityGroupId": SECURITY_GROUP,
                "vpcId": VPC,
                "endpointPublicAccess": True,
            },
            "status": cluster.state,
            "tags": dict(cluster.tags),
        }


class EksNeeds:
    """What calls of EKS need (Service Authorization Reference, "Actions defined by Amazon EKS")."""

    def __init__(self, world: World) -> None:
        self._world = world

    def needs(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        """What a call needs: most operations are on a cluster."""
        if not (name := parameters.get("name") or parameters.get("clusterName")):
            return [Need(action=f"eks:{operation}")]
        cluster = self._world.store.eks_clusters.get(name)
        tags = cluster.tags if cluster else {}
        context: dict[str, str | Sequence[str]] = {f"aws:ResourceTag/{key}": value for key, value in tags.items()}
        if new := parameters.get("tags"):
            context.update({f"aws:RequestTag/{key}": value for key, value in new.items()})
            context["aws:TagKeys"] = list(new)
        return [Need(action=f"eks:{operation}", resource=arn(self._world, name), context=context)]


def arn(world: World, name: str) -> str:
    """The ARN of the EKS cluster with this name."""
    return world.region.arn("eks", f"cluster/{name}")
