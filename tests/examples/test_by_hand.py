"""The example that attaches a volume with the AWS CLI alone, run as a reader runs it."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Final

import pytest

from tests.support.guide_commands import ROOT, Page, missing_lines

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

EXAMPLE: Final = ROOT / "examples" / "by-hand"

ACCOUNT: Final = "123456789012"
CLUSTER: Final = f"arn:aws:sagemaker:us-west-2:{ACCOUNT}:cluster"
VOLUMES: Final = f"arn:aws:ec2:us-west-2:{ACCOUNT}:volume"
VANISHED: Final = "The volume 'vol-ID' does not exist."
NO_KEY: Final = "Volume vol-ID cannot be attached. The encrypted volume was unable to access the KMS key."


def error(code: str, operation: str, message: str) -> str:
    """An error as the AWS CLI prints it."""
    return f"An error occurred ({code}) when calling the {operation} operation: {message}"


def denial(
    action: str, resource: str, user: str = "sts::{}:assumed-role/by-hand/reader", policy: str = "identity"
) -> str:
    """AWS's message about a missing permission."""
    return (
        f"User: arn:aws:{user.format(ACCOUNT)} is not authorized to perform: {action} on resource: {resource} because "
        f"no {policy}-based policy allows the {action} action"
    )


def ec2_denial(action: str, resource: str) -> str:
    """EC2's message about a missing permission."""
    text = denial(action, resource)
    return f"You are not authorized to perform this operation. {text}. Encoded authorization failure message: …"


def volume_error(operation: str, code: str, message: str) -> str:
    """SageMaker's error about EC2's answer to its call."""
    prefix = f"The volume could not be {operation.lower()}ed. HyperPod - Ec2ErrCode: {code} : Ec2ErrMsg: "
    return error("ValidationException", f"{operation}ClusterNodeVolume", f"{prefix}{message}")


ASSUME: Final = denial("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/by-hand", "iam::{}:user/emulator", "resource")
CREATE: Final = denial("sagemaker:CreateCluster", f"{CLUSTER}/training")
PASS: Final = denial("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/hyperpod")
ATTACH: Final = denial("sagemaker:AttachClusterNodeVolume", f"{CLUSTER}/ID")
DESCRIBE: Final = denial("eks:DescribeCluster", f"arn:aws:eks:us-west-2:{ACCOUNT}:cluster/training")
DETACH: Final = denial("sagemaker:DetachClusterNodeVolume", f"{CLUSTER}/ID")

REFUSALS: Final = [
    error("AccessDenied", "AssumeRole", ASSUME),
    error("AccessDeniedException", "CreateCluster", CREATE),
    error("AccessDeniedException", "CreateCluster", PASS),
    error("UnauthorizedOperation", "CreateVolume", ec2_denial("ec2:CreateVolume", f"{VOLUMES}/*")),
    error("InvalidVolume.NotFound", "DescribeVolumes", VANISHED),
    error("AccessDeniedException", "AttachClusterNodeVolume", ATTACH),
    error("AccessDeniedException", "AttachClusterNodeVolume", DESCRIBE),
    volume_error("Attach", "UnauthorizedOperation", ec2_denial("ec2:AttachVolume", f"{VOLUMES}/vol-ID")),
    volume_error("Attach", "CustomerKeyHasBeenRevoked", NO_KEY),
    error("AccessDeniedException", "DetachClusterNodeVolume", DETACH),
    volume_error("Detach", "UnauthorizedOperation", ec2_denial("ec2:DetachVolume", f"{VOLUMES}/vol-ID")),
]
"""AWS's answers in their order, with ID for what is random."""

_RANDOM: Final = re.compile(rf"(?<=\bvol-)[0-9a-f]+|(?<={CLUSTER}/)[0-9a-z]{{12}}\b")


async def start(directory: Path) -> asyncio.subprocess.Process:
    """Start the script in a process group of its own, as a shell does."""
    programs = [Path(sys.executable).parent, ROOT / ".tools" / "aws-cli" / "bin"]
    return await asyncio.create_subprocess_exec(
        str(EXAMPLE / "attach.sh"),
        cwd=directory,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "PATH": ":".join([*map(str, programs), os.environ["PATH"], "/usr/sbin", "/sbin"]),
            "HOME": str(directory),
            "TMPDIR": str(directory),
        },
        stdout=PIPE,
        stderr=STDOUT,
        process_group=0,
    )


@pytest.mark.requirement("examples.readme")
async def test_each_step_is_refused_without_its_permission_and_works_with_it(short_path: Path) -> None:
    """AWS's own messages; the README shows a part of the output."""
    process = await start(short_path)
    output = (await process.communicate())[0].decode()
    (shown,) = (block for block in Page.read(EXAMPLE / "README.md").blocks if block.info == "text")

    lines = output.splitlines()
    assert process.returncode == 0, output
    assert [_RANDOM.sub("ID", line) for line in lines if line.startswith("An error occurred")] == REFUSALS
    assert list(missing_lines(shown.text.splitlines(), output)) == []
    assert [line for line in lines if line in {"attached", "step 1000", "detached"}] == [
        "attached",
        "step 1000",
        "detached",
    ]
    assert "mkfs.ext4: Permission denied" in output
    assert list(short_path.iterdir()) == []


async def test_ctrl_c_cleans_up(short_path: Path) -> None:
    """Ctrl-C reaches all processes of the terminal, also a call that runs."""
    process = await start(short_path)
    assert process.stdout is not None
    output: list[str] = []
    while "== 5" not in (line := (await process.stdout.readline()).decode()):
        assert line, "".join(output)
        output.append(line)

    os.killpg(process.pid, signal.SIGINT)
    rest = (await process.communicate())[0].decode()

    assert process.returncode == 128 + signal.SIGINT, rest
    assert "is deleted" in rest
    assert list(short_path.iterdir()) == []
