"""The variants that `scripts/image.sh` builds: another base, another architecture, the demo, files for Docker."""

import tarfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest

from hyperpod_ebs.kit import command
from localcluster import oci
from tests.support.image_archives import Archive, BuildFailed, build, chroot_argv, lay_out

# All these tests run in one xdist worker, so that the image is built once.
pytestmark = [pytest.mark.root, pytest.mark.xdist_group("image"), pytest.mark.timeout(900)]

AARCH64: Final = 183
"""EM_AARCH64 of elf.h."""


def test_an_image_on_a_custom_base_has_the_base_and_the_driver(archive: Archive, tmp_path: Path) -> None:
    """The Python layer is identical to that of the image that is built from Debian packages."""
    base = tmp_path / "base.oci.tar"
    oci.write([oci.Image(name="localhost/base:1", files={"/etc/ours": Path(__file__)}, entrypoint=["/none"])], base)

    built = build(tmp_path, f"--base=oci-archive:{base}")

    *below, python, driver = [{name for name, _ in file_starts(built, layer)} for layer in built.layers]
    assert any("etc/ours" in layer for layer in below)
    assert not any("usr/bin/python3.11" in layer for layer in below), "the layers of the base have no Debian files"
    assert python
    assert {"usr/bin/hyperpod-ebs", "usr/share/sbom/hyperpod-ebs.cdx.json"} <= driver
    assert built.layers[-2] == archive.layers[-2]
    assert built.config["config"]["Entrypoint"] == ["/usr/bin/hyperpod-ebs"]
    assert built.config["config"]["User"] == "1000:1000"


def test_in_the_arm64_image_all_programs_and_libraries_are_for_arm64(tmp_path: Path) -> None:
    """The image is built on amd64 without running any of its programs."""
    try:
        built = build(tmp_path, "--arch=arm64")
    except BuildFailed as error:
        if "cannot download Debian's packages for arm64" in str(error):
            pytest.skip(f"no packages for arm64 here: {error}")
        raise

    programs = [
        start for layer in built.layers for _, start in file_starts(built, layer) if start.startswith(b"\x7fELF")
    ]

    assert built.config["architecture"] == "arm64"
    assert len(programs) > 100, "the search finds the files"
    assert {int.from_bytes(start[18:20], "little") for start in programs} == {AARCH64}


def file_starts(archive: Archive, layer: str) -> Iterator[tuple[str, bytes]]:
    """The name and the first 20 bytes of each file in a layer."""
    with tarfile.open(archive.path) as tar, tarfile.open(fileobj=tar.extractfile(layer), mode="r:gz") as files:
        for member in files:
            if member.isfile() and (content := files.extractfile(member)):
                yield member.name, content.read(20)


def test_without_a_debian_mirror_the_error_names_the_variable_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Ubuntu, apt is configured without a Debian mirror."""
    (tmp_path / "lists/partial").mkdir(parents=True)
    config = tmp_path / "apt.conf"
    config.write_text(
        f'Dir::State "{tmp_path}"; Dir::Cache "{tmp_path}";'
        'Dir::Etc::sourcelist "/dev/null"; Dir::Etc::sourceparts "/dev/null";'
    )
    monkeypatch.setenv("APT_CONFIG", str(config))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HYPERPOD_EBS_DEBIAN_MIRROR", raising=False)

    with pytest.raises(BuildFailed, match="set HYPERPOD_EBS_DEBIAN_MIRROR to the address of one"):
        build(tmp_path)


@pytest.mark.requirement("image.asks-no-registry")
async def test_the_layout_for_docker_is_complete_and_needs_no_registry(tmp_path: Path) -> None:
    """`docker build` gets one directory; the embedded cloud runs in the demo image built from it."""
    layout = lay_out(tmp_path / "layout", "--demo")

    lines = [line for file in layout.glob("*Containerfile") for line in file.read_text().splitlines()]
    instructions = {
        word: sorted(line for line in lines if line.startswith(f"{word} ")) for word in ("ARG", "COPY", "FROM")
    }
    rootfs = await merge_layout(layout)
    argv = [*chroot_argv(rootfs, 1000), "hyperpod-ebs", "emulator", "run", "--state=/tmp/cloud", "--port=0"]
    process = psutil.Popen(argv, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True)
    first = process.stdout.readline()
    process.terminate()
    _, stderr = process.communicate()

    assert instructions == {
        "ARG": ["ARG BASE", "ARG SYSTEM=scratch"],
        "COPY": ["COPY debian/ /", "COPY driver/ /", "COPY python/ /"],
        "FROM": ["FROM ${BASE}", "FROM ${SYSTEM} AS system", "FROM system AS runtime"],
    }
    assert first.startswith("emulator ready"), stderr


async def merge_layout(layout: Path) -> Path:
    """Merge the directories of a layout into one root filesystem; its path."""
    rootfs = layout / "debian"
    await command.run(["cp", "-al", f"{layout}/python/.", f"{layout}/driver/.", str(rootfs)])
    for directory in (layout, layout.parent, layout.parent.parent):
        directory.chmod(0o711)  # the user 1000 must be able to enter it
    return rootfs
