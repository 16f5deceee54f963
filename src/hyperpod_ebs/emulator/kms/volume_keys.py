"""The data keys of encrypted volumes and snapshots, and access to them for instances.

The caller's permissions decide, as `EbsNeeds` lists them.
"""

import base64
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hyperpod_ebs.emulator.identity.authorizer import Authorizer, Need
from hyperpod_ebs.emulator.kms.ebs_needs import CONTEXT_KEY, EbsNeeds
from hyperpod_ebs.emulator.kms.ec2_infrastructure import infrastructure_identity
from hyperpod_ebs.emulator.kms.key_material import InvalidCiphertext
from hyperpod_ebs.emulator.kms.keyring import EBS_KEY, Keyring
from hyperpod_ebs.emulator.kms_records import EbsEncryption, Grant, Key
from hyperpod_ebs.emulator.records import Instance, Snapshot, Volume
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.wire.operations import AwsFault, Call


class KeyUnusable(Exception):  # noqa: N818 - named for what happened
    """The key does not exist, is in the wrong state, or the caller may not use it so."""


class KeyAccessDenied(KeyUnusable):
    """The caller may not use the key so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """The encrypted data key of a volume or snapshot."""

    blob: str = field(repr=False)
    """In base64."""

    id: str
    """The DataEncryptionKeyId: equal for all volumes and snapshots of one lineage."""


_Lister = Callable[[Call, Key, str, Snapshot | None, Key | None], Sequence[Need]]
"""Lists what a new data key needs in KMS."""


class VolumeKeys:
    """Asks KMS for what EBS needs."""

    def __init__(self, world: World, keyring: Keyring, needs: EbsNeeds, authorizer: Authorizer) -> None:
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

    def create_data_key(self, call: Call, arn: str, volume: str, source: Snapshot | None) -> DataKey:
        """Create the data key of a volume.

        Args:
            call: The call; its caller must be allowed to use the key through EC2.
            arn: The ARN of the key.
            volume: The id of the volume.
            source: The snapshot that it is made from; None for a blank volume.

        Raises:
            KeyUnusable: A key is missing or unusable, or a permission is missing.
        """
        return self._create_data_key(call, arn, volume, source, self._needs.volume_needs)

    def copy_data_key(self, call: Call, arn: str, copy: str, source: Snapshot) -> DataKey:
        """Create the data key of a copy of a snapshot; the arguments are those of `create_data_key`.

        Raises:
            KeyUnusable: A key is missing or unusable, or a permission is missing.
        """
        return self._create_data_key(call, arn, copy, source, self._needs.copy_needs)

    def open_for_instance(self, call: Call, volume: Volume, instance: Instance, attachment: str) -> None:
        """Let an instance decrypt the data key of a volume, with a grant that the caller creates.

        The grant replaces that of an earlier start of the instance.

        Args:
            call: The call; its caller must be allowed to create the grant through EC2.
            volume: The volume.
            instance: The instance; for a HyperPod node, the caller must be allowed to describe the key as well.
            attachment: The id of the attachment, whose end ends the grant.

        Raises:
            KeyUnusable: The key is missing or unusable, or a permission is missing.
        """
        if not volume.key:
            return
        self.close_for_instance(attachment)
        try:
            self._open_for_instance(call, volume, instance, attachment)
        except KeyUnusable:
            self.close_for_instance(attachment)
            raise

    def close_for_instance(self, attachment: str) -> None:
        """End the grant of an attachment; this needs no permission and no usable key."""
        for grant in self._store.kms_grants.where("attachment", attachment):
            self._store.kms_grants.drop(grant.id)

    def _create_data_key(self, call: Call, arn: str, owner: str, source: Snapshot | None, needs: _Lister) -> DataKey:
        key, context = self._find(arn), {CONTEXT_KEY: owner}
        source_key = self._find(source.key) if source and source.key else None
        self._require(call, needs(call, key, owner, source, source_key))
        self._require_usable(key)
        if source_key:
            self._require_usable(source_key)
        plaintext, id_ = secrets.token_bytes(64), str(uuid.uuid4())
        if source and source_key == key and source.data_key:
            plaintext, id_ = self._open(key, source.data_key, source.data_key_owner), source.data_key_id
        blob = self._keyring.materials.encrypt(key, plaintext, context)
        return DataKey(blob=base64.b64encode(blob).decode(), id=id_)

    def _open_for_instance(self, call: Call, volume: Volume, instance: Instance, attachment: str) -> None:
        key, grantee = self._find(volume.key or ""), infrastructure_identity(self._world.region, instance)
        self._require(call, self._needs.attachment_needs(call, key, volume.id, instance, grantee.principal.arn))
        self._require_usable(key)
        region = self._world.region
        self._store.kms_grants.put(
            Grant(
                id=secrets.token_hex(32),
                key=key.id,
                grantee=grantee.principal.arn,
                operations=("Decrypt",),
                context_subset={CONTEXT_KEY: volume.id},
                issuer=f"arn:{region.partition}:iam::{region.account}:root",
                created=now(),
                attachment=attachment,
            )
        )
        if not self._authorizer.allows(call, grantee, self._needs.instance_needs(call, key, volume.id)):
            raise KeyAccessDenied("the key's policy denies the instance's Decrypt")
        if volume.data_key:
            self._open(key, volume.data_key, volume.id)

    def _require(self, call: Call, needs: Sequence[Need]) -> None:
        try:
            self._authorizer.require(call, needs, service="kms")
        except AwsFault as fault:
            raise KeyAccessDenied(fault.message) from fault

    def _require_usable(self, key: Key) -> None:
        try:
            self._keyring.require_usable(key)
        except AwsFault as fault:
            raise KeyUnusable(fault.message) from fault

    def _find(self, arn: str) -> Key:
        if (key := self._keyring.get(arn)) is None:
            raise KeyUnusable(f"{arn} does not exist")
        return key

    def _open(self, key: Key, blob: str, owner: str) -> bytes:
        try:
            return self._keyring.materials.decrypt(key, base64.b64decode(blob), {CONTEXT_KEY: owner})
        except InvalidCiphertext as error:
            raise KeyUnusable("the data key was encrypted with another key") from error
