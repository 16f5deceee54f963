"""Kills of the emulator while clients call IAM, STS, KMS and EKS: no acknowledged change is lost."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.emulator_clients import Aws, clients, error_of
from tests.support.emulator_process import EmulatorProcess, prepare_emulator
from tests.support.iam_users import allow, document
from tests.support.pod_tokens import cluster_key_id, create_role, pod_claims, sign_with_file
from tests.support.roles import TRUST_ACCOUNT

ABSENT: Final = "absent"

Look = Callable[[Aws], Awaitable[str]]
"""Reads the state of a resource."""


@dataclass
class Journal:
    """What clients were answered, and what they had asked for when the emulator was killed."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    """The last state that was acknowledged, by resource."""

    requested: dict[str, str] = field(default_factory=dict)
    """The state that a call without an answer leads to."""

    looks: dict[str, Look] = field(default_factory=dict)
    changes: int = 0

    async def change(self, resource: str, state: str, call: Awaitable[Any]) -> Any:
        """Make a call that leads to a state of a resource, and return its answer."""
        self.requested[resource] = state
        answer = await call
        self.acknowledged[resource] = self.requested.pop(resource)
        self.changes += 1
        return answer

    async def differences(self, aws: Aws) -> Mapping[str, tuple[str, set[str]]]:
        """The resources in another state than they may be in, with both."""
        found = {}
        for resource, look in self.looks.items():
            last = self.acknowledged.get(resource, ABSENT)
            may_be = {last, self.requested.get(resource, last)}
            if (state := await look(aws)) not in may_be:
                found[resource] = (state, may_be)
        return found


async def state_or_code(call: Awaitable[str]) -> str:
    """The state that a call reads; the code of its error if it has one."""
    try:
        return await call
    except ClientError as error:
        code = error_of(error)[0]
        return ABSENT if code.startswith(("NoSuchEntity", "NotFound", "ResourceNotFound")) else code


async def works(emulator: EmulatorProcess, credentials: Mapping[str, str], _: Aws) -> str:
    """`works`, or the code of the error that the credentials get."""
    names = {"AccessKeyId": "AWS_ACCESS_KEY_ID", "SecretAccessKey": "AWS_SECRET_ACCESS_KEY"}
    access = {names[name]: value for name, value in credentials.items() if name in names}
    token = {"AWS_SESSION_TOKEN": credentials.get("SessionToken", "")} if "SessionToken" in credentials else {}
    sts = await asyncio.to_thread(clients, {**emulator.env, **access, **token}, ("sts",))

    async def call() -> str:
        await sts("sts", "get_caller_identity")
        return "works"

    return await state_or_code(call())


@dataclass
class Account:
    """The emulator's account, and the lives that clients lead in it until the kill."""

    emulator: EmulatorProcess
    aws: Aws
    journal: Journal
    role: str
    """ARN of a role that pods and the account may assume."""

    issuer: str
    """URL of the token issuer of the EKS cluster `eks`."""

    async def live_as_users(self, number: int) -> None:
        """Create a user with a key, rotate the key, and delete the user's policy."""
        aws, change, name = self.aws, self.journal.change, f"user-{number}"
        await aws("iam", "create_user", UserName=name)
        self.journal.looks[f"policy of {name}"] = partial(self._inline_policy, name)
        policy = {"UserName": name, "PolicyName": "own"}
        body = document(allow("ec2:*"))
        await change(f"policy of {name}", "put", aws("iam", "put_user_policy", **policy, PolicyDocument=body))
        keys = [(await aws("iam", "create_access_key", UserName=name))["AccessKey"] for _ in range(2)]
        old, new = [key["AccessKeyId"] for key in keys]
        for key in keys:
            self.journal.acknowledged[key["AccessKeyId"]] = "works"
            self.journal.looks[key["AccessKeyId"]] = partial(works, self.emulator, key)
        dead = "InvalidClientTokenId"
        inactive = {"UserName": name, "AccessKeyId": new, "Status": "Inactive"}
        await change(new, dead, aws("iam", "update_access_key", **inactive))
        await change(old, dead, aws("iam", "delete_access_key", UserName=name, AccessKeyId=old))
        await change(f"policy of {name}", ABSENT, aws("iam", "delete_user_policy", **policy))

    async def _inline_policy(self, user: str, aws: Aws) -> str:
        async def call() -> str:
            await aws("iam", "get_user_policy", UserName=user, PolicyName="own")
            return "put"

        return await state_or_code(call())

    async def live_as_policies(self, number: int) -> None:
        """Create a managed policy, give it a second version, and delete it."""
        aws, change, name = self.aws, self.journal.change, f"policy-{number}"
        arn = f"arn:aws:iam::123456789012:policy/{name}"
        body = document(allow("ec2:*"))
        self.journal.looks[arn] = partial(self._version, arn)
        await change(arn, "v1", aws("iam", "create_policy", PolicyName=name, PolicyDocument=body))
        version = {"PolicyArn": arn, "PolicyDocument": body, "SetAsDefault": True}
        await change(arn, "v2", aws("iam", "create_policy_version", **version))
        await aws("iam", "delete_policy_version", PolicyArn=arn, VersionId="v1")
        await change(arn, ABSENT, aws("iam", "delete_policy", PolicyArn=arn))

    async def _version(self, arn: str, aws: Aws) -> str:
        async def call() -> str:
            return str((await aws("iam", "get_policy", PolicyArn=arn))["Policy"]["DefaultVersionId"])

        return await state_or_code(call())

    async def live_as_sessions(self, number: int) -> None:
        """Get a session with the role."""
        session = {"RoleArn": self.role, "RoleSessionName": f"session-{number}"}
        credentials = (await self.aws("sts", "assume_role", **session))["Credentials"]
        self._keep_session(credentials)

    def _keep_session(self, credentials: Mapping[str, Any]) -> None:
        key = credentials["AccessKeyId"]
        self.journal.acknowledged[key] = "works"
        self.journal.changes += 1
        self.journal.looks[key] = partial(works, self.emulator, credentials)

    async def live_as_keys(self, number: int) -> None:
        """Encrypt with a key, let a grant come and go, and have the key deleted."""
        aws, change = self.aws, self.journal.change
        key = (await aws("kms", "create_key", Description=f"key-{number}"))["KeyMetadata"]["KeyId"]
        sealed = (await aws("kms", "encrypt", KeyId=key, Plaintext=b"secret"))["CiphertextBlob"]
        self.journal.acknowledged[key] = "Enabled opens"
        self.journal.looks[key] = partial(self._key_state, key, sealed)
        grant = {"KeyId": key, "GranteePrincipal": self.role, "Operations": ["Decrypt"]}
        granted = await aws("kms", "create_grant", **grant)
        self.journal.acknowledged[granted["GrantId"]] = "granted"
        self.journal.looks[granted["GrantId"]] = partial(self._grant_state, key, granted["GrantId"])
        if number % 2:
            await change(granted["GrantId"], ABSENT, aws("kms", "revoke_grant", KeyId=key, GrantId=granted["GrantId"]))
        await change(key, "Disabled DisabledException", aws("kms", "disable_key", KeyId=key))
        deletion = aws("kms", "schedule_key_deletion", KeyId=key, PendingWindowInDays=7)
        await change(key, "PendingDeletion KMSInvalidStateException", deletion)

    async def _key_state(self, key: str, sealed: bytes, aws: Aws) -> str:
        async def decrypt() -> str:
            answer = await aws("kms", "decrypt", CiphertextBlob=sealed)
            return "opens" if answer["Plaintext"] == b"secret" else "opens wrongly"

        metadata = (await aws("kms", "describe_key", KeyId=key))["KeyMetadata"]
        return f"{metadata['KeyState']} {await state_or_code(decrypt())}"

    async def _grant_state(self, key: str, grant: str, aws: Aws) -> str:
        grants = (await aws("kms", "list_grants", KeyId=key))["Grants"]
        return "granted" if grant in [each["GrantId"] for each in grants] else ABSENT

    async def live_as_pods(self, number: int) -> None:
        """Associate a service account with the role, get a pod's credentials, and end the association."""
        aws, change, account = self.aws, self.journal.change, f"pod-{number}"
        self.journal.looks[account] = partial(self._association_state, account)
        pods = {"clusterName": "eks", "namespace": "kube-system", "serviceAccount": account, "roleArn": self.role}
        created = await change(account, "associated", aws("eks", "create_pod_identity_association", **pods))
        state = self.emulator.state
        key_id = cluster_key_id(await asyncio.to_thread((state / "eks" / "eks" / "sa.pub").read_bytes))
        claims = pod_claims(self.issuer, service_account=account)
        token = sign_with_file(state, "eks", claims, key_id=key_id)
        answer = await aws("eks-auth", "assume_role_for_pod_identity", clusterName="eks", token=token)
        self._keep_session({name[0].upper() + name[1:]: value for name, value in answer["credentials"].items()})
        one = {"clusterName": "eks", "associationId": created["association"]["associationId"]}
        await change(account, ABSENT, aws("eks", "delete_pod_identity_association", **one))

    async def _association_state(self, account: str, aws: Aws) -> str:
        found = await aws("eks", "list_pod_identity_associations", clusterName="eks", serviceAccount=account)
        return "associated" if found["associations"] else ABSENT


