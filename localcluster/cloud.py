"""The emulator of the cluster, and the instances that are its nodes."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from hyperpod_ebs.demo.emulator_client import (
    INSTANCE_TYPE,
    NODE_ROLE,
    EmulatorClient,
    HyperPodNode,
    wait_for_environment,
)
from hyperpod_ebs.sandbox.processes import COMMAND
from hyperpod_ebs.sandbox.sandbox import Sandbox
from localcluster.machines import network
from localcluster.machines.network import Namespaces

PORT: Final = 4566
URL: Final = f"http://{network.GATEWAY}:{PORT}"

NAME: Final = "training"
"""The name of the EKS cluster and of the HyperPod cluster."""

EC2_INSTANCE_TYPE: Final = "m6i.xlarge"

POD_SECONDS: Final = 30
"""Seconds that the credentials last that a pod gets from EKS Pod Identity."""

_READY_TIMEOUT: Final = 180.0
_POLL: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An instance, with the attributes of its Kubernetes node."""

    id: str
    name: str
    """The Kubernetes node's name."""
    address: str
    """Its private IPv4 address."""
    provider_id: str
    labels: Mapping[str, str]
    devices: Path
    """The directory in which the emulator creates the devices of its volumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EksCluster:
    """The EKS cluster, whose control plane runs on this machine."""

    arn: str
    issuer: str
    """The URL of the issuer of service account tokens."""
    keys: Path
    """The directory of its keys, with kubeadm's file names: sa.key, sa.pub, ca.key and ca.crt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudState:
    """What the emulator has at one moment, as far as the cluster has to match it."""

    instances: Mapping[str, bool]
    """The ids of the running instances, and whether each belongs to the HyperPod cluster."""
    addons: frozenset[str]
    """The names of the add-ons of the EKS cluster."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """The running emulator."""

    client: EmulatorClient

    @classmethod
    @asynccontextmanager
    async def start(cls, sandbox: Sandbox, hub: Namespaces, endpoint: str, profile: str) -> AsyncGenerator["Cloud"]:
        """Start the emulator in the hub's network; `endpoint` is the URL of its forwarded port on this machine."""
        state = sandbox.path / "cloud"
        listening = ("--host", network.GATEWAY, "--port", str(PORT))
        # Tests take several snapshots of a claim within AWS's 15 seconds, and wait until a pod's credentials expire.
        fast = ("--profile", profile, "--snapshot-rate", "off", "--pod-seconds", str(POD_SECONDS))
        words = ("--state", str(state), *listening, "--link-local-metadata", "on", *fast)
        await sandbox.start(hub.network_argv(*COMMAND, "emulator", "run", *words), log="emulator.log")
        environment = {**await wait_for_environment(sandbox, state), "AWS_ENDPOINT_URL": endpoint}
        async with aiohttp.ClientSession(endpoint) as http:
            yield cls(EmulatorClient(state, environment, http))

    async def create_eks_cluster(self) -> EksCluster:
        """Create the EKS cluster."""
        created = await self.client.create_eks_cluster(NAME)
        issuer = created["identity"]["oidc"]["issuer"]
        return EksCluster(arn=created["arn"], issuer=issuer, keys=self.client.state / "eks" / NAME)

    async def create_node_role(self) -> None:
        """Create the role of all nodes, which may only run the Pod Identity agent, and its instance profile."""
        services = ["ec2.amazonaws.com", "sagemaker.amazonaws.com"]
        trust = _document(Principal={"Service": services}, Action="sts:AssumeRole")
        policy = _document(Action="eks-auth:AssumeRoleForPodIdentity", Resource="*")
        async with self.client.client("iam") as iam:
            await iam.create_role(RoleName=NODE_ROLE, AssumeRolePolicyDocument=trust)
            await iam.put_role_policy(RoleName=NODE_ROLE, PolicyName="pod-identity-agent", PolicyDocument=policy)
            await iam.create_instance_profile(InstanceProfileName=NODE_ROLE)
            await iam.add_role_to_instance_profile(InstanceProfileName=NODE_ROLE, RoleName=NODE_ROLE)

    async def create_hyperpod_cluster(self, nodes: int, eks: EksCluster) -> list[Instance]:
        """Create the HyperPod cluster that the EKS cluster orchestrates; the instances of its nodes."""
        return [
            self._hyperpod_instance(node) for node in await self.client.create_hyperpod_cluster(nodes, NAME, eks.arn)
        ]

    async def state(self) -> CloudState:
        """What the emulator has now."""
        status = await self.client.status()
        return CloudState(
            instances={row["id"]: bool(row["cluster"]) for row in status["instances"] if row["state"] == "running"},
            addons=frozenset(row["name"] for row in status["addons"] if row["cluster"] == NAME),
        )

    async def describe_hyperpod_instance(self, instance: str) -> Instance:
        """The instance of a node of the HyperPod cluster."""
        return self._hyperpod_instance(await self.client.describe_node(instance, NAME))

    def _hyperpod_instance(self, node: HyperPodNode) -> Instance:
        name = f"hyperpod-{node.instance}"
        return Instance(
            id=node.instance,
            name=name,
            address=node.address,
            provider_id=f"aws:///{node.zone_id}/sagemaker/cluster/hyperpod-{node.cluster}-{node.instance}",
            labels={
                **self._labels(INSTANCE_TYPE, node.zone),
                "sagemaker.amazonaws.com/cluster-name": NAME,
                "sagemaker.amazonaws.com/node-health-status": "Schedulable",
                "sagemaker.amazonaws.com/num-eni-attachments": "1",
                "sagemaker.amazonaws.com/num-block-device-mappings": "1",
            },
            devices=self._devices(node.instance),
        )

    async def create_ec2_instance(self, zone: str) -> Instance:
        """Create an instance without HyperPod, and wait until it runs."""
        async with self.client.client("ec2") as ec2, asyncio.timeout(_READY_TIMEOUT):
            response = await ec2.run_instances(
                ImageId="ami-0123456789abcdef0",
                InstanceType=EC2_INSTANCE_TYPE,
                MinCount=1,
                MaxCount=1,
                Placement={"AvailabilityZone": zone},
                IamInstanceProfile={"Name": NODE_ROLE},
                # Pods get no credentials of the node's role (EKS Best Practices Guide, "Restrict access to the instance
                # profile assigned to the worker node").
                MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            )
            instance = response["Instances"][0]["InstanceId"]
            while (await self._describe(ec2, instance))["State"]["Name"] != "running":  # noqa: ASYNC110 - a poll
                await asyncio.sleep(_POLL)
            described = await self._describe(ec2, instance)
        return Instance(
            id=instance,
            name=described["PrivateDnsName"],
            address=described["PrivateIpAddress"],
            provider_id=f"aws:///{zone}/{instance}",
            labels=self._labels(EC2_INSTANCE_TYPE, zone),
            devices=self._devices(instance),
        )

    async def _describe(self, ec2: Any, instance: str) -> Any:  # the SDK's untyped client and response
        response = await ec2.describe_instances(InstanceIds=[instance])
        return response["Reservations"][0]["Instances"][0]

    def _labels(self, instance_type: str, zone: str) -> dict[str, str]:
        return {
            "node.kubernetes.io/instance-type": instance_type,
            "topology.kubernetes.io/region": self.client.environment["AWS_REGION"],
            "topology.kubernetes.io/zone": zone,
        }

    def _devices(self, instance: str) -> Path:
        return self.client.state / "nodes" / instance / "dev"


def _document(**statement: Any) -> str:  # the members of a statement in JSON
    """A policy document with one statement, which allows something."""
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})
