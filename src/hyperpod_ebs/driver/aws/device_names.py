"""Device names for attachments to plain EC2 instances.

The caller of EC2's AttachVolume has to choose a device name that is free on the instance. Nitro
instances ignore the name, and the node finds the device by the volume's id, so any free name works.
"""

import string
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from hyperpod_ebs.driver.model import errors

# The names that EC2 accepts, as the upstream driver found by trial: two letters up to xvddx, then one letter from b.
NAMES: Final = (
    *(f"/dev/xvd{first}{second}" for first in "abc" for second in string.ascii_lowercase),
    *(f"/dev/xvdd{second}" for second in string.ascii_lowercase[:24]),
    *(f"/dev/xvd{letter}" for letter in string.ascii_lowercase[1:]),
)
"""Device names for volumes, in the order in which they are used."""

SHOWN_WITHIN: Final = 60.0
"""Seconds within which DescribeInstances shows the name of an attachment; a name that it has not shown then is free."""


@dataclass(frozen=True, slots=True)
class _Taken:
    volume: str
    until: float


@dataclass(slots=True)
class DeviceNames:
    """The device names that attachments have taken and that DescribeInstances may not show yet, by instance."""

    clock: Callable[[], float] = time.monotonic
    taken: defaultdict[str, dict[str, _Taken]] = field(default_factory=lambda: defaultdict(dict))

    def take(self, instance: str, volume: str, shown: Collection[str]) -> str:
        """Take a name that is neither in `shown` nor taken; a volume gets the name again that it took before.

        Raises:
            NodeFull: All device names of the instance are in use.
        """
        # No await between the search and the change: two attachments never get the same name.
        now = self.clock()
        self._forget_expired(now)
        taken = self.taken[instance]
        for old in taken.keys() & shown:
            del taken[old]
        own = (name for name, entry in taken.items() if entry.volume == volume)
        free = (name for name in NAMES if name not in shown and name not in taken)
        name = next(own, None) or next(free, None)
        if name is None:
            raise errors.NodeFull(
                f"node {instance} has no free device name: all {len(NAMES)} are in use; detach a volume from it first"
            )
        taken[name] = _Taken(volume, now + SHOWN_WITHIN)
        return name

    def free(self, instance: str, name: str) -> None:
        """Free a name whose attachment AWS has refused for good."""
        self.taken[instance].pop(name, None)
        if not self.taken[instance]:
            del self.taken[instance]

    def _forget_expired(self, now: float) -> None:
        """Forget the names that were not shown in time, of each instance: some instances are gone."""
        for instance, names in list(self.taken.items()):
            lasting = {name: entry for name, entry in names.items() if entry.until > now}
            if lasting:
                self.taken[instance] = lasting
            else:
                del self.taken[instance]
