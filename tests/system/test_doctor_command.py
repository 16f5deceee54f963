"""The command `hyperpod-ebs doctor` as a process: output, exit codes, changes, the bundle, Ctrl-C."""

import asyncio
import json
import os
import pty
import signal
import sys
import tarfile
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from hyperpod_ebs.kit import command
from tests.support.doctor_site import DoctorSite, healthy_site
from tests.support.recorded_cluster import RecordedCluster
from tests.support.recorded_kubectl import LOG, put_kubectl, recorded_answers

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("doctor")]

SECRET: Final = "Marked/Secret+0123456789abcdefghijKLMNOP"
READS: Final = ("Describe", "Get", "List", "Simulate")
"""What the names of operations begin with that change nothing."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def account() -> AsyncGenerator[DoctorSite]:
    """An account in which all is in order, for all tests of this file."""
    async with healthy_site() as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def site(account: DoctorSite) -> AsyncGenerator[DoctorSite]:
    """The account, which is restored after the test."""
    async with account.undo_changes():
        yield account


@dataclass(frozen=True, slots=True)
class Doctor:
    """The command with the environment of a workstation."""

    env: Mapping[str, str]

    async def run(self, *words: str, code: int) -> command.Finished:
        """Run the doctor, which must exit with `code`."""
        argv = [sys.executable, "-m", "hyperpod_ebs.cli", "doctor", *words]
        finished = await command.run(
            ["env", "-i", *(f"{name}={value}" for name, value in self.env.items()), *argv], ok=frozenset(range(256))
        )
        assert finished.code == code, finished
        assert "Traceback" not in finished.err
        return finished

    async def findings(self, *words: str, code: int) -> list[dict[str, Any]]:
        """Run the doctor; what it finds, without what is in order.

        Quotas are not emulated, and a workstation shows nothing of a node.
        """
        found = json.loads((await self.run(*words, "--output", "json", code=code)).out)["findings"]
        wanted = [each for each in found if each["check"] != "quotas" and each["object"] != "the machine"]
        return [each for each in wanted if each["status"] != "ok"]


def workstation(site: DoctorSite, directory: Path, **changed: Any) -> Doctor:
    """A workstation with kubectl, on which the recorded cluster answers, with these answers changed."""
    answers = recorded_answers(site, RecordedCluster.healthy()) | changed
    return Doctor({**site.emulator.env, **put_kubectl(directory, answers), "HOME": str(directory)})


async def calls(site: DoctorSite) -> Mapping[str, int]:
    """The number of calls of each operation that the emulator has answered, and forget them."""
    async with aiohttp.ClientSession(site.emulator.url) as http:
        async with http.get("/_emulator/calls") as answer:
            counts: Mapping[str, int] = await answer.json()
        async with http.delete("/_emulator/calls"):
            return counts


def read_bundle(path: Path) -> Mapping[str, str]:
    """The files in a bundle, by their names without the directory."""
    with tarfile.open(path) as archive:
        files = {member.name.partition("/")[2]: archive.extractfile(member) for member in archive}
        return {name: file.read().decode() for name, file in files.items() if file}


@pytest.mark.requirement("doctor.only-reads")
async def test_on_a_healthy_site_the_doctor_finds_nothing_and_only_reads(site: DoctorSite, tmp_path: Path) -> None:
    doctor = workstation(site, tmp_path)
    await calls(site)

    findings = await doctor.findings(code=0)

    assert findings == []
    changing = {name for name in await calls(site) if not name.partition(":")[2].startswith(READS)}
    assert changing == set()


async def test_the_table_has_what_fails_on_top(site: DoctorSite, tmp_path: Path) -> None:
    doctor = workstation(site, tmp_path)
    key = site.key.rpartition("/")[2]
    site.emulator.world.store.kms_keys.put(replace(site.emulator.world.store.kms_keys[key], state="Disabled"))

    shown = await doctor.run(code=3)

    head, first, *_ = shown.out.splitlines()
    assert head.split() == ["STATUS", "OBJECT", "FINDING", "FIX"]
    assert first.startswith(f"FAILS        KMS key {site.key}")
    assert f"`aws kms enable-key --key-id {site.key}`" in first
    assert "1 fails" in shown.err


async def test_where_nothing_answers_each_part_is_named_once(tmp_path: Path) -> None:
    doctor = Doctor({"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "AWS_EC2_METADATA_DISABLED": "true"})

    findings = await doctor.findings(code=4)

    objects = [each["object"] for each in findings]
    assert objects[:2] == ["AWS", "Kubernetes"]
    assert len(objects) == len(set(objects))
    assert "aws sso login" in findings[0]["evidence"]
    assert "kube" in findings[1]["evidence"]


async def test_an_api_server_that_is_down_is_asked_once(site: DoctorSite, tmp_path: Path) -> None:
    doctor = workstation(site, tmp_path)
    asked = tmp_path / "asked"
    (tmp_path / "kubectl").write_text(f"#!/bin/sh\necho >> {asked}\necho 'connection refused' >&2\nexit 1\n")

    findings = await doctor.findings(code=4)

    of_kubernetes = [each for each in findings if each["object"] == "Kubernetes"]
    assert len(of_kubernetes) == 1
    assert "connection refused" in of_kubernetes[0]["evidence"]
    assert asked.read_text() == "\n"


async def test_a_no_leaves_a_change_out_and_ctrl_c_ends_the_questions(site: DoctorSite, tmp_path: Path) -> None:
    doctor = workstation(site, tmp_path)
    store = site.emulator.world.store
    store.volumes.put(replace(store.volumes[site.volume], tags={}))
    terminal, stdin = pty.openpty()
    argv, pipe = (sys.executable, "-m", "hyperpod_ebs.cli", "doctor", "--fix"), asyncio.subprocess.PIPE

    async with asyncio.timeout(60):
        ended = await asyncio.create_subprocess_exec(*argv, env=dict(doctor.env), stdin=stdin, stdout=pipe, stderr=pipe)
        assert ended.stderr is not None
        await ended.stderr.readuntil(b"[y/N]")
        ended.send_signal(signal.SIGINT)
        await ended.communicate()
        os.write(terminal, b"n\n")
        answered = await asyncio.create_subprocess_exec(
            *argv, env=dict(doctor.env), stdin=stdin, stdout=pipe, stderr=pipe
        )
        await answered.communicate()
    for end in (terminal, stdin):
        os.close(end)

    assert (ended.returncode, answered.returncode) == (130, 3)
    assert store.volumes[site.volume].tags == {}


@pytest.mark.requirement("doctor.only-reads")
async def test_fix_asks_and_then_adds_the_missing_tag(site: DoctorSite, tmp_path: Path) -> None:
    doctor = workstation(site, tmp_path)
    store = site.emulator.world.store
    store.volumes.put(replace(store.volumes[site.volume], tags={}))
    await calls(site)

    (finding,) = await doctor.findings(code=3)
    declined = await doctor.run("--fix", code=1)
    before = await calls(site)
    fixed = await doctor.run("--fix", "--yes", code=3)

    assert finding["canBeFixed"]
    assert "ec2:CreateTags" not in before
    assert f"Add the tag ebs.csi.aws.com/cluster=true to volume {site.volume}?" in declined.err
    assert "--yes" in declined.err
    assert "run the doctor again" in fixed.err
    assert (await calls(site))["ec2:CreateTags"] == 1
    assert await doctor.findings(code=0) == []


@pytest.mark.requirement("doctor.bundle-has-no-secrets")
async def test_the_bundle_is_private_and_has_no_secrets(site: DoctorSite, tmp_path: Path) -> None:
    answers = recorded_answers(site, RecordedCluster.healthy())
    deployments = answers["/apis/apps/v1/deployments"]["items"]
    deployments[0]["metadata"].setdefault("annotations", {})["note"] = SECRET
    for container in deployments[0]["spec"]["template"]["spec"]["containers"]:
        container.setdefault("env", []).append({"name": "PROXY", "value": f"http://me:{SECRET}@proxy"})
    classes = answers["/apis/storage.k8s.io/v1/storageclasses"]["items"]
    classes[0].setdefault("parameters", {})["tagSpecification_1"] = f"owner={SECRET}"
    log = f"started\nAuthorization: Bearer {SECRET}\nGET https://x/?X-Amz-Signature={SECRET} 200\npassword={SECRET}\n"
    doctor = workstation(site, tmp_path, **{**answers, LOG: log})
    (tmp_path / "kubeconfig").write_text(f"token: {SECRET}\n")
    await site.aws("ec2", "create_tags", Resources=[site.volume], Tags=[{"Key": "note", "Value": SECRET}])
    bundle = tmp_path / "doctor.tar.gz"

    shown = await doctor.run("--bundle", str(bundle), code=0)

    assert bundle.stat().st_mode & 0o777 == 0o600
    assert str(bundle) in shown.err
    texts = read_bundle(bundle)
    for secret in (SECRET, site.emulator.env["AWS_SECRET_ACCESS_KEY"], site.emulator.env["AWS_ACCESS_KEY_ID"]):
        assert [name for name, text in texts.items() if secret in text] == []
    assert {"findings.json", "versions.json", "aws/volumes.json", "kubernetes/api_v1_nodes.json"} <= texts.keys()
    assert site.volume in texts["aws/volumes.json"]
    (with_log,) = (text for name, text in texts.items() if name.endswith("ebs-csi-controller-0_ebs-plugin.log"))
    assert "started" in with_log


async def test_the_bundle_replaces_no_file(site: DoctorSite, tmp_path: Path) -> None:
    doctor = workstation(site, tmp_path)
    bundle = tmp_path / "mine"
    bundle.write_text("mine")

    refused = await doctor.run("--bundle", str(bundle), code=2)
    nowhere = await doctor.run("--bundle", str(tmp_path / "no" / "file"), code=2)

    assert "exists" in refused.err
    assert bundle.read_text() == "mine"
    assert "does not exist" in nowhere.err


async def test_ctrl_c_ends_the_doctor_at_once(site: DoctorSite, tmp_path: Path) -> None:
    doctor = workstation(site, tmp_path)
    started = tmp_path / "started"
    os.mkfifo(started)
    (tmp_path / "kubectl").write_text(f"#!/bin/sh\necho > {started}\nexec sleep 60\n")
    argv = (sys.executable, "-m", "hyperpod_ebs.cli", "doctor")
    process = await asyncio.create_subprocess_exec(*argv, env=dict(doctor.env), stderr=asyncio.subprocess.PIPE)
    await asyncio.to_thread(started.read_text)

    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        _, err = await process.communicate()

    assert process.returncode == 130
    assert b"Traceback" not in err
