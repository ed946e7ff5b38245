import pytest
from aiohttp import ClientSession
from binance_stand_in import BinanceStandIn
from stand_ins import Fault

from gateway.errors import BinanceFailed
from gateway.sections import VaultSettings
from gateway.vault.binance import (
    LONGEST_BAN_SECONDS,
    MAX_ANSWER_BYTES,
    MAX_PERMISSIONS,
    Binance,
    Judgement,
)
from gateway.vault.encryption import Credentials

GOOD = Credentials("binance-key", "binance-secret")


@pytest.fixture
async def stand_in():
    async with BinanceStandIn() as started:
        yield started


@pytest.fixture
async def session():
    async with ClientSession() as opened:
        yield opened


def at(session, url, **settings) -> Binance:
    return Binance(session, VaultSettings(binance_url=url, **settings))


@pytest.fixture
def binance(session, stand_in):
    return at(session, stand_in.base_url)


async def cause(binance: Binance) -> str:
    with pytest.raises(BinanceFailed) as caught:
        await binance.judge(GOOD)
    assert caught.value.status == 502
    text = str(caught.value.detail)
    assert text.startswith("Binance请求失败: ")
    return text.removeprefix("Binance请求失败: ")


async def test_a_key_with_its_secret_is_taken(binance, stand_in):
    assert (await binance.judge(GOOD)).taken is True
    assert (stand_in.account_asked, stand_in.time_asked) == (1, 0)


async def test_an_address_with_a_slash_at_its_end_is_the_same(session, stand_in):
    assert (await at(session, stand_in.base_url + "/").judge(GOOD)).taken is True


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials("other-key", "binance-secret"),  # -2015
        Credentials("binance-key", "other-secret"),  # -1022
        Credentials("binance-key", ""),
        Credentials("binance-key", "\ud800é"),
    ],
)
async def test_a_key_that_binance_does_not_know_so_is_refused(binance, credentials):
    assert (await binance.judge(credentials)).taken is False


@pytest.mark.parametrize("api_key", ["", "a b", "a\r\nX-Evil: 1", "é", "x" * 257, "\udc80"])
async def test_a_key_that_no_header_can_carry_is_refused_without_asking(binance, stand_in, api_key):
    assert (await binance.judge(Credentials(api_key, "s"))).taken is False
    assert stand_in.asked == 0


@pytest.mark.parametrize(
    ("status", "body", "taken"),
    [
        (200, {"canTrade": True}, True),
        (200, {"canTrade": False}, True),  # taken, for reading
        (200, {"assets": []}, True),
        (401, {"code": -2014, "msg": "API-key format invalid."}, False),
        (400, {"code": -2014, "msg": "API-key format invalid."}, False),
        (400, {"code": -2015, "msg": "Invalid API-key, IP, or permissions."}, False),
        (400, {"code": -1022, "msg": "Signature is not valid."}, False),
        (400, {"code": -2008, "msg": "Invalid Api-Key ID."}, False),
        (401, "", False),
    ],
)
async def test_what_binance_says_of_a_key_is_believed(binance, stand_in, status, body, taken):
    stand_in.answer = (status, body)
    assert (await binance.judge(GOOD)).taken is taken


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {}, "unexpected answer"),
        (200, [], "unexpected answer"),
        (200, None, "unexpected answer"),
        (200, {"code": -2015}, "unexpected answer"),
        (302, {"code": -2015}, "HTTP 302"),
        (400, {"code": -1102, "msg": "Mandatory parameter missing."}, "HTTP 400"),
        (400, {"code": "-2015"}, "HTTP 400"),
        (400, {"code": True}, "HTTP 400"),
        (400, "", "HTTP 400"),
        (403, {}, "HTTP 403"),
        (404, {}, "HTTP 404"),
        (418, {"code": -1003}, "rate limit"),
        (429, {"code": -1003}, "rate limit"),
        (451, {}, "HTTP 451"),
        (500, {"code": -2015}, "HTTP 500"),
        (503, {}, "HTTP 503"),
        (200, {"canTrade": "x" * MAX_ANSWER_BYTES}, "unexpected answer"),
    ],
)
async def test_what_says_nothing_of_the_key_is_a_failure(binance, stand_in, status, body, expected):
    stand_in.answer = (status, body)
    assert await cause(binance) == expected


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.DOWN, "connection failed"),
        (Fault.FAILING, "HTTP 503"),
        (Fault.WRONG_CONTENT, "unexpected answer"),
    ],
)
async def test_binance_being_away_is_a_failure(binance, stand_in, fault, expected):
    stand_in.fault = fault
    assert await cause(binance) == expected


async def test_binance_not_answering_is_a_failure(session, stand_in):
    stand_in.fault = Fault.SLOW
    assert await cause(at(session, stand_in.base_url, timeout=0.05)) == "timeout"


async def test_nobody_listening_is_a_failure(session):
    # Port 1 is nobody's.
    assert await cause(at(session, "http://127.0.0.1:1")) == "connection failed"


