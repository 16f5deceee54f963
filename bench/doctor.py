"""Measure how long `hyperpod-ebs doctor` takes on a large cluster.

The account is the emulator's, in this process, with a HyperPod cluster of that many nodes and two volumes on each. The
Kubernetes cluster is a recorded one, with as many nodes, pods of the driver, PersistentVolumes and VolumeAttachments;
`kubectl` is a program that prints the recorded answers. The benchmark prints the time of the whole command.

    sudo PYTHONPATH=. .venv/bin/python bench/doctor.py --nodes 1000
"""

import argparse
import asyncio
import copy
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hyperpod_ebs.kit import command
from hyperpod_ebs.kit.files import off_loop
from tests.support.doctor_site import DoctorSite, add_nodes, healthy_site
from tests.support.recorded_cluster import EC2_NODE, HYPERPOD_NODES, RecordedCluster
from tests.support.recorded_kubectl import put_kubectl, recorded_answers


def grow(answers: dict[str, Any], site: DoctorSite, count: int) -> None:
    """Add nodes like the first one to a recorded cluster, each with the objects of a node and two volumes."""
    storage = "/apis/storage.k8s.io/v1"
    lists = {path: answer["items"] for path, answer in answers.items() if "items" in answer}
    node, csinode = lists["/api/v1/nodes"][0], lists[f"{storage}/csinodes"][0]
    pod = next(item for item in lists["/api/v1/pods"] if item["metadata"]["name"] == "ebs-csi-node-0")
    volume, attachment = lists["/api/v1/persistentvolumes"][0], lists[f"{storage}/volumeattachments"][0]

    def add(path: str, item: dict[str, Any], name: str, *replaced: tuple[str, str]) -> None:
        text = json.dumps(item)
        for old, new in replaced:
            text = text.replace(old, new)
        added: dict[str, Any] = json.loads(text)
        added["metadata"].update(name=name, uid=f"uid-{name}")
        lists[path].append(added)

    for number in range(count):
        machine = (site.node, f"i-{number:017x}")
        add("/api/v1/nodes", node, f"hyperpod-{machine[1]}", machine)
        add(f"{storage}/csinodes", csinode, f"hyperpod-{machine[1]}", machine)
        add("/api/v1/pods", pod, f"ebs-csi-node-{number + 3}", machine)
        for of_node in range(2):
            id_ = f"vol-{2 * number + of_node:017x}"
            name = f"pvc-{id_}"
            add("/api/v1/persistentvolumes", volume, name, (site.volume, id_), (volume["metadata"]["name"], name))
            add(
                f"{storage}/volumeattachments",
                attachment,
                f"csi-{id_}",
                machine,
                (volume["metadata"]["name"], name),
            )
            claim = copy.deepcopy(lists["/api/v1/persistentvolumeclaims"][0])
            claim["metadata"].update(name=f"claim-{id_}", uid=f"uid-claim-{id_}")
            claim["spec"]["volumeName"] = name
            lists["/api/v1/persistentvolumeclaims"].append(claim)
            lists["/api/v1/persistentvolumes"][-1]["spec"]["claimRef"]["name"] = f"claim-{id_}"


async def measure(nodes: int) -> None:
    """Run the doctor on a cluster of this many nodes, and print its time and summary."""
    async with healthy_site() as site:
        add_nodes(site, nodes)
        answers = recorded_answers(site, RecordedCluster.healthy())
        grow(answers, site, nodes)
        with tempfile.TemporaryDirectory() as directory:
            env = site.emulator.env | await off_loop(put_kubectl, Path(directory), answers) | {"HOME": directory}
            variables = [f"{name}={value}" for name, value in env.items()]
            argv = ["env", "-i", *variables, sys.executable, "-m", "hyperpod_ebs.cli", "doctor", "--output", "json"]
            started = time.perf_counter()
            finished = await command.run(argv, ok=frozenset({0, 3, 4}))
            seconds = time.perf_counter() - started
    report = json.loads(finished.out)
    sys.stdout.write(f"{nodes + len(HYPERPOD_NODES)} HyperPod nodes, and {EC2_NODE}: {seconds:.1f} s\n")
    sys.stdout.write(f"{report['summary']}\n")
    for finding in report["findings"]:
        if finding["status"] != "ok":
            sys.stdout.write(f"{finding['status']}: {finding['object'][:100]}: {finding['evidence'][:200]}\n")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000, help="nodes of the HyperPod cluster")
    asyncio.run(measure(parser.parse_args().nodes))


if __name__ == "__main__":
    main()
