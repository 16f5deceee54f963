"""Faults for the doctor: what is wrong, how a test plants it, and what the doctor says.

Each table of faults (`aws_faults.py` and others) is a tuple of `Fault`. The tests plant one at a time in a healthy
setting; the page `docs/reference/doctor.md` is generated from the tables.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from hyperpod_ebs.access.doctor.findings import Status

Site = TypeVar("Site")


class Fault(NamedTuple, Generic[Site]):
    """Something that is wrong, which the doctor must name, and nothing else."""

    id: str
    """What is wrong, as a phrase: `the driver's role may not attach volumes`."""

    plant: Callable[[Site], Awaitable[object]]
    """Makes it so, in a setting in which all is in order."""

    check: str
    """The name of the check that finds it."""

    object: str
    """Words in the finding's object: `role driver`."""

    says: str
    """Words in the finding's evidence."""

    status: Status = "fails"
