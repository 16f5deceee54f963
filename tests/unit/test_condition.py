"""What is wrong with a process, and what of it the log hears."""

from structlog.testing import capture_logs

from hyperpod_ebs.driver.observe.condition import Condition


def test_the_log_hears_of_each_change_once() -> None:
    """Ours: a look that is repeated every second says nothing new."""
    condition = Condition()

    with capture_logs() as said:
        for trouble in ("no role", "no role", None, None):
            condition.report("AWS", trouble)

    assert [line["event"] for line in said] == ["unhealthy", "recovered"]
    assert not str(condition)


def test_what_is_not_known_yet_is_not_well_and_no_news() -> None:
    """Ours: every start begins so, and a warning each time would be read by nobody."""
    condition = Condition()

    with capture_logs() as said:
        condition.report_unknown("AWS", "not reached yet")
        assert str(condition) == "not reached yet"
        condition.report("AWS", None)

    assert not str(condition)
    assert said == []
