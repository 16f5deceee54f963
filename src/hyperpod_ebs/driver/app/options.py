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


def _list(name: str) -> Parameter:
    """As `_variable`, for a flag that may be given several times; its variable is one text, blanks and all."""
    return Parameter(env_var=[PREFIX + name], env_var_split=_whole, consume_multiple=False)


def _whole(_: object, text: str, *, delimiter: str | None = None) -> list[str]:
    del delimiter
    return [text]


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

    health_endpoint: Annotated[str, _variable("HEALTH_ENDPOINT")] = ""
    """Where /livez and /healthz are served, as host:port or :port; nowhere where empty."""

    http_endpoint: Annotated[str, _variable("HTTP_ENDPOINT")] = ""
    """Where /metrics is served, and both of those."""

    metrics_cert_file: Annotated[Path | None, _variable("METRICS_CERT_FILE")] = None
    """The certificate, with its chain, of the HTTP endpoint; plain HTTP without."""

    metrics_key_file: Annotated[Path | None, _variable("METRICS_KEY_FILE")] = None
    """The certificate's key."""

    kubeconfig: Annotated[Path | None, _variable("KUBECONFIG")] = None
    """How to reach Kubernetes from outside of it; a pod needs none. The controller does not ask it anything."""

    enable_otel_tracing: Annotated[bool, _variable("ENABLE_OTEL_TRACING")] = False
    """Taken, and told in the log: there are no traces."""

    vmodule: Annotated[str, _variable("VMODULE")] = ""
    """Taken, and told in the log: take --v."""

    logtostderr: Annotated[bool, _variable("LOGTOSTDERR")] = True
    """Taken: the log goes to stderr, and nowhere else."""

    log_flush_frequency: Annotated[str, _variable("LOG_FLUSH_FREQUENCY")] = ""
    """Taken, and told in the log, as those that follow: each line is written at once."""

    log_json_info_buffer_size: Annotated[str, _variable("LOG_JSON_INFO_BUFFER_SIZE")] = ""
    """See --log-flush-frequency."""

    log_json_split_stream: Annotated[bool, _variable("LOG_JSON_SPLIT_STREAM")] = False
    """See --log-flush-frequency."""

    log_text_info_buffer_size: Annotated[str, _variable("LOG_TEXT_INFO_BUFFER_SIZE")] = ""
    """See --log-flush-frequency."""

    log_text_split_stream: Annotated[bool, _variable("LOG_TEXT_SPLIT_STREAM")] = False
    """See --log-flush-frequency."""

    drain_seconds: Annotated[float, _variable("DRAIN_SECONDS"), Parameter(validator=Number(gte=0))] = 20.0
    """Seconds that running calls have to finish when the process is told to stop."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """What the controller takes. Credentials come as they do to any AWS SDK."""

    region: Annotated[str | None, _variable("REGION", "AWS_REGION", "AWS_DEFAULT_REGION")] = None
    """The AWS region of the volumes."""

    account_id: Annotated[str | None, _variable("ACCOUNT_ID")] = None
    """The account of the volumes and of the HyperPod clusters; STS tells where it is absent."""

    partition: Annotated[str | None, _variable("PARTITION")] = None
    """The partition of ARNs: aws, aws-cn, aws-us-gov; it follows from the region where it is absent."""

    cluster_arn: Annotated[str | None, _variable("CLUSTER_ARN")] = None
    """The HyperPod cluster's ARN, which tells partition, region and account."""

    ec2_endpoint: Annotated[str | None, _variable("EC2_ENDPOINT", "AWS_EC2_ENDPOINT")] = None
    """Another address for EC2."""

    sagemaker_endpoint: Annotated[str | None, _variable("SAGEMAKER_ENDPOINT", "AWS_SAGEMAKER_ENDPOINT")] = None
    """Another address for SageMaker."""

    user_agent_extra: Annotated[str, _variable("USER_AGENT_EXTRA")] = ""
    """Added to the user agent that AWS sees."""

    aws_sdk_debug_log: Annotated[bool, _variable("AWS_SDK_DEBUG_LOG")] = False
    """Log what AWS is asked and what it answers, but for credentials."""

    extra_tags: Annotated[tuple[str, ...], _list("EXTRA_TAGS")] = ()
    """Tags for each volume and snapshot, as key=value,key=value; a value may be a template."""

    extra_volume_tags: Annotated[tuple[str, ...], _list("EXTRA_VOLUME_TAGS")] = ()
    """The former name of --extra-tags."""

    k8s_tag_cluster_id: Annotated[str, _variable("K8S_TAG_CLUSTER_ID")] = ""
    """The cluster's name, with which volumes and snapshots are tagged as its own."""

    warn_on_invalid_tag: Annotated[bool, _variable("WARN_ON_INVALID_TAG")] = False
    """Leave out a user's tag that is wrong, and say so in the log, instead of refusing the volume."""

    batching: Annotated[bool, _variable("BATCHING")] = True
    """Taken: volumes are always described together."""

    modify_volume_request_handler_timeout: Annotated[str, _variable("MODIFY_VOLUME_REQUEST_HANDLER_TIMEOUT")] = ""
    """Taken, and told in the log: modifications are joined without a pause."""

    deprecated_metrics: Annotated[bool, _variable("DEPRECATED_METRICS")] = False
    """Show the calls to AWS under the names cloudprovider_aws_* as well."""

    enable_node_local_volumes: Annotated[bool, _variable("ENABLE_NODE_LOCAL_VOLUMES")] = False
    """Refused: node-local volumes are not offered."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """What the node process takes. Who the node is, the metadata sources tell unless it is said here."""

    node_id: Annotated[str | None, _variable("NODE_ID")] = None
    """The node's CSI id: i-<hex>, or hyperpod-<cluster id>-i-<hex> for a HyperPod node."""

    zone: Annotated[str | None, _variable("ZONE")] = None
    """The node's availability zone."""

    instance_type: Annotated[str | None, _variable("INSTANCE_TYPE")] = None
    """The node's instance type, from which its attach limit follows."""

    node_name: Annotated[str | None, _variable("NODE_NAME", "CSI_NODE_NAME")] = None
    """The Kubernetes node's name; one that begins with hyperpod- tells a HyperPod node."""

    metadata_sources: Annotated[str, _variable("METADATA_SOURCES")] = "imds,kubernetes"
    """Where it is found out who the node is, what is believed first comes first: imds, kubernetes."""

    metadata_endpoint: Annotated[str | None, _variable("METADATA_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT")] = None
    """Another address for instance metadata."""

    volume_attach_limit: Annotated[int, _variable("VOLUME_ATTACH_LIMIT"), Parameter(validator=Number(gte=-1))] = -1
    """How many volumes the node takes; -1 asks the table of instance types."""

    reserved_volume_attachments: Annotated[
        int, _variable("RESERVED_VOLUME_ATTACHMENTS"), Parameter(validator=Number(gte=-1))
    ] = -1
    """How many of the instance type's places are not for volumes of ours; -1 asks the sources. Not with a limit."""

    kubelet_registration_path: Annotated[Path | None, _variable("KUBELET_REGISTRATION_PATH")] = None
    """The path of this process' own socket as kubelet sees it."""

    plugin_registration_path: Annotated[Path | None, _variable("PLUGIN_REGISTRATION_PATH")] = None
    """Kubelet's directory plugins_registry as this process sees it; without one, somebody else registers us."""

    disable_taint_watcher: Annotated[str, _variable("DISABLE_TAINT_WATCHER", "DISABLE_TAINT_WATCHER")] = ""
    """Any text: the start-up taint ebs.csi.aws.com/agent-not-ready is left to whoever set it."""

    device_directory: Annotated[Path, _variable("DEVICE_DIRECTORY")] = Path("/dev")
    """Where the node's block devices are."""

    kubelet_root: Annotated[Path, _variable("KUBELET_ROOT")] = Path("/var/lib/kubelet")
    """The directory below which kubelet keeps volumes; nothing is mounted outside of it."""

    legacy_xfs: Annotated[bool, _variable("LEGACY_XFS")] = False
    """Make XFS as kernels up to 5.4 can mount it."""

    csi_mount_point_prefix: Annotated[str, _variable("CSI_MOUNT_POINT_PREFIX")] = ""
    """Taken for upstream's charts, and not needed: volumes are told by their serial numbers, not by their paths."""

    windows_host_process: Annotated[bool, _variable("WINDOWS_HOST_PROCESS")] = False
    """Taken for upstream's charts while it is false: nodes that run Windows are not served."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class HookOptions:
    """What the pre-stop hook of the node's container takes."""

    node_name: Annotated[str | None, _variable("NODE_NAME", "CSI_NODE_NAME")] = None
    """The Kubernetes node's name."""

    kubeconfig: Annotated[Path | None, _variable("KUBECONFIG")] = None
    """How to reach Kubernetes from outside of it; a pod needs none."""

    wait_seconds: Annotated[float, _variable("WAIT_SECONDS"), Parameter(validator=Number(gt=0))] = 20.0
    """Seconds to wait at most; the rest of the pod's grace period is for the process itself."""

    v: Annotated[int, Parameter(name=["--v", "-v"]), _variable("V")] = 2
    """How much is logged: 0 warnings only, 1 to 3 calls, from 4 on everything."""

    logging_format: Annotated[Literal["text", "json"], _variable("LOGGING_FORMAT")] = "text"
    """The form of the log on stderr."""


SERVING: Final = ServingOptions()
CONTROLLER: Final = ControllerOptions()
NODE: Final = NodeOptions()
HOOK: Final = HookOptions()
"""Nothing said."""
