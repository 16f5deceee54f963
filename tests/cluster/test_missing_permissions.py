"""A role without permissions: what users read about each kind of step, and that each step then continues by itself."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from localcluster.driver_role import ROLE
from tests.support import permissions_page
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.live_cluster import LiveCluster
from tests.support.missing_permissions import ROLE as ROLE_OF_THE_PAGE
from tests.support.missing_permissions import without_ids
from tests.support.permissions_page import EVENTS
from tests.support.waiting import wait_for_cluster

pytestmark = [pytest.mark.exclusive, pytest.mark.usefixtures("pod_replacement")]

PAGE: Final = Path(__file__).parents[2] / permissions_page.PAGE
DESCRIBE: Final = "describe"
NAMES: Final = re.compile(r"\b(pvc|snapshot)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
"""Names that the sidecars give to volumes and snapshots."""

CLAIMS: Final = ("attached", "attached-ec2", "detached", "deleted", "grown", "modified", "tagged", "source")


class Text(NamedTuple):
    """What a user reads about a step."""

    rpc: str
    step: str
    missing: str
    """The step, and what it lacks, as in the page's table."""

    read: Callable[[], Awaitable[str | None]]
    """Reads the text; None while there is none."""


async def test_each_step_that_the_role_may_not_do_is_explained_as_on_the_page_and_continues_with_the_permission(
    namespace: ClusterNamespace, live: LiveCluster
) -> None:
    """docs/reference/permissions.md has these messages from a controller; Kubernetes adds its own words."""
    hyperpod, ec2 = _nodes(live)
    class_ = await namespace.create_storage_class(binding="Immediate", type="gp3")
    snapshot_class = await namespace.create_snapshot_class()
    faster = await namespace.create_attributes_class(throughput="250")
    tagged = await namespace.create_attributes_class(tagSpecification_1="tier=fast")
    async with asyncio.TaskGroup() as group:
        for name in CLAIMS:
            group.create_task(namespace.create_claim(name, of=class_))
    volumes = {name: (await namespace.wait_until_bound(name))["spec"]["volumeName"] for name in CLAIMS}
    await namespace.create_pod("detached", "detached", on=hyperpod)
    await namespace.create_snapshot("old", "source", of=snapshot_class)
    await namespace.wait_for_pod("detached")
    content = (await namespace.wait_for_snapshot("old"))["metadata"]["name"]

    async with _may_only_describe(live):
        await namespace.create_claim("created", of=class_)
        await namespace.create_pod("attached", "attached", on=hyperpod)
        await namespace.create_pod("attached-ec2", "attached-ec2", on=ec2)
        await namespace.delete("pod", "detached")
        await namespace("delete", "pvc", "deleted", "--wait=false")
        await namespace.resize_claim("grown", "2Gi")
        for name, attributes in (("modified", faster), ("tagged", tagged)):
            await namespace("patch", "pvc", name, f'--patch={{"spec":{{"volumeAttributesClassName":"{attributes}"}}}}')
        await namespace.create_snapshot("new", "attached", of=snapshot_class)
        await namespace("delete", "volumesnapshot", "old", "--wait=false")
        texts = _texts(namespace, volumes, content)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait_for_cluster(text.read)) for text in texts]
        read = {text.step: _without_names(task.result()) for text, task in zip(texts, tasks, strict=True)}

    assert read == _texts_of_the_page(texts)
    await namespace.wait_until_bound("created")
    await namespace.wait_for_pod("attached")
    await namespace.wait_for_pod("attached-ec2")
    grown = f"persistentvolume/{volumes['grown']}"
    await live.kubectl("wait", "--for=jsonpath={.spec.capacity.storage}=2Gi", grown, "--timeout=120s")
    await namespace.wait_for_snapshot("new")
    for name, attributes in (("modified", faster), ("tagged", tagged)):
        current = f"--for=jsonpath={{.status.currentVolumeAttributesClassName}}={attributes}"
        await namespace("wait", current, f"pvc/{name}", "--timeout=120s")
    await live.kubectl("wait", "--for=delete", f"volumesnapshotcontent/{content}", "--timeout=120s")
    await live.kubectl("wait", "--for=delete", f"persistentvolume/{volumes['deleted']}", "--timeout=120s")
    await wait_for_cluster(lambda: _is_detached(live, volumes["detached"]))


