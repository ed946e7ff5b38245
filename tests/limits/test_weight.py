"""What a request costs by its query; never less than any backend could make of it."""

import pytest
from exchanges import exchange

from gateway.limits import weigher
from gateway.routespec import ParameterWeight

STEPS = [
    {"to": 99, "weight": 1},
    {"to": 499, "weight": 2},
    {"to": 1000, "weight": 5},
    {"to": 1500, "weight": 10},
]


@pytest.mark.parametrize(
    ("query", "weight"),
    [
        ("?limit=1", 1),
        ("?limit=99", 1),
        ("?limit=100", 2),
        ("?limit=0499", 2),
        ("?limit=500", 5),
        ("?symbol=BTCUSDT&limit=1000&interval=1m", 5),
        ("?limit=1001", 10),
        ("?limit=1500", 10),
        ("?limit=1501", 10),
        ("", 5),
        ("?", 5),
        ("?symbol=limit", 5),
        ("?limits=1", 5),
        ("?limit=%31", 1),
        ("?l%69mit=1500", 10),
        ("?limit=1&limit=1", 10),
        ("?limit=1&LIMIT=1500", 10),
        ("?limit=1&limit[]=1500", 10),
        ("?limit=1&l%69mit=1500", 10),
        ("?limit=1&+limit=1500", 10),
        ("?x=1;limit=1", 10),
        ("?limit=1&x=;", 10),
        ("?limit", 10),
        ("?limit=", 10),
        ("?limit=0", 10),
        ("?limit=-1", 10),
        ("?limit=+5", 10),
        ("?limit=5.0", 10),
        ("?limit=0x5", 10),
        ("?limit=%D9%A5", 10),
        ("?limit=5%0A", 10),
        ("?limit=" + "9" * 5000, 10),
        ("?limit=1?limit=1500", 10),
    ],
)
async def test_the_weight_is_that_of_the_parameter_or_the_most_there_is(query, weight):
    weigh = weigher(ParameterWeight(parameter="limit", steps=STEPS, default=500))
    assert weigh(exchange("GET", f"/fapi/v1/klines{query}")) == weight


@pytest.mark.parametrize(
    ("given", "weight"),
    [(None, 1), (7, 7), (ParameterWeight(parameter="limit", steps=STEPS), 10)],
    ids=["none given", "fixed", "no default"],
)
async def test_without_the_parameter_it_is_the_fixed_one_or_the_most(given, weight):
    assert weigher(given)(exchange("GET", "/fapi/v1/klines")) == weight
