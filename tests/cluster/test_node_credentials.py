"""Nodes have a role that may do nothing but run the Pod Identity agent, and their pods cannot get its credentials."""

import json
import sys
from typing import Any, Final

import pytest

from hyperpod_ebs.demo.emulator_client import NODE_ROLE
from localcluster.machines import network
from localcluster.record import NodeRecord
from tests.support import driver_pods
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.driver_pods import NODE, PLUGIN
from tests.support.live_cluster import LiveCluster

CREDENTIALS: Final = f"iam/security-credentials/{NODE_ROLE}"

ASK_FOR_TOKEN: Final = f"""
import http.client, sys
connection = http.client.HTTPConnection("{network.METADATA}", timeout=float(sys.argv[1]))
connection.request("PUT", "/latest/api/token", headers={{"X-aws-ec2-metadata-token-ttl-seconds": "60"}})
try:
    print(connection.getresponse().read().decode())
except TimeoutError:
    print("no answer")
"""
"""A program that prints a session token for the metadata, if one arrives within some seconds."""

ACTIONS: Final = ["ec2:AttachVolume", "ec2:CreateVolume", "ec2:DescribeVolumes", "sagemaker:AttachClusterNodeVolume"]
"""Some of what the controller may do."""


def ask_for(category: str, token: str = "") -> str:
    """A shell command that prints a category of the metadata, or the error; version 1 of the service has no token."""
    header = f"--header 'X-aws-ec2-metadata-token: {token}'" if token else ""
    return f"busybox wget -q -O - {header} http://{network.METADATA}/latest/meta-data/{category} 2>&1 || true"


async def get_token(live: LiveCluster, node: NodeRecord) -> str:
    """A session token for a node itself."""
    return (await live.run_on_node(node.name, sys.executable, "-c", ASK_FOR_TOKEN, "60")).strip()


async def ask_for_token_in_pod(live: LiveCluster, pod: Any, container: str) -> str:  # as Kubernetes has it
    """Ask for a session token in the network of a pod; the answer."""
    node = pod["spec"]["nodeName"]
    network_of = f"--net=/proc/{await driver_pods.find_process(live, pod, container)}/ns/net"
    return (await live.run_on_node(node, "nsenter", network_of, sys.executable, "-c", ASK_FOR_TOKEN, "5")).strip()


async def count_dropped_packets(live: LiveCluster, node: NodeRecord) -> int:
    """How many packets the kernel of a node has dropped because they had travelled too far."""
    text = await live.run_on_node(node.name, "cat", "/proc/net/snmp")
    names, values = (line.split()[1:] for line in text.splitlines() if line.startswith("Icmp:"))
    return int(dict(zip(names, values, strict=True))["OutTimeExcds"])


async def test_a_node_gets_credentials_that_let_it_run_the_pod_identity_agent_and_nothing_else(
    live: LiveCluster,
) -> None:
    """EKS User Guide, "Set up the Amazon EKS Pod Identity Agent": the agent needs one action."""
    found = []
    for node in live.record.nodes:
        token = await get_token(live, node)
        answer = await live.run_on_node(node.name, "busybox", "sh", "-c", ask_for(CREDENTIALS, token))
        found.append(json.loads(answer)["Code"])

    async with live.client("iam") as iam:
        role = (await iam.get_role(RoleName=NODE_ROLE))["Role"]["Arn"]
        allowed = ["eks-auth:AssumeRoleForPodIdentity"]
        simulated = await iam.simulate_principal_policy(PolicySourceArn=role, ActionNames=[*allowed, *ACTIONS])

    decisions = {each["EvalActionName"]: each["EvalDecision"] for each in simulated["EvaluationResults"]}
    assert found == ["Success"] * len(live.record.nodes)
    assert decisions == {**dict.fromkeys(allowed, "allowed"), **dict.fromkeys(ACTIONS, "implicitDeny")}


@pytest.mark.requirement("node.no-credentials")
@pytest.mark.parametrize("kind", ["hyperpod", "ec2"])
async def test_a_pod_cannot_get_the_credentials_of_its_node(
    kind: str, namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """EKS Best Practices Guide, "Restrict access to the instance profile assigned to the worker node"."""
    node = live.record.nodes[0 if kind == "hyperpod" else -1]
    await namespace.create_pod("curious", "", on=node.name, volumes=[], container={"volumeMounts": []})
    pod = await namespace.wait_for_pod("curious")
    before = await count_dropped_packets(live, node)

    token = await ask_for_token_in_pod(live, pod, "main")
    without = await namespace.run_script("curious", ask_for(CREDENTIALS))

    assert token == "no answer"
    assert "401 Unauthorized" in without
    assert await count_dropped_packets(live, node) > before
    assert await get_token(live, node)


@pytest.mark.requirement("node.no-credentials")
async def test_the_drivers_node_process_has_no_credentials_and_cannot_get_any(live: LiveCluster) -> None:
    """Neither in its environment, nor in a volume, nor from the metadata of its node."""
    pods = await driver_pods.list_pods(live, NODE)

    for pod in pods:
        environment = await driver_pods.process_environment(live, pod)
        sources = [
            source
            for volume in pod["spec"]["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
            if source.get("serviceAccountToken", {}).get("audience")
        ]
        token = await ask_for_token_in_pod(live, pod, PLUGIN)

        credentials = {name for name in environment if name.startswith("AWS_") and name != "AWS_REGION"}
        assert (credentials, sources, token) == (set(), [], "no answer")
        assert not [volume for volume in pod["spec"]["volumes"] if "secret" in volume]
    assert len(pods) == len(live.record.nodes)
    calls = await live.calls()
    addresses = {pod["status"]["podIP"] for pod in pods}
    assert [call["operation"] for call in calls if call["source_ip"] in addresses] == []
    own = {call["operation"] for call in calls if f":assumed-role/{NODE_ROLE}/" in (call["caller"] or "")}
    assert own <= {"eks-auth:AssumeRoleForPodIdentity"}
