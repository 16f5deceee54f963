"""Turn the requests that only a node receives into values, or refuse them, as `csi.parse` does."""

from pathlib import Path
from typing import Final

from hyperpod_ebs.driver.csi.parse import required_field, supported_capability
from hyperpod_ebs.driver.csi.render import DEVICE_PATH
from hyperpod_ebs.driver.model import errors, volume
from hyperpod_ebs.driver.model.formatting import Formatting
from hyperpod_ebs.driver.mounts.publish import Publishing
from hyperpod_ebs.driver.mounts.stage import Staging
from hyperpod_ebs.pb import csi_pb2

_PARTITION: Final = "partition"
"""The key with which the upstream driver uses one partition of a pre-provisioned volume."""


def staging(request: csi_pb2.NodeStageVolumeRequest) -> Staging:
    """The staging that a NodeStageVolume call asks for.

    Raises:
        InvalidRequest: A field is missing or not supported.
        VolumeNotFound: No volume can have the id.
    """
    target = required_path(request.staging_target_path, "staging target path")
    capability = supported_capability(request)
    if (partition := request.volume_context.get(_PARTITION, "")) not in {"", "0"}:
        raise errors.InvalidRequest(
            f"cannot use {_PARTITION} {partition} of the volume: the driver uses whole volumes; move the data to a "
            f"volume of its own and remove {_PARTITION} from the PersistentVolume's volumeAttributes"
        )
    return Staging(
        volume_id=volume.parse_volume_id(request.volume_id),  # last: report a missing field before an unknown volume
        target=target,
        capability=capability,
        device=request.publish_context.get(DEVICE_PATH, ""),
        formatting=Formatting.parse(request.volume_context),
    )


def publishing(request: csi_pb2.NodePublishVolumeRequest) -> Publishing:
    """The publishing that a NodePublishVolume call asks for.

    Raises:
        InvalidRequest: A field is missing or not supported.
        VolumeNotFound: No volume can have the id.
    """
    capability = supported_capability(request)
    staging_path = required_path(request.staging_target_path, "staging target path")
    target = required_path(request.target_path, "target path")
    return Publishing(
        volume_id=volume.parse_volume_id(request.volume_id),  # last, as above
        staging=staging_path,
        target=target,
        capability=capability,
        read_only=request.readonly or capability.read_only,
        device=request.publish_context.get(DEVICE_PATH, ""),
    )


def required_path(text: str, what: str) -> Path:
    """A path on the node; `mounts.host` decides whether the path is allowed.

    Raises:
        InvalidRequest: It is empty.
    """
    return Path(required_field(text, what))
