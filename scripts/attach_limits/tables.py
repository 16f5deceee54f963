"""Write the tables of attach limits: one for the driver, and one of its own for the emulator.

The two parts share no table, because a test compares them: a mistake in how one reads its rows shows.
`instance-types.csv` lists the types whose limit differs from that of most Nitro types. EC2's model names the others.
"""

import argparse
import csv
from pathlib import Path
from typing import Final, NamedTuple

import botocore.session

HERE: Final = Path(__file__).parent
_GENERATED: Final = "Generated from scripts/attach_limits by `make generate`; do not edit."


class Row(NamedTuple):
    """A line of `instance-types.csv`."""

    name: str
    hypervisor: str
    limit: int
    kind: str
    cards: int


def rows() -> list[Row]:
    """The listed types, in their order."""
    lines = (HERE / "instance-types.csv").read_text().splitlines()
    table = csv.reader([line for line in lines if not line.startswith("#")][1:])
    return [Row(name, hypervisor, int(limit), kind, int(cards)) for name, hypervisor, limit, kind, cards in table]


def usual_types(listed: list[Row]) -> list[str]:
    """The types of EC2's model that are not listed."""
    model = botocore.session.get_session().get_service_model("ec2")
    return sorted(set(model.shape_for("InstanceType").metadata["enum"]) - {row.name for row in listed})


def driver_table(listed: list[Row]) -> str:
    """The driver's module: attach slots by type."""
    lines = [f'    "{row.name}": ({row.limit}, {row.kind == "shared"}),' for row in listed]
    return "\n".join(
        [
            f'"""The attach slots of EC2 instance types. {_GENERATED}"""',
            "",
            "from collections.abc import Mapping",
            "from typing import Final",
            "",
            "SLOTS: Final[Mapping[str, tuple[int, bool]]] = {",
            *lines,
            "}",
            '"""By type: the number of slots, and whether network interfaces take slots too."""',
            "",
        ]
    )


def emulator_table(listed: list[Row]) -> str:
    """The emulator's module: what DescribeInstanceTypes returns, by type."""
    every = [*listed, *(Row(name, "nitro", 27, "shared", 1) for name in usual_types(listed))]
    lines = [f"{row.name} {row.hypervisor} {row.kind} {row.limit} {row.cards}" for row in sorted(every)]
    return "\n".join(
        [
            f'"""EC2\'s instance types. {_GENERATED}"""',
            "",
            "from typing import Final",
            "",
            'INSTANCE_TYPES: Final = """\\',
            *lines,
            '"""',
            '"""For each type: name, hypervisor, AttachmentLimitType, MaximumEbsAttachments, MaximumEbsCards."""',
            "",
        ]
    )


def main() -> None:
    """Write both modules below the directory `--into`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, required=True, help="the directory that holds hyperpod_ebs")
    package = parser.parse_args().into / "hyperpod_ebs"
    listed = rows()
    for path, text in (
        ("driver/model/attach_limit_table.py", driver_table(listed)),
        ("emulator/nodes/instance_type_table.py", emulator_table(listed)),
    ):
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(text)


if __name__ == "__main__":
    main()
