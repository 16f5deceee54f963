"""The address of an HTTP server in a flag."""

import pytest

from hyperpod_ebs.driver.model import errors
from hyperpod_ebs.driver.model.address import Address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":9808", None, 9808),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("localhost:0", "localhost", 0),
        ("[::1]:9808", "::1", 9808),
    ],
)
def test_an_address_has_a_host_or_none_and_a_port(text: str, host: str | None, port: int) -> None:
    """Go's net.Listen, which reads these flags upstream."""
    address = Address.parse("--http-endpoint", text)

    assert (address.host, address.port, str(address)) == (host, port, text)


@pytest.mark.parametrize("text", ["", "9808", "localhost", ":65536", "::1:9808", "a b:1", "localhost:-1", ":x"])
def test_what_is_no_address_is_refused_with_the_flag(text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="--http-endpoint"):
        Address.parse("--http-endpoint", text)
