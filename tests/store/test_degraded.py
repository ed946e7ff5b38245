"""When a degraded mode begins and ends, what is said of it, and what an error says of Redis."""

import logging

import pytest
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.store.degraded import DegradedMode
from gateway.store.standing import Meaning, meaning, refusal_of_writes

SCRIPT = "ERR Error running script (call to f_1): @user_script:2: @user_script: 2: -"


@pytest.mark.parametrize(
    ("error", "means", "word"),
    [
        (TimeoutError(), Meaning.NO_ANSWER, None),
        (ConnectionRefusedError(), Meaning.NO_ANSWER, None),
        (RedisConnectionError("closed"), Meaning.NO_ANSWER, None),
        (RedisTimeoutError(), Meaning.NO_ANSWER, None),
        (BusyLoadingError("loading"), Meaning.NO_ANSWER, None),
        (ResponseError("BUSY Redis is busy running a script."), Meaning.NO_ANSWER, None),
        (ReadOnlyError("You can't write"), Meaning.NO_WRITES, "READONLY"),
        (ResponseError("READONLY You can't write"), Meaning.NO_WRITES, "READONLY"),
        (ResponseError(f"{SCRIPT}READONLY You can't"), Meaning.NO_WRITES, "READONLY"),
        (ResponseError("ERR READONLY, says a proxy"), Meaning.NO_WRITES, "READONLY"),
        (
            RedisConnectionError("The previous master is now a slave"),
            Meaning.NO_WRITES,
            "READONLY",
        ),
        (OutOfMemoryError("command not allowed"), Meaning.NO_WRITES, "OOM"),
        (ResponseError(f"{SCRIPT}OOM command not allowed"), Meaning.NO_WRITES, "OOM"),
        (ResponseError("NOREPLICAS Not enough"), Meaning.NO_WRITES, "NOREPLICAS"),
        (ResponseError("MISCONF Redis is configured"), Meaning.NO_WRITES, "MISCONF"),
        (ResponseError("WRONGTYPE Operation against"), Meaning.MISTAKE, None),
        (NoScriptError("No matching script"), Meaning.MISTAKE, None),
    ],
    ids=str,
)
def test_an_error_says_whether_redis_answers_and_takes_writes(
    error: Exception, means: Meaning, word: str | None
) -> None:
    assert (meaning(error), refusal_of_writes(error)) == (means, word)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_mode_is_told_when_it_begins_and_when_it_ends_with_how_long_and_how_many(caplog) -> None:
    mode = DegradedMode("limits")
    mode.look(10.0, down=False, why="no answer", decided=3)
    assert mode.since == 10.0, "something was decided so between two looks"
    mode.look(10.5, down=True, why="OOM", decided=5)
    mode.look(11.0, down=False, why="OOM", decided=6)
    assert mode.since == 10.0, "not over while something still was decided so"
    mode.look(12.5, down=False, why="OOM", decided=6)
    mode.look(13.0, down=False, why="OOM", decided=6)
    assert mode.since is None
    assert told(caplog) == [
        "limits: decided without Redis from now on (no answer)",
        "limits: decided with Redis again; it was without for 2.5 s, for 6 requests",
    ]


def test_what_counts_being_replaced_is_no_decision(caplog) -> None:
    mode = DegradedMode("limits")
    mode.look(1.0, down=True, why="no answer", decided=5)
    mode.look(2.0, down=False, why="no answer", decided=0)
    assert mode.since is None
    mode.look(3.0, down=True, why="READONLY", decided=2)
    mode.look(4.0, down=False, why="READONLY", decided=2)
    assert told(caplog)[-1].endswith("for 1.0 s, for 2 requests"), "those before are not counted"
