"""What each operation of IAM needs: actions, resources and condition keys.

Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS
Identity and Access Management".
"""

from collections.abc import Mapping, Sequence
from typing import Final

from hyperpod_ebs.emulator.iam_api.entities import Entities, Entity, same_name
from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.identity_records import Tags
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Parameters

Values = dict[str, str | Sequence[str]]

FOR_CALLER: Final = frozenset({"GetUser", "CreateAccessKey", "ListAccessKeys", "UpdateAccessKey", "DeleteAccessKey"})
"""The operations that are about the caller if they name no user; `Callers` checks what these need then."""

WITHOUT_RESOURCE: Final = frozenset(
    {
        "GetAccountAuthorizationDetails",
        "GetAccountSummary",
        "GetContextKeysForCustomPolicy",
        "ListOpenIDConnectProviders",
        "ListPolicies",
        "SimulateCustomPolicy",
    }
)

LISTS: Final[Mapping[str, str]] = {
    "ListUsers": "user",
    "ListGroups": "group",
    "ListRoles": "role",
    "ListInstanceProfiles": "instance-profile",
}
"""Operations on all objects under a path, and the kind of the objects."""


class IamNeeds:
    """Lists what calls of IAM need."""

    def __init__(self, world: World, entities: Entities) -> None:
        self._store = world.store
        self._entities = entities

    def needs(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        """What a call needs: its action on the object that the request names."""
        if operation in FOR_CALLER and "UserName" not in parameters:
            return []
        resource, tags = self._resource(operation, parameters)
        context: Values = {}
        for key, value in tags.items():
            context[f"aws:ResourceTag/{key}"] = context[f"iam:ResourceTag/{key}"] = value
        if new := parameters.get("Tags"):
            context.update({f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in new})
        if keys := [tag["Key"] for tag in parameters.get("Tags", [])] or parameters.get("TagKeys"):
            context["aws:TagKeys"] = keys
        context.update(self._policy_values(parameters))
        return [Need(action=f"iam:{operation}", resource=resource, context=context)]

    def _resource(self, operation: str, parameters: Parameters) -> tuple[str, Tags]:
        """The ARN of the object that the request names, and the object's tags."""
        if operation in WITHOUT_RESOURCE:
            return "*", {}
        if (kind := LISTS.get(operation)) is not None:
            return self._entities.arn_of(kind, parameters.get("PathPrefix", "/"), ""), {}
        path, store = parameters.get("Path", "/"), self._store
        kinds: Sequence[tuple[str, str, Mapping[str, Entity]]] = (
            ("InstanceProfileName", "instance-profile", store.instance_profiles),
            ("GroupName", "group", store.groups),
            ("RoleName", "role", store.roles),
            ("UserName", "user", store.users),
        )
        for member, kind, records in kinds:
            if (name := parameters.get(member)) is not None:
                record = same_name(records, name)
                tags: Tags = getattr(record, "tags", {})
                arn = self._entities.arn_of(kind, record.path if record else path, record.id if record else name)
                return arn, tags
        return "*", {}

    def _policy_values(self, parameters: Parameters) -> Values:
        """The condition keys about managed policies."""
        values: Values = {}
        if (boundary := parameters.get("PermissionsBoundary")) is not None:
            values["iam:PermissionsBoundary"] = boundary
        return values
