"""Whether the driver's role can use the KMS keys of StorageClasses, volumes, snapshots and the account's default.

Sources: SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters"; Amazon EBS
User Guide, "How Amazon EBS encryption works".
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from hyperpod_ebs.access.aws import keys
from hyperpod_ebs.access.aws.keys import KmsKey
from hyperpod_ebs.access.aws.permissions import FORBIDDEN, Need, Verdict, simulate
from hyperpod_ebs.access.aws.roles import Role
from hyperpod_ebs.access.aws.session import Aws
from hyperpod_ebs.access.aws.snapshots import list_snapshots
from hyperpod_ebs.access.doctor.aws_checks.policy_reasons import unmet_condition
from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.context import Context, Missing
from hyperpod_ebs.access.doctor.findings import Finding, fails, may_fail, not_checked
from hyperpod_ebs.access.policy.key_documents import KeyUsers, key_statements
from hyperpod_ebs.access.policy.statements import Setting
from hyperpod_ebs.driver.model import errors, tags
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER
from hyperpod_ebs.iam.request import Principal, PrincipalType

_CLASSES: Final = "/apis/storage.k8s.io/v1/storageclasses"

_ATTACHING: Final = ("kms:DescribeKey", "kms:CreateGrant")
_CREATING: Final = ("kms:GenerateDataKeyWithoutPlaintext", "kms:Decrypt")
_COPYING: Final = ("kms:ReEncryptFrom", "kms:ReEncryptTo")

_CONSEQUENCES: Final[Mapping[str, str]] = {
    **dict.fromkeys(_ATTACHING, "Volumes that are encrypted with the key are not attached to nodes"),
    **dict.fromkeys(_CREATING, "AWS deletes each new volume with the key right after its creation"),
    **dict.fromkeys(_COPYING, "Snapshots are not restored from this key to another one, or the other way round"),
}


async def _keys_of_classes(context: Context) -> dict[str, str]:
    """The keys that StorageClasses name, each with one that names it."""
    found = dict[str, str]()
    if await context.has_kubernetes():
        for item in await context.objects(_CLASSES):
            parameters = {key.lower(): str(value) for key, value in (item.get("parameters") or {}).items()}
            if item.get("provisioner") == DRIVER and (key := parameters.get("kmskeyid")):
                found.setdefault(key, f"StorageClass {item['metadata']['name']}")
    return found


async def _keys_of_data(context: Context) -> dict[str, str]:
    """The keys of the driver's volumes and snapshots, each with one that is encrypted with it."""
    volumes, snapshots = await context.volumes(), set[str]()
    if await context.has_kubernetes():
        own = set(await context.driver_volumes())
        contents = await context.objects("/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents")
        snapshots = {
            str((item.get("status") or {}).get("snapshotHandle", ""))
            for item in contents
            if item.get("spec", {}).get("driver") == DRIVER
        }
    else:
        own = {volume.id for volume in volumes if volume.tags.get(tags.MANAGED) == "true"}
    found = dict[str, str]()
    for volume in volumes:
        if volume.id in own and volume.key:
            found.setdefault(volume.key, f"volume {volume.id}")
    for snapshot in await list_snapshots(await context.aws()) if snapshots else ():
        if snapshot.id in snapshots and snapshot.key:
            found.setdefault(snapshot.key, f"snapshot {snapshot.id}")
    return found


async def _check_keys(context: Context) -> AsyncIterator[Finding]:
    aws, checked = await context.aws(), set[str]()
    in_use, missing = await _keys_of_classes(context), None
    try:
        if default := await keys.default_volume_key(aws):
            in_use.setdefault(default, "the default encryption of the account")
    except errors.Denied as denial:
        yield not_checked("default encryption of the account", str(denial))
    try:
        for name, user in (await _keys_of_data(context)).items():
            in_use.setdefault(name, user)
    except Missing as reason:
        missing = reason
    for name, user in in_use.items():
        async for finding in _check_name(context, name, user, checked):
            yield finding
    if missing:
        raise missing
    # Without these, the check has not seen all keys, or not whether the role can use them.
    await context.objects(_CLASSES)
    await context.uses_of_existing_roles()


async def _check_name(context: Context, name: str, user: str, checked: set[str]) -> AsyncIterator[Finding]:
    """Check the key with this id, ARN or alias, unless its ARN is among the checked ones."""
    aws = await context.aws()
    region = name.split(":")[3] if name.startswith("arn:") else aws.region
    if region != aws.region:
        yield fails(
            f"KMS key {name}",
            f"{user} names it, and it is in {region}, while the volumes are in {aws.region}",
            _CONSEQUENCES[_CREATING[0]],
            f"use a key in {aws.region}",
        )
        return
    try:
        key = await keys.find_key(aws, name)
    except errors.Denied as denial:
        yield not_checked(f"KMS key {name}", str(denial))
        return
    if key is None:
        yield fails(
            f"KMS key {name}",
            f"{user} names it, and it does not exist",
            "Volumes with the key are neither created nor attached",
            "name an existing key: `aws kms list-aliases`",
        )
    elif key.arn not in checked:
        checked.add(key.arn)
        async for finding in _check_key(context, key, user):
            yield finding


