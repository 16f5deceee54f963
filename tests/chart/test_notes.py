"""What a person reads after an installation."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.helm_chart import copy_chart, notes


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


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("us-west-2", "aws"),
        ("us-gov-east-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("us-isof-south-1", "aws-iso-f"),
        ("eu-isoe-west-1", "aws-iso-e"),
        ("eusc-de-east-1", "aws-eusc"),
    ],
)
async def test_an_arn_is_of_the_regions_partition(region: str, partition: str) -> None:
    """Ours: a policy that names another is one that IAM refuses."""
    said = await notes({"hyperpod": {"region": region}})

    assert f"arn:{partition}:sagemaker:{region}:ACCOUNT:cluster/*" in said


async def test_a_role_given_upstreams_way_tells_its_account() -> None:
    """Upstream: an annotation of the service account."""
    role = {"eks.amazonaws.com/role-arn": "arn:aws-us-gov:iam::012345678901:role/ebs"}

    said = await notes({"controller": {"serviceAccount": {"annotations": role}}})

    assert "arn:aws-us-gov:sagemaker:REGION:012345678901:cluster/*" in said
    assert "its trust policy has to name the cluster's OIDC provider" in said


async def test_each_daemonset_that_was_made_is_named() -> None:
    """Ours: a command in the notes works."""
    said = await notes({"node": {"enableLinux": False}, "additionalDaemonSets": {"big": {"enableLinux": True}}})

    assert "rollout status daemonset/ebs-csi-node-big\n" in said
    assert "rollout status daemonset/ebs-csi-node\n" not in said


async def test_what_was_not_taken_or_looked_up_is_told(tmp_path: Path) -> None:
    """Ours: a label that is dropped, a version that was not looked into, an image that nobody pulls."""
    said = await notes(
        {
            "controller": {"podLabels": {"app": "other"}},
            "customLabels": {"team": "storage", "app.kubernetes.io/name": "other"},
            "sidecars": {"provisioner": {"image": {"tag": "v6.3.0-eksbuild.4"}}},
        },
        chart=copy_chart(tmp_path, registry=""),
    )

    assert "app in controller.podLabels, app.kubernetes.io/name in customLabels is not taken" in said
    assert "sidecars.provisioner is v6.3.0-eksbuild.4, not v6.4.0" in said
    assert (
        "nodes never pull these images and run only those that were imported there: hyperpod-ebs:0.1.0, csi-comp"
        in said
    )
