"""The controller's code with volumes under customer-managed keys, and what its errors say when a key is lost."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Final

import pytest

from hyperpod_ebs.driver.aws.clients import Settings
from hyperpod_ebs.driver.aws.connection import connect
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.nodes import HyperPodNode
from hyperpod_ebs.driver.volumes.attach import attach_volume, detach_volume
from hyperpod_ebs.driver.volumes.watch import Watcher
from tests.support.callers import Caller, Statement
from tests.support.in_process_controller import AT_ONCE, Controller, a_snapshot
from tests.support.key_users import allow, document, user_arn
from tests.support.waiting import wait_until_equal

DRIVER: Final = {"AWS": user_arn("driver")}

ROLE: Final = [
    allow(["sagemaker:AttachClusterNodeVolume", "sagemaker:DetachClusterNodeVolume"]),
    allow("eks:DescribeCluster"),
]
"""What the driver's role has in addition to AWS's managed policy."""

CREATE: Final = allow(
    ["kms:GenerateDataKeyWithoutPlaintext", "kms:Decrypt"],
    Principal=DRIVER,
    Condition={"StringEquals": {"kms:ViaService": "ec2.us-west-2.amazonaws.com"}},
)

ATTACH: Final = [
    allow("kms:DescribeKey", Principal=DRIVER),
    allow(
        "kms:CreateGrant",
        Principal=DRIVER,
        Condition={
            "StringEquals": {
                "kms:CallerAccount": "123456789012",
                "kms:ViaService": "ec2.us-west-2.amazonaws.com",
            },
            "ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "aws:ebs:id"},
            "Bool": {"kms:GrantIsForAWSResource": True},
            "ForAllValues:StringEquals": {"kms:GrantOperations": ["Decrypt"]},
        },
    ),
]
"""The statements of SageMaker's Developer Guide for customer-managed keys."""


@pytest.fixture(name="controller")
async def open_controller(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Controller]:
    """The controller's code as a user with AWS's managed policy for drivers; `aws` is the administrator."""
    async with Controller.open(monkeypatch) as running:
        caller = await Caller.create(running.emulator, "driver")
        caller.allow(ROLE, managed=["service-role/AmazonEBSCSIDriverPolicy"])
        for name, value in caller.env.items():
            monkeypatch.setenv(name, value)
        async with connect(Settings()) as cloud, Watcher(cloud, AT_ONCE) as watcher:
            yield replace(running, cloud=cloud, watcher=watcher)


async def create_key(controller: Controller, statements: Sequence[Statement]) -> str:
    """Create a key that the administrator manages and that has these statements in its policy; its ARN."""
    created = await controller.aws("kms", "create_key", Policy=policy(statements))
    return str(created["KeyMetadata"]["Arn"])


def policy(statements: Sequence[Statement]) -> str:
    """The key policy with these statements, and one for the administrator."""
    return document(allow("kms:*", Principal={"AWS": user_arn("emulator")}), *statements)


async def attach(controller: Controller, volume: str, node: HyperPodNode) -> None:
    """Attach the volume as the driver does."""
    await attach_volume(controller.cloud, controller.watcher, volume, node)


async def test_the_documented_statements_suffice_for_a_volume_and_its_restore(controller: Controller) -> None:
    """SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters"."""
    key = await create_key(controller, [CREATE, *ATTACH])
    (node,) = await controller.create_nodes(1)
    volume = await controller.provision(encrypted=True, kms_key_id=key)
    snapshot = await controller.cloud.create_snapshot(a_snapshot(volume))
    restored = await controller.provision("pvc-2", encrypted=True, kms_key_id=key, snapshot_id=snapshot.id)

    for each in (volume, restored):
        await attach(controller, each.id, node)
        assert await controller.holders(each) == [str(node)]
        await detach_volume(controller.cloud, controller.watcher, each.id, node)

    assert (volume.kms_key_id, restored.kms_key_id) == (key, key)


async def test_a_volume_whose_key_is_not_allowed_is_reported_with_its_key(controller: Controller) -> None:
    """EC2 removes the volume without a word, so the driver has to name the key; no volume remains."""
    key = await create_key(controller, ATTACH)

    with pytest.raises(errors.Error) as refused:
        await controller.provision(encrypted=True, kms_key_id=key)

    assert key in str(refused.value)
    assert await controller.volume_count() == 0


@pytest.mark.parametrize("missing", ["kms:DescribeKey", "kms:CreateGrant"])
async def test_an_attach_without_a_statement_says_what_to_check_and_works_with_it(
    controller: Controller, missing: str
) -> None:
    """The same page: each of the two statements is needed."""
    some = [statement for statement in ATTACH if statement["Action"] != missing]
    key = await create_key(controller, [CREATE, *some])
    (node,) = await controller.create_nodes(1)
    volume = await controller.provision(encrypted=True, kms_key_id=key)

    with pytest.raises(errors.KeyUnusable, match=r"CustomerKeyHasBeenRevoked\); check that the KMS key is enabled"):
        await attach(controller, volume.id, node)
    await controller.aws("kms", "put_key_policy", KeyId=key, Policy=policy([CREATE, *ATTACH]))
    await attach(controller, volume.id, node)

    await wait_until_equal(lambda: controller.aws.volume_state(volume.id), "in-use attached")


async def test_a_disabled_key_refuses_an_attach_and_no_detach(controller: Controller) -> None:
    """Amazon EBS User Guide: the key is needed when a volume is attached."""
    key = await create_key(controller, [CREATE, *ATTACH])
    (node,) = await controller.create_nodes(1)
    volume = await controller.provision(encrypted=True, kms_key_id=key)
    await attach(controller, volume.id, node)
    await controller.aws("kms", "disable_key", KeyId=key)

    assert await controller.aws.volume_state(volume.id) == "in-use attached"
    await detach_volume(controller.cloud, controller.watcher, volume.id, node)
    with pytest.raises(errors.KeyUnusable, match="CustomerKeyHasBeenRevoked"):
        await attach(controller, volume.id, node)
