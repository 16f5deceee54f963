"""Device names for attachments to plain EC2 instances.

The caller of EC2's AttachVolume has to choose a device name that is free on the instance. Nitro
instances ignore the name, and the node finds the device by the volume's id, so any free name works.

Each volume has a name that it takes first, so that volumes rarely want the same one. This process knows which names it
has taken itself. Only when EC2 refuses a name does it have to look which names others have taken (decision 0047).
"""

import hashlib
import string
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Final

_TWO_LETTERS: Final = (
    *(f"/dev/xvd{first}{second}" for first in "abc" for second in string.ascii_lowercase),
    *(f"/dev/xvdd{second}" for second in string.ascii_lowercase[:24]),
)
_ONE_LETTER: Final = tuple(f"/dev/xvd{letter}" for letter in string.ascii_lowercase[1:])

# The names that EC2 accepts, as the upstream driver found by trial: two letters up to xvddx, then one letter from b.
NAMES: Final = (*_TWO_LETTERS, *_ONE_LETTER)
"""Device names for volumes."""

REMEMBERED_FOR: Final = 3600.0
"""Seconds after the last attachment to an instance for which its names are remembered: some instances are gone."""

SHOWN_WITHIN: Final = 60.0
"""Seconds within which DescribeInstances shows the name of an attachment; a name that it has not shown then is free."""

_LONG_AGO: Final = float("-inf")


def names_in_order(volume: str) -> tuple[str, ...]:
    """The names for a volume, in the order in which to try them; images map their own volumes to one-letter names."""
    start = int.from_bytes(hashlib.sha256(volume.encode()).digest()[:8]) % len(_TWO_LETTERS)
    return (*_TWO_LETTERS[start:], *_TWO_LETTERS[:start], *_ONE_LETTER)


@dataclass(frozen=True, slots=True)
class _Taken:
    volume: str | None
    """The volume that this process has attached under the name; None if another client has taken it."""
    since: float = _LONG_AGO
    """When this process took the name, or EC2 refused it: DescribeInstances shows it some time after that."""


@dataclass(slots=True)
class _Instance:
    taken: dict[str, _Taken] = field(default_factory=dict)
    used_at: float = 0.0
    looked_at: float = _LONG_AGO


@dataclass(slots=True)
class DeviceNames:
    """The device names in use on each instance, as far as this process knows."""

    clock: Callable[[], float] = time.monotonic
    instances: OrderedDict[str, _Instance] = field(default_factory=OrderedDict)
    """The instance that was used last comes last."""

    def take(self, instance: str, volume: str) -> str | None:
        """Take a name that is not known to be in use; None if all are.

        A volume gets the name again that it took before.
        """
        # No await between the search and the change: two attachments never get the same name.
        taken = self._use(instance).taken
        own = (name for name, entry in taken.items() if entry.volume == volume)
        free = (name for name in names_in_order(volume) if name not in taken)
        name = next(own, None) or next(free, None)
        if name is not None:
            taken[name] = _Taken(volume, self.clock())
        return name

    def free(self, instance: str, name: str) -> None:
        """Free a name whose attachment AWS has refused for good."""
        self._use(instance).taken.pop(name, None)

    def note_in_use(self, instance: str, name: str) -> None:
        """Note that EC2 has refused the name, because another client has taken it."""
        self._use(instance).taken[name] = _Taken(None, self.clock())

    def note_detached(self, instance: str, volume: str) -> None:
        """Note that AWS has acknowledged a detachment: the name is free once DescribeInstances does not show it."""
        if known := self.instances.get(instance):
            own = {name: entry for name, entry in known.taken.items() if entry.volume == volume}
            known.taken |= {name: replace(entry, since=_LONG_AGO) for name, entry in own.items()}

    def note_shown(self, instance: str, names: Collection[str]) -> None:
        """Note the names that DescribeInstances shows, and free those that it should show and does not."""
        known, now = self._use(instance), self.clock()
        recent = {name: entry for name, entry in known.taken.items() if entry.since + SHOWN_WITHIN > now}
        shown = {name: known.taken.get(name, _Taken(None)) for name in names}
        known.taken, known.looked_at = recent | shown, now

    def were_shown(self, instance: str) -> bool:
        """Whether DescribeInstances has shown the names of the instance a moment ago."""
        return self._use(instance).looked_at + SHOWN_WITHIN > self.clock()

    def _use(self, instance: str) -> _Instance:
        """Return what is known of the instance, and forget the instances that have not been used for long."""
        now = self.clock()
        known = self.instances.setdefault(instance, _Instance())
        known.used_at = now
        self.instances.move_to_end(instance)
        while next(iter(self.instances.values())).used_at + REMEMBERED_FOR <= now:
            self.instances.popitem(last=False)
        return known