async def _check_key(context: Context, key: KmsKey, user: str) -> AsyncIterator[Finding]:
    if key.state != keys.ENABLED:
        when = (
            f", until {key.deletion:%Y-%m-%d}, when it is deleted with all data that it encrypts"
            if key.deletion
            else ""
        )
        undo = "cancel-key-deletion" if key.deletion else "enable-key"
        yield fails(
            f"KMS key {key.arn}",
            f"its state is {key.state}{when}, and {user} uses it",
            "Volumes with the key are neither created nor attached",
            f"`aws kms {undo} --key-id {key.arn}`" + (f", then enable-key --key-id {key.arn}" if key.deletion else ""),
        )
        return
    if not key.is_symmetric:
        yield fails(
            f"KMS key {key.arn}",
            f"it is not a symmetric encryption key, and {user} names it",
            _CONSEQUENCES[_CREATING[0]],
            "use a key with the spec SYMMETRIC_DEFAULT",
        )
        return
    if key.is_managed_by_aws:
        return
    for use in await context.uses_of_existing_roles():
        if role := await context.role(use.arn):
            async for finding in _check_use(await context.aws(), key, user, role):
                yield finding


async def _check_use(aws: Aws, key: KmsKey, user: str, role: Role) -> AsyncIterator[Finding]:
    try:
        policy = await keys.key_policy(aws, key.arn)
    except errors.Denied as denial:
        yield not_checked(f"KMS key {key.arn}", str(denial))
        return
    verdicts = await simulate(aws, role.arn, _needs(aws, key, role, policy))
    denied = [verdict for verdict in verdicts if verdict.decision == "denied"]
    unknown = [verdict for verdict in verdicts if verdict.decision == "unknown"]
    if denied:
        granted = {
            operation for grant in await keys.list_grants(aws, key.arn, role.arn) for operation in grant.operations
        }
        denied = [verdict for verdict in denied if verdict.need.action.removeprefix("kms:") not in granted]
    if unknown:
        yield not_checked(f"KMS key {key.arn}", f"whether role {role.name} may use it: {unknown[0].reason}")
    for actions in (_ATTACHING, _CREATING, _COPYING):
        if lacking := [verdict for verdict in denied if verdict.need.action in actions]:
            yield _denial(aws, key, user, role, lacking)


def _denial(aws: Aws, key: KmsKey, user: str, role: Role, lacking: Sequence[Verdict]) -> Finding:
    setting = Setting(partition=aws.partition, region=aws.region, account=key.account)
    wanted = {verdict.need.action for verdict in lacking}
    statements = [
        statement.json
        for statement in key_statements(setting, KeyUsers(driver=role.arn))
        if wanted & set(statement.actions)
    ]
    report = may_fail if wanted <= set(_COPYING) else fails
    is_forbidden = any(verdict.is_forbidden for verdict in lacking)
    add = f"add to the key's policy (`hyperpod-ebs policy key` prints the whole policy): {json.dumps(statements)}"
    return report(
        f"KMS key {key.arn}",
        f"{user} uses it; " + "; ".join(_reason(verdict, role) for verdict in lacking),
        _CONSEQUENCES[lacking[0].need.action],
        FORBIDDEN if is_forbidden else add,
    )


def _reason(verdict: Verdict, role: Role) -> str:
    """Why the role may not use the key, with the condition of the key's policy that it does not meet."""
    need, account = verdict.need, role.arn.split(":")[4]
    principal = Principal(type=PrincipalType.ROLE_SESSION, arn=role.arn, account=account, role=role.arn)
    condition = unmet_condition(need.resource_policy or "{}", principal, need.action, need.resource, need.context)
    return f"{verdict.reason}; in the key's policy, {condition}" if condition else verdict.reason


def _needs(aws: Aws, key: KmsKey, role: Role, policy: str) -> list[Need]:
    """What EBS does with the key for the driver, through EC2."""
    account = role.arn.split(":")[4]
    through: dict[str, Sequence[str]] = {
        "kms:CallerAccount": [account],
        "kms:ViaService": [f"ec2.{aws.region}.amazonaws.com"],
    }
    ebs: dict[str, Sequence[str]] = {
        **through,
        "kms:EncryptionContextKeys": ["aws:ebs:id"],
        "kms:EncryptionContext:aws:ebs:id": ["vol-0123456789abcdef0"],
    }
    grant: dict[str, Sequence[str]] = {
        **ebs,
        "kms:GrantIsForAWSResource": ["true"],
        "kms:GrantOperations": ["Decrypt"],
        "kms:GrantConstraintType": ["EncryptionContextSubset"],
    }
    context = {"kms:DescribeKey": through, "kms:CreateGrant": grant}
    return [
        Need(action=action, resource=key.arn, context=context.get(action, ebs), resource_policy=policy)
        for action in (*_ATTACHING, *_CREATING, *_COPYING)
    ]


CHECKS: Final = (Check(name="keys", promise="the driver's role can use the KMS keys of volumes", run=_check_keys),)
