"""What calls of KMS need: the action on the key, with the condition keys that describe key and request.

Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS Key
Management Service"; KMS Developer Guide, "AWS KMS permissions" and "Condition keys".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.identity.compiled_policies import compiled_policy
from hyperpod_ebs.emulator.identity.identities import ContextValues
from hyperpod_ebs.emulator.identity.tag_values import request_tags, resource_tags
from hyperpod_ebs.emulator.kms import grant_rules, key_material
from hyperpod_ebs.emulator.kms.grant_rules import Use
from hyperpod_ebs.emulator.kms.keyring import Keyring
from hyperpod_ebs.emulator.kms_records import Key
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Parameters
from hyperpod_ebs.iam.decision import ResourcePolicy
from hyperpod_ebs.iam.documents import Kind
from hyperpod_ebs.iam.principals import Grant
from hyperpod_ebs.iam.request import Principal

Values = dict[str, str | Sequence[str]]

_WITHOUT_KEY: Final = frozenset({"CreateKey", "ListKeys", "ListAliases", "ListRetirableGrants"})
"""The operations for which only the caller's own policies count."""

_WITH_ALGORITHM: Final = frozenset(
    {
        *("Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext"),
        *("ReEncryptFrom", "ReEncryptTo"),
    }
)
"""The operations with the condition key kms:EncryptionAlgorithm, whose value is the only algorithm of the keys here."""

_PARTIES: Final = ("GranteePrincipal", "GranteeServicePrincipal", "RetiringPrincipal", "RetiringServicePrincipal")
"""The members of CreateGrant that are condition keys as well."""


