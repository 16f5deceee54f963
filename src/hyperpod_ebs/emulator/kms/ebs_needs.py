"""The permissions of its caller that EBS uses in KMS.

EBS calls KMS with the caller's permissions, through EC2 (`kms:ViaService`), and with the id of
the volume or snapshot in the encryption context (`aws:ebs:id`). Sources: Amazon EBS User
Guide, "How Amazon EBS encryption works" and "Copy an Amazon EBS snapshot"; KMS Developer
Guide, "How Amazon Elastic Block Store uses AWS KMS".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.identity.identities import ContextValues
from hyperpod_ebs.emulator.kms.grant_rules import Use
from hyperpod_ebs.emulator.kms.needs import KmsNeeds
from hyperpod_ebs.emulator.kms.policy_documents import via_ec2
from hyperpod_ebs.emulator.kms_records import Key
from hyperpod_ebs.emulator.records import Instance, Snapshot
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Call

CONTEXT_KEY: Final = "aws:ebs:id"

_BLANK: Final = ("GenerateDataKeyWithoutPlaintext", "Decrypt")
"""What a blank volume needs; source: kubernetes/kubernetes issue 62171, which found these two to suffice."""

_RESTORE: Final = ("DescribeKey", *_BLANK)

_COPY: Final = (*_RESTORE, "GenerateDataKey")


@dataclass(frozen=True, slots=True)
class EbsNeeds:
    """Lists what calls of EC2 need in KMS."""

    world: World
    needs: KmsNeeds

    def volume_needs(
        self, call: Call, key: Key, volume: str, source: Snapshot | None, source_key: Key | None
    ) -> Sequence[Need]:
        """What a new volume under `key` needs; it is blank without a source, whose key is None if it is plain."""
        if source is None:
            return self._uses(call, key, volume, _BLANK)
        if source_key is None:
            return [*self._uses(call, key, volume, _RESTORE), self._grant_to_ec2(call, key, volume)]
        if source_key.id == key.id:
            return self._uses(call, key, volume, _RESTORE)
        return [*self._uses(call, key, volume, _RESTORE), *self._re_encryption(call, key, volume, source, source_key)]

    def copy_needs(
        self, call: Call, key: Key, copy: str, source: Snapshot | None, source_key: Key | None
    ) -> Sequence[Need]:
        """What the copy of a snapshot under `key` needs; the key of the source is None if it is plain."""
        needs = [*self._uses(call, key, copy, _COPY), self._grant_to_ec2(call, key, copy)]
        if source and source_key:
            needs += self._re_encryption(call, key, copy, source, source_key)
        return needs

    def attachment_needs(self, call: Call, key: Key, volume: str, instance: Instance, grantee: str) -> Sequence[Need]:
        """What an attachment needs: a grant for the instance; for a HyperPod node, a description of the key as well."""
        describe = [self.needs.on_key(key, Use(operation="DescribeKey"), context=self._via(call))]
        return [*(describe if instance.cluster else []), self._grant(call, key, volume, grantee)]

    def instance_needs(self, call: Call, key: Key, volume: str) -> Sequence[Need]:
        """What the instance needs, which has the grant."""
        return self._uses(call, key, volume, ["Decrypt"])

    def _uses(self, call: Call, key: Key, owner: str, operations: Sequence[str]) -> Sequence[Need]:
        context, via = {CONTEXT_KEY: owner}, self._via(call)
        return [self.needs.on_key(key, Use(operation=each, context=context), context=via) for each in operations]

    def _re_encryption(self, call: Call, key: Key, owner: str, source: Snapshot, source_key: Key) -> Sequence[Need]:
        return [
            *self._uses(call, key, owner, ["ReEncryptTo"]),
            *self._uses(call, source_key, source.data_key_owner or source.volume, ["ReEncryptFrom"]),
        ]

    def _grant_to_ec2(self, call: Call, key: Key, owner: str) -> Need:
        return self._grant(call, key, owner, via_ec2(self.world.region))

    def _grant(self, call: Call, key: Key, owner: str, grantee: str) -> Need:
        """The creation of a grant for an AWS resource, which allows to decrypt with the encryption context."""
        context = {CONTEXT_KEY: owner}
        use = Use(operation="CreateGrant", context=context, operations=["Decrypt"])
        constraints = {"EncryptionContextSubset": context}
        parties, via = {"GranteePrincipal": grantee}, self._via(call)
        return self.needs.new_grant(key, use, parties, constraints, is_for_aws_resource=True, context=via)

    def _via(self, call: Call) -> ContextValues:
        """The condition keys of a call that EC2 makes for its caller; SageMaker may have called EC2."""
        services = ["ec2.amazonaws.com"]
        if call.service != "ec2":
            services.insert(0, f"{call.service}.amazonaws.com")
        return {
            "kms:ViaService": via_ec2(self.world.region),
            "aws:ViaAWSService": "true",
            "aws:CalledVia": services,
            "aws:CalledViaFirst": services[0],
            "aws:CalledViaLast": services[-1],
        }
