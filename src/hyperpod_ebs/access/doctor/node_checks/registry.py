"""All checks of the machine that the doctor runs on."""

from collections.abc import Sequence

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.node_checks import disks, filesystems, system
from hyperpod_ebs.access.doctor.node_checks.machine import THIS_MACHINE, Machine


def checks_of(machine: Machine = THIS_MACHINE) -> Sequence[Check]:
    """The checks of a machine, in the order in which things depend on each other."""
    return (*system.checks(machine), *disks.checks(machine), *filesystems.checks(machine))
