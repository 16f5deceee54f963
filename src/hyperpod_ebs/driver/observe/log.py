"""What the driver tells its operator: one line an event, on stderr, in UTC, without secrets.

Secrets never come here: requests are stripped of them before they are told
(`csi.secrets`), and tracebacks are written without the values of variables.
"""

import logging
import sys
from typing import Final, Literal, TextIO

import structlog

Form = Literal["text", "json"]

_WARNINGS_ONLY: Final = 0
_DETAIL: Final = 4


def level_of(verbosity: int) -> int:
    """The level for klog's number, as the upstream driver takes it: 0 warnings, 1 to 3 calls, from 4 on everything."""
    if verbosity <= _WARNINGS_ONLY:
        return logging.WARNING
    return logging.INFO if verbosity < _DETAIL else logging.DEBUG


def set_up(verbosity: int, form: Form, stream: TextIO = sys.stderr) -> None:
    """Send our events, and the warnings of the libraries that log by themselves, to `stream`."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last = _renderers(form, colors=stream.isatty())
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level_of(verbosity)),
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


def _renderers(form: Form, *, colors: bool) -> list[structlog.typing.Processor]:
    if form == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain, sort_keys=False, pad_event_to=0)]
