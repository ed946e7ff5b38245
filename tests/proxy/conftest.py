"""The proxy runs on uvloop, and is used on asyncio: the two differ where a connection has ended."""

import asyncio

import uvloop


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
