"""The driver, installed from its chart as its users do it."""

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

_ELECTION: Final = {"leaseDuration": "8s", "renewDeadline": "6s", "retryPeriod": "1s"}
_ELECTED: Final = ("lease-duration=8s", "renew-deadline=6s", "retry-period=1s")
"""Shorter than the sidecars' own 15 s, which whoever kills a leader to look what happens would wait for; but a leader
that cannot renew in time ends, and on a busy machine that must not happen."""

_PATIENCE: Final = 240


class NotInstalled(Failure):
    """The release is not there, or not well; the message shows its pods and what they said last."""


@dataclass(frozen=True, slots=True)
class Release:
    """The chart's release in a cluster."""

    kubectl: Kubectl
    home: Path
    """A directory for the values, and for Helm's own files."""

    def values(self, region: str) -> dict[str, Any]:  # values of any kind, as a chart's are
        """What is said to the chart: where the cloud is, and that images come from no registry."""
        return {
            "image": {"containerRegistry": REGISTRY},
            "embeddedCloud": {"endpoint": cloud.URL},
            "controller": {"region": region},
            "snapshotController": {"enabled": True},
            "node": {
                "updateStrategy": {"rollingUpdate": {"maxUnavailable": "100%"}}
            },  # one by one takes a minute longer
            "sidecars": {
                **{name: {"leaderElection": _ELECTION} for name in ("provisioner", "attacher", "resizer")},
                "snapshotter": {"additionalArgs": [f"--leader-election-{name}" for name in _ELECTED]},
            },
        }

    async def credentials(self, key_id: str, key: str) -> None:
        """Have the secret in which the chart looks for access keys."""
        await self.kubectl.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "aws-secret", "namespace": NAMESPACE},
                "stringData": {"key_id": key_id, "access_key": key},
            }
        )

    async def upgrade(self, values: dict[str, Any]) -> None:  # as above
        """Come back when the release is installed or upgraded, and all of it is ready.

        Raises:
            NotInstalled: Helm refuses, or something does not become ready.
        """
        file = self.home / "values.json"
        file.write_text(json.dumps(values, indent=2))
        wait = ("--wait", f"--timeout={_PATIENCE}s")
        try:
            await self.helm("upgrade", "--install", RELEASE, str(CHART), f"--values={file}", *wait)
        except command.CommandFailed as failed:
            raise NotInstalled(f"{failed}\n{await self._looks()}") from failed

    async def _looks(self) -> str:
        """What of the release is not well, as an operator would look."""
        pods = await self.kubectl("get", "pods", f"--namespace={NAMESPACE}", "--output=wide")
        logs = await self.kubectl(
            "logs", f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/name=hyperpod-ebs", "--all-containers",
            "--prefix", "--tail=3", "--ignore-errors", ok=(0, 1),
        )  # fmt: skip
        return f"{pods.out}{logs.out}"

    async def uninstall(self) -> None:
        """Take the release away."""
        await self.helm("uninstall", RELEASE, "--wait", f"--timeout={_PATIENCE}s")

    async def helm(self, *words: str) -> command.Finished:
        """What Helm prints."""
        own = self.home / "helm"
        kept = {
            "HELM_CACHE_HOME": own / "cache",
            "HELM_CONFIG_HOME": own / "config",
            "HELM_DATA_HOME": own / "data",
            "KUBECACHEDIR": self.kubectl.cache,
        }
        where = (f"--kubeconfig={self.kubectl.kubeconfig}", f"--namespace={NAMESPACE}")
        argv = ["env", *(f"{name}={value}" for name, value in kept.items()), str(HELM), *words, *where]
        return await command.run(argv, deadline=_PATIENCE + 30)
