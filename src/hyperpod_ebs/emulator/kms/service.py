"""The objects that serve KMS."""

from collections.abc import Sequence
from dataclasses import dataclass

from hyperpod_ebs.emulator.identity.authorizer import Authorizer
from hyperpod_ebs.emulator.kms.aliases import Aliases
from hyperpod_ebs.emulator.kms.cluster_keys import ClusterKeys
from hyperpod_ebs.emulator.kms.cryptography import Cryptography
from hyperpod_ebs.emulator.kms.ebs_needs import EbsNeeds
from hyperpod_ebs.emulator.kms.grants import Grants
from hyperpod_ebs.emulator.kms.key_policies import KeyPolicies, PolicyCheck
from hyperpod_ebs.emulator.kms.key_tags import KeyTags
from hyperpod_ebs.emulator.kms.keyring import Keyring
from hyperpod_ebs.emulator.kms.keys import Keys
from hyperpod_ebs.emulator.kms.needs import KmsNeeds
from hyperpod_ebs.emulator.kms.volume_keys import VolumeKeys
from hyperpod_ebs.emulator.state.world import World

KmsObject = Keys | Aliases | KeyPolicies | Grants | Cryptography | KeyTags


@dataclass(frozen=True, slots=True, kw_only=True)
class Kms:
    """KMS for one account."""

    objects: Sequence[KmsObject]
    """The objects that answer its operations."""

    needs: KmsNeeds
    volume_keys: VolumeKeys
    cluster_keys: ClusterKeys


def create_kms(world: World, authorizer: Authorizer) -> Kms:
    """Create KMS for one account, with the key that AWS manages for EBS."""
    keyring = Keyring(world)
    needs = KmsNeeds(world, keyring)
    policy_check = PolicyCheck(world, needs, authorizer)
    objects: Sequence[KmsObject] = [
        Keys(world, keyring, policy_check),
        Aliases(world, keyring),
        KeyPolicies(world, keyring, policy_check),
        Grants(world, keyring),
        Cryptography(world, keyring),
        KeyTags(world, keyring),
    ]
    volume_keys = VolumeKeys(world, keyring, EbsNeeds(world, needs), authorizer)
    cluster_keys = ClusterKeys(world, keyring, needs, authorizer)
    return Kms(objects=objects, needs=needs, volume_keys=volume_keys, cluster_keys=cluster_keys)
