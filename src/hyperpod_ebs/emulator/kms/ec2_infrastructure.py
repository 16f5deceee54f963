"""The principal with which EC2 decrypts the data keys of an instance's volumes."""

from hyperpod_ebs.emulator.identity.identities import Identity
from hyperpod_ebs.emulator.records import Instance
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.iam.decision import Policies
from hyperpod_ebs.iam.request import Principal, PrincipalType

_ROLE = "aws:ec2-infrastructure"


def infrastructure_identity(region: Region, instance: Instance) -> Identity:
    """EC2's own principal for an instance; it has only the permissions that grants and key policies give it."""
    arn = f"arn:{region.partition}:sts::{region.account}:assumed-role/{_ROLE}/{instance.id}"
    principal = Principal(type=PrincipalType.ROLE_SESSION, arn=arn, account=region.account)
    context = {
        "aws:PrincipalArn": arn,
        "aws:PrincipalAccount": region.account,
        "aws:PrincipalType": "AssumedRole",
        "aws:userid": f"{region.account}:{_ROLE}:{instance.id}",
    }
    return Identity(principal=principal, user_id=context["aws:userid"], policies=Policies(), context=context)
