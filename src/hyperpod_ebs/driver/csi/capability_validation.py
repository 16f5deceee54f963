"""Compare a volume with what ValidateVolumeCapabilities asks about it."""

from collections.abc import Iterator
from typing import Final

from hyperpod_ebs.driver.csi import parse
from hyperpod_ebs.driver.model import errors, formatting
from hyperpod_ebs.driver.model.capability import unsupported_reason
from hyperpod_ebs.driver.model.volume import Volume
from hyperpod_ebs.pb import csi_pb2

PROVISIONER_IDENTITY: Final = "storage.kubernetes.io/csiProvisionerIdentity"
"""The key that external-provisioner adds to the volume context of each persistent volume."""


def response(
    request: csi_pb2.ValidateVolumeCapabilitiesRequest, volume: Volume
) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
    """The confirmation of everything that was asked, or a message with the differences.

    Raises:
        InvalidRequest: The request has no capability, or one has no access type.
    """
    if message := "; ".join(differences(request, volume)):
        return csi_pb2.ValidateVolumeCapabilitiesResponse(message=message)
    return csi_pb2.ValidateVolumeCapabilitiesResponse(
        confirmed=csi_pb2.ValidateVolumeCapabilitiesResponse.Confirmed(
            volume_context=request.volume_context,
            volume_capabilities=request.volume_capabilities,
            parameters=request.parameters,
            mutable_parameters=request.mutable_parameters,
        )
    )


def differences(request: csi_pb2.ValidateVolumeCapabilitiesRequest, volume: Volume) -> Iterator[str]:
    """Each capability, context key and parameter of the request that the volume does not have."""
    yield from filter(None, map(unsupported_reason, parse.capabilities(request.volume_capabilities)))
    known = {*formatting.KEYS, PROVISIONER_IDENTITY.lower()}
    if unknown := sorted(key for key in request.volume_context if key.lower() not in known):
        yield f"the volume context of volume {volume.id} has unsupported keys: {', '.join(unknown)}"
    try:
        wanted = parse.class_parameters(request.parameters, request.mutable_parameters)
    except errors.Error as error:
        yield str(error)
        return
    for name in ("type", "iops", "throughput", "encrypted"):
        wish, actual = getattr(wanted, name), getattr(volume, name)
        if wish and wish != actual:
            yield f"volume {volume.id} has {name} {actual}, not {wish}"
