"""The control plane: etcd, the API server, the controller manager and the scheduler."""

from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.kit import command
from localcluster.cloud import EksCluster
from localcluster.kubernetes.certificates import ADMINS
from localcluster.kubernetes.infrastructure import Infrastructure
from localcluster.machines import network
from localcluster.machines.daemon import Daemon

PORT: Final = 443
"""The API server's port; also that of its service, so that no proxy is needed between the two."""

SERVER: Final = f"https://{network.GATEWAY}:{PORT}"

NODE_GRACE_PERIOD: Final = 16
"""Seconds without a heartbeat after which a node is not ready; Kubernetes' default is 50."""

_READY_TIMEOUT: Final = 180.0


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The control plane's programs, each a process of the sandbox in the hub's network."""

    infrastructure: Infrastructure
    eks: EksCluster
    """The EKS cluster that it is the control plane of."""

    async def start(self) -> None:
        """Start all programs, and wait until the API server is ready.

        Raises:
            ProcessEnded, ProcessNotReady: The API server did not become ready.
        """
        await self._start_api_server(await self._start_etcd())
        await self._start_controllers()
        await self._start_scheduler()

    async def _start_etcd(self) -> Daemon:
        url = "http://127.0.0.1:2379"
        return await self._start(
            "etcd",
            "etcd",
            f"--data-dir={self.infrastructure.sandbox.path / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            "--log-level=warn",
            "--logger=zap",
        )

    async def _start_api_server(self, etcd: Daemon) -> None:
        hosts = (network.GATEWAY, network.API_SERVICE, "127.0.0.1", "localhost", "kubernetes.default.svc")
        certificate, key = self.infrastructure.authority.issue("api-server", *hosts, user="kube-apiserver")
        kubelet_certificate, kubelet_key = self.infrastructure.authority.issue(
            "api-server-kubelet", user="kube-apiserver", group=ADMINS
        )
        api_server = await self._start(
            "kube-apiserver",
            self.infrastructure.programs["kube-apiserver"],
            "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=0.0.0.0",
            f"--advertise-address={network.GATEWAY}",
            f"--secure-port={PORT}",
            f"--service-cluster-ip-range={network.SERVICES}",
            f"--client-ca-file={self.infrastructure.authority.certificate}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--kubelet-client-certificate={kubelet_certificate}",
            f"--kubelet-client-key={kubelet_key}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-key-file={self.eks.keys / 'sa.pub'}",
            f"--service-account-signing-key-file={self.eks.keys / 'sa.key'}",
            f"--service-account-issuer={self.eks.issuer}",
            "--api-audiences=https://kubernetes.default.svc",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--profiling=false",
        )
        admin = self.infrastructure.authority.write_kubeconfig("admin", SERVER, user="admin", group=ADMINS)
        ready = [self.infrastructure.programs["kubectl"], f"--kubeconfig={admin}", "get", "--raw=/readyz"]

        async def is_ready() -> bool:
            return not (await command.run(self.infrastructure.hub.network_argv(*ready), ok=frozenset({0, 1}))).code

        await api_server.wait_until(is_ready, seconds=_READY_TIMEOUT, dependencies=[etcd])

    async def _start_controllers(self) -> None:
        kubeconfig = self.infrastructure.authority.write_kubeconfig(
            "controller-manager", SERVER, user="system:kube-controller-manager"
        )
        await self._start(
            "kube-controller-manager",
            self.infrastructure.programs["kube-controller-manager"],
            f"--kubeconfig={kubeconfig}",
            f"--root-ca-file={self.infrastructure.authority.certificate}",
            f"--service-account-private-key-file={self.eks.keys / 'sa.key'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--node-monitor-period=2s",
            f"--node-monitor-grace-period={NODE_GRACE_PERIOD}s",
            "--attach-detach-reconcile-sync-period=10s",
            f"--flex-volume-plugin-dir={self.infrastructure.sandbox.path / 'flex'}",  # the default is below /usr
            "--profiling=false",
        )

    async def _start_scheduler(self) -> None:
        kubeconfig = self.infrastructure.authority.write_kubeconfig("scheduler", SERVER, user="system:kube-scheduler")
        await self._start(
            "kube-scheduler",
            self.infrastructure.programs["kube-scheduler"],
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--profiling=false",
        )

    async def _start(self, name: str, *argv: str) -> Daemon:
        return await Daemon.start(self.infrastructure.sandbox, name, self.infrastructure.hub.network_argv(*argv))
