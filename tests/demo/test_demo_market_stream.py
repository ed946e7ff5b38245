"""The demo's `/ws`: subscriptions by message, ticker every tenth tick, depth on each."""

import json

import pytest
from aiohttp import WSMsgType

from gateway.demo.market_data import market_data_application
from gateway.demo.market_stream import MAX_STREAMS, Subscriptions

NOW_MS = 1_790_000_000_000


@pytest.fixture
async def market(aiohttp_client):
    return await aiohttp_client(market_data_application(lambda: NOW_MS, tick_seconds=0.001))


async def test_a_subscription_is_confirmed_and_then_served(market):
    async with market.ws_connect("/ws") as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@ticker"], "id": 1})
        assert await socket.receive_json() == {"result": None, "id": 1}
        ticker = await socket.receive_json()
        assert (ticker["e"], ticker["s"], ticker["E"]) == ("24hrTicker", "BTCUSDT", NOW_MS)
        assert isinstance(ticker["c"], str)


async def test_depth_comes_ten_times_for_each_ticker(market):
    async with market.ws_connect("/ws?streams=btcusdt@ticker/ethusdt@depth") as socket:
        events = [(await socket.receive_json())["e"] for _ in range(33)]
    assert events == ([*["depthUpdate"] * 9, "24hrTicker", "depthUpdate"] * 3)


async def test_an_unsubscribed_stream_says_no_more():
    subscriptions = Subscriptions()
    subscribe = {"method": "SUBSCRIBE", "params": ["btcusdt@ticker", "btcusdt@depth"], "id": 1}
    assert subscriptions.answer(json.dumps(subscribe)) == {"result": None, "id": 1}
    assert subscriptions.due(10) == ["btcusdt@ticker", "btcusdt@depth"]
    subscriptions.answer('{"method": "UNSUBSCRIBE", "params": ["btcusdt@ticker"], "id": 2}')
    assert subscriptions.due(10) == ["btcusdt@depth"]
    listed = subscriptions.answer('{"method": "LIST_SUBSCRIPTIONS", "id": "three"}')
    assert listed == {"result": ["btcusdt@depth"], "id": "three"}


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[" * 100_000,
        "[]",
        '{"method": "EVAL", "id": 1}',
        '{"method": "SUBSCRIBE", "params": "btcusdt@ticker", "id": 1}',
        '{"method": "SUBSCRIBE", "params": [1], "id": 1}',
        '{"method": "SUBSCRIBE", "params": ["btcusdt@everything"], "id": 1}',
        '{"method": "SUBSCRIBE", "params": ["btcusdt@ticker", "x"], "id": {"deep": 1}}',
    ],
)
def test_a_bad_message_is_answered_and_changes_nothing(text):
    subscriptions = Subscriptions()
    answer = subscriptions.answer(text)
    assert "error" in answer
    assert answer["id"] in (None, 1)
    assert not subscriptions.streams


def test_the_number_of_streams_is_bounded():
    subscriptions = Subscriptions()
    names = [f"s{number}@depth" for number in range(MAX_STREAMS + 1)]
    refused = subscriptions.answer(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}))
    assert "error" in refused
    subscriptions.add(names[:MAX_STREAMS])
    subscriptions.add(names[:1])
    assert len(subscriptions.streams) == MAX_STREAMS


async def test_a_bad_stream_in_the_query_is_a_400(market):
    answer = await market.get("/ws?streams=nonsense")
    assert answer.status == 400


async def test_open_connections_end_when_the_service_does(aiohttp_server, aiohttp_client):
    server = await aiohttp_server(market_data_application())
    client = await aiohttp_client(server)
    socket = await client.ws_connect("/ws")
    await server.close()
    assert (await socket.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
