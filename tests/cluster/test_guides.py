"""Every command of docs/guides that the local cluster and the embedded cloud can run, in the order of its page."""

import json
import mmap
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
import yaml

from localcluster import cloud
from localcluster.driver_role import ROLE
from localcluster.images import BUSYBOX, REGISTRY
from localcluster.kubernetes.chart import CHART, HELM, RELEASE, Release
from localcluster.programs import BUILT
from tests.support.cluster_namespace import ClusterNamespace
from tests.support.guide_commands import (
    BY_HAND,
    GUIDES,
    LEFTOVERS,
    ROOT,
    Page,
    constant_parts,
    quoted_messages,
    run_page,
)
from tests.support.iam_users import document
from tests.support.live_cluster import LiveCluster
from tests.support.pod_tokens import POD_TRUST

ON_THE_RELEASE: Final = ("install.md", "migrate.md")
"""Pages that change the driver's Helm release."""

ON_THE_CLUSTER: Final = "local-cluster.md"
"""The page that shows which nodes accept pods."""

GUIDE_ROLE: Final = "hyperpod-ebs"
"""The role that the guide to the installation creates; the driver of all other tests has another one."""

PATIENCE: Final = 540.0
"""Seconds for a page."""

INSTALLS: Final = 1200.0
"""Seconds for a page that installs and removes a release several times."""

OTHERS: Final = sorted(
    path.name
    for path in GUIDES.glob("*.md")
    if path.name not in {*ON_THE_RELEASE, ON_THE_CLUSTER, BY_HAND.name, LEFTOVERS.name} and Page.read(path).commands
)


@pytest.fixture
def environment(live: LiveCluster, namespace: ClusterNamespace, tmp_path: Path) -> Mapping[str, str]:
    """A reader's environment: programs on the path, a kubeconfig whose current namespace is the test's, credentials."""
    said = yaml.safe_load(Path(live.record.kubeconfig).read_text())
    for one in said["contexts"]:
        one["context"]["namespace"] = namespace.name
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(said))
    programs = [HELM.parent, Path(live.record.kubectl).parent, ROOT / ".tools" / "aws-cli" / "bin"]
    (tmp_path / "charts").symlink_to(ROOT / "charts")
    return {
        **live.record.environment,
        "KUBECONFIG": str(kubeconfig),
        "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "AWS_PAGER": "",
    }


class RunGuide(Protocol):
    """Runs a guide's commands as a reader; `changed` has settings that differ from those for the other guides."""

    async def __call__(self, name: str, *, deadline: float = PATIENCE, **changed: str) -> None:
        """Run them within `deadline` seconds."""


@pytest.fixture
def run_guide(live: LiveCluster, environment: Mapping[str, str], tmp_path: Path) -> RunGuide:
    """Runs a guide's commands with the values that a reader fills in for this cluster."""
    settings = {
        "ACCOUNT": "123456789012",
        "CLUSTER": cloud.NAME,
        "IMAGE": BUSYBOX,
        "MORE": f"--values={live.record.directory}/values.json",
        "REGION": environment["AWS_REGION"],
        "REGISTRY": REGISTRY,
        "RELEASE": RELEASE,
        "ROLE": ROLE,
        "THROUGH": "podIdentity",
    }

    async def run(name: str, *, deadline: float = PATIENCE, **changed: str) -> None:
        await run_page(Page.read(GUIDES / name), tmp_path, {**settings, **changed}, environment, deadline=deadline)

    return run


@asynccontextmanager
async def delete_addons_afterwards(live: LiveCluster, *names: str) -> AsyncGenerator[None]:
    """Delete these add-ons of the EKS cluster when the block ends, if they exist."""
    try:
        yield
    finally:
        async with live.client("eks") as eks:
            existing = (await eks.list_addons(clusterName=cloud.NAME))["addons"]
            for name in {*names} & {*existing}:
                await eks.delete_addon(clusterName=cloud.NAME, addonName=name)


@asynccontextmanager
async def pod_role(live: LiveCluster, name: str) -> AsyncGenerator[None]:
    """A role that EKS Pod Identity can give to pods, while the block runs."""
    async with live.client("iam") as iam:
        await iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(POD_TRUST))
        try:
            yield
        finally:
            await iam.delete_role(RoleName=name)


