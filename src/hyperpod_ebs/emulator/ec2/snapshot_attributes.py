"""DescribeSnapshotAttribute, ModifySnapshotAttribute and ResetSnapshotAttribute: with whom a snapshot is shared."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from hyperpod_ebs.emulator.ec2 import request_checks, resource_ids
from hyperpod_ebs.emulator.records import Snapshot
from hyperpod_ebs.emulator.state.world import World
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

PERMISSION: Final = "createVolumePermission"

EVERYONE: Final = "all"
"""The only group with which snapshots can be shared."""

_ACCOUNT: Final = re.compile("[0-9]{12}")


@dataclass(frozen=True, slots=True)
class SnapshotAttributes:
    """The attributes of snapshots."""

    world: World

    operations = Operations["SnapshotAttributes"]()

    @operations("DescribeSnapshotAttribute")
    async def describe(self, parameters: Parameters, _: Call) -> Answer:
        """Return an attribute of a snapshot."""
        snapshot = self._find(parameters, "Attribute")
        request_checks.refuse_dry_run(parameters)
        match parameters["Attribute"]:
            case "createVolumePermission":
                permissions = [
                    {"Group": each} if each == EVERYONE else {"UserId": each} for each in snapshot.shared_with
                ]
                return {"SnapshotId": snapshot.id, "CreateVolumePermissions": permissions}
            case "productCodes":
                return {"SnapshotId": snapshot.id, "ProductCodes": []}
            case attribute:
                raise _attribute_error(attribute)

    @operations("ModifySnapshotAttribute")
    async def modify(self, parameters: Parameters, _: Call) -> Answer:
        """Share a snapshot with accounts or with everyone, or end that."""
        snapshot = self._find(parameters)
        if (attribute := parameters.get("Attribute", PERMISSION)) != PERMISSION:
            raise _attribute_error(attribute)
        added, removed = _changes(parameters)
        if not added and not removed:
            raise AwsFault("InvalidParameterCombination", "The request must contain a permission to add or to remove")
        if snapshot.encrypted and EVERYONE in added:
            raise AwsFault("OperationNotPermitted", f"Encrypted snapshot {snapshot.id} cannot be shared with everyone")
        request_checks.refuse_dry_run(parameters)
        shared = [each for each in dict.fromkeys([*snapshot.shared_with, *added]) if each not in removed]
        self.world.store.snapshots.put(replace(snapshot, shared_with=tuple(shared)))
        return await self.world.acknowledge({})

    @operations("ResetSnapshotAttribute")
    async def reset(self, parameters: Parameters, _: Call) -> Answer:
        """Share a snapshot only with its owner."""
        snapshot = self._find(parameters, "Attribute")
        if (attribute := parameters["Attribute"]) != PERMISSION:
            raise _attribute_error(attribute)
        request_checks.refuse_dry_run(parameters)
        self.world.store.snapshots.put(replace(snapshot, shared_with=()))
        return await self.world.acknowledge({})

    def _find(self, parameters: Parameters, *required: str) -> Snapshot:
        request_checks.require(parameters, "SnapshotId", *required)
        return resource_ids.find_snapshot(self.world, parameters["SnapshotId"])


def _changes(parameters: Parameters) -> tuple[list[str], list[str]]:
    """The accounts and groups to add and to remove.

    Raises:
        AwsFault: An account or a group is not valid.
    """
    permission: Mapping[str, Iterable[Mapping[str, str]]] = parameters.get("CreateVolumePermission", {})
    added, removed = ([_name(entry) for entry in permission.get(member, [])] for member in ("Add", "Remove"))
    named = [*parameters.get("UserIds", []), *parameters.get("GroupNames", [])]
    match parameters.get("OperationType"):
        case "add":
            added += named
        case "remove":
            removed += named
        case _ if named:
            raise AwsFault("MissingParameter", "The request must contain the parameter operationType")
    for name in (*added, *removed):
        if name != EVERYONE and not _ACCOUNT.fullmatch(name):
            raise AwsFault("InvalidParameterValue", f"Value ({name}) for parameter userId is invalid.")
    return added, removed


def _name(entry: Mapping[str, str]) -> str:
    return entry.get("UserId") or entry.get("Group", "")


def _attribute_error(attribute: str) -> AwsFault:
    text = f"Value ({attribute}) for parameter attribute is invalid. Unknown attribute."
    return AwsFault("InvalidParameterValue", text)
