import pytest
from aiohttp import ClientSession
from binance_stand_in import BinanceStandIn
from stand_ins import Fault

from gateway.errors import BinanceFailed
from gateway.vault.binance import MAX_ANSWER_BYTES, Binance
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


@pytest.fixture
def binance(session, stand_in):
    return Binance(session, stand_in.base_url, 5)


async def cause(binance: Binance) -> str:
    with pytest.raises(BinanceFailed) as caught:
        await binance.takes(GOOD)
    assert caught.value.status == 502
    text = str(caught.value.detail)
    assert text.startswith("Binance请求失败: ")
    return text.removeprefix("Binance请求失败: ")


async def test_a_key_with_its_secret_is_taken(binance, stand_in):
    assert await binance.takes(GOOD) is True
    assert (stand_in.account_asked, stand_in.time_asked) == (1, 0)


async def test_an_address_with_a_slash_at_its_end_is_the_same(session, stand_in):
    assert await Binance(session, stand_in.base_url + "/", 5).takes(GOOD) is True


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
    assert await binance.takes(credentials) is False


@pytest.mark.parametrize("api_key", ["", "a b", "a\r\nX-Evil: 1", "é", "x" * 257, "\udc80"])
async def test_a_key_that_no_header_can_carry_is_refused_without_asking(binance, stand_in, api_key):
    assert await binance.takes(Credentials(api_key, "s")) is False
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
    assert await binance.takes(GOOD) is taken


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
    assert await cause(Binance(session, stand_in.base_url, 0.05)) == "timeout"


async def test_nobody_listening_is_a_failure(session):
    # Port 1 is nobody's.
    assert await cause(Binance(session, "http://127.0.0.1:1", 5)) == "connection failed"


@pytest.mark.parametrize("ahead_ms", [-3_600_000, -60_000, 60_000, 3_600_000])
async def test_a_clock_that_is_off_is_learned_once(binance, stand_in, ahead_ms):
    stand_in.ahead_ms = ahead_ms
    assert await binance.takes(GOOD) is True
    assert (stand_in.account_asked, stand_in.time_asked) == (2, 1)
    assert await binance.takes(GOOD) is True
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
            await Binance(session, stand_in.base_url, 0.05).takes(GOOD)
        told = repr(caught.value) + repr(caught.value.__cause__) + caplog.text
        assert "binance-key" not in told
        assert "binance-secret" not in told
        assert "signature" not in told
