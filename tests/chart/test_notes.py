"""What a person reads after an installation."""

import json
import re
from typing import Any

from charted import notes


def policy(text: str) -> dict[str, Any]:
    """The document in the notes."""
    found = re.search(r"^ {2}\{$.*?^ {2}\}$", text, re.MULTILINE | re.DOTALL)
    assert found is not None, text
    return json.loads(found[0])  # type: ignore[no-any-return]  # JSON


async def test_the_guides_permissions_are_those_of_this_account_and_cluster() -> None:
    """The guide: what the role of the driver's service account needs beyond EBS's."""
    arn = "arn:aws:sagemaker:us-west-2:111122223333:cluster/abcdef123456"

    said = policy(await notes({"hyperpod": {"clusterArn": arn, "eksClusterName": "training"}}))

    assert said["Statement"] == [
        {
            "Effect": "Allow",
            "Action": ["sagemaker:AttachClusterNodeVolume", "sagemaker:DetachClusterNodeVolume"],
            "Resource": "arn:aws:sagemaker:us-west-2:111122223333:cluster/*",
        },
        {
            "Effect": "Allow",
            "Action": ["eks:DescribeCluster"],
            "Resource": "arn:aws:eks:us-west-2:111122223333:cluster/training",
        },
    ]


async def test_what_is_not_known_is_in_capitals_and_named() -> None:
    """Ours."""
    said = await notes({"hyperpod": {"region": "cn-north-1"}})

    assert "arn:aws-cn:sagemaker:cn-north-1:ACCOUNT:cluster/*" in said
    assert "with hyperpod.account, hyperpod.eksClusterName these notes do" in said


async def test_pod_identity_is_one_command_away() -> None:
    """The issue: Pod Identity."""
    role = {"arn": "arn:aws:iam::111122223333:role/ebs", "through": "podIdentity"}

    said = await notes({"hyperpod": {"region": "us-west-2", "eksClusterName": "training", "role": role}})

    assert "aws eks create-pod-identity-association --region us-west-2 --cluster-name training" in said
    assert "--service-account ebs-csi-controller-sa --role-arn arn:aws:iam::111122223333:role/ebs" in said


async def test_what_is_taken_and_does_nothing_is_told() -> None:
    """The issue: accepted with a notice."""
    said = await notes({"image": {"repository": "registry.example/ebs-csi-driver/aws-ebs-csi-driver"}})

    assert "Note: node.enableWindows is true" in said
    assert "Note: image.repository names the Go driver's image" in said
    assert "Note: the cluster has no snapshot CRDs" in said


async def test_nothing_to_note_is_nothing_noted() -> None:
    """Ours: notes that always say something are not read."""
    values = {
        "image": {"containerRegistry": "registry.example"},
        "node": {"enableWindows": False},
        "sidecars": {"snapshotter": {"forceEnable": True}},
        "snapshotController": {"enabled": False},
    }

    said = await notes(values)

    [note] = [line for line in said.splitlines() if line.startswith("Note:")]
    assert note.startswith("Note: snapshots need a snapshot controller in the cluster, and exactly one.")
