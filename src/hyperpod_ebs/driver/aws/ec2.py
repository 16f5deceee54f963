"""Volumes and their modifications, at EC2."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import structlog

from hyperpod_ebs.driver.aws import codec
from hyperpod_ebs.driver.aws.calls import answer, pages
from hyperpod_ebs.driver.aws.sts import Identity
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.tags import VOLUME_NAME
from hyperpod_ebs.driver.model.volume import Change, Modification, Volume, VolumeSpec
from hyperpod_ebs.driver.volumes.cloud import Page, PartlyRead

if TYPE_CHECKING:
    from types_aiobotocore_ec2 import EC2Client
    from types_aiobotocore_ec2.type_defs import DescribeVolumesRequestTypeDef, VolumeTypeDef

S = TypeVar("S")
R = TypeVar("R")

log = structlog.get_logger(__name__)


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
        doing = _some("describe", ids)
        shown = await pages(
            doing, lambda after: self.ec2.describe_volumes(Filters=filters, **after), codec.shown_volumes
        )
        return _several(ids, doing, shown, codec.volume)

    async def volumes_named(self, name: str) -> tuple[Volume, ...]:
        """Ours that carry the name."""
        filters = codec.one_of(f"tag:{VOLUME_NAME}", [name])
        doing = f"look for volume {name}"
        account = await self.identity.account()
        return await pages(
            doing,
            lambda after: self.ec2.describe_volumes(Filters=filters, **after),
            lambda said: codec.volumes(said, of=account),
        )

    async def volume_page(self, size: int, token: str | None) -> Page[Volume]:
        """One page; volumes that others share with the account, and those that cannot be read, are left out."""
        asked: DescribeVolumesRequestTypeDef = {"MaxResults": size}
        if token:
            asked["NextToken"] = token
        account = await self.identity.account()
        return await answer(
            "list volumes",
            lambda: self.ec2.describe_volumes(**asked),
            lambda said: Page(_readable(codec.shown_volumes(said, of=account)), said.get("NextToken") or None),
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

    async def tag_volume(self, volume_id: str, tags: Mapping[str, str]) -> None:
        """Gives it the tags."""
        given = codec.tag_list(tags)
        doing = f"tag volume {volume_id}"
        await answer(doing, lambda: self.ec2.create_tags(Resources=[volume_id], Tags=given), codec.nothing)

    async def untag_volume(self, volume_id: str, keys: Collection[str]) -> None:
        """Takes the tags from it, whatever their values."""
        taken = codec.tag_keys(keys)
        doing = f"untag volume {volume_id}"
        await answer(doing, lambda: self.ec2.delete_tags(Resources=[volume_id], Tags=taken), codec.nothing)

    async def modifications(self, ids: Collection[str]) -> Mapping[str, Modification]:
        """The latest modification of each that has one."""
        filters = codec.one_of("volume-id", ids)
        doing = _some("describe the modifications of", ids)
        shown = await pages(
            doing,
            lambda after: self.ec2.describe_volumes_modifications(Filters=filters, **after),
            codec.shown_modifications,
        )
        return _several(ids, doing, shown, codec.modification)


def _several(ids: Collection[str], doing: str, shown: Iterable[tuple[str, S]], read: Callable[[S], R]) -> dict[str, R]:
    """What is shown of `ids`, in our values, by id.

    Raises:
        PartlyRead: Some of it cannot be read; the others need not suffer for it.
        CloudError: There are no others.
    """
    try:
        return _read(doing, shown, read)
    except PartlyRead as some:
        if len(ids) > 1:
            raise
        raise errors.CloudError("answer not understood", str(some)) from some


def _read(doing: str, shown: Iterable[tuple[str, S]], read: Callable[[S], R]) -> dict[str, R]:
    """What is shown, in our values, by id.

    Raises:
        PartlyRead: Some of it has a word that is new, or lacks a member.
    """
    found: dict[str, R] = {}
    unread: dict[str, Exception] = {}
    for id_, one in shown:
        try:
            found[id_] = read(one)
        except (LookupError, ValueError) as error:
            unread[id_] = error
    if unread:
        why = ", ".join(f"{id_} has {error!r}" for id_, error in unread.items())
        raise PartlyRead(f"{doing}: {why}; a newer driver may know it", found=found, unread=unread)
    return found


def _readable(shown: "Iterable[tuple[str, VolumeTypeDef]]") -> tuple[Volume, ...]:
    """Those that can be read: a list that one of them stopped would hide all the others."""
    try:
        return tuple(_read("list volumes", shown, codec.volume).values())
    except PartlyRead as some:
        log.warning("volumes left out of the list", error=str(some))
        return tuple(some.found.values())


def _some(doing: str, ids: Collection[str]) -> str:
    """What is being done, without hundreds of ids."""
    return f"{doing} volume {next(iter(ids))}" if len(ids) == 1 else f"{doing} {len(ids)} volumes"
