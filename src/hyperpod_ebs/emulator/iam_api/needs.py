"""What each operation of IAM needs: actions, resources and condition keys.

Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS
Identity and Access Management".
"""

from collections.abc import Mapping, Sequence
from typing import Final

from hyperpod_ebs.emulator.iam_api.entities import SERVICE_PATH, Entities, Entity, kind_of, same_name
from hyperpod_ebs.emulator.iam_api.service_linked_roles import linked_role_name
from hyperpod_ebs.emulator.identity.authorizer import Need
from hyperpod_ebs.emulator.identity.pass_role import pass_role_need
from hyperpod_ebs.emulator.identity.tag_values import request_tags, resource_tags
from hyperpod_ebs.emulator.identity_records import Group, ManagedPolicy, OidcProvider, User
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Parameters

Values = dict[str, str | Sequence[str]]

Named = Entity | ManagedPolicy | OidcProvider

FOR_CALLER: Final = frozenset({"GetUser", "CreateAccessKey", "ListAccessKeys", "UpdateAccessKey", "DeleteAccessKey"})
"""The operations that are about the caller if they name no user; `Callers` checks what these need then."""

WITH_BOUNDARY: Final = frozenset(
    {
        *("CreateUser", "AttachUserPolicy", "DetachUserPolicy", "PutUserPolicy", "DeleteUserPolicy"),
        *("PutUserPermissionsBoundary", "DeleteUserPermissionsBoundary"),
        *("CreateRole", "AttachRolePolicy", "DetachRolePolicy", "PutRolePolicy", "DeleteRolePolicy"),
        *("PutRolePermissionsBoundary", "DeleteRolePermissionsBoundary", "GetRole", "DeleteRole"),
        *("UpdateRole", "UpdateRoleDescription", "UpdateAssumeRolePolicy"),
    }
)
"""The operations with the condition key iam:PermissionsBoundary."""

LISTS: Final[Mapping[str, str]] = {
    "ListUsers": "user",
    "ListGroups": "group",
    "ListRoles": "role",
    "ListInstanceProfiles": "instance-profile",
}
"""Operations on all objects under a path, and the kind of the objects."""

_BY_ARN: Final = ("PolicyArn", "OpenIDConnectProviderArn", "PolicySourceArn")
"""The parameters that name an object by its ARN."""


class IamNeeds:
    """Lists what calls of IAM need."""

    def __init__(self, world: World, entities: Entities) -> None:
        self._store = world.store
        self._entities = entities

    def needs(self, operation: str, parameters: Parameters) -> Sequence[Need]:
        """What a call needs: its action on the object that the request names."""
        if operation in FOR_CALLER and "UserName" not in parameters:
            return []
        resource, record = self._resource(operation, parameters)
        context = {**_tag_values(parameters, record), **_policy_values(operation, parameters, record)}
        if service := parameters.get("AWSServiceName"):
            context["iam:AWSServiceName"] = service
        needs = [Need(action=f"iam:{operation}", resource=resource, context=context)]
        if parameters.get("Tags") and operation.startswith("Create"):
            action = f"iam:Tag{operation.removeprefix('Create')}"
            needs.append(Need(action=action, resource=resource, context=_tag_values(parameters, record)))
        if target := self._new_arn(parameters, record):
            needs.append(Need(action=f"iam:{operation}", resource=target, context=context))
        if operation == "AddRoleToInstanceProfile":
            role = same_name(self._store.roles, parameters["RoleName"])
            arn = self._entities.arn(role) if role else self._entities.arn_of("role", "/", parameters["RoleName"])
            needs.append(pass_role_need(arn, "ec2.amazonaws.com", role.tags if role else None))
        return needs

    def _new_arn(self, parameters: Parameters, record: Named | None) -> str:
        """The ARN that UpdateUser or UpdateGroup gives a user or group; empty for other operations.

        Both API references: the caller needs the permission on the old and on the new name.
        """
        if not isinstance(record, User | Group):
            return ""
        kind = kind_of(record)
        name, path = parameters.get(f"New{kind.title()}Name"), parameters.get("NewPath")
        return self._entities.arn_of(kind, path or record.path, name or record.id) if name or path else ""

    def _resource(self, operation: str, parameters: Parameters) -> tuple[str, Named | None]:
        """The ARN of the object that the request names, and the object if it exists."""
        if (kind := LISTS.get(operation)) is not None:
            return self._entities.arn_of(kind, parameters.get("PathPrefix", "/"), ""), None
        if service := parameters.get("AWSServiceName"):
            return self._entities.arn_of("role", f"{SERVICE_PATH}{service}/", linked_role_name(service)), None
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
                return self._entities.arn(record) if record else self._entities.arn_of(kind, path, name), record
        return self._resource_by_arn(operation, parameters)

    def _resource_by_arn(self, operation: str, parameters: Parameters) -> tuple[str, Named | None]:
        for member in _BY_ARN:
            if (arn := parameters.get(member)) is not None:
                return arn, self._store.managed_policies.get(arn) or self._store.oidc_providers.get(arn)
        match operation:
            case "CreatePolicy":
                return self._entities.arn_of("policy", parameters.get("Path", "/"), parameters["PolicyName"]), None
            case "CreateOpenIDConnectProvider":
                issuer = parameters["Url"].partition("://")[2]
                return self._entities.arn_of("oidc-provider", "/", issuer), None
            case "GetServiceLinkedRoleDeletionStatus":
                task = parameters["DeletionTaskId"].removeprefix("task").rpartition("/")[0]
                return self._entities.arn_of("role", task, ""), None
            case _:
                return "*", None


def _tag_values(parameters: Parameters, record: Named | None) -> Values:
    """The condition keys about tags."""
    tags: Mapping[str, str] = getattr(record, "tags", {})  # groups have no tags
    new = {tag["Key"]: tag["Value"] for tag in parameters.get("Tags", [])}
    return {**resource_tags(tags, "iam"), **request_tags(new, parameters.get("TagKeys", []))}


def _policy_values(operation: str, parameters: Parameters, record: Named | None) -> Values:
    """The condition keys about managed policies: the one that is attached, and the boundary, new or set."""
    values: Values = {}
    boundary = parameters.get("PermissionsBoundary") or getattr(record, "boundary", "")
    if boundary and operation in WITH_BOUNDARY:
        values["iam:PermissionsBoundary"] = boundary
    if operation.startswith(("Attach", "Detach")):
        values["iam:PolicyARN"] = parameters["PolicyArn"]
    return values
