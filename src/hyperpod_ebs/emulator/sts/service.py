"""The objects that make up STS."""

from collections.abc import Sequence
from dataclasses import dataclass

from hyperpod_ebs.emulator.identity.authorizer import Authorizer
from hyperpod_ebs.emulator.identity.identities import Identities
from hyperpod_ebs.emulator.identity.issuer_keys import IssuerKeys
from hyperpod_ebs.emulator.identity.sessions import Sessions
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.sts.assume_role import AssumeRole
from hyperpod_ebs.emulator.sts.caller_identity import CallerIdentity
from hyperpod_ebs.emulator.sts.needs import StsNeeds
from hyperpod_ebs.emulator.sts.session_token import SessionToken
from hyperpod_ebs.emulator.sts.web_identity import WebIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Sts:
    """The service."""

    objects: Sequence[AssumeRole | CallerIdentity | SessionToken | WebIdentity]
    """The objects that answer the operations."""

    needs: StsNeeds


def create_sts(
    world: World, identities: Identities, authorizer: Authorizer, sessions: Sessions, issuers: IssuerKeys
) -> Sts:
    """Create the service; `issuers` are those that the emulator serves."""
    return Sts(
        objects=[
            CallerIdentity(world),
            SessionToken(world, identities, sessions),
            AssumeRole(world, identities, authorizer, sessions),
            WebIdentity(world, identities, authorizer, sessions, issuers),
        ],
        needs=StsNeeds(identities),
    )
