"""AWS's refusals: each code gives the same error from EC2 and from SageMaker."""

import re

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError

from hyperpod_ebs.driver.aws.calls import translate_sdk_errors
from hyperpod_ebs.driver.aws.errors import BY_CODE, SERVER_ERRORS
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.volumes.cloud import TokenSpent


def ec2_refusal(code: str, message: str = "because", operation: str = "AttachVolume") -> ClientError:
    """A refusal as EC2 returns it."""
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"RequestId": "req-1"}},  # type: ignore[typeddict-item] # only the necessary members
        operation,
    )


def sagemaker_refusal(code: str, message: str = "because") -> ClientError:
    """The same refusal as SageMaker passes it on."""
    text = f"The volume could not be attached. HyperPod - Ec2ErrCode: {code} : Ec2ErrMsg: {message}"
    return ec2_refusal("ValidationException", text, "AttachClusterNodeVolume")


def error_for(raised: Exception, *, creates: bool = False) -> Exception:
    """The driver's error for an exception of the SDK."""
    with pytest.raises(Exception) as error, translate_sdk_errors("do it", creates=creates):  # noqa: PT011 - any error
        raise raised
    return error.value


@pytest.mark.requirement("errors.same-through-either-api")
@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_the_same_ec2_code_gives_the_same_error_through_either_api(code: str) -> None:
    """Otherwise an attachment would fail in another way on a HyperPod node than on an EC2 node."""
    from_ec2, from_sagemaker = error_for(ec2_refusal(code)), error_for(sagemaker_refusal(code))

    assert type(from_ec2) is type(from_sagemaker) is BY_CODE[code]
    assert str(from_ec2) == str(from_sagemaker) or isinstance(from_ec2, errors.Denied)
    assert "because" in str(from_ec2)


@pytest.mark.requirement("errors.same-through-either-api")
@pytest.mark.parametrize(
    "text",
    [
        "HyperPod - Ec2ErrCode: VolumeInUse",
        "HyperPod - Ec2ErrCode: VolumeInUse.",
        "HyperPod - Ec2ErrCode: VolumeInUse : Ec2ErrMsg: vol-1 is already attached to an instance",
        "hyperpod - ec2ErrCode:VolumeInUse, ec2ErrMsg: vol-1 is attached (request 1-2)",
        "An error occurred. HyperPod - Ec2ErrCode: VolumeInUse; status 400; Ec2ErrMsg: no. Try later.",
    ],
)
@pytest.mark.parametrize("code", ["ValidationException", "ConflictException"])
def test_ec2s_code_is_found_however_sagemaker_wraps_it(code: str, text: str) -> None:
    """SageMaker does not document the form of this text, so the driver relies only on the code's label."""
    assert type(error_for(ec2_refusal(code, text))) is errors.InUse


@pytest.mark.requirement("create.outcome-unknown")
@pytest.mark.parametrize("refusal", [ec2_refusal("NewCode"), sagemaker_refusal("NewCode")])
def test_an_unknown_code_is_a_retryable_error_with_code(refusal: ClientError) -> None:
    """The request may have taken effect."""
    error = error_for(refusal)

    assert isinstance(error, errors.CloudError)
    assert error.code == "NewCode"


@pytest.mark.requirement("events.stable")
@pytest.mark.parametrize(
    "text",
    [
        "no such key (Service: Kms, Status Code: 400, Request ID: 0f3a-1)",
        "no such key (Service: AWSKMS; Status Code: 400; Request ID: 0f3a-1; Proxy: null)",
        "no such key. RequestId: 0f3a-1",
    ],
)
@pytest.mark.parametrize("code", ["VolumeInUse", "NewCode", "UnauthorizedOperation"])
def test_no_message_has_a_request_id(code: str, text: str) -> None:
    """Kubernetes counts a repeated event only if its text is the same; EC2 may pass on another service's message."""
    error = str(error_for(ec2_refusal(code, text)))

    assert "no such key" in error
    assert code in error
    assert not {"req-1", "0f3a-1"} & set(re.findall(r"[\w-]+", error))


