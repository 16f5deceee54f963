"""What the node is asked becomes values here, or is refused; see `csi.parse`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.csi.parse import offered, required
from hyperpod_ebs.driver.csi.render import DEVICE_PATH
from hyperpod_ebs.driver.model import errors, volume
from hyperpod_ebs.driver.model.formatting import Formatting
from hyperpod_ebs.driver.mounts.publish import Publishing
from hyperpod_ebs.driver.mounts.stage import Staging
from hyperpod_ebs.pb import csi_pb2

_PARTITION: Final = "partition"
"""With it upstream takes a part of a pre-created volume."""


def staging(request: csi_pb2.NodeStageVolumeRequest) -> Staging:
    """What NodeStageVolume asks for.

    Raises:
        InvalidRequest: Something is missing or not offered.
        VolumeNotFound: No volume can have the id.
    """
    target = path(request.staging_target_path, "staging target path")
    wanted = offered(request)
    _whole(request.volume_context)
    return Staging(
        volume_id=volume.parse_volume_id(request.volume_id),  # last: what is missing is told before what is unknown
        target=target,
        capability=wanted,
        device=request.publish_context.get(DEVICE_PATH, ""),
        formatting=Formatting.parse(request.volume_context),
    )


def publishing(request: csi_pb2.NodePublishVolumeRequest) -> Publishing:
    """What NodePublishVolume asks for.

    Raises:
        InvalidRequest: Something is missing or not offered.
        VolumeNotFound: No volume can have the id.
    """
    wanted = offered(request)
    staging = path(request.staging_target_path, "staging target path")
    target = path(request.target_path, "target path")
    return Publishing(
        volume_id=volume.parse_volume_id(request.volume_id),  # last, as above
        staging=staging,
        target=target,
        capability=wanted,
        read_only=request.readonly or wanted.read_only,
        device=request.publish_context.get(DEVICE_PATH, ""),
    )


def path(text: str, what: str) -> Path:
    """A path on the node; whether it lies where it may is the node's to say.

    Raises:
        InvalidRequest: It is empty.
    """
    return Path(required(text, what))


def _whole(context: Mapping[str, str]) -> None:
    """Accept a volume that is wanted as it is.

    Raises:
        InvalidRequest: A part of it is wanted.
    """
    if (part := context.get(_PARTITION, "")) not in {"", "0"}:
        raise errors.InvalidRequest(
            f"{_PARTITION} {part} of the volume is asked for, but volumes are used whole: move what is in it to a "
            f"volume of its own, and leave {_PARTITION} out of the PersistentVolume's volumeAttributes"
        )
