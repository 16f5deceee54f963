"""AWS's refusals: one code, one error, by whichever service it comes."""

import json

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError

from hyperpod_ebs.driver.aws.errors import BY_CODE, SERVER_ERRORS, translate_sdk_errors
from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.volumes.cloud import TokenSpent


def straight(code: str, message: str = "said so", operation: str = "AttachVolume") -> ClientError:
    """The refusal as EC2 gives it."""
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"RequestId": "req-1"}},  # type: ignore[typeddict-item] # what is needed
        operation,
    )


def wrapped(code: str, message: str = "said so") -> ClientError:
    """The same refusal as SageMaker hands it on."""
    text = f"The volume could not be attached. HyperPod - Ec2ErrCode: {code} : Ec2ErrMsg: {message}"
    return straight("ValidationException", text, "AttachClusterNodeVolume")


def error_for(raised: Exception, *, creates: bool = False) -> Exception:
    """What comes out."""
    with pytest.raises(Exception) as caught, translate_sdk_errors("do it", creates=creates):  # noqa: PT011 - any at all
        raise raised
    return caught.value


@pytest.mark.requirement("errors.same-through-either-api")
@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_the_same_ec2_code_gives_the_same_error_through_either_api(code: str) -> None:
    """Upstream: a code that only one of the roads knows was its defects H1 to H3."""
    by_ec2, by_sagemaker = error_for(straight(code)), error_for(wrapped(code))

    assert type(by_ec2) is type(by_sagemaker) is BY_CODE[code]
    assert str(by_ec2) == str(by_sagemaker) or isinstance(by_ec2, errors.Denied)
    assert "said so" in str(by_ec2)


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
def test_ec2s_code_is_found_however_it_is_wrapped(code: str, text: str) -> None:
    """SageMaker: the text has no contract, so only the words that matter are relied on."""
    assert type(error_for(straight(code, text))) is errors.InUse


@pytest.mark.requirement("create.outcome-unknown")
@pytest.mark.parametrize("refusal", [straight("NewCode"), wrapped("NewCode")])
def test_a_code_that_nobody_knows_may_have_done_its_work(refusal: ClientError) -> None:
    """Ours: UNAVAILABLE, with AWS's code and request."""
    error = error_for(refusal)

    assert isinstance(error, errors.CloudError)
    assert (error.code, error.request_id) == ("NewCode", "req-1")


def test_sagemakers_own_refusals_are_states() -> None:
    """SageMaker: a cluster that is updating takes no attachments for a while."""
    assert isinstance(error_for(straight("ValidationException", "cluster is Updating")), errors.NotReady)


@pytest.mark.parametrize("code", sorted(SERVER_ERRORS))
def test_a_create_that_broke_at_awss_side_is_not_proved(code: str) -> None:
    """Provisioner: nothing final after a create was sent."""
    assert isinstance(error_for(straight(code), creates=True), errors.OutcomeUnknown)
    assert type(error_for(straight(code))) is errors.Unavailable


@pytest.mark.requirement("create.outcome-unknown")
def test_no_answer_is_no_proof() -> None:
    """Ours: a lost answer to a create may mean that it was made."""
    for lost in (
        ReadTimeoutError(endpoint_url="https://x"),
        ConnectTimeoutError(endpoint_url="https://x"),
        ResponseParserError("no XML: a balancer's page"),
    ):
        assert isinstance(error_for(lost, creates=True), errors.OutcomeUnknown)
        assert type(error_for(lost)) is errors.Unavailable


def test_what_was_never_sent_is_no_create() -> None:
    """Ours: without credentials nothing is sent."""
    error = error_for(NoCredentialsError(), creates=True)
    assert type(error) is errors.Unavailable
    assert "service account a role" in str(error)
    assert isinstance(error_for(ParamValidationError(report="bad"), creates=True), errors.InvalidRequest)


def test_a_token_that_is_not_there_yet_is_waited_for() -> None:
    """IRSA, Pod Identity: the SDK reads the token's file for each renewal, and lets its absence through."""
    missing = FileNotFoundError(2, "No such file or directory", "/var/run/secrets/token")

    error = error_for(missing, creates=True)

    assert type(error) is errors.Unavailable
    assert "/var/run/secrets/token" in str(error)


def test_a_denial_names_action_and_resource_and_the_statement_that_allows_it() -> None:
    """Ours: the next step is in the message, and the thousand-character blob is not."""
    message = (
        "You are not authorized to perform this operation. User: arn:aws:sts::1:assumed-role/x is not authorized to "
        "perform: ec2:CreateVolume on resource: arn:aws:ec2:us-west-2:1:volume/* because no identity-based policy "
        f"allows the ec2:CreateVolume action. Encoded authorization failure message: {'x' * 1000}"
    )

    error = error_for(straight("UnauthorizedOperation", message, "CreateVolume"))

    statement = {"Effect": "Allow", "Action": "ec2:CreateVolume", "Resource": "arn:aws:ec2:us-west-2:1:volume/*"}
    assert isinstance(error, errors.Denied)
    assert json.dumps(statement) in str(error)
    assert len(str(error)) < 900


def test_a_role_that_may_not_be_taken_is_mended_in_its_trust_policy() -> None:
    """Ours: a statement in the role's own policy would change nothing."""
    message = "Not authorized to perform sts:AssumeRoleWithWebIdentity"

    error = error_for(straight("AccessDenied", message, "AssumeRoleWithWebIdentity"))

    assert isinstance(error, errors.Denied)
    assert "sts:AssumeRoleWithWebIdentity is denied" in str(error)
    assert "trust policy" in str(error)


@pytest.mark.parametrize("code", ["AuthFailure", "InvalidClientTokenId", "SignatureDoesNotMatch"])
def test_keys_that_aws_does_not_know_are_no_missing_permission(code: str) -> None:
    """Ours: a policy would change nothing, so none is asked for."""
    error = error_for(straight(code, "We do not know you.", "DescribeVolumes"))

    assert isinstance(error, errors.Denied)
    assert "ec2:DescribeVolumes is refused: We do not know you (" in str(error)
    assert "give the driver a role or access keys that AWS recognises" in str(error)
    assert "Effect" not in str(error)


def test_a_denial_without_words_still_names_the_action() -> None:
    """Ours: the operation tells what AWS does not."""
    error = error_for(straight("AccessDeniedException", "no", "AttachClusterNodeVolume"))

    assert "sagemaker:AttachClusterNodeVolume" in str(error)


def test_a_spent_token_stays_below_the_controllers_decisions() -> None:
    """Ours: it is no error of the driver's tree."""
    assert isinstance(error_for(straight("IdempotentParameterMismatch")), TokenSpent)
    assert not issubclass(TokenSpent, errors.Error)
