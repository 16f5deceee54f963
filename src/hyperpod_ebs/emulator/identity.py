"""Whose a state directory is: its region, account and access key, chosen at the first start."""

import json
import os
import secrets
import string
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from hyperpod_ebs.emulator.http.auth import Key
from hyperpod_ebs.emulator.state.region import ZONES, Region
from hyperpod_ebs.emulator.state.store import RESTORE, StateRefused

_ALPHABET: Final = string.ascii_uppercase + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a client needs, and where it gets to."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str
    account: str
    zones: int = ZONES

    @classmethod
    def of(cls, state: Path, region: Region) -> "Identity":
        """The identity of `state`, made now if it has none.

        Raises:
            StateRefused: It belongs to another region or account, or to a region of other zones; or it is damaged.
        """
        file = state / "credentials.json"
        if not file.exists():
            key = "AKIA" + "".join(secrets.choice(_ALPHABET) for _ in range(16))
            _write(
                file,
                cls(
                    access_key_id=key,
                    secret_access_key=secrets.token_urlsafe(30),
                    region=region.name,
                    account=region.account,
                    zones=region.zone_count,
                ),
            )
        identity = cls.read(state)
        if identity.emulated_region != region:
            raise StateRefused(
                f"state directory {state} is of account {identity.account} in {identity.region} with "
                f"{identity.zones} zones, not of {region.account} in {region.name} with {region.zone_count}: "
                "give those, or another directory"
            )
        return identity

    @classmethod
    def read(cls, state: Path) -> "Identity":
        """The identity of `state`.

        Raises:
            FileNotFoundError: No emulator ever ran there.
            StateRefused: What is written there cannot be read.
        """
        file = state / "credentials.json"
        try:
            return cls(**json.loads(file.read_text()))
        except (TypeError, ValueError) as error:  # not quoted: a secret is in it
            raise StateRefused(f"{file} cannot be read: {RESTORE}") from error

    @property
    def emulated_region(self) -> Region:
        """Region, account and zones."""
        return Region(self.region, self.account, self.zones)

    @property
    def key(self) -> Key:
        """What the server knows of the key."""
        return Key(
            secret=self.secret_access_key,
            account=self.account,
            arn=f"arn:{self.emulated_region.partition}:iam::{self.account}:user/emulator",
            user_id="AIDA" + self.access_key_id[4:],
            region=self.region,
        )

    def environment(self, url: str) -> dict[str, str]:
        """What an AWS CLI or SDK needs to talk to the emulator at `url`."""
        return {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }


def _write(file: Path, identity: Identity) -> None:
    unready = file.with_suffix(".new")
    handle = os.open(unready, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as out:
        json.dump(asdict(identity), out)
        out.flush()
        os.fsync(handle)
    unready.rename(file)
