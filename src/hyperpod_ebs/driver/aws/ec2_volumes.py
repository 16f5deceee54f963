"""Volumes: create, describe, list, tag and delete them at EC2."""
# botocore marks every member of an answer as optional. A missing one is a KeyError, which `calls` reports:
# pyright: reportTypedDictNotRequiredAccess=false

from collections.abc import Awaitable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

import structlog

from hyperpod_ebs.driver.aws.attachments import parse_attachment
from hyperpod_ebs.driver.aws.calls import POLL_TIMEOUT, AwsCaller, translate_sdk_errors
from hyperpod_ebs.driver.aws.ec2_shapes import (
    action_on_volumes,
    filters,
    parse_by_id,
    parse_each,
    parse_tags,
    tag_list,
    tag_value,
)
from hyperpod_ebs.driver.aws.recent_requests import FOUND_WITHIN, LISTED_AFTER_DELETION, RecentRequests, search
from hyperpod_ebs.driver.aws.shared_looks import SharedLooks, TakeKeys
from hyperpod_ebs.driver.model.aws_request import Request
from hyperpod_ebs.driver.model.sizes import GiB
from hyperpod_ebs.driver.model.tags import VOLUME_NAME
from hyperpod_ebs.driver.model.volume import Volume, VolumeSpec, VolumeState
from hyperpod_ebs.driver.volumes.cloud import Page, PartlyRead

if TYPE_CHECKING:
    from types_aiobotocore_ec2.type_defs import (
        CreateVolumeRequestTypeDef,
        DescribeAvailabilityZonesResultTypeDef,
        DescribeVolumesRequestTypeDef,
        DescribeVolumesResultTypeDef,
        VolumeResponseTypeDef,
        VolumeTypeDef,
    )

    from hyperpod_ebs.driver.aws.clients import Clients

_DESCRIBE_SEVERAL: Final = "describe volumes"
_LOOK_UP_SEVERAL: Final = "look up volumes"
_LIST_ZONES: Final = "list availability zones"
_USABLE_ZONES: Final = "usable zones"
"""The only key of the looks at zones: all of them ask for the same."""
_LOOK_BY_ID: Final = Request("DescribeVolumes", "volumes by id", _DESCRIBE_SEVERAL)
_USABLE: Final = frozenset({"opt-in-not-required", "opted-in"})

