"""Which kubeconfig files are taken, and what is said of the others."""

import base64
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from hyperpod_ebs.driver.kubernetes import kubeconfig
from hyperpod_ebs.driver.model import errors

CA = trustme.CA()
OURS = CA.issue_cert("node")


def data(text: bytes) -> str:
    """Text as a kubeconfig holds it."""
    return base64.b64encode(text).decode()


def written(path: Path, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> Path:
    """A file with one context."""
    authority = {"certificate-authority-data": data(CA.cert_pem.bytes())}
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


def test_an_address_and_a_token_are_taken(tmp_path: Path) -> None:
    """Kubernetes' kubeconfig; the token is not shown by accident."""
    found = kubeconfig.read_access(written(tmp_path))

    assert (found.host, found.port, found.path) == ("k8s.example", 6443, "/base")
    assert found.headers() == {"Authorization": "Bearer secret"}
    assert "secret" not in repr(found)


def test_a_tokens_file_beside_it_is_read_at_each_request(tmp_path: Path) -> None:
    """Tokens are changed while the process runs."""
    found = kubeconfig.read_access(written(tmp_path, user={"tokenFile": "token"}))

    (tmp_path / "token").write_text("new\n")

    assert found.headers() == {"Authorization": "Bearer new"}


def test_a_client_certificate_is_taken_from_the_entry_itself(tmp_path: Path) -> None:
    """What `kubectl config` writes with --embed-certs."""
    chain = b"".join(blob.bytes() for blob in OURS.cert_chain_pems)
    user = {"client-certificate-data": data(chain), "client-key-data": data(OURS.private_key_pem.bytes())}

    found = kubeconfig.read_access(written(tmp_path, user=user))

    assert found.headers() == {}


@pytest.mark.parametrize(
    ("cluster", "user", "says"),
    [
        ({}, {"exec": {"command": "aws"}}, "runs a program for its credentials"),
        ({"insecure-skip-tls-verify": True}, {}, "trusts whoever answers"),
        ({"server": "http://k8s.example"}, {}, "not spoken to with TLS"),
        ({"certificate-authority-data": "%"}, {}, "cannot be used"),
        ({}, {"client-certificate-data": data(b"none"), "client-key-data": data(b"none")}, "cannot be used"),
    ],
    ids=["a program", "no trust", "no TLS", "no base64", "no certificate"],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], says: str
) -> None:
    """Ours."""
    file = written(tmp_path, cluster, user)

    with pytest.raises(errors.Refused, match=says) as caught:
        kubeconfig.read_access(file)

    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "{", "current-context: nowhere\n", "current-context: [1]\n"])
def test_what_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    """Ours: a sentence, never a traceback."""
    (tmp_path / "kubeconfig").write_text(text)

    with pytest.raises(errors.Refused, match="cannot be used"):
        kubeconfig.read_access(tmp_path / "kubeconfig")
    with pytest.raises(errors.Refused, match="cannot be used"):
        kubeconfig.read_access(tmp_path / "absent")
