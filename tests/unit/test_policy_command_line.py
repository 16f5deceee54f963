"""The command line of `hyperpod-ebs policy`, without AWS: commands with all values, and wrong values."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hyperpod_ebs import cli

ACCOUNT: Final = "123456789012"
CLUSTER: Final = f"arn:aws:sagemaker:us-west-2:{ACCOUNT}:cluster/abcdefghijkl"
KEY: Final = f"arn:aws:kms:us-west-2:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
GIVEN: Final = ("--cluster", CLUSTER, "--eks-cluster", "training")
ISSUER: Final = "https://oidc.eks.us-west-2.amazonaws.com/id/ABCDEF"
WRONG_USAGE: Final = 2


@pytest.fixture(autouse=True)
def without_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without credentials and without a network."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


class Offline(NamedTuple):
    """A command for which all values are given."""

    id: str
    words: Sequence[str]
    part: str
    """A part of what it prints."""


OFFLINE: Final = [
    Offline("attach", ["attach", *GIVEN], "ec2:AttachVolume"),
    Offline("detach", ["detach", *GIVEN], "ec2:DetachVolume"),
    Offline("driver", ["driver", *GIVEN], "policy/AmazonEBSCSIDriverPolicyV2"),
    Offline("IRSA", ["driver", *GIVEN, "--trust", "irsa", "--issuer", ISSUER], "sts:AssumeRoleWithWebIdentity"),
    Offline(
        "account",
        ["attach", "--scope", "account", "--region", "cn-north-1", "--account", ACCOUNT],
        f"arn:aws-cn:ec2:cn-north-1:{ACCOUNT}:volume/*",
    ),
    Offline("key", ["key", "--key", KEY, "--driver", "driver"], f"arn:aws:iam::{ACCOUNT}:role/driver"),
    Offline(
        "key elsewhere", ["key", "--key", KEY, "--driver", "d", "--region", "eu-west-1"], "ec2.us-west-2.amazonaws"
    ),
    Offline(
        "key by id",
        ["key", "--key", KEY.rpartition("/")[2], "--caller", "me", "--region", "us-gov-west-1", "--account", ACCOUNT],
        f"arn:aws-us-gov:iam::{ACCOUNT}:role/me",
    ),
]


@pytest.mark.parametrize("case", OFFLINE, ids=lambda case: case.id)
def test_a_command_with_all_values_needs_no_credentials(capsys: pytest.CaptureFixture[str], case: Offline) -> None:
    assert cli.run(["policy", *case.words]) == 0

    shown = capsys.readouterr().out
    assert case.part in shown
    assert json.loads(shown)


class Wrong(NamedTuple):
    """A command that is refused."""

    id: str
    words: Sequence[str]
    message: str


WRONG: Final = [
    Wrong("no cluster ARN", ["attach", "--cluster", f"{CLUSTER}0"], "must match arn:PARTITION:sagemaker:REGION"),
    Wrong("EKS ARN", ["attach", "--cluster", f"arn:aws:eks:us-west-2:{ACCOUNT}:cluster/x"], "not an ARN of the right"),
    Wrong("account", ["attach", *GIVEN, "--account", "12"], "--account is '12'; it must be twelve digits"),
    Wrong("two accounts", ["attach", *GIVEN, "--account", "999999999999"], f"has account {ACCOUNT}, but another value"),
    Wrong("two partitions", ["attach", *GIVEN, "--partition", "aws-cn"], "has partition aws, but another value"),
    Wrong("role", ["attach", *GIVEN, "--role", "a b"], "--role is 'a b'; it must be the name of a role"),
    Wrong("role in Unicode", ["driver", *GIVEN, "--role", "rôle"], "it must be the name of a role"),
    Wrong("service account", ["driver", *GIVEN, "--service-account", "ebs"], "it must be NAMESPACE/NAME"),
    Wrong("issuer", ["driver", *GIVEN, "--issuer", "http://x"], "it must be the https URL"),
    Wrong("issuer with a quote", ["driver", *GIVEN, "--issuer", "https://x/'$(id)"], "it must be the https URL"),
    Wrong("no users", ["key", "--key", KEY], "give --driver, --caller or --execution-role"),
    Wrong("alias", ["key", "--key", "alias/mine", "--driver", "d"], "aws kms describe-key"),
    Wrong("no key", ["key", "--driver", "d", "--output", "cli"], "give --key"),
    Wrong(
        "session",
        ["key", "--key", KEY, "--caller", f"arn:aws:sts::{ACCOUNT}:assumed-role/a/b"],
        "the ARN of a role or user and not of a session",
    ),
    Wrong(
        "another account",
        ["key", "--key", KEY, "--driver", "arn:aws:iam::999999999999:role/d"],
        f"is in account 999999999999, but the key is in {ACCOUNT}",
    ),
    Wrong("no file", ["key", "--key", KEY, "--driver", "d", "--add-to", "/no/such"], "No such file or directory"),
    Wrong(
        "no region",
        ["attach", "--scope", "account", "--region", "nowhere-1", "--account", ACCOUNT],
        "no partition that the",
    ),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.id)
def test_a_wrong_value_is_named(capsys: pytest.CaptureFixture[str], case: Wrong) -> None:
    assert cli.run(["policy", *case.words]) == WRONG_USAGE

    shown = capsys.readouterr()
    assert case.message in shown.err
    assert shown.out == ""


NO_POLICIES: Final = [
    "",
    "[]",
    "{}",
    '{"Statement": [1]}',
    "null",
    '{"Statement": null}',
    '{"Statement": [{"Effect": "Allow", "Principal": {"AWS": null}, "Action": "kms:DescribeKey", "Resource": "*"}]}',
    '{"Statement": [{"Effect": "Allow", "Action": "kms:DescribeKey", "Resource": "*"}]}',
    "\xff",
]


@pytest.mark.parametrize("text", NO_POLICIES)
def test_a_file_that_is_no_policy_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    (tmp_path / "policy").write_bytes(text.encode("latin-1"))

    assert (
        cli.run(["policy", "key", "--key", KEY, "--driver", "d", "--add-to", str(tmp_path / "policy")]) == WRONG_USAGE
    )

    assert f"--add-to {tmp_path / 'policy'}" in capsys.readouterr().err


def test_the_present_policy_may_be_as_the_aws_cli_prints_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """AWS CLI reference, get-key-policy: the policy is a string in the answer."""
    words = ["policy", "key", "--key", KEY]
    assert cli.run([*words, "--driver", "driver"]) == 0
    text = capsys.readouterr().out
    shown = []

    for form in (text, json.dumps(text), json.dumps({"Policy": text, "PolicyName": "default"})):
        (tmp_path / "policy").write_text(form)
        assert cli.run([*words, "--caller", "me", "--add-to", str(tmp_path / "policy")]) == 0
        shown.append(json.loads(capsys.readouterr().out))

    assert shown[0] == shown[1] == shown[2]
    assert shown[0]["Statement"][:1] == json.loads(text)["Statement"][:1]