log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class Ec2Volumes(AwsCaller):
    """Implements `volumes.cloud.Volumes`."""

    requested_volumes: RecentRequests = field(default_factory=lambda: RecentRequests(FOUND_WITHIN))
    """By name."""
    deleted_volumes: RecentRequests = field(default_factory=lambda: RecentRequests(LISTED_AFTER_DELETION))
    """By id."""

    async def create_volume(self, spec: VolumeSpec, token: str) -> Volume:
        """Request the volume and return it as EC2 acknowledges it."""
        request = _create_request(spec, token)
        with self.requested_volumes.note_if_carried_out(spec.name):
            return await self.call(
                Request("CreateVolume", spec.name, f"create volume {spec.name} in {spec.zone}", creates=True),
                lambda aws: aws.ec2.create_volume(**request),
                _parse_volume,
            )

    async def delete_volume(self, volume_id: str) -> None:
        """Request the volume's deletion, unless AWS has acknowledged it a moment ago."""
        if volume_id in self.deleted_volumes:
            return
        await self.call(
            Request("DeleteVolume", volume_id, f"delete volume {volume_id}"),
            lambda aws: aws.ec2.delete_volume(VolumeId=volume_id),
            lambda _: None,
        )
        self.deleted_volumes.note(volume_id)

    async def describe_volumes(self, ids: Collection[str]) -> Mapping[str, Volume]:
        """Describe the volumes that exist among `ids`."""
        action = action_on_volumes("describe", ids)
        request = Request("DescribeVolumes", "waiting operations", action, timeout=POLL_TIMEOUT)
        return parse_by_id(action, ids, await self._show_volumes(lambda: ids, request), _parse_volume)

    async def describe_volume(self, volume_id: str) -> Volume:
        """Describe the volume by its id."""
        action = f"describe volume {volume_id}"
        if volume_id not in self.deleted_volumes and (shown := await self._volumes_by_id.look(volume_id, action)):
            with translate_sdk_errors(action):
                return _parse_volume(shown[0])
        # Only EC2's answer to the id itself proves that there is no such volume (decision 0036).
        return await self.call(
            Request("DescribeVolumes", volume_id, action),
            lambda aws: aws.ec2.describe_volumes(VolumeIds=[volume_id]),
            lambda answer: _parse_volume(answer["Volumes"][0]),
        )

    @cached_property
    def _volumes_by_id(self) -> "SharedLooks[VolumeTypeDef]":
        return SharedLooks(_DESCRIBE_SEVERAL, self._show_volumes)

    async def _show_volumes(
        self, take_ids: TakeKeys, request: Request = _LOOK_BY_ID
    ) -> "tuple[tuple[str, VolumeTypeDef], ...]":
        """Show volumes by a filter, not by a list of ids: one unknown id would fail the call for all."""
        return await self.call_pages(
            request,
            lambda aws, page: aws.ec2.describe_volumes(Filters=filters("volume-id", take_ids()), **page),
            _shapes_with_ids,
        )

    async def find_volumes_named(self, name: str) -> tuple[Volume, ...]:
        """Find the account's volumes that carry `name` as the name of their CreateVolume request."""
        action = f"look up volume {name}"

        async def find() -> tuple[Volume, ...]:
            shown = await self._own(await self._volumes_by_name.look(name, action))
            return tuple(parse_by_id(action, (name,), shown, _parse_volume).values())

        return tuple(await search(self.requested_volumes.ends_at(name), find))

    @cached_property
    def _volumes_by_name(self) -> "SharedLooks[tuple[str, VolumeTypeDef]]":
        return SharedLooks(_LOOK_UP_SEVERAL, self._show_volumes_named, lambda: self.governor.delay("CreateVolume"))

    async def _show_volumes_named(self, take_names: TakeKeys) -> "Iterable[tuple[str, tuple[str, VolumeTypeDef]]]":
        described = await self.call_pages(
            Request("DescribeVolumes", "volumes by name", _LOOK_UP_SEVERAL),
            lambda aws, page: aws.ec2.describe_volumes(Filters=filters(f"tag:{VOLUME_NAME}", take_names()), **page),
            _shapes_with_ids,
        )
        return ((tag_value(VOLUME_NAME, shape.get("Tags", ())), (id_, shape)) for id_, shape in described)

    async def list_volumes(self, size: int, token: str | None) -> Page[Volume]:
        """List one page of the account's volumes, without those deleted a moment ago, and the unparseable ones."""
        request: DescribeVolumesRequestTypeDef = {"MaxResults": size}
        if token:
            request["NextToken"] = token
        described, next_token = await self.call(
            Request("DescribeVolumes", "list of volumes", "list volumes"),
            lambda aws: aws.ec2.describe_volumes(**request),
            lambda answer: (_shapes_with_ids(answer), answer.get("NextToken") or None),
        )
        existing = [(id_, shape) for id_, shape in await self._own(described) if id_ not in self.deleted_volumes]
        return Page(_parse_readable(existing), next_token)

    async def list_zones(self) -> tuple[str, ...]:
        """List the names of the region's availability zones that are usable now, in order."""
        return tuple(await self._zones.look(_USABLE_ZONES, _LIST_ZONES))

    @cached_property
    def _zones(self) -> SharedLooks[str]:
        return SharedLooks(_LIST_ZONES, self._show_zones)

    async def _show_zones(self, take_keys: TakeKeys) -> "Iterable[tuple[str, str]]":
        def send(aws: "Clients") -> "Awaitable[DescribeAvailabilityZonesResultTypeDef]":
            take_keys()
            return aws.ec2.describe_availability_zones()

        zones = await self.call(Request("DescribeAvailabilityZones", "zones", _LIST_ZONES), send, _parse_zones)
        return ((_USABLE_ZONES, zone) for zone in zones)

    async def _own(self, described: "Collection[tuple[str, VolumeTypeDef]]") -> "list[tuple[str, VolumeTypeDef]]":
        """The volumes of this account; other accounts can share volumes with it.

        STS is asked for the account only if the volumes have several owners: a network without STS must not stop the
        driver.
        """
        account = (await self.clients()).account
        owners = {owner for _, shape in described if (owner := shape.get("OwnerId"))}
        own_id = account.known_id if len(owners) < 2 else await self.resolve_account_id()  # noqa: PLR2004 - as said above
        return [(id_, shape) for id_, shape in described if shape.get("OwnerId") in {None, own_id} or own_id is None]


