"""The governor: calls to AWS wait for their turn, and none is sent that AWS can only throttle."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.aws_request import Request
from hyperpod_ebs.driver.volumes.budget import SPACING
from hyperpod_ebs.driver.volumes.governor import MAX_CHANGES, MAX_READS, PATIENCE, Governor, calls_per_second
from hyperpod_ebs.kit import operations
from hyperpod_ebs.kit.operations import Interruption, Operation, Operations
from tests.support.virtual_time import VirtualLoop, now, run


def request_for(operation: str, subject: str) -> Request:
    """A request of this operation for a volume."""
    service = "sagemaker" if "ClusterNode" in operation else "ec2"
    return Request(operation, subject, f"{operation} {subject}", service=service)


@dataclass
class Sent:
    """The calls that reached AWS, each with its time."""

    calls: list[tuple[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def send(self, request: Request, seconds: float = 0.0) -> str:
        """Carry out a call, which takes so many seconds."""
        self.calls.append((request.operation, request.subject))
        self.times.append(now())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(seconds)
        self.at_once -= 1
        return request.subject


async def call_all(governor: Governor, sent: Sent, requests: Sequence[Request], seconds: float = 0.0) -> None:
    """Make all calls at once, in this order."""
    async with asyncio.TaskGroup() as tasks:
        for request in requests:
            tasks.create_task(governor.call(request, lambda request=request: sent.send(request, seconds)))  # type: ignore[misc] # a lambda's default


@pytest.mark.requirement("rates.within-aws-limits")
def test_no_more_calls_are_sent_than_the_account_has_tokens_for() -> None:
    """EC2 Developer Guide, "Request throttling": 50 calls of AttachVolume at once, then five a second."""
    sent = Sent()

    run(call_all(Governor(), sent, [request_for("AttachVolume", f"vol-{number}") for number in range(100)]))

    for end in range(1, 11):
        assert len([time for time in sent.times if time <= end]) <= 50 + 5 * end
    assert 9.9 <= sent.times[-1] <= 10.5


def test_the_longest_delay_is_that_of_a_change_in_the_longest_line() -> None:
    async def look() -> tuple[float, float]:
        governor, sent = Governor(), Sent()
        before = governor.longest_delay()
        async with asyncio.TaskGroup() as tasks:
            for operation, count in (("AttachVolume", 99), ("CreateVolume", 50), ("DescribeVolumes", 5000)):
                requests = [request_for(operation, str(number)) for number in range(count)]
                tasks.create_task(call_all(governor, sent, requests))
            await asyncio.sleep(2)
            return before, governor.longest_delay()

    before, during = run(look())

    assert before == 0
    assert during == pytest.approx(8.2, abs=0.3)


def test_an_operation_without_tokens_does_not_slow_another_one() -> None:
    sent = Sent()
    attaches = [request_for("AttachVolume", f"vol-{number}") for number in range(100)]

    run(call_all(Governor(), sent, [*attaches, request_for("CreateVolume", "pvc-1")]))

    assert sent.times[sent.calls.index(("CreateVolume", "pvc-1"))] < 1


def test_detachments_go_before_attachments_creations_and_deletions() -> None:
    """Only so many calls are on the way at a time; the others wait for one of them to end."""
    sent = Sent()
    first = [request_for("ModifyVolume", f"vol-{number}") for number in range(MAX_CHANGES)]
    kinds = ["DeleteVolume", "CreateVolume", "AttachVolume", "DetachVolume"]

    async def call_when_all_are_on_the_way() -> None:
        governor = Governor()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(call_all(governor, sent, first, seconds=1.0))
            await asyncio.sleep(0.9)
            tasks.create_task(call_all(governor, sent, [request_for(kind, "vol-x") for kind in kinds], seconds=1.0))

    run(call_when_all_are_on_the_way())

    assert [operation for operation, _ in sent.calls[MAX_CHANGES:]] == kinds[::-1]


def test_reads_do_not_wait_for_changes_that_are_on_the_way() -> None:
    sent = Sent()
    changes = [request_for("CreateVolume", f"pvc-{number}") for number in range(2 * MAX_CHANGES)]

    run(call_all(Governor(), sent, [*changes, request_for("DescribeVolumes", "volumes")], seconds=1.0))

    assert sent.times[sent.calls.index(("DescribeVolumes", "volumes"))] < 0.5
    assert sent.most_at_once <= MAX_CHANGES + MAX_READS


def test_a_service_that_does_not_answer_does_not_stop_calls_to_another_one() -> None:
    sent = Sent()
    hanging = [request_for("AttachClusterNodeVolume", f"vol-{number}") for number in range(2 * MAX_CHANGES)]

    run(call_all(Governor(), sent, [*hanging, request_for("CreateVolume", "pvc-1")], seconds=15.0))

    assert sent.times[sent.calls.index(("CreateVolume", "pvc-1"))] < 0.5


def test_the_volume_that_has_waited_longest_comes_next_and_none_comes_twice_before_another() -> None:
    sent = Sent()
    burst = [request_for("AttachVolume", f"vol-{number}") for number in range(49)]
    later = ["vol-a", "vol-a", "vol-a", "vol-b", "vol-c"]

    run(call_all(Governor(), sent, [*burst, *(request_for("AttachVolume", subject) for subject in later)]))

    assert [subject for _, subject in sent.calls[49:]] == ["vol-a", "vol-b", "vol-c", "vol-a", "vol-a"]


def test_a_throttled_call_is_repeated_before_the_calls_that_came_later() -> None:
    sent, refusals = Sent(), [errors.Throttled("RequestLimitExceeded")]

    async def attempt(request: Request) -> None:
        await sent.send(request)
        if refusals:
            raise refusals.pop()

    async def call_three() -> None:
        governor = Governor()
        async with asyncio.TaskGroup() as tasks:
            for subject in ("vol-1", "vol-2", "vol-3"):
                request = request_for("AttachVolume", subject)
                tasks.create_task(governor.call(request, lambda request=request: attempt(request)))  # type: ignore[misc] # a lambda's default

    run(call_three())

    assert [subject for _, subject in sent.calls] == ["vol-1", "vol-1", "vol-2", "vol-3"]
    assert sent.times[1] >= 0.2


def test_a_call_that_aws_throttles_for_an_hour_fails_with_what_to_do() -> None:
    async def attempt() -> None:
        raise errors.Throttled("RequestLimitExceeded")

    async def call() -> float:
        with pytest.raises(errors.Throttled, match=r"AttachVolume vol-1.*ask AWS for a higher limit"):
            await Governor().call(request_for("AttachVolume", "vol-1"), attempt)
        return now()

    assert run(call()) == pytest.approx(PATIENCE)


def test_a_call_whose_caller_is_cancelled_leaves_the_line_and_is_never_sent() -> None:
    sent = Sent()

    async def cancel_one() -> None:
        governor = Governor()
        await call_all(governor, sent, [request_for("AttachVolume", f"vol-{number}") for number in range(49)])
        async with asyncio.TaskGroup() as tasks:
            waiting = [
                tasks.create_task(call_all(governor, sent, [request_for("AttachVolume", subject)]))
                for subject in ("vol-cancelled", "vol-next")
            ]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert [state.waiting for state in governor.states()] == [2]
            waiting[0].cancel()

    run(cancel_one())

    assert [subject for _, subject in sent.calls[49:]] == ["vol-next"]
    assert sent.times[-1] <= 0.6


def test_calls_that_are_cancelled_together_end_as_cancelled_and_leave_nothing_behind() -> None:
    """A call that ends lets the next one go; at the stop of the process, this one is being cancelled, too."""
    sent = Sent()

    async def cancel_all() -> None:
        governor = Governor()
        async with asyncio.TaskGroup() as tasks:
            calls = [
                tasks.create_task(
                    governor.call(request, lambda request=request: sent.send(request, 15.0))  # type: ignore[misc] # a lambda's default
                )
                for request in (request_for("CreateVolume", f"pvc-{number}") for number in range(2 * MAX_CHANGES))
            ]
            await asyncio.sleep(5)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls)
        (state,) = governor.states()
        assert (state.on_the_way, state.waiting) == (0, 0)
        await governor.call(request_for("CreateVolume", "pvc-next"), lambda: sent.send(request_for("CreateVolume", "")))

    run(cancel_all())

    assert len(sent.calls) == MAX_CHANGES + 1


def test_the_wait_of_a_further_call_is_known_before_it_is_made() -> None:
    async def scene() -> list[float]:
        governor = Governor()
        waits = [governor.delay("CreateVolume")]
        async with asyncio.TaskGroup() as tasks:
            burst = [request_for("CreateVolume", f"pvc-{number}") for number in range(200)]
            tasks.create_task(call_all(governor, Sent(), burst))
            await asyncio.sleep(1.01)
            waits.append(governor.delay("CreateVolume"))
        return waits

    assert run(scene()) == [0.0, pytest.approx((201 - 99 - 5) / 5, abs=0.3)]


class TickingLoop(VirtualLoop):
    """A loop whose clock moves whenever it is read, as a real one does."""

    def time(self) -> float:
        """Seconds, never the same number twice."""
        self._selector_with_clock.now += 1e-6
        return super().time()


@pytest.mark.parametrize("answered_after", [SPACING + number * 1e-6 for number in range(-12, 12)])
def test_calls_that_go_while_others_are_throttled_do_not_make_the_rate_collapse(answered_after: float) -> None:
    """At the end of a bucket, some calls are granted their turn while the answers to others arrive."""
    tokens = 60

    async def attempt() -> None:
        nonlocal tokens
        is_accepted, tokens = tokens > 0, tokens - 1
        await asyncio.sleep(answered_after)
        if not is_accepted:
            tokens += 1
            raise errors.Throttled("RequestLimitExceeded")

    async def call_many() -> float:
        nonlocal tokens
        governor = Governor()
        async with asyncio.TaskGroup() as tasks:
            for number in range(120):
                tasks.create_task(governor.call(request_for("CreateVolume", f"pvc-{number}"), attempt))
            for _ in range(60):
                await asyncio.sleep(0.2)
                tokens += 1
        return governor.rate("CreateVolume")

    with asyncio.Runner(loop_factory=TickingLoop) as runner:
        assert runner.run(call_many()) > 4


def test_the_log_reports_once_that_a_bucket_has_become_the_limit() -> None:
    with capture_logs() as entries:
        run(call_all(Governor(), Sent(), [request_for("AttachVolume", f"vol-{number}") for number in range(200)]))

    assert [(entry["operation"], entry["calls_per_second"]) for entry in entries] == [("AttachVolume", 5)]


def test_the_state_of_each_line_can_be_read() -> None:
    async def read() -> None:
        governor = Governor()
        async with asyncio.TaskGroup() as tasks:
            burst = [request_for("AttachVolume", f"vol-{number:02}") for number in range(60)]
            tasks.create_task(call_all(governor, Sent(), burst))
            await asyncio.sleep(1.1)
            (state,) = governor.states()

        assert (state.operation, state.capacity, state.rate, state.documented_rate) == ("AttachVolume", 49, 5, 5)
        assert state.waiting == 60 - 49 - 5 == len(state.next_subjects)
        assert state.next_subjects[0] == "vol-54"
        assert state.tokens < 1
        assert (state.on_the_way, state.throttled) == (0, 0)

    run(read())


def run_scene(
    scene: Callable[[Operations[str], Callable[[], Awaitable[str]], Sent], Awaitable[None]],
) -> None:
    """Run a scene with operations, an act that waits for its turn for two seconds, and the calls that were sent."""

    async def play() -> None:
        governor, sent = Governor(), Sent()
        await call_all(governor, sent, [request_for("AttachVolume", f"vol-{number}") for number in range(49)])
        async with asyncio.TaskGroup() as tasks, Operations[str]() as running:
            tasks.create_task(
                call_all(governor, sent, [request_for("AttachVolume", f"vol-before-{number}") for number in range(9)])
            )
            await asyncio.sleep(0)

            def act() -> Awaitable[str]:
                request = request_for("AttachVolume", "vol-x")
                return governor.call(request, lambda: sent.send(request))

            await scene(running, act, sent)

    run(play())


def test_a_caller_that_gives_up_learns_the_position_and_the_expected_time() -> None:
    async def scene(running: Operations[str], act: Callable[[], Awaitable[str]], _: Sent) -> None:
        async def operation() -> str:
            return await act()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await running.run("vol-x", Operation("attach"), operation)
        assert "the call AttachVolume waits for its turn, with 5 calls before it and for about 1 s" in (
            operations.joined_wait()
        )
        assert await running.run("vol-x", Operation("attach"), operation) == "vol-x"
        assert not operations.joined_wait()

    run_scene(scene)


def test_the_position_of_a_call_counts_the_turns_of_other_volumes_that_come_before_it() -> None:
    """Two calls for a volume are not sent one after the other while another volume waits."""

    async def read() -> None:
        governor, sent = Governor(), Sent()
        await call_all(governor, sent, [request_for("AttachVolume", f"vol-{number}") for number in range(51)])
        async with asyncio.TaskGroup() as tasks, Operations[str]() as running:
            for key, subject in (("first", "vol-a"), ("second", "vol-a"), ("third", "vol-b")):
                request = request_for("AttachVolume", subject)

                def act(request: Request = request) -> Coroutine[None, None, str]:
                    return governor.call(request, lambda: sent.send(request))

                tasks.create_task(running.run(key, Operation("attach"), act))
            await asyncio.sleep(0.01)

            waits = {state.key: state.waits_for for state in running.states()}

            assert "with 0 calls before it" in waits["first"]
            assert "with 2 calls before it" in waits["second"]
            assert "with 1 calls before it" in waits["third"]

    run(read())


@pytest.mark.parametrize(("rate", "text"), [(1 / 30, "0.033"), (4.83, "4.8"), (20, "20"), (240, "240"), (1500, "1500")])
def test_the_rate_is_written_without_an_exponent(rate: float, text: str) -> None:
    """An account may have a limit of hundreds of calls a second."""
    assert calls_per_second(rate) == text


def test_an_operation_that_nobody_waits_for_gives_way_while_its_call_waits_and_the_call_is_never_sent() -> None:
    async def scene(running: Operations[str], act: Callable[[], Awaitable[str]], sent: Sent) -> None:
        async def attach() -> str:
            return await act()

        async def detach() -> str:
            return "detached"

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await running.run("vol-x", Operation("attach"), attach, interruption=Interruption())
        began = now()
        assert await running.run("vol-x", Operation("detach"), detach, preempts={"attach"}) == "detached"
        assert now() == began
        await asyncio.sleep(10)
        assert ("AttachVolume", "vol-x") not in sent.calls

    run_scene(scene)
