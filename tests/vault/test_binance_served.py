"""What clients and operators see of Binance's word and of its faults: live gateway, commands."""

import asyncio
import json
from typing import Any

import pytest
from harness import VAULT_KEY
from redis_process import eventually
from stand_ins import Fault
from typer.testing import CliRunner
from vault_stage import EMAIL, NEW, OTHER, PAIR, STATUS, VERIFY, call, handed_out, register, serving

from gateway.cli import app

VERIFIED = {"success": True, "message": "API 密钥验证成功", "email": EMAIL, "has_api_key": True}
REFUSED = {"success": False, "message": "API 密钥验证失败", "email": EMAIL, "has_api_key": True}
BAN = {"Retry-After": "7"}

# What Binance does instead of its work, what is told of it, and for how long it wants silence.
FAULTS: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "down": ({"fault": Fault.DOWN}, "connection failed", None),
    "slow": ({"fault": Fault.SLOW}, "timeout", None),
    "answers 503": ({"fault": Fault.FAILING}, "HTTP 503", None),
    "answers HTML": ({"answer": (200, b"<html>Sign in</html>")}, "unexpected answer", None),
    "answers 500 with a code": ({"answer": (500, {"code": -2015})}, "HTTP 500", None),
    "answers other JSON": ({"answer": (200, {"code": 0})}, "unexpected answer", None),
    "answers a list": ({"answer": (200, [])}, "unexpected answer", None),
    "answers half a document": ({"answer": (200, b'{"canTrade": tr')}, "unexpected answer", None),
    "answers 5 MiB": ({"answer": (200, b"x" * (5 << 20))}, "unexpected answer", None),
    "redirects": ({"answer": (302, {})}, "HTTP 302", None),
    "has a firewall": ({"answer": (403, b"<html>")}, "HTTP 403", None),
    "is not allowed here": ({"answer": (451, {"code": 0, "msg": "no"})}, "HTTP 451", None),
    "asks for silence": ({"answer": (429, {"code": -1003}), "headers": BAN}, "rate limit", "7"),
    "has banned us": ({"answer": (418, {"code": -1003}), "headers": BAN}, "rate limit", "7"),
    "has a clock of its own": ({"answer": (400, {"code": -1021})}, "timestamp", None),
}
REFUSALS: dict[str, dict[str, Any]] = {
    "does not know the key": {"keys": {}},
    "has another secret": {"keys": dict.fromkeys(("binance-key", "second-key"), "other")},
    "has a key that may not read": {
        "permissions": dict.fromkeys(("binance-key", "second-key"), frozenset())
    },
    "says 401 to it": {"answer": (401, b"")},
}


def arrange(stand_in, how: dict[str, Any]) -> None:
    for name, value in how.items():
        setattr(stand_in, name, value)


@pytest.fixture
async def gateway(redis_url, tmp_path, stand_in, backend):
    async with serving(tmp_path, redis_url, stand_in, backend, timeout=0.5) as running:
        assert (await register(running))[0] == 200
        yield running


@pytest.fixture
def command(redis_url, stand_in, tmp_path, monkeypatch):
    """Runs a command on the same Redis, beside the gateway."""
    monkeypatch.chdir(tmp_path)
    environ = {
        "GATEWAY_STORE__URL": redis_url,
        "GATEWAY_VAULT_KEY": VAULT_KEY,
        "GATEWAY_VAULT__BINANCE_URL": stand_in.base_url,
        "GATEWAY_VAULT__TIMEOUT": "0.5",
    }

    async def run(*words: str):
        words = (*words, "--config", "none.yaml")
        (tmp_path / "none.yaml").write_text("")
        return await asyncio.to_thread(CliRunner(env=environ).invoke, app, words)

    return run


async def record(gateway, email: str = EMAIL) -> dict[str, str]:
    fields: dict[str, str] = await gateway.parts.store.client.hgetall(f"gw:vault:{email}")
    return fields


