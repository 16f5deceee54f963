"""`hyperpod-ebs policy` as a process: the values that it finds, its forms, and what it refuses."""

import asyncio
import json
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.aws_cli import run_script
from tests.support.emulator_clients import GROUP, Aws
from tests.support.iam_users import create_user
from tests.support.roles import TRUST_ACCOUNT, policy
from tests.support.volume_commands import VolumeCommands

T = TypeVar("T")

ACCOUNT: Final = "123456789012"
NOWHERE: Final = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_EC2_METADATA_DISABLED": "true"}
"""The environment of a machine without credentials and without a network."""


def commands(emulator: Emulator, home: Path) -> VolumeCommands:
    """The commands as the administrator of the emulated account."""
    return VolumeCommands(env=emulator.env, home=home, group="policy")


def offline(home: Path) -> VolumeCommands:
    """The commands without credentials and network."""
    return VolumeCommands(env=NOWHERE, home=home, group="policy")


def allowed_resources(shown: Mapping[str, Any]) -> set[str]:
    """The resources in a document."""
    return {statement["Resource"] for statement in shown["Statement"]}


async def run_all(*runs: Coroutine[Any, Any, T]) -> list[T]:
    """Run several at the same time; their results in order."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in runs]
    return [task.result() for task in tasks]


async def put_role(aws: Aws, name: str) -> str:
    """Create a role that the account may assume; its ARN."""
    created = await aws("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=policy(TRUST_ACCOUNT))
    return str(created["Role"]["Arn"])


async def test_the_values_are_those_of_the_only_cluster(emulator: Emulator, aws: Aws, tmp_path: Path) -> None:
    """SageMaker API reference, DescribeCluster: ClusterArn, and Orchestrator with the EKS cluster's ARN."""
    cluster, _ = await aws.create_cluster(InstanceGroups=[GROUP])
    given = ("--cluster", cluster, "--eks-cluster", "eks", "--account", ACCOUNT)
    found, named = commands(emulator, tmp_path), offline(tmp_path)

    by_lookup, by_name, by_flags, terraform, same_terraform, irsa, account = await run_all(
        found.run("attach"),
        found.run("attach", "--cluster", "hp"),
        named.run("attach", *given),
        found.run("driver", "--inline", "--output", "terraform"),
        named.run("driver", "--inline", "--output", "terraform", *given),
        found.run("driver", "--trust", "irsa"),
        found.run("attach", "--scope", "account"),
    )

    assert by_lookup.out == by_name.out == by_flags.out
    assert cluster in by_flags.out
    assert terraform.out == same_terraform.out
    issuer = (await aws("eks", "describe_cluster", name="eks"))["cluster"]["identity"]["oidc"]["issuer"]
    (trust,) = irsa.json["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"]["Federated"] == f"arn:aws:iam::{ACCOUNT}:oidc-provider/{issuer.partition('://')[2]}"
    assert f"arn:aws:sagemaker:us-west-2:{ACCOUNT}:cluster/*" in allowed_resources(account.json)


async def test_what_cannot_be_found_is_named(emulator: Emulator, aws: Aws, tmp_path: Path) -> None:
    """Without credentials, without permissions, without a cluster, with two, and with one that Slurm orchestrates."""
    run = commands(emulator, tmp_path).run
    unknown = await offline(tmp_path).run("attach", "--region", "us-west-2", code=1)
    none = await run("attach", code=1)
    await create_user(emulator, aws, "new")
    key = (await aws("iam", "create_access_key", UserName="new"))["AccessKey"]
    env = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    denied = await VolumeCommands(env={**emulator.env, **env}, home=tmp_path, group="policy").run("attach", code=1)
    await aws.create_cluster(InstanceGroups=[GROUP], Orchestrator=None, ClusterName="slurm")
    slurm = await run("attach", code=1)
    await aws.create_cluster(InstanceGroups=[GROUP])
    several = await run("attach", code=2)
    eks = await run("driver", "--trust", "irsa", "--scope", "account", code=2)

    assert "no AWS credentials" in unknown.err
    assert "0 HyperPod clusters are in us-west-2" in none.err
    assert "sagemaker:ListClusters" in denied.err
    assert "slurm is not orchestrated by EKS" in slurm.err
    assert "give --cluster: " in several.err
    assert "give --issuer" in eks.err


