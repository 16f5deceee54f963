"""What the doctor's bundle keeps of objects and texts, and what it removes as a secret."""

import base64
import json
from typing import Any, Final

import pytest

from hyperpod_ebs.access.doctor.redaction import redact_object, redact_tags, redact_text

SECRET: Final = "Marked/Secret+0123456789abcdefghijKLMNOP"
"""As long as a secret access key, and of its characters."""

_TOKEN: Final = ".".join(
    base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in ('{"alg":"RS256"}', '{"sub":"me"}', SECRET)
)
_PEM: Final = f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----"
_PRESIGNED: Final = f"https://sts.us-west-2.amazonaws.com/?Action=GetCallerIdentity&X-Amz-Signature={SECRET}"


@pytest.mark.parametrize(
    "text",
    [
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"export AWS_SESSION_TOKEN='{SECRET} x'",
        f'{{"SecretAccessKey": "{SECRET}", "a": 1}}',
        f'{{\\"password\\": \\"{SECRET}\\"}}',
        f"Authorization: Bearer {SECRET}",
        f"authorization: Basic {SECRET}",
        f"password: {SECRET}",
        f"the key is {SECRET}, it said",
        f"token={_TOKEN}",
        f"a token: {_TOKEN} and more",
        f"{_TOKEN}",
        _PEM,
        f"cut off: -----BEGIN CERTIFICATE-----\n{SECRET}",
        f"GET {_PRESIGNED} 200",
        f'url="{_PRESIGNED}"',
        f"https://user:{SECRET}@example.com/x",
        f"http://{SECRET}@example.com/x",
        f"client-key-data: {SECRET}",
        f"--api-key {SECRET}",
        f"x-amz-security-token:{SECRET}",
        f"Credential=AKIAIOSFODNN7EXAMPLE/20260101, Signature={SECRET}",
    ],
)
def test_a_text_loses_what_looks_like_a_secret(text: str) -> None:
    shown = redact_text(text)

    assert SECRET not in shown
    assert _TOKEN not in shown
    assert "AKIAIOSFODNN7EXAMPLE" not in shown
    assert "(removed)" in shown


@pytest.mark.parametrize(
    "text",
    [
        "cannot attach volume vol-0123456789abcdef0 to node hyperpod-abcdefghijkl-i-0123456789abcdef0: VolumeInUse",
        "arn:aws:kms:us-west-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab is Disabled",
        "arn:aws:iam::123456789012:role/driver may not ec2:CreateVolume",
        "image 123456789012.dkr.ecr.us-west-2.amazonaws.com/ebs:v1 sha256:" + 8 * "01ab23cd",
        "see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volumes.html",
        "/var/lib/kubelet/plugins/kubernetes.io/csi/ebs.csi.aws.com/0123456789abcdef/globalmount",
    ],
)
def test_a_text_keeps_the_ids_and_messages_that_support_needs(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["aB3/", "token", "secret=", "a://", "eyJ", "-----BEGIN A-----", '"', "\\"])
def test_a_long_line_takes_no_time(part: str) -> None:
    """Patterns with nested repetitions would take hours."""
    assert isinstance(redact_text(part * (300_000 // len(part))), str)


def _pod(container: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "Pod", "spec": {"containers": [container]}}


@pytest.mark.parametrize(
    "item",
    [
        {"kind": "Secret", "metadata": {"name": "s"}, "data": {"a": SECRET}, "stringData": {"b": SECRET}},
        {"kind": "ConfigMap", "data": {"settings": SECRET}},
        {"metadata": {"annotations": {"team/note": SECRET}}},
        {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"x": SECRET})}}},
        {"metadata": {"managedFields": [{"fieldsV1": {SECRET: {}}}]}},
        {"kind": "StorageClass", "parameters": {"tagSpecification_1": f"owner={SECRET}"}},
        {"kind": "StorageClass", "parameters": {"unknown": SECRET}},
        {"spec": {"csi": {"volumeAttributes": {"note": SECRET}}}},
        _pod({"name": "ebs-plugin", "env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": SECRET}]}),
        _pod({"name": "ebs-plugin", "env": [{"name": "HTTPS_PROXY", "value": f"http://me:{SECRET}@proxy"}]}),
        _pod({"name": "ebs-plugin", "args": [f"--api-token={SECRET}"]}),
        _pod({"name": "ebs-plugin", "command": ["sh", "-c", f"PASSWORD={SECRET} run"]}),
        _pod({"name": "trainer", "args": [SECRET], "env": [{"name": "X", "value": SECRET}], "command": [SECRET]}),
        _pod({"name": "ebs-plugin", "livenessProbe": {"httpGet": {"httpHeaders": [{"name": "X", "value": SECRET}]}}}),
        {"spec": {"initContainers": [{"name": "x", "env": [{"name": "Y", "value": SECRET}]}]}},
        {"clientConfig": {"caBundle": SECRET}, "users": [{"user": {"token": SECRET, "client-key-data": SECRET}}]},
        {"message": f"call failed: {_PRESIGNED}"},
    ],
)
def test_an_object_loses_values_that_are_not_known_to_be_harmless(item: dict[str, Any]) -> None:
    assert SECRET not in json.dumps(redact_object(item))


def test_an_object_keeps_what_support_needs() -> None:
    item = {
        "kind": "StorageClass",
        "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "parameters": {"type": "gp3", "kmsKeyId": "alias/storage"},
        "mountOptions": ["noatime"],
        "spec": {
            "serviceAccountName": "ebs-csi-controller-sa",
            "volumes": [{"name": "s", "secret": {"secretName": "aws-secret"}}],
            "containers": [{"name": "ebs-plugin", "args": ["controller", "--k8s-tag-cluster-id=eks"]}],
        },
    }

    assert redact_object(item) == item


def test_a_tag_of_a_user_loses_its_value() -> None:
    assert redact_tags({"ebs.csi.aws.com/cluster": "true", "owner": SECRET}) == {
        "ebs.csi.aws.com/cluster": "true",
        "owner": "(removed)",
    }


def test_a_secret_may_be_the_argument_after_its_flag() -> None:
    item = {"spec": {"containers": [{"name": "ebs-plugin", "args": ["--api-token", SECRET, "--v", "2"]}]}}

    assert redact_object(item)["spec"]["containers"][0]["args"] == ["--api-token", "(removed)", "--v", "2"]