class KmsNeeds:
    """Lists what calls of KMS need."""

    def __init__(self, world: World, keyring: Keyring) -> None:
        self._world = world
        self._keyring = keyring
        self._by_operation: Final[Mapping[str, Callable[[Parameters], Sequence[Need]]]] = {
            "CreateAlias": lambda parameters: self._on_alias("CreateAlias", parameters),
            "UpdateAlias": lambda parameters: self._on_alias("UpdateAlias", parameters),
            "DeleteAlias": lambda parameters: self._on_alias("DeleteAlias", parameters),
            "CreateGrant": self._create_grant,
            "Decrypt": self._decrypt,
            "ReEncrypt": self._re_encrypt,
            "RetireGrant": self._retire_grant,
        }

    def needs(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        """What a call needs; nothing if it names no key, so that its handler can report that."""
        if operation in _WITHOUT_KEY:
            return self._without_key(operation, parameters)
        if (needs := self._by_operation.get(operation)) is not None:
            return needs(parameters)
        name = parameters.get("KeyId", "")
        if (key := self._keyring.get(name)) is None:
            return []
        context: Values = {}
        if (days := parameters.get("PendingWindowInDays")) is not None:
            context["kms:ScheduleKeyDeletionPendingWindowInDays"] = str(days)
        if operation == "PutKeyPolicy":
            context["kms:BypassPolicyLockoutSafetyCheck"] = _bool(parameters.get("BypassPolicyLockoutSafetyCheck"))
        if operation in {"TagResource", "UntagResource"}:
            context.update(_tag_values(parameters))
        if operation in {"ListGrants", "RevokeGrant"}:
            context["kms:GrantIsForAWSResource"] = "false"
        if (period := parameters.get("RotationPeriodInDays")) is not None:
            context["kms:RotationPeriodInDays"] = str(period)
        use = Use(operation=operation, context=parameters.get("EncryptionContext", {}))
        return [self.on_key(key, use, name=name, context=context)]

    def on_key(self, key: Key, use: Use, *, name: str = "", context: ContextValues | None = None) -> Need:
        """The use of a key.

        Args:
            key: The key.
            use: What is done with the key.
            name: The key as the request names it.
            context: More condition keys.
        """
        world = self._world
        values: Values = {
            "kms:CallerAccount": world.region.account,
            "kms:KeyOrigin": "AWS_KMS",
            "kms:KeySpec": "SYMMETRIC_DEFAULT",
            "kms:KeyUsage": "ENCRYPT_DECRYPT",
            "kms:MultiRegion": "false",
            "kms:ResourceAliases": self._keyring.aliases(key),
            **{f"kms:EncryptionContext:{name}": value for name, value in use.context.items()},
            **resource_tags(key.tags),
        }
        if use.context:
            values["kms:EncryptionContextKeys"] = list(use.context)
        if use.operation in _WITH_ALGORITHM:
            values["kms:EncryptionAlgorithm"] = "SYMMETRIC_DEFAULT"
        if alias := self._keyring.alias_in(name):
            values["kms:RequestAlias"] = alias

        def grant_to(principal: Principal) -> Grant:
            return grant_rules.grant_to(principal, use, world.store.kms_grants.where("key", key.id))

        policy = compiled_policy(key.policy, Kind.RESOURCE, "key policy")
        return Need(
            action=f"kms:{use.operation}",
            resource=self._keyring.arn(key.id),
            context={**values, **(context or {})},
            policy=ResourcePolicy(policy=policy, is_required=True),
            grant_to=grant_to,
        )

    def _without_key(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        if operation != "CreateKey":
            return [Need(action=f"kms:{operation}")]
        context: Values = {
            "kms:BypassPolicyLockoutSafetyCheck": _bool(parameters.get("BypassPolicyLockoutSafetyCheck")),
            "kms:CallerAccount": self._world.region.account,
            "kms:KeyOrigin": parameters.get("Origin", "AWS_KMS"),
            "kms:KeySpec": parameters.get("KeySpec", parameters.get("CustomerMasterKeySpec", "SYMMETRIC_DEFAULT")),
            "kms:KeyUsage": parameters.get("KeyUsage", "ENCRYPT_DECRYPT"),
            "kms:MultiRegion": _bool(parameters.get("MultiRegion")),
            **_tag_values(parameters),
        }
        actions = ["CreateKey", "TagResource"] if parameters.get("Tags") else ["CreateKey"]
        return [Need(action=f"kms:{action}", context=context) for action in actions]

    def _on_alias(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        """The alias, and each key that has the alias before or after the call."""
        name, store = parameters["AliasName"], self._world.store
        needs = [Need(action=f"kms:{operation}", resource=self._keyring.alias_arn(name))]
        keys: list[Key] = []
        if operation != "CreateAlias":
            if (alias := store.kms_aliases.get(name)) is None:
                return needs
            keys.append(store.kms_keys[alias.key])
        if operation != "DeleteAlias" and (target := self._keyring.get(parameters["TargetKeyId"])):
            keys.append(target)
        return [*needs, *(self.on_key(key, Use(operation=operation)) for key in keys)]

    def _create_grant(self, parameters: Parameters) -> Sequence[Need]:
        if (key := self._keyring.get(parameters["KeyId"])) is None:
            return []
        constraints = parameters.get("Constraints", {})
        exact, subset = (constraints.get(f"EncryptionContext{kind}", {}) for kind in ("Equals", "Subset"))
        use = Use(
            operation="CreateGrant",
            context=exact or subset,
            operations=parameters["Operations"],
            is_exact=bool(exact),
        )
        parties = {name: parameters[name] for name in _PARTIES if parameters.get(name)}
        return [self.new_grant(key, use, parties, constraints)]

    def new_grant(  # noqa: PLR0913 - the condition keys of CreateGrant
        self,
        key: Key,
        use: Use,
        parties: Mapping[str, str],
        constraints: Mapping[str, object],
        *,
        is_for_aws_resource: bool = False,
        context: ContextValues | None = None,
    ) -> Need:
        """The creation of a grant.

        Args:
            key: The key.
            use: The creation, with the operations of the grant.
            parties: The grantee and the retiring principal, by the names of CreateGrant's members.
            constraints: The members of KMS's GrantConstraints.
            is_for_aws_resource: Whether a service creates the grant for its caller.
            context: More condition keys.
        """
        values: Values = {
            "kms:GrantIsForAWSResource": _bool(is_for_aws_resource),
            "kms:GrantOperations": list(use.operations),
            **{f"kms:{name}": principal for name, principal in parties.items()},
        }
        if types := [name for name in constraints if name.startswith("EncryptionContext")]:
            values["kms:GrantConstraintType"] = types[0]
        if source := constraints.get("SourceArn"):
            values["kms:GrantConstraintSourceArn"] = str(source)
        return self.on_key(key, use, context={**values, **(context or {})})

    def _decrypt(self, parameters: Parameters) -> Sequence[Need]:
        named = parameters.get("KeyId", "")
        key = self._keyring.get(named) or self._key_of(parameters.get("CiphertextBlob", b""))
        if key is None:
            return []
        return [self.on_key(key, Use(operation="Decrypt", context=_context(parameters, "")), name=named)]

    def _re_encrypt(self, parameters: Parameters) -> Sequence[Need]:
        names = parameters.get("SourceKeyId", ""), parameters["DestinationKeyId"]
        source = self._keyring.get(names[0]) or self._key_of(parameters.get("CiphertextBlob", b""))
        destination = self._keyring.get(names[1])
        if source is None or destination is None:
            return []
        uses = (
            Use(operation="ReEncryptFrom", context=_context(parameters, "Source")),
            Use(operation="ReEncryptTo", context=_context(parameters, "Destination")),
        )
        same: Values = {"kms:ReEncryptOnSameKey": _bool(source.id == destination.id)}
        return [
            self.on_key(key, use, name=name, context=same)
            for key, use, name in zip((source, destination), uses, names, strict=True)
        ]

    def _retire_grant(self, parameters: Parameters) -> Sequence[Need]:
        """The retirement of a grant, about which the grant and IAM policies decide, but not the key policy.

        Source: KMS Developer Guide, "Retiring and revoking grants".
        """
        store = self._world.store
        token = parameters.get("GrantToken", "")
        grant_id = self._keyring.materials.grant_id_of(token) if token else parameters.get("GrantId")
        if (grant := store.kms_grants.get(grant_id or "")) is None:
            return []
        use = Use(operation="RetireGrant", context=grant.context_equals or grant.context_subset)
        kinds = [kind for kind in grant_rules.constraint(grant) if kind.startswith("EncryptionContext")]
        values: Values = {"kms:GrantConstraintType": kinds[0]} if kinds else {}

        def grant_to(principal: Principal) -> Grant:
            return grant_rules.grant_to(principal, use, [grant])

        need = self.on_key(store.kms_keys[grant.key], use, context=values)
        return [replace(need, grant_to=grant_to, policy=None)]

    def _key_of(self, blob: bytes) -> Key | None:
        return self._world.store.kms_keys.get(key_material.key_id_of(blob) or "")


def _context(parameters: Parameters, prefix: str) -> Mapping[str, str]:
    context: Mapping[str, str] = parameters.get(f"{prefix}EncryptionContext", {})
    return context


def _tag_values(parameters: Parameters) -> Values:
    tags = {tag["TagKey"]: tag["TagValue"] for tag in parameters.get("Tags", [])}
    return request_tags(tags, parameters.get("TagKeys", []))


def _bool(value: object) -> str:
    return "true" if value else "false"
