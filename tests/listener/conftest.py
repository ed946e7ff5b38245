"""The listener runs on uvloop, and is used on asyncio: the two differ in transports and TLS."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop
from backend import RawBackend


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def backend() -> AsyncIterator[RawBackend]:
    backend = await RawBackend().start()
    yield backend
    await backend.stop()
