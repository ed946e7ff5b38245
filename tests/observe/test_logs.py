import io
import json
import logging
import subprocess
import sys
import textwrap

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.observe.logs import (
    MAX_MESSAGE_LENGTH,
    MAX_TRACEBACK_LENGTH,
    JsonFormatter,
    TextFormatter,
    configure_logging,
)
from gateway.sections import LoggingSettings

CANARY = "canaryCANARY7c1f"


class Written:
    """A logger whose lines are kept."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self._stream = io.StringIO()
        self.logger = logging.Logger("gateway.test")  # noqa: LOG001  # one of its own, per test
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(formatter)
        self.logger.addHandler(handler)

    def text(self) -> str:
        return self._stream.getvalue()


@pytest.fixture(params=[JsonFormatter, TextFormatter])
def written(request) -> Written:
    return Written(request.param())


def test_a_json_line_has_the_fields_of_a_record():
    written = Written(JsonFormatter())
    try:
        raise KeyError("absent")
    except KeyError:
        written.logger.exception("request %s failed\nbadly", "r-1")

    fields = json.loads(written.text())

    assert written.text().count("\n") == 1
    assert fields.pop("time").endswith("Z")
    assert fields.pop("worker") > 0
    assert fields.pop("traceback").endswith("\nKeyError")
    assert fields == {
        "level": "error",
        "logger": "gateway.test",
        "message": "request r-1 failed\nbadly",
        "exception": "KeyError",
    }


def test_a_text_line_cannot_be_forged_or_paint_the_terminal():
    written = Written(TextFormatter())
    written.logger.warning("path %s", "/x\n2026-01-01 INFO all is well\r\x1b[31m\x9b\u2028")

    assert written.text().count("\n") == 1
    assert "\\n2026-01-01 INFO all is well\\r\\x1b[31m\\x9b\\u2028" in written.text()
    assert "WARNING gateway.test" in written.text()


def model_error() -> Exception:
    class Credentials(BaseModel):
        model_config = ConfigDict(strict=True)
        api_secret: int

    try:
        Credentials(api_secret=CANARY)
    except ValidationError as error:
        return error


def chained() -> Exception:
    error = RuntimeError("outer")
    error.__cause__ = ValueError(f"Bearer {CANARY}")
    return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"pk_{CANARY}"),
        KeyError(f"eyJ{CANARY}.{CANARY}.{CANARY}"),
        ValueError({"api_secret": CANARY}),
        ValueError(json.dumps({"api_key": CANARY})),
        ConnectionError(f"redis://:{CANARY}@redis:6379"),
        ExceptionGroup("several", [ValueError(f"Authorization: {CANARY}")]),
        chained(),
        model_error(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_canary_in_message_or_traceback(written, error):
    local = f"only a local value: {CANARY}"
    try:
        assert local
        raise error
    except Exception:
        written.logger.exception("failed: %s", error)

    assert CANARY not in written.text()
    assert type(error).__name__ in written.text().partition("Traceback")[2]


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("Bearer %s", (CANARY,)),
        ("head %r", ({"X-Primit-API-Key": CANARY},)),
        ("head %r", (((b"X-Primit-API-Key", CANARY.encode()),),)),
        ("too few %s", (f"pk_{CANARY}", 2)),
        (f"body {json.dumps(json.dumps({'api_secret': CANARY}))}", ()),
    ],
)
def test_no_canary_in_arguments(written, message, arguments):
    written.logger.error(message, *arguments)

    assert written.text()
    assert CANARY not in written.text()


def test_a_line_is_bounded_and_keeps_the_end_of_its_traceback(written):
    try:
        raise ValueError("x" * 100_000 + "the end")
    except ValueError:
        written.logger.exception("y" * 100_000)

    assert len(written.text()) < MAX_MESSAGE_LENGTH + MAX_TRACEBACK_LENGTH + 500
    assert "the end" in written.text()


def test_bytes_that_are_not_utf_8_make_valid_json():
    written = Written(JsonFormatter())
    written.logger.error("path %s", "/\udcff")

    assert json.loads(written.text().encode("utf-8"))["message"] == "path /\\udcff"


def test_the_level_and_the_form_are_those_of_the_settings():
    saved = logging.root.handlers[:], logging.root.level, sys.excepthook, sys.unraisablehook
    try:
        stream = io.StringIO()
        configure_logging(LoggingSettings(level="warning", format="text"), stream)
        logging.getLogger("gateway.x").info("quiet")
        logging.getLogger("aiohttp.server").warning("loud")
    finally:
        logging.captureWarnings(False)
        logging.raiseExceptions = True
        logging.root.handlers[:], logging.root.level, sys.excepthook, sys.unraisablehook = saved

    assert stream.getvalue().endswith("loud\n")
    assert stream.getvalue().count("\n") == 1


CRASHES = {
    "main": "fail()",
    "thread": "threading.Thread(target=fail).start()",
    "finalizer": "type('Odd', (), {'__del__': fail})()",
    "warning": "warnings.warn(secret)",
    "callback": "asyncio.run(callback())",
}


@pytest.mark.parametrize("crash", CRASHES.values(), ids=CRASHES)
def test_what_is_uncaught_goes_through_the_log_and_loses_its_secrets(crash):
    script = textwrap.dedent("""
        import asyncio, sys, threading, warnings
        from gateway.observe.logs import configure_logging
        from gateway.settings import LoggingSettings
        configure_logging(LoggingSettings())
        secret = "pk_" + sys.argv[1]
        def fail(*_):
            raise ValueError(secret)
        async def callback():
            asyncio.get_running_loop().call_soon(fail)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script + crash, CANARY], capture_output=True, text=True, check=False
    )

    assert done.stdout == ""
    assert CANARY not in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert len(lines) == 1
    if crash == CRASHES["warning"]:
        assert "pk_***" in lines[0]["message"]
    else:
        assert lines[0]["traceback"].endswith("\nValueError")
