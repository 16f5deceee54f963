"""AWS services as principals, which assume roles by themselves."""

from hyperpod_ebs.emulator.identity.identities import Identity
from hyperpod_ebs.iam.decision import Policies
from hyperpod_ebs.iam.request import Principal, PrincipalType


def service_identity(service: str) -> Identity:
    """The identity of a service; `service` is its principal in trust policies: ec2.amazonaws.com."""
    return Identity(
        principal=Principal(type=PrincipalType.SERVICE, arn=service),
        user_id=service,
        policies=Policies(),
        context={"aws:PrincipalIsAWSService": "true", "aws:PrincipalServiceName": service},
    )
