"""Calls to AWS: tried again where that helps, and never taken for void when they may not be."""

from collections.abc import Awaitable, Callable, Mapping

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from hyperpod_ebs.driver.aws.calls import PAUSES, After, answer, pages
from hyperpod_ebs.driver.model import errors
from tests.support.virtual_time import run

LOST = ReadTimeoutError(endpoint_url="https://x")
THROTTLED = ClientError({"Error": {"Code": "RequestLimitExceeded", "Message": "slower"}}, "CreateVolume")
REFUSED = ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}, "CreateVolume")


def asking(*answers: Exception | str) -> tuple[Callable[[], Awaitable[str]], list[Exception | str]]:
    """A call that answers so, one after the other; and what it has not yet answered."""
    left = list(answers)

    async def ask() -> str:
        match left.pop(0):
            case Exception() as error:
                raise error
            case said:
                return str(said)

    return ask, left


def test_throttles_and_silence_are_tried_again() -> None:
    """AWS: both pass."""
    ask, left = asking(THROTTLED, LOST, "done")

    assert run(answer("do it", ask, str)) == "done"
    assert not left


def test_all_pages_are_read() -> None:
    """EC2: what stands on a page that nobody fetched would be taken for gone, and a live volume for free."""
    asked: list[After] = []
    answers: list[Mapping[str, object]] = [
        {"is": "a", "NextToken": "more"},
        {"is": "", "NextToken": "last"},
        {"is": "b", "NextToken": ""},
    ]

    async def ask(after: After) -> Mapping[str, object]:
        asked.append(after)
        return answers.pop(0)

    assert run(pages("list", ask, lambda said: str(said["is"]))) == ("a", "b")
    assert asked == [{}, {"NextToken": "more"}, {"NextToken": "last"}]


def test_patience_is_short() -> None:
    """Ours: the CO tries again too."""
    ask, left = asking(*[THROTTLED] * 5)

    with pytest.raises(errors.Throttled):
        run(answer("do it", ask, str))
    assert len(left) == 5 - 1 - len(PAUSES)


def test_a_refusal_is_not_tried_again() -> None:
    """AWS: it will say the same."""
    ask, left = asking(REFUSED, "done")

    with pytest.raises(errors.Denied):
        run(answer("do it", ask, str))
    assert left == ["done"]


def test_a_refusal_after_a_lost_answer_proves_nothing() -> None:
    """Provisioner: the first try may have made the volume that the second was denied."""
    ask, _ = asking(LOST, REFUSED)

    with pytest.raises(errors.OutcomeUnknown):
        run(answer("create it", ask, str, creates=True))


def test_what_cannot_be_repeated_is_not() -> None:
    """EC2: a second CreateSnapshot is a second snapshot."""
    ask, left = asking(LOST, "done")

    with pytest.raises(errors.OutcomeUnknown):
        run(answer("create it", ask, str, creates=True, repeatable=False))
    assert left == ["done"]


@pytest.mark.parametrize("mistake", [KeyError("State"), ValueError("'sleeping' is not a valid VolumeState")])
def test_an_answer_that_we_do_not_understand_is_not_final(mistake: Exception) -> None:
    """Provisioner: AWS may have done its work all the same."""
    ask, _ = asking("done")

    def read(_: str) -> str:
        raise mistake

    with pytest.raises(errors.CloudError, match="not understood"):
        run(answer("create it", ask, read, creates=True))
