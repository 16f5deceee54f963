"""The objects that make up IAM."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hyperpod_ebs.emulator.iam_api.access_keys import AccessKeys
from hyperpod_ebs.emulator.iam_api.account import Account
from hyperpod_ebs.emulator.iam_api.attachments import Attachments
from hyperpod_ebs.emulator.iam_api.authorization_details import AuthorizationDetails
from hyperpod_ebs.emulator.iam_api.boundaries import Boundaries
from hyperpod_ebs.emulator.iam_api.callers import Callers
from hyperpod_ebs.emulator.iam_api.entities import Entities
from hyperpod_ebs.emulator.iam_api.groups import Groups
from hyperpod_ebs.emulator.iam_api.inline_policies import InlinePolicies
from hyperpod_ebs.emulator.iam_api.instance_profiles import InstanceProfiles
from hyperpod_ebs.emulator.iam_api.managed_policies import ManagedPolicies
from hyperpod_ebs.emulator.iam_api.needs import IamNeeds
from hyperpod_ebs.emulator.iam_api.oidc_providers import OidcProviders
from hyperpod_ebs.emulator.iam_api.policy_versions import PolicyVersions
from hyperpod_ebs.emulator.iam_api.roles import Roles
from hyperpod_ebs.emulator.iam_api.service_linked_roles import ServiceLinkedRoles
from hyperpod_ebs.emulator.iam_api.simulator import Simulator
from hyperpod_ebs.emulator.iam_api.tagging import Tagging
from hyperpod_ebs.emulator.iam_api.users import Users
from hyperpod_ebs.emulator.identity.authorizer import Authorizer
from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Operations


class Part(Protocol):
    """An object that answers some of IAM's operations."""

    @property
    def operations(self) -> Operations[Any]:  # Any: the object's own class
        """The operations that the object answers."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Iam:
    """IAM's operations, and what they need."""

    objects: Sequence[Part]
    needs: IamNeeds


def create_iam(world: World, identities: Identities, authorizer: Authorizer) -> Iam:
    """Create IAM for one account."""
    entities = Entities(world)
    needs = IamNeeds(world, entities)
    callers = Callers(world.store, authorizer, needs)
    return Iam(
        objects=[
            Users(world, entities, callers),
            AccessKeys(world, entities, callers),
            Groups(world, entities),
            Roles(world, entities),
            ServiceLinkedRoles(world, entities),
            InstanceProfiles(world, entities),
            InlinePolicies(world, entities),
            Attachments(world, entities),
            Boundaries(world, entities),
            ManagedPolicies(world, entities),
            PolicyVersions(world),
            OidcProviders(world, entities),
            Tagging(world, entities),
            Account(world, entities),
            AuthorizationDetails(world, entities),
            Simulator(world, entities, identities),
        ],
        needs=needs,
    )
