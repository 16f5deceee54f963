"""The notes that Helm prints after an installation."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.helm_chart import copy_chart, get_notes


def policy_in(text: str) -> dict[str, Any]:
    """The IAM policy in the notes."""
    document = re.search(r"^ {2}\{$.*?^ {2}\}$", text, re.MULTILINE | re.DOTALL)
    assert document is not None, text
    return json.loads(document[0])  # type: ignore[no-any-return]  # JSON


async def test_the_permissions_name_the_account_and_the_cluster() -> None:
    """SageMaker AI guide, "Using the Amazon EBS CSI driver on SageMaker HyperPod EKS clusters": permissions."""
    arn = "arn:aws:sagemaker:us-west-2:111122223333:cluster/abcdef123456"

    policy = policy_in(await get_notes({"hyperpod": {"clusterArn": arn, "eksClusterName": "training"}}))

    assert policy["Statement"] == [
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


async def test_unknown_values_are_in_capitals_and_named() -> None:
    """The user must replace the words in capitals, or set the values that the notes name."""
    text = await get_notes({"hyperpod": {"region": "cn-north-1"}})

    assert "arn:aws-cn:sagemaker:cn-north-1:ACCOUNT:cluster/*" in text
    assert "If you set hyperpod.account, hyperpod.eksClusterName, these notes show the right words" in text


async def test_the_notes_have_the_command_for_pod_identity() -> None:
    """AWS CLI, create-pod-identity-association."""
    role = {"arn": "arn:aws:iam::111122223333:role/ebs", "through": "podIdentity"}

    text = await get_notes({"hyperpod": {"region": "us-west-2", "eksClusterName": "training", "role": role}})

    assert "aws eks create-pod-identity-association --region us-west-2 --cluster-name training" in text
    assert "--service-account ebs-csi-controller-sa --role-arn arn:aws:iam::111122223333:role/ebs" in text


async def test_values_without_effect_are_reported() -> None:
    """Decision 0017: an accepted value without effect is in the notes."""
    text = await get_notes({"image": {"repository": "registry.example/ebs-csi-driver/aws-ebs-csi-driver"}})

    assert "Note: node.enableWindows is true" in text
    assert "Note: image.repository is the Go driver's image" in text
    assert "Note: the cluster has no snapshot CRDs" in text


async def test_values_without_a_problem_give_no_notes_about_them() -> None:
    """Users stop reading notes that always warn."""
    values = {
        "image": {"containerRegistry": "registry.example"},
        "node": {"enableWindows": False},
        "sidecars": {"snapshotter": {"forceEnable": True}},
        "snapshotController": {"enabled": False},
    }

    text = await get_notes(values)

    [note] = [line for line in text.splitlines() if line.startswith("Note:")]
    assert note.startswith("Note: snapshots need exactly one snapshot controller in the cluster.")


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
async def test_an_arn_has_the_regions_partition(region: str, partition: str) -> None:
    """IAM refuses a policy with another partition."""
    text = await get_notes({"hyperpod": {"region": region}})

    assert f"arn:{partition}:sagemaker:{region}:ACCOUNT:cluster/*" in text


async def test_the_account_and_partition_follow_from_an_annotated_role() -> None:
    """Upstream sets the role by an annotation of the service account."""
    role = {"eks.amazonaws.com/role-arn": "arn:aws-us-gov:iam::012345678901:role/ebs"}

    text = await get_notes({"controller": {"serviceAccount": {"annotations": role}}})

    assert "arn:aws-us-gov:sagemaker:REGION:012345678901:cluster/*" in text
    assert "trust policy must name the cluster's OIDC provider" in text


async def test_the_notes_name_each_daemonset_of_the_release() -> None:
    """A command for another DaemonSet would fail."""
    text = await get_notes({"node": {"enableLinux": False}, "additionalDaemonSets": {"big": {"enableLinux": True}}})

    assert "rollout status daemonset/ebs-csi-node-big\n" in text
    assert "rollout status daemonset/ebs-csi-node\n" not in text


async def test_ignored_labels_other_versions_and_images_without_a_registry_are_reported(tmp_path: Path) -> None:
    """Helm installs the release in all three cases, so only the notes can warn."""
    text = await get_notes(
        {
            "controller": {"podLabels": {"app": "other"}},
            "customLabels": {"team": "storage", "app.kubernetes.io/name": "other"},
            "sidecars": {"provisioner": {"image": {"tag": "v6.3.0-eksbuild.4"}}},
        },
        chart=copy_chart(tmp_path, registry=""),
    )

    assert "ignores: app in controller.podLabels, app.kubernetes.io/name in customLabels." in text
    assert "sidecars.provisioner is v6.3.0-eksbuild.4, not v6.4.0" in text
    assert "nodes never pull these images and run only imported ones: hyperpod-ebs:0.1.0, csi-comp" in text
