"""Writer of answers as XML (protocols ec2 and query).

Writers compiled from the shapes append text to a list. The tags are formatted once, when a
writer is compiled, so writing 500 volumes costs little more than 15,000 appends.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.model import ListShape, MapShape, Shape, StructureShape

from hyperpod_ebs.emulator.wire import scalars
from hyperpod_ebs.emulator.wire.operations import UnknownMember

Append = Callable[[str], None]
Write = Callable[[Any, Append], None]  # takes a value of the shape's type
"""Writes a value with its tags."""

# XML 1.0 cannot represent most control characters, and AWS does not accept them in requests either.
_SPECIAL: Final = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REFERENCES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}


def escape(text: str) -> str:
    """The text as XML character data; a character that XML cannot represent becomes a question mark."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(lambda special: _REFERENCES.get(special[0], "?"), text)


def content_writer(shape: StructureShape, *, element: str | None) -> Write:
    """A writer of the members of an answer, without a tag around them.

    Args:
        shape: The operation's output.
        element: The tag of every list's elements; None for the tags in the model.
    """
    return _Compiler(element).content(shape)


class _Compiler:
    """Compiles writers for the shapes of one operation, each structure once."""

    def __init__(self, element: str | None) -> None:
        self._element = element
        self._contents: dict[str, Write] = {}

    def content(self, shape: StructureShape) -> Write:
        if shape.name in self._contents:
            return self._contents[shape.name]
        members: dict[str, Write] = {}
        # Registered before its members are compiled, because a shape may contain itself.
        write = self._contents[shape.name] = _content(shape.name, members)
        for name, member in shape.members.items():
            members[name] = self._writer(member, member.serialization.get("name", name))
        return write

    def _writer(self, shape: Shape, tag: str) -> Write:
        if isinstance(shape, StructureShape):
            return _element(tag, self.content(shape))
        if isinstance(shape, ListShape):
            return self._list(shape, tag)
        if isinstance(shape, MapShape):
            return self._map(shape, tag)
        return _scalar(tag, scalars.WRITE.get(shape.type_name, escape))

    def _list(self, shape: ListShape, tag: str) -> Write:
        name = shape.member.serialization.get("name")
        if shape.serialization.get("flattened"):
            return _each(self._writer(shape.member, name or tag))
        return _element(tag, _each(self._writer(shape.member, self._element or name or "member")))

    def _map(self, shape: MapShape, tag: str) -> Write:
        key = self._writer(shape.key, shape.key.serialization.get("name") or "key")
        value = self._writer(shape.value, shape.value.serialization.get("name") or "value")

        def pair(item: tuple[Any, Any], append: Append) -> None:
            key(item[0], append)
            value(item[1], append)

        flattened = shape.serialization.get("flattened")
        entries = _each(_element(tag if flattened else "entry", pair))
        whole = entries if flattened else _element(tag, entries)
        return lambda mapping, append: whole(mapping.items(), append)


def _content(shape_name: str, members: Mapping[str, Write]) -> Write:
    def write(value: Mapping[str, Any], append: Append) -> None:
        for name, nested in value.items():
            if nested is None:
                continue
            if (member := members.get(name)) is None:
                raise UnknownMember(f"{shape_name} has no member {name}")
            member(nested, append)

    return write


def _element(tag: str, content: Write) -> Write:
    start, end = f"<{tag}>", f"</{tag}>"

    def write(value: Any, append: Append) -> None:  # Any: passed on
        append(start)
        content(value, append)
        append(end)

    return write


def _each(element: Write) -> Write:
    def write(values: Any, append: Append) -> None:  # Any: an iterable of values of the shape's type
        for value in values:
            element(value, append)

    return write


def _scalar(tag: str, text: scalars.Write) -> Write:
    start, end = f"<{tag}>", f"</{tag}>"

    def write(value: Any, append: Append) -> None:  # Any: a value of the shape's type
        append(start + text(value) + end)

    return write
