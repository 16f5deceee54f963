"""Every setting of the driver's processes: a field is the flag, the variable and the help.

A flag wins over its variable, and of several variables the first. Words and
meanings are the upstream driver's wherever it has the setting.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

PREFIX: Final = "HYPERPOD_EBS_"
"""Comes before a flag's name in its environment variable."""


def _variable(name: str, *others: str) -> Parameter:
    """The environment variables of a field: ours, then those that AWS's or Kubernetes' own tools read."""
    return Parameter(env_var=[PREFIX + name, *others])


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """What every process of the driver takes."""

    endpoint: Annotated[str, _variable("ENDPOINT")] = "unix:///tmp/csi.sock"
    """The unix socket on which the CSI services are served."""

    v: Annotated[int, Parameter(name=["--v", "-v"]), _variable("V")] = 2
    """How much is logged: 0 warnings only, 1 to 3 calls, from 4 on everything."""

    logging_format: Annotated[Literal["text", "json"], _variable("LOGGING_FORMAT")] = "text"
    """The form of the log on stderr."""

    drain_seconds: Annotated[float, _variable("DRAIN_SECONDS"), Parameter(validator=Number(gte=0))] = 20.0
    """Seconds that running calls have to finish when the process is told to stop."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """What the controller takes. Credentials come as they do to any AWS SDK."""

    region: Annotated[str | None, _variable("REGION", "AWS_REGION", "AWS_DEFAULT_REGION")] = None
    """The AWS region of the volumes."""

    account_id: Annotated[str | None, _variable("ACCOUNT_ID")] = None
    """The account of the HyperPod clusters; STS tells where it is absent."""

    ec2_endpoint: Annotated[str | None, _variable("EC2_ENDPOINT", "AWS_EC2_ENDPOINT")] = None
    """Another address for EC2."""

    sagemaker_endpoint: Annotated[str | None, _variable("SAGEMAKER_ENDPOINT", "AWS_SAGEMAKER_ENDPOINT")] = None
    """Another address for SageMaker."""

    user_agent_extra: Annotated[str, _variable("USER_AGENT_EXTRA")] = ""
    """Added to the user agent that AWS sees."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """What the node process takes. Who the node is, its instance metadata tells unless it is said here."""

    node_id: Annotated[str | None, _variable("NODE_ID")] = None
    """The node's CSI id: i-<hex>, or hyperpod-<cluster id>-i-<hex> for a HyperPod node."""

    zone: Annotated[str | None, _variable("ZONE")] = None
    """The node's availability zone."""

    instance_type: Annotated[str | None, _variable("INSTANCE_TYPE")] = None
    """The node's instance type, from which its attach limit follows."""

    node_name: Annotated[str | None, _variable("NODE_NAME", "CSI_NODE_NAME")] = None
    """The Kubernetes node's name; one that begins with hyperpod- tells a HyperPod node."""

    metadata_endpoint: Annotated[str | None, _variable("METADATA_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT")] = None
    """Another address for instance metadata."""

    volume_attach_limit: Annotated[int, _variable("VOLUME_ATTACH_LIMIT"), Parameter(validator=Number(gte=-1))] = -1
    """How many volumes the node takes; -1 asks the table of instance types."""

    device_directory: Annotated[Path, _variable("DEVICE_DIRECTORY")] = Path("/dev")
    """Where the node's block devices are."""

    kubelet_root: Annotated[Path, _variable("KUBELET_ROOT")] = Path("/var/lib/kubelet")
    """The directory below which kubelet keeps volumes; nothing is mounted outside of it."""


SERVING: Final = ServingOptions()
CONTROLLER: Final = ControllerOptions()
NODE: Final = NodeOptions()
"""Nothing said."""
