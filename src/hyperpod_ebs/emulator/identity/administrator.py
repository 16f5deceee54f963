"""The first user of an account: an administrator, with the access key that `emulator env` prints."""

import secrets
import string
from typing import Final

from hyperpod_ebs.emulator.identity_records import AccessKey, User
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.emulator.state.store import Store
from hyperpod_ebs.emulator.state.world import now

NAME: Final = "emulator"
"""The name of the administrator."""

_ALPHABET: Final = string.ascii_uppercase + string.digits


def create_administrator(store: Store, region: Region, *, key_id: str, secret: str) -> bool:
    """Create the administrator, unless the account has a user already; whether it was created."""
    if store.users:
        return False
    policy = f"arn:{region.partition}:iam::aws:policy/AdministratorAccess"
    store.users.put(User(id=NAME, unique_id=new_unique_id("AIDA"), created=now(), attached=(policy,)))
    store.access_keys.put(AccessKey(id=key_id, user=NAME, secret=secret, created=now()))
    return True


def new_unique_id(prefix: str) -> str:
    """A new id of an IAM object or an access key: the prefix and 16 letters or digits."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(16))
