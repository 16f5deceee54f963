"""The container image: what is in it, what is not in it, and that its programs run."""

import asyncio
import base64
import csv
import filecmp
import hashlib
import json
import os
import re
import shutil
import stat
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from typing import Final

import grpc
import psutil
import pytest

from hyperpod_ebs import __version__
from hyperpod_ebs.kit import command
from hyperpod_ebs.pb import csi_pb2, csi_pb2_grpc
from tests.support.image_archives import ROOT, Archive, build, chroot_argv

# All these tests run in one xdist worker, so that the image is built once.
pytestmark = [pytest.mark.root, pytest.mark.xdist_group("image"), pytest.mark.timeout(900)]

LIMIT: Final = 64 * 2**20
"""The largest size of all compressed layers together, in bytes."""

SITE: Final = "opt/hyperpod-ebs/lib/python3.11/site-packages"


async def run_in_image(rootfs: Path, *argv: str, user: int = 1000, ok: frozenset[int] = frozenset({0})) -> str:
    """Run a program of the image with the image's files; its output on stdout and stderr."""
    finished = await command.run([*chroot_argv(rootfs, user), *argv], ok=ok)
    return finished.out + finished.err


def files(rootfs: Path) -> Iterator[Path]:
    """All files below a directory, except symbolic links."""
    for directory, _, names in os.walk(rootfs):
        yield from (path for name in names if not (path := Path(directory) / name).is_symlink())


def directories(rootfs: Path) -> Iterator[Path]:
    """A directory and all directories below it."""
    for directory, _, _ in os.walk(rootfs):
        yield Path(directory)


def test_the_image_is_small(archive: Archive) -> None:
    """Every node of a cluster fetches the image before it can mount a volume."""
    layers = [layer["size"] for layer in archive.manifest["layers"]]

    assert sum(layers) < LIMIT
    assert layers[-1] < 2**21, "what changes with each version: the driver and the access tools, without libraries"


@pytest.mark.requirement("image.minimal")
def test_the_image_runs_as_a_user_without_privileges_and_has_labels(archive: Archive) -> None:
    config = archive.config["config"]

    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["/usr/bin/hyperpod-ebs"]
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels.keys() == {"title", "description", "licenses", "version", "revision", "created"}
    assert labels["version"] == __version__
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert archive.config["created"] == labels["created"]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("hyperpod-ebs --help", "controller"),
        ("hyperpod-ebs controller --help", "--endpoint"),
        ("hyperpod-ebs controller --version", __version__),
        ("/bin/aws-ebs-csi-driver node --help", "--endpoint"),
        ("/usr/bin/hyperpod-ebs-probe alive /nowhere/csi.sock 0.1", "no answer from /nowhere/csi.sock: "),
        ("mkfs.ext4 -V", "mke2fs"),
        ("mkfs.xfs -V", "mkfs.xfs version"),
        ("mkfs.btrfs -V", "btrfs-progs"),
        ("blkid -V", "libblkid"),
        ("mount -V", "libmount"),
        ("losetup -V", "util-linux"),
        ("fsck -V", "util-linux"),
        ("resize2fs", "resize2fs"),
        ("e2fsck -V", "e2fsck"),
        ("btrfs --version", "btrfs-progs"),
        ("sh -c id", "uid=1000(hyperpod-ebs)"),
    ],
)
async def test_uid_1000_can_run_the_programs_that_the_driver_calls(rootfs: Path, words: str, answer: str) -> None:
    """Some programs exit with 1 when they print their version."""
    assert answer in await run_in_image(rootfs, *words.split(), ok=frozenset({0, 1}))


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
async def test_the_image_makes_filesystems_and_recognizes_them(rootfs: Path, kind: str) -> None:
    """A tool loads some libraries and files only when it does real work."""
    device = rootfs / "tmp" / kind
    with device.open("wb") as file:
        file.truncate(512 * 2**20)

    await run_in_image(rootfs, f"mkfs.{kind}", f"/tmp/{kind}", user=0)  # noqa: S108 - in the image
    found = await run_in_image(rootfs, "blkid", "-p", "-o", "export", f"/tmp/{kind}", user=0)  # noqa: S108 - the same

    device.unlink()
    assert f"TYPE={kind}" in found.splitlines()


@pytest.mark.requirement("image.minimal")
def test_the_image_has_no_compiler_and_no_package_manager(rootfs: Path) -> None:
    """An intruder cannot use a tool that is not there."""
    unwanted = {"apt", "apt-get", "cc", "curl", "dpkg", "gcc", "ld", "make", "perl", "pip", "pip3", "ssh", "su", "wget"}

    found = {file.name for file in (rootfs / "usr/bin").iterdir()} | {
        file.name for file in (rootfs / "usr/sbin").iterdir()
    }

    assert found & unwanted == set()
    assert not list(rootfs.glob("**/site-packages/pip")) + list(rootfs.glob("**/ensurepip"))