def _texts(namespace: ClusterNamespace, volumes: Mapping[str, str], content: str) -> list[Text]:
    """All steps, with the ways to read their texts."""
    live, name = namespace.live, namespace.name
    volume, cluster = "on a volume", "on a cluster"

    def event(reason: str, of: str, in_: str = name) -> Callable[[], Awaitable[str | None]]:
        async def read() -> str | None:
            events = [each for each in await live.events(in_, of) if each.startswith(f"{reason}: ")]
            return events[-1].partition(": ")[2] if events else None

        return read

    async def read_detach_error() -> str | None:
        attachment = await _attachment(live, volumes["detached"])
        error = (attachment or {}).get("status", {}).get("detachError", {})
        return str(error["message"]) if error else None

    async def read_snapshot_error() -> str | None:
        error = (await namespace.get("volumesnapshot", "new")).get("status", {}).get("error", {})
        return str(error["message"]) if error else None

    return [
        Text("CreateVolume", "create a volume", f"`ec2:CreateVolume` {volume}", event("ProvisioningFailed", "created")),
        Text(
            "DeleteVolume",
            "delete a volume",
            f"`ec2:DeleteVolume` {volume}",
            event("VolumeFailedDelete", volumes["deleted"], "default"),
        ),
        Text(
            "ControllerPublishVolume",
            "attach a volume to a HyperPod node",
            f"`sagemaker:AttachClusterNodeVolume` {cluster}",
            event("FailedAttachVolume", "attached"),
        ),
        Text(
            "ControllerPublishVolume",
            "attach a volume to an EC2 node",
            f"`ec2:AttachVolume` {volume}",
            event("FailedAttachVolume", "attached-ec2"),
        ),
        Text(
            "ControllerUnpublishVolume",
            "detach a volume from a HyperPod node",
            f"`sagemaker:DetachClusterNodeVolume` {cluster}",
            read_detach_error,
        ),
        Text(
            "ControllerExpandVolume",
            "grow a volume",
            f"`ec2:ModifyVolume` {volume}",
            event("VolumeResizeFailed", "grown"),
        ),
        Text(
            "ControllerModifyVolume",
            "change throughput",
            f"`ec2:ModifyVolume` {volume}",
            event("VolumeModifyFailed", "modified"),
        ),
        Text(
            "ControllerModifyVolume", "set a tag", f"`ec2:CreateTags` {volume}", event("VolumeModifyFailed", "tagged")
        ),
        Text("CreateSnapshot", "take a snapshot", f"`ec2:CreateSnapshot` {volume}", read_snapshot_error),
        Text(
            "DeleteSnapshot",
            "delete a snapshot",
            "`ec2:DeleteSnapshot` on a snapshot",
            event("SnapshotDeleteError", content, "default"),
        ),
    ]


def _texts_of_the_page(texts: list[Text]) -> dict[str, str]:
    """The texts by step, from the page's messages and its table of events."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \| `(\w+)` \| `(.+)` \|$", PAGE.read_text(), re.MULTILINE)
    messages = {(step, missing): (code, message) for step, missing, code, message in rows}
    by_rpc = {event.rpc: event for event in EVENTS}
    return {text.step: by_rpc[text.rpc].text_of(*messages[text.step, text.missing], VOLUME="pvc-1") for text in texts}


def _without_names(text: str) -> str:
    """The text with the page's names and ids."""
    return without_ids(NAMES.sub(r"\1-1", text)).replace(f"IAM role {ROLE}:", f"IAM role {ROLE_OF_THE_PAGE}:")


def _nodes(live: LiveCluster) -> tuple[str, str]:
    """The names of a HyperPod node and of an EC2 node."""
    by_kind = {"sagemaker" in node.provider_id: node.name for node in live.record.nodes}
    return by_kind[True], by_kind[False]


async def _attachment(live: LiveCluster, volume: str) -> Any:  # as Kubectl's
    """The VolumeAttachment of a persistent volume; None if it has none."""
    items = (await live.kubectl.get("volumeattachments"))["items"]
    return next((item for item in items if item["spec"]["source"]["persistentVolumeName"] == volume), None)


async def _is_detached(live: LiveCluster, volume: str) -> bool:
    return await _attachment(live, volume) is None


@asynccontextmanager
async def _may_only_describe(live: LiveCluster) -> AsyncGenerator[None]:
    """Leave to the driver's role only the statement of its policy that allows to describe."""
    async with live.client("iam") as iam:
        ((name,),) = [(await iam.list_role_policies(RoleName=ROLE))["PolicyNames"]]
        own = (await iam.get_role_policy(RoleName=ROLE, PolicyName=name))["PolicyDocument"]
        ((attached,),) = [(await iam.list_attached_role_policies(RoleName=ROLE))["AttachedPolicies"]]
        version = (await iam.get_policy(PolicyArn=attached["PolicyArn"]))["Policy"]["DefaultVersionId"]
        policy = await iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId=version)
        document = policy["PolicyVersion"]["Document"]
        describing = json.dumps({**document, "Statement": document["Statement"][:1]})
        await iam.put_role_policy(RoleName=ROLE, PolicyName=DESCRIBE, PolicyDocument=describing)
        await iam.delete_role_policy(RoleName=ROLE, PolicyName=name)
        await iam.detach_role_policy(RoleName=ROLE, PolicyArn=attached["PolicyArn"])
        try:
            yield
        finally:
            await iam.attach_role_policy(RoleName=ROLE, PolicyArn=attached["PolicyArn"])
            await iam.put_role_policy(RoleName=ROLE, PolicyName=name, PolicyDocument=json.dumps(own))
            await iam.delete_role_policy(RoleName=ROLE, PolicyName=DESCRIBE)
