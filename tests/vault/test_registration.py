"""POST and DELETE /api-key/register on a live gateway."""

import asyncio
import json

import pytest
from vault_stage import (
    EMAIL,
    NEW,
    NOT_REGISTERED,
    OTHER,
    PAIR,
    REGISTER,
    STATUS,
    bearer,
    call,
    handed_out,
    register,
    serving,
    withdraw,
)

DONE = {"success": True, "message": "API 密钥注册成功", "email": EMAIL, "has_api_key": True}
REFUSED = {"success": False, "message": "API 密钥验证失败", "email": EMAIL}
WITHDRAWN = {"success": True, "message": "API 密钥已删除", "email": EMAIL, "has_api_key": False}
INVALID = 'Bearer realm="primit", error="invalid_token"'


async def test_a_user_registers_a_key_and_routes_hand_it_out_at_once(gateway, backend):
    assert await handed_out(gateway, backend) == 403
    status, answer, _ = await register(gateway)
    assert (status, answer) == (200, DONE)
    assert await handed_out(gateway, backend) == {**PAIR, "email": EMAIL}
    _, told, _ = await call(gateway, STATUS + EMAIL, method="GET")
    assert (told["verification_status"], told["is_active"]) == ("verified", True)
    assert told["last_verified"] == told["created_at"]


async def test_the_answer_has_the_contracts_names_in_its_order_and_the_email_as_sent(gateway):
    _, answer, _ = await register(gateway, email=" User@Example.COM ")
    assert list(answer) == ["success", "message", "email", "has_api_key"]
    assert answer["email"] == " User@Example.COM "


async def test_a_key_that_binance_refuses_is_not_stored_over_a_good_one(gateway, backend):
    wrong = {**PAIR, "api_secret": "mistyped"}
    status, answer, _ = await register(gateway, wrong)
    assert (status, answer) == (200, REFUSED | {"has_api_key": False})
    assert await handed_out(gateway, backend) == 403
    await register(gateway)
    status, answer, _ = await register(gateway, wrong)
    assert (status, answer) == (200, REFUSED | {"has_api_key": True})
    assert await handed_out(gateway, backend) == {**PAIR, "email": EMAIL}


async def test_another_key_takes_the_place_of_the_one_before(gateway, backend):
    await register(gateway)
    assert (await register(gateway, NEW))[1] == DONE
    assert await handed_out(gateway, backend) == {**NEW, "email": EMAIL}


async def test_nothing_in_redis_or_the_log_shows_the_key(gateway, caplog):
    caplog.set_level("DEBUG")
    await register(gateway)
    fields = await gateway.parts.store.client.hgetall(f"gw:vault:{EMAIL}")
    for secret in PAIR.values():
        assert secret not in str(fields) + caplog.text + gateway.log_path.read_text()
    assert EMAIL not in caplog.text
    assert "u***@example.com" in caplog.text


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize(
    ("user_id", "email"), [(2, EMAIL), (3, EMAIL), (1, OTHER), (1, "nobody@example.com")]
)
async def test_somebody_elses_email_is_a_403_and_nothing_happens(
    gateway, backend, stand_in, method, user_id, email
):
    await gateway.parts.vault.add(EMAIL, *PAIR.values())
    body = {"email": email, **NEW}
    status, answer, _ = await call(gateway, REGISTER, body, bearer(user_id), method=method)
    assert (status, answer) == (403, {"detail": "The email is not the caller's"})
    assert stand_in.asked == 0
    assert await handed_out(gateway, backend) == {**PAIR, "email": EMAIL}


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, 'Bearer realm="primit"'),
        ({"Authorization": "Basic x"}, 'Bearer realm="primit"'),
        ({"Authorization": "Bearer x"}, INVALID),
        (bearer(secret="x" * 40), INVALID),
        (bearer(exp=1_700_000_000), INVALID),
        (bearer(99), INVALID),
    ],
)
async def test_without_a_good_token_it_is_a_401_whatever_the_body(
    gateway, stand_in, method, headers, challenge
):
    status, _, got = await call(gateway, REGISTER, b"{", headers, method=method)
    assert (status, got["WWW-Authenticate"]) == (401, challenge)
    assert stand_in.asked == 0


GOOD = {"email": EMAIL, **PAIR}


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        (b"", [(["body"], "missing")]),
        (b"{", [(["body", 1], "json_invalid")]),
        (b"[]", [(["body"], "model_attributes_type")]),
        (b'{"email": "a@b", "email": "c@d"}', [(["body"], "json_invalid")]),
        (
            {},
            [(["body", name], "missing") for name in ("email", "api_key", "api_secret")],
        ),
        (GOOD | {"email": "nobody"}, [(["body", "email"], "value_error")]),
        (GOOD | {"api_key": 1}, [(["body", "api_key"], "string_type")]),
        (GOOD | {"api_key": ""}, [(["body", "api_key"], "string_too_short")]),
        (GOOD | {"api_secret": "canary\r\nX: y"}, [(["body", "api_secret"], "value_error")]),
        (
            GOOD | {"api_key": "canary é", "api_secret": "c" * 257},
            [(["body", "api_key"], "value_error"), (["body", "api_secret"], "value_error")],
        ),
    ],
)
async def test_a_body_of_another_form_is_a_422_that_echoes_nothing(gateway, body, problems):
    status, answer, _ = await call(gateway, REGISTER, body, bearer())
    assert status == 422
    assert [(each["loc"], each["type"]) for each in answer["detail"]] == problems
    assert "canary" not in json.dumps(answer)