@pytest.mark.parametrize("name", FAULTS)
async def test_binance_that_can_not_be_asked_is_a_502_and_nothing_changes(
    gateway, stand_in, backend, command, name
):
    how, reason, retry_after = FAULTS[name]
    before = await record(gateway)
    detail = {"detail": f"Binance请求失败: {reason}"}
    arrange(stand_in, how)
    status, answer, headers = await call(gateway, VERIFY, {"email": EMAIL})
    assert (status, answer, headers.get("Retry-After")) == (502, detail, retry_after)
    status, answer, _ = await register(gateway, NEW)
    assert (status, answer) == (502, detail)
    said = await command("vault", "verify", EMAIL)
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr == f"error: {detail['detail']}\n"
    assert await record(gateway) == before
    assert await handed_out(gateway, backend) == {**PAIR, "email": EMAIL}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_key_that_binance_refuses_is_told_as_one_and_noted(
    gateway, stand_in, backend, command, name
):
    arrange(stand_in, REFUSALS[name])
    assert (await call(gateway, VERIFY, {"email": EMAIL}))[:2] == (200, REFUSED)
    assert (await record(gateway))["verification_status"] == "invalid"
    assert (await register(gateway, NEW))[:2] == (200, REFUSED)
    said = await command("vault", "verify", EMAIL)
    assert said.exit_code == 1
    assert "verification_status: invalid" in said.stdout
    assert said.stderr == "error: Binance does not take this key\n"
    assert await handed_out(gateway, backend) == {**PAIR, "email": EMAIL}


@pytest.mark.parametrize("ahead_ms", [-30_000, 30_000])
async def test_a_clock_that_is_30_s_off_changes_nothing(gateway, stand_in, command, ahead_ms):
    stand_in.ahead_ms = ahead_ms
    assert (await call(gateway, VERIFY, {"email": EMAIL}))[:2] == (200, VERIFIED)
    assert (await register(gateway, NEW))[1]["success"] is True
    assert (await command("vault", "verify", EMAIL)).exit_code == 0


async def test_a_redirect_is_not_followed(gateway, stand_in):
    stand_in.answer = (302, {})
    asked = stand_in.asked
    await call(gateway, VERIFY, {"email": EMAIL})
    assert stand_in.asked == asked + 1


async def test_nobody_listening_is_a_502(redis_url, tmp_path, stand_in, backend):
    nobody = {"binance_url": "http://127.0.0.1:1"}
    async with serving(tmp_path, redis_url, stand_in, backend, **nobody) as gateway:
        await gateway.parts.vault.add(EMAIL, *PAIR.values())
        status, answer, _ = await call(gateway, VERIFY, {"email": EMAIL})
        assert (status, answer) == (502, {"detail": "Binance请求失败: connection failed"})


async def test_an_operator_sees_what_a_key_may_do(gateway, stand_in, command):
    stand_in.permissions["binance-key"] = frozenset({"enableReading", "enableWithdrawals"})
    said = await command("vault", "verify", EMAIL, "--output", "json")
    assert said.exit_code == 0
    verified = json.loads(said.stdout)
    assert verified["verification_status"] == "verified"
    assert verified["permissions"] == ["enableReading", "enableWithdrawals"]
    assert verified["can_withdraw"] is True
    assert json.loads((await command("vault", "show", EMAIL, "--output", "json")).stdout) == (
        verified
    )
    assert json.loads((await command("vault", "list", "--output", "json")).stdout) == [verified]
    assert json.loads(json.dumps(verified)).keys().isdisjoint({"ciphertext", "api_key"})


async def test_permissions_once_known_stay_while_they_are_not_told(gateway, stand_in):
    stand_in.permissions["binance-key"] = frozenset({"enableReading", "enableWithdrawals"})
    await call(gateway, VERIFY, {"email": EMAIL})
    stand_in.told = (500, b"")
    assert (await call(gateway, VERIFY, {"email": EMAIL}))[:2] == (200, VERIFIED)
    assert (await record(gateway))["permissions"] == "enableReading,enableWithdrawals"


async def test_what_was_asked_is_counted(gateway, stand_in):
    await call(gateway, VERIFY, {"email": EMAIL})
    stand_in.keys.clear()
    await call(gateway, VERIFY, {"email": EMAIL})
    stand_in.fault = Fault.DOWN
    await call(gateway, VERIFY, {"email": EMAIL})
    text = gateway.parts.metrics.render()[0].decode()
    for result, count in {"verified": 2, "invalid": 1, "unreachable": 1}.items():
        assert f'gateway_vault_verifications_total{{result="{result}"}} {count}.0' in text


# How often Binance is asked.


async def test_who_asks_while_binance_is_asked_shares_the_answer(gateway, stand_in):
    stand_in.fault = Fault.SLOW
    asked = stand_in.account_asked
    waiting = asyncio.gather(*(call(gateway, VERIFY, {"email": EMAIL}) for _ in range(20)))
    await eventually(lambda: stand_in.most_at_once > 0 and stand_in.asked > asked)
    stand_in.fault = None
    stand_in.release()
    assert [answer[:2] for answer in await waiting] == [(200, VERIFIED)] * 20
    assert stand_in.most_at_once == 1
    assert stand_in.account_asked == asked + 1


