"""The control plane: etcd, the API server, the controllers and the scheduler, as they come."""

from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.kit import command
from localcluster.kubernetes.keys import ADMINS
from localcluster.kubernetes.site import Site
from localcluster.machines import network
from localcluster.machines.daemon import Daemon

PORT: Final = 443
"""The API server's own port is its service's, so that no proxy has to lead from one to the other."""

SERVER: Final = f"https://{network.GATEWAY}:{PORT}"

LOST: Final = 16
"""Seconds without a sign of life after which a node counts as lost; Kubernetes' own are 50."""

_READY: Final = 180.0


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """How to start it: each program a process of the sandbox, in the hub's network."""

    site: Site

    async def start(self) -> None:
        """Start all of it; done when the API server says that it is ready.

        Raises:
            ProcessEnded, ProcessNotReady: It does not come up.
        """
        await self._start_api_server(await self._start_etcd())
        await self._start_controllers()
        await self._start_scheduler()

    async def _start_etcd(self) -> Daemon:
        url = "http://127.0.0.1:2379"
        return await self._start(
            "etcd",
            "etcd",
            f"--data-dir={self.site.sandbox.path / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            "--log-level=warn",
            "--logger=zap",
        )

    async def _start_api_server(self, etcd: Daemon) -> None:
        hosts = (network.GATEWAY, network.API_SERVICE, "127.0.0.1", "localhost", "kubernetes.default.svc")
        certificate, key = self.site.keys.pair("api-server", *hosts, user="kube-apiserver")
        to_nodes, to_nodes_key = self.site.keys.pair("api-server-kubelet", user="kube-apiserver", group=ADMINS)
        tokens, tokens_key = self.site.keys.pair("service-accounts", user="service-accounts")
        api_server = await self._start(
            "kube-apiserver",
            self.site.programs["kube-apiserver"],
            "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=0.0.0.0",
            f"--advertise-address={network.GATEWAY}",
            f"--secure-port={PORT}",
            f"--service-cluster-ip-range={network.SERVICES}",
            f"--client-ca-file={self.site.keys.ca}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--kubelet-client-certificate={to_nodes}",
            f"--kubelet-client-key={to_nodes_key}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-key-file={tokens}",
            f"--service-account-signing-key-file={tokens_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--profiling=false",
        )
        admin = self.site.keys.kubeconfig("admin", SERVER, user="admin", group=ADMINS)
        ready = [self.site.programs["kubectl"], f"--kubeconfig={admin}", "get", "--raw=/readyz"]

        async def answers() -> bool:
            return not (await command.run(self.site.hub.inside(*ready), ok=frozenset({0, 1}))).code

        await api_server.until(answers, seconds=_READY, needs=[etcd])

    async def _start_controllers(self) -> None:
        kubeconfig = self.site.keys.kubeconfig("controller-manager", SERVER, user="system:kube-controller-manager")
        await self._start(
            "kube-controller-manager",
            self.site.programs["kube-controller-manager"],
            f"--kubeconfig={kubeconfig}",
            f"--root-ca-file={self.site.keys.ca}",
            f"--service-account-private-key-file={self.site.keys.directory / 'service-accounts.key'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--node-monitor-period=2s",
            f"--node-monitor-grace-period={LOST}s",
            "--attach-detach-reconcile-sync-period=10s",
            f"--flex-volume-plugin-dir={self.site.sandbox.path / 'flex'}",  # its own is in /usr
            "--profiling=false",
        )

    async def _start_scheduler(self) -> None:
        kubeconfig = self.site.keys.kubeconfig("scheduler", SERVER, user="system:kube-scheduler")
        await self._start(
            "kube-scheduler",
            self.site.programs["kube-scheduler"],
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--profiling=false",
        )

    async def _start(self, name: str, *argv: str) -> Daemon:
        return await Daemon.started(self.site.sandbox, name, self.site.hub.inside(*argv))
