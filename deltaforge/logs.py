"""Logs: one line per event on stderr, key=value on a terminal, JSON otherwise. The only file that knows structlog.

Rule 1: `get_logger` may be called at import; what `configure` decides later holds for every logger at once.
Rule 2: secrets are covered twice: in every value before it is rendered, since quoting hides them, and in the line.
Rule 3: a traceback is text made of code lines; local variables are never shown.
Rule 4: the standard library's logging, warnings and the three hooks for uncaught exceptions end in the same lines.
Rule 5: nothing is configured globally by importing this file; a program that embeds deltaforge keeps its own structlog.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

import structlog

from deltaforge import stderr
from deltaforge.config.secret import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict

Format: TypeAlias = Literal["auto", "json", "text"]
LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Logger(Protocol):
    """What the stages log with: a fixed event text, and fields. No row values, ever."""

    def debug(self, event: str, **fields: object) -> None: ...
    def info(self, event: str, **fields: object) -> None: ...
    def warning(self, event: str, **fields: object) -> None: ...
    def error(self, event: str, **fields: object) -> None: ...
    def exception(self, event: str, **fields: object) -> None:
        """As `error`, with the traceback of the exception being handled."""
        ...

    def bind(self, **fields: object) -> Logger:
        """A logger that adds `fields` to every event."""
        ...


class _Output:
    """What `configure` decided; until then text lines from `warning` up."""

    def __init__(self) -> None:
        self.level = LEVELS["warning"]
        self.render: Callable[[object, str, EventDict], str] = _text

    def msg(self, line: str) -> None:
        stderr.say(line)

    debug = info = warning = warn = error = critical = exception = msg


def get_logger(name: str) -> Logger:
    """A logger whose events carry `logger=name`."""
    logger = structlog.wrap_logger(
        _output,
        processors=[_drop_below_level, structlog.processors.add_log_level, _stamp, _traceback, _cover, _render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return cast("Logger", logger.bind(logger=name))


def configure(form: Format = "auto", level: str = "info") -> None:
    """Decide form and level, and take over the process's other ways of logging. `auto` = text on a terminal, else JSON.

    Raises KeyError for a level that is not in LEVELS.
    """
    _output.level = LEVELS[level]
    _output.render = _text if form == "text" or (form == "auto" and os.isatty(2)) else _json
    root = logging.getLogger()
    root.handlers[:] = [_FromStandardLibrary()]
    root.setLevel(_output.level)
    # trio-asyncio and hypercorn speak of their own inner life below `warning`.
    for chatty in ("asyncio", "trio", "trio-asyncio", "hypercorn", "quart"):
        logging.getLogger(chatty).setLevel(max(_output.level, logging.WARNING))
    logging.captureWarnings(True)
    atexit.register(stderr.flush)
    sys.excepthook = lambda kind, error, trace: report_crash(error)
    threading.excepthook = lambda args: report_crash(args.exc_value) if args.exc_value else None
    sys.unraisablehook = lambda args: report_crash(args.exc_value) if args.exc_value else None


def report_crash(error: BaseException) -> None:
    """Write an exception that nobody caught: its traceback, with secrets covered and without local variables."""
    stderr.say("".join(traceback.format_exception(error)).rstrip())


class _FromStandardLibrary(logging.Handler):
    """Turns a record of the standard library's logging into an event of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            log = cast("Any", get_logger(record.name))
            event = "python warning" if record.name == "py.warnings" else record.getMessage()
            fields: dict[str, object] = {}
            if record.name == "py.warnings":
                fields["warning"] = record.getMessage().strip()
            if record.exc_info and record.exc_info[1]:
                fields["exc_info"] = record.exc_info[1]
            log.log(max(record.levelno, logging.DEBUG), event, **fields)
        except Exception as error:
            # A handler must not raise into the code that logs; the class name is all that is safe to say.
            stderr.say(f"deltaforge: a log record of {record.name} could not be shown: {type(error).__name__}")


def _drop_below_level(_: object, method: str, event: EventDict) -> EventDict:
    severity = logging.ERROR if method == "exception" else logging.getLevelName(method.upper())
    if severity < _output.level:
        raise structlog.DropEvent
    return event


_stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)


def _traceback(_: object, method: str, event: EventDict) -> EventDict:
    found = event.pop("exc_info", None)
    error = found if isinstance(found, BaseException) else sys.exc_info()[1] if found else None
    if error is not None:
        event["exception"] = "".join(traceback.format_exception(error)).rstrip()
    return event


def _cover(_: object, method: str, event: EventDict) -> EventDict:
    return {redact(str(key)): _covered(value) for key, value in event.items()}


def _covered(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        # An Lsn is an int that prints in its own way, and JSON has no infinity.
        plain = type(value) in (bool, int, type(None)) or (type(value) is float and math.isfinite(value))
        return value if plain else str(value)
    if isinstance(value, dict):
        return {redact(str(key)): _covered(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_covered(inner) for inner in value]
    return redact(str(value))


def _render(logger: object, method: str, event: EventDict) -> str:
    return _output.render(logger, method, event)


_dump = structlog.processors.JSONRenderer()


def _json(logger: object, method: str, event: EventDict) -> str:
    first = {key: event[key] for key in ("timestamp", "level", "logger", "event") if key in event}
    return cast("str", _dump(logger, method, first | dict(event)))


_console = structlog.dev.ConsoleRenderer(
    colors=False, sort_keys=False, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
)


def _text(logger: object, method: str, event: EventDict) -> str:
    # A line break inside a value would look like a second event.
    lines = {
        key: value.replace("\n", "\\n") if isinstance(value, str) and key != "exception" else value
        for key, value in event.items()
    }
    return _console(logger, method, lines)


_output = _Output()