async def test_a_body_of_more_than_64_kib_is_a_413(gateway):
    assert (await call(gateway, REGISTER, b" " * 65_537, bearer()))[0] == 413


@pytest.mark.parametrize("body", [None, {"email": EMAIL}, {"email": EMAIL, "more": 1}])
async def test_a_user_takes_the_key_away(gateway, backend, body):
    await register(gateway)
    status, answer, _ = await withdraw(gateway, body)
    assert (status, answer) == (200, WITHDRAWN)
    assert await handed_out(gateway, backend) == 403
    assert not await gateway.parts.store.client.exists(f"gw:vault:{EMAIL}")
    assert (await withdraw(gateway, body))[:2] == (200, NOT_REGISTERED)


@pytest.mark.parametrize("body", [b"{}", b'{"email": 1}', b"x"])
async def test_a_body_that_names_no_email_takes_nothing_away(gateway, backend, body):
    await register(gateway)
    assert (await withdraw(gateway, body))[0] == 422
    assert await handed_out(gateway, backend) == {**PAIR, "email": EMAIL}


async def test_a_user_without_an_email_has_nothing_to_take_away(gateway):
    status, answer, _ = await withdraw(gateway, user_id=3)
    assert (status, answer) == (403, {"detail": "The email is not the caller's"})


async def test_what_an_operator_switched_off_its_owner_can_not_switch_on(gateway, backend):
    off = {"detail": "The registered key of this email is switched off"}
    await register(gateway)
    await gateway.parts.vault.switch(EMAIL, on=False)
    assert (await register(gateway, NEW))[:2] == (403, off)
    assert (await withdraw(gateway))[:2] == (200, WITHDRAWN)
    fields = await gateway.parts.store.client.hgetall(f"gw:vault:{EMAIL}")
    assert fields == {"is_active": "0"}
    assert (await register(gateway, NEW))[:2] == (403, off)
    assert (await withdraw(gateway))[:2] == (200, NOT_REGISTERED)
    for path, method in (("/api-key/verify", "POST"), (STATUS + EMAIL, "GET")):
        assert (await call(gateway, path, {"email": EMAIL}, method=method))[1] == NOT_REGISTERED
    await gateway.parts.vault.switch(EMAIL, on=True)
    assert (await register(gateway, NEW))[:2] == (200, DONE)
    assert await handed_out(gateway, backend) == {**NEW, "email": EMAIL}


async def test_switched_off_while_binance_is_asked_it_stays_off(gateway, stand_in, backend):
    await register(gateway)
    vault = gateway.parts.vault
    judge = vault.verifier._binance.judge

    async def switched_off_meanwhile(credentials):
        await vault.switch(EMAIL, on=False)
        return await judge(credentials)

    vault.verifier._binance.judge = switched_off_meanwhile
    assert (await register(gateway, NEW))[0] == 403
    vault.verifier._binance.judge = judge
    await vault.switch(EMAIL, on=True)
    assert await handed_out(gateway, backend) == {**PAIR, "email": EMAIL}


async def test_registrations_at_once_end_with_one_whole_key(gateway, backend, stand_in):
    answers = await asyncio.gather(*(register(gateway, pair) for pair in (PAIR, NEW) * 5))
    assert [answer for _, answer, _ in answers] == [DONE] * 10
    assert stand_in.most_at_once == 1
    got = await handed_out(gateway, backend)
    assert got in ({**PAIR, "email": EMAIL}, {**NEW, "email": EMAIL})


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH"])
async def test_other_methods_are_told_which_there_are(gateway, method):
    status, _, headers = await call(gateway, REGISTER, method=method)
    assert (status, headers["Allow"]) == (405, "DELETE, POST")


async def test_it_has_a_limit_of_its_own_per_address(redis_url, tmp_path, stand_in, backend):
    async with serving(tmp_path, redis_url, stand_in, backend, requests=3) as gateway:
        wrong = [(await register(gateway, user_id=2))[0] for _ in range(3)]
        status, _, headers = await register(gateway)
        assert (wrong, status) == ([403] * 3, 429)
        assert '"api-key-register";q=3;w=60' in headers["RateLimit-Policy"]


async def test_without_a_master_key_there_is_no_such_endpoint(tmp_path, stand_in, backend):
    without = {"routes": [], "encryption_keys": [{"id": "v1"}]}
    async with serving(tmp_path, "memory://", stand_in, backend, **without) as gateway:
        assert (await register(gateway))[0] == 404


async def test_redis_being_away_is_a_503_and_binance_is_not_asked(
    redis_process, tmp_path, stand_in, backend
):
    async with serving(tmp_path, redis_process.url, stand_in, backend) as gateway:
        await register(gateway)
        asked = stand_in.asked
        redis_process.stop()
        for done in (await register(gateway, NEW), await withdraw(gateway)):
            assert done[0] == 503
            assert "Retry-After" in done[2]
        assert stand_in.asked == asked
        redis_process.start()


async def test_what_the_key_may_do_is_noted_and_a_withdrawal_is_warned_of(
    gateway, stand_in, caplog
):
    stand_in.permissions["binance-key"] = frozenset({"enableReading", "enableWithdrawals"})
    await register(gateway)
    shown = await gateway.parts.vault.show(EMAIL)
    assert shown["permissions"] == ["enableReading", "enableWithdrawals"]
    assert shown["can_withdraw"] is True
    (warning,) = [entry for entry in caplog.records if entry.levelname == "WARNING"]
    assert warning.message == "the Binance key registered for u***@example.com may withdraw"
