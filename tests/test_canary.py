"""No secret ever: not in a log, a metric, an answer, Redis, or the arguments of a process.

One gateway lives through `canary_scenario.py` at the log's level `debug`; then all that it has
written is searched for every canary, in any form.
"""

import asyncio
import base64
import json
from collections.abc import Iterator
from hashlib import sha256

import pytest
from canaries import Canaries
from canary_requests import PATTERNS
from canary_scenario import Aftermath, play
from gateway_process import VAULT_KEY
from redis_process import RedisProcess
from sabotage import ASIDE, CRASHES, STEPS

from gateway.sections import VaultKey
from gateway.store.rights import acl_line
from gateway.vault.encryption import MasterKeys, UndecryptableError


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    folder = tmp_path_factory.mktemp("canary")
    (folder / "redis").mkdir()
    server = RedisProcess(folder / "redis", durable=True)
    canaries = Canaries()
    password = canaries.plant("password of Redis")
    server.options = ["--user", *acl_line("gateway", "gw", "on", f">{password}")[2:]]
    # Redis remembers every command it was sent.
    server.options += ["--slowlog-log-slower-than", "0", "--slowlog-max-len", "1000000"]
    server.start()
    try:
        yield asyncio.run(play(folder, server, canaries, password))
    finally:
        server.kill()


@pytest.mark.parametrize(
    "place",
    [
        *("access log", "process log", "metrics", "probes"),
        *("answers", "Redis", "arguments", "commands", "files"),
    ],
)
def test_no_secret_is_written_anywhere(aftermath: Aftermath, place: str) -> None:
    assert aftermath.places[place], "there is nothing to search"
    assert aftermath.canaries.found_in(place, aftermath.places[place]) == {}


def test_the_documented_rights_in_redis_are_enough(aftermath: Aftermath) -> None:
    for place in ("process log", "commands"):
        assert b"NoPermission" not in aftermath.places[place]
        assert b"no permissions" not in aftermath.places[place]


def test_every_request_ended_as_it_had_to(aftermath: Aftermath) -> None:
    wrong = {name: pair for name, pair in aftermath.statuses.items() if pair[0] != pair[1]}
    assert wrong == {}
    assert len(aftermath.statuses) > 1000


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_met_every_end(aftermath: Aftermath, pattern: str) -> None:
    lines = [line for line in aftermath.log if (line["route"] or "").startswith(f"{pattern}-")]
    assert {line["status"] for line in lines} >= {200, 400, 499, 500, 502, 503, 504}
    ends = {got for name, (_, got) in aftermath.statuses.items() if name.startswith(f"{pattern}:")}
    assert ends >= {405, 429}


def test_every_request_has_one_line_and_every_crash_is_told(aftermath: Aftermath) -> None:
    by_us = sum(not name.startswith("admin: ") for name in aftermath.statuses)
    by_us -= len(aftermath.lineless)
    left = 2 * len(PATTERNS)
    asked_again = sum(line["reason"] == "provider_unavailable" for line in aftermath.log) - 1
    behind_another = 1  # which has its answer, and its line
    assert len(aftermath.log) == by_us + left + asked_again + behind_another
    lines = aftermath.places["process log"].splitlines()
    told = [json.loads(line) for line in lines if line.startswith(b"{")]  # but for faulthandler's
    failed = [line for line in told if line["logger"] == "gateway.pipeline"]
    unwritten = sum(name.endswith(": unwritten") for name in aftermath.lineless)
    assert len(failed) == unwritten + sum(
        line["reason"] == "internal_error" for line in aftermath.log
    )
    assert {line["exception"] for line in failed} >= {"KeyError", "ExceptionGroup", "OSError"}
    assert all("sabotage.py" in line["traceback"] for line in failed)
    beside = [line for line in told if line["logger"] == "gateway.observe"]
    assert len(beside) >= len(PATTERNS) * len(ASIDE)


def test_nothing_of_asyncios_debug_mode_is_told(aftermath: Aftermath) -> None:
    assert b"Executing <" not in aftermath.places["process log"]
    assert b"created at" not in aftermath.places["process log"]


def test_every_way_to_crash_was_tried(aftermath: Aftermath) -> None:
    assert {f"{pattern}: step {called}" for pattern in PATTERNS for called in STEPS} <= set(
        aftermath.statuses
    )
    assert {f"{pattern}: crash {how}" for pattern in PATTERNS for how in CRASHES} <= set(
        aftermath.statuses
    )


def test_secrets_reached_those_they_were_for(aftermath: Aftermath) -> None:
    received = b"\n".join(aftermath.received)
    texts = aftermath.canaries.texts
    for name in (
        *("backend key", "Binance secret, sent", "Binance secret, registered"),
        *("query value", "cookie", "authorization of another scheme", "user agent"),
    ):
        assert texts[name].encode() in received, name
    for name in (
        *("plan key, good", "plan key, spare", "signature of token, good", "forged identity"),
        *("admin token", "token secret", "password of Redis", "proxy authorization"),
    ):
        assert texts[name].encode() not in received, name


def test_redis_knows_plan_keys_by_their_digest_alone(aftermath: Aftermath) -> None:
    for name, key in aftermath.keys.items():
        digest = sha256(key.encode()).hexdigest()
        assert f"gw:key:{digest}".encode() in aftermath.places["Redis"], name


def test_a_registered_key_opens_under_its_own_email_alone(aftermath: Aftermath) -> None:
    master_keys = MasterKeys([VaultKey(id="v1", secret=VAULT_KEY)])
    own, other = aftermath.emails["moved"], aftermath.emails["registered"]
    record = aftermath.vault[f"gw:vault:{own}"]
    opened = master_keys.open(own, record["master_key_id"], record["ciphertext"])
    assert opened.api_secret == aftermath.canaries.texts["Binance secret, moved"]
    with pytest.raises(UndecryptableError):
        master_keys.open(other, record["master_key_id"], record["ciphertext"])


SECRET = "0123456789abcdef01234567"


@pytest.mark.parametrize(
    "content",
    [
        SECRET.encode(),
        SECRET.upper().encode(),
        b"... cut " + SECRET[:12].encode(),
        b"... cut " + SECRET[7:19].encode() + b" ...",
        f"{{'api_secret': '{SECRET}'}}".encode(),
        SECRET.encode().hex().encode(),
        base64.b64encode(f"a:{SECRET}".encode()),
        base64.b64encode(f"ab:{SECRET} and more".encode()),
        base64.urlsafe_b64encode(f"abc:{SECRET}\xff".encode()),
    ],
)
def test_a_canary_is_found_in_any_form(content: bytes) -> None:
    canaries = Canaries()
    canaries.watch("a", SECRET, spare=("elsewhere",))
    canaries.plant("b")
    assert list(canaries.found_in("here", b"before " + content + b" behind")) == ["a"]
    assert canaries.found_in("elsewhere", content) == {}
    assert canaries.found_in("here", content[:-20]) == {} or len(content) > 40


def test_what_is_no_canary_is_not_found() -> None:
    canaries = Canaries()
    canaries.watch("a", SECRET)
    assert canaries.found_in("here", SECRET[:11].encode() + b"-" + SECRET[12:23].encode()) == {}