@pytest.mark.requirement("image.minimal")
def test_no_file_in_the_image_grants_privileges(rootfs: Path) -> None:
    """Nothing is setuid or setgid, only /tmp is world-writable, and everything belongs to root."""
    unsafe = [
        path
        for path in (*files(rootfs), *directories(rootfs))
        if (status := path.stat()).st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH)
        or (status.st_uid, status.st_gid) != (0, 0)
    ]

    assert unsafe == [rootfs / "tmp"]
    assert (rootfs / "var/run").readlink() == Path("../run")


async def test_every_program_finds_its_libraries(rootfs: Path) -> None:
    """The packages in image/left-out.txt are not in the image, so no program may need one of their libraries."""
    loader = next((rootfs / "usr").glob("lib*/**/ld-linux-*.so.*"))
    linked = [str(path.relative_to(rootfs)) for path in files(rootfs) if is_elf(path)]
    script = f'for file; do echo "$file"; /{loader.relative_to(rootfs)} --list "/$file" 2>&1; done; true'

    missing = [
        line
        for line in (await run_in_image(rootfs, "sh", "-c", script, "sh", *linked)).splitlines()
        if "not found" in line
    ]

    assert len(linked) > 100, "the search finds the files"
    assert missing == []


def is_elf(path: Path) -> bool:
    """Whether a file is a compiled program or library."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def test_the_image_has_the_driver_without_the_embedded_cloud_and_the_demo(rootfs: Path) -> None:
    package = rootfs / SITE / "hyperpod_ebs"

    assert (package / "driver" / "app" / "controller.py").exists()
    assert not (package / "emulator").exists()
    assert not (package / "demo").exists()
    assert not (package / "sandbox").exists()


async def test_the_demo_command_is_refused_with_one_sentence(rootfs: Path) -> None:
    output = await run_in_image(rootfs, "hyperpod-ebs", "demo", ok=frozenset({2}))

    assert output.startswith("hyperpod-ebs: ")
    assert "demo" in output


def test_every_python_module_is_compiled(rootfs: Path) -> None:
    """With a read-only root filesystem nothing is compiled later, and each start would take three times as long."""
    sources = {*rootfs.glob(f"{SITE}/**/*.py"), *rootfs.glob("usr/lib/python3.11/**/*.py")}

    compiled = {path for path in files(rootfs) if path.parent.name == "__pycache__"}

    assert len(sources) > 1000
    assert compiled == {path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc" for path in sources}


def test_the_sbom_lists_exactly_the_packages_of_the_image(archive: Archive, rootfs: Path) -> None:
    """The CycloneDX SBOM is in the image, and the same file is next to the archive."""
    inner = (rootfs / "usr/share/sbom/hyperpod-ebs.cdx.json").read_text()
    metadata_files = [*debian_control_files(rootfs), *rootfs.glob(f"{SITE}/*.dist-info/METADATA")]
    installed = {
        (fields["Package"] or fields["Name"], fields["Version"]) for fields in map(name_fields, metadata_files)
    }

    listed = {(part["name"], part["version"]) for part in json.loads(inner)["components"]}

    assert listed == installed
    assert {"btrfs-progs", "e2fsprogs", "xfsprogs", "util-linux", "libc6", "hyperpod-ebs", "grpcio"} <= dict(
        listed
    ).keys()
    assert archive.path.with_name(archive.path.name.replace(".oci.tar", ".cdx.json")).read_text() == inner


def name_fields(metadata_file: Path) -> dict[str, str | None]:
    """The name and version in the metadata of a package: Debian has Package, Python has Name."""
    metadata = message_from_string(metadata_file.read_text())
    return {name: metadata[name] for name in ("Package", "Name", "Version")}


def debian_control_files(rootfs: Path) -> list[Path]:
    """The control files of the Debian packages, without the lists of checksums beside them."""
    return [file for file in rootfs.glob("var/lib/dpkg/status.d/*") if file.suffix != ".md5sums"]


@pytest.mark.requirement("image.minimal")
def test_every_file_in_the_image_belongs_to_a_package_of_the_sbom(rootfs: Path) -> None:
    """A vulnerability scanner goes by packages, so it overlooks a file that belongs to none."""
    listed = (*debian_files(rootfs), *(path for path, _ in python_files(rootfs)))
    # Inode numbers, because /bin is a link to /usr/bin and a file has a path under each.
    inodes = {path.stat().st_ino for path in listed}

    without_package = {str(path.relative_to(rootfs)) for path in files(rootfs) if path.stat().st_ino not in inodes}

    assert {
        path for path in without_package if not path.startswith("var/lib/dpkg/status.d/") and "__pycache__" not in path
    } == {
        "etc/group",
        "etc/passwd",
        "opt/hyperpod-ebs/pyvenv.cfg",
        "usr/bin/hyperpod-ebs",
        "usr/bin/hyperpod-ebs-probe",
        "usr/share/sbom/hyperpod-ebs.cdx.json",
    }


def debian_files(rootfs: Path) -> Iterator[Path]:
    """The files of the Debian packages, after a check of the checksums that the packages list."""
    for control in debian_control_files(rootfs):
        for line in control.with_name(f"{control.name}.md5sums").read_text().splitlines():
            digest, path = line.split("  ", 1)
            assert hashlib.md5((rootfs / path).read_bytes(), usedforsecurity=False).hexdigest() == digest, path
            yield rootfs / path


def python_files(rootfs: Path) -> Iterator[tuple[Path, str]]:
    """The files of the Python packages, and the digest that RECORD lists for each; empty for none."""
    for record in rootfs.glob(f"{SITE}/*.dist-info/RECORD"):
        for path, digest, _ in csv.reader(record.read_text().splitlines()):
            yield rootfs / SITE / path, digest


def test_the_digests_in_the_records_of_python_packages_are_right(rootfs: Path) -> None:
    """RECORD lists no file that is missing from the image, such as a script whose first line has the builder's path."""
    wrong = [
        path
        for path, digest in python_files(rootfs)
        if not path.is_file() or (digest and digest != f"sha256={sha256(path)}")
    ]

    assert wrong == []


