"""The endpoints that the driver accepts."""

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
def test_all_of_upstreams_forms_of_a_unix_socket_are_accepted(text: str, path: str) -> None:
    """ParseEndpoint in pkg/util/util.go of aws-ebs-csi-driver."""
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
def test_any_other_endpoint_is_refused_with_the_next_step(text: str, says: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=says) as caught:
        endpoint.parse(text)

    assert "; use " in str(caught.value)


@given(st.text())
def test_any_text_is_an_absolute_path_or_refused(text: str) -> None:
    with contextlib.suppress(errors.InvalidRequest):
        path = endpoint.parse(text)

        assert path.is_absolute()
        assert "\0" not in str(path)
