"""The KMS keys of the volumes that HyperPod clusters create for their nodes.

SageMaker uses such a key as the execution role of the instance group, through itself
(`kms:ViaService`) and without an encryption context. Source: SageMaker Developer Guide,
"Customer managed AWS KMS key encryption for SageMaker HyperPod".
"""

import base64
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hyperpod_ebs.emulator.identity.authorizer import Authorizer, Need
from hyperpod_ebs.emulator.kms.ebs_needs import CONTEXT_KEY
from hyperpod_ebs.emulator.kms.ec2_infrastructure import infrastructure_identity
from hyperpod_ebs.emulator.kms.grant_rules import Use
from hyperpod_ebs.emulator.kms.keyring import Keyring
from hyperpod_ebs.emulator.kms.needs import KmsNeeds
from hyperpod_ebs.emulator.kms.volume_keys import KeyAccessDenied, KeyUnusable
from hyperpod_ebs.emulator.kms_records import Grant, Key
from hyperpod_ebs.emulator.records import Instance, Volume, attachment_id
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.wire.operations import AwsFault, Call

_SESSION: Final = "SageMaker"
"""The name of the sessions in which SageMaker acts as an execution role."""

_OPERATIONS: Final = ("Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext")
"""What the grant for a volume allows."""


@dataclass(frozen=True, slots=True)
class ClusterKeys:
    """Asks KMS for what SageMaker needs."""

    world: World
    keyring: Keyring
    needs: KmsNeeds
    authorizer: Authorizer

    def require_usable(self, call: Call, name: str, role: str) -> None:
        """Check that SageMaker can use a key.

        Args:
            call: The call that makes SageMaker create volumes.
            name: The key as the storage configuration names it.
            role: The ARN of the execution role.

        Raises:
            KeyUnusable: The key is missing or unusable, or the role lacks a permission.
        """
        key = self._find(name)
        try:
            self.keyring.require_usable(key)
        except AwsFault as fault:
            raise KeyUnusable(fault.message) from fault
        if not self.authorizer.allows_role(call, role, _SESSION, self._needs(key)):
            raise KeyAccessDenied(f"{role} lacks kms:CreateGrant or kms:DescribeKey on {self.keyring.arn(key.id)}")

    def with_data_key(self, volume: Volume, name: str) -> Volume:
        """The volume with a data key under the named key."""
        key = self._find(name)
        blob = self.keyring.materials.encrypt(key, secrets.token_bytes(64), {CONTEXT_KEY: volume.id})
        return replace(
            volume,
            encrypted=True,
            key=self.keyring.arn(key.id),
            data_key=base64.b64encode(blob).decode(),
            data_key_id=str(uuid.uuid4()),
        )

    def grant(self, volume: Volume, node: Instance) -> None:
        """Store the grant with which the node decrypts the volume; the end of the attachment ends it."""
        region = self.world.region
        self.world.store.kms_grants.put(
            Grant(
                id=secrets.token_hex(32),
                key=self._find(volume.key or "").id,
                grantee=infrastructure_identity(region, node).principal.arn,
                operations=_OPERATIONS,
                issuer=f"arn:{region.partition}:iam::{region.account}:root",
                created=now(),
                attachment=attachment_id(volume.id, node.id),
            )
        )

    def _find(self, name: str) -> Key:
        if (key := self.keyring.get(name)) is None:
            raise KeyUnusable(f"{name} does not exist")
        return key

    def _needs(self, key: Key) -> Sequence[Need]:
        service = "sagemaker.amazonaws.com"
        via = {
            "kms:ViaService": f"sagemaker.{self.world.region.name}.amazonaws.com",
            "aws:ViaAWSService": "true",
            "aws:CalledVia": [service],
            "aws:CalledViaFirst": service,
            "aws:CalledViaLast": service,
        }
        describe, create = Use(operation="DescribeKey"), Use(operation="CreateGrant", operations=_OPERATIONS)
        return [
            self.needs.on_key(key, describe, context=via),
            self.needs.new_grant(key, create, {"GranteePrincipal": service}, {}, is_for_aws_resource=True, context=via),
        ]
