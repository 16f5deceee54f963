"""botocore's own providers of credentials get new ones from the emulator before the old ones expire."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped] # it has no types of its own
import pytest
from botocore.credentials import CachedCredentialFetcher, RefreshableCredentials

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import ZONE
from tests.support.roles import ALLOW_ALL, put_provider, put_role
from tests.support.token_issuer import AUDIENCE, serve_issuer


@pytest.fixture
def environment(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The process's environment, with the emulator's endpoint and without any credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", emulator.url)
    monkeypatch.setenv("AWS_REGION", emulator.env["AWS_REGION"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", emulator.env["AWS_REGION"])
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


def expire_sessions(emulator: Emulator) -> int:
    """Let every session have expired; return how many there were."""
    store = emulator.world.store.sessions
    for session in list(store.values()):
        store.put(replace(session, expires=time.time() - 1))
    return len(store)


async def call_twice(emulator: Emulator) -> list[Any]:
    """Create a volume, let all sessions expire, and create another one with the same client."""
    client: Any = await asyncio.to_thread(lambda: boto3.Session().client("ec2"))  # its methods exist at run time
    volumes = [await asyncio.to_thread(client.create_volume, AvailabilityZone=ZONE, Size=1)]
    assert expire_sessions(emulator)
    return [*volumes, await asyncio.to_thread(client.create_volume, AvailabilityZone=ZONE, Size=1)]


async def test_a_profile_with_a_role_gets_new_credentials(
    emulator: Emulator, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """AWS SDKs and Tools Reference Guide, "Assume role credential provider"; the SDK renews in the last 15 minutes."""
    role = put_role(emulator, "work", allow=ALLOW_ALL)
    config = tmp_path / "config"
    config.write_text(
        f"[default]\nrole_arn = {role}\nsource_profile = admin\nduration_seconds = 900\n"
        f"[profile admin]\naws_access_key_id = {emulator.env['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {emulator.env['AWS_SECRET_ACCESS_KEY']}\n"
    )
    environment.setenv("AWS_CONFIG_FILE", str(config))

    volumes = await call_twice(emulator)

    assert len({volume["VolumeId"] for volume in volumes}) == 2
    assert {session.role for session in emulator.world.store.sessions.values()} == {"work"}


async def test_a_web_identity_token_file_gets_new_credentials(
    emulator: Emulator, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """EKS User Guide, "Use IRSA with the AWS SDK": kubelet replaces the file, and the SDK reads it at each renewal."""
    # The SDK cannot request less than an hour here, so it renews credentials whose last two hours have begun.
    environment.setattr(RefreshableCredentials, "_advisory_refresh_timeout", 2 * 3600)
    environment.setattr(CachedCredentialFetcher, "DEFAULT_EXPIRY_WINDOW_SECONDS", 2 * 3600)
    async with serve_issuer() as issuer:
        provider = put_provider(emulator, issuer.url, AUDIENCE)
        trust = {"Effect": "Allow", "Principal": {"Federated": provider}, "Action": "sts:AssumeRoleWithWebIdentity"}
        token = tmp_path / "token"
        token.write_text(issuer.token())
        environment.setenv("AWS_CONFIG_FILE", "/dev/null")
        environment.setenv("AWS_ROLE_ARN", put_role(emulator, "pod", trust, allow=ALLOW_ALL))
        environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))

        volumes = await call_twice(emulator)

    assert len({volume["VolumeId"] for volume in volumes}) == 2
    assert {session.provider for session in emulator.world.store.sessions.values()} == {provider}
