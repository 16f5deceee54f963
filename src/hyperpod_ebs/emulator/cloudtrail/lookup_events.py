"""CloudTrail's LookupEvents, answered from the emulator's call log.

Source: AWS CloudTrail API Reference, "LookupEvents".
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hyperpod_ebs.emulator.call_log import REMEMBERED, CallLog
from hyperpod_ebs.emulator.cloudtrail.events import Event
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.emulator.wire.operations import Answer, AwsFault, Call, Operations, Parameters

PAGE_SIZE: Final = 50
"""The largest page, and the default."""


@dataclass(frozen=True, slots=True)
class LookupEvents:
    """Events about the calls of the account."""

    call_log: CallLog
    region: Region

    operations = Operations["LookupEvents"]()

    @operations("LookupEvents")
    async def look_up(self, parameters: Parameters, _: Call) -> Answer:
        """The calls that have ended, latest first."""
        _check(parameters)
        before, size = _read_token(parameters), parameters.get("MaxResults", PAGE_SIZE)
        if parameters.get("EventCategory"):
            return {"Events": []}  # insights, which nothing computes here
        found = [event for event in self._events() if event.entry.number < before and _is_match(event, parameters)]
        page = found[:size]
        token = _token(parameters, page[-1].entry.number) if len(found) > size else None
        return {"Events": [event.answer() for event in page], "NextToken": token}

    def _events(self) -> Sequence[Event]:
        latest = reversed(self.call_log.latest(REMEMBERED))
        return [Event(entry, self.region) for entry in latest if entry.is_accepted and entry.has_ended]


def _check(parameters: Parameters) -> None:
    if len(parameters.get("LookupAttributes", ())) > 1:
        raise AwsFault("InvalidLookupAttributesException", "You can specify only one lookup attribute in a request.")
    start, end = parameters.get("StartTime"), parameters.get("EndTime")
    if start is not None and end is not None and start > end:
        raise AwsFault("InvalidTimeRangeException", "The start time must be before the end time.")


def _is_match(event: Event, parameters: Parameters) -> bool:
    start, end = parameters.get("StartTime"), parameters.get("EndTime")
    if start is not None and event.seconds < int(start.timestamp()):
        return False
    if end is not None and event.seconds > end.timestamp():
        return False
    attributes = event.attributes() if parameters.get("LookupAttributes") else {}
    return all(
        each["AttributeValue"] in attributes[each["AttributeKey"]] for each in parameters.get("LookupAttributes", ())
    )


def _digest(parameters: Parameters) -> str:
    """What the parameters of all pages of one lookup have in common."""
    same = {name: value for name, value in parameters.items() if name not in {"NextToken", "MaxResults"}}
    return hashlib.sha256(json.dumps(same, default=str, sort_keys=True).encode()).hexdigest()[:16]


def _token(parameters: Parameters, last: int) -> str:
    """The token of the page after the event with the number `last`."""
    return base64.urlsafe_b64encode(f"{last}:{_digest(parameters)}".encode()).decode()


def _read_token(parameters: Parameters) -> int:
    """The number that the events of the page must stay below.

    Raises:
        AwsFault: The token is not one of an earlier page of this lookup.
    """
    if (token := parameters.get("NextToken")) is None:
        return 10**18
    try:
        number, _, digest = base64.urlsafe_b64decode(token).decode("ascii").partition(":")
        if number.isdecimal() and digest == _digest(parameters):
            return int(number)
    except ValueError:  # not base64, not ASCII, or too long a number
        pass
    raise AwsFault("InvalidNextTokenException", "The token is invalid, or belongs to a lookup with other parameters.")
