"""The credentials of a machine: sessions of its role, which its metadata serves.

An EC2 instance has the role of its instance profile, a HyperPod node the execution role of its
instance group. Sources: EC2 User Guide, "Retrieve security credentials from instance metadata";
IAM User Guide, "Use an IAM role to grant permissions to applications running on Amazon EC2
instances".
"""

import uuid
from dataclasses import replace
from typing import Final

from hyperpod_ebs.emulator.identity.authorizer import Authorizer
from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.identity.service_principals import service_identity
from hyperpod_ebs.emulator.identity.sessions import Sessions, new_session
from hyperpod_ebs.emulator.identity.trust import Assumption
from hyperpod_ebs.emulator.identity_records import InstanceProfile, Role, Session
from hyperpod_ebs.emulator.records import Instance
from hyperpod_ebs.emulator.state.world import World, now
from hyperpod_ebs.emulator.wire.operations import Call

SECONDS: Final = 6 * 3600
"""Seconds that the credentials last; the role's MaxSessionDuration has no effect on them."""

REPLACED: Final = 3600
"""Seconds before their expiry at which new credentials replace them; AWS promises five minutes."""

_EC2: Final = "ec2.amazonaws.com"
_SAGEMAKER: Final = "sagemaker.amazonaws.com"


class RoleNotTrusting(Exception):  # noqa: N818 - named for what happened
    """The role's trust policy does not let the service of the machine assume it."""


class InstanceCredentials:
    """The current credentials of each machine; a restart of the emulator replaces them."""

    def __init__(self, world: World, identities: Identities, authorizer: Authorizer, sessions: Sessions) -> None:
        self._world = world
        self._identities = identities
        self._authorizer = authorizer
        self._sessions = sessions
        self._current: dict[str, str] = {}
        """The id of the session of each machine."""

    def profile(self, instance: Instance) -> InstanceProfile | None:
        """The instance profile of an EC2 instance; None without one."""
        return self._world.store.instance_profiles.get(instance.profile.rpartition("/")[2])

    def role(self, instance: Instance) -> Role | None:
        """The role of the machine; None without one."""
        if not instance.cluster:
            profile = self.profile(instance)
            return self._world.store.roles.get(profile.role) if profile else None
        cluster = self._world.store.clusters.get(instance.cluster)
        groups = cluster.instance_groups() if cluster else []
        role = next((group.role for group in groups if group.name == instance.group), "")
        return self._identities.role(role)

    async def session(self, instance: Instance, role: Role) -> Session:
        """The session of the machine's role whose credentials are current.

        Raises:
            RoleNotTrusting: The service may not assume the role.
            AwsFault: There are too many sessions.
        """
        current = self._world.store.sessions.get(self._current.get(instance.id, ""))
        if current and current.role == role.id and current.expires - now() > REPLACED:
            return current
        service, name = (_SAGEMAKER, "SageMaker") if instance.cluster else (_EC2, instance.id)
        assumption = Assumption(role=self._identities.role_arn(role), session_name=name)
        needs = assumption.needs(self._identities)
        if not self._authorizer.allows(self._call(service), service_identity(service), needs):
            raise RoleNotTrusting(role.id)
        session = self._sessions.add(replace(new_session(SECONDS), role=role.id, name=name))
        valid = {id_: key for id_, key in self._current.items() if key in self._world.store.sessions}
        self._current = {**valid, instance.id: session.id}  # so machines that are gone are forgotten
        return await self._world.acknowledge(session)

    def _call(self, service: str) -> Call:
        """The call with which the service assumes a role."""
        return Call(
            service="sts",
            operation="AssumeRole",
            account=self._world.region.account,
            arn=service,
            user_id=service,
            region=self._world.region.name,
            request_id=str(uuid.uuid4()),
        )