async def test_the_commands_of_the_aws_cli_create_what_is_shown(emulator: Emulator, aws: Aws, tmp_path: Path) -> None:
    """The real AWS CLI, in a shell."""
    await aws.create_cluster(InstanceGroups=[GROUP])
    await put_role(aws, "researcher")
    run = commands(emulator, tmp_path).run
    roles = (
        ("driver", "--role", "pods"),
        ("driver", "--role", "irsa", "--inline", "--trust", "irsa"),
        ("attach", "--role", "researcher"),
        ("detach",),
    )
    pods, irsa, attach, detach = await run_all(*(run(*words) for words in roles))
    scripts = await run_all(*(run(*words, "--output", "cli") for words in roles))

    await run_all(*(run_script(emulator.env, script.out, home=tmp_path) for script in scripts))
    assert await role_json(aws, "pods") == pods.json
    assert await role_json(aws, "irsa") == irsa.json
    assert (await role_json(aws, "researcher"))["Policies"] == {"hyperpod-ebs-attach": attach.json}
    (created,) = (await aws("iam", "list_policies", Scope="Local"))["Policies"]
    version = {"PolicyArn": created["Arn"], "VersionId": created["DefaultVersionId"]}
    document = (await aws("iam", "get_policy_version", **version))["PolicyVersion"]["Document"]
    assert (created["PolicyName"], document) == ("hyperpod-ebs-detach", detach.json)
    assert "list-open-id" not in scripts[0].out
    (provider,) = (await aws("iam", "list_open_id_connect_providers"))["OpenIDConnectProviderList"]
    assert provider["Arn"] in irsa.out


async def test_statements_are_added_to_the_policy_of_a_key(emulator: Emulator, aws: Aws, tmp_path: Path) -> None:
    """KMS API reference, PutKeyPolicy: the call replaces the key's policy."""
    for name in ("driver", "researcher"):
        await put_role(aws, name)
    key = (await aws("kms", "create_key"))["KeyMetadata"]["Arn"]
    present = json.loads((await aws("kms", "get_key_policy", KeyId=key))["Policy"])
    own = {"Sid": "Own", "Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "kms:Encrypt", "Resource": "*"}
    (tmp_path / "policy.json").write_text(json.dumps({**present, "Statement": [*present["Statement"], own]}))
    words = ("key", "--key", key, "--driver", "driver", "--output", "cli")
    run = commands(emulator, tmp_path).run

    script = await run(*words, "--add-to", str(tmp_path / "policy.json"))
    await run_script(emulator.env, script.out, home=tmp_path)
    once = json.loads((await aws("kms", "get_key_policy", KeyId=key))["Policy"])
    again = await run("key", "--key", key, "--driver", "driver", "--add-to", "/dev/stdin", stdin=json.dumps(once))
    more = await run("key", "--key", key, "--caller", "researcher", "--add-to", "/dev/stdin", stdin=json.dumps(once))
    alone = await run(*words)

    sids = [statement["Sid"] for statement in once["Statement"]]
    expected = ["Own", "DescribeKey", "AttachVolumes", "CreateVolumesAndRestoreSnapshots"]
    assert sids == [present["Statement"][0]["Sid"], *expected]
    assert again.json == once
    assert [len(statement["Principal"]["AWS"]) for statement in more.json["Statement"][2:4]] == [2, 2]
    assert more.json["Statement"][4:] == once["Statement"][4:]
    assert "replaces the key's present policy" in alone.err
    assert "Own" not in alone.out


async def role_json(aws: Aws, name: str) -> Any:
    """A role as the command prints it."""
    role = (await aws("iam", "get_role", RoleName=name))["Role"]
    attached = (await aws("iam", "list_attached_role_policies", RoleName=name))["AttachedPolicies"]
    inline = (await aws("iam", "list_role_policies", RoleName=name))["PolicyNames"]
    documents = {
        each: (await aws("iam", "get_role_policy", RoleName=name, PolicyName=each))["PolicyDocument"] for each in inline
    }
    return {
        "RoleName": name,
        "AssumeRolePolicyDocument": role["AssumeRolePolicyDocument"],
        "ManagedPolicyArns": [each["PolicyArn"] for each in attached],
        "Policies": documents,
    }
