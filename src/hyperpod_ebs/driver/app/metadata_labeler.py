"""The command of upstream's metadata-labeler sidecar. This driver needs no such sidecar and refuses to run it."""

from typing import Annotated

from cyclopts import Parameter

from hyperpod_ebs.driver.model import errors


def run_metadata_labeler(*_: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]) -> None:
    """Refuse to run.

    Raises:
        InvalidRequest: Always.
    """
    raise errors.InvalidRequest(
        "metadata-labeler is not supported and not needed: the node process reads the node's labels and network "
        "interfaces whenever kubelet asks for them; remove the sidecar (sidecars.metadataLabeler.enabled=false)"
    )
