"""Who signs a request: the user or the role session behind an access key, with the policies that apply to it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from hyperpod_ebs.emulator.identity import aws_managed
from hyperpod_ebs.emulator.identity.compiled_policies import compiled_policy
from hyperpod_ebs.emulator.identity_records import Documents, Role, Session, User
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.emulator.state.store import Store
from hyperpod_ebs.iam import documents
from hyperpod_ebs.iam.decision import Policies
from hyperpod_ebs.iam.documents import Kind, Policy
from hyperpod_ebs.iam.request import Principal, PrincipalType

MAX_CACHED: Final = 512
"""Callers whose compiled policies are kept; an inline session policy alone can take 40 KiB."""

ContextValues = Mapping[str, str | Sequence[str]]
"""Condition keys and their values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A principal, the policies that apply to it, and the condition keys that describe it."""

    principal: Principal
    user_id: str
    """The UserId of GetCallerIdentity: a user's unique id, or the unique id of a role and the session's name."""

    policies: Policies
    context: ContextValues
    session: Session | None = None
    """None for the long-term credentials of a user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """What a signature is verified with."""

    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    """The session token that goes with a temporary key."""

    expires: float | None = None
    """Seconds since the epoch; None for a long-term key."""


class UnknownKey(LookupError):  # noqa: N818 - named for what happened
    """The access key, its user or its role does not exist, or not any more."""


