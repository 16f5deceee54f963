"""Modifications of volumes: request and describe them at EC2."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperpod_ebs.driver.aws.calls import AwsCaller
from hyperpod_ebs.driver.aws.ec2_shapes import action_on_volumes, filters, parse_by_id
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.volume import Change, Modification, ModificationState

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import (
        DescribeVolumesModificationsResultTypeDef,
        ModifyVolumeRequestTypeDef,
        VolumeModificationTypeDef,
    )


@dataclass(kw_only=True)
class Ec2Modifications(AwsCaller):
    """Implements the part of `volumes.cloud.Modifications` that changes volumes themselves."""

    async def modify_volume(self, volume_id: str, change: Change) -> Modification:
        """Request the change and return the modification as EC2 acknowledges it."""
        request: ModifyVolumeRequestTypeDef = {"VolumeId": volume_id}
        if change.size is not None:
            request["Size"] = change.size
        if change.type is not None:
            request["VolumeType"] = change.type  # type: ignore[typeddict-item] # EC2 itself checks the volume type
        if change.iops is not None:
            request["Iops"] = change.iops
        if change.throughput is not None:
            request["Throughput"] = change.throughput
        return await self.call(
            f"modify volume {volume_id}",
            lambda aws: aws.ec2.modify_volume(**request),
            lambda answer: _parse_modification(answer["VolumeModification"]),
        )

    async def describe_modifications(self, ids: Collection[str]) -> Mapping[str, Modification]:
        """Describe the latest modification of each of these volumes that has one."""
        action = action_on_volumes("describe the modifications of", ids)
        by_id = filters("volume-id", ids)
        described = await self.call_pages(
            action,
            lambda aws, page: aws.ec2.describe_volumes_modifications(Filters=by_id, **page),
            _shapes_with_ids,
        )
        return parse_by_id(action, ids, described, _parse_modification)


def _shapes_with_ids(
    answer: "DescribeVolumesModificationsResultTypeDef",
) -> "tuple[tuple[str, VolumeModificationTypeDef], ...]":
    """The modifications in the answer with their volumes' ids."""
    return tuple((shape["VolumeId"], shape) for shape in answer["VolumesModifications"])


def _parse_modification(shape: "VolumeModificationTypeDef") -> Modification:
    """Parse a modification from the answer of ModifyVolume or DescribeVolumesModifications."""
    size = shape.get("TargetSize")
    return Modification(
        volume_id=shape["VolumeId"],
        state=ModificationState(shape["ModificationState"]),
        target=Change(
            size=None if size is None else GiB(size),
            type=shape.get("TargetVolumeType"),
            iops=shape.get("TargetIops"),
            throughput=shape.get("TargetThroughput"),
        ),
        message=shape.get("StatusMessage", ""),
        started=shape.get("StartTime"),
    )