def test_sagemakers_own_refusals_mean_that_the_cluster_is_not_ready() -> None:
    """A cluster that is being updated accepts no attachments for a while."""
    assert isinstance(error_for(ec2_refusal("ValidationException", "cluster is Updating")), errors.NotReady)


@pytest.mark.parametrize("code", sorted(SERVER_ERRORS))
def test_the_outcome_of_a_create_is_unknown_after_a_server_error(code: str) -> None:
    """AWS may have created the object all the same."""
    assert isinstance(error_for(ec2_refusal(code), creates=True), errors.OutcomeUnknown)
    assert type(error_for(ec2_refusal(code))) is errors.Unavailable


@pytest.mark.requirement("create.outcome-unknown")
def test_the_outcome_of_a_create_is_unknown_without_an_answer_from_aws() -> None:
    """AWS may have created the object all the same."""
    for lost in (
        ReadTimeoutError(endpoint_url="https://x"),
        ConnectTimeoutError(endpoint_url="https://x"),
        ResponseParserError("not XML, but the page of a load balancer"),
    ):
        assert isinstance(error_for(lost, creates=True), errors.OutcomeUnknown)
        assert type(error_for(lost)) is errors.Unavailable


def test_a_create_that_was_never_sent_has_created_nothing() -> None:
    """Without credentials, or with invalid parameters, the SDK sends nothing."""
    error = error_for(NoCredentialsError(), creates=True)
    assert type(error) is errors.Unavailable
    assert "service account a role" in str(error)
    assert isinstance(error_for(ParamValidationError(report="bad"), creates=True), errors.InvalidRequest)


def test_a_missing_token_file_is_a_retryable_error_that_names_the_file() -> None:
    """With IRSA and Pod Identity the SDK reads the file for each renewal, and raises FileNotFoundError."""
    missing = FileNotFoundError(2, "No such file or directory", "/var/run/secrets/token")

    error = error_for(missing, creates=True)

    assert type(error) is errors.Unavailable
    assert "/var/run/secrets/token" in str(error)


def denial(
    action: str, resource: str, reason: str, caller: str = "arn:aws:sts::1:assumed-role/driver/session-1"
) -> str:
    """The text of a denial, as EC2 writes it."""
    return (
        f"You are not authorized to perform this operation. User: {caller} is not authorized to perform: {action} on "
        f"resource: {resource} {reason}. Encoded authorization failure message: {'x' * 1000}"
    )


LACKING = "because no identity-based policy allows the ec2:DeleteVolume action"


def test_a_denial_names_the_action_the_resource_the_role_and_the_statement_that_allows_it() -> None:
    """A sidecar's event has room for 900 bytes, so AWS's encoded message is left out."""
    resource = "arn:aws:ec2:us-west-2:1:volume/*"
    reason = "because no identity-based policy allows the ec2:CreateVolume action"
    text = denial("ec2:CreateVolume", resource, reason)

    error = error_for(ec2_refusal("UnauthorizedOperation", text, "CreateVolume"))

    assert isinstance(error, errors.Denied)
    assert str(error) == (
        f"cannot do it: ec2:CreateVolume on {resource} is denied to IAM role driver: no identity-based policy allows "
        "the ec2:CreateVolume action (UnauthorizedOperation); allow it in the role's policy: "
        f'{{"Effect": "Allow", "Action": "ec2:CreateVolume", "Resource": "{resource}"}}'
    )


