"""What a command finds about a precondition."""

from dataclasses import dataclass
from typing import Literal

from hyperpod_ebs.access.volume.facts import Absent, Unread

Result = Literal["ok", "fails", "not checked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was found about a precondition."""

    name: str
    result: Result
    text: str
    """A sentence with both values, and with the next step unless it is ok."""


def passing(name: str, text: str) -> Check:
    """A precondition that is met."""
    return Check(name=name, result="ok", text=text)


def failing(name: str, text: str) -> Check:
    """A precondition that is not met."""
    return Check(name=name, result="fails", text=text)


def unknown(name: str, cause: Unread | Absent | str | None) -> Check:
    """A precondition that depends on what could not be read; an object that does not exist fails a check of its own."""
    match cause:
        case Unread(reason):
            text = reason
        case Absent(message):
            text = message
        case str():
            text = cause
        case None:
            text = "it is not known"
    return Check(name=name, result="not checked", text=text)