@pytest.mark.parametrize("ahead_ms", [-3_600_000, -60_000, 60_000, 3_600_000])
async def test_a_clock_that_is_off_is_learned_once(binance, stand_in, ahead_ms):
    stand_in.ahead_ms = ahead_ms
    assert (await binance.judge(GOOD)).taken is True
    assert (stand_in.account_asked, stand_in.time_asked) == (2, 1)
    assert (await binance.judge(GOOD)).taken is True
    assert (stand_in.account_asked, stand_in.time_asked) == (3, 1)


async def test_a_clock_that_stays_off_is_a_failure_after_one_more_try(binance, stand_in):
    stand_in.answer = (400, {"code": -1021, "msg": "Timestamp outside of the recvWindow."})
    assert await cause(binance) == "timestamp"
    assert (stand_in.account_asked, stand_in.time_asked) == (2, 1)


async def test_neither_the_secret_nor_the_signature_is_logged_or_told(session, stand_in, caplog):
    caplog.set_level("DEBUG")
    for fault in Fault:
        stand_in.fault = fault
        with pytest.raises(BinanceFailed) as caught:
            await at(session, stand_in.base_url, timeout=0.05).judge(GOOD)
        told = repr(caught.value) + repr(caught.value.__cause__) + caplog.text
        assert "binance-key" not in told
        assert "binance-secret" not in told
        assert "signature" not in told


async def test_the_spot_account_is_another_endpoint_of_another_host(session, stand_in):
    spot = at(session, stand_in.base_url, account="spot")
    stand_in.ahead_ms = 60_000
    assert (await spot.judge(GOOD)).taken is True
    assert (stand_in.account_asked, stand_in.time_asked) == (2, 1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "https://api.binance.com"),
        ({"binance_url": "https://fapi.binance.com/"}, "https://api.binance.com"),
        ({"binance_url": "https://api.binance.com", "account": "spot"}, "https://api.binance.com"),
        ({"binance_url": "https://testnet.example"}, "https://testnet.example"),
        ({"permissions_url": "https://sapi.example/"}, "https://sapi.example"),
    ],
)
async def test_permissions_are_asked_where_they_are_told(session, settings, expected):
    made = Binance(session, VaultSettings(**settings))
    assert made._permissions_url == f"{expected}/sapi/v1/account/apiRestrictions"


async def test_what_a_key_may_do_is_told_in_binances_words(binance, stand_in):
    stand_in.permissions["binance-key"] = frozenset({"enableReading", "enableWithdrawals"})
    judged = await binance.judge(GOOD)
    assert judged == Judgement(True, ("enableReading", "enableWithdrawals"))
    assert judged.can_withdraw is True
    stand_in.permissions.clear()
    judged = await binance.judge(GOOD)
    assert judged == Judgement(True, ("enableFutures", "enableReading"))
    assert judged.can_withdraw is False


MANY = {f"enable{chr(65 + at % 26)}{chr(65 + at // 26)}": True for at in range(90)}


@pytest.mark.parametrize(
    ("status", "body", "permissions"),
    [
        (200, {"enableWithdrawals": False}, ()),
        (200, {"enableWithdrawals": True, "createTime": 1, "x": "true", "a,b": True}, "W"),
        (200, {**MANY, "enableWithdrawals": True}, "W and others"),
        (200, {"enableReading": True}, None),
        (200, {"enableWithdrawals": 1}, None),
        (200, [], None),
        (200, b"<html>", None),
        (302, {"enableWithdrawals": True}, None),
        (400, {"code": -2015, "msg": "no"}, None),
        (404, b"not here", None),
        (500, b"", None),
        (200, b"x" * (MAX_ANSWER_BYTES + 1), None),
    ],
)
async def test_permissions_that_are_not_told_are_unknown_and_the_verdict_stands(
    binance, stand_in, status, body, permissions
):
    stand_in.told = (status, body)
    judged = await binance.judge(GOOD)
    assert judged.taken is True
    if permissions == "W":
        permissions = ("enableWithdrawals",)
    if permissions == "W and others":
        assert judged.can_withdraw is True
        assert len(judged.permissions) == MAX_PERMISSIONS
    else:
        assert judged.permissions == permissions


async def test_what_may_be_done_is_not_asked_of_a_key_that_is_refused(binance, stand_in):
    stand_in.keys.clear()
    assert await binance.judge(GOOD) == Judgement(False)
    assert stand_in.permissions_asked == 0


@pytest.mark.parametrize(
    ("status", "given", "seconds"),
    [
        (429, "7", 7),
        (418, "3600", 3600),
        (429, None, 60),
        (418, None, 120),
        (429, "soon", 60),
        (429, "-1", 60),
        (429, "0", 1),
        (418, "999999999", LONGEST_BAN_SECONDS),
        (418, "9" * 50, 120),
    ],
)
async def test_a_limit_says_how_long_to_be_silent(binance, stand_in, status, given, seconds):
    stand_in.answer = (status, {"code": -1003})
    stand_in.headers = {} if given is None else {"Retry-After": given}
    with pytest.raises(BinanceFailed) as caught:
        await binance.judge(GOOD)
    assert caught.value.retry_after == seconds
    stand_in.told, stand_in.answer = stand_in.answer, None
    assert await binance.judge(GOOD) == Judgement(True, None, seconds)