async def test_binances_last_word_stands_for_a_while_over_all_gateways(
    redis_url, tmp_path, stand_in, backend
):
    few = {"verify_every": 60}
    async with (
        serving(tmp_path / "one", redis_url, stand_in, backend, **few) as one,
        serving(tmp_path / "two", redis_url, stand_in, backend, **few) as two,
    ):
        await one.parts.vault.add(EMAIL, *PAIR.values())
        answers = await asyncio.gather(
            *(call(gateway, VERIFY, {"email": EMAIL}) for gateway in (one, two) * 10)
        )
        stand_in.keys.clear()
        answers += [await call(gateway, VERIFY, {"email": EMAIL}) for gateway in (one, two)]
        assert [answer[:2] for answer in answers] == [(200, VERIFIED)] * 22
        assert (stand_in.account_asked, stand_in.most_at_once) == (1, 1)


async def test_a_key_that_was_replaced_is_asked_for_anew(redis_url, tmp_path, stand_in, backend):
    async with serving(tmp_path, redis_url, stand_in, backend, verify_every=60) as gateway:
        await register(gateway)
        await gateway.parts.vault.add(EMAIL, "unknown-key", "unknown-secret")
        assert (await call(gateway, VERIFY, {"email": EMAIL}))[:2] == (200, REFUSED)


async def test_a_command_asks_whatever_was_said_before(
    redis_url, tmp_path, stand_in, backend, command
):
    async with serving(tmp_path, redis_url, stand_in, backend, verify_every=60) as gateway:
        await register(gateway)
        stand_in.keys.clear()
        assert (await call(gateway, VERIFY, {"email": EMAIL}))[1] == VERIFIED
        assert (await command("vault", "verify", EMAIL)).exit_code == 1
        assert (await call(gateway, VERIFY, {"email": EMAIL}))[1] == REFUSED


async def test_when_binance_asks_for_silence_no_gateway_asks_it(
    redis_url, tmp_path, stand_in, backend
):
    async with (
        serving(tmp_path / "one", redis_url, stand_in, backend) as one,
        serving(tmp_path / "two", redis_url, stand_in, backend) as two,
    ):
        for email in (EMAIL, OTHER):
            await one.parts.vault.add(email, *PAIR.values())
        stand_in.answer, stand_in.headers = (418, {"code": -1003}), {"Retry-After": "3600"}
        assert (await call(one, VERIFY, {"email": EMAIL}))[0] == 502
        stand_in.answer, asked = None, stand_in.asked
        for gateway, email in ((one, EMAIL), (two, EMAIL), (two, OTHER)):
            status, answer, headers = await call(gateway, VERIFY, {"email": email})
            assert (status, answer) == (502, {"detail": "Binance请求失败: rate limit"})
            assert 3500 < int(headers["Retry-After"]) <= 3600
        assert (await register(two))[0] == 502
        assert stand_in.asked == asked


async def test_a_flood_is_bounded_and_leaves_some_for_who_registers(
    redis_url, tmp_path, stand_in, backend
):
    async with serving(tmp_path, redis_url, stand_in, backend, verifications=8) as gateway:
        emails = [f"u{number}@example.com" for number in range(30)]
        for email in emails:
            await gateway.parts.vault.add(email, *PAIR.values())
        answers = await asyncio.gather(
            *(call(gateway, VERIFY, {"email": email}) for email in emails)
        )
        statuses = [status for status, _, _ in answers]
        assert (statuses.count(200), statuses.count(502)) == (6, 24)
        assert stand_in.account_asked == 6
        assert all(
            0 < int(headers["Retry-After"]) <= 60 for status, _, headers in answers if status == 502
        )
        assert [(await register(gateway))[0] for _ in range(3)] == [200, 200, 502]
        assert stand_in.account_asked == 8
        # A minute is over: by Redis's clock, so the book is dated back.
        began = int(await gateway.parts.store.client.hget("gw:binance", "since"))
        await gateway.parts.store.client.hset("gw:binance", "since", str(began - 60_000))
        assert (await register(gateway))[0] == 200


async def test_status_asks_nobody_but_redis(gateway, stand_in):
    asked = stand_in.asked
    assert (await call(gateway, STATUS + EMAIL, method="GET"))[0] == 200
    assert stand_in.asked == asked
