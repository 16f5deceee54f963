"""Manifests of pods that run a shell script with a volume at /data: a single pod, and a StatefulSet of one pod."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from localcluster.images import PAUSE

SHELL: Final = ("/bin/busybox", "sh", "-c")

IDLE: Final = "trap exit TERM; sleep 2147483647 & wait"
"""A script that ends at once on SIGTERM: a shell runs the trap only while no program is in the foreground."""

_LOOP: Final = (
    "while :; do n=$((n+1)); read now rest < /proc/uptime; echo $n $now >> /data/log; sync -d /data/log; "
    "usleep 50000; done"
)
COUNT: Final = f"trap exit TERM; n=0; {_LOOP}"
"""A script that writes the numbers from 1 with their times to /data/log, and syncs each to disk before the next."""

CONTINUE_COUNT: Final = f"trap exit TERM; n=$(cat /data/log 2>/dev/null | wc -l); {_LOOP}"
"""The same script, but it continues after the last number in the file."""

INTERRUPTION: Final = 30.0
"""Seconds between two numbers that count as an interruption; a busy machine causes shorter pauses."""

TOLERATE_CORDON: Final = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}
"""A toleration for cordoned nodes, because tests that run at the same time cordon nodes."""


def pod_manifest(
    name: str,
    claim: str,
    *,
    on: str | None = None,
    script: str = IDLE,
    container: Mapping[str, Any] = MappingProxyType({}),
    **spec: Any,
) -> dict[str, Any]:
    """The manifest of a pod with the claim's volume.

    Args:
        name: The pod's name, and its label `app`.
        claim: The name of the claim.
        on: The node on which it runs, if that matters.
        script: The shell script that its container runs.
        container: Overrides fields of the container.
        spec: Overrides fields of the pod's spec.
    """
    main = {
        "name": "main",
        "image": PAUSE,
        "imagePullPolicy": "IfNotPresent",
        "command": [*SHELL, script],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        **container,
    }
    placement = {"nodeSelector": {"kubernetes.io/hostname": on}, "tolerations": [TOLERATE_CORDON]} if on else {}
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim}}
    merged = {"containers": [main], "volumes": [volume], "terminationGracePeriodSeconds": 1, **placement, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": merged}


def stateful_set_manifest(name: str, class_: str, *, script: str = IDLE, **spec: Any) -> dict[str, Any]:
    """The manifest of a StatefulSet of one pod, with a volume of the StorageClass; `spec` overrides the pod's spec."""
    pod = pod_manifest(name, "", script=script, volumes=[], **spec)
    claim = {
        "storageClassName": class_,
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod["spec"]},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        },
    }
