"""Every setting of the driver's processes: one field defines its flag, environment variables and help text.

A flag overrides its variables. If a flag has several variables, the first one that is set counts.
A setting that the upstream driver has too has the same name and meaning here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from hyperpod_ebs.driver.app.go_duration import parse_go_duration
from hyperpod_ebs.driver.model import errors, tags
from hyperpod_ebs.driver.model.aws_scope import AwsScope
from hyperpod_ebs.driver.model.modification import WINDOW
from hyperpod_ebs.driver.model.tags import TagPolicy

PREFIX: Final = "HYPERPOD_EBS_"
"""The prefix of every flag's environment variable."""

_SERVING: Final = Group("Serving", sort_key=1)
_WAITING: Final = Group("Waiting and log", sort_key=1)
_AWS: Final = Group("AWS", sort_key=2)
_IDENTITY: Final = Group("HyperPod and node identity", sort_key=3)
_TAGS: Final = Group("Tags", sort_key=4)
_KUBERNETES: Final = Group("Kubelet and Kubernetes", sort_key=5)
_DEVICES: Final = Group("Devices and filesystems", sort_key=6)
_UPSTREAM: Final = Group(
    "Compatibility with upstream",
    "Flags of the upstream AWS EBS CSI driver, accepted so that its charts and scripts work with this driver.",
    sort_key=7,
)


def _setting(group: Group, name: str, *others: str) -> Parameter:
    """A flag's group in the help, and its variables: the driver's own (`name`), then those of AWS or other tools."""
    return Parameter(group=group, env_var=[PREFIX + name, *others], show_default=_shown_default)


def _list_setting(group: Group, name: str) -> Parameter:
    """As `_setting`, for a flag that may be repeated; its variable has a single item, which may contain spaces."""
    return Parameter(
        group=group,
        env_var=[PREFIX + name],
        env_var_split=_unsplit,
        consume_multiple=False,
        show_default=_shown_default,
    )


def _shown_default(default: object) -> object:
    """The default for the help; None for an empty default, which the help leaves out."""
    return None if default in {"", ()} else default


def _ignore(_: str) -> None:
    pass


