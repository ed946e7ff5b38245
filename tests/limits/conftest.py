"""The clock that tests of the limits set."""

import pytest
from limits_clock import CLOCK, Clock

from gateway.limits import courier


@pytest.fixture
def clock(monkeypatch) -> Clock:
    monkeypatch.setattr(courier, "CLOCK", CLOCK)
    return Clock()
