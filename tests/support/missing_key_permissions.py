"""Run the driver's job with encrypted volumes while its role lacks permissions for their key."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final

from hyperpod_ebs.access.policy.key_documents import KeyUsers, key_statements
from hyperpod_ebs.access.policy.statements import Setting
from tests.support.driver_job import (
    INSTANCE_TAGS,
    Site,
    Step,
    attach_to,
    create_attached,
    create_volume,
    detach_from,
    new_name,
    snapshot_of,
    volume_for_claim,
)
from tests.support.missing_permissions import ACCOUNT, ROLE, Refusal, for_each, refusal
from tests.support.permission_removals import (
    Documents,
    Removal,
    with_other_resources,
    with_unmet_conditions,
    without_actions,
    without_statements,
)

POLICY: Final = "the key's policy"

_ADMINISTRATOR: Final = {
    "Effect": "Allow",
    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/emulator"},
    "Action": "kms:*",
    "Resource": "*",
}

_SETTING: Final = Setting(partition="aws", region="us-west-2", account=ACCOUNT)
_USERS: Final = KeyUsers(driver=_SETTING.iam_arn(f"role/{ROLE}"))

DOCUMENTS: Final[Documents] = {
    POLICY: {
        "Version": "2012-10-17",
        "Statement": [statement.json for statement in key_statements(_SETTING, _USERS)],
    }
}
"""The statements for the driver's role, all in the key's policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that makes a key unusable for the driver, and its end."""

    what: str
    begin: Callable[[Site, str], Coroutine[Any, Any, Any]]
    end: Callable[[Site, str], Coroutine[Any, Any, Any]]


def changes() -> Iterator[Change]:
    """Each statement, action, resource and condition of the key's policy taken away, and the key's states."""
    for removals in (without_statements, without_actions, with_other_resources, with_unmet_conditions):
        yield from (_without(removal) for removal in removals(DOCUMENTS))
    yield Change(what="the key is disabled", begin=_call("disable_key"), end=_call("enable_key"))
    yield Change(what="the key is to be deleted", begin=_call("schedule_key_deletion"), end=_cancel_deletion)


async def refusals(site: Site, change: Change) -> dict[Step, Refusal]:
    """Run the steps during the change; those that were refused succeed after its end."""
    key, other = await _create_key(site), await _create_key(site)
    steps = _steps(key, other)
    objects = await for_each(steps, lambda step: step.prepare(site))
    await change.begin(site, key)
    results = await for_each(steps, lambda step: refusal(step, site, objects[step]))
    await change.end(site, key)
    refused = {step: result for step, result in results.items() if result}
    await for_each(refused, lambda step: step.call(site, objects[step]))
    await for_each(steps, lambda step: step.undo(site, objects[step]))
    return refused


async def all_refusals(site: Site) -> dict[str, dict[Step, Refusal]]:
    """What is refused during each change; all changes at once, each with a key of its own."""
    async with asyncio.TaskGroup() as group:
        tasks = {change.what: group.create_task(refusals(site, change)) for change in changes()}
    return {what: task.result() for what, task in tasks.items()}


def _steps(key: str, other: str) -> tuple[Step, ...]:
    """All that the driver does with volumes under a key; `other` is the key of a snapshot."""

    def volume(under: str) -> Callable[[Site], Coroutine[Any, Any, str]]:
        async def create(site: Site) -> str:
            return await volume_for_claim(site, **_key_parameters(under))

        return create

    def snapshot(under: str) -> Callable[[Site], Coroutine[Any, Any, str]]:
        async def create(site: Site) -> str:
            return await snapshot_of(site, await volume_for_claim(site, **(_key_parameters(under) if under else {})))

        return create

    async def create(site: Site, name: str) -> str:
        return await create_volume(site, name, **_key_parameters(key))

    async def restore(site: Site, id_: str) -> str:
        return await create_volume(site, f"pvc-of-{id_}", snapshot=id_, **_key_parameters(key))

    async def restore_elsewhere(site: Site, id_: str) -> str:
        return await create_volume(site, f"pvc-of-{id_}", snapshot=id_, **_key_parameters(other))

    attach, detach = attach_to(lambda site: site.hyperpod_node), detach_from(lambda site: site.hyperpod_node)
    on_ec2 = {tag: (attach_to(_instance(tag)), detach_from(_instance(tag))) for tag in INSTANCE_TAGS}
    (attach_ec2, detach_ec2), (attach_first, detach_later), _ = on_ec2.values()
    return (
        Step(name="create an encrypted volume", rpc="CreateVolume", prepare=new_name, call=create),
        Step(name="restore its snapshot", rpc="CreateVolume", prepare=snapshot(key), call=restore),
        Step(name="restore an unencrypted snapshot", rpc="CreateVolume", prepare=snapshot(""), call=restore),
        Step(name="restore a snapshot of another key", rpc="CreateVolume", prepare=snapshot(other), call=restore),
        Step(
            name="restore its snapshot under another key",
            rpc="CreateVolume",
            prepare=snapshot(key),
            call=restore_elsewhere,
        ),
        Step(
            name="attach to a HyperPod node",
            rpc="ControllerPublishVolume",
            prepare=volume(key),
            call=attach,
            undo=detach,
        ),
        Step(
            name="attach to an EC2 node",
            rpc="ControllerPublishVolume",
            prepare=volume(key),
            call=attach_ec2,
            undo=detach_ec2,
        ),
        Step(
            name="detach",
            rpc="ControllerUnpublishVolume",
            prepare=create_attached(volume(key), attach_first),
            call=detach_later,
        ),
    )


def _instance(tag: str) -> Callable[[Site], str]:
    return lambda site: site.ec2_nodes[tag]


def _key_parameters(key: str) -> dict[str, str]:
    """The StorageClass parameters for volumes under a key."""
    return {"encrypted": "true", "kmsKeyId": key}


async def _create_key(site: Site) -> str:
    """Create a key with all statements; its ARN."""
    created = await site.aws("kms", "create_key", Policy=_document(DOCUMENTS))
    return str(created["KeyMetadata"]["Arn"])


def _document(documents: Documents) -> str:
    """The key's policy, with a statement for the administrator."""
    document = documents[POLICY]
    return json.dumps({**document, "Statement": [*document["Statement"], _ADMINISTRATOR]})


def _without(removal: Removal) -> Change:
    def put(documents: Documents) -> Callable[[Site, str], Coroutine[Any, Any, Any]]:
        async def act(site: Site, key: str) -> Any:
            return await site.aws("kms", "put_key_policy", KeyId=key, Policy=_document(documents))

        return act

    return Change(what=removal.what, begin=put(removal.documents), end=put(DOCUMENTS))


def _call(method: str) -> Callable[[Site, str], Coroutine[Any, Any, Any]]:
    async def act(site: Site, key: str) -> Any:
        return await site.aws("kms", method, KeyId=key)

    return act


async def _cancel_deletion(site: Site, key: str) -> None:
    """Cancel the key's deletion, after which the key is disabled (KMS API reference, CancelKeyDeletion)."""
    await site.aws("kms", "cancel_key_deletion", KeyId=key)
    await site.aws("kms", "enable_key", KeyId=key)