class Identities:
    """The access keys of the account and the principals behind them."""

    def __init__(self, store: Store, region: Region) -> None:
        self._store = store
        self._region = region
        self._cache: Final[dict[str, Identity]] = {}
        for table in (store.users, store.groups, store.roles, store.managed_policies, store.policy_versions):
            table.observe(self._forget_all)
        store.access_keys.observe(self._forget)
        store.sessions.observe(self._forget)

    def signing_key(self, key_id: str) -> SigningKey | None:
        """The key with this id; None if there is none, it is inactive, or its user or role is deleted."""
        if (key := self._store.access_keys.get(key_id)) is not None:
            return SigningKey(secret=key.secret) if key.is_active and key.user in self._store.users else None
        if (session := self._store.sessions.get(key_id)) is None or self.find(key_id) is None:
            return None
        return SigningKey(secret=session.secret, token=session.token, expires=session.expires)

    def find(self, key_id: str) -> Identity | None:
        """The principal that signs with this key; None if the key, its user or its role does not exist."""
        if (identity := self._cache.get(key_id)) is None and (identity := self._build(key_id)) is not None:
            if len(self._cache) >= MAX_CACHED:
                del self._cache[next(iter(self._cache))]
            self._cache[key_id] = identity
        return identity

    def require(self, key_id: str) -> Identity:
        """The principal that signs with this key.

        Raises:
            UnknownKey: The key, its user or its role does not exist.
        """
        if (identity := self.find(key_id)) is None:
            raise UnknownKey(f"access key {key_id} does not exist")
        return identity

    def user_arn(self, user: User) -> str:
        """The ARN of a user."""
        return self._arn("user", user.path, user.id)

    def role_arn(self, role: Role) -> str:
        """The ARN of a role."""
        return self._arn("role", role.path, role.id)

    def role(self, arn: str) -> Role | None:
        """The role with this ARN; None if there is none."""
        role = self._store.roles.get(arn.rpartition("/")[2])
        return role if role and self.role_arn(role) == arn else None

    def role_session(self, arn: str, name: str) -> Identity | None:
        """The session in which a service acts as the role with this ARN; None if there is no such role."""
        role = self.role(arn)
        return self._role_identity(role, name) if role else None

    def policies_of_user(self, user: User) -> Policies:
        """The policies of a user and its groups."""
        groups = [self._store.groups[name] for name in user.groups if name in self._store.groups]
        identity = list(self._policies(user.inline, user.attached))
        identity += [policy for group in groups for policy in self._policies(group.inline, group.attached)]
        return Policies(identity=identity, boundary=self._boundary(user.boundary))

    def policies_of_role(self, role: Role) -> Policies:
        """The policies of a role."""
        return Policies(
            identity=list(self._policies(role.inline, role.attached)), boundary=self._boundary(role.boundary)
        )

    def document(self, arn: str) -> str | None:
        """The default version of a managed policy; None if the policy does not exist."""
        if (policy := self._store.managed_policies.get(arn)) is not None:
            return self._store.policy_versions[f"{arn}:v{policy.default}"].document
        managed = aws_managed.find(arn, self._region.partition)
        return managed.document if managed else None

    def _build(self, key_id: str) -> Identity | None:
        if (key := self._store.access_keys.get(key_id)) is not None:
            user = self._store.users.get(key.user)
            return self._user_identity(user) if user else None
        if (session := self._store.sessions.get(key_id)) is None:
            return None
        if session.user:
            user = self._store.users.get(session.user)
            return self._identity_in_session(self._user_identity(user), session) if user else None
        role = self._store.roles.get(session.role)
        return self._identity_in_session(self._role_identity(role, session.name), session) if role else None

    def _user_identity(self, user: User) -> Identity:
        arn = self.user_arn(user)
        return Identity(
            principal=Principal(
                type=PrincipalType.USER, arn=arn, account=self._region.account, unique_id=user.unique_id
            ),
            user_id=user.unique_id,
            policies=self.policies_of_user(user),
            context={
                **self._principal_context(arn, user.tags),
                "aws:PrincipalType": "User",
                "aws:userid": user.unique_id,
                "aws:username": user.id,
            },
        )

    def _role_identity(self, role: Role, session_name: str) -> Identity:
        arn, user_id = self.role_arn(role), f"{role.unique_id}:{session_name}"
        session_arn = f"arn:{self._region.partition}:sts::{self._region.account}:assumed-role/{role.id}/{session_name}"
        return Identity(
            principal=Principal(
                type=PrincipalType.ROLE_SESSION,
                arn=session_arn,
                account=self._region.account,
                role=arn,
                unique_id=role.unique_id,
            ),
            user_id=user_id,
            policies=self.policies_of_role(role),
            context={
                **self._principal_context(arn, role.tags),
                "aws:PrincipalType": "AssumedRole",
                "aws:userid": user_id,
            },
        )

    def _identity_in_session(self, identity: Identity, session: Session) -> Identity:
        """The identity with what the session adds: its policies, tags and the time of its credentials."""
        limits = list(self._policies({}, session.policy_arns))
        limits += [documents.parse(each, kind=Kind.IDENTITY, name="session policy") for each in session.policies]
        is_limited = bool(session.policies or session.policy_arns)
        added: dict[str, str | Sequence[str]] = {
            **{f"aws:PrincipalTag/{key}": value for key, value in session.tags.items()},
            "aws:TokenIssueTime": str(int(session.issued)),
            "aws:MultiFactorAuthPresent": "true" if session.has_mfa else "false",
        }
        if session.provider:
            added["aws:FederatedProvider"] = session.provider
        if session.source_identity:
            added["aws:SourceIdentity"] = session.source_identity
        return replace(
            identity,
            policies=replace(identity.policies, session=limits if is_limited else None),
            context={**_without(added, identity.context), **added},
            session=session,
        )

    def _principal_context(self, arn: str, tags: Mapping[str, str]) -> dict[str, str | Sequence[str]]:
        return {
            "aws:PrincipalArn": arn,
            "aws:PrincipalAccount": self._region.account,
            "aws:PrincipalIsAWSService": "false",
            **{f"aws:PrincipalTag/{key}": value for key, value in tags.items()},
        }

    def _policies(self, inline: Documents, attached: Sequence[str]) -> Iterator[Policy]:
        for name, document in inline.items():
            yield compiled_policy(document, Kind.IDENTITY, name)
        for arn in attached:
            if (managed := self.document(arn)) is not None:
                yield compiled_policy(managed, Kind.IDENTITY, arn)

    def _boundary(self, arn: str) -> Sequence[Policy] | None:
        """The permissions boundary; one whose policy is deleted allows nothing."""
        if not arn:
            return None
        document = self.document(arn)
        return [compiled_policy(document, Kind.IDENTITY, arn)] if document else []

    def _arn(self, kind: str, path: str, name: str) -> str:
        return f"arn:{self._region.partition}:iam::{self._region.account}:{kind}{path}{name}"

    def _forget_all(self, *_: object) -> None:
        self._cache.clear()

    def _forget(self, key_id: str, _: object) -> None:
        self._cache.pop(key_id, None)


def _without(added: ContextValues, context: ContextValues) -> ContextValues:
    """The condition keys without those that are added, which may differ by case."""
    names = {key.lower() for key in added}
    return {key: value for key, value in context.items() if key.lower() not in names}