def _unsplit(_: object, text: str, *, delimiter: str | None = None) -> list[str]:
    del delimiter
    return [text]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """The settings of every driver process."""

    endpoint: Annotated[str, _setting(_SERVING, "ENDPOINT")] = "unix:///tmp/csi.sock"
    """Unix socket on which to serve CSI."""

    v: Annotated[int, Parameter(name=["--v", "-v"]), _setting(_SERVING, "V")] = 2
    """Log verbosity: 0 logs warnings, 1 to 3 also CSI calls, 4 and above everything."""

    logging_format: Annotated[Literal["text", "json"], _setting(_SERVING, "LOGGING_FORMAT")] = "text"
    """Format of the log on stderr."""

    health_endpoint: Annotated[str, _setting(_SERVING, "HEALTH_ENDPOINT")] = ""
    """Address, as host:port or :port, on which to serve /livez and /healthz. Disabled if empty."""

    http_endpoint: Annotated[str, _setting(_SERVING, "HTTP_ENDPOINT")] = ""
    """Address, as host:port or :port, on which to serve /metrics, /livez and /healthz. Disabled if empty."""

    metrics_cert_file: Annotated[Path | None, _setting(_SERVING, "METRICS_CERT_FILE")] = None
    """TLS certificate chain for --http-endpoint. Without it, the endpoint serves plain HTTP."""

    metrics_key_file: Annotated[Path | None, _setting(_SERVING, "METRICS_KEY_FILE")] = None
    """Private key of --metrics-cert-file."""

    drain_seconds: Annotated[float, _setting(_SERVING, "DRAIN_SECONDS"), Parameter(validator=Number(gte=0))] = 20.0
    """Seconds for which a stopping process waits for running calls."""

    kubeconfig: Annotated[Path | None, _setting(_KUBERNETES, "KUBECONFIG")] = None
    """Kubeconfig file. A pod needs none."""

    attach_limits_configmap: Annotated[str, _setting(_KUBERNETES, "ATTACH_LIMITS_CONFIGMAP")] = ""
    """ConfigMap, as namespace/name, with the attach limits of instance types that the driver's table lacks: the
    controller writes them from EC2's answers, node processes read them. Disabled if empty."""

    enable_otel_tracing: Annotated[bool, _setting(_UPSTREAM, "ENABLE_OTEL_TRACING")] = False
    """Ignored, with a warning: this driver has no tracing."""

    vmodule: Annotated[str, _setting(_UPSTREAM, "VMODULE")] = ""
    """Ignored, with a warning: use --v."""

    logtostderr: Annotated[bool, _setting(_UPSTREAM, "LOGTOSTDERR")] = True
    """Ignored: the log always goes to stderr."""

    log_flush_frequency: Annotated[str, _setting(_UPSTREAM, "LOG_FLUSH_FREQUENCY")] = ""
    """Ignored, with a warning: every log line is written at once."""

    log_json_info_buffer_size: Annotated[str, _setting(_UPSTREAM, "LOG_JSON_INFO_BUFFER_SIZE")] = ""
    """Ignored, with a warning: the log is not buffered."""

    log_json_split_stream: Annotated[bool, _setting(_UPSTREAM, "LOG_JSON_SPLIT_STREAM")] = False
    """Ignored, with a warning: the whole log goes to stderr."""

    log_text_info_buffer_size: Annotated[str, _setting(_UPSTREAM, "LOG_TEXT_INFO_BUFFER_SIZE")] = ""
    """Ignored, with a warning: the log is not buffered."""

    log_text_split_stream: Annotated[bool, _setting(_UPSTREAM, "LOG_TEXT_SPLIT_STREAM")] = False
    """Ignored, with a warning: the whole log goes to stderr."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """The settings of the controller. The AWS SDK finds its credentials as usual."""

    region: Annotated[str | None, _setting(_AWS, "REGION", "AWS_REGION", "AWS_DEFAULT_REGION")] = None
    """AWS region of the volumes. If absent, the AWS profile or instance metadata provides it."""

    account_id: Annotated[str | None, _setting(_AWS, "ACCOUNT_ID")] = None
    """AWS account of the volumes and HyperPod clusters, twelve digits. If absent, STS provides it."""

    partition: Annotated[str | None, _setting(_AWS, "PARTITION")] = None
    """AWS partition for ARNs: aws, aws-cn or aws-us-gov. If absent, it follows from the region."""

    ec2_endpoint: Annotated[str | None, _setting(_AWS, "EC2_ENDPOINT", "AWS_EC2_ENDPOINT")] = None
    """URL of the EC2 API, in place of AWS's own."""

    sagemaker_endpoint: Annotated[str | None, _setting(_AWS, "SAGEMAKER_ENDPOINT", "AWS_SAGEMAKER_ENDPOINT")] = None
    """URL of the SageMaker API, in place of AWS's own."""

    user_agent_extra: Annotated[str, _setting(_AWS, "USER_AGENT_EXTRA")] = ""
    """Text to append to the user agent of requests to AWS."""

    aws_sdk_debug_log: Annotated[bool, _setting(_AWS, "AWS_SDK_DEBUG_LOG")] = False
    """Log every request to AWS and its answer, without credentials."""

    modify_volume_request_handler_timeout: Annotated[str, _setting(_AWS, "MODIFY_VOLUME_REQUEST_HANDLER_TIMEOUT")] = (
        f"{WINDOW:g}s"
    )
    """Time that a growth or a change of class waits for the other one, so that both are one modification of the volume,
    of which AWS allows four a day."""

    cluster_arn: Annotated[str | None, _setting(_IDENTITY, "CLUSTER_ARN")] = None
    """ARN of the HyperPod cluster, which gives the region, account and partition."""

    extra_tags: Annotated[tuple[str, ...], _list_setting(_TAGS, "EXTRA_TAGS")] = ()
    """Tags for every volume and snapshot, as key=value,key=value; values may be templates."""

    k8s_tag_cluster_id: Annotated[str, _setting(_TAGS, "K8S_TAG_CLUSTER_ID")] = ""
    """Name of the cluster, with which the driver tags every volume and snapshot."""

    warn_on_invalid_tag: Annotated[bool, _setting(_TAGS, "WARN_ON_INVALID_TAG")] = False
    """Leave out invalid tags with a warning, instead of rejecting the volume."""

    extra_volume_tags: Annotated[tuple[str, ...], _list_setting(_UPSTREAM, "EXTRA_VOLUME_TAGS")] = ()
    """Deprecated name of --extra-tags."""

    batching: Annotated[bool, _setting(_UPSTREAM, "BATCHING")] = True
    """Ignored: the driver always describes volumes in batches, and logs a warning if the flag is false."""

    deprecated_metrics: Annotated[bool, _setting(_UPSTREAM, "DEPRECATED_METRICS")] = False
    """Also serve the metrics of AWS calls under their former names, cloudprovider_aws_*."""

    enable_node_local_volumes: Annotated[bool, _setting(_UPSTREAM, "ENABLE_NODE_LOCAL_VOLUMES")] = False
    """Must be false: this driver does not support node-local volumes."""

    def aws_scope(self) -> AwsScope:
        """The partition, region and account that the flags name.

        Raises:
            InvalidRequest: A value is invalid, or the flags contradict each other.
        """
        return AwsScope.from_flags(
            cluster=self.cluster_arn, partition=self.partition, region=self.region, account=self.account_id
        )

    def modification_window(self) -> float:
        """The seconds that a growth or a change of class waits for the other one.

        Raises:
            InvalidRequest: The value is not a duration above zero.
        """
        name, text = "--modify-volume-request-handler-timeout", self.modify_volume_request_handler_timeout
        try:
            seconds = parse_go_duration(text)
        except ValueError as error:
            raise errors.InvalidRequest(f"{name}: {error}") from error
        if not seconds:
            raise errors.InvalidRequest(f"{name} is {text}; it must not be zero")
        return seconds

    def tag_policy(self, on_invalid_tag: Callable[[str], None] = _ignore) -> TagPolicy:
        """The tags for every volume and snapshot; `on_invalid_tag` gets the reason for each tag that is left out."""
        return TagPolicy(
            cluster=self.k8s_tag_cluster_id,
            extra=tags.split_flags([*self.extra_volume_tags, *self.extra_tags]),
            on_invalid=on_invalid_tag if self.warn_on_invalid_tag else None,
        )


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """The settings of the node process. The metadata sources provide the parts of the identity that are not set."""

    node_id: Annotated[str | None, _setting(_IDENTITY, "NODE_ID")] = None
    """CSI node id: hyperpod-<cluster id>-i-<hex> for a HyperPod node, i-<hex> for a plain EC2 instance."""

    zone: Annotated[str | None, _setting(_IDENTITY, "ZONE")] = None
    """Availability zone of the node."""

    instance_type: Annotated[str | None, _setting(_IDENTITY, "INSTANCE_TYPE")] = None
    """Instance type of the node, which determines how many volumes it can have."""

    node_name: Annotated[str | None, _setting(_IDENTITY, "NODE_NAME", "CSI_NODE_NAME")] = None
    """Name of the node in Kubernetes. Names of HyperPod nodes begin with hyperpod-."""

    metadata_sources: Annotated[str, _setting(_IDENTITY, "METADATA_SOURCES")] = "imds,kubernetes"
    """Sources of the node's identity, in order of precedence: imds, kubernetes."""

    metadata_endpoint: Annotated[
        str | None, _setting(_IDENTITY, "METADATA_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT")
    ] = None
    """URL of the EC2 instance metadata service, in place of its usual address."""

    volume_attach_limit: Annotated[
        int, _setting(_IDENTITY, "VOLUME_ATTACH_LIMIT"), Parameter(validator=Number(gte=-1))
    ] = -1
    """Maximum number of volumes on the node; -1 derives it from the instance type."""

    reserved_volume_attachments: Annotated[
        int, _setting(_IDENTITY, "RESERVED_VOLUME_ATTACHMENTS"), Parameter(validator=Number(gte=-1))
    ] = -1
    """Attach slots to leave free; -1 asks the metadata sources. Cannot be combined with --volume-attach-limit."""

    kubelet_root: Annotated[Path, _setting(_KUBERNETES, "KUBELET_ROOT")] = Path("/var/lib/kubelet")
    """Root directory of kubelet. The driver mounts nothing outside it."""

    kubelet_registration_path: Annotated[Path | None, _setting(_KUBERNETES, "KUBELET_REGISTRATION_PATH")] = None
    """Path of this process's CSI socket as kubelet sees it."""

    plugin_registration_path: Annotated[Path | None, _setting(_KUBERNETES, "PLUGIN_REGISTRATION_PATH")] = None
    """Kubelet's plugins_registry directory as this process sees it. If absent, a sidecar must register the driver."""

    disable_taint_watcher: Annotated[str, _setting(_KUBERNETES, "DISABLE_TAINT_WATCHER", "DISABLE_TAINT_WATCHER")] = ""
    """Any text makes the driver leave the start-up taint ebs.csi.aws.com/agent-not-ready in place."""

    device_directory: Annotated[Path, _setting(_DEVICES, "DEVICE_DIRECTORY")] = Path("/dev")
    """Directory of the node's block devices."""

    legacy_xfs: Annotated[bool, _setting(_DEVICES, "LEGACY_XFS")] = False
    """Create XFS filesystems that kernels up to 5.4 can mount."""

    csi_mount_point_prefix: Annotated[str, _setting(_UPSTREAM, "CSI_MOUNT_POINT_PREFIX")] = ""
    """Ignored: the driver recognises a volume's device by its serial number."""

    windows_host_process: Annotated[bool, _setting(_UPSTREAM, "WINDOWS_HOST_PROCESS")] = False
    """Must be false: this driver does not support Windows."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class HookOptions:
    """The settings of the pre-stop hook of the node's container."""

    wait_seconds: Annotated[float, _setting(_WAITING, "WAIT_SECONDS"), Parameter(validator=Number(gt=0))] = 20.0
    """Maximum seconds to wait. The pod's grace period must be longer: the node process stops after the hook."""

    v: Annotated[int, Parameter(name=["--v", "-v"]), _setting(_WAITING, "V")] = 2
    """Log verbosity: 0 logs warnings, 1 to 3 also progress, 4 and above everything."""

    logging_format: Annotated[Literal["text", "json"], _setting(_WAITING, "LOGGING_FORMAT")] = "text"
    """Format of the log on stderr."""

    node_name: Annotated[str | None, _setting(_KUBERNETES, "NODE_NAME", "CSI_NODE_NAME")] = None
    """Name of the node in Kubernetes."""

    kubeconfig: Annotated[Path | None, _setting(_KUBERNETES, "KUBECONFIG")] = None
    """Kubeconfig file. A pod needs none."""


SERVING: Final = ServingOptions()
CONTROLLER: Final = ControllerOptions()
NODE: Final = NodeOptions()
HOOK: Final = HookOptions()
"""As the three above: the settings without flags and variables."""