def _create_request(spec: VolumeSpec, token: str) -> "CreateVolumeRequestTypeDef":
    """The request for a volume; it never differs for one token, as EC2 requires."""
    request: CreateVolumeRequestTypeDef = {
        "AvailabilityZone": spec.zone,
        "Size": spec.size.wanted,
        "VolumeType": spec.type,  # type: ignore[typeddict-item] # EC2 itself checks the volume type
        "ClientToken": token,
        "TagSpecifications": [{"ResourceType": "volume", "Tags": tag_list(spec.tags)}],
    }
    if spec.iops is not None:
        request["Iops"] = spec.iops
    if spec.throughput is not None:
        request["Throughput"] = spec.throughput
    if spec.encrypted:
        request["Encrypted"] = True
    if spec.kms_key_id is not None:
        request["KmsKeyId"] = spec.kms_key_id
    if spec.snapshot_id is not None:
        request["SnapshotId"] = spec.snapshot_id
    return request


def _parse_volume(shape: "VolumeTypeDef | VolumeResponseTypeDef") -> Volume:
    """Parse a volume from the answer of CreateVolume or DescribeVolumes."""
    return Volume(
        id=shape["VolumeId"],
        size=GiB(shape["Size"]),
        zone=shape["AvailabilityZone"],
        state=VolumeState(shape["State"]),
        type=shape["VolumeType"],
        iops=shape.get("Iops"),
        throughput=shape.get("Throughput"),
        encrypted=shape.get("Encrypted", False),
        kms_key_id=shape.get("KmsKeyId"),
        snapshot_id=shape.get("SnapshotId") or None,
        attachments=tuple(parse_attachment(attachment) for attachment in shape.get("Attachments", ())),
        tags=parse_tags(shape.get("Tags", ())),
    )


def _shapes_with_ids(answer: "DescribeVolumesResultTypeDef") -> "tuple[tuple[str, VolumeTypeDef], ...]":
    """The volumes in the answer with their ids."""
    return tuple((shape["VolumeId"], shape) for shape in answer["Volumes"])


def _parse_readable(described: "Iterable[tuple[str, VolumeTypeDef]]") -> tuple[Volume, ...]:
    """Parse the volumes that can be parsed: a single unknown value must not hide all other volumes."""
    try:
        return tuple(parse_each("list volumes", described, _parse_volume).values())
    except PartlyRead as error:
        log.warning("volumes left out of the list", error=str(error))
        return tuple(error.found.values())


def _parse_zones(answer: "DescribeAvailabilityZonesResultTypeDef") -> tuple[str, ...]:
    """The names of the usable zones, in order, without local zones and zones that the account has not opted in to."""
    return tuple(
        sorted(
            zone["ZoneName"]
            for zone in answer["AvailabilityZones"]
            if zone.get("ZoneType", "availability-zone") == "availability-zone"
            and zone.get("State", "available") == "available"
            and zone.get("OptInStatus", "opt-in-not-required") in _USABLE
        )
    )
