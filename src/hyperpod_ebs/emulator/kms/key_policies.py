"""PutKeyPolicy, GetKeyPolicy and ListKeyPolicies, and the check that a policy does not lock its author out."""

from dataclasses import dataclass, replace

from hyperpod_ebs.emulator.identity.authorizer import Authorizer
from hyperpod_ebs.emulator.kms import policy_documents
from hyperpod_ebs.emulator.kms.grant_rules import Use
from hyperpod_ebs.emulator.kms.keyring import Keyring
from hyperpod_ebs.emulator.kms.needs import KmsNeeds
from hyperpod_ebs.emulator.kms_records import Key
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters


@dataclass(frozen=True, slots=True)
class PolicyCheck:
    """The check of a new key policy."""

    world: World
    needs: KmsNeeds
    authorizer: Authorizer

    def check(self, key: Key, parameters: Parameters, call: Call) -> None:
        """Check the policy that `key` is to have.

        Raises:
            AwsFault: The document is not a key policy, or the caller could not change it later and does not bypass
                this check (KMS API reference, PutKeyPolicy, BypassPolicyLockoutSafetyCheck).
        """
        policy_documents.parse(key.policy, self.world.store, self.world.region)
        if parameters.get("BypassPolicyLockoutSafetyCheck"):
            return
        try:
            self.authorizer.require(call, [self.needs.on_key(key, Use(operation="PutKeyPolicy"))])
        except AwsFault as denial:
            text = "The new key policy will not allow you to update the key policy in the future."
            raise policy_documents.malformed_policy_error(text) from denial


@dataclass(frozen=True, slots=True)
class KeyPolicies:
    """The operations on key policies."""

    world: World
    keyring: Keyring
    policy_check: PolicyCheck

    operations = Operations["KeyPolicies"]()

    @operations("PutKeyPolicy")
    async def put(self, parameters: Parameters, call: Call) -> Answer:
        """Replace the key's policy."""
        key = self._find(parameters, call)
        self.keyring.require_customer_key(key)
        changed = replace(key, policy=parameters["Policy"])
        self.policy_check.check(changed, parameters, call)
        self.world.store.kms_keys.put(changed)
        return await self.world.acknowledge({})

    @operations("GetKeyPolicy")
    async def get(self, parameters: Parameters, call: Call) -> Answer:
        """The key's policy."""
        key = self._find(parameters, call)
        return await self.world.acknowledge({"Policy": key.policy, "PolicyName": policy_documents.NAME})

    @operations("ListKeyPolicies")
    async def list_policies(self, parameters: Parameters, call: Call) -> Answer:
        """The names of the key's policies, which is one."""
        self._find(parameters, call)
        return await self.world.acknowledge({"PolicyNames": [policy_documents.NAME], "Truncated": False})

    def _find(self, parameters: Parameters, call: Call) -> Key:
        key = self.keyring.find(parameters["KeyId"], call, by_alias=False)
        if parameters.get("PolicyName", policy_documents.NAME) != policy_documents.NAME:
            raise AwsFault("NotFoundException", "No such policy exists")
        return key