def sha256(path: Path) -> str:
    """The SHA-256 digest of a file, encoded as in the RECORD of a wheel."""
    return base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()


@pytest.mark.requirement("image.reproducible")
async def test_the_python_layer_is_reproducible_in_another_directory(rootfs: Path, tmp_path: Path) -> None:
    """The second build runs in a copy of the source tree, with its own virtual environment."""
    for name in ("scripts/image", "requirements", "image"):
        shutil.copytree(ROOT / name, tmp_path / "tree" / name)
    environment = tmp_path / "tree/.venv"
    await command.run([str(ROOT / ".venv/bin/uv"), "venv", "--quiet", "--python", sys.executable, str(environment)])
    (environment / "bin/uv").symlink_to(ROOT / ".venv/bin/uv")
    platform = f"{os.uname().machine}-manylinux_2_28"

    script = str(tmp_path / "tree/scripts/image/python.sh")
    await command.run([script, "hyperpod-ebs", platform, str(tmp_path / "again")], deadline=120)

    built_files = [path for path in files(tmp_path / "again") if path.parent.name != "__pycache__"]
    differing = [
        path
        for path in built_files
        if not filecmp.cmp(path, rootfs / path.relative_to(tmp_path / "again"), shallow=False)
    ]
    assert len(built_files) > 1000
    assert differing == []


def test_every_package_comes_with_its_licence(rootfs: Path) -> None:
    """Debian Policy 12.5: copyright information is distributed with each package."""
    documented = {path.name for path in (rootfs / "usr/share/doc").iterdir() if (path / "copyright").exists()}

    assert {control.name for control in debian_control_files(rootfs)} - documented == set()


@pytest.mark.requirement("image.reproducible")
def test_the_same_sources_give_the_same_image(archive: Archive, tmp_path: Path) -> None:
    """The second build does not use the cached archive."""
    again = build(tmp_path, "--again")

    assert again.digest == archive.digest
    assert filecmp.cmp(again.path, archive.path, shallow=False), "the archive's own members, too"


async def test_the_controller_serves_in_the_image_without_root(rootfs: Path) -> None:
    """The process sees only the image's files, /dev and /proc."""
    argv = [*chroot_argv(rootfs, 1000), "hyperpod-ebs", "controller"]
    argv += ["--endpoint=unix:///tmp/csi.sock", "--region=us-west-2"]
    path = rootfs / "tmp/csi.sock"
    process = psutil.Popen(argv, stdin=DEVNULL, stderr=PIPE, text=True)
    try:
        async with asyncio.timeout(30), grpc.aio.insecure_channel(f"unix://{path}") as channel:
            await channel.channel_ready()
            info = await csi_pb2_grpc.IdentityStub(channel).GetPluginInfo(csi_pb2.GetPluginInfoRequest())
    finally:
        process.terminate()
        _, stderr = process.communicate()

    assert info.name == "ebs.csi.aws.com", stderr
    assert process.returncode == 0, stderr
