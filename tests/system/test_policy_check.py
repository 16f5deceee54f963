"""`hyperpod-ebs policy … --check` as a process: live roles, policies and keys."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import GROUP, Aws
from tests.support.iam_users import allow, create_user, document
from tests.support.volume_commands import Outcome, VolumeCommands

ACCOUNT: Final = "123456789012"
V2: Final = "arn:aws:iam::aws:policy/AmazonEBSCSIDriverPolicyV2"
V1: Final = "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
SCOPED: Final = "arn:aws:iam::aws:policy/AmazonEBSCSIDriverEKSClusterScopedPolicy"
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/driver"

EKS: Final = f"arn:aws:eks:us-west-2:{ACCOUNT}:cluster/eks"
HYPERPOD: Final = f"arn:aws:sagemaker:us-west-2:{ACCOUNT}:cluster/*"
GUIDE_OF_DRIVER: Final = (
    allow("sagemaker:AttachClusterNodeVolume", "sagemaker:DetachClusterNodeVolume", resource=HYPERPOD),
    allow("eks:DescribeCluster", resource=EKS),
)
"""The statements that the guide adds to the driver's role."""


def commands(emulator: Emulator, home: Path, **env: str) -> VolumeCommands:
    return VolumeCommands(env={**emulator.env, **env}, home=home, group="policy")


def kinds(outcome: Outcome) -> list[str]:
    return [finding["kind"] for finding in outcome.json["findings"]]


def messages(outcome: Outcome) -> str:
    return "\n".join(finding["message"] for finding in outcome.json["findings"])


async def put_policy(aws: Aws, name: str, text: str) -> None:
    await aws("iam", "put_role_policy", RoleName="driver", PolicyName=name, PolicyDocument=text)


async def apply(aws: Aws, name: str, text: str, findings: Sequence[Mapping[str, Any]]) -> None:
    """Apply the changes of the findings about an inline policy of the role."""
    raw = json.loads(text)
    for finding in findings:
        for operation in finding["patch"] if finding["policy"] == name else ():
            *parents, last = (int(word) if word.isdigit() else word for word in operation["path"].split("/")[1:])
            place = raw
            for word in parents:
                place = place[word]
            if last == "-":
                place.append(operation["value"])
            elif operation["op"] == "remove":
                del place[last]
            else:
                place[last] = operation["value"]
    await put_policy(aws, name, json.dumps(raw))


async def test_a_printed_role_fits_and_each_change_of_it_is_found(emulator: Emulator, aws: Aws, tmp_path: Path) -> None:
    """IAM API reference, CreateRole, AttachRolePolicy, PutRolePolicy: what `policy driver` prints, put into IAM."""
    await aws.create_cluster(InstanceGroups=[GROUP])
    run = commands(emulator, tmp_path).run
    printed = (await run("driver", "--trust", "irsa")).json
    trust = json.dumps(printed["AssumeRolePolicyDocument"])
    await aws("iam", "create_role", RoleName="driver", AssumeRolePolicyDocument=trust, Path="/ebs/")
    await aws("iam", "attach_role_policy", RoleName="driver", PolicyArn=V2)
    own = json.dumps(printed["Policies"]["hyperpod-ebs-hyperpod"])
    await put_policy(aws, "own", own)

    fitting = await run("driver", "--check", "driver")
    by_arn = await run("driver", "--check", ROLE.replace("role/", "role/ebs/"), "--output", "json")
    by_session = await run("driver", "--check", f"arn:aws:sts::{ACCOUNT}:assumed-role/driver/one")
    wrong = own.replace(":us-west-2:", ":eu-west-1:", 1)
    await put_policy(aws, "own", wrong)
    region = await run("driver", "--check", "driver", "--output", "json", code=3)
    await apply(aws, "own", wrong, region.json["findings"])
    fixed = await run("driver", "--check", "driver")
    await aws("iam", "detach_role_policy", RoleName="driver", PolicyArn=V2)
    lacking = await run("driver", "--check", "driver", code=3)
    await aws("iam", "attach_role_policy", RoleName="driver", PolicyArn=V2)
    other = trust.replace("kube-system:ebs-csi-controller-sa", "default:other")
    await aws("iam", "update_assume_role_policy", RoleName="driver", PolicyDocument=other)
    subject = await run("driver", "--check", "driver", "--output", "json", code=3)
    as_named = await run("driver", "--check", "driver", "--service-account", "default/other")

    assert "driver allows what is needed (driver), and nothing else" in fitting.out
    assert "nothing else" in by_session.out
    assert (by_arn.json["fits"], by_arn.json["eks_cluster"]) == (True, "eks")
    assert kinds(region) == ["mistyped"]
    assert "the region is eu-west-1, not us-west-2" in messages(region)
    assert "nothing else" in fixed.out
    assert "ec2:CreateVolume is not allowed" in lacking.out
    assert kinds(subject) == ["mistyped"]
    assert "to be system:serviceaccount:default:other" in messages(subject)
    assert "nothing else" in as_named.out


