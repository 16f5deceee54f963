"""Device names for attachments to plain EC2 instances.

The caller of EC2's AttachVolume has to choose a device name that is free on the instance. Nitro
instances ignore the name, and the node finds the device by the volume's id, so any free name works.
"""

import string
from collections import defaultdict
from collections.abc import Collection, Generator
from contextlib import contextmanager
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


@dataclass(slots=True)
class DeviceNames:
    """The device names of attachments in progress, by instance: EC2 does not list these names yet."""

    reserved: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @contextmanager
    def reserve(self, instance: str, used: Collection[str]) -> Generator[str]:
        """Reserve a free device name while the block runs.

        Raises:
            NodeFull: All device names of the instance are in use.
        """
        # No await between the search and the reservation: two attachments never get the same name.
        reserved = self.reserved[instance]
        name = next((name for name in NAMES if name not in used and name not in reserved), None)
        if name is None:
            raise errors.NodeFull(
                f"node {instance} has no free device name: all {len(NAMES)} are in use; detach a volume from it first"
            )
        reserved.add(name)
        try:
            yield name
        finally:
            reserved.discard(name)
            if not reserved:
                self.reserved.pop(instance, None)
