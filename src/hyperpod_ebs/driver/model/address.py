"""The address of an HTTP server in a flag: `127.0.0.1:9808`, `[::1]:9808`, or `:9808` for all addresses."""

import re
from dataclasses import dataclass
from typing import Final, Self

from hyperpod_ebs.driver.model import errors

_FORM: Final = re.compile(r"(?:\[(?P<ipv6>[0-9a-fA-F:.]+)\]|(?P<host>[^\[\]:\s]*)):(?P<port>[0-9]{1,5})")
_HIGHEST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """Where an HTTP server listens."""

    host: str | None
    """None for all addresses of the machine."""
    port: int
    """0 for any free port."""

    @classmethod
    def parse(cls, flag: str, text: str) -> Self:
        """Parse `text`, the value of `flag`.

        Raises:
            InvalidRequest: `text` is not an address.
        """
        match = _FORM.fullmatch(text)
        if match is None or int(match["port"]) > _HIGHEST_PORT:
            raise errors.InvalidRequest(
                f"{flag} is {text!r}, which is not host:port; use :9808, or 127.0.0.1:9808 for local clients only"
            )
        return cls(match["ipv6"] or match["host"] or None, int(match["port"]))

    def __str__(self) -> str:
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
