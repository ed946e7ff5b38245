"""The clock that tests of the limits set."""

import pytest
from limits_clock import CLOCK, Clock

from gateway.limits import courier, limiter
from gateway.limits.courier import Courier


@pytest.fixture
def clock(monkeypatch) -> Clock:
    monkeypatch.setattr(courier, "CLOCK", CLOCK)
    return Clock()


@pytest.fixture
def patient(monkeypatch):
    """No timer of a limiter runs out by itself."""
    monkeypatch.setattr(courier, "RETRY_SECONDS", 1e6)
    monkeypatch.setattr(courier, "TOLD_AFTER_SECONDS", 1e6)
    monkeypatch.setattr(limiter, "PATIENCE_SECONDS", 1e6)
    monkeypatch.setattr(Courier, "_give_back_later", lambda _: None)
