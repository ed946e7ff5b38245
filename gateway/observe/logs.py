"""The process's own log: what the gateway and its libraries say, on standard error.

Rules: one record is one line, JSON or text, of a bounded length. A traceback holds types, places
and code: never values of variables, and never an exception's own words, which quote what it failed
on (`KeyError`, `int()`, any library). Everything passes `redact` before it is written, uncaught
exceptions and warnings too: a part that logs a secret by mistake does not publish it.
"""

import asyncio
import json
import logging
import re
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any, TextIO

from gateway.observe.redaction import redact
from gateway.sections import LoggingSettings

# Together below PIPE_BUF for all but exotic text, so that lines of workers don't mix on a pipe.
MAX_MESSAGE_LENGTH = 1000
MAX_TRACEBACK_LENGTH = 2400
MAX_READ_LENGTH = 16_384

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

logger = logging.getLogger("gateway.observe")


def configure_logging(options: LoggingSettings, stream: TextIO | None = None) -> None:
    """Send all records of the process to `stream` (standard error), and what is uncaught too."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if options.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(options.level.upper())
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # else a handler that fails prints the record unredacted
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable


class RedactingFormatter(logging.Formatter):
    """The parts of a record, redacted and bounded."""

    def message(self, record: logging.LogRecord) -> str:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001  # wrong arguments: the message is still worth its line
            message = str(record.msg)
        return _shortened(redact(message[:MAX_READ_LENGTH]), MAX_MESSAGE_LENGTH)

    def exception(self, record: logging.LogRecord) -> tuple[str, str] | None:
        """Type and traceback. Its end says most: what is too long loses its beginning."""
        if not record.exc_info or record.exc_info[1] is None:
            return None
        text = redact(wordless(record.exc_info[1])[-MAX_READ_LENGTH:])
        if len(text) > MAX_TRACEBACK_LENGTH:
            text = "…" + text[1 - MAX_TRACEBACK_LENGTH :]
        return type(record.exc_info[1]).__qualname__, text

    def time(self, record: logging.LogRecord) -> str:
        moment = time.gmtime(record.created)
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{int(record.msecs):03d}Z"


class JsonFormatter(RedactingFormatter):
    """One object a line; `worker` is the process id, `exception` the type of one."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": self.time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _without_surrogates(self.message(record)),
            "worker": record.process,
        }
        if exception := self.exception(record):
            fields["exception"] = exception[0]
            fields["traceback"] = _without_surrogates(exception[1])
        return json.dumps(fields, ensure_ascii=False)


class TextFormatter(RedactingFormatter):
    """For people; the lines of a traceback are indented, control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        message = _CONTROL.sub(_escaped, self.message(record))
        line = (
            f"{self.time(record)} {record.levelname:<7} {record.name} [{record.process}] {message}"
        )
        if exception := self.exception(record):
            lines = (_CONTROL.sub(_escaped, line) for line in exception[1].split("\n"))
            line += "\n    " + "\n    ".join(lines)
        return line


def wordless(error: BaseException) -> str:
    """Tracebacks of an exception, of those in its group, and of what it came from, that one first.

    Of an OSError its number is told too.
    """
    told: list[str] = []
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        members = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        told += [wordless(member) for member in reversed(members)]
        number = f" {each.errno}" if isinstance(each, OSError) and each.errno else ""
        frames = "".join(traceback.format_tb(each.__traceback__))
        told.append(f"Traceback (most recent call last):\n{frames}{type(each).__name__}{number}")
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "\n\n".join(reversed(told))


def log_unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: asyncio's own quotes the arguments of calls, and tasks."""
    message = context["message"].partition(" in callback ")[0]
    logger.error("%s", message, exc_info=context.get("exception"))


def _shortened(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _without_surrogates(text: str) -> str:
    """Bytes that were not UTF-8 stand in a text as surrogates, which JSON parsers refuse."""
    return text.encode("utf-8", "backslashreplace").decode()


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logger.critical("uncaught exception", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        name = args.thread.name if args.thread else "?"
        info = (args.exc_type, args.exc_value, args.exc_traceback)
        logger.critical("uncaught exception in thread %s", name, exc_info=info)


def _log_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    if unraisable.exc_value is not None:
        info = (unraisable.exc_type, unraisable.exc_value, unraisable.exc_traceback)
        logger.error("%s", unraisable.err_msg or "exception ignored", exc_info=info)
