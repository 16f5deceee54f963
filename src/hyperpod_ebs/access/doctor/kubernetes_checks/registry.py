"""All checks of Kubernetes, in the order in which things depend on each other."""

from collections.abc import Sequence
from typing import Final

from hyperpod_ebs.access.doctor.checks import Check
from hyperpod_ebs.access.doctor.kubernetes_checks import (
    api,
    claims,
    classes,
    installation,
    local_disks,
    nodes,
    rights,
    volumes,
)

CHECKS: Final[Sequence[Check]] = (
    *api.CHECKS,
    *installation.CHECKS,
    *rights.CHECKS,
    *nodes.CHECKS,
    *local_disks.CHECKS,
    *classes.CHECKS,
    *volumes.CHECKS,
    *claims.CHECKS,
)
