"""Durations as flags of Go programs have them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.app.go_duration import parse_go_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2s", 2), ("500ms", 0.5), ("1m30s", 90), ("1.5h", 5400), (".5s", 0.5), ("3us", 3e-6), ("3µs", 3e-6), ("0", 0)],
)
def test_durations_of_go_are_read(text: str, seconds: float) -> None:
    """Go, time.ParseDuration."""
    assert parse_go_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "2", "s", "-1s", "2 s", "2s ", "2d", "1m 30s", "٢s", "1..5s"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_go_duration(text)


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_the_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_go_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds
