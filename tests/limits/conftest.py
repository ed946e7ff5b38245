"""The clock that tests of the limits set."""

import pytest
from limits_clock import CLOCK, Clock

from gateway.limits import limiter


@pytest.fixture
def clock(monkeypatch) -> Clock:
    monkeypatch.setattr(limiter, "CLOCK", CLOCK)
    return Clock()