@pytest.fixture
async def release(live: LiveCluster, namespace: ClusterNamespace) -> AsyncGenerator[Release]:
    """The driver's release; it is restored after the test, before the test's namespace is deleted."""
    del namespace
    found = Release(live.kubectl, Path(live.record.directory))
    try:
        yield found
    finally:
        listed = (await found.helm("list", "--short")).out.split()
        for name in sorted({*listed} - {RELEASE}):
            await found.helm("uninstall", name, "--wait")
        values = json.loads((found.home / "values.json").read_text())
        if RELEASE not in listed or await _values(found) != values:
            await found.upgrade(values)


async def _values(release: Release) -> Any:  # as a chart's are
    """The values of the installed release, if it was deployed."""
    listed = await release.helm("list", "--deployed", "--short", f"--filter=^{RELEASE}$")
    return json.loads((await release.helm("get", "values", RELEASE, "--output=json")).out) if listed.out else None


@pytest.mark.requirement("guides.true")
@pytest.mark.parametrize(("program", "text"), [(each.program, each.text) for each in quoted_messages() if each.program])
async def test_each_message_of_another_program_is_in_that_program(program: str, text: str) -> None:
    """A user searches the guide for the text of an event; the programs are those of the local cluster."""
    with (BUILT / program).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        missing = [part for part in constant_parts(text) if content.find(part.encode()) < 0]

    assert missing == []


@pytest.mark.requirement("guides.true")
@pytest.mark.parametrize("name", OTHERS)
async def test_the_commands_of_a_guide_print_what_it_shows(name: str, live: LiveCluster, run_guide: RunGuide) -> None:
    async with delete_addons_afterwards(live, "snapshot-controller"):
        await run_guide(name)


@pytest.mark.requirement("guides.true")
@pytest.mark.usefixtures("cordon_turn")
async def test_the_commands_of_the_local_cluster_guide_print_what_it_shows(run_guide: RunGuide) -> None:
    await run_guide(ON_THE_CLUSTER)


@pytest.mark.requirement("guides.true")
@pytest.mark.exclusive
@pytest.mark.timeout(1500, func_only=True)
async def test_the_guide_installs_upgrades_and_uninstalls_under_a_running_pod(
    live: LiveCluster, release: Release, run_guide: RunGuide
) -> None:
    """The driver works under the role that the guide creates, and gets it by EKS Pod Identity."""
    before = await live.last_call()

    async with delete_addons_afterwards(live, "eks-pod-identity-agent"):
        await run_guide("install.md", deadline=INSTALLS, ROLE=GUIDE_ROLE)

    deletions = [each for each in await live.driver_calls(after=before) if each["operation"] == "ec2:DeleteVolume"]
    assert {each["caller"].split("/")[1] for each in deletions} == {GUIDE_ROLE}
    await release.kubectl("delete", "storageclass", "guide-ebs")


@pytest.mark.requirement("guides.true")
@pytest.mark.exclusive
@pytest.mark.timeout(1500, func_only=True)
async def test_the_guide_migrates_from_the_upstream_driver_and_back_under_a_running_pod(
    live: LiveCluster, release: Release, namespace: ClusterNamespace, run_guide: RunGuide
) -> None:
    """A release of this chart under the upstream name and labels stands in for the upstream chart.

    The add-on, which has the same name, is only recorded by the embedded cloud.
    """
    upstream = "aws-ebs-csi-driver"
    await namespace.create_claim("data", of=await namespace.create_storage_class(type="gp3"))
    await namespace.create_pod("writer", "data", script="while :; do date >>/data/log; sync; sleep 1; done")
    before = await namespace.wait_for_pod("writer")
    await release.uninstall()
    values = f"--values={release.home / 'values.json'}"
    labelled = ("--set", f"nameOverride={upstream}")
    await release.helm("install", upstream, str(CHART), values, *labelled, "--wait", "--timeout=240s")

    async with pod_role(live, GUIDE_ROLE), delete_addons_afterwards(live, upstream), live.client("eks") as eks:
        await eks.create_addon(clusterName=cloud.NAME, addonName=upstream)
        await run_guide("migrate.md", deadline=INSTALLS, UPSTREAM=upstream, RELEASE=upstream, ROLE=GUIDE_ROLE)

    after = await namespace.wait_for_pod("writer")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    lines = int(await namespace.run_script("writer", "wc -l </data/log"))
    await namespace.run_script("writer", f"until [ $(wc -l </data/log) -gt {lines} ]; do sleep 0.2; done")
