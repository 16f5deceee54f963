"""The volumes that tests request of the controller's code."""

from typing import Any

from hyperpod_ebs.driver.model import tags
from hyperpod_ebs.driver.model.sizes import GiB, SizeRange
from hyperpod_ebs.driver.model.volume import VolumeSpec


def a_spec(name: str = "pvc-1", *, gib: int = 1, limit: int | None = None, **more: Any) -> VolumeSpec:
    """A volume as external-provisioner requests it; `limit` is its largest size in bytes."""
    terms: dict[str, Any] = {
        "zone": "us-west-2a",
        "type": "gp3",
        "tags": tags.TagPolicy().volume_tags(name, {}, ()),
    } | more
    return VolumeSpec(name=name, size=SizeRange(GiB(gib), limit), **terms)
