"""A program `kubectl` that answers from files what a cluster has answered, for commands that read a cluster with it."""

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.support.doctor_site import ACCOUNT_PATH, DoctorSite
from tests.support.recorded_cluster import CLUSTER, EC2_NODE, HYPERPOD_NODES, RecordedCluster

LOG: Final = "/api/v1/namespaces/kube-system/pods/ebs-csi-controller-0/log"
_SCRIPT: Final = """#!/bin/sh
for target; do :; done
path=${target%%\\?*}
file="$(dirname "$0")/answers/$(printf %s "$path" | tr / _)"
[ -f "$file" ] && exec cat "$file"
echo "Error from server (NotFound): the server could not find the requested resource ($path)" >&2
exit 1
"""
_VOLUME: Final = "vol-0123456789abcdef0"


def recorded_answers(site: DoctorSite, cluster: RecordedCluster) -> dict[str, Any]:
    """What the API server of the recorded cluster answers, with the ids of the site's machines and volume."""
    ids = {CLUSTER: site.cluster.rpartition("/")[2], _VOLUME: site.volume}
    machines = dict(zip((*HYPERPOD_NODES, EC2_NODE), (*site.nodes, site.instance), strict=True))
    ids |= {f"i-0123456789abcdef{number}": machine for number, machine in enumerate(machines.values())}
    answers: dict[str, Any] = {path: {"items": cluster.lists[plural]} for path, plural in cluster.paths.items()}
    for group in {path.rpartition("/")[0] for path in cluster.paths}:
        kinds = [name for path, name in cluster.paths.items() if path.rpartition("/")[0] == group]
        answers[group] = {"kind": "APIResourceList", "resources": [{"name": name} for name in kinds]}
    answers["/version"] = {"gitVersion": cluster.version}
    answers[ACCOUNT_PATH] = site.kubernetes.account
    text = json.dumps(answers)
    for recorded, actual in ids.items():
        text = text.replace(recorded, actual)
    replaced: dict[str, Any] = json.loads(text)
    return replaced


def put_kubectl(directory: Path, answers: Mapping[str, Any]) -> dict[str, str]:
    """Put the program on PATH; return the environment variables with which a command uses it.

    Args:
        directory: Gets the program and its files.
        answers: The answers by path; texts as they are, everything else as JSON.
    """
    program, files = directory / "kubectl", directory / "answers"
    files.mkdir()
    program.write_text(_SCRIPT)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    for path, answer in answers.items():
        text = answer if isinstance(answer, str) else json.dumps(answer)
        (files / path.replace("/", "_")).write_text(text)
    kubeconfig = directory / "kubeconfig"
    kubeconfig.touch()
    return {"PATH": f"{directory}:/usr/sbin:/usr/bin:/sbin:/bin", "KUBECONFIG": str(kubeconfig)}