async def start(emulator: EmulatorProcess) -> Account:
    """Start the emulator, and create what all lives need."""
    aws = await emulator.start()
    await aws.create_eks_cluster()
    pods = {"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"}, "Action": "sts:TagSession"}
    trusts = [TRUST_ACCOUNT, {**pods, "Action": ["sts:AssumeRole", "sts:TagSession"]}]
    role = await create_role(aws, "pods", trust=trusts[1])
    await aws("iam", "update_assume_role_policy", RoleName="pods", PolicyDocument=document(*trusts))
    issuer = (await aws("eks", "describe_cluster", name="eks"))["cluster"]["identity"]["oidc"]["issuer"]
    return Account(emulator, aws, Journal(), role, issuer)


async def repeat(live: Callable[[int], Awaitable[None]]) -> None:
    """Lead lives until the emulator is killed."""
    with suppress(BotoCoreError):
        number = 0
        while True:
            await live(number)
            number += 1


@pytest.mark.requirement("emulator.durable")
@pytest.mark.parametrize("changes", [8, 30, 75])
async def test_a_kill_under_load_loses_nothing_of_iam_sts_kms_and_eks(short_path: Path, changes: int) -> None:
    """Keys that were deleted or deactivated stay dead, sessions live on, ciphertexts can be opened."""
    async with prepare_emulator(short_path / "state") as emulator:
        account = await start(emulator)
        lives = (
            account.live_as_users,
            account.live_as_policies,
            account.live_as_sessions,
            account.live_as_keys,
            account.live_as_pods,
        )
        async with asyncio.TaskGroup() as group:
            for live in lives:
                group.create_task(repeat(live))
            while account.journal.changes < changes:  # noqa: ASYNC110 - five tasks count together
                await asyncio.sleep(0.002)
            await emulator.end(signal.SIGKILL)

        aws = await emulator.start()

        assert await account.journal.differences(aws) == {}
        assert await emulator.end(signal.SIGTERM) == 0
        assert await emulator.read_stderr() == ""
