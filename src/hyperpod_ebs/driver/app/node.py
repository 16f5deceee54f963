"""The node process: where the CSI node service meets Linux, kubelet and the Kubernetes API."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from hyperpod_ebs.driver.app.options import NODE, SERVING, NodeOptions, ServingOptions
from hyperpod_ebs.driver.app.process import Process
from hyperpod_ebs.driver.aws.imds import InstanceMetadata
from hyperpod_ebs.driver.csi.node import Node
from hyperpod_ebs.driver.csi.registration import Plugin, Registration
from hyperpod_ebs.driver.csi.server import Services
from hyperpod_ebs.driver.kubernetes.api import open_api
from hyperpod_ebs.driver.kubernetes.attach_limits_configmap import AttachLimitsConfigMap
from hyperpod_ebs.driver.kubernetes.cluster import Kubernetes
from hyperpod_ebs.driver.linux import mkfs
from hyperpod_ebs.driver.linux.host import LinuxHost
from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.node_identity import AttachLimitSettings, PartialIdentity
from hyperpod_ebs.driver.node.identity_lookup import IdentityLookup, Source
from hyperpod_ebs.driver.node.published_limits import PublishedLimits
from hyperpod_ebs.driver.node.startup_taint import StartUpTaint
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.kit import heap
from hyperpod_ebs.kit.operations import Operations

_HYPERPOD: Final = "hyperpod-"
"""The prefix of a HyperPod node's name in Kubernetes."""

_LABELER: Final = "metadata-labeler"
"""Upstream's metadata source: labels that its sidecar writes. This driver reads the node's own labels instead."""

_SOURCES: Final = (InstanceMetadata.name, Kubernetes.name, _LABELER)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProcess:
    """The node service, and what makes the node known to kubelet and to Kubernetes."""

    service: Node
    identity: IdentityLookup
    registration: Registration | None
    startup_taint: StartUpTaint | None

    @asynccontextmanager
    async def stay_registered(self) -> AsyncGenerator[None]:
        """Register with kubelet and remove the start-up taint, while the block runs; the service answers already."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._register())]
            if self.startup_taint:
                running.append(tasks.create_task(self.startup_taint.watch_and_remove()))
            try:
                yield
            finally:
                for task in running:
                    task.cancel()

    async def _register(self) -> None:
        """Look up the node's identity and register with kubelet, unless a sidecar does."""
        if self.registration:
            await self.registration.run(self.identity.wait_until_known)
        else:
            await self.identity.wait_until_known()


def run_node(*, serving: ServingOptions = SERVING, node: NodeOptions = NODE) -> None:
    """Serve the CSI identity and node services until SIGTERM or SIGINT."""
    heap.use_one_arena()
    asyncio.run(_serve(serving, node))


async def _serve(serving: ServingOptions, options: NodeOptions) -> None:
    process = Process.prepare(serving)
    async with open_node(options, serving, process.condition) as node:
        await process.serve(Services(node=node.service), node.stay_registered())


@asynccontextmanager
async def open_node(options: NodeOptions, serving: ServingOptions, condition: Condition) -> AsyncGenerator[NodeProcess]:
    """Yield the node service that the options describe.

    Raises:
        InvalidRequest: An option has an invalid value, or two options exclude each other.
    """
    _check(options)
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(open_api(serving.kubeconfig))
        kubernetes = Kubernetes(api, options.node_name or "")
        configmap = serving.attach_limits_configmap
        limit, reserved = options.volume_attach_limit, options.reserved_volume_attachments
        identity = IdentityLookup(
            PartialIdentity(
                id=nodes.parse(options.node_id) if options.node_id else None,
                zone=options.zone,
                instance_type=options.instance_type,
            ),
            _metadata_sources(options, kubernetes),
            AttachLimitSettings(limit=limit if limit >= 0 else None, reserved=reserved if reserved >= 0 else None),
            condition,
            PublishedLimits(AttachLimitsConfigMap(api, configmap)) if configmap else None,
        )
        registration: Registration | None = None
        if options.plugin_registration_path and options.kubelet_registration_path:
            plugin = Plugin(directory=options.plugin_registration_path, endpoint=str(options.kubelet_registration_path))
            registration = Registration(plugin, condition)
        host = LinuxHost(
            devices=options.device_directory,
            root=options.kubelet_root,
            mkfs_programs=mkfs.LEGACY if options.legacy_xfs else mkfs.PROGRAMS,
        )
        operations = await stack.enter_async_context(Operations[str]())
        startup_taint: StartUpTaint | None = None
        has_cluster = serving.kubeconfig is not None or "KUBERNETES_SERVICE_HOST" in os.environ
        if options.node_name and has_cluster and not options.disable_taint_watcher:
            registered = registration.registered if registration else asyncio.Event()
            startup_taint = StartUpTaint(kubernetes, registered, has_limit=lambda: identity.has_attach_limit)
        yield NodeProcess(
            # The generated base class implements every method; only its type stubs declare them abstract.
            service=Node(host, identity, operations),  # type: ignore[abstract] # as said
            identity=identity,
            registration=registration,
            startup_taint=startup_taint,
        )


def _check(options: NodeOptions) -> None:
    """Check the options.

    Raises:
        InvalidRequest: An option has an invalid value, or two options exclude each other.
    """
    if options.node_id:
        try:
            nodes.parse(options.node_id)
        except errors.NodeNotFound as error:
            raise errors.InvalidRequest(f"--node-id is wrong: {error}") from error
    if options.volume_attach_limit >= 0 and options.reserved_volume_attachments >= 0:
        raise errors.InvalidRequest("give --volume-attach-limit or --reserved-volume-attachments, not both")
    if options.plugin_registration_path and not options.kubelet_registration_path:
        raise errors.InvalidRequest(
            "--plugin-registration-path needs --kubelet-registration-path, the path of this process's socket as "
            "kubelet sees it"
        )
    if options.windows_host_process:
        raise errors.InvalidRequest(
            "--windows-host-process is not supported: this driver does not run on Windows; remove the flag"
        )
    if options.csi_mount_point_prefix:
        log.info(
            "flag has no effect",
            flag="--csi-mount-point-prefix",
            why="the driver recognises a volume's device by its serial number",
        )


def _metadata_sources(options: NodeOptions, kubernetes: Kubernetes) -> list[Source]:
    """The sources of the node's identity, in order of precedence.

    Raises:
        InvalidRequest: The options name a source that does not exist.
    """
    names = [name.strip() for name in options.metadata_sources.split(",") if name.strip()]
    if unknown := [name for name in names if name not in _SOURCES]:
        raise errors.InvalidRequest(
            f"--metadata-sources has the unknown source {unknown[0]!r}; the sources are {', '.join(_SOURCES)}"
        )
    sources: dict[str, Source] = {}
    for name in names:
        if name != InstanceMetadata.name:
            sources.setdefault(kubernetes.name, kubernetes)
        # Instance metadata describes a HyperPod node as a plain EC2 instance, without its cluster.
        elif not (options.node_name or "").startswith(_HYPERPOD) and not _is_imds_disabled():
            sources[name] = InstanceMetadata(options.metadata_endpoint)
    if _LABELER in names:
        log.info(
            "flag has another meaning",
            flag=f"--metadata-sources={_LABELER}",
            meaning=kubernetes.name,
            why="the driver reads the node's labels itself, whenever it needs them",
        )
    return list(sources.values())


def _is_imds_disabled() -> bool:
    """Whether instance metadata is disabled by the variable that every AWS SDK reads."""
    return os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
