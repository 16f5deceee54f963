"""An account with one or two resources of each kind, and their names and ids for requests to draw from."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hyperpod_ebs.emulator.emulator import Emulator
from tests.support.emulator_clients import ROLE, ZONE, Aws
from tests.support.every_sts_operation import denied_message
from tests.support.iam_users import allow, document
from tests.support.pod_tokens import POD_TRUST, create_role, pod_token
from tests.support.roles import put_provider, put_role
from tests.support.token_issuer import AUDIENCE, TokenIssuer

ACCOUNT: Final = "123456789012"
AWS_POLICY: Final = "arn:aws:iam::aws:policy/AmazonEBSCSIDriverPolicyV2"
DOCUMENTS: Final = (
    document(allow("ec2:DescribeVolumes")),
    document(allow("*")),
    document({"Effect": "Deny", "NotAction": "ec2:*", "Resource": "*", "Condition": {"Bool": {"a:b": [True, "x"]}}}),
    document({"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}),
    document({"Effect": "Allow", "Principal": "*", "Action": "*" * 500 + "a", "Resource": "*a" * 400}),
    document(*[{"Sid": f"S{number}", **allow("ec2:*")} for number in range(300)]),
    document(allow("ec2:*", Condition={"StringLike": {"aws:username": ["${aws:username}", "${", "${a:${b}}"]}})),
    document(allow("ec2:*", Condition={"IpAddress": {"aws:SourceIp": ["1.2.3.4/99", "::/0"]}})),
    document(allow("ec2:*", Condition={"DateLessThan": {"aws:CurrentTime": "99999"}, "Null": {"a:b": "x"}})),
    json.dumps(
        {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*" + "x" * 7000}}
    ),
    "{}",
    '{"Statement":[]}',
    "[" * 1000,
    '{"Statement":' * 2000,
    '{"Version":"2012-10-17","Statement":[' + "{}," * 3000 + "{}]}",
    '{"Version":' + "9" * 5000 + "}",
    "null",
)
"""Policies that are right, wrong, too long and too deep."""


async def populate(emulator: Emulator, aws: Aws, issuer: TokenIssuer) -> Mapping[str, Sequence[Any]]:
    """Create the resources; return values for members by the end of the members' names, the more special ones last."""
    store = emulator.world.store
    volumes = [await aws.create_volume(), await aws.create_volume(Size=2)]
    instance = await aws.run_instance()
    snapshot = (await aws.ec2("create_snapshot", VolumeId=volumes[0]))["SnapshotId"]
    cluster, (node,) = await aws.create_cluster()
    await aws.attach_to_node(cluster, node, volumes[1])
    pod_role = await create_role(aws, "pods", trust=POD_TRUST)
    pods = {"namespace": "kube-system", "serviceAccount": "ebs", "roleArn": pod_role}
    association = await aws("eks", "create_pod_identity_association", clusterName="eks", **pods)
    await aws("eks", "create_addon", clusterName="eks", addonName="eks-pod-identity-agent")
    provider = put_provider(emulator, issuer.url, AUDIENCE)
    web = {"Effect": "Allow", "Principal": {"Federated": provider}, "Action": "sts:AssumeRoleWithWebIdentity"}
    roles = [pod_role, put_role(emulator, "work"), put_role(emulator, "web", web), ROLE]
    await aws("iam", "create_user", UserName="ann")
    await aws("iam", "create_group", GroupName="people")
    await aws("iam", "create_instance_profile", InstanceProfileName="profile")
    key_id = (await aws("iam", "create_access_key", UserName="ann"))["AccessKey"]["AccessKeyId"]
    policy = (await aws("iam", "create_policy", PolicyName="own", PolicyDocument=DOCUMENTS[0]))["Policy"]["Arn"]
    keys = [(await aws("kms", "create_key"))["KeyMetadata"]["KeyId"] for _ in range(2)]
    await aws("kms", "create_alias", AliasName="alias/storage", TargetKeyId=keys[0])
    grant = await aws("kms", "create_grant", KeyId=keys[0], GranteePrincipal=pod_role, Operations=["Decrypt"])
    blob = (await aws("kms", "encrypt", KeyId=keys[0], Plaintext=b"hello"))["CiphertextBlob"]
    (access_key,) = [key.id for key in store.access_keys.values() if key.user == "ann"]
    assert key_id == access_key

    eks = f"arn:aws:eks:us-west-2:{ACCOUNT}:cluster/eks"
    key_arn = f"arn:aws:kms:us-west-2:{ACCOUNT}:key/{keys[0]}"
    users = [f"arn:aws:iam::{ACCOUNT}:{name}" for name in ("user/ann", "root", "group/people")]
    token = issuer.token(exp=2**33)
    head, claims, signature = token.split(".")
    tokens = [token, f"{head}.{claims}.", f"eyJhbGciOiJub25lIn0.{claims}.", f"{head}.{head}.{signature}", token * 4]
    return {
        "Name": ["ann", "people", "pods", "work", "profile", "own", "a", "b", "A", "a b"],
        "ClusterName": ["hp", "eks", cluster, "a"],
        "InstanceGroupName": ["workers", "a"],
        "InstanceGroupNames": ["workers", "a"],
        "name": ["eks", "a", "ann", "pods", "work", "own"],
        "Arn": [*roles, policy, eks, cluster, provider, AWS_POLICY, *users, key_arn],
        "RoleArn": roles,
        "ExecutionRole": roles,
        "PolicyArn": [policy, AWS_POLICY, "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"],
        "PermissionsBoundary": [policy, AWS_POLICY],
        "ClusterArn": [cluster, eks],
        "ResourceArn": [cluster, eks, association["association"]["associationArn"]],
        "AssociationId": [association["association"]["associationId"]],
        "AddonName": ["eks-pod-identity-agent", "aws-ebs-csi-driver", "coredns"],
        "Document": DOCUMENTS,
        "Policy": DOCUMENTS,
        "PolicyInputList": DOCUMENTS,
        "PolicyName": ["own", "default", "a"],
        "VersionId": ["v1", "v2", "v", "v99999999999"],
        "AccessKeyId": [access_key, "AKIA" + "X" * 16],
        "VolumeId": [*volumes, "vol-0123456789abcdef0"],
        "VolumeIds": [*volumes, "vol-0123456789abcdef0"],
        "SnapshotId": [snapshot, "snap-0123456789abcdef0"],
        "SnapshotIds": [snapshot, "snap-0123456789abcdef0"],
        "InstanceId": [instance, node, "i-0123456789abcdef0"],
        "InstanceIds": [instance, node, "i-0123456789abcdef0"],
        "NodeId": [node, instance],
        "NodeIds": [node, instance],
        "Resources": [*volumes, snapshot, instance],
        "ImageId": ["ami-0123456789abcdef0", "ami-1"],
        "Device": ["/dev/xvdba", "/dev/sdf", "xvdh"],
        "AvailabilityZone": [ZONE, "us-west-2b", "us-west-2z"],
        "InstanceType": ["m5.large", "ml.m5.large", "g5.48xlarge", "x"],
        "VolumeType": ["gp3", "io2", "st1"],
        "Region": ["us-west-2", "us-east-1"],
        "KeyId": [*keys, key_arn, "alias/storage", "alias/aws/ebs"],
        "AliasName": ["alias/storage", "alias/a", "alias/aws/ebs"],
        "GrantId": [grant["GrantId"], "a" * 64],
        "GrantToken": [grant["GrantToken"], "x"],
        "GrantTokens": [grant["GrantToken"], "x"],
        "Principal": [*roles, *users],
        "PrincipalArn": [*roles, *users],
        "Blob": [blob, blob[:-1], b"\x00" + blob],
        "EncodedMessage": [denied_message(), "abc"],
        "WebIdentityToken": tokens,
        "token": [pod_token(emulator, "eks"), *tokens],
        "Token": ["YQ==", "?", "MQ==", "eyJhIjoxfQ=="],
        "ClientToken": ["t", "u"],
        "Marker": ["YQ==", "?", "MQ=="],
        "ActionNames": ["ec2:DeleteVolume", "ec2:*", "x", "a:b:c", "iam:PassRole"],
        "ContextKeyName": ["aws:username", "a", "ec2:ResourceTag/a"],
        "AWSServiceName": ["eks.amazonaws.com", "hyperpod.sagemaker.amazonaws.com", "x"],
        "Url": ["https://issuer.example.com", "https://[", "http://127.0.0.1", "x"],
        "Path": ["/", "/a/", "//", "a"],
    }
