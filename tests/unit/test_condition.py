"""The condition of a process, and which of its changes are logged."""

from structlog.testing import capture_logs

from hyperpod_ebs.driver.observe.condition import Condition


def test_every_change_is_logged_once() -> None:
    """Checks repeat every few seconds."""
    condition = Condition()

    with capture_logs() as lines:
        for problem in ("no role", "no role", None, None):
            condition.report("AWS", problem)

    assert [line["event"] for line in lines] == ["unhealthy", "recovered"]
    assert not str(condition)


def test_a_part_that_has_not_reported_yet_is_unhealthy_but_not_logged() -> None:
    """Every start begins like this, so a warning would mean nothing."""
    condition = Condition()

    with capture_logs() as lines:
        condition.report_unknown("AWS", "not reached yet")
        assert str(condition) == "not reached yet"
        condition.report("AWS", None)

    assert not str(condition)
    assert lines == []
