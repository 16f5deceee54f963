"""The emulator's settings: each field is a flag of `hyperpod-ebs emulator run`, and its text is the flag's help."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from hyperpod_ebs.emulator.ec2.modifications import Rate
from hyperpod_ebs.emulator.ec2.snapshots import SnapshotRate
from hyperpod_ebs.emulator.eks.pod_credentials import POD_SECONDS
from hyperpod_ebs.emulator.http.account_limits import ThrottleMode
from hyperpod_ebs.emulator.http.latency import LatencyMode
from hyperpod_ebs.emulator.state.clock import Profile
from hyperpod_ebs.emulator.state.region import ZONES
from hyperpod_ebs.emulator.state.views import Consistency

_STATE: Final = Group.create_ordered("State")
_SERVING: Final = Group.create_ordered("Serving")
_ACCOUNT: Final = Group.create_ordered("AWS account")
_BEHAVIOR: Final = Group.create_ordered("Behavior")


def _require_form(pattern: str, example: str) -> Callable[[type[str], str], None]:
    """A validator that rejects text that does not match `pattern`."""

    def validate(_: type[str], text: str) -> None:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"{text!r} does not have the form of {example}")

    return validate


def _require_address(_: type[str], text: str) -> None:
    """Reject text that is not an IP address: a host name can stand for several addresses, and they can change."""
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an IP address; give an address of this machine") from error


OnOff = Literal["on", "off"]

_REGION: Final = Parameter(group=_ACCOUNT, validator=_require_form(r"[a-z]+(-[a-z]+)+-[0-9]", "us-west-2"))
_ACCOUNT_ID: Final = Parameter(group=_ACCOUNT, validator=_require_form("[0-9]{12}", "123456789012"))


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorSettings:
    """The settings of one emulator, with their defaults."""

    # With None, `emulator run` uses its default directory, and `Emulator.start` a temporary one.
    state: Annotated[Path | None, Parameter(group=_STATE)] = None
    """Directory for the emulator's state; the default is hyperpod-ebs/emulator in $XDG_STATE_HOME or ~/.local/state."""

    host: Annotated[str, Parameter(group=_SERVING, validator=_require_address)] = "127.0.0.1"
    """IP address to listen on; an address other than loopback lets other machines connect."""

    port: Annotated[int, Parameter(group=_SERVING)] = 4566
    """Port to listen on; 0 selects a free port."""

    link_local_metadata: Annotated[OnOff, Parameter(group=_SERVING)] = "off"
    """Whether a machine finds its metadata at 169.254.169.254:80, too; this computer must have that address."""

    region: Annotated[str, _REGION] = "us-west-2"
    """Region to emulate."""

    account: Annotated[str, _ACCOUNT_ID] = "123456789012"
    """ID of the account that owns all resources."""

    zones: Annotated[int, Parameter(group=_ACCOUNT, validator=Number(gte=1, lte=ZONES))] = ZONES
    """Number of Availability Zones in the region, from 1 to 3."""

    profile: Annotated[Profile, Parameter(group=_BEHAVIOR)] = "instant"
    """Duration of state changes: none (instant), as observed on AWS (aws), or random with a few long delays (chaos)."""

    consistency: Annotated[Consistency, Parameter(group=_BEHAVIOR)] = "immediate"
    """When describing calls show a change: at once (immediate), or up to 2 seconds later for each object (eventual)."""

    seed: Annotated[int, Parameter(group=_BEHAVIOR)] = 0
    """Seed of the random durations of state changes and latencies, and of the lag of each object."""

    # With None, the profile decides, see `account_limits.load_limits`.
    throttle: Annotated[ThrottleMode | Path | None, Parameter(group=_BEHAVIOR)] = None
    """Limits on the rate of calls: none (off), those that AWS documents (documented), or a JSON file with changes of
    those; the default is documented with the profiles aws and chaos, and off with instant."""

    # With None, the profile decides, see `latency.latency_of`.
    latency: Annotated[LatencyMode | None, Parameter(group=_BEHAVIOR)] = None
    """Latency of the answers of EC2 and SageMaker: none (off), or about that of AWS (observed); the default is observed
    with the profiles aws and chaos, and off with instant."""

    rate: Annotated[Rate, Parameter(group=_BEHAVIOR)] = "four-a-day"
    """Limit on modifications of a volume: AWS's current (four-a-day) or former one (six-hours-apart), or none (off)."""

    snapshot_rate: Annotated[SnapshotRate, Parameter(group=_BEHAVIOR)] = "one-in-15-seconds"
    """Limit on snapshots of a volume: AWS's (one-in-15-seconds), or none (off)."""

    iam: Annotated[OnOff, Parameter(group=_BEHAVIOR)] = "on"
    """Whether IAM policies decide what a caller may do (on), or every caller with an access key may do all (off)."""

    pod_seconds: Annotated[int, Parameter(group=_BEHAVIOR, validator=Number(gte=1, lte=POD_SECONDS))] = POD_SECONDS
    """Seconds that the credentials last that EKS Pod Identity gives a pod; AWS's last six hours."""
