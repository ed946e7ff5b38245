"""`inject: true` on a live gateway: credentials come in, and not one byte of the rest changes."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from backend import RawBackend
from binance_stand_in import BinanceStandIn
from hypothesis import given, settings
from hypothesis import strategies as st
from vault_stage import EMAIL, OTHER, PAIR, VERIFY, bearer, call, handed_out, serving

INJECTED = b'"api_key": "binance-key", "api_secret": "binance-secret", '
OWN = {"email", "api_key", "api_secret"}

# JSON as others spell it: the very text, not what it means.
BLANKS = st.text(" \t\r\n", max_size=3)
NUMBERS = st.from_regex(
    r"\A-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?\Z", fullmatch=True
)
PLAIN = st.characters(min_codepoint=0x20, exclude_characters='"\\', exclude_categories=["Cs"])
ESCAPES = st.one_of(
    st.sampled_from([r"\"", r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t", r"\u0000"]),
    st.integers(0, 0xFFFF).map(lambda code: f"\\u{code:04x}"),
    st.integers(0, 0xFFFF).map(lambda code: f"\\u{code:04X}"),
)
STRINGS = st.lists(PLAIN | ESCAPES, max_size=8).map(lambda parts: f'"{"".join(parts)}"')
LITERALS = st.sampled_from(["true", "false", "null"])


def joined(items: list[str], blanks: list[str]) -> str:
    """Items with commas, and blanks around each."""
    return ",".join(
        before + item + behind
        for item, before, behind in zip(items, blanks[::2], blanks[1::2], strict=False)
    )


@st.composite
def arrays(draw: Any, values: Any) -> str:
    items = draw(st.lists(values, max_size=4))
    blanks = [draw(BLANKS) for _ in range(2 * len(items) + 2)]
    return f"[{joined(items, blanks) if items else blanks[0]}]"


@st.composite
def members(draw: Any, values: Any, most: int = 4) -> list[str]:
    """Names with values; no name twice, however it is spelled."""
    names = draw(st.lists(STRINGS, max_size=most, unique_by=json.loads))
    return [
        f"{name}{draw(BLANKS)}:{draw(BLANKS)}{draw(values)}"
        for name in names
        if json.loads(name) not in OWN
    ]


@st.composite
def objects(draw: Any, values: Any) -> str:
    items = draw(members(values))
    blanks = [draw(BLANKS) for _ in range(2 * len(items) + 2)]
    return f"{{{joined(items, blanks) if items else blanks[0]}}}"


VALUES = st.recursive(
    NUMBERS | STRINGS | LITERALS,
    lambda values: arrays(values) | objects(values),
    max_leaves=12,
)
EMAIL_MEMBERS = st.sampled_from(
    [
        f'"email":"{EMAIL}"',
        f'"email" : " {EMAIL.upper()}\\n"',
        f'"\\u0065mail":"{EMAIL.replace("@", chr(92) + "u0040")}"',
    ]
)


@st.composite
def bodies(draw: Any) -> bytes:
    """A body that names the email anywhere among other members."""
    items = draw(members(VALUES, most=6))
    items.insert(draw(st.integers(0, len(items))), draw(EMAIL_MEMBERS))
    blanks = [draw(BLANKS) for _ in range(2 * len(items) + 2)]
    return f"{blanks[-1]}{{{joined(items, blanks)}}}{blanks[-2]}".encode()


def test_not_a_byte_of_the_rest_changes(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        backend = runner.run(RawBackend().start())
        binance = runner.run(stack.enter_async_context(BinanceStandIn()))
        gateway = runner.run(
            stack.enter_async_context(serving(tmp_path, "memory://", binance, backend))
        )
        runner.run(gateway.parts.vault.add(EMAIL, *PAIR.values()))

        async def send(body: bytes, *, chunked: bool) -> int:
            async def pieces() -> Any:
                for start in range(0, len(body), 7):
                    yield body[start : start + 7]

            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    f"{gateway.url}/injected", data=pieces() if chunked else body
                ) as answer,
            ):
                return answer.status

        @settings(max_examples=150, deadline=None, derandomize=True, database=None)
        @given(bodies(), st.booleans())
        def check(body: bytes, chunked: bool) -> None:  # noqa: FBT001  # hypothesis gives it
            assert runner.run(send(body, chunked=chunked)) == 200
            start = body.index(b"{") + 1
            assert backend.last.body == body[:start] + INJECTED + body[start:]
            sent = json.loads(body, object_pairs_hook=list)
            assert json.loads(backend.last.body, object_pairs_hook=list) == [*PAIR.items(), *sent]

        try:
            check()
        finally:
            runner.run(stack.aclose())
            runner.run(backend.stop())


@pytest.mark.parametrize(
    ("body", "loc", "kind"),
    [
        (b'{"email": "user@example.com", "a": 1, "a": 1}', ["body"], "json_invalid"),
        (b'{"email": "user@example.com", "x": {"a": 1, "\\u0061": 1}}', ["body"], "json_invalid"),
        (
            b'{"email": "user@example.com", "api_key": "k"}',
            ["body", "api_key"],
            "extra_forbidden",
        ),
        (
            b'{"email": "user@example.com", "api\\u005fsecret": null}',
            ["body", "api_secret"],
            "extra_forbidden",
        ),
        (b'{"email": "user@example.com"} {}', ["body", 30], "json_invalid"),
        (b'\xef\xbb\xbf{"email": "user@example.com"}', ["body", 0], "json_invalid"),
    ],
)
async def test_what_two_readers_could_read_differently_never_gets_credentials(
    gateway, backend, body, loc, kind
):
    await gateway.parts.vault.add(EMAIL, *PAIR.values())
    status, answer, _ = await call(gateway, "/injected", body)
    assert status == 422
    assert [(each["loc"], each["type"]) for each in answer["detail"]] == [(loc, kind)]
    assert backend.requests == []


async def test_ciphertexts_that_were_swapped_in_redis_open_for_nobody(gateway, backend, stand_in):
    vault, client = gateway.parts.vault, gateway.parts.store.client
    await vault.add(EMAIL, *PAIR.values())
    await vault.add(OTHER, "second-key", "second-secret")
    names = [f"gw:vault:{email}" for email in (EMAIL, OTHER)]
    one, two = [await client.hget(name, "ciphertext") for name in names]
    await client.hset(names[0], "ciphertext", two)
    await client.hset(names[1], "ciphertext", one)
    for email, user in ((EMAIL, 1), (OTHER, 2)):
        for path in ("/registered", "/injected", VERIFY):
            status, answer, headers = await call(gateway, path, {"email": email})
            assert (status, answer) == (503, {"detail": "Service Unavailable"})
            assert headers["Retry-After"] == "60"
        assert (await call(gateway, "/owned", {"email": email}, bearer(user)))[0] == 503
    assert (backend.requests, stand_in.asked) == ([], 0)
    await client.hset(names[0], "ciphertext", one)
    assert await handed_out(gateway, backend) == {**PAIR, "email": EMAIL}


async def test_who_must_prove_to_own_the_email_learns_nothing_of_others(gateway, backend):
    """A registered email and an unknown one: the same answer, before anything is looked up."""
    await gateway.parts.vault.add(EMAIL, *PAIR.values())
    answers = [
        await call(gateway, "/owned", {"email": email}, bearer(2))
        for email in (EMAIL, "nobody@example.com")
    ]
    assert {(status, answer["detail"]) for status, answer, _ in answers} == {
        (403, "The email is not the caller's")
    }


async def test_a_key_that_is_switched_off_looks_like_none(gateway, backend):
    await gateway.parts.vault.add(EMAIL, *PAIR.values())
    await gateway.parts.vault.switch(EMAIL, on=False)
    answers = [
        (await call(gateway, path, {"email": email}))[:2]
        for path in ("/registered", "/injected")
        for email in (EMAIL, "nobody@example.com")
    ]
    assert answers == [answers[0]] * 4
    assert answers[0][0] == 403
