"""Documents of pods that run a shell script with a volume at /data: alone, and as a StatefulSet of one."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from localcluster.images import PAUSE

SHELL: Final = ("/bin/busybox", "sh", "-c")

IDLE: Final = "trap exit TERM; sleep 2147483647 & wait"
"""A script that waits to be told to end, and then ends at once: the shell does not hear it while a program runs."""

_ON: Final = (
    "while :; do n=$((n+1)); read now rest < /proc/uptime; echo $n $now >> /data/log; sync -d /data/log; "
    "usleep 50000; done"
)
COUNT: Final = f"trap exit TERM; n=0; {_ON}"
"""A script that writes the numbers from 1 on with the second of each, each to the disk before the next."""

GO_ON: Final = f"trap exit TERM; n=$(cat /data/log 2>/dev/null | wc -l); {_ON}"
"""The same, from where the one before it was stopped."""

NOTICED: Final = 30.0
"""Seconds between two of these numbers that would be an interruption; a busy machine takes some, too."""

CORDONED: Final = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}
"""Lets a pod onto a node that takes no pods: tests beside it cordon one for a while."""


def pod(
    name: str,
    claim: str,
    *,
    on: str | None = None,
    script: str = IDLE,
    container: Mapping[str, Any] = MappingProxyType({}),
    **spec: Any,
) -> dict[str, Any]:
    """The document of a pod with the claim's volume.

    `spec` is laid over its specification, `container` over that of its one container.
    """
    main = {
        "name": "main",
        "image": PAUSE,
        "imagePullPolicy": "IfNotPresent",
        "command": [*SHELL, script],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        **container,
    }
    where = {"nodeSelector": {"kubernetes.io/hostname": on}, "tolerations": [CORDONED]} if on else {}
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim}}
    said = {"containers": [main], "volumes": [volume], "terminationGracePeriodSeconds": 1, **where, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": said}


def stateful(name: str, class_: str, *, script: str = IDLE, **spec: Any) -> dict[str, Any]:
    """The document of a StatefulSet of one pod, with a volume of this StorageClass; `spec` is laid over the pod's."""
    template = pod(name, "", script=script, volumes=[], **spec)
    asked = {
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
            "template": {"metadata": {"labels": {"app": name}}, "spec": template["spec"]},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": asked}],
        },
    }
