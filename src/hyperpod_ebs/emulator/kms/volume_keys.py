"""What EBS asks of KMS for its caller: the data keys of volumes and snapshots, and access to them at attach.

EBS calls KMS with the caller's permissions, through EC2 (`kms:ViaService`), and with the id of
the volume or snapshot in the encryption context (`aws:ebs:id`). Sources: Amazon EBS User
Guide, "How Amazon EBS encryption works"; KMS Developer Guide, "How Amazon Elastic Block Store
uses AWS KMS".
"""

import base64
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.emulator.identity.authorizer import Authorizer, Need
from hyperpod_ebs.emulator.identity.identities import ContextValues, Identity
from hyperpod_ebs.emulator.kms.grant_rules import Use
from hyperpod_ebs.emulator.kms.key_material import InvalidCiphertext
from hyperpod_ebs.emulator.kms.keyring import EBS_KEY, Keyring
from hyperpod_ebs.emulator.kms.needs import KmsNeeds
from hyperpod_ebs.emulator.kms.policy_documents import via_ec2
from hyperpod_ebs.emulator.kms_records import EbsEncryption, Grant, Key
from hyperpod_ebs.emulator.records import Instance, Snapshot, Volume
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.wire.operations import AwsFault, Call
from hyperpod_ebs.iam.decision import Policies
from hyperpod_ebs.iam.request import Principal, PrincipalType

CONTEXT_KEY: Final = "aws:ebs:id"

_CREATE: Final = ("GenerateDataKeyWithoutPlaintext", "Decrypt")
"""What a blank volume needs; source: kubernetes/kubernetes issue 62171, which found these two to suffice."""

_RESTORE: Final = ("DescribeKey", *_CREATE)


