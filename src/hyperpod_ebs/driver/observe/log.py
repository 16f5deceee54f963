"""The log: one line for each event, on stderr, in UTC, without secrets.

`csi.parse` removes the secrets from requests before they are logged, and tracebacks do not contain
the values of variables.
"""

import logging
import sys
from typing import Final, Literal, TextIO

import structlog

Format = Literal["text", "json"]

MAX_FIELD: Final = 8192
"""Characters of a field: a caller may send a name of megabytes, and each line about it would have the name."""

_ELLIPSIS: Final = " … "
_WARNINGS_ONLY: Final = 0
_DEBUG: Final = 4


def level_for(verbosity: int) -> int:
    """The log level for klog's verbosity, as the upstream driver takes it: 0 warnings, 1 to 3 info, 4 or more debug."""
    if verbosity <= _WARNINGS_ONLY:
        return logging.WARNING
    return logging.INFO if verbosity < _DEBUG else logging.DEBUG


def configure(verbosity: int, format_: Format, stream: TextIO = sys.stderr) -> None:
    """Write the driver's events to `stream`, and the warnings of libraries that use Python's own logging."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last = _renderers(format_, colors=stream.isatty())
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level_for(verbosity)),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)


def bound_fields(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Cut the middle out of each field that is too long."""
    for name, value in event.items():
        if isinstance(value, bool | int | float | None):
            continue
        text = value if isinstance(value, str) else str(value)
        if len(text) > MAX_FIELD:
            event[name] = text[: MAX_FIELD // 2] + _ELLIPSIS + text[-MAX_FIELD // 2 :]
    return event


def _renderers(format_: Format, *, colors: bool) -> list[structlog.typing.Processor]:
    bounded: list[structlog.typing.Processor] = [structlog.processors.format_exc_info, bound_fields]
    if format_ == "json":
        return [*bounded, structlog.processors.JSONRenderer(default=str)]
    plain = structlog.dev.plain_traceback
    renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain, sort_keys=False, pad_event_to=0)
    return [*bounded, renderer]