@pytest.mark.requirement("events.stable")
@pytest.mark.parametrize(
    ("caller", "name"),
    [
        ("arn:aws:sts::1:assumed-role/driver/botocore-session-1767225600", "IAM role driver"),
        ("arn:aws-us-gov:sts::1:assumed-role/driver/botocore-session-1767229200", "IAM role driver"),
        ("arn:aws:iam::1:user/team/ann", "IAM user ann"),
        ("arn:aws:iam::1:root", "arn:aws:iam::1:root"),
    ],
)
def test_a_denial_names_the_role_and_not_its_session(caller: str, name: str) -> None:
    """The SDK gives each session another name, and Kubernetes counts a repeated event only if its text is the same."""
    text = denial("ec2:DeleteVolume", "arn:aws:ec2:us-west-2:1:volume/vol-1", LACKING, caller)

    assert f"is denied to {name}: no" in str(error_for(ec2_refusal("UnauthorizedOperation", text, "DeleteVolume")))


def test_a_denial_of_one_volume_asks_for_a_statement_about_all_or_for_its_tag() -> None:
    """AWS's managed policies allow what the driver does to a volume only if the volume has the driver's tag."""
    text = denial("ec2:DeleteVolume", "arn:aws:ec2:us-west-2:1:volume/vol-1", LACKING)

    error = str(error_for(ec2_refusal("UnauthorizedOperation", text, "DeleteVolume")))

    assert "ec2:DeleteVolume on arn:aws:ec2:us-west-2:1:volume/vol-1 is denied" in error
    assert '"Resource": "arn:aws:ec2:us-west-2:1:volume/*"}, or give the volume the tag' in error
    assert error.endswith("such as ebs.csi.aws.com/cluster=true")


@pytest.mark.parametrize(
    ("reason", "next_step"),
    [
        ("with an explicit deny in a service control policy", "; change the policy that denies it"),
        (
            "because no permissions boundary allows the ec2:DeleteVolume action",
            "; allow it in that permissions boundary: {",
        ),
        ("because no service control policy allows the ec2:DeleteVolume action", "; allow it in that service control "),
    ],
)
def test_a_denial_by_another_policy_than_the_roles_points_to_that_policy(reason: str, next_step: str) -> None:
    """IAM User Guide, "Troubleshoot access denied error messages"."""
    text = denial("ec2:DeleteVolume", "arn:aws:ec2:us-west-2:1:volume/vol-1", reason)

    error = str(error_for(ec2_refusal("UnauthorizedOperation", text, "DeleteVolume")))

    assert next_step in error
    assert reason.removeprefix("because ").removeprefix("with ") in error
    assert "role's policy" not in error


def test_a_role_that_cannot_be_assumed_points_to_its_trust_policy() -> None:
    """A statement in the role's own policy would change nothing."""
    message = "Not authorized to perform sts:AssumeRoleWithWebIdentity"

    error = error_for(ec2_refusal("AccessDenied", message, "AssumeRoleWithWebIdentity"))

    assert isinstance(error, errors.Denied)
    assert "sts:AssumeRoleWithWebIdentity is denied" in str(error)
    assert "trust policy" in str(error)


@pytest.mark.parametrize("code", ["AuthFailure", "InvalidClientTokenId", "SignatureDoesNotMatch"])
def test_unknown_credentials_are_not_reported_as_a_missing_permission(code: str) -> None:
    """An IAM policy would change nothing, so the message asks for none."""
    error = error_for(ec2_refusal(code, "We do not know you.", "DescribeVolumes"))

    assert isinstance(error, errors.Denied)
    assert "ec2:DescribeVolumes is refused: We do not know you (" in str(error)
    assert "give the driver a role or access keys that AWS recognises" in str(error)
    assert "Effect" not in str(error)


def test_a_denial_names_the_action_even_if_awss_message_does_not() -> None:
    error = error_for(ec2_refusal("AccessDeniedException", "no", "AttachClusterNodeVolume"))

    assert "sagemaker:AttachClusterNodeVolume" in str(error)


def test_a_spent_client_token_is_not_an_error_of_the_drivers_tree() -> None:
    """The driver handles it itself, by trying the next token; no caller may see it."""
    assert isinstance(error_for(ec2_refusal("IdempotentParameterMismatch")), TokenSpent)
    assert not issubclass(TokenSpent, errors.Error)
