"""The IAM role of the driver's controller, for IRSA, as docs/guides/install.md creates it."""

import json
from collections.abc import Mapping
from typing import Any, Final

from hyperpod_ebs.demo.emulator_client import EmulatorClient
from localcluster.cloud import NAME, EksCluster

ROLE: Final = "ebs-csi-controller"
SERVICE_ACCOUNT: Final = "system:serviceaccount:kube-system:ebs-csi-controller-sa"
AUDIENCE: Final = "sts.amazonaws.com"
POLICY: Final = "AmazonEBSCSIDriverPolicyV2"

Statement = Mapping[str, Any]  # JSON


async def create_driver_role(client: EmulatorClient, eks: EksCluster) -> str:
    """Create the OIDC provider of the EKS cluster and the role; the role's ARN."""
    _, partition, _, region, account, _ = eks.arn.split(":", 5)
    async with client.client("iam") as iam:
        provider = await iam.create_open_id_connect_provider(Url=eks.issuer, ClientIDList=[AUDIENCE])
        trust = _trust(provider["OpenIDConnectProviderArn"], eks.issuer.partition("://")[2])
        created = await iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=_document(trust))
        await iam.attach_role_policy(RoleName=ROLE, PolicyArn=f"arn:{partition}:iam::aws:policy/{POLICY}")
        hyperpod = _document(
            {
                "Effect": "Allow",
                "Action": ["sagemaker:AttachClusterNodeVolume", "sagemaker:DetachClusterNodeVolume"],
                "Resource": f"arn:{partition}:sagemaker:{region}:{account}:cluster/*",
            },
            {
                "Effect": "Allow",
                "Action": "eks:DescribeCluster",
                "Resource": f"arn:{partition}:eks:{region}:{account}:cluster/{NAME}",
            },
        )
        await iam.put_role_policy(RoleName=ROLE, PolicyName="hyperpod", PolicyDocument=hyperpod)
    arn: str = created["Role"]["Arn"]
    return arn


def _trust(provider: str, issuer: str) -> Statement:
    """The statement that lets the driver's service account assume the role; `issuer` is without its scheme."""
    return {
        "Effect": "Allow",
        "Principal": {"Federated": provider},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{issuer}:aud": AUDIENCE, f"{issuer}:sub": SERVICE_ACCOUNT}},
    }


def _document(*statements: Statement) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
