"""The access key of a state directory, and its region and account: all are fixed at the first start."""

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from hyperpod_ebs.emulator.identity.administrator import new_unique_id
from hyperpod_ebs.emulator.state.region import ZONES, Region
from hyperpod_ebs.emulator.state.store import RESTORE, StateRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a client needs to call the emulator, other than its URL."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: Region

    @classmethod
    def load_or_create(cls, state: Path, region: Region) -> "Credentials":
        """Load the credentials of the state directory, or create them at its first use.

        Raises:
            StateRefused: The directory was created for another region, account or number of zones, or the file
                is damaged.
        """
        if not _file(state).exists():
            _save(
                cls(access_key_id=new_unique_id("AKIA"), secret_access_key=secrets.token_urlsafe(30), region=region),
                state,
            )
        credentials = cls.load(state)
        if (created := credentials.region) != region:
            raise StateRefused(
                f"state directory {state} was created for account {created.account} in {created.name} with "
                f"{created.zone_count} zones, not for {region.account} in {region.name} with {region.zone_count}: "
                "start it with its own settings, or use another directory"
            )
        return credentials

    @classmethod
    def load(cls, state: Path) -> "Credentials":
        """Load the credentials of the state directory.

        Raises:
            FileNotFoundError: No emulator has ever used the directory.
            StateRefused: The file is damaged.
        """
        try:
            return _parse(**json.loads(_file(state).read_text()))
        except (TypeError, ValueError) as error:  # not in the message: the file contains a secret
            raise StateRefused(f"{_file(state)} cannot be read: {RESTORE}") from error

    def environment(self, url: str) -> dict[str, str]:
        """The environment variables with which an AWS CLI or SDK calls the emulator at `url`."""
        return {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region.name,
            "AWS_DEFAULT_REGION": self.region.name,
        }


def _file(state: Path) -> Path:
    return state / "credentials.json"


def _save(credentials: Credentials, state: Path) -> None:
    document = {
        "access_key_id": credentials.access_key_id,
        "secret_access_key": credentials.secret_access_key,
        "region": credentials.region.name,
        "account": credentials.region.account,
        "zones": credentials.region.zone_count,
    }
    unfinished = _file(state).with_suffix(".new")
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as out:
        json.dump(document, out)
        out.flush()
        os.fsync(handle)
    unfinished.rename(_file(state))


def _parse(*, access_key_id: str, secret_access_key: str, region: str, account: str, zones: int = ZONES) -> Credentials:
    return Credentials(
        access_key_id=access_key_id, secret_access_key=secret_access_key, region=Region(region, account, zones)
    )
