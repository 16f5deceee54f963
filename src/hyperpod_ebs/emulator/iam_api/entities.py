"""The objects of IAM: found by name, and shown as answers have them.

Names are unique without regard to case (IAM User Guide, "IAM and AWS STS quotas").
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from hyperpod_ebs.emulator.iam_api import documents, faults
from hyperpod_ebs.emulator.identity_records import Group, InstanceProfile, Role, User
from hyperpod_ebs.emulator.state.store import Record
from hyperpod_ebs.emulator.state.world import World, tag_list, to_datetime
from hyperpod_ebs.emulator.wire.operations import AwsFault, Parameters

SERVICE_PATH: Final = "/aws-service-role/"
"""The start of the paths of service-linked roles."""

Owner = User | Group | Role
"""An object that has policies."""

Entity = Owner | InstanceProfile
"""An object with a name and a path."""

R = TypeVar("R", bound=Record)


def same_name(records: Mapping[str, R], name: str) -> R | None:
    """The record with this name, without regard to case; None if there is none."""
    if (record := records.get(name)) is not None:
        return record
    lower = name.lower()
    return next((each for id_, each in records.items() if id_.lower() == lower), None)


class Entities:
    """Finds and shows the objects of IAM of one account."""

    def __init__(self, world: World) -> None:
        self._region = world.region
        self._store = world.store

    def user(self, name: str) -> User:
        """The user with this name.

        Raises:
            AwsFault: NoSuchEntity.
        """
        return _require(self._store.users, name, "user")

    def group(self, name: str) -> Group:
        """The group with this name.

        Raises:
            AwsFault: NoSuchEntity.
        """
        return _require(self._store.groups, name, "group")

    def role(self, name: str) -> Role:
        """The role with this name.

        Raises:
            AwsFault: NoSuchEntity.
        """
        return _require(self._store.roles, name, "role")

    def profile(self, name: str) -> InstanceProfile:
        """The instance profile with this name.

        Raises:
            AwsFault: NoSuchEntity.
        """
        if (profile := same_name(self._store.instance_profiles, name)) is None:
            raise faults.no_such_entity(f"Instance Profile {name} cannot be found.")
        return profile

    def owner(self, parameters: Parameters) -> Owner:
        """The user, group or role that a request names.

        Raises:
            AwsFault: NoSuchEntity.
        """
        if "UserName" in parameters:
            return self.user(parameters["UserName"])
        if "GroupName" in parameters:
            return self.group(parameters["GroupName"])
        return self.role(parameters["RoleName"])

    def modifiable_owner(self, parameters: Parameters) -> Owner:
        """The user, group or role that a request changes.

        Raises:
            AwsFault: NoSuchEntity, or UnmodifiableEntity for a service-linked role.
        """
        owner = self.owner(parameters)
        if isinstance(owner, Role):
            require_modifiable(owner)
        return owner

    def put_owner(self, owner: Owner) -> None:
        """Store a user, group or role that has changed."""
        match owner:
            case User():
                self._store.users.put(owner)
            case Group():
                self._store.groups.put(owner)
            case Role():
                self._store.roles.put(owner)

    def arn(self, record: Entity) -> str:
        """The ARN of a user, group, role or instance profile."""
        return self.arn_of(_ARN_TYPES[type(record)], record.path, record.id)

    def arn_of(self, kind: str, path: str, name: str) -> str:
        """The ARN of an object of this kind; kinds are user, group, role, policy and the like."""
        return f"arn:{self._region.partition}:iam::{self._region.account}:{kind}{path}{name}"

    def user_members(self, user: User, *, listed: bool = False) -> Mapping[str, Any]:  # Any: the members of a User
        """A user as answers show it; lists leave out the boundary and the tags."""
        members: dict[str, Any] = {  # Any: the members of a User
            "Path": user.path,
            "UserName": user.id,
            "UserId": user.unique_id,
            "Arn": self.arn(user),
            "CreateDate": to_datetime(user.created),
        }
        if not listed:
            members |= {"PermissionsBoundary": boundary_members(user.boundary), "Tags": tag_list(user.tags)}
        return members

    def role_members(self, role: Role, *, listed: bool = False) -> Mapping[str, Any]:  # Any: the members of a Role
        """A role as answers show it; lists leave out the boundary, the tags and the last use."""
        members: dict[str, Any] = {  # Any: the members of a Role
            "Path": role.path,
            "RoleName": role.id,
            "RoleId": role.unique_id,
            "Arn": self.arn(role),
            "CreateDate": to_datetime(role.created),
            "AssumeRolePolicyDocument": documents.url_encode(role.trust),
            "Description": role.description or None,
            "MaxSessionDuration": role.max_session_seconds,
        }
        if not listed:
            members |= {
                "PermissionsBoundary": boundary_members(role.boundary),
                "Tags": tag_list(role.tags),
                "RoleLastUsed": {},
            }
        return members

    def group_members(self, group: Group) -> Mapping[str, Any]:  # Any: the members of a Group
        """A group as answers show it."""
        return {
            "Path": group.path,
            "GroupName": group.id,
            "GroupId": group.unique_id,
            "Arn": self.arn(group),
            "CreateDate": to_datetime(group.created),
        }

    def profile_members(
        self, profile: InstanceProfile, *, listed: bool = False
    ) -> Mapping[str, Any]:  # Any: the members of an InstanceProfile
        """An instance profile as answers show it; lists leave out the tags."""
        role = self._store.roles.get(profile.role)
        return {
            "Path": profile.path,
            "InstanceProfileName": profile.id,
            "InstanceProfileId": profile.unique_id,
            "Arn": self.arn(profile),
            "CreateDate": to_datetime(profile.created),
            "Roles": [self.role_members(role, listed=True)] if role else [],
            "Tags": None if listed else tag_list(profile.tags),
        }

    def check_new_name(self, records: Mapping[str, R], name: str, text: str) -> None:
        """Refuse a name that is taken.

        Raises:
            AwsFault: EntityAlreadyExists, with the text.
        """
        if same_name(records, name) is not None:
            raise faults.already_exists(text)


def require_modifiable(role: Role) -> None:
    """Refuse to change a service-linked role, which only its service may change.

    Raises:
        AwsFault: UnmodifiableEntity.
    """
    if role.path.startswith(SERVICE_PATH):
        text = f"Cannot perform the operation on the protected role '{role.id}' - this role is only modifiable by AWS"
        raise AwsFault("UnmodifiableEntity", text)


def kind_of(owner: Owner) -> str:
    """The word for an object in messages: user, group, role."""
    return type(owner).__name__.lower()


def boundary_members(arn: str) -> Mapping[str, str] | None:
    """A permissions boundary as answers show it; None without one."""
    return {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn} if arn else None


def check_quota(records: Sequence[object] | Mapping[str, object], quota: str, limit: int) -> None:
    """Refuse one more record than the quota allows.

    Raises:
        AwsFault: LimitExceeded.
    """
    if len(records) >= limit:
        raise faults.limit_exceeded(quota, limit)


_ARN_TYPES: Mapping[type, str] = {User: "user", Group: "group", Role: "role", InstanceProfile: "instance-profile"}


def _require(records: Mapping[str, R], name: str, kind: str) -> R:
    if (record := same_name(records, name)) is None:
        raise faults.not_found(kind, name)
    return record
