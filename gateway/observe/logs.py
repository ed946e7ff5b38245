"""The process's own log: what the gateway and its libraries say, on standard error.

Rules: one record is one line, JSON or text, of a bounded length. Tracebacks hold code, never
values of variables. Everything passes `redact` before it is written, messages and tracebacks,
uncaught exceptions and warnings too: a part that logs a secret by mistake does not publish it.
"""

import json
import logging
import re
import sys
import threading
import time
from types import TracebackType
from typing import Any, TextIO

from gateway.observe.redaction import redact
from gateway.settings import LoggingSettings

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
        if not record.exc_info or record.exc_info[0] is None:
            return None
        text = redact(self.formatException(record.exc_info)[-MAX_READ_LENGTH:])
        if len(text) > MAX_TRACEBACK_LENGTH:
            text = "…" + text[1 - MAX_TRACEBACK_LENGTH :]
        return record.exc_info[0].__qualname__, text

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
