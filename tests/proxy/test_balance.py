"""Which address is chosen: two drawn by weight, the one with less to do; and what is available."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.balance import LEAST_SHARE, Balancer
from gateway.proxy.target import Address, Target
from gateway.upstreamspec import UpstreamTls, WeightedTarget


def address(weight: float = 1.0, outstanding: int = 0, **state) -> Address:
    made = Address(Target(WeightedTarget(url="http://10.0.0.1", weight=weight), UpstreamTls()), "p")
    made.outstanding = outstanding
    for name, value in state.items():
        setattr(made, name, value)
    return made


def balancer(*addresses: Address, now: float = 0.0, slow_start: float = 0.0) -> Balancer:
    made = Balancer(slow_start, random.Random(7).random)
    made.update(addresses, now)
    return made


def shares(made: Balancer, *addresses: Address, rounds: int = 4000) -> list[float]:
    """How the choices fall while nothing is under way."""
    counts = Counter(made.choose() for _ in range(rounds))
    return [counts[address] / rounds for address in addresses]


def test_of_two_the_one_with_less_under_way_is_always_taken() -> None:
    busy, idle = address(outstanding=3), address(outstanding=2)
    made = balancer(busy, idle)
    assert {made.choose() for _ in range(100)} == {idle}


def test_the_busiest_of_many_gets_nothing_and_no_other_everything() -> None:
    many = [address(outstanding=count) for count in range(5)]
    made = balancer(*many)
    assert shares(made, *many)[4] == 0
    assert 0.3 < shares(made, *many)[0] < 0.5  # 2/5: it is one of the two


def test_at_no_load_weights_decide() -> None:
    three, one = address(3.0), address(1.0)
    heavy, light = shares(balancer(three, one), three, one)
    assert heavy == pytest.approx(0.75, abs=0.03)
    assert light == pytest.approx(0.25, abs=0.03)


def test_under_load_what_is_under_way_keeps_to_the_weights() -> None:
    three, one = address(3.0), address(1.0)
    made = balancer(three, one)
    for _ in range(400):
        made.choose().outstanding += 1
    assert three.outstanding == pytest.approx(300, abs=3)


@pytest.mark.parametrize(
    ("states", "available"),
    [
        ("up up", "0 1"),
        ("up down", "0"),
        ("up ejected", "0"),
        ("down ejected", "1"),  # better than nothing: only its requests failed
        ("ejected ejected", "0 1"),
        ("down down", ""),
        ("down down-ejected", ""),
    ],
)
def test_down_is_never_chosen_and_ejected_only_when_nothing_else_is_left(states, available) -> None:
    all_of_them = [
        address(healthy="down" not in state, ejected_until=9.0 if "ejected" in state else None)
        for state in states.split()
    ]
    made = balancer(*all_of_them)
    chosen = {made.choose() for _ in range(200)}
    assert chosen == ({all_of_them[int(i)] for i in available.split()} or {None})


def test_an_address_that_returned_takes_a_share_that_grows() -> None:
    old, new = address(), address(returned_at=100.0)
    made = balancer(old, new, now=100.0, slow_start=10.0)
    assert new.weight == LEAST_SHARE
    assert shares(made, new)[0] == pytest.approx(0.09, abs=0.02)
    for now, weight in [(105.0, 0.5), (109.0, 0.9), (110.0, 1.0), (120.0, 1.0)]:
        made.ramp(now)
        assert new.weight == pytest.approx(weight)
    assert shares(made, new)[0] == pytest.approx(0.5, abs=0.03)


def test_another_than_the_tried_ones_is_found_while_there_is_one() -> None:
    one, two, down = address(), address(), address(healthy=False)
    made = balancer(one, two, down)
    assert {made.choose_other([one]) for _ in range(50)} == {two}
    assert made.choose_other([one, two]) is None


@pytest.mark.parametrize(
    ("draws", "drawn"),
    [((0.0, 0.0), {0, 1}), ((0.0, 0.75), {0, 2}), ((0.5, 0.0), {0, 1}), ((0.9, 0.75), {1, 2})],
)
def test_the_second_is_drawn_from_the_others(draws, drawn) -> None:
    for idle in drawn:
        three = [address(outstanding=int(index != idle)) for index in range(3)]
        made = Balancer(0.0, iter(draws).__next__)
        made.update(three, 0.0)
        assert made.choose() is three[idle]


@given(
    st.lists(st.tuples(st.floats(0.001, 1000), st.integers(0, 9)), min_size=2, max_size=8),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2),
)
def test_two_different_ones_are_drawn_and_the_better_one_is_taken(given, draws) -> None:
    addresses = [address(weight, outstanding) for weight, outstanding in given]
    made = Balancer(0.0, iter(draws).__next__)
    made.update(addresses, 0.0)
    chosen = made.choose()
    load = [one.outstanding / one.weight for one in addresses]
    if len(addresses) == 2:
        assert chosen.outstanding / chosen.weight == pytest.approx(min(load))
    else:
        worst = max(load)
        assert load.count(worst) > 1 or chosen.outstanding / chosen.weight < worst
