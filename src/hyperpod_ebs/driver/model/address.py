"""An address to listen on, as flags have it: `:9808` for all of this machine's, `127.0.0.1:9808`, `[::1]:9808`."""

import re
from dataclasses import dataclass
from typing import Final, Self

from hyperpod_ebs.driver.model import errors

_FORM: Final = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[^\[\]:\s]*)):(?P<port>[0-9]{1,5})")
_HIGHEST: Final = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """Where an HTTP server listens."""

    host: str | None
    """None for all addresses of the machine."""
    port: int
    """0 for any that is free."""

    @classmethod
    def parse(cls, flag: str, text: str) -> Self:
        """The address that `text`, the value of `flag`, names.

        Raises:
            InvalidRequest: It names none.
        """
        match = _FORM.fullmatch(text)
        if match is None or int(match["port"]) > _HIGHEST:
            raise errors.InvalidRequest(
                f"{flag} is {text!r}, which is not host:port; take :9808, or 127.0.0.1:9808 for this machine alone"
            )
        return cls(match["six"] or match["host"] or None, int(match["port"]))

    def __str__(self) -> str:
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
