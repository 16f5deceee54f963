"""The driver, installed from its chart as users install it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hyperpod_ebs.kit import command
from hyperpod_ebs.sandbox.failures import Failure
from localcluster import cloud, programs
from localcluster.images import REGISTRY
from localcluster.kubernetes.kubectl import Kubectl

ROOT: Final = Path(__file__).parent.parent.parent
CHART: Final = ROOT / "charts" / "hyperpod-ebs"
HELM: Final = programs.HELM

RELEASE: Final = "hyperpod-ebs"
NAMESPACE: Final = "kube-system"

_LEADER_ELECTION: Final = {"leaseDuration": "8s", "renewDeadline": "6s", "retryPeriod": "1s"}
_SNAPSHOTTER_FLAGS: Final = ("lease-duration=8s", "renew-deadline=6s", "retry-period=1s")
"""Shorter than the sidecars' default of 15 s, for which a test that kills a leader would have to wait. They are not
shorter still, because a leader on a busy machine would exit if it could not renew its lease in time."""

_TIMEOUT: Final = 240


class InstallFailed(Failure):
    """Installing the release failed; the message shows its pods and the end of their logs."""


@dataclass(frozen=True, slots=True)
class Release:
    """The release of the chart in a cluster."""

    kubectl: Kubectl
    home: Path
    """The directory of the values, and of Helm's own files."""

    def values(self, region: str, role: str) -> dict[str, Any]:  # values of any kind, as a chart's are
        """The chart's values: the driver's role, the emulator's endpoint, and images that are on the nodes already."""
        return {
            "image": {"containerRegistry": REGISTRY},
            "embeddedCloud": {"endpoint": cloud.URL},
            "controller": {"region": region},
            "hyperpod": {"role": {"arn": role}},
            "snapshotController": {"enabled": True},
            # Updating one node at a time takes a minute longer.
            "node": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": "100%"}}},
            "sidecars": {
                **{name: {"leaderElection": _LEADER_ELECTION} for name in ("provisioner", "attacher", "resizer")},
                "snapshotter": {"additionalArgs": [f"--leader-election-{name}" for name in _SNAPSHOTTER_FLAGS]},
            },
        }

    async def upgrade(self, values: dict[str, Any]) -> None:  # as above
        """Install or upgrade the release, and wait until all its pods are ready.

        Raises:
            InstallFailed: Helm failed, or a pod did not become ready in time.
        """
        file = self.home / "values.json"
        file.write_text(json.dumps(values, indent=2))
        wait = ("--wait", f"--timeout={_TIMEOUT}s")
        try:
            await self.helm("upgrade", "--install", RELEASE, str(CHART), f"--values={file}", *wait)
        except command.CommandFailed as failed:
            raise InstallFailed(f"{failed}\n{await self._status()}") from failed

    async def _status(self) -> str:
        """The pods of the release, and the end of their logs."""
        pods = await self.kubectl("get", "pods", f"--namespace={NAMESPACE}", "--output=wide")
        logs = await self.kubectl(
            "logs", f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/name=hyperpod-ebs", "--all-containers",
            "--prefix", "--tail=3", "--ignore-errors", ok=(0, 1),
        )  # fmt: skip
        return f"{pods.out}{logs.out}"

    async def uninstall(self) -> None:
        """Uninstall the release."""
        await self.helm("uninstall", RELEASE, "--wait", f"--timeout={_TIMEOUT}s")

    async def helm(self, *words: str) -> command.Finished:
        """Run Helm, with its files in `home`."""
        directory = self.home / "helm"
        environment = {
            "HELM_CACHE_HOME": directory / "cache",
            "HELM_CONFIG_HOME": directory / "config",
            "HELM_DATA_HOME": directory / "data",
            "KUBECACHEDIR": self.kubectl.cache,
        }
        cluster = (f"--kubeconfig={self.kubectl.kubeconfig}", f"--namespace={NAMESPACE}")
        argv = ["env", *(f"{name}={value}" for name, value in environment.items()), str(HELM), *words, *cluster]
        return await command.run(argv, deadline=_TIMEOUT + 30)
