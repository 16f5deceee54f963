"""Calls as CloudTrail's events.

Source: AWS CloudTrail User Guide, "CloudTrail record contents for management events" and
"CloudTrail userIdentity element".
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from hyperpod_ebs.emulator.call_log import Entry, Signer
from hyperpod_ebs.emulator.state.region import Region
from hyperpod_ebs.emulator.wire.operations import Answer
from hyperpod_ebs.iam.request import PrincipalType

_READS: Final = ("Describe", "Get", "List", "Lookup", "Simulate", "Generate", "AssumeRole")
_OTHER_READS: Final = frozenset({"Decrypt", "Encrypt", "ReEncrypt", "DecodeAuthorizationMessage"})
"""Further operations that change nothing (KMS Developer Guide, "Logging AWS KMS API calls with AWS CloudTrail")."""

_TYPES: Final[Mapping[str, str]] = {
    "vol-": "AWS::EC2::Volume",
    "snap-": "AWS::EC2::Snapshot",
    "i-": "AWS::EC2::Instance",
}
"""The types of resources by the start of their ids."""

_SESSION_TYPE: Final[Mapping[PrincipalType, str]] = {
    PrincipalType.ACCOUNT: "Root",
    PrincipalType.USER: "IAMUser",
    PrincipalType.ROLE_SESSION: "AssumedRole",
}


@dataclass(frozen=True, slots=True)
class Event:
    """A call as an event."""

    entry: Entry
    region: Region

    @property
    def seconds(self) -> int:
        """When the call began, in whole seconds since the epoch, as events have it."""
        return int(self.entry.began)

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """What LookupEvents can filter by, and the event's values for it."""
        service, _, name = self.entry.operation.partition(":")
        signer, resources = self.entry.signer, self.entry.resources
        return {
            "EventId": frozenset({self._id}),
            "EventName": frozenset({name}),
            "EventSource": frozenset({f"{service}.amazonaws.com"}),
            "ReadOnly": frozenset({str(_is_read(name)).lower()}),
            "Username": frozenset({_user_name(signer)} if signer else ()),
            "AccessKeyId": frozenset({signer.key_id} if signer else ()),
            "ResourceName": frozenset(resources),
            "ResourceType": frozenset(type_ for each in resources if (type_ := _type(each))),
        }

    def answer(self) -> Answer:
        """The event in the answer of LookupEvents."""
        attributes = self.attributes()
        texts = {
            name: next(iter(attributes[name]), None)
            for name in ("EventId", "EventName", "EventSource", "ReadOnly", "Username", "AccessKeyId")
        }
        return {
            **texts,
            "EventTime": datetime.fromtimestamp(self.seconds, UTC),
            "Resources": [{"ResourceType": _type(name), "ResourceName": name} for name in self.entry.resources],
            "CloudTrailEvent": json.dumps(self._record(), separators=(",", ":")),
        }

    @property
    def _id(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, self.entry.request_id))

    def _record(self) -> Mapping[str, Any]:  # Any: JSON
        entry = self.entry
        service, _, name = entry.operation.partition(":")
        error = {} if entry.outcome == "ok" else {"errorCode": _error_code(service, entry)}
        return {
            "eventVersion": "1.11",
            "userIdentity": _user_identity(entry.signer),
            "eventTime": f"{datetime.fromtimestamp(self.seconds, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "eventSource": f"{service}.amazonaws.com",
            "eventName": name,
            "awsRegion": self.region.name,
            "sourceIPAddress": entry.source_ip,
            "userAgent": entry.agent,
            **error,
            "requestParameters": None,
            "responseElements": None,
            "requestID": entry.request_id,
            "eventID": self._id,
            "readOnly": _is_read(name),
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": self.region.account,
            "eventCategory": "Management",
        }


def _is_read(operation: str) -> bool:
    return operation.startswith(_READS) or operation in _OTHER_READS


def _type(resource: str) -> str | None:
    return next((type_ for start, type_ in _TYPES.items() if resource.startswith(start)), None)


def _error_code(service: str, entry: Entry) -> str:
    """The error's code; EC2's says whose fault it is (EC2 API Reference, "Error codes")."""
    if service != "ec2":
        return entry.outcome
    return f"{'Server' if entry.outcome.startswith('Internal') else 'Client'}.{entry.outcome}"


def _user_name(signer: Signer) -> str:
    """The name of a user or a role session, which ends its ARN."""
    return "root" if signer.principal.type is PrincipalType.ACCOUNT else signer.principal.arn.rpartition("/")[2]


def _user_identity(signer: Signer | None) -> Mapping[str, Any]:  # Any: JSON
    if signer is None:
        return {"type": "Unknown"}
    principal = signer.principal
    identity: dict[str, Any] = {  # Any: JSON
        "type": _SESSION_TYPE.get(principal.type, "Unknown"),
        "principalId": signer.user_id,
        "arn": principal.arn,
        "accountId": principal.account,
        "accessKeyId": signer.key_id,
    }
    if principal.type is PrincipalType.USER:
        identity["userName"] = _user_name(signer)
    if signer.issued is not None:
        identity["sessionContext"] = _session_context(signer, signer.issued)
    return identity


def _session_context(signer: Signer, issued: float) -> Mapping[str, Any]:  # Any: JSON
    principal = signer.principal
    attributes = {
        "creationDate": f"{datetime.fromtimestamp(int(issued), UTC):%Y-%m-%dT%H:%M:%SZ}",
        "mfaAuthenticated": str(signer.has_mfa).lower(),
    }
    if not principal.role:
        return {"attributes": attributes}
    issuer = {
        "type": "Role",
        "principalId": principal.unique_id,
        "arn": principal.role,
        "accountId": principal.account,
        "userName": principal.role.rpartition("/")[2],
    }
    return {"sessionIssuer": issuer, "attributes": attributes}
