"""The commands of the guide that attaches a volume by hand, run as a reader runs them, on the embedded cloud."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.emulator_clients import GROUP
from tests.support.emulator_process import prepare_emulator
from tests.support.guide_commands import BY_HAND, ROOT, Page, run_page

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


@pytest.mark.requirement("guides.true")
async def test_the_commands_of_the_guide_by_hand_print_what_it_shows(short_path: Path) -> None:
    """Each permission is missing once, and the tool names it before AWS refuses the call."""
    programs = [Path(sys.executable).parent, ROOT / ".tools" / "aws-cli" / "bin"]
    async with prepare_emulator(short_path / "cloud") as emulator:
        aws = await emulator.start()
        _, (node,) = await aws.create_cluster(ClusterName="training", InstanceGroups=[GROUP])
        environment = {
            **emulator.env,
            "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
            "HOME": str(short_path),
            "AWS_PAGER": "",
            "DEVICE_DIRECTORY": str(emulator.state / "nodes" / node / "dev"),
        }
        settings = {
            "REGION": "us-west-2",
            "ACCOUNT": "123456789012",
            "CLUSTER": "training",
            "NODE": f"hyperpod-{node}",
            "DIRECTORY": str(short_path / "data"),
        }

        await run_page(Page.read(BY_HAND), short_path, settings, environment)
