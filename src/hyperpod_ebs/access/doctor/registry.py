"""All checks, in the order in which things depend on each other: a finding of an earlier one is to be fixed first."""

from collections.abc import Sequence
from typing import Final

from hyperpod_ebs.access.doctor.aws_checks import identity
from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.kubernetes_checks import registry as kubernetes

ALL_CHECKS: Final[Sequence[Check]] = (
    *identity.CHECKS,
    *kubernetes.CHECKS,
)
