"""CreateGrant, ListGrants, ListRetirableGrants, RetireGrant and RevokeGrant.

Grants count at once here, while AWS may need some minutes for a grant without its token.
"""

import re
import secrets
from dataclasses import dataclass, replace
from typing import Any, Final

from hyperpod_ebs.emulator.identity import known_principals
from hyperpod_ebs.emulator.kms import grant_rules, pages
from hyperpod_ebs.emulator.kms.keyring import Keyring
from hyperpod_ebs.emulator.kms.refusals import refuse_dry_run
from hyperpod_ebs.emulator.kms_records import Grant, Key
from hyperpod_ebs.emulator.state.world import World, now, to_datetime
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

MAX_GRANTS: Final = 50_000
"""The quota "Grants per KMS key"."""

_PRINCIPAL: Final = re.compile(
    r"arn:[a-z-]+:(iam|sts)::\d{12}:(root|(user|role|assumed-role|federated-user)/.+)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Grants:
    """The operations on grants."""

    world: World
    keyring: Keyring

    operations = Operations["Grants"]()

    @operations("CreateGrant")
    async def create(self, parameters: Parameters, call: Call) -> Answer:
        """Allow a principal to use a key; the same request with a Name gets the same grant again."""
        key = self.keyring.find(parameters["KeyId"], call, by_alias=False)
        self.keyring.check_tokens(parameters)
        self.keyring.require_usable(key)
        grant = self._new_grant(key, parameters)
        present = self.world.store.kms_grants.where("key", key.id)
        same = [other for other in present if grant.name and _is_repeat(other, grant)]
        if not same and len(present) >= MAX_GRANTS:
            raise AwsFault("LimitExceededException", f"{self.keyring.arn(key.id)} has {MAX_GRANTS} grants already.")
        refuse_dry_run(parameters)
        grant = same[0] if same else self.world.store.kms_grants.put(grant)
        return await self.world.acknowledge(
            {"GrantId": grant.id, "GrantToken": self.keyring.materials.grant_token(grant.id)}
        )

    @operations("ListGrants")
    async def list_grants(self, parameters: Parameters, call: Call) -> Answer:
        """List the grants of a key, or those of one grantee."""
        key = self.keyring.find(parameters["KeyId"], call, by_alias=False)
        grants = self.world.store.kms_grants.where("key", key.id)
        if (id_ := parameters.get("GrantId")) is not None:
            grants = [grant for grant in grants if grant.id == id_]
            if not grants:
                raise _unknown_grant()
        if grantee := parameters.get("GranteePrincipal") or parameters.get("GranteeServicePrincipal"):
            grants = [grant for grant in grants if grant.grantee == grantee]
        return await self._page(grants, parameters)

    @operations("ListRetirableGrants")
    async def list_retirable_grants(self, parameters: Parameters, _: Call) -> Answer:
        """List the grants that a principal may retire."""
        retiree = parameters.get("RetiringPrincipal") or parameters.get("RetiringServicePrincipal")
        if not retiree:
            raise _invalid("Either RetiringPrincipal or RetiringServicePrincipal is required")
        if "RetiringPrincipal" in parameters and not _PRINCIPAL.fullmatch(retiree):
            raise _invalid_principal(retiree)
        return await self._page(
            [grant for grant in self.world.store.kms_grants.values() if grant.retiree == retiree], parameters
        )

    @operations("RetireGrant")
    async def retire(self, parameters: Parameters, call: Call) -> Answer:
        """End a grant, named by a token, or by its key and id."""
        grant = self._grant_to_retire(parameters, call)
        refuse_dry_run(parameters)
        self.world.store.kms_grants.drop(grant.id)
        return await self.world.acknowledge({})

    @operations("RevokeGrant")
    async def revoke(self, parameters: Parameters, call: Call) -> Answer:
        """End a grant; what needs the grant fails from now on."""
        key = self.keyring.find(parameters["KeyId"], call, by_alias=False)
        grant = self._find(key, parameters["GrantId"])
        refuse_dry_run(parameters)
        self.world.store.kms_grants.drop(grant.id)
        return await self.world.acknowledge({})

    def _new_grant(self, key: Key, parameters: Parameters) -> Grant:
        constraints = parameters.get("Constraints", {})
        region = self.world.region
        grant = Grant(
            id=secrets.token_hex(32),
            key=key.id,
            grantee=self._grantee(parameters),
            retiree=self._retiree(parameters),
            operations=tuple(dict.fromkeys(parameters["Operations"])),
            context_subset=constraints.get("EncryptionContextSubset", {}),
            context_equals=constraints.get("EncryptionContextEquals", {}),
            source_arn=constraints.get("SourceArn", ""),
            name=parameters.get("Name", ""),
            issuer=f"arn:{region.partition}:iam::{region.account}:root",
            created=now(),
        )
        if not grant.operations:
            raise _invalid("Operations must not be empty")
        if others := [each for each in grant.operations if each not in grant_rules.OPERATIONS]:
            raise _invalid(f"The grant operation {others[0]} is not supported for a key of the spec SYMMETRIC_DEFAULT")
        if grant.context_subset and grant.context_equals:
            raise _invalid("Only one of EncryptionContextSubset and EncryptionContextEquals is allowed")
        if "GranteeServicePrincipal" in parameters and not (grant.source_arn and grant.retiree):
            raise _invalid("GranteeServicePrincipal requires the constraint SourceArn and a retiring principal")
        return grant

    def _grantee(self, parameters: Parameters) -> str:
        principal, service = parameters.get("GranteePrincipal"), parameters.get("GranteeServicePrincipal")
        if bool(principal) == bool(service):
            raise _invalid("Exactly one of GranteePrincipal and GranteeServicePrincipal is required")
        if principal:
            self._check_principal(principal)
        return str(principal or service)

    def _retiree(self, parameters: Parameters) -> str:
        principal, service = parameters.get("RetiringPrincipal"), parameters.get("RetiringServicePrincipal")
        if principal and service:
            raise _invalid("Only one of RetiringPrincipal and RetiringServicePrincipal is allowed")
        if principal:
            self._check_principal(principal)
        return principal or service or ""

    def _check_principal(self, arn: str) -> None:
        """Refuse a principal that cannot have a grant or does not exist.

        Raises:
            AwsFault: InvalidArnException.
        """
        if not _PRINCIPAL.fullmatch(arn) or not known_principals.is_known(arn, self.world.store, self.world.region):
            raise _invalid_principal(arn)

    def _grant_to_retire(self, parameters: Parameters, call: Call) -> Grant:
        if (token := parameters.get("GrantToken")) is None:
            if "KeyId" not in parameters or "GrantId" not in parameters:
                raise _invalid("Either GrantToken, or KeyId and GrantId are required")
            return self._find(self.keyring.find(parameters["KeyId"], call, by_alias=False), parameters["GrantId"])
        if "KeyId" in parameters or "GrantId" in parameters:
            raise _invalid("GrantToken cannot be used with KeyId or GrantId")
        if (id_ := self.keyring.materials.grant_id_of(token)) is None:
            raise AwsFault("InvalidGrantTokenException", "Invalid grant token")
        if (grant := self.world.store.kms_grants.get(id_)) is None:
            raise AwsFault("NotFoundException", f"Grant {id_} is not found.")
        return grant

    def _find(self, key: Key, id_: str) -> Grant:
        grant = self.world.store.kms_grants.get(id_)
        if grant is None or grant.key != key.id:
            raise AwsFault("NotFoundException", f"Grant {id_} is not found.")
        return grant

    async def _page(self, grants: list[Grant], parameters: Parameters) -> Answer:
        listed, more = pages.page(grants, parameters, default=50)
        return await self.world.acknowledge({"Grants": [self._members(grant) for grant in listed], **more})

    def _members(self, grant: Grant) -> dict[str, Any]:  # the members of KMS's GrantListEntry
        is_service = _is_service(grant.grantee)
        retiree = "RetiringServicePrincipal" if _is_service(grant.retiree) else "RetiringPrincipal"
        return {
            "KeyId": self.keyring.arn(grant.key),
            "GrantId": grant.id,
            "Name": grant.name or None,
            "CreationDate": to_datetime(grant.created),
            "GranteeServicePrincipal" if is_service else "GranteePrincipal": grant.grantee,
            retiree: grant.retiree or None,
            "IssuingAccount": grant.issuer,
            "Operations": list(grant.operations),
            "Constraints": grant_rules.constraint(grant) or None,
        }


def _is_repeat(grant: Grant, other: Grant) -> bool:
    """Whether the same request created both grants."""
    return replace(grant, id="", created=0.0) == replace(other, id="", created=0.0)


def _is_service(name: str) -> bool:
    """Whether the name is a service's host, not the ARN of a user or role or the unique id of a deleted one."""
    return "." in name and not name.startswith("arn:")


def _invalid_principal(arn: str) -> AwsFault:
    return AwsFault("InvalidArnException", f"ARN does not refer to a valid principal: {arn}")


def _invalid(text: str) -> AwsFault:
    return AwsFault("ValidationException", text)


def _unknown_grant() -> AwsFault:
    return AwsFault("InvalidGrantIdException", "The grant id is not valid.")
