"""Which endpoints are served, and where a socket is bound."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperpod_ebs.driver.csi import endpoint
from hyperpod_ebs.driver.model import errors


@pytest.mark.requirement("csi.unix-socket")
@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("unix:///csi/csi.sock", "/csi/csi.sock"),
        ("unix://run/csi.sock", "/run/csi.sock"),
        ("unix:/csi/csi.sock", "/csi/csi.sock"),
        ("/csi/csi.sock", "/csi/csi.sock"),
    ],
)
def test_upstreams_forms_of_a_unix_socket_are_taken(text: str, path: str) -> None:
    """Upstream's ParseEndpoint, and what charts write."""
    assert endpoint.parse(text) == Path(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tcp://127.0.0.1:10000", "no authentication"),
        ("unix://", "names no socket"),
        ("", "names no socket"),
        ("csi.sock", "names no socket"),
        ("unix:///csi/", "names no socket"),
        ("/csi/\0", "names no socket"),
        ("/" + "d" * 100 + "/csi.sock", "too long"),
    ],
    ids=["tcp", "nothing", "empty", "a relative path", "a directory", "a zero byte", "longer than a socket address"],
)
def test_anything_else_is_refused_with_what_to_do(text: str, says: str) -> None:
    """Ours."""
    with pytest.raises(errors.InvalidRequest, match=says) as caught:
        endpoint.parse(text)

    assert "take " in str(caught.value)


@given(st.text())
def test_any_text_is_an_absolute_path_or_refused(text: str) -> None:
    """Ours."""
    with contextlib.suppress(errors.InvalidRequest):
        path = endpoint.parse(text)

        assert path.is_absolute()
        assert "\0" not in str(path)
