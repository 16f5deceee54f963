"""The CSI identity service: the driver's name, its capabilities and its readiness (CSI spec, Identity Service)."""

from typing import Final

from google.protobuf.wrappers_pb2 import BoolValue

from hyperpod_ebs import __version__
from hyperpod_ebs.driver.csi.interceptors import Context
from hyperpod_ebs.driver.csi.status import short_message
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

NOT_READY_REASON: Final = "why-bin"
"""The trailing metadata with the reason, in UTF-8, why a process is not ready; gRPC requires -bin for non-ASCII."""

_SERVICE: Final = csi_pb2.PluginCapability.Service.Type
_EXPANSION: Final = csi_pb2.PluginCapability.VolumeExpansion.Type

# CSI spec, GetPluginCapabilities: every instance of the plugin answers the same, for all of them together. So a node
# process names the controller service too.
CAPABILITIES: Final = (
    csi_pb2.PluginCapability(service=csi_pb2.PluginCapability.Service(type=_SERVICE.CONTROLLER_SERVICE)),
    csi_pb2.PluginCapability(service=csi_pb2.PluginCapability.Service(type=_SERVICE.VOLUME_ACCESSIBILITY_CONSTRAINTS)),
    csi_pb2.PluginCapability(volume_expansion=csi_pb2.PluginCapability.VolumeExpansion(type=_EXPANSION.ONLINE)),
)


class Identity(csi_pb2_grpc.IdentityServicer):
    """The service that every process of the driver serves."""

    def __init__(self, condition: Condition) -> None:
        """`condition` says what is wrong with this process."""
        self._condition = condition

    async def GetPluginInfo(  # noqa: N802 - CSI's name
        self, request: csi_pb2.GetPluginInfoRequest, context: Context
    ) -> csi_pb2.GetPluginInfoResponse:
        """Name the driver and its version."""
        del request, context
        return csi_pb2.GetPluginInfoResponse(name=DRIVER, vendor_version=__version__, manifest={"csi": "1.13"})

    async def GetPluginCapabilities(  # noqa: N802 - CSI's name
        self, request: csi_pb2.GetPluginCapabilitiesRequest, context: Context
    ) -> csi_pb2.GetPluginCapabilitiesResponse:
        """Name what all processes of the driver can do together."""
        del request, context
        return csi_pb2.GetPluginCapabilitiesResponse(capabilities=CAPABILITIES)

    async def Probe(  # noqa: N802 - CSI's name
        self, request: csi_pb2.ProbeRequest, context: Context
    ) -> csi_pb2.ProbeResponse:
        """Say whether the process is ready; if not, the metadata `NOT_READY_REASON` says why."""
        del request
        # Not an error: after an error the sidecars exit, after "not ready" they wait (csi-lib-utils, rpc.ProbeForever).
        if problems := str(self._condition):
            context.set_trailing_metadata(((NOT_READY_REASON, short_message(problems).encode()),))
        return csi_pb2.ProbeResponse(ready=BoolValue(value=not problems))
