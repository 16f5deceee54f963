"""Requests without their secrets: the one place where fields marked `csi_secret` are taken out."""

from typing import TypeVar

from google.protobuf.message import Message

from hyperpod_ebs.pb import csi_pb2

M = TypeVar("M", bound=Message)


def stripped(message: M) -> M:
    """A copy of `message` in which no secret is left, at any depth."""
    copy = type(message)()
    copy.CopyFrom(message)
    _strip(copy)
    return copy


def terms(request: Message) -> bytes:
    """What is asked, for telling an identical call from a different one.

    Secrets are left out: a rotated one makes no other request.
    """
    return stripped(request).SerializeToString(deterministic=True)


def _strip(message: Message) -> None:
    for field, value in message.ListFields():
        if field.GetOptions().Extensions[csi_pb2.csi_secret]:
            message.ClearField(field.name)
        elif (inside := field.message_type) and not inside.GetOptions().map_entry:
            for inner in value if field.is_repeated else (value,):
                _strip(inner)
