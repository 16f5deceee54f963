"""Which kubeconfig files are supported, and how the others are refused."""

import base64
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from hyperpod_ebs.driver.kubernetes import kubeconfig
from hyperpod_ebs.driver.model import errors

CA = trustme.CA()
CERTIFICATE = CA.issue_cert("node")


def encode(text: bytes) -> str:
    """Text as it is in a kubeconfig."""
    return base64.b64encode(text).decode()


def write(path: Path, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> Path:
    """Write a file with one context."""
    authority = {"certificate-authority-data": encode(CA.cert_pem.bytes())}
    server = {"server": "https://k8s.example:6443/base/", **authority, **(cluster or {})}
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": server}],
        "users": [{"name": "u", "user": user or {"token": "secret"}}],
    }
    file = path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


def test_an_address_and_a_token_are_read(tmp_path: Path) -> None:
    """Kubernetes, kubeconfig (v1). The token is not part of the value's repr, so that it cannot get into a log."""
    access = kubeconfig.read_access(write(tmp_path))

    assert (access.host, access.port, access.path) == ("k8s.example", 6443, "/base")
    assert access.headers() == {"Authorization": "Bearer secret"}
    assert "secret" not in repr(access)


def test_a_token_file_next_to_the_kubeconfig_is_read_for_each_request(tmp_path: Path) -> None:
    """Tokens change while the process runs."""
    access = kubeconfig.read_access(write(tmp_path, user={"tokenFile": "token"}))

    (tmp_path / "token").write_text("new\n")

    assert access.headers() == {"Authorization": "Bearer new"}


def test_an_embedded_client_certificate_is_used(tmp_path: Path) -> None:
    """The output of `kubectl config set-credentials --embed-certs`."""
    chain = b"".join(blob.bytes() for blob in CERTIFICATE.cert_chain_pems)
    user = {"client-certificate-data": encode(chain), "client-key-data": encode(CERTIFICATE.private_key_pem.bytes())}

    access = kubeconfig.read_access(write(tmp_path, user=user))

    assert access.headers() == {}


@pytest.mark.parametrize(
    ("cluster", "user", "message"),
    [
        ({}, {"exec": {"command": "aws"}}, "runs a program for its credentials"),
        ({"insecure-skip-tls-verify": True}, {}, "does not verify the server"),
        ({"server": "http://k8s.example"}, {}, "does not use TLS"),
        ({"certificate-authority-data": "%"}, {}, "cannot use kubeconfig"),
        ({}, {"client-certificate-data": encode(b"none"), "client-key-data": encode(b"none")}, "cannot use kubeconfig"),
    ],
    ids=["a program", "no verification", "no TLS", "not base64", "not a certificate"],
)
def test_an_unsupported_kubeconfig_is_refused_with_the_reason(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], message: str
) -> None:
    file = write(tmp_path, cluster, user)

    with pytest.raises(errors.Refused, match=message) as caught:
        kubeconfig.read_access(file)

    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not have the structure of a kubeconfig"),
        ("- a\n- b\n", "does not have the structure of a kubeconfig"),
        ("{", "is not YAML"),
        ("{}", "has no 'current-context'"),
        ("current-context: nowhere\n", "has no context 'nowhere'"),
        ("current-context: [1]\n", "has no context"),
    ],
)
def test_a_file_that_is_not_a_kubeconfig_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The user gets a message, not a traceback."""
    (tmp_path / "kubeconfig").write_text(text)

    with pytest.raises(errors.Refused, match=f"cannot use kubeconfig .*: it {message}"):
        kubeconfig.read_access(tmp_path / "kubeconfig")
    with pytest.raises(errors.Refused, match="cannot use kubeconfig"):
        kubeconfig.read_access(tmp_path / "absent")
