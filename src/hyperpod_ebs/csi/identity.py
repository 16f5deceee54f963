"""Who the driver is (CSI spec §Identity Service)."""

from typing import Final

from google.protobuf.wrappers_pb2 import BoolValue

from hyperpod_ebs import __version__
from hyperpod_ebs.csi.interceptors import Context
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc

NAME: Final = "ebs.csi.aws.com"
"""The upstream driver's name, so that its volumes and classes are ours too."""

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

    async def GetPluginInfo(  # noqa: N802 - CSI's name
        self, request: csi_pb2.GetPluginInfoRequest, context: Context
    ) -> csi_pb2.GetPluginInfoResponse:
        """Name and version."""
        del request, context
        return csi_pb2.GetPluginInfoResponse(name=NAME, vendor_version=__version__, manifest={"csi": "1.13"})

    async def GetPluginCapabilities(  # noqa: N802 - CSI's name
        self, request: csi_pb2.GetPluginCapabilitiesRequest, context: Context
    ) -> csi_pb2.GetPluginCapabilitiesResponse:
        """What all processes of the driver can do together."""
        del request, context
        return csi_pb2.GetPluginCapabilitiesResponse(capabilities=CAPABILITIES)

    async def Probe(  # noqa: N802 - CSI's name
        self, request: csi_pb2.ProbeRequest, context: Context
    ) -> csi_pb2.ProbeResponse:
        """Ready: a process that is not does not serve."""
        del request, context
        return csi_pb2.ProbeResponse(ready=BoolValue(value=True))
