"""The file of the names of actions, made from the SDK's models; the access tools find misspelt actions with it.

The package needs the names where the SDK has only the operations that the driver calls.
"""

from pathlib import Path
from typing import Final

from botocore.loaders import Loader

PAGE: Final = "src/hyperpod_ebs/access/policy/comparison/action_names.txt"

PERMISSIONS: Final = {
    "ec2": ("InjectApiError",),
    "eks": ("AccessKubernetesApi", "MutateViaKubernetesApi"),
    "iam": ("PassRole",),
    "kms": ("ReEncryptFrom", "ReEncryptTo", "SynchronizeMultiRegionKey"),
    "sagemaker": (
        "BatchGetRecord",
        "BatchPutMetrics",
        "CreateSharedModel",
        "DeleteRecord",
        "GetRecord",
        "InvokeEndpoint",
        "InvokeEndpointAsync",
        "InvokeEndpointWithResponseStream",
        "PutRecord",
    ),
    "sts": ("GetServiceBearerToken", "SetContext", "SetSourceIdentity", "TagSession"),
}
"""Actions that the SDK's models do not have as operations (Service Authorization Reference)."""

NO_ACTIONS: Final = {"kms": frozenset({"ReEncrypt"})}
"""Operations that no action has the name of."""


def page() -> str:
    """The whole file: a service, then its actions, on each line."""
    return "".join(f"{service} {' '.join(_names(service))}\n" for service in PERMISSIONS)


def write(into: Path) -> None:
    """Write the file into the tree of the repository."""
    path = into / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page())


def _names(service: str) -> list[str]:
    operations = Loader().load_service_model(service, "service-2")["operations"]
    return sorted({*operations, *PERMISSIONS[service]} - NO_ACTIONS.get(service, frozenset()))
