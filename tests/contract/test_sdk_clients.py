"""Programs with AWS SDK for Go v2 and AWS SDK for JavaScript v3, against IAM, STS, KMS, EKS, EC2 and SageMaker.

boto3 and the AWS CLI call every operation (test_every_operation.py, test_aws_cli.py). These SDKs have parsers, signers
and credential providers of their own.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from hyperpod_ebs.emulator.emulator import Emulator
from hyperpod_ebs.kit import command
from tests.support.emulator_clients import Aws
from tests.support.pod_identity_agent import start_agent
from tests.support.pod_tokens import create_role, pod_token
from tests.support.privileges import skip_or_fail
from tests.support.roles import put_provider, put_role
from tests.support.token_issuer import AUDIENCE, serve_issuer

TOOLS: Final = Path(__file__).parents[2] / ".tools" / "sdk-clients"
JAVASCRIPT: Final = Path(__file__).parents[1] / "support" / "sdk_client.mjs"
ACCOUNT: Final = "arn:aws:iam::123456789012"

REPORT: Final[Mapping[str, Mapping[str, Any]]] = {
    "iam": {"role": f"{ACCOUNT}:role/lives", "attached": "describe", "error": "NoSuchEntity"},
    "sts": {
        "user": f"{ACCOUNT}:user/emulator",
        "session": "arn:aws:sts::123456789012:assumed-role/lives/me",
        "allowed": 0,
        "denied": "AccessDeniedException",
        "error": "UnauthorizedOperation",
    },
    "kms": {
        "opened": "hello",
        "dataKey": 32,
        "grants": [1, 0],
        "state": "PendingDeletion",
        "error": "InvalidCiphertextException",
    },
    "eks": {
        "status": "ACTIVE",
        "issuer": True,
        "associations": ["kube-system", "ebs"],
        "error": "ResourceNotFoundException",
    },
    "ec2": {"state": "available", "error": "InvalidVolume.NotFound"},
    "sagemaker": {"clusters": 0, "error": "ResourceNotFound"},
}
"""What each program must have seen."""


@pytest.fixture(params=["go", "javascript"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Sequence[str]:
    """The command of a program; the test is skipped where it is missing, but CI must have the Go program."""
    if request.param == "go":
        if not (TOOLS / "go-client").exists():
            skip_or_fail("the Go program is missing: scripts/setup.sh sdk-clients builds it")
        return [str(TOOLS / "go-client")]
    if not (node := shutil.which("node")) or not (TOOLS / "node_modules").is_dir():
        pytest.skip("Node.js or the SDK is missing: install Node.js, and run scripts/setup.sh sdk-clients")
    script = tmp_path / JAVASCRIPT.name
    shutil.copy(JAVASCRIPT, script)
    (tmp_path / "node_modules").symlink_to(TOOLS / "node_modules")
    return [node, "--preserve-symlinks-main", str(script)]


async def run(program: Sequence[str], variables: Mapping[str, str], *words: str) -> str:
    """Run a program with nothing but these variables of AWS; return what it printed."""
    kept = [name for name in os.environ if name.startswith("AWS_")]
    unset = [word for name in kept for word in ("-u", name)]
    given = [f"{name}={value}" for name, value in variables.items()]
    return (await command.run(["env", *unset, *given, *program, *words], deadline=60)).out


async def test_a_program_leads_the_main_life_of_each_service(program: Sequence[str], emulator: Emulator) -> None:
    """Create, use, share and delete, with one denied call and one error of each service."""
    report = json.loads(await run(program, emulator.env))

    assert report == REPORT


async def test_a_program_becomes_a_role_by_a_web_identity_token_in_its_environment(
    program: Sequence[str], emulator: Emulator, tmp_path: Path
) -> None:
    """AWS SDKs and Tools Reference Guide, "Assume role credential provider"; IRSA sets these variables in pods.

    AWS SDK for Go finds credentials before AWS_ENDPOINT_URL (config.go, defaultAWSConfigResolvers), so that STS needs
    a variable of its own.
    """
    async with serve_issuer() as issuer:
        provider = put_provider(emulator, issuer.url, AUDIENCE)
        trust = {"Effect": "Allow", "Principal": {"Federated": provider}, "Action": "sts:AssumeRoleWithWebIdentity"}
        token = tmp_path / "token"
        token.write_text(issuer.token())
        variables = {
            "AWS_ENDPOINT_URL": emulator.url,
            "AWS_REGION": "us-west-2",
            "AWS_ENDPOINT_URL_STS": emulator.url,
            "AWS_ROLE_ARN": put_role(emulator, "web", trust),
            "AWS_ROLE_SESSION_NAME": "pod",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        }
        arn = await run(program, variables, "identity")

    assert arn == "arn:aws:sts::123456789012:assumed-role/web/pod\n"


async def test_a_program_becomes_a_role_by_the_pod_identity_agent(
    program: Sequence[str], emulator: Emulator, aws: Aws, tmp_path: Path
) -> None:
    """AWS SDKs and Tools Reference Guide, "Container credential provider"; EKS Pod Identity sets these variables."""
    await aws.create_eks_cluster()
    role = await create_role(aws, "pods")
    pods = {"namespace": "kube-system", "serviceAccount": "ebs", "roleArn": role}
    await aws("eks", "create_pod_identity_association", clusterName="eks", **pods)
    token = tmp_path / "token"
    token.write_text(pod_token(emulator, "eks"))
    async with start_agent(emulator) as agent:
        variables = {
            "AWS_ENDPOINT_URL": emulator.url,
            "AWS_REGION": "us-west-2",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.url,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        }
        arn = await run(program, variables, "identity")

    assert arn.startswith("arn:aws:sts::123456789012:assumed-role/pods/eks-eks-ebs-")
