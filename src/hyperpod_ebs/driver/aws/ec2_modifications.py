"""Modifications of volumes and changes of their tags: request and describe them at EC2."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

import asyncio
import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from hyperpod_ebs.driver.aws.calls import POLL_TIMEOUT, AwsCaller, translate_sdk_errors
from hyperpod_ebs.driver.aws.ec2_shapes import action_on_volumes, filters, parse_by_id, tag_list
from hyperpod_ebs.driver.aws.recent_requests import FOUND_WITHIN, RecentRequests, wait_for_predecessors_requests
from hyperpod_ebs.driver.aws.shared_looks import SharedLooks, TakeKeys
from hyperpod_ebs.driver.model.aws_request import Request
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.volume import Change, Modification, ModificationState

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import (
        DescribeVolumesModificationsResultTypeDef,
        ModifyVolumeRequestTypeDef,
        TagTypeDef,
        VolumeModificationTypeDef,
    )

_DESCRIBE_SEVERAL: Final = "describe the modifications of volumes"
_LOOK: Final = Request("DescribeVolumesModifications", "modifications", _DESCRIBE_SEVERAL)


@dataclass(kw_only=True)
class Ec2Modifications(AwsCaller):
    """Implements `volumes.cloud.Modifications`."""

    modified_volumes: RecentRequests = field(default_factory=lambda: RecentRequests(FOUND_WITHIN))
    """By id."""
    tagged_volumes: RecentRequests = field(default_factory=lambda: RecentRequests(FOUND_WITHIN))
    """By id."""

    async def modify_volume(self, volume_id: str, change: Callable[[], Change]) -> Modification:
        """Request the change and return the modification as EC2 acknowledges it."""
        with _note_even_after_errors(self.modified_volumes, volume_id):
            return await self.call(
                Request("ModifyVolume", volume_id, f"modify volume {volume_id}"),
                lambda aws: aws.ec2.modify_volume(**_modify_request(volume_id, change())),
                lambda answer: _parse_modification(answer["VolumeModification"]),
            )

    async def tag_volume(self, volume_id: str, tags: Mapping[str, str]) -> None:
        """Set the tags, each in place of an existing tag of the same key."""
        ec2_tags = tag_list(tags)
        with _note_even_after_errors(self.tagged_volumes, volume_id):
            await self.call(
                Request("CreateTags", volume_id, f"tag volume {volume_id}"),
                lambda aws: aws.ec2.create_tags(Resources=[volume_id], Tags=ec2_tags),
                lambda _: None,
            )

    async def untag_volume(self, volume_id: str, keys: Collection[str]) -> None:
        """Remove the tags of these keys, with any value."""
        ec2_keys: list[TagTypeDef] = [{"Key": key} for key in sorted(keys)]
        with _note_even_after_errors(self.tagged_volumes, volume_id):
            await self.call(
                Request("DeleteTags", volume_id, f"untag volume {volume_id}"),
                lambda aws: aws.ec2.delete_tags(Resources=[volume_id], Tags=ec2_keys),
                lambda _: None,
            )

    async def wait_until_modification_shows(self, volume_id: str) -> None:
        """Wait until EC2 shows the modification that was requested for the volume a moment ago."""
        await _wait_until_shown(self.modified_volumes, volume_id)

    async def wait_until_tags_show(self, volume_id: str) -> None:
        """Wait until EC2 shows the changes of tags that were requested for the volume a moment ago."""
        await _wait_until_shown(self.tagged_volumes, volume_id)

    async def describe_modifications(self, ids: Collection[str]) -> Mapping[str, Modification]:
        """Describe the latest modification of each of these volumes that has one."""
        action = action_on_volumes("describe the modifications of", ids)
        request = Request("DescribeVolumesModifications", "waiting operations", action, timeout=POLL_TIMEOUT)
        return parse_by_id(action, ids, await self._show_modifications(lambda: ids, request), _parse_modification)

    async def describe_modification(self, volume_id: str) -> Modification | None:
        """Describe the latest modification of the volume; None if it has none."""
        action = f"describe the modifications of volume {volume_id}"
        shown = await self._modifications_by_id.look(volume_id, action)
        with translate_sdk_errors(action):
            return _parse_modification(shown[0]) if shown else None

    @cached_property
    def _modifications_by_id(self) -> "SharedLooks[VolumeModificationTypeDef]":
        return SharedLooks(_DESCRIBE_SEVERAL, self._show_modifications)

    async def _show_modifications(
        self,
        take_ids: TakeKeys,
        request: Request = _LOOK,
    ) -> "tuple[tuple[str, VolumeModificationTypeDef], ...]":
        return await self.call_pages(
            request,
            lambda aws, page: aws.ec2.describe_volumes_modifications(Filters=filters("volume-id", take_ids()), **page),
            _shapes_with_ids,
        )


@contextmanager
def _note_even_after_errors(requests: RecentRequests, volume_id: str) -> Generator[None]:
    """Note a request for the volume, even after an error: AWS may have carried it out without an answer."""
    try:
        yield
    finally:
        requests.note(volume_id)


async def _wait_until_shown(requests: RecentRequests, volume_id: str) -> None:
    """Wait until EC2 shows what this process, or the one before it, requested for the volume a moment ago."""
    await wait_for_predecessors_requests()
    await asyncio.sleep(requests.ends_at(volume_id) - time.monotonic())


def _modify_request(volume_id: str, change: Change) -> "ModifyVolumeRequestTypeDef":
    """The parameters of ModifyVolume."""
    request: ModifyVolumeRequestTypeDef = {"VolumeId": volume_id}
    if change.size is not None:
        request["Size"] = change.size
    if change.type is not None:
        request["VolumeType"] = change.type  # type: ignore[typeddict-item] # EC2 itself checks the volume type
    if change.iops is not None:
        request["Iops"] = change.iops
    if change.throughput is not None:
        request["Throughput"] = change.throughput
    return request


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