async def test_boundaries_denials_and_policies_of_aws_count(emulator: Emulator, aws: Aws, tmp_path: Path) -> None:
    await aws.create_cluster(InstanceGroups=[GROUP])
    run = commands(emulator, tmp_path).run
    trust = json.dumps((await run("driver")).json["AssumeRolePolicyDocument"])
    await aws("iam", "create_role", RoleName="driver", AssumeRolePolicyDocument=trust)
    await put_policy(aws, "own", document(*GUIDE_OF_DRIVER))

    async def outcome(policy: str, code: int) -> Outcome:
        await aws("iam", "attach_role_policy", RoleName="driver", PolicyArn=policy)
        shown = await run("driver", "--check", "driver", "--output", "json", code=code)
        await aws("iam", "detach_role_policy", RoleName="driver", PolicyArn=policy)
        return shown

    scoped, first = await outcome(SCOPED, 4), await outcome(V1, 4)
    deny = {"Effect": "Deny", "Action": ["ec2:DeleteVolume", "ec2:RunInstances"], "Resource": "*"}
    await put_policy(aws, "deny", document(deny))
    denied = await outcome(V2, 3)
    await apply(aws, "deny", document(deny), denied.json["findings"])
    allowed = await outcome(V2, 0)
    limit = (await aws("iam", "create_policy", PolicyName="limit", PolicyDocument=document(allow("ec2:*"))))["Policy"]
    await aws("iam", "put_role_permissions_boundary", RoleName="driver", PermissionsBoundary=limit["Arn"])
    outside = await outcome(V2, 3)
    one = await run("driver", "--check", limit["Arn"], "--output", "json", code=3)

    assert {*kinds(scoped), *kinds(first)} == {"missing for some uses"}
    assert "an in-tree volume" in messages(scoped)
    assert "set a tag with a VolumeAttributesClass" in messages(first)
    assert "statement 1 denies it" in messages(denied)
    assert allowed.json["fits"]
    assert {finding["policy"] for finding in outside.json["findings"]} == {limit["Arn"]}
    assert "the permissions boundary does not allow it" in messages(outside)
    assert {*kinds(one)} == {"missing", "too wide"}


