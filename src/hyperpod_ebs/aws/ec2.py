"""Volumes and their modifications, at EC2."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperpod_ebs.aws import codec
from hyperpod_ebs.aws.calls import answer
from hyperpod_ebs.aws.sts import Identity
from hyperpod_ebs.model.tags import VOLUME_NAME
from hyperpod_ebs.model.volume import Change, Modification, Volume, VolumeSpec
from hyperpod_ebs.volumes.cloud import Page

if TYPE_CHECKING:
    from types_aiobotocore_ec2 import EC2Client
    from types_aiobotocore_ec2.type_defs import DescribeVolumesRequestTypeDef


@dataclass(kw_only=True)
class Ec2Volumes:
    """Makes, finds, changes and removes volumes: see `Volumes` and `Modifications` in `volumes.cloud`."""

    ec2: "EC2Client"
    identity: Identity

    async def create_volume(self, spec: VolumeSpec, token: str) -> Volume:
        """The volume as EC2 acknowledges it."""
        asked = codec.creation(spec, token)
        doing = f"create volume {spec.name} in {spec.zone}"
        return await answer(doing, lambda: self.ec2.create_volume(**asked), codec.volume, creates=True)

    async def delete_volume(self, volume_id: str) -> None:
        """Asks for its removal."""
        await answer(f"delete volume {volume_id}", lambda: self.ec2.delete_volume(VolumeId=volume_id), codec.nothing)

    async def volumes(self, ids: Collection[str]) -> Mapping[str, Volume]:
        """Those of these volumes that there are."""
        # By filter: among plain ids a single unknown one would fail the call for all.
        filters = codec.one_of("volume-id", ids)
        found = await answer(_some("describe", ids), lambda: self.ec2.describe_volumes(Filters=filters), codec.volumes)
        return {volume.id: volume for volume in found}

    async def volumes_named(self, name: str) -> tuple[Volume, ...]:
        """Ours that carry the name."""
        filters = codec.one_of(f"tag:{VOLUME_NAME}", [name])
        doing = f"look for volume {name}"
        account = await self.identity.account()
        return await answer(
            doing, lambda: self.ec2.describe_volumes(Filters=filters), lambda said: codec.volumes(said, of=account)
        )

    async def volume_page(self, size: int, token: str | None) -> Page[Volume]:
        """One page; volumes that others share with the account are left out."""
        asked: DescribeVolumesRequestTypeDef = {"MaxResults": size}
        if token:
            asked["NextToken"] = token
        account = await self.identity.account()
        return await answer(
            "list volumes",
            lambda: self.ec2.describe_volumes(**asked),
            lambda said: Page(codec.volumes(said, of=account), said.get("NextToken") or None),
        )

    async def zones(self) -> tuple[str, ...]:
        """The names of the usable zones; neither local zones nor those that nobody opted in to."""
        return await answer("list availability zones", self.ec2.describe_availability_zones, codec.zones)

    async def modify_volume(self, volume_id: str, change: Change) -> Modification:
        """The modification as EC2 acknowledges it."""
        asked = codec.change(volume_id, change)
        return await answer(
            f"modify volume {volume_id}",
            lambda: self.ec2.modify_volume(**asked),
            lambda said: codec.modification(said["VolumeModification"]),
        )

    async def modifications(self, ids: Collection[str]) -> Mapping[str, Modification]:
        """The latest modification of each that has one."""
        filters = codec.one_of("volume-id", ids)
        doing = _some("describe the modifications of", ids)
        found = await answer(
            doing, lambda: self.ec2.describe_volumes_modifications(Filters=filters), codec.modifications
        )
        return {one.volume_id: one for one in found}


def _some(doing: str, ids: Collection[str]) -> str:
    """What is being done, without hundreds of ids."""
    return f"{doing} volume {next(iter(ids))}" if len(ids) == 1 else f"{doing} {len(ids)} volumes"
