"""Who the driver is (CSI spec §Identity Service)."""

from typing import Final

from google.protobuf.wrappers_pb2 import BoolValue

from hyperpod_ebs import __version__
from hyperpod_ebs.driver.csi.interceptors import Context
from hyperpod_ebs.driver.csi.status import cut
from hyperpod_ebs.driver.model.kubernetes_node import DRIVER
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

WHY: Final = "why-bin"
"""The trailing metadata that says, in UTF-8, why a process is not ready; gRPC wants the ending for all but ASCII."""

_SERVICE: Final = csi_pb2.PluginCapability.Service.Type
_EXPANSION: Final = csi_pb2.PluginCapability.VolumeExpansion.Type

# CSI spec §GetPluginCapabilities: the sum of what all instances of the plugin can, and every instance answers
# the same wherever it is deployed. So a node process names the controller service too.
CAPABILITIES: Final = (
    csi_pb2.PluginCapability(service=csi_pb2.PluginCapability.Service(type=_SERVICE.CONTROLLER_SERVICE)),
    csi_pb2.PluginCapability(service=csi_pb2.PluginCapability.Service(type=_SERVICE.VOLUME_ACCESSIBILITY_CONSTRAINTS)),
    csi_pb2.PluginCapability(volume_expansion=csi_pb2.PluginCapability.VolumeExpansion(type=_EXPANSION.ONLINE)),
)


class Identity(csi_pb2_grpc.IdentityServicer):
    """Served by every process of the driver."""

    def __init__(self, condition: Condition) -> None:
        """`condition` is what is wrong with this process."""
        self._condition = condition

    async def GetPluginInfo(  # noqa: N802 - CSI's name
        self, request: csi_pb2.GetPluginInfoRequest, context: Context
    ) -> csi_pb2.GetPluginInfoResponse:
        """Name and version."""
        del request, context
        return csi_pb2.GetPluginInfoResponse(name=DRIVER, vendor_version=__version__, manifest={"csi": "1.13"})

    async def GetPluginCapabilities(  # noqa: N802 - CSI's name
        self, request: csi_pb2.GetPluginCapabilitiesRequest, context: Context
    ) -> csi_pb2.GetPluginCapabilitiesResponse:
        """What all processes of the driver can do together."""
        del request, context
        return csi_pb2.GetPluginCapabilitiesResponse(capabilities=CAPABILITIES)

    async def Probe(  # noqa: N802 - CSI's name
        self, request: csi_pb2.ProbeRequest, context: Context
    ) -> csi_pb2.ProbeResponse:
        """Whether all is well; what is not is told beside the answer, under `WHY`."""
        del request
        # No error: after one the sidecars exit, and after "not ready" they wait (csi-lib-utils, rpc.ProbeForever).
        if trouble := str(self._condition):
            context.set_trailing_metadata(((WHY, cut(trouble).encode()),))
        return csi_pb2.ProbeResponse(ready=BoolValue(value=not trouble))
