"""The access tools in the image for production clusters, which has cut models and no emulator."""

import json
from pathlib import Path
from typing import Final

import pytest

from hyperpod_ebs.access import exit_codes
from hyperpod_ebs.kit import command
from tests.support.command_tree import ACCESS_TOOLS
from tests.support.emulator_process import prepare_emulator
from tests.support.image_archives import chroot_argv

# In the xdist worker of the other tests of the image, so that it is built once.
pytestmark = [pytest.mark.root, pytest.mark.xdist_group("image"), pytest.mark.timeout(900)]


OF_CHECKS: Final = frozenset({0, exit_codes.FAILS, exit_codes.MAY_FAIL})


async def run_tool(
    rootfs: Path, *words: str, env: dict[str, str] | None = None, ok: frozenset[int] = frozenset({0})
) -> str:
    """Run a command of the image as its user; what it prints on stdout."""
    variables = [f"{name}={value}" for name, value in {"HOME": "/tmp", **(env or {})}.items()]  # noqa: S108 - in the image
    return (await command.run([*chroot_argv(rootfs, 1000), "env", "-i", *variables, "hyperpod-ebs", *words], ok=ok)).out


async def test_each_access_tool_has_its_help_in_the_image(rootfs: Path) -> None:
    """The image leaves out the emulator and the demo, which no access tool needs."""
    for words in ACCESS_TOOLS:
        assert f"Usage: hyperpod-ebs {words}" in await run_tool(rootfs, *words.split(), "--help")


async def test_the_access_tools_call_aws_with_the_models_of_the_image(rootfs: Path, short_path: Path) -> None:
    """Listing needs botocore's paginators, and each client its endpoint rules."""
    async with prepare_emulator(short_path / "cloud") as emulator:
        aws = await emulator.start()
        volumes = [await aws.create_volume(Size=1) for _ in range(3)]
        env = dict(emulator.env)

        listed = json.loads(await run_tool(rootfs, "volume", "list", "--output", "json", env=env))
        examined = json.loads(await run_tool(rootfs, "doctor", "--output", "json", env=env, ok=OF_CHECKS))

    assert {each["volume"] for each in listed} == {*volumes}
    assert [each for each in examined["findings"] if "the AWS SDK" in each["evidence"]] == []
