"""The node process: where the CSI node service meets Linux, kubelet and the Kubernetes API."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from hyperpod_ebs.driver.app.options import NODE, SERVING, NodeOptions, ServingOptions
from hyperpod_ebs.driver.app.process import Process
from hyperpod_ebs.driver.aws.imds import InstanceMetadata
from hyperpod_ebs.driver.csi.node import Node
from hyperpod_ebs.driver.csi.registration import Plugin, Registration
from hyperpod_ebs.driver.csi.server import Services
from hyperpod_ebs.driver.kubernetes.cluster import Kubernetes
from hyperpod_ebs.driver.linux import mkfs
from hyperpod_ebs.driver.linux.host import LinuxHost
from hyperpod_ebs.driver.model import errors, nodes
from hyperpod_ebs.driver.model.node_identity import AttachLimitSettings, PartialIdentity
from hyperpod_ebs.driver.node.identity_lookup import IdentityLookup, Source
from hyperpod_ebs.driver.node.startup_taint import StartUpTaint
from hyperpod_ebs.driver.observe.condition import Condition
from hyperpod_ebs.kit.operations import Operations

_HYPERPOD: Final = "hyperpod-"
"""How a HyperPod node's Kubernetes name begins."""

_LABELER: Final = "metadata-labeler"
_SOURCES: Final = (InstanceMetadata.name, Kubernetes.name, _LABELER)
_LIVE: Final = "the node's labels are read anew each time, and no labeler is needed for that"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProcess:
    """What a node process is made of."""

    service: Node
    who: IdentityLookup
    registration: Registration | None
    taint: StartUpTaint | None

    @asynccontextmanager
    async def standing(self) -> AsyncGenerator[None]:
        """Known to kubelet and to the cluster for as long as the block runs; the service has to be served already."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._introduced())]
            if self.taint:
                running.append(tasks.create_task(self.taint.watch_and_remove()))
            try:
                yield
            finally:
                for task in running:
                    task.cancel()

    async def _introduced(self) -> None:
        if self.registration:
            await self.registration.keep(self.who.wait_until_known)
        else:
            await self.who.wait_until_known()


def run_node(*, serving: ServingOptions = SERVING, node: NodeOptions = NODE) -> None:
    """Serve the CSI identity and node services until SIGTERM or SIGINT."""
    asyncio.run(_serve(serving, node))


async def _serve(serving: ServingOptions, options: NodeOptions) -> None:
    process = Process.prepare(serving)
    async with open_node(options, serving.kubeconfig, process.condition) as node:
        await process.serve(Services(node=node.service), node.standing())


@asynccontextmanager
async def open_node(options: NodeOptions, config: Path | None, condition: Condition) -> AsyncGenerator[NodeProcess]:
    """The node's process, put together by its options; `config` is a kubeconfig, for one that is no pod.

    Raises:
        InvalidRequest: Options that cannot be, or cannot be together.
    """
    _check(options)
    async with AsyncExitStack() as stack:
        kubernetes = await stack.enter_async_context(Kubernetes.connect(options.node_name, config))
        who = IdentityLookup(_given(options), _sources(options, kubernetes), _allowance(options), condition)
        registration = _registration(options, condition)
        host = LinuxHost(
            devices=options.device_directory,
            root=options.kubelet_root,
            makers=mkfs.LEGACY if options.legacy_xfs else mkfs.PROGRAMS,
        )
        operations = await stack.enter_async_context(Operations[str]())
        watched = options.node_name and _in_cluster(config) and not options.disable_taint_watcher
        taken = registration.taken if registration else asyncio.Event()
        yield NodeProcess(
            # The generated base answers what a servicer leaves out; only its stubs call it abstract.
            service=Node(host, who, operations),  # type: ignore[abstract] # as said
            who=who,
            registration=registration,
            taint=StartUpTaint(kubernetes, taken, has_limit=lambda: who.has_attach_limit) if watched else None,
        )


def _check(options: NodeOptions) -> None:
    """Refuse what cannot be; say of what is taken without need that it is.

    Raises:
        InvalidRequest: As said.
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
            "--plugin-registration-path needs --kubelet-registration-path: where kubelet sees this process' own socket"
        )
    if options.windows_host_process:
        raise errors.InvalidRequest("--windows-host-process is not possible: nodes that run Windows are not served")
    if options.csi_mount_point_prefix:
        log.info("option not needed", option="--csi-mount-point-prefix", why="volumes are told by their serial numbers")


def _given(options: NodeOptions) -> PartialIdentity:
    return PartialIdentity(
        id=nodes.parse(options.node_id) if options.node_id else None,
        zone=options.zone,
        instance_type=options.instance_type,
    )


def _allowance(options: NodeOptions) -> AttachLimitSettings:
    limit, reserved = options.volume_attach_limit, options.reserved_volume_attachments
    return AttachLimitSettings(limit=limit if limit >= 0 else None, reserved=reserved if reserved >= 0 else None)


def _sources(options: NodeOptions, kubernetes: Kubernetes) -> list[Source]:
    """Those that are asked, in their order.

    Raises:
        InvalidRequest: One is named that there is not.
    """
    names = [name.strip() for name in options.metadata_sources.split(",") if name.strip()]
    if unknown := [name for name in names if name not in _SOURCES]:
        raise errors.InvalidRequest(f"--metadata-sources has {unknown[0]!r}; there are {', '.join(_SOURCES)}")
    sources: dict[str, Source] = {}
    for name in names:
        if name == InstanceMetadata.name:
            # A HyperPod node's metadata is that of the plain instance that it also is.
            if not (options.node_name or "").startswith(_HYPERPOD) and not _disabled():
                sources[name] = InstanceMetadata(options.metadata_endpoint)
        else:
            sources.setdefault(kubernetes.name, kubernetes)
    if _LABELER in names:
        log.info(
            "option taken as another", option=f"--metadata-sources={_LABELER}", taken_as=kubernetes.name, why=_LIVE
        )
    return list(sources.values())


def _registration(options: NodeOptions, condition: Condition) -> Registration | None:
    directory, endpoint = options.plugin_registration_path, options.kubelet_registration_path
    if not (directory and endpoint):
        return None
    return Registration(Plugin(directory=directory, endpoint=str(endpoint)), condition)


def _in_cluster(config: Path | None) -> bool:
    """Whether there is a cluster to speak to, as far as can be told without asking."""
    return config is not None or "KUBERNETES_SERVICE_HOST" in os.environ


def _disabled() -> bool:
    """Whether instance metadata is switched off, as every AWS SDK reads it."""
    return os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
