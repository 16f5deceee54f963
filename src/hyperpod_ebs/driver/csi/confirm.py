"""Whether a volume is what ValidateVolumeCapabilities takes it for: a comparison, and no I/O."""

from collections.abc import Iterator

from hyperpod_ebs.driver.csi import parse
from hyperpod_ebs.driver.model import errors, formatting
from hyperpod_ebs.driver.model.capability import unsupported_reason
from hyperpod_ebs.driver.model.parameters import Parameters
from hyperpod_ebs.driver.model.volume import Volume
from hyperpod_ebs.pb import csi_pb2


def answer(
    request: csi_pb2.ValidateVolumeCapabilitiesRequest, volume: Volume
) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
    """All that was asked, confirmed; or why not all of it is.

    Raises:
        InvalidRequest: No capability is asked about, or one says nothing.
    """
    if doubts := "; ".join(_doubts(request, volume)):
        return csi_pb2.ValidateVolumeCapabilitiesResponse(message=doubts)
    return csi_pb2.ValidateVolumeCapabilitiesResponse(
        confirmed=csi_pb2.ValidateVolumeCapabilitiesResponse.Confirmed(
            volume_context=request.volume_context,
            volume_capabilities=request.volume_capabilities,
            parameters=request.parameters,
            mutable_parameters=request.mutable_parameters,
        )
    )


def _doubts(request: csi_pb2.ValidateVolumeCapabilitiesRequest, volume: Volume) -> Iterator[str]:
    yield from filter(None, map(unsupported_reason, parse.capabilities(request.volume_capabilities)))
    if strange := sorted(key for key in request.volume_context if key.lower() not in formatting.KEYS):
        yield f"volume {volume.id} has no such volume context as {', '.join(strange)}"
    try:
        wanted = parse.parameters_of(request.parameters, request.mutable_parameters)
    except errors.Error as error:
        yield str(error)
    else:
        yield from _differences(wanted, volume)


def _differences(wanted: Parameters, volume: Volume) -> Iterator[str]:
    """Each parameter that the volume does not have; one that is not asked about may be anything."""
    for name in ("type", "iops", "throughput", "encrypted"):
        ask, have = getattr(wanted, name), getattr(volume, name)
        if ask and ask != have:
            yield f"volume {volume.id} has {name} {have}, not {ask}"
