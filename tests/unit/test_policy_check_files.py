"""`hyperpod-ebs policy … --check` on files, without AWS: forms of files, where values come from, wrong input."""

import io
import json
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import pytest

from hyperpod_ebs import cli

ACCOUNT: Final = "123456789012"
SCOPE: Final = f"us-west-2:{ACCOUNT}"
CLUSTER: Final = f"arn:aws:sagemaker:{SCOPE}:cluster/abcdefghijkl"
GIVEN: Final = ("--cluster", CLUSTER, "--eks-cluster", "training")
HERE: Final = ("--account", ACCOUNT, "--region", "us-west-2", "--scope", "account")


def document(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def allow(*actions: str, resource: str = "*", **members: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource, **members}


def guide_of_caller(*describe: str) -> str:
    """What SageMaker's guide prints for callers of AttachClusterNodeVolume."""
    return document(
        allow("sagemaker:AttachClusterNodeVolume", resource=f"arn:aws:sagemaker:{SCOPE}:cluster/*"),
        allow("eks:DescribeCluster", resource=f"arn:aws:eks:{SCOPE}:cluster/training"),
        allow("ec2:AttachVolume", *describe, resource=f"arn:aws:ec2:{SCOPE}:volume/*"),
    )


FITTING: Final = document(
    allow("sagemaker:AttachClusterNodeVolume", resource=f"arn:aws:sagemaker:{SCOPE}:cluster/*"),
    allow("eks:DescribeCluster", resource=f"arn:aws:eks:{SCOPE}:cluster/training"),
    allow("ec2:AttachVolume", resource=f"arn:aws:ec2:{SCOPE}:volume/*"),
    allow("ec2:DescribeVolumes"),
)


@pytest.fixture(autouse=True)
def without_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without credentials and without a network."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


class Checker:
    """Runs the command with a text on stdin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, text: str, *words: str) -> tuple[int, str, str]:
        """The exit code, stdout and stderr of `policy` with these words."""
        self._monkeypatch.setattr("sys.stdin", io.StringIO(text))
        code = cli.run(["policy", *words])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def findings(self, text: str, *words: str) -> list[dict[str, Any]]:
        """The findings of a check."""
        _, out, err = self.run(text, *words, "--output", "json")
        assert out, err
        findings: list[dict[str, Any]] = json.loads(out)["findings"]
        return findings


@pytest.fixture
def checker(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Checker:
    return Checker(monkeypatch, capsys)


class Form(NamedTuple):
    """A way in which a document can be written."""

    id: str
    text: str


FORMS: Final = [
    Form("a document", FITTING),
    Form("with a byte order mark", f"\N{ZERO WIDTH NO-BREAK SPACE}{FITTING}"),
    Form("URL-encoded", quote(FITTING)),
    Form("of get-policy-version", json.dumps({"PolicyVersion": {"VersionId": "v1", "Document": json.loads(FITTING)}})),
    Form("of get-role-policy", json.dumps({"PolicyName": "own", "PolicyDocument": json.loads(FITTING)})),
    Form("encoded in JSON", json.dumps({"PolicyVersion": {"Document": quote(FITTING)}})),
    Form("a string in JSON", json.dumps({"policy": FITTING})),
    Form(
        "of Terraform",
        json.dumps({"values": {"root_module": {"resources": [{"values": {"name": "own", "policy": FITTING}}]}}}),
    ),
    Form("in a list", json.dumps({"Policies": [{"PolicyName": "own", "PolicyDocument": json.loads(FITTING)}]})),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.id)
def test_each_form_of_a_document_is_read(checker: Checker, form: Form) -> None:
    """AWS CLI reference, get-policy-version and get-role-policy; IAM API reference: documents are URL-encoded."""
    code, out, err = checker.run(form.text, "attach", "--check", "-", *GIVEN)

    assert code == 0, out + err
    assert "nothing else" in out


def test_both_printed_forms_of_the_guide_are_named(checker: Checker, tmp_path: Path) -> None:
    """SageMaker Developer Guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters"."""
    file = tmp_path / "one.json"
    file.write_text(guide_of_caller("ec2:DescribeVolume"))

    code, out, _ = checker.run("", "attach", "--check", str(file), *GIVEN)
    (other,) = checker.findings(guide_of_caller("ec2:DescribeVolumes"), "attach", "--check", "-", *GIVEN)

    assert code == 3
    assert "ec2:DescribeVolume does not exist, so it grants nothing" in out
    assert '"Action": "ec2:DescribeVolumes"' in out
    assert (other["kind"], other["statement"]) == ("mistyped", "statement 3")
    assert "takes no resource but *" in other["message"]


def test_the_guides_addition_to_the_drivers_role_needs_the_policy_of_aws_next_to_it(checker: Checker) -> None:
    addition = document(
        allow(
            "sagemaker:AttachClusterNodeVolume",
            "sagemaker:DetachClusterNodeVolume",
            resource=f"arn:aws:sagemaker:{SCOPE}:cluster/*",
        ),
        allow("eks:DescribeCluster", resource=f"arn:aws:eks:{SCOPE}:cluster/training"),
    )

    code, out, err = checker.run(addition, "driver", "--check", "-", *GIVEN)

    assert (code, "nothing else" in out) == (0, True)
    assert "AmazonEBSCSIDriverPolicyV2" in err


def test_a_policy_of_a_caller_without_any_action_of_ec2_does_not_fit(checker: Checker) -> None:
    """Only the driver's role has a policy of AWS next to its own."""
    without_ec2 = document(*json.loads(FITTING)["Statement"][:2])

    code, out, err = checker.run(without_ec2, "attach", "--check", "-", *GIVEN)

    assert code == 3
    assert "ec2:AttachVolume is not allowed" in out
    assert "AmazonEBSCSIDriverPolicyV2" not in err


def test_a_printed_policy_fits(checker: Checker) -> None:
    users = ("--driver", "driver", "--caller", f"arn:aws:iam::{ACCOUNT}:user/ann", "--execution-role", "node")
    account = ("--account", ACCOUNT, "--region", "us-west-2")
    jobs: dict[str, tuple[str, ...]] = {
        "driver": ("driver", "--inline", *GIVEN),
        "by reference": ("driver", *GIVEN),
        "attach": ("attach", *GIVEN),
        "detach": ("detach", *GIVEN),
        "account": ("attach", *HERE),
        "key": ("key", *account, *users),
    }

    for words in jobs.values():
        _, printed, _ = checker.run("", *words)
        code, out, err = checker.run(printed, *words, "--check", "-")
        assert code == 0, out + err


def test_flags_win_over_the_file(checker: Checker) -> None:
    text = guide_of_caller()

    (cluster, optional) = checker.findings(
        text, "attach", "--check", "-", "--cluster", CLUSTER, "--eks-cluster", "another"
    )
    of_account = checker.findings(text, "attach", "--check", "-", *HERE)
    elsewhere = checker.findings(
        text, "attach", "--check", "-", "--scope", "account", "--account", "9" * 12, "--region", "us-east-2"
    )

    assert "the resource is cluster/training, not cluster/another" in cluster["message"]
    assert optional["kind"] == "missing for some uses"
    assert "not cluster/*" in of_account[0]["message"]
    assert (
        sum("the region is us-west-2, not us-east-2 and the account is" in each["message"] for each in elsewhere) == 3
    )


class Wrong(NamedTuple):
    """A wrong input, and a part of the error."""

    id: str
    text: str
    words: tuple[str, ...]
    part: str


WRONG: Final = [
    Wrong("nothing", "", (*HERE, "--check", "-"), "Expecting value"),
    Wrong("no policy", "[]", (*HERE, "--check", "-"), "no policy document"),
    Wrong("no JSON", "{'Statement': []}", (*HERE, "--check", "-"), "line 1 column 2"),
    Wrong("twice", '{"Statement": [], "Statement": []}', (*HERE, "--check", "-"), "Statement appears twice"),
    Wrong("deep", "[" * 100_000, (*HERE, "--check", "-"), "cannot read stdin"),
    Wrong("a key's policy", document(allow("kms:*", Principal="*")), (*HERE, "--check", "-"), "policy key --check"),
    Wrong("missing file", "", (*HERE, "--check", "/no/file.json"), "No such file"),
    Wrong("directory", "", (*HERE, "--check", "/etc/"), "Is a directory"),
    Wrong("form of policies", "", ("--check", "-", "--output", "cli"), "use table or json"),
    Wrong("flag as value", "", ("--check", "--wait"), "--wait is a flag"),
    Wrong("table without check", "", (*HERE, "--output", "table"), "give --check"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.id)
def test_wrong_input_is_refused(checker: Checker, case: Wrong) -> None:
    code, out, err = checker.run(case.text, "attach", *case.words)

    assert (code, out) == (2, "")
    assert case.part in err


def test_a_document_that_iam_refuses_is_a_finding(checker: Checker) -> None:
    """IAM User Guide, "IAM JSON policy elements: Condition operators"."""
    text = document(allow("ec2:AttachVolume", Condition={"StringEqual": {"aws:username": "ann"}}))

    code, out, _ = checker.run(text, "attach", "--check", "-", *HERE)

    assert code == 3
    assert "a similar operator is StringEquals" in out
