"""A Go program with AWS SDK for Go v2, which replaces the path of the metadata endpoint with its own."""

import os
from pathlib import Path
from typing import Final

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.kit import command
from tests.support.emulator_clients import Aws

ENDPOINT: Final = "AWS_EC2_METADATA_SERVICE_ENDPOINT"

PROGRAM: Final = Path(__file__).parents[2] / ".tools" / "bin" / "imds-identity"


@pytest.fixture(autouse=True)
def _program() -> None:
    if not PROGRAM.exists():
        missing = f"the Go program is missing at {PROGRAM}: scripts/setup.sh go-tools builds it"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must run a Go program, but {missing}", pytrace=False)
        pytest.skip(missing)


async def test_a_go_program_on_each_machine_learns_that_machines_identity(emulator: Emulator, aws: Aws) -> None:
    """AWS SDK for Go v2, feature/ec2/imds."""
    instance = await aws.run_instance(InstanceType="c5.large")
    _, (node,) = await aws.create_cluster()

    said = {
        machine: (await command.run(["env", f"{ENDPOINT}={emulator.metadata_url(machine)}", str(PROGRAM)])).out
        for machine in (instance, node)
    }

    assert said == {
        instance: f"{instance} c5.large us-west-2a us-west-2\n",
        node: f"{node} ml.m5.large us-west-2a us-west-2\n",
    }