class KeyUnusable(Exception):  # noqa: N818 - named for what happened
    """The key does not exist, is in the wrong state, or the caller may not use it so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """The encrypted data key of a volume or snapshot."""

    blob: str = field(repr=False)
    """In base64."""

    id: str
    """The DataEncryptionKeyId: equal for all volumes and snapshots of one lineage."""


class VolumeKeys:
    """Asks KMS for what EBS needs."""

    def __init__(self, world: World, keyring: Keyring, needs: KmsNeeds, authorizer: Authorizer) -> None:
        self._world = world
        self._store = world.store
        self._keyring = keyring
        self._needs = needs
        self._authorizer = authorizer

    @property
    def settings(self) -> EbsEncryption:
        """The account's settings for new volumes."""
        return self._store.ebs_encryption.get("account", EbsEncryption())

    @property
    def default_key(self) -> str:
        """The ARN of the key for volumes whose request names none."""
        return self.settings.key or self.managed_key

    @property
    def managed_key(self) -> str:
        """The ARN of the key aws/ebs."""
        return self._keyring.arn(EBS_KEY)

    def key_arn(self, name: str) -> str:
        """The ARN of the key that a request names by its id, ARN, alias or alias ARN, even if there is no such key."""
        if (key := self._keyring.get(name)) is not None:
            return self._keyring.arn(key.id)
        if name.startswith("arn:"):
            return name
        return self._keyring.alias_arn(name) if name.startswith("alias/") else self._keyring.arn(name)

    def is_usable(self, arn: str) -> bool:
        """Whether the key exists and is enabled."""
        key = self._keyring.get(arn)
        return key is not None and key.state == "Enabled"

    def create_data_key(self, call: Call, arn: str, owner: str, source: Snapshot | None) -> DataKey:
        """Create the data key of a volume or of a copy of a snapshot.

        Args:
            call: The call; its caller must be allowed to use the key through EC2.
            arn: The ARN of the key.
            owner: The id of the volume or the copy.
            source: The snapshot that it is made from.

        Raises:
            KeyUnusable: A key is missing or unusable, or a permission is missing.
        """
        key, context = self._find(arn), {CONTEXT_KEY: owner}
        source_key = self._find(source.key) if source and source.key else None
        try:
            self._authorizer.require(call, self._creation_needs(call, key, context, source), service="kms")
            if source_key:
                self._keyring.require_usable(source_key)
            self._keyring.require_usable(key)
        except AwsFault as fault:
            raise KeyUnusable(fault.message) from fault
        plaintext, id_ = secrets.token_bytes(64), str(uuid.uuid4())
        if source and source_key == key and source.data_key:
            plaintext, id_ = self._open(key, source.data_key, source.data_key_owner), source.data_key_id
        blob = self._keyring.materials.encrypt(key, plaintext, context)
        return DataKey(blob=base64.b64encode(blob).decode(), id=id_)

    def open_for_instance(self, call: Call, volume: Volume, instance: Instance, attachment: str) -> None:
        """Let an instance decrypt the data key of a volume, with a grant that the caller creates.

        Args:
            call: The call; its caller must be allowed to create the grant through EC2.
            volume: The volume.
            instance: The instance; for a HyperPod node, the caller must be allowed to describe the key as well.
            attachment: The id of the attachment, whose end ends the grant.

        Raises:
            AwsFault: CustomerKeyHasBeenRevoked; the key is missing or unusable, or a permission is missing.
        """
        if not volume.key:
            return
        try:
            self._open_for_instance(call, volume, instance, attachment)
        except (AwsFault, KeyUnusable) as cause:
            self.close_for_instance(attachment)
            text = f"Volume {volume.id} cannot be attached. The encrypted volume was unable to access the KMS key."
            raise AwsFault("CustomerKeyHasBeenRevoked", text) from cause

    def close_for_instance(self, attachment: str) -> None:
        """End the grant of an attachment; this needs no permission and no usable key."""
        for grant in self._store.kms_grants.where("attachment", attachment):
            self._store.kms_grants.drop(grant.id)

    def _open_for_instance(self, call: Call, volume: Volume, instance: Instance, attachment: str) -> None:
        key, context = self._find(volume.key or ""), {CONTEXT_KEY: volume.id}
        grantee = self._infrastructure(instance)
        describe = [Use(operation="DescribeKey")] if instance.cluster else []
        needs = [self._needs.on_key(key, use, context=self._via(call)) for use in describe]
        needs.append(self._grant_need(call, key, context, grantee.principal.arn))
        self._authorizer.require(call, needs, service="kms")
        self._keyring.require_usable(key)
        region = self._world.region
        self._store.kms_grants.put(
            Grant(
                id=secrets.token_hex(32),
                key=key.id,
                grantee=grantee.principal.arn,
                operations=("Decrypt",),
                context_subset=context,
                issuer=f"arn:{region.partition}:iam::{region.account}:root",
                created=now(),
                attachment=attachment,
            )
        )
        decrypt = self._needs.on_key(key, Use(operation="Decrypt", context=context), context=self._via(call))
        if not self._authorizer.allows(call, grantee, [decrypt]):
            raise KeyUnusable("the key's policy denies the instance's Decrypt")
        if volume.data_key:
            self._open(key, volume.data_key, volume.id)

    def _creation_needs(self, call: Call, key: Key, context: dict[str, str], source: Snapshot | None) -> Sequence[Need]:
        via = self._via(call)

        def uses(*operations: str) -> list[Need]:
            return [self._needs.on_key(key, Use(operation=each, context=context), context=via) for each in operations]

        if source is None:
            return uses(*_CREATE)
        if not source.key:
            return [*uses(*_RESTORE), self._grant_need(call, key, context, f"{via_ec2(self._world.region)}")]
        source_key = self._find(source.key)
        if source_key.id == key.id:
            return uses(*_RESTORE)
        from_source = Use(operation="ReEncryptFrom", context={CONTEXT_KEY: source.data_key_owner or source.volume})
        return [*uses(*_RESTORE, "ReEncryptTo"), self._needs.on_key(source_key, from_source, context=via)]

    def _grant_need(self, call: Call, key: Key, context: dict[str, str], grantee: str) -> Need:
        """The creation of a grant for an AWS resource, which allows to decrypt with the encryption context."""
        use = Use(operation="CreateGrant", context=context, operations=["Decrypt"])
        constraints = {"EncryptionContextSubset": context}
        return self._needs.new_grant(key, use, grantee, constraints, is_for_aws_resource=True, context=self._via(call))

    def _via(self, call: Call) -> ContextValues:
        """The condition keys of a call that EC2 makes for its caller; SageMaker may have called EC2."""
        services = ["ec2.amazonaws.com"]
        if call.service != "ec2":
            services.insert(0, f"{call.service}.amazonaws.com")
        return {
            "kms:ViaService": via_ec2(self._world.region),
            "aws:ViaAWSService": "true",
            "aws:CalledVia": services,
            "aws:CalledViaFirst": services[0],
            "aws:CalledViaLast": services[-1],
        }

    def _infrastructure(self, instance: Instance) -> Identity:
        """The principal with which EC2 decrypts a data key for an instance."""
        region, role = self._world.region, "aws:ec2-infrastructure"
        arn = f"arn:{region.partition}:sts::{region.account}:assumed-role/{role}/{instance.id}"
        principal = Principal(type=PrincipalType.ROLE_SESSION, arn=arn, account=region.account)
        context = {
            "aws:PrincipalArn": arn,
            "aws:PrincipalAccount": region.account,
            "aws:PrincipalType": "AssumedRole",
            "aws:userid": f"{region.account}:{role}:{instance.id}",
        }
        return Identity(principal=principal, user_id=context["aws:userid"], policies=Policies(), context=context)

    def _find(self, arn: str) -> Key:
        if (key := self._keyring.get(arn)) is None:
            raise KeyUnusable(f"{arn} does not exist")
        return key

    def _open(self, key: Key, blob: str, owner: str) -> bytes:
        try:
            return self._keyring.materials.decrypt(key, base64.b64decode(blob), {CONTEXT_KEY: owner})
        except InvalidCiphertext as error:
            raise KeyUnusable("the data key was encrypted with another key") from error
