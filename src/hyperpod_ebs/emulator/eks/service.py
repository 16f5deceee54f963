"""The objects that serve EKS and EKS Auth."""

from collections.abc import Mapping, Sequence

from hyperpod_ebs.emulator.eks.access_entries import AccessEntries
from hyperpod_ebs.emulator.eks.access_policies import AccessPolicies
from hyperpod_ebs.emulator.eks.addons import Addons
from hyperpod_ebs.emulator.eks.clusters import Clusters
from hyperpod_ebs.emulator.eks.pod_credentials import POD_SECONDS, PodCredentials
from hyperpod_ebs.emulator.eks.pod_identities import PodIdentities
from hyperpod_ebs.emulator.eks.pod_roles import PodRoles
from hyperpod_ebs.emulator.eks.tagging import Tagging
from hyperpod_ebs.emulator.identity.authorizer import Authorizer
from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.identity.sessions import Sessions
from hyperpod_ebs.emulator.state.world import World

EksObject = Clusters | AccessEntries | AccessPolicies | PodIdentities | Addons | Tagging | PodCredentials


def eks_services(
    world: World,
    identities: Identities,
    authorizer: Authorizer,
    sessions: Sessions,
    *,
    pod_seconds: int = POD_SECONDS,
) -> Mapping[str, Sequence[EksObject]]:
    """The objects of the two services, by signing name.

    Args:
        world: The state of the account.
        identities: The account's principals.
        authorizer: Decides whether roles trust EKS.
        sessions: The account's sessions.
        pod_seconds: Seconds that the credentials of pods last.
    """
    entries, roles = AccessEntries(world, identities), PodRoles(identities, authorizer, world.region)
    pod_identities = PodIdentities(world, roles)
    return {
        "eks": [
            Clusters(world, entries),
            entries,
            AccessPolicies(world, entries),
            pod_identities,
            Addons(world, pod_identities),
            Tagging(world),
        ],
        "eks-auth": [
            PodCredentials(world, identities=pod_identities, roles=roles, sessions=sessions, seconds=pod_seconds)
        ],
    }