async def test_the_policy_of_a_key_is_compared_with_those_who_use_it(
    emulator: Emulator, aws: Aws, tmp_path: Path
) -> None:
    """KMS Developer Guide, "Key policies in AWS KMS": the account's statement leaves it to the policies of roles."""
    run = commands(emulator, tmp_path).run
    await aws(
        "iam",
        "create_role",
        RoleName="driver",
        AssumeRolePolicyDocument=document(
            {
                "Effect": "Allow",
                "Principal": {"Service": "pods.eks.amazonaws.com"},
                "Action": ["sts:AssumeRole", "sts:TagSession"],
            }
        ),
    )
    await create_user(emulator, aws, "ann")
    users = ("--driver", "driver", "--caller", f"arn:aws:iam::{ACCOUNT}:user/ann")
    printed = (await run("key", *users)).json
    key = (await aws("kms", "create_key", Policy=json.dumps(printed)))["KeyMetadata"]
    await aws("kms", "create_alias", AliasName="alias/volumes", TargetKeyId=key["KeyId"])

    fitting = [await run("key", "--check", name, *users) for name in ("alias/volumes", key["Arn"], key["KeyId"])]
    root = {**printed, "Statement": printed["Statement"][:1]}
    await aws("kms", "put_key_policy", KeyId=key["KeyId"], Policy=json.dumps(root))
    delegated = await run("key", "--check", "alias/volumes", *users, "--output", "json", code=3)
    uses = [
        "kms:DescribeKey",
        "kms:CreateGrant",
        "kms:Decrypt",
        "kms:GenerateDataKeyWithoutPlaintext",
        "kms:ReEncrypt*",
    ]
    await put_policy(aws, "keys", document(allow(*uses, resource=key["Arn"])))
    by_role = await run("key", "--check", "alias/volumes", "--driver", "driver")
    typo = json.dumps(printed).replace("kms:EncryptionContextKeys", "kms:EncryptionContextKey")
    from_file = await run("key", "--check", "-", *users, "--output", "json", code=3, stdin=json.dumps({"Policy": typo}))
    case = await run("key", "--check", "-", *users, stdin=typo.replace("ContextKey", "contextKEYS"))
    nothing = await run("key", "--check", "alias/other", *users, code=1)

    assert all("nothing else" in each.out for each in fitting)
    assert "leaves it to the policies of the account" in messages(delegated)
    assert "nothing else" in by_role.out
    assert "mistyped" in kinds(from_file)
    assert "the key is kms:EncryptionContextKeys" in messages(from_file)
    assert "nothing else" in case.out
    assert "has no such key" in nothing.err


async def test_a_caller_that_may_not_read_a_role_learns_which_permission_is_missing(
    emulator: Emulator, aws: Aws, tmp_path: Path
) -> None:
    await aws.create_cluster(InstanceGroups=[GROUP])
    trust = document(
        {"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    )
    await aws("iam", "create_role", RoleName="driver", AssumeRolePolicyDocument=trust)
    await aws("iam", "attach_role_policy", RoleName="driver", PolicyArn=V2)
    await put_policy(aws, "own", document(*GUIDE_OF_DRIVER))
    find = ("sagemaker:ListClusters", "sagemaker:DescribeCluster")
    needed = (
        "iam:GetRole",
        "iam:ListAttachedRolePolicies",
        "iam:GetPolicy",
        "iam:GetPolicyVersion",
        "iam:ListRolePolicies",
        "iam:GetRolePolicy",
    )

    async def check_with(count: int, code: int) -> Outcome:
        """Check the role as a user with the first permissions."""
        name = f"user-{count}"
        await create_user(emulator, aws, name, allow(*find, *needed[:count]))
        key = (await aws("iam", "create_access_key", UserName=name))["AccessKey"]
        env = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        return await commands(emulator, tmp_path, **env).run("driver", "--check", "driver", "--output=json", code=code)

    async with asyncio.TaskGroup() as group:
        refused = [group.create_task(check_with(count, 1)) for count in range(len(needed))]
        found = group.create_task(check_with(len(needed), 3))
        missing = group.create_task(commands(emulator, tmp_path).run("driver", "--check", "nothing", code=1))

    assert all(f"{action} on " in task.result().err for action, task in zip(needed, refused, strict=True))
    assert "it does not allow sts:TagSession" in messages(found.result())
    assert "has no such role" in missing.result().err


async def test_without_aws_the_values_of_a_file_are_its_own(tmp_path: Path) -> None:
    """A machine without credentials and without a network; stdin takes what the AWS CLI prints."""
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_EC2_METADATA_DISABLED": "true"}
    run = VolumeCommands(env=nowhere, home=tmp_path, group="policy").run
    as_cli = json.dumps({"PolicyVersion": {"Document": quote(document(*GUIDE_OF_DRIVER))}})

    fitting = await run("driver", "--check", "-", stdin=as_cli)
    unknown = await run("driver", "--check", "-", stdin=document(allow("ec2:*")), code=2)

    assert "nothing else" in fitting.out
    assert f"account {ACCOUNT} and region us-west-2 are those of the file: no AWS credentials" in fitting.err
    assert "give --account and --region" in unknown.err
