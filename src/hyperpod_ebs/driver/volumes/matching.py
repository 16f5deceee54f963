"""Compare an existing volume with the one that a request describes: a repeated request adopts only a match."""

from collections.abc import Iterable, Iterator

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.volume import Volume, VolumeSpec


def differences(wanted: VolumeSpec, existing: Volume) -> Iterator[str]:
    """Each property in which an existing volume with the wanted name differs from the wanted volume."""
    if not wanted.size.allows(existing.size):
        limit = "" if wanted.size.limit is None else f" to {wanted.size.limit} bytes"
        yield f"its size is {existing.size} GiB, not {wanted.size.wanted} GiB{limit or ' or more'}"
    is_zone_allowed = wanted.zone_chosen_by_driver or existing.zone in wanted.other_zones
    pairs = {
        "zone": (None if is_zone_allowed else wanted.zone, existing.zone),
        "type": (wanted.type, existing.type),
        "number of IOPS": (wanted.iops, existing.iops),
        "throughput": (wanted.throughput, existing.throughput),
        "source snapshot": (wanted.snapshot_id or "none", existing.snapshot_id or "none"),
        "encryption": ("on" if wanted.encrypted else None, "on" if existing.encrypted else "off"),
    }
    for what, (wish, actual) in pairs.items():
        if wish is not None and wish != actual:
            yield f"its {what} is {actual}, not {wish}"
    if not _can_be_same_key(wanted.kms_key_id, existing.kms_key_id):
        yield f"its key is {existing.kms_key_id}, not {wanted.kms_key_id}"


def check_size(spec: VolumeSpec, volume: Volume) -> Volume:
    """Return a volume that was requested on the same terms, if it has not grown over the limit since.

    Raises:
        Conflict: The volume has grown over the limit.
    """
    if not spec.size.allows(volume.size):
        raise errors.Conflict(
            f"{label(spec, volume)} exists already: {next(differences(spec, volume))}; use another name"
        )
    return volume


def matching_volume(spec: VolumeSpec, existing: Iterable[Volume]) -> Volume:
    """The existing volume that is as `spec` describes it.

    Raises:
        Conflict: All existing volumes differ.
    """
    refusals = []
    for volume in sorted(existing, key=lambda volume: volume.id):
        if not (different := list(differences(spec, volume))):
            return volume
        refusals.append(f"{volume.id}: {', '.join(different)}")
    raise errors.Conflict(f"volume {spec.name} exists already, but differs ({'; '.join(refusals)}); use another name")


def label(spec: VolumeSpec, volume: Volume) -> str:
    """The volume's name and id, for messages."""
    return f"volume {spec.name} ({volume.id})"


def _can_be_same_key(wanted: str | None, existing: str | None) -> bool:
    """Whether the key that the user names can be the one that EC2 shows by its ARN."""
    if wanted is None or "alias/" in wanted:  # the driver does not know which key an alias stands for
        return True
    return existing is not None and wanted.rpartition("/")[2] == existing.rpartition("/")[2]
