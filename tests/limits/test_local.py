"""The windows of one process against an exact sliding log; times are set."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import Decision, Policy
from gateway.limits.local import LocalWindows

CLIENT = "203.0.113.7"
PAUSES = st.sampled_from([0, 1, 500, 10_000, 30_000, 59_999, 60_000, 60_001])


@given(
    pauses=st.lists(PAUSES, max_size=80),
    requests=st.integers(1, 6),
    block=st.sampled_from([0, 5, 3600]),
)
def test_it_admits_exactly_what_the_log_allows(pauses, requests, block):
    windows = LocalWindows(Policy("ip", requests, 60, block))
    truth: list[int] = []
    now, blocked_until = 0, 0
    for pause in pauses:
        now += pause
        decision = windows.admit(CLIENT, now / 1000)
        inside = [time for time in truth if time > now - 60_000]
        if now < blocked_until:
            assert (decision.admitted, decision.blocked) == (False, True)
            assert decision.retry_after == -(-(blocked_until - now) // 1000)
        elif len(inside) < requests:
            truth.append(now)
            reset = -(-(min([*inside, now]) + 60_000 - now) // 1000)
            left = requests - len(inside) - 1
            assert decision == Decision(decision.policy, True, left, reset, False, 0)
        else:
            assert (decision.admitted, decision.blocked) == (False, False)
            wait = block or -(-(min(inside) + 60_000 - now) // 1000)
            assert decision.retry_after == wait
            blocked_until = now + block * 1000


def test_the_limit_is_divided_but_never_to_nothing():
    for share, expected in [(0, 4), (1, 4), (2, 2), (3, 1), (9, 1)]:
        windows = LocalWindows(Policy("ip", 4, 60, 0), share)
        assert sum(windows.admit(CLIENT, 1.0).admitted for _ in range(5)) == expected


def test_who_exceeds_a_share_is_refused_but_not_blocked():
    windows = LocalWindows(Policy("ip", 4, 60, 3600), 2)
    decisions = [windows.admit(CLIENT, 1.0) for _ in range(3)]
    assert [decision.admitted for decision in decisions] == [True, True, False]
    assert decisions[-1].retry_after == 60
    assert windows.admit(CLIENT, 61.0).admitted


def test_of_too_many_buckets_the_quietest_are_dropped():
    windows = LocalWindows(Policy("ip", 4, 60, 60), buckets=100)
    for n in range(1000):
        windows.admit("always here", n / 1000)
        windows.admit(f"10.0.{n // 256}.{n % 256}", n / 1000)
        assert len(windows) <= 101
    assert windows.admit("always here", 1.0).blocked


def test_idle_buckets_are_dropped_and_blocked_ones_are_kept():
    windows = LocalWindows(Policy("ip", 1, 60, 3600))
    for n in range(50):
        windows.admit(f"10.0.0.{n}", 1.0)
    for _ in range(2):
        windows.admit("blocked", 1.0)
    for n in range(100):
        windows.admit(CLIENT, 100.0 + n * 70)
        if n == 40:
            assert windows.admit("blocked", 3000.0).blocked
    assert len(windows) <= 3


def test_a_forgotten_bucket_starts_anew():
    windows = LocalWindows(Policy("ip", 1, 60, 3600))
    windows.admit(CLIENT, 1.0)
    assert not windows.admit(CLIENT, 1.0).admitted
    windows.forget(CLIENT)
    assert windows.admit(CLIENT, 1.0).admitted
